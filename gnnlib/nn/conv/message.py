"""Message passing with a network of one layer on both ends of each edge: the mean and the maximum of what it sends."""

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor

from gnnlib._platform.dgl import dgl
from gnnlib.nn.conv.base import Conv, Features, _pair, add_reusing_memory
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
    two products for each node, and no message is held: `gnnlib.ops.rectified.rectified_mean_max`.

    Args:
        in_feats: width of x, or (source, destination) widths
        out_feats: width of y
        edge_feats: width of the edge features, a few, such as a relative position and a distance; 0: none
        hidden: width of the messages; None: out_feats
        aggregators: "mean", "max" or both

    Shapes: x (N, \*, in_feats) or a pair; edge (E, edge_feats), or None without; returns (N_dst, \*, out_feats).
    Memory: nothing for each edge, but where the edge features need a gradient: (E, \*, hidden).

    Raises: ValueError or TypeError, naming expected and received, for unknown aggregators, widths that are not
    positive, x or edge of a wrong shape or dtype, or where a graph with two node sets comes without a pair.

    Differs from the papers: Gilmer et al. sum the messages and update with a network that remembers; EdgeConv and
    PointNet++ have more layers in M and no U. The activation, norm and residual are the caller's. A node without
    in-edges gets U[x_v, 0, 0].

    >>> import torch
    >>> g = dgl.graph(([0, 1, 2], [2, 2, 0]))
    >>> MessageConv(3, 2, edge_feats=5)(g, torch.ones(3, 3), torch.ones(3, 5)).shape
    torch.Size([3, 2])
    """

    takes_edge: ClassVar[str | None] = "feature"

    def __init__(
        self,
        in_feats: int | tuple[int, int],
        out_feats: int,
        edge_feats: int = 0,
        hidden: int | None = None,
        aggregators: Sequence[str] = AGGREGATORS,
    ):
        super().__init__(in_feats, out_feats)
        hidden = out_feats if hidden is None else hidden
        if edge_feats < 0 or hidden < 1:
            raise ValueError(f"MessageConv: expected edge_feats >= 0 and hidden >= 1, got {edge_feats} and {hidden}")
        if not aggregators or not set(aggregators) <= set(AGGREGATORS):
            raise ValueError(f"MessageConv: expected aggregators of {list(AGGREGATORS)}, got {aggregators!r}")
        src_feats, dst_feats = _pair(in_feats)
        self.edge_feats, self.hidden, self.aggregators = edge_feats, hidden, aggregators
        self.M = Linear(src_feats + dst_feats + edge_feats, hidden)
        self.U = Linear(dst_feats + len(aggregators) * hidden, out_feats)
        if not edge_feats:
            self.takes_edge = None  # type: ignore[misc]

    def forward(self, graph: dgl.DGLGraph, x: Features, edge: Tensor | None = None) -> Tensor:
        x_src, x_dst = self.both_ends(graph, x)
        self.check_edge(graph, edge, self.edge_feats or None)
        m_src, m_dst, m_edge = self.M.weight.split([x_src.shape[-1], x_dst.shape[-1], self.edge_feats], 1)
        a, b = linear(x_src, m_src), linear(x_dst, m_dst, self.M.bias)
        mean, top = rectified_mean_max(graph, a, b, edge, None if edge is None else m_edge.T)
        own, *each = self.U.weight.split([x_dst.shape[-1], *[self.hidden] * len(self.aggregators)], 1)
        y = linear(x_dst, own, self.U.bias)
        for name, weight in zip(self.aggregators, each, strict=True):
            y = add_reusing_memory(y, linear({"mean": mean, "max": top}[name], weight))
        return y

    def extra_repr(self) -> str:
        found = f"edge_feats={self.edge_feats}, hidden={self.hidden}, aggregators={self.aggregators}"
        return f"{super().extra_repr()}, {found}"
