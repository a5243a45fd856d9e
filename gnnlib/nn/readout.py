"""From nodes to graphs: one vector for each graph of a batch.

A readout is ``f(graph, x)`` with x (N, \\*, F), returning (B, \\*, F) for B graphs. A block counts as one graph.
"""

import torch
from torch import Tensor

from gnnlib._platform.dgl import dgl
from gnnlib.graph.batch import graph_sizes, node_to_graph
from gnnlib.ops import aggregate

__all__ = [
    "readout_flat",
    "readout_max",
    "readout_mean",
    "readout_mean_max",
    "readout_sum",
]


def readout_sum(graph: dgl.DGLGraph, x: Tensor) -> Tensor:
    """The sum over the nodes of each graph; 0 for a graph without nodes.

    >>> g = dgl.batch([dgl.graph(([0], [1])), dgl.graph(([], []), num_nodes=3)])
    >>> readout_sum(g, torch.ones(5, 2)).tolist()
    [[2.0, 2.0], [3.0, 3.0]]
    """
    return aggregate(node_to_graph(graph, x.device), x)


def readout_mean(graph: dgl.DGLGraph, x: Tensor) -> Tensor:
    """The mean over the nodes of each graph; 0 for a graph without nodes."""
    return aggregate(node_to_graph(graph, x.device), x, reduce="mean")


def readout_max(graph: dgl.DGLGraph, x: Tensor) -> Tensor:
    """The largest value over the nodes of each graph, feature by feature; 0 for a graph without nodes."""
    return aggregate(node_to_graph(graph, x.device), x, reduce="max")


def readout_mean_max(graph: dgl.DGLGraph, x: Tensor) -> Tensor:
    """The mean and the maximum over the nodes of each graph side by side: (B, \\*, 2 F).

    >>> readout_mean_max(dgl.graph(([0], [1])), torch.tensor([[1.0], [3.0]])).tolist()
    [[2.0, 3.0]]
    """
    return torch.cat([readout_mean(graph, x), readout_max(graph, x)], -1)


readout_mean_max.widens = 2  # type: ignore[attr-defined]  # what `Stack.build` makes a head for


def readout_flat(graph: dgl.DGLGraph, x: Tensor) -> Tensor:
    """All nodes of each graph side by side, so that a linear layer on top sees positions: (B, \\*, n F).

    Raises: ValueError unless all graphs have the same number n of nodes.

    >>> g = dgl.batch([dgl.graph(([0], [1])), dgl.graph(([0], [1]))])
    >>> readout_flat(g, torch.arange(4.0).view(4, 1)).tolist()
    [[0.0, 1.0], [2.0, 3.0]]
    """
    sizes = graph_sizes(graph)
    if bool((sizes != sizes[0]).any()):
        raise ValueError(f"expected graphs of equal size, got {int(sizes.min())} to {int(sizes.max())} nodes")
    return x.unflatten(0, (len(sizes), int(sizes[0]))).movedim(1, -2).flatten(-2)
