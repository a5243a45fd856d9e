"""The limit of repeated propagation (Li, Han and Wu 2018; Oono and Suzuki 2020), and the distance to it."""

import torch
from torch import Tensor

from gnnlib._utils.calls import names_checked
from gnnlib.analysis.smoothing.base import adjacency_matrix, check_features, components, sum_by_graph
from gnnlib.graph import GraphLike, adjacency, takes_graph
from gnnlib.ops import aggregate

__all__ = ["fixed_point", "fixed_point_distance"]


@names_checked()
@takes_graph()
def fixed_point(graph: GraphLike, x: Tensor, *, norm: str = "both") -> Tensor:
    r"""The limit of x under repeated `gnnlib.propagate` (Li, Han and Wu 2018, arXiv 1801.07606, theorem 1; Oono and
    Suzuki 2020, arXiv 1905.10947). On each connected component c, with d the degrees:

    .. math:: \mathrm{both:}\quad x_v \to \sqrt{d_v} \, \frac{\sum_{u \in c} \sqrt{d_u} x_u}{\sum_{u \in c} d_u}
        \qquad \mathrm{right:}\quad x_v \to \frac{\sum_{u \in c} d_u x_u}{\sum_{u \in c} d_u}

    For "both" this is a multiple of the square root of the degree, for "right" one value. Each step multiplies the
    distance by the second largest absolute eigenvalue of the normalised adjacency matrix. A component without an odd
    cycle (such as a self-loop) does not converge: it alternates between two values. A node without edges goes to 0.

    Args:
        graph: a whole graph or a batch, with every edge in both directions
        x: features
        norm: "both" (divide by the square roots of both degrees) or "right" (the mean over neighbours)

    Shapes:
        - x: (N, \*, F)
        - output: (N, \*, F), float64

    Returns:
        the limit

    Raises:
        TypeError: for features that are not floating-point
        ValueError: for another ``norm``, x of another shape, or a graph with edges in one direction only

    Example:
        >>> import torch
        >>> from gnnlib.analysis.smoothing import fixed_point
        >>> import dgl
        >>> g = dgl.add_self_loop(dgl.graph(([0, 1, 1, 2], [1, 0, 2, 1])))
        >>> x = torch.tensor([[7.0], [0.0], [0.0]])
        >>> fixed_point(g, x, norm="right").flatten().tolist()
        [2.0, 2.0, 2.0]
    """
    x = check_features(graph, x)
    if norm not in ("both", "right"):
        raise ValueError(f"norm: expected 'both' or 'right', got {norm!r}")
    counts = adjacency_matrix(graph).tocsr()
    if one_way := (counts != counts.T).nnz // 2:
        raise ValueError(f"expected every edge in both directions, got {one_way} pairs of nodes where they differ")
    groups = components(graph, x.device)
    degree = adjacency(graph, x.device).in_degrees.to(x).view(-1, *[1] * (x.dim() - 1))
    root = degree.sqrt() if norm == "both" else torch.ones_like(degree)
    total = aggregate(groups, degree / root.clamp(min=1) * x) / aggregate(groups, degree).clamp(min=1)
    return root * (degree > 0) * total[groups.dst]


@names_checked()
@takes_graph()
def fixed_point_distance(graph: GraphLike, x: Tensor, *, norm: str = "both") -> Tensor:
    """The distance from x to its `fixed_point`, in the Frobenius norm of each graph. For "both" this is the distance to
    the subspace M of Oono and Suzuki (2020, arXiv 1905.10947, section 3.1).

    Args:
        graph: as for `fixed_point`
        x: features
        norm: "both" or "right"

    Shapes:
        - x: (N, \\*, F)
        - output: (B, \\*)

    Returns:
        the distance

    Raises:
        TypeError: as `fixed_point`
        ValueError: as `fixed_point`

    Example:
        >>> import torch
        >>> from gnnlib.analysis.smoothing import fixed_point_distance
        >>> import dgl
        >>> g = dgl.graph(([0, 1, 0, 1], [1, 0, 0, 1]))
        >>> fixed_point_distance(g, torch.tensor([[3.0], [1.0]])).square().round(decimals=6).tolist()
        [2.0]
    """
    return sum_by_graph(graph, (check_features(graph, x) - fixed_point(graph, x, norm=norm)).square().sum(-1)).sqrt()
