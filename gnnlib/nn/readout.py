"""Global pooling, or readout: one vector for each graph of a batch.

A readout is called as ``readout(graph, x)`` with x (N, \\*, F) and returns (B, \\*, out_feats) for B graphs.
A message-flow graph (DGL block) counts as one graph. The modules are made as ``Readout(in_feats)`` and have
``in_feats`` and ``out_feats``; the functions compute the same.
"""

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor, nn

from gnnlib._utils.calls import names_checked
from gnnlib.graph import Adjacency, GraphLike, check_num_rows, graph_sizes, node_to_graph, takes_graph
from gnnlib.graph._check import features_error
from gnnlib.nn._arguments import Arguments, integer
from gnnlib.ops import aggregate

__all__ = [
    "FlatReadout",
    "MaxReadout",
    "MeanMaxReadout",
    "MeanReadout",
    "SumReadout",
    "readout_flat",
    "readout_max",
    "readout_mean",
    "readout_mean_max",
    "readout_sum",
]


@names_checked()
@takes_graph()
def readout_sum(graph: GraphLike, x: Tensor) -> Tensor:
    """Sum over the nodes of each graph.

    Args:
        graph: a graph or a batch of B graphs
        x: node features

    Shapes:
        - x: (N, \\*, F)
        - output: (B, \\*, F)

    Returns:
        The sums; 0 for a graph without nodes.

    Example:
        >>> import torch
        >>> from gnnlib import readout_sum
        >>> import dgl
        >>> g = dgl.batch([dgl.graph(([0], [1])), dgl.graph(([], []), num_nodes=3)])
        >>> readout_sum(g, torch.ones(5, 2)).tolist()
        [[2.0, 2.0], [3.0, 3.0]]
    """
    return aggregate(_to_graphs("readout_sum", graph, x), x)


@names_checked()
@takes_graph()
def readout_mean(graph: GraphLike, x: Tensor) -> Tensor:
    """Mean over the nodes of each graph.

    Args:
        graph: a graph or a batch of B graphs
        x: node features

    Shapes:
        - x: (N, \\*, F)
        - output: (B, \\*, F)

    Returns:
        The means; 0 for a graph without nodes.
    """
    return aggregate(_to_graphs("readout_mean", graph, x), x, reduce="mean")


@names_checked()
@takes_graph()
def readout_max(graph: GraphLike, x: Tensor) -> Tensor:
    """Maximum over the nodes of each graph, for each feature.

    Args:
        graph: a graph or a batch of B graphs
        x: node features

    Shapes:
        - x: (N, \\*, F)
        - output: (B, \\*, F)

    Returns:
        The maxima; 0 for a graph without nodes.
    """
    return aggregate(_to_graphs("readout_max", graph, x), x, reduce="max")


@names_checked()
@takes_graph()
def readout_mean_max(graph: GraphLike, x: Tensor) -> Tensor:
    """Mean and maximum over the nodes of each graph, concatenated.

    Args:
        graph: a graph or a batch of B graphs
        x: node features

    Shapes:
        - x: (N, \\*, F)
        - output: (B, \\*, 2 F)

    Returns:
        The means, then the maxima; 0 for a graph without nodes.

    Example:
        >>> import torch
        >>> from gnnlib import readout_mean_max
        >>> import dgl
        >>> readout_mean_max(dgl.graph(([0], [1])), torch.tensor([[1.0], [3.0]])).tolist()
        [[2.0, 3.0]]
    """
    return torch.cat([readout_mean(graph, x), readout_max(graph, x)], -1)


@names_checked()
@takes_graph()
def readout_flat(graph: GraphLike, x: Tensor) -> Tensor:
    """Features of all nodes of each graph, concatenated: a linear layer on them has a weight for each position.

    Args:
        graph: a graph or a batch of B graphs of n nodes each
        x: node features

    Shapes:
        - x: (N, \\*, F)
        - output: (B, \\*, n F)

    Returns:
        The features in the order of the nodes.

    Raises:
        ValueError: if the graphs differ in their number of nodes

    Example:
        >>> import torch
        >>> from gnnlib import readout_flat
        >>> import dgl
        >>> g = dgl.batch([dgl.graph(([0], [1])), dgl.graph(([0], [1]))])
        >>> readout_flat(g, torch.arange(4.0).view(4, 1)).tolist()
        [[0.0, 1.0], [2.0, 3.0]]
    """
    sizes = graph_sizes(graph)
    _check_features("readout_flat", x, int(sizes.sum()))
    if bool((sizes != sizes[0]).any()):
        raise ValueError(
            f"readout_flat: expected graphs of equal size, got {int(sizes.min())} to {int(sizes.max())} nodes"
        )
    return x.unflatten(0, (len(sizes), int(sizes[0]))).movedim(1, -2).flatten(-2)


