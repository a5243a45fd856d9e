"""Degree normalisation: coefficients w(u->v) d_u^p d_v^q of the edges, and means from sums."""

import torch
from torch import Tensor

from gnnlib._utils.calls import names_checked
from gnnlib.graph import Adjacency, CompressedRows, GraphLike, adjacency, check_num_rows, takes_graph
from gnnlib.graph._adjacency import is_traced
from gnnlib.kernels.half import computed
from gnnlib.ops.autograd.sums import copy_dst, copy_src, sum_edges
from gnnlib.ops.autograd.taps import TapShare

__all__ = ["DEGREES", "NORMS", "degree_norm", "divide_by_in_degree", "mean_from_sum", "relation_share"]

NORMS = {"both": (-0.5, -0.5), "left": (-1.0, 0.0), "right": (0.0, -1.0), "none": (0.0, 0.0)}
"""Powers of the degree of the source and of the destination."""

DEGREES = ("unweighted", "weighted", "in")


@names_checked()
@takes_graph()
def degree_norm(
    graph: GraphLike | Adjacency,
    weight: Tensor | None = None,
    norm: str = "both",
    degrees: str = "unweighted",
    like: Tensor | None = None,
) -> Tensor:
    r"""Computes edge coefficients normalised by degree.

    .. math:: b_{uv} = w_{uv}\, d_u^p\, d_v^q

    Args:
        graph: a DGLGraph with one edge type, or a block
        weight: edge weights w; None: 1
        norm: "both" (p = q = -1/2: Kipf and Welling 2017, arXiv 1609.02907, equation 2), "right" (p = 0, q = -1:
            divide by the row sum of the adjacency matrix, the mean over neighbours), "left" (p = -1, q = 0) or "none"
        degrees: "unweighted" counts the out-edges of the source and the in-edges of the destination; "weighted" sums
            their weights; "in" takes the in-edges of both, their sum with weights and their number without (graphs with
            one node set only)
        like: without weights, the dtype and device of the result are those of this tensor

    "weighted" is DGL's ``EdgeWeightNorm``, and "in" the normalisation of PyTorch Geometric. A count of 0 is taken as 1,
    as in DGL; a weighted degree of 0 gives the factor 0. In a block, out-edges are those
    inside the block.

    Shapes:
        - weight: (E, \*)
        - output: (E, \*), or (E,) without weights

    Raises:
        ValueError: if ``norm`` or ``degrees`` is unknown, the number of weights is wrong, or a weighted degree under a
            square root is negative

    Example:
        >>> import torch
        >>> from gnnlib import degree_norm
        >>> import dgl
        >>> g = dgl.graph(([0, 1, 2, 2], [2, 2, 2, 0]))
        >>> degree_norm(g, norm="right").tolist()
        [0.3333333432674408, 0.3333333432674408, 0.3333333432674408, 1.0]
        >>> degree_norm(g, torch.tensor([1.0, 2.0, 5.0, 7.0]), "right", "weighted").tolist()
        [0.125, 0.25, 0.625, 1.0]
    """
    like = weight if weight is not None else like if like is not None else torch.empty(0, device=graph.device)
    adj = adjacency(graph, like.device)
    check_norm(adj, norm, degrees)
    if weight is not None:
        check_num_rows("weight", weight, adj.num_edges, "edge")
        if degrees != "unweighted":
            return _weighted_norm(adj, weight, NORMS[norm], adj if degrees == "in" else adj.reverse())

    def make() -> Tensor:
        src, dst = degree_factors(adj, norm, degrees, torch.float64)
        return (src[adj.src] * dst[adj.dst]).to(like.dtype)

    factor = adj.cached((norm, degrees == "in", like.dtype), make)
    return factor if weight is None else weight * factor.view(-1, *[1] * (weight.dim() - 1))


def check_norm(adj: Adjacency, norm: str, degrees: str) -> None:
    """Raises ValueError unless the names are those of `degree_norm` and ``degrees`` fits the graph."""
    if norm not in NORMS:
        raise ValueError(f"norm: expected one of {sorted(NORMS)}, got {norm!r}")
    if degrees not in DEGREES:
        raise ValueError(f"degrees: expected 'unweighted', 'weighted' or 'in', got {degrees!r}")
    if degrees == "in" and adj.num_src != adj.num_dst:
        raise ValueError(
            f"degrees='in': expected a graph with one node set, got {adj.num_src} sources, {adj.num_dst} destinations"
        )


def degree_factors(adj: Adjacency, norm: str, degrees: str, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """The factor of each source and of each destination, from counts of edges; float32 for half precision."""
    dtype = computed(dtype)

    def factor(end: str, grouped: CompressedRows, power: float) -> Tensor:
        def make() -> Tensor:
            if power == 0:
                return torch.ones(len(grouped.indptr) - 1, dtype=dtype, device=adj.device)
            return (grouped.indptr.diff().clamp(min=1).double() ** power).to(dtype)

        return adj.cached((end, norm, degrees, dtype), make)

    powers = NORMS[norm]
    src = factor("src", adj.csc if degrees == "in" else adj.csr, powers[0])
    return src, factor("dst", adj.csc, powers[1])


@takes_graph()
def divide_by_in_degree(graph: GraphLike | Adjacency, weight: Tensor) -> Tensor:
    """Divides edge values by the in-degree of their destination, so that their sum is a mean."""
    return degree_norm(graph, weight, norm="right")


@takes_graph()
def mean_from_sum(graph: GraphLike | Adjacency, y: Tensor) -> Tensor:
    """Divides values of the destinations (N_dst, \\*) by their in-degrees: a sum becomes a mean."""
    adj = adjacency(graph, y.device)
    factor = degree_factors(adj, "right", "unweighted", y.dtype)[1]
    return (y * factor.view(-1, *[1] * (y.dim() - 1))).to(y.dtype)


def relation_share(adj: Adjacency, etypes: Tensor, num_rels: int, dtype: torch.dtype) -> Tensor:
    """One over the number of in-edges that a destination has of the edge's relation, (E,): with it as coefficient, a
    sum is the sum of the means of all relations. In float32 for half precision."""
    return TapShare.apply(etypes, adj, num_rels, computed(dtype))


def _power(degree: Tensor, power: float) -> Tensor:
    """degree ** power, 0 where the degree is 0."""
    return torch.where(degree == 0, 0.0, degree.where(degree != 0, 1.0) ** power)


def _weighted_norm(adj: Adjacency, weight: Tensor, powers: tuple[float, float], of_source: Adjacency) -> Tensor:
    """The weights times powers of their sums; those of a source are over its in-edges in ``of_source``."""
    flat = weight.reshape(adj.num_edges, weight.shape[1:].numel())
    factor = flat
    for power, view, copy in ((powers[0], of_source, copy_src), (powers[1], adj, copy_dst)):
        if power:
            degree = sum_edges(view, flat)
            if power == -0.5 and not is_traced() and bool((degree < 0).any()):
                raise ValueError(f"expected weighted degrees of at least 0 under a square root, got {degree.min():.3g}")
            factor = factor * copy(adj, _power(degree, power))
    return factor.reshape(weight.shape)
