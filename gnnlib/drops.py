"""Dropping edges while training. Features are dropped by ``nn.Dropout``."""

import torch
from torch import Tensor, nn

from gnnlib._dgl import dgl
from gnnlib.neighbors import edge_ends
from gnnlib.transforms import keep_edges

__all__ = ["DropEdge"]


class DropEdge(nn.Module):
    """DropEdge (Rong et al. 2020, arXiv 1907.10903, equation 2): a random subset of the edges in each training step.

    ``drop(graph, edge) -> (graph, edge)`` on fewer edges, so that degrees, softmax and maxima are those of the
    smaller graph. In evaluation both come back as they are.

    Args:
        p: probability that an edge is dropped
        keep_self_loops: the paper adds self-loops after dropping; here they are edges of the graph, so they stay

    >>> g = dgl.graph((torch.zeros(1000).long(), torch.ones(1000).long()))
    >>> _ = torch.manual_seed(0)
    >>> smaller, weight = DropEdge(0.75)(g, torch.ones(1000))
    >>> 200 < smaller.num_edges() == len(weight) < 300
    True
    """

    def __init__(self, p: float = 0.5, keep_self_loops: bool = True):
        super().__init__()
        if not 0 <= p <= 1:
            raise ValueError(f"DropEdge: expected a probability, got {p}")
        self.p, self.keep_self_loops = p, keep_self_loops

    def forward(self, graph: dgl.DGLGraph, edge: Tensor | None = None) -> tuple[dgl.DGLGraph, Tensor | None]:
        if not self.training or self.p == 0:
            return graph, edge
        keep = torch.rand(graph.num_edges(), device=graph.device) >= self.p
        if self.keep_self_loops and graph.is_homogeneous:
            src, dst = edge_ends(graph)
            keep |= src == dst
        return keep_edges(graph, keep), edge if edge is None else edge[keep.to(edge.device)]

    def extra_repr(self) -> str:
        return f"p={self.p}"
