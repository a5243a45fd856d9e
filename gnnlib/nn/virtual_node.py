"""Virtual node: a node for each graph that receives from all nodes and sends to all of them."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from gnnlib.graph import GraphLike, node_to_graph
from gnnlib.graph._check import check_one_node_set
from gnnlib.nn._arguments import Arguments, integer, probability, reset_parameters
from gnnlib.nn.drop import Dropout
from gnnlib.nn.layer import as_blocks
from gnnlib.nn.norm import RowBatchNorm
from gnnlib.ops import aggregate
from gnnlib.ops.linear import Linear

__all__ = ["VirtualNode"]


class VirtualNode(Arguments, nn.Module):
    r"""Layers in a row with a virtual node (Gilmer et al. 2017, arXiv 1704.01212, section 5.2; in the form of the Open
    Graph Benchmark's baselines, Hu et al. 2020, arXiv 2005.00687).

    .. math:: z_l = x_l + v_l, \qquad x_{l+1} = \mathrm{GNNLayer}_l(z_l), \qquad
        v_{l+1} = \mathrm{MLP}_l\Big(v_l + \sum_u z_{l, u}\Big)

    The sum is over the nodes of each graph, and v_0 is a learned vector, initially 0. The MLP is two linear layers, the
    first to twice the width, each with batch normalisation over the graphs and ReLU, then dropout. The virtual node is
    not updated after the last layer. In a `Stack` all this is one block.

    Differs from Gilmer et al.: there edges of a separate type join the virtual node and all nodes.

    Args:
        blocks: each a `GNNLayer`, a layer, which becomes a `GNNLayer`, or a module called as
            ``block(graph, x, edge, x0)``, from feats to feats
        feats: width of x
        dropout: of the virtual node's features

    Shapes:
        - x: (N, \*, feats)
        - edge: as the blocks take it
        - output: as of the last block, (N, \*, feats)

    Raises:
        ValueError: if there are no blocks
        ValueError: if the graph has two node sets

    Example:
        >>> import torch
        >>> from gnnlib import GCNConv, GNNLayer, VirtualNode
        >>> import dgl
        >>> g = dgl.batch([dgl.graph(([0, 1], [1, 0])), dgl.graph(([], []), num_nodes=3)])
        >>> VirtualNode([GNNLayer(GCNConv(4, 4)) for _ in range(2)], 4)(g, torch.ones(5, 4)).shape
        torch.Size([5, 4])
    """

    renamed: ClassVar = {"layers": "blocks", "in_feats": "feats", "hidden_channels": "feats", "drop": "dropout"}

    def __init__(self, blocks: Sequence[nn.Module], feats: int, *, dropout: float = 0.0):
        super().__init__()
        self.feats, self.dropout = integer(self, "feats", feats), probability(self, "dropout", dropout)
        self.blocks = nn.ModuleList(as_blocks("VirtualNode", blocks))
        if len(self.blocks) == 0:
            raise ValueError("VirtualNode: expected at least one block, got none")
        self.start = nn.Parameter(torch.zeros(feats))
        self.updates = nn.ModuleList(_update(feats, dropout) for _ in self.blocks[1:])

    def reset_parameters(self) -> None:
        """Draw the parameters of the blocks and of the MLPs anew, and set v_0 to 0."""
        reset_parameters(self.blocks)
        nn.init.zeros_(self.start)
        reset_parameters(self.updates)

    def forward(self, graph: GraphLike, x: Tensor, edge: Tensor | None = None, x0: Tensor | None = None) -> Tensor:
        """Apply all blocks, and update the virtual node between them.

        Args:
            graph: a graph or a batch
            x: node features, (N, \\*, feats)
            edge: edge weights or edge features, as the blocks take them
            x0: first hidden features, for skips inside the blocks

        Returns:
            Node features of the last block, (N, \\*, feats).
        """
        check_one_node_set(type(self).__name__, graph)
        to_virtual = node_to_graph(graph, x.device)
        from_virtual = to_virtual.reverse()
        v = self.start.expand(to_virtual.num_dst, *x.shape[1:])
        for i, block in enumerate(self.blocks):
            z = x + aggregate(from_virtual, v)
            x = block(graph, z, edge, x0)
            if i < len(self.updates):
                v = self.updates[i](v + aggregate(to_virtual, z))
        return x


def _update(feats: int, dropout: float) -> nn.Module:
    """The MLP from the sum over the nodes to the next features of the virtual node."""
    return nn.Sequential(
        *(Linear(feats, 2 * feats), RowBatchNorm(2 * feats), nn.ReLU()),
        *(Linear(2 * feats, feats), RowBatchNorm(feats), nn.ReLU(), Dropout(dropout)),
    )
