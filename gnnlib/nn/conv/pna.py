"""Principal neighbourhood aggregation: several summaries of the neighbours at once, each scaled by degree."""

from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from gnnlib._platform.dgl import dgl
from gnnlib.graph import Adjacency, adjacency
from gnnlib.nn.conv.base import Conv, Features, _pair, add_reusing_memory
from gnnlib.ops import aggregate
from gnnlib.ops.edges_as_nodes import incidence, per_edge_messages
from gnnlib.ops.linear import Linear, linear


def _std(over: Adjacency, m: Tensor) -> Tensor:
    """The standard deviation, from differences to the mean: exactly 0, with a gradient of 0, where all are equal."""
    from_src, from_dst = incidence(over)
    apart = add_reusing_memory(aggregate(from_src, m), -aggregate(from_dst, aggregate(over, m, reduce="mean")))
    var = aggregate(from_dst.reverse(), apart.square(), reduce="mean")
    some = var > 0
    return var.where(some, 1.0).sqrt().where(some, 0.0)


AGGREGATORS: dict[str, Callable[[Adjacency, Tensor, Tensor], Tensor]] = {
    "mean": lambda over, m, shift: add_reusing_memory(aggregate(over, m, reduce="mean"), shift),
    "max": lambda over, m, shift: add_reusing_memory(aggregate(over, m, reduce="max"), shift),
    "min": lambda over, m, shift: shift - aggregate(over, -m, reduce="max"),
    "std": lambda over, m, shift: _std(over, m),
}
"""Of the messages m + shift, where shift is the same for all messages of a node."""

SCALERS = {"identity": 0.0, "amplification": 1.0, "attenuation": -1.0}
"""Powers of log(d + 1) / delta."""


class PNAConv(Conv):
    r"""Principal neighbourhood aggregation (Corso et al. 2020, arXiv 2004.05718, section 2), one tower.

    .. math:: y_v = U\Big[x_v,\ s(d_v) \otimes \bigoplus_{u \to v} M[x_u, x_v, e_{uv}]\Big], \qquad
        s(d) = \Big(\frac{\log(d + 1)}{\delta}\Big)^{0, 1, -1}

    M and U are linear, with biases; the sum over neighbours is replaced by their mean, maximum, minimum and
    standard deviation side by side, each times each scaler s of the in-degree d. The message is a sum of a
    part of each end and of the edge; that of v, the same for all its messages, is added after.

    Args:
        in_feats: width of x, or (source, destination) widths; messages are as wide as the source's
        out_feats: width of y
        edge_feats: width of the edge features; 0: none
        aggregators: of "mean", "max", "min", "std"
        scalers: of "identity", "amplification", "attenuation"
        delta: a typical log(d + 1): the paper takes the mean over the nodes of the training set,
            ``(graph.in_degrees() + 1).log().mean()``

    Shapes: x (N, \*, in_feats) or a pair; edge (E, edge_feats), or None without; returns (N_dst, \*, out_feats).
    Memory: (E, \*, in_feats) with edge features or "std", else nothing for each edge.

    Raises: ValueError or TypeError, naming expected and received, for unknown aggregators or scalers, a delta that is
    not positive, x or edge of a wrong shape or dtype, or where a graph with two node sets comes without a pair.

    Differs from the paper: its networks add towers, norms and residuals around this, which are the caller's; the
    standard deviation has no epsilon. A node without in-edges gets U[x_v, 0].
    M and U are those of a tower of ``dgl.nn.PNAConv``, in the same order.

    >>> g = dgl.graph(([0, 1, 2], [2, 2, 0]))
    >>> PNAConv(3, 2, edge_feats=5)(g, torch.ones(3, 3), torch.ones(3, 5)).shape
    torch.Size([3, 2])
    """

    takes_edge: ClassVar[str | None] = "feature"

    def __init__(
        self,
        in_feats: int | tuple[int, int],
        out_feats: int,
        edge_feats: int = 0,
        aggregators: Sequence[str] = ("mean", "max", "min", "std"),
        scalers: Sequence[str] = ("identity", "amplification", "attenuation"),
        delta: float = 1.0,
    ):
        super().__init__(in_feats, out_feats)
        for what, names, known in (("aggregators", aggregators, AGGREGATORS), ("scalers", scalers, SCALERS)):
            if not names or not set(names) <= set(known):
                raise ValueError(f"PNAConv: expected {what} of {list(known)}, got {names!r}")
        if edge_feats < 0 or not delta > 0:
            raise ValueError(f"PNAConv: expected edge_feats >= 0 and a positive delta, got {edge_feats} and {delta}")
        self.edge_feats, self.aggregators, self.scalers, self.delta = edge_feats, aggregators, scalers, delta
        src_feats, dst_feats = _pair(in_feats)
        self.M = Linear(src_feats + dst_feats + edge_feats, src_feats)
        self.U = Linear(dst_feats + len(scalers) * len(aggregators) * src_feats, out_feats)
        if not edge_feats:
            self.takes_edge = None  # type: ignore[misc]

    def forward(self, graph: dgl.DGLGraph, x: Features, edge: Tensor | None = None) -> Tensor:
        x_src, x_dst = self.both_ends(graph, x)
        self.check_edge(graph, edge, self.edge_feats or None)
        over = adjacency(graph, x_src.device)
        degree = over.in_degrees.to(x_src).view(-1, *[1] * (x_dst.dim() - 1))
        m_src, m_dst, m_edge = self.M.weight.split([x_src.shape[-1], x_dst.shape[-1], self.edge_feats], 1)
        m, shift = linear(x_src, m_src), linear(x_dst, m_dst, self.M.bias) * (degree > 0)
        m, over = per_edge_messages(over, m, always=edge is not None)
        if edge is not None:
            m = add_reusing_memory(m, linear(edge, m_edge).view(-1, *[1] * (m.dim() - 2), m.shape[-1]))
        found = torch.cat([AGGREGATORS[name](over, m, shift) for name in self.aggregators], -1)
        own, *each = self.U.weight.split([x_dst.shape[-1], *[found.shape[-1]] * len(self.scalers)], 1)
        typical = (degree.clamp(min=1) + 1).log() / self.delta
        y = linear(x_dst, own, self.U.bias)
        for name, weight in zip(self.scalers, each, strict=True):
            y = torch.addcmul(y, linear(found, weight), typical ** SCALERS[name])
        return y

    def extra_repr(self) -> str:
        found = f"aggregators={self.aggregators}, scalers={self.scalers}, delta={self.delta}"
        return f"{super().extra_repr()}, edge_feats={self.edge_feats}, {found}"
