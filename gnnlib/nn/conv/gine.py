"""Graph isomorphism network with edge features: rectified sums of a neighbour and its edge."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from gnnlib.graph import GraphLike
from gnnlib.nn._arguments import integer
from gnnlib.nn.conv.base import Features
from gnnlib.nn.conv.gin import GINConv
from gnnlib.ops.linear import Linear
from gnnlib.ops.rectified import rectified_sum


class GINEConv(GINConv):
    r"""Graph isomorphism layer with edge features (Hu et al. 2020, arXiv 1905.12265, appendix A; with the ReLU within
    the messages, as the Open Graph Benchmark, arXiv 2005.00687, and ``dgl.nn`` have it).

    .. math:: y_v = \mathrm{MLP}\Big((1 + \epsilon) x_v + \sum_{u \to v} \max(0,\ x_u + e_{uv} W + c)\Big)

    Memory: (E, \*, in_feats).

    Differs from the paper: there the edges' embeddings are summed without the ReLU. A node without in-edges gets
    MLP((1 + eps) x_v). Without edge_feats, state dicts of ``dgl.nn.GINEConv`` load.

    Args:
        in_feats: width of the node features
        out_feats: width of the output
        edge_feats: width of the edge features; None: they are in_feats wide and added as they are, without W and c
        apply_func: any module from in_feats to out_feats; default Linear, ReLU, Linear. It keeps its weights until
            `reset_parameters` is called
        eps: initial value of epsilon
        learn_eps: whether epsilon is trained

    Shapes:
        - x: (N, \*, in_feats), or a pair (x_src, x_dst)
        - edge: features (E, edge_feats)
        - output: (N_dst, \*, out_feats)

    Raises:
        ValueError: if an argument is out of range, a shape is wrong, or a graph with two node sets comes without a pair
        TypeError: if x or edge is no floating-point tensor

    Example:
        >>> import torch
        >>> from gnnlib import GINEConv
        >>> import dgl
        >>> g = dgl.graph(([0, 1, 2], [2, 2, 0]))
        >>> GINEConv(3, 2, edge_feats=5)(g, torch.ones(3, 3), torch.ones(3, 5)).shape
        torch.Size([3, 2])
    """

    takes_edge: ClassVar[str | None] = "feature"

    def __init__(
        self,
        in_feats: int,
        out_feats: int,
        edge_feats: int | None = None,
        *,
        apply_func: nn.Module | None = None,
        eps: float = 0.0,
        learn_eps: bool = False,
    ):
        super().__init__(in_feats, out_feats, apply_func=apply_func, eps=eps, learn_eps=learn_eps)
        self.edge_feats = None if edge_feats is None else integer(self, "edge_feats", edge_feats)
        self.edge_func = nn.Identity() if self.edge_feats is None else Linear(self.edge_feats, self.in_feats)

    def forward(self, graph: GraphLike, x: Features, edge: Tensor | None = None) -> Tensor:
        """Apply the layer.

        Args:
            graph: a graph, a block or a bipartite graph
            x: node features
            edge: edge features

        Shapes:
            as of the class

        Returns:
            the features of the destinations
        """
        x_src, x_dst = self.src_dst_features(graph, x)
        self.check_edge(graph, edge, self.edge_feats or self.in_feats)
        return self.apply_func(torch.addcmul(rectified_sum(graph, x_src, self.edge_func(edge)), x_dst, 1 + self.eps))