def _check_features(owner: str, x: Tensor, num_nodes: int) -> None:
    wrong = features_error(owner, x)
    if wrong is not None:
        raise wrong
    check_num_rows(f"{owner}: x", x, num_nodes, "node")


def _to_graphs(owner: str, graph: GraphLike, x: Tensor) -> Adjacency:
    """From every node to its graph, if these are a graph and features."""
    adj = node_to_graph(graph, getattr(x, "device", torch.device("cpu")))
    _check_features(owner, x, adj.num_src)
    return adj


class _Readout(Arguments, nn.Module):
    """A readout that keeps the width."""

    renamed: ClassVar = dict.fromkeys(("feats", "channels", "in_channels", "hidden_channels"), "in_feats")
    function: ClassVar[Callable[..., Tensor]]

    def __init__(self, in_feats: int):
        super().__init__()
        self.in_feats = self.out_feats = integer(self, "in_feats", in_feats)

    def forward(self, graph: GraphLike, x: Tensor) -> Tensor:
        """Pool the nodes of each graph.

        Args:
            graph: a graph or a batch of B graphs
            x: node features, (N, \\*, in_feats)

        Returns:
            One vector for each graph, (B, \\*, out_feats).
        """
        return self.function(graph, x)


class SumReadout(_Readout):
    """Sum over the nodes of each graph, as `readout_sum`.

    Args:
        in_feats: width of x; ``out_feats`` is the same

    Shapes:
        - x: (N, \\*, in_feats)
        - output: (B, \\*, in_feats)

    Example:
        >>> import torch
        >>> from gnnlib import GCNConv, Stack, SumReadout
        >>> import dgl
        >>> model = Stack.build(GCNConv, 3, 16, 2, num_layers=2, readout=SumReadout)
        >>> model(dgl.graph(([0, 1], [1, 0])), torch.ones(2, 3)).shape
        torch.Size([1, 2])
    """

    function = staticmethod(readout_sum)


class MeanReadout(_Readout):
    """Mean over the nodes of each graph, as `readout_mean`.

    Args:
        in_feats: width of x; ``out_feats`` is the same

    Shapes:
        - x: (N, \\*, in_feats)
        - output: (B, \\*, in_feats)
    """

    function = staticmethod(readout_mean)


class MaxReadout(_Readout):
    """Maximum over the nodes of each graph, as `readout_max`.

    Args:
        in_feats: width of x; ``out_feats`` is the same

    Shapes:
        - x: (N, \\*, in_feats)
        - output: (B, \\*, in_feats)
    """

    function = staticmethod(readout_max)


class MeanMaxReadout(_Readout):
    """Mean and maximum over the nodes of each graph, as `readout_mean_max`.

    Args:
        in_feats: width of x; ``out_feats`` is 2 in_feats

    Shapes:
        - x: (N, \\*, in_feats)
        - output: (B, \\*, 2 in_feats)

    Example:
        >>> from gnnlib import MeanMaxReadout
        >>> MeanMaxReadout(16).out_feats
        32
    """

    function = staticmethod(readout_mean_max)

    def __init__(self, in_feats: int):
        super().__init__(in_feats)
        self.out_feats = 2 * self.in_feats


class FlatReadout(_Readout):
    """Features of all nodes of each graph, concatenated, as `readout_flat`.

    Args:
        in_feats: width of x; ``out_feats`` is num_nodes in_feats
        num_nodes: number of nodes of every graph

    Shapes:
        - x: (N, \\*, in_feats)
        - output: (B, \\*, num_nodes in_feats)

    Raises:
        ValueError: if a graph has another number of nodes

    Example:
        >>> from functools import partial
        >>> from gnnlib import FlatReadout, GCNConv, Stack
        >>> model = Stack.build(GCNConv, 1, 4, 10, num_layers=2, readout=partial(FlatReadout, num_nodes=64))
        >>> model.head[1].in_features
        256
    """

    function = staticmethod(readout_flat)

    def __init__(self, in_feats: int, num_nodes: int):
        super().__init__(in_feats)
        self.num_nodes = integer(self, "num_nodes", num_nodes)
        self.out_feats = self.num_nodes * self.in_feats

    def forward(self, graph: GraphLike, x: Tensor) -> Tensor:
        """As `readout_flat`.

        Args:
            graph: a graph or a batch of B graphs
            x: node features, (N, \\*, in_feats)

        Returns:
            One vector for each graph, (B, \\*, out_feats).
        """
        y = super().forward(graph, x)
        if y.shape[-1] != self.num_nodes * x.shape[-1]:
            size = y.shape[-1] // x.shape[-1]
            raise ValueError(f"FlatReadout: expected graphs of {self.num_nodes} nodes, got {size}")
        return y
