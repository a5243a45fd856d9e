"""Principal neighbourhood aggregation: several reductions over neighbours, each scaled by degree."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from gnnlib.graph import Adjacency, GraphLike, adjacency
from gnnlib.nn._arguments import integer, positive, some_of
from gnnlib.nn.conv.base import Conv, Features, add_reusing_memory, width_pair
from gnnlib.ops import aggregate
from gnnlib.ops.edges_as_nodes import incidence, per_edge_messages
from gnnlib.ops.linear import Linear, linear


def _moment(over: Adjacency, m: Tensor, power: int) -> Tensor:
    """The central moment, from differences to the mean: exactly 0, with a gradient of 0, where all are equal."""
    from_src, from_dst = incidence(over)
    deviation = add_reusing_memory(aggregate(from_src, m), -aggregate(from_dst, aggregate(over, m, reduce="mean")))
    return aggregate(from_dst.reverse(), deviation**power, reduce="mean")


def _root(moment: Tensor, power: int) -> Tensor:
    """The root of a moment with its sign, and 0, with a gradient of 0, for 0."""
    size = moment.abs()
    size = size.where(size > 0, 1.0) ** (1 / power)
    return moment.sign() * size


AGGREGATORS: dict[str, Callable[[Adjacency, Tensor, Tensor], Tensor]] = {
    "mean": lambda over, m, shift: add_reusing_memory(aggregate(over, m, reduce="mean"), shift),
    "max": lambda over, m, shift: add_reusing_memory(aggregate(over, m, reduce="max"), shift),
    "min": lambda over, m, shift: shift - aggregate(over, -m, reduce="max"),
    "sum": lambda over, m, shift: add_reusing_memory(aggregate(over, m), _degrees(over, m) * shift),
    "var": lambda over, m, shift: _moment(over, m, 2),
    "std": lambda over, m, shift: _root(_moment(over, m, 2), 2),
    "moment3": lambda over, m, shift: _root(_moment(over, m, 3), 3),
    "moment4": lambda over, m, shift: _root(_moment(over, m, 4), 4),
    "moment5": lambda over, m, shift: _root(_moment(over, m, 5), 5),
}
"""Of the messages m + shift, where shift is the same for all messages of a node."""


def _degrees(over: Adjacency, like: Tensor) -> Tensor:
    """The in-degrees as (N_dst, 1, ...), of the type and with the axes of a tensor."""
    return over.in_degrees.to(like).view(-1, *[1] * (like.dim() - 1))


SCALERS = {"identity": 0.0, "amplification": 1.0, "attenuation": -1.0}
"""Powers of log(d + 1) / delta."""


class PNAConv(Conv):
    r"""Principal neighbourhood aggregation (Corso et al. 2020, arXiv 2004.05718, section 2), one tower.

    .. math:: y_v = U\Big[x_v,\ s(d_v) \otimes \bigoplus_{u \to v} M[x_u, x_v, e_{uv}]\Big], \qquad
        s(d) = \Big(\frac{\log(d + 1)}{\delta}\Big)^{0, 1, -1}

    M and U are linear, with biases; the sum over neighbours is replaced by their mean, maximum, minimum and
    standard deviation side by side, each times each scaler s of the in-degree d. The message is a sum of a
    part of each node and of the edge; that of v, the same for all its messages, is added after. Memory:
    (E, \*, in_feats) with edge features, "std", "var" or a moment, else nothing for each edge.

    Differs from the paper: its networks add towers, norms and residuals around this, which are the caller's; the
    standard deviation has no epsilon. A node without in-edges gets U[x_v, 0].
    M and U are those of a tower of ``dgl.nn.PNAConv``, in the same order.

    Args:
        in_feats: width of the node features, or (source, destination) widths; messages are as wide as the source's
        out_feats: width of the output
        edge_feats: width of the edge features; 0: none
        aggregators: of "mean", "max", "min", "std", "sum", "var", and "moment3" to "moment5" (the paper's equation 7,
            roots of the central moments)
        scalers: of "identity", "amplification", "attenuation"
        delta: a typical log(d + 1): the paper takes the mean over the nodes of the training set,
            ``(graph.in_degrees() + 1).log().mean()``

    Shapes:
        - x: (N, \*, in_feats), or a pair (x_src, x_dst)
        - edge: features (E, edge_feats), or None if edge_feats is 0
        - output: (N_dst, \*, out_feats)

    Raises:
        ValueError: if an argument is out of range, a shape is wrong, or a graph with two node sets comes without a pair
        TypeError: if x or edge is no floating-point tensor

    Example:
        >>> import torch
        >>> from gnnlib import PNAConv
        >>> import dgl
        >>> g = dgl.graph(([0, 1, 2], [2, 2, 0]))
        >>> PNAConv(3, 2, edge_feats=5)(g, torch.ones(3, 3), torch.ones(3, 5)).shape
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
        aggregators: Sequence[str] = ("mean", "max", "min", "std"),
        scalers: Sequence[str] = ("identity", "amplification", "attenuation"),
        delta: float = 1.0,
    ):
        super().__init__(in_feats, out_feats)
        self.edge_feats = integer(self, "edge_feats", edge_feats, minimum=0)
        self.aggregators = some_of(self, "aggregators", aggregators, AGGREGATORS)
        self.scalers = some_of(self, "scalers", scalers, SCALERS)
        self.delta = positive(self, "delta", delta)
        src_feats, dst_feats = width_pair(self.in_feats)
        self.M = Linear(src_feats + dst_feats + self.edge_feats, src_feats)
        self.U = Linear(dst_feats + len(self.scalers) * len(self.aggregators) * src_feats, self.out_feats)
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
        return principal_aggregation(self, graph, x_src, x_dst, edge)


def principal_aggregation(layer: Any, graph: GraphLike, x_src: Tensor, x_dst: Tensor, edge: Tensor | None) -> Tensor:
    """The output of one tower.

    Args:
        layer: with ``M``, ``U``, ``aggregators``, ``scalers`` and ``delta``
        graph: the graph
        x_src, x_dst: features of the sources and of the destinations
        edge: edge features, or None

    Returns:
        The features of the destinations.
    """
    over = adjacency(graph, x_src.device)
    degree = _degrees(over, x_dst)
    edge_feats = 0 if edge is None else edge.shape[-1]
    m_src, m_dst, m_edge = layer.M.weight.split([x_src.shape[-1], x_dst.shape[-1], edge_feats], 1)
    m, shift = linear(x_src, m_src), linear(x_dst, m_dst, layer.M.bias) * (degree > 0)
    m, over = per_edge_messages(over, m, always=edge is not None)
    if edge is not None:
        m = add_reusing_memory(m, linear(edge, m_edge).view(-1, *[1] * (m.dim() - 2), m.shape[-1]))
    reduced = torch.cat([AGGREGATORS[name](over, m, shift) for name in layer.aggregators], -1)
    u_self, *u_scaled = layer.U.weight.split([x_dst.shape[-1], *[reduced.shape[-1]] * len(layer.scalers)], 1)
    scale = (degree.clamp(min=1) + 1).log() / layer.delta
    y = linear(x_dst, u_self, layer.U.bias)
    for name, weight in zip(layer.scalers, u_scaled, strict=True):
        y = torch.addcmul(y, linear(reduced, weight), scale ** SCALERS[name])
    return y
