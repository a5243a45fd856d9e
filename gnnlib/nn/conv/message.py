"""Message passing with a one-layer network on both nodes of each edge, reduced by mean and maximum."""

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor

from gnnlib.graph import GraphLike
from gnnlib.nn._arguments import integer, some_of
from gnnlib.nn.conv.base import Conv, Features, add_reusing_memory, width_pair
from gnnlib.ops.linear import Linear, linear
from gnnlib.ops.rectified import rectified_mean_max

AGGREGATORS = ("mean", "max")


class MessageConv(Conv):
    r"""Message passing (Gilmer et al. 2017, arXiv 1704.01212, equations 1 and 2) with a ReLU within the messages, whose
    mean and maximum are taken side by side.

    .. math:: y_v = U\big[x_v,\ \operatorname{mean}_{u \to v} m_{uv},\ \max_{u \to v} m_{uv}\big], \qquad
        m_{uv} = \max(0,\ M[x_u, x_v, e_{uv}])

    M and U are linear, with biases. The maximum alone of [x_v, x_u - x_v], which M can form, is EdgeConv (Wang et al.
    2019, arXiv 1801.07829, section 3.1); with relative positions along the edges, a level of PointNet++ (Qi et al.
    2017, arXiv 1706.02413, section 3.2). M is split into a part for each end and one for the edge, so that there are
    two products for each node, and no message is stored: `gnnlib.ops.rectified.rectified_mean_max`. Memory: nothing for
    each edge, but where the edge features need a gradient: (E, \*, hidden).

    Differs from the papers: Gilmer et al. sum the messages and update with a recurrent network; EdgeConv and
    PointNet++ have more layers in M and no U. The activation, norm and residual are the caller's. A node without
    in-edges gets U[x_v, 0, 0].

    Args:
        in_feats: width of the node features, or (source, destination) widths
        out_feats: width of the output
        edge_feats: width of the edge features, a few, such as a relative position and a distance; 0: none
        hidden: width of the messages; None: out_feats
        aggregators: "mean", "max" or both

    Shapes:
        - x: (N, \*, in_feats), or a pair (x_src, x_dst)
        - edge: features (E, edge_feats), or None if edge_feats is 0
        - output: (N_dst, \*, out_feats)

    Raises:
        ValueError: if an argument is out of range, a shape is wrong, or a graph with two node sets comes without a pair
        TypeError: if x or edge is no floating-point tensor

    Example:
        >>> import torch
        >>> from gnnlib import MessageConv
        >>> import dgl
        >>> g = dgl.graph(([0, 1, 2], [2, 2, 0]))
        >>> MessageConv(3, 2, edge_feats=5)(g, torch.ones(3, 3), torch.ones(3, 5)).shape
        torch.Size([3, 2])
    """

    takes_edge: ClassVar[str | None] = "feature"
    two_widths: ClassVar[bool] = True

    def __init__(
        self,
        in_feats: int | tuple[int, int],
        out_feats: int,
        edge_feats: int = 0,
        *,
        hidden: int | None = None,
        aggregators: Sequence[str] = AGGREGATORS,
    ):
        super().__init__(in_feats, out_feats)
        self.edge_feats = integer(self, "edge_feats", edge_feats, minimum=0)
        self.hidden = self.out_feats if hidden is None else integer(self, "hidden", hidden)
        self.aggregators = some_of(self, "aggregators", aggregators, AGGREGATORS)
        src_feats, dst_feats = width_pair(self.in_feats)
        self.M = Linear(src_feats + dst_feats + self.edge_feats, self.hidden)
        self.U = Linear(dst_feats + len(self.aggregators) * self.hidden, self.out_feats)
        if not self.edge_feats:
            self.takes_edge = None  # type: ignore[misc]

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
        self.check_edge(graph, edge, self.edge_feats or None)
        m_src, m_dst, m_edge = self.M.weight.split([x_src.shape[-1], x_dst.shape[-1], self.edge_feats], 1)
        a, b = linear(x_src, m_src), linear(x_dst, m_dst, self.M.bias)
        mean, maximum = rectified_mean_max(graph, a, b, edge, None if edge is None else m_edge.T)
        u_self, *u_reduced = self.U.weight.split([x_dst.shape[-1], *[self.hidden] * len(self.aggregators)], 1)
        y = linear(x_dst, u_self, self.U.bias)
        for name, weight in zip(self.aggregators, u_reduced, strict=True):
            y = add_reusing_memory(y, linear({"mean": mean, "max": maximum}[name], weight))
        return y
