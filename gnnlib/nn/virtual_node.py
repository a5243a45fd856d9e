"""A node for each graph that hears all the others and speaks to all: two hops from anywhere to anywhere."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gnnlib._platform.dgl import dgl
from gnnlib.graph.batch import node_to_graph
from gnnlib.nn.drop import Dropout
from gnnlib.nn.norm import RowBatchNorm
from gnnlib.ops import aggregate
from gnnlib.ops.linear import Linear

__all__ = ["VirtualNode"]


class VirtualNode(nn.Module):
    r"""Blocks in a row with a virtual node (Gilmer et al. 2017, arXiv 1704.01212, section 5.2; in the form of the Open
    Graph Benchmark's baselines, Hu et al. 2020, arXiv 2005.00687).

    .. math:: z_l = x_l + v_l, \qquad x_{l+1} = \mathrm{GNNLayer}_l(z_l), \qquad
        v_{l+1} = \mathrm{MLP}_l\Big(v_l + \sum_u z_{l, u}\Big)

    with the sum over the nodes of each graph, v_0 a learned vector that begins at 0, and for the MLP twice a linear
    layer, batch normalisation over the graphs and ReLU, the first to twice the width, then dropout.

    Args:
        blocks: each a `GNNLayer`, or a module called as ``block(graph, x, edge, x0)``, from feats to feats
        feats: width of x
        dropout: of the virtual node's features

    Shapes: x (N, \*, feats), edge as the blocks take it; returns the same as the last block, (N, \*, feats). What the
    virtual node hears of the last block is not used and not computed. To a `Stack` all this is one block.

    Raises: ValueError for no blocks, or for a graph with two node sets.

    Differs from Gilmer et al.: there the virtual node is joined to all nodes by edges of a type of their own.

    >>> from gnnlib import GNNLayer, GCNConv
    >>> g = dgl.batch([dgl.graph(([0, 1], [1, 0])), dgl.graph(([], []), num_nodes=3)])
    >>> VirtualNode([GNNLayer(GCNConv(4, 4)) for _ in range(2)], 4)(g, torch.ones(5, 4)).shape
    torch.Size([5, 4])
    """

    def __init__(self, blocks: Sequence[nn.Module], feats: int, dropout: float = 0.0):
        super().__init__()
        if not blocks:
            raise ValueError("VirtualNode: expected at least one block, got none")
        self.blocks = nn.ModuleList(blocks)
        self.start = nn.Parameter(torch.zeros(feats))
        self.updates = nn.ModuleList(_update(feats, dropout) for _ in blocks[1:])

    def forward(self, graph: dgl.DGLGraph, x: Tensor, edge: Tensor | None = None, x0: Tensor | None = None) -> Tensor:
        if not graph.is_homogeneous:
            raise ValueError(
                f"VirtualNode: expected a whole graph, got one of two node sets with {graph.num_src_nodes()} sources "
                f"and {graph.num_dst_nodes()} destinations"
            )
        hears = node_to_graph(graph, x.device)
        speaks = hears.reverse()
        v = self.start.expand(hears.num_dst, *x.shape[1:])
        for i, block in enumerate(self.blocks):
            z = x + aggregate(speaks, v)
            x = block(graph, z, edge, x0)
            if i < len(self.updates):
                v = self.updates[i](v + aggregate(hears, z))
        return x


def _update(feats: int, dropout: float) -> nn.Module:
    """What the virtual node makes of what it has heard."""
    return nn.Sequential(
        *(Linear(feats, 2 * feats), RowBatchNorm(2 * feats), nn.ReLU()),
        *(Linear(2 * feats, feats), RowBatchNorm(feats), nn.ReLU(), Dropout(dropout)),
    )
