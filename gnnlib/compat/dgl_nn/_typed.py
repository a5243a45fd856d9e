"""Layers of graphs with several edge types."""

from typing import Any

import torch
from torch import Tensor

from gnnlib._platform.dgl import dgl
from gnnlib.compat.dgl_nn._adapter import Adapter, activated
from gnnlib.graph import relation_graph
from gnnlib.nn.conv.rel_graph import check_relations, sum_by_relation


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


class RelGraphConv(Adapter, dgl.nn.RelGraphConv):
    """``dgl.nn.RelGraphConv``: a matrix per relation (RGCN; Schlichtkrull et al. 2018, arXiv 1703.06103, equation 2).

    DGL makes a message per edge, or a matrix per edge with "bdd". Here, edges are summed by relation.

    Example:
        >>> import torch
        >>> import dgl
        >>> from gnnlib.compat.dgl_nn import RelGraphConv
        >>> g = dgl.graph(([0, 1, 2], [2, 2, 0]))
        >>> RelGraphConv(3, 2, 4, "basis", 2)(g, torch.ones(3, 3), torch.tensor([0, 3, 1])).shape
        torch.Size([3, 2])
    """

    def forward(
        self, g: dgl.DGLGraph, feat: Tensor, etypes: Any, norm: Tensor | None = None, *, presorted: bool = False
    ) -> Tensor:
        """Apply the layer.

        Args:
            g: a graph or a block
            feat: node features
            etypes: the relation of each edge, (E,)
            norm: factors of the edges, (E,) or (E, 1)
            presorted: not needed here

        Returns:
            The features of the destinations.
        """
        linear = self.linear_r
        adj, src, _ = self.ends(g, feat, linear.in_size)
        weight, bases = linear.W, linear.coeff if linear.regularizer == "basis" else None
        if linear.regularizer == "bdd":
            weight = weight.view(linear.num_types, linear.num_bases, linear.submat_in, linear.submat_out)
        types = check_relations(torch.as_tensor(etypes, device=src.device), adj.num_edges, linear.num_types)
        y = sum_by_relation(adj, src, types, weight, bases, self.edge_weights(adj, norm))
        y = self.layer_norm_weight(y) if self.layer_norm else y
        y = y + self.h_bias if self.bias else y
        y = y + src[: adj.num_dst] @ self.loop_weight if self.self_loop else y
        return self.dropout(activated(self.activation, y))
