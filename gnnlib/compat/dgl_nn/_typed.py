"""Layers of each edge type of a graph."""

from typing import Any

from gnnlib._platform.dgl import dgl
from gnnlib.compat.dgl_nn._adapter import Adapter
from gnnlib.graph import relation_graph


class _Relations:
    """A graph whose relations keep their structure, and with it the adjacency that is cached on it."""

    def __init__(self, graph: dgl.DGLGraph):
        self._graph = graph

    def __getattr__(self, name: str) -> Any:
        return getattr(self._graph, name)

    def __getitem__(self, etype: Any) -> dgl.DGLGraph:
        return relation_graph(self._graph, etype)


class HeteroGraphConv(Adapter, dgl.nn.HeteroGraphConv):
    """``dgl.nn.HeteroGraphConv``: a layer for each edge type, whose outputs are reduced for each node type.

    The adjacency of a relation is built at the first call and kept with the graph. It takes layers of this package, of
    ``dgl.nn`` and of gnnlib.

    Example:
        >>> import torch
        >>> import dgl
        >>> from gnnlib.compat.dgl_nn import GraphConv, HeteroGraphConv
        >>> g = dgl.heterograph({("user", "plays", "game"): ([0, 1], [0, 0])})
        >>> conv = HeteroGraphConv({"plays": GraphConv(3, 2)})
        >>> conv(g, {"user": torch.ones(2, 3), "game": torch.ones(1, 3)})["game"].shape
        torch.Size([1, 2])
    """

    def forward(self, g: dgl.DGLGraph, inputs: Any, mod_args: Any = None, mod_kwargs: Any = None) -> dict[str, Any]:
        """Apply the layers.

        Args:
            g: a graph with several types, or a block
            inputs: features of the nodes by type, or a pair of such
            mod_args: further arguments of the layers, by edge type
            mod_kwargs: the same by name

        Returns:
            The features of the destinations, by type.
        """
        return super().forward(_Relations(g), inputs, mod_args, mod_kwargs)
