"""Curvature of edges: balanced Forman (Topping et al. 2022) and Ollivier."""

from collections import Counter
from collections.abc import Callable
from functools import partial
from itertools import chain

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment, linprog
from scipy.sparse import csr_matrix, vstack
from torch import Tensor

from gnnlib._utils.calls import names_checked
from gnnlib._utils.progress import ProgressBar
from gnnlib.analysis.smoothing.base import check_graph, simple_adjacency
from gnnlib.graph import GraphLike, takes_graph

__all__ = ["balanced_forman_curvature", "ollivier_curvature"]


@names_checked()
@takes_graph()
def balanced_forman_curvature(graph: GraphLike) -> Tensor:
    r"""The balanced Forman curvature of each edge (Topping et al. 2022, arXiv 2111.14522, definition 1). Edges with a
    very negative curvature are bottlenecks, which squash what passes them. For an edge i ~ j of a simple graph:

    .. math:: \mathrm{Ric}(i, j) = \frac{2}{d_i} + \frac{2}{d_j} - 2
        + 2 \frac{|\triangle|}{\max(d_i, d_j)} + \frac{|\triangle|}{\min(d_i, d_j)}
        + \frac{|\square_i| + |\square_j|}{\gamma_{\max} \max(d_i, d_j)}

    and 0 if one of the degrees is 1. The number of triangles is that at the edge; the squares of i are the neighbours
    of i that are in a 4-cycle at the edge without diagonals; and gamma is the largest number of such 4-cycles that pass
    a common node. Directions, self-loops and parallel edges do not count.

    Args:
        graph: a whole graph or a batch

    Shapes:
        - output: (E,), float64; nan for a self-loop

    Returns:
        the curvature of each edge, from -2

    Raises:
        ValueError: for a graph with two node sets

    Example:
        >>> import torch
        >>> from gnnlib.analysis.squashing import balanced_forman_curvature
        >>> import dgl
        >>> triangles = dgl.graph(([0, 1, 2, 2, 3, 4, 5], [1, 2, 0, 3, 4, 5, 3]))  # two, joined by 2 -> 3
        >>> balanced_forman_curvature(triangles).round(decimals=3).tolist()
        [1.5, 0.833, 0.833, -0.667, 0.833, 1.5, 0.833]
    """
    return _of_edges(graph, balanced_forman)


def balanced_forman(neighbours: list[set[int]], i: int, j: int) -> float:
    """The curvature of i ~ j, where the neighbours of each node are a set."""
    if i == j:
        return np.nan
    near_i, near_j = neighbours[i], neighbours[j]
    low, high = sorted((len(near_i), len(near_j)))
    if low == 1:
        return 0.0
    triangles = len(near_i & near_j)
    curvature = 2 / low + 2 / high - 2 + 2 * triangles / high + triangles / low
    squares = square_counts(neighbours, i, j)
    if squares[0]:
        largest = max(max(counts.values()) for counts in squares)
        curvature += sum(map(len, squares)) / (largest * high)
    return curvature


def square_counts(neighbours: list[set[int]], i: int, j: int) -> tuple[dict[int, int], dict[int, int]]:
    """Of each neighbour of i, and of each of j, in 4-cycles i - k - w - j without diagonals: the number of these
    cycles."""
    only_i, only_j = neighbours[i] - neighbours[j] - {j}, neighbours[j] - neighbours[i] - {i}
    few, many = (only_i, only_j) if len(only_i) <= len(only_j) else (only_j, only_i)
    opposite = {k: neighbours[k] & many for k in few}
    of_few = {k: len(nodes) for k, nodes in opposite.items() if nodes}
    of_many = Counter(chain.from_iterable(opposite.values()))
    return (of_few, of_many) if few is only_i else (of_many, of_few)


@names_checked()
@takes_graph()
def ollivier_curvature(graph: GraphLike, *, idleness: float = 0.0) -> Tensor:
    r"""The Ollivier-Ricci curvature of each edge (Ollivier 2009, arXiv math/0701886; as in Topping et al. 2022, arXiv
    2111.14522): 1 minus the distance between the steps of two random walks.

    .. math:: \kappa(i, j) = 1 - W_1(\mu_i, \mu_j)

    W is the Wasserstein distance by the number of edges. The walk at i stays with the probability ``idleness``, and
    otherwise goes to a random neighbour. Directions, self-loops and parallel edges do not count. An edge takes a linear
    program of d_i d_j variables.

    Args:
        graph: a whole graph or a batch
        idleness: probability from 0 to 1

    Shapes:
        - output: (E,), float64; nan for a self-loop

    Returns:
        the curvature of each edge, from -2 to 1

    Raises:
        ValueError: for a graph with two node sets, or an idleness that is no probability

    Example:
        >>> import torch
        >>> from gnnlib.analysis.squashing import ollivier_curvature
        >>> import dgl
        >>> triangles = dgl.graph(([0, 1, 2, 2, 3, 4, 5], [1, 2, 0, 3, 4, 5, 3]))
        >>> ollivier_curvature(triangles).round(decimals=3).tolist()
        [0.5, 0.333, 0.333, -0.667, 0.333, 0.5, 0.333]
    """
    if not isinstance(idleness, (int, float)) or not 0 <= idleness <= 1:
        raise ValueError(f"ollivier_curvature: expected an idleness from 0 to 1, got {idleness!r}")
    return _of_edges(graph, partial(_ollivier, idleness=idleness))


def _ollivier(neighbours: list[set[int]], i: int, j: int, *, idleness: float) -> float:
    if i == j:
        return np.nan
    (x, from_weight), (y, to_weight) = (_step(neighbours, node, idleness) for node in (i, j))
    distance = np.array([[_distance(neighbours, a, b) for b in y] for a in x], float)
    if len(x) == len(y) and np.ptp(from_weight) == 0 and np.ptp(to_weight) == 0:  # then a matching is best
        return 1 - distance[linear_sum_assignment(distance)].mean()
    flows = np.arange(distance.size).reshape(distance.shape)
    ones, rows = np.ones(distance.size), np.arange(len(x)).repeat(len(y))
    out = csr_matrix((ones, (rows, flows.ravel())), (len(x), distance.size))
    into = csr_matrix((ones, (np.tile(np.arange(len(y)), len(x)), flows.ravel())), (len(y), distance.size))
    constraints, amounts = vstack([out, into]), np.concatenate([from_weight, to_weight])
    return 1 - linprog(distance.ravel(), A_eq=constraints, b_eq=amounts, method="highs").fun


def _step(neighbours: list[set[int]], node: int, idleness: float) -> tuple[list[int], np.ndarray]:
    """The nodes that a walk reaches in a step, with their probabilities."""
    around = sorted(neighbours[node])
    weight = np.full(len(around), (1 - idleness) / len(around))
    return ([node, *around], np.array([idleness, *weight])) if idleness else (around, weight)


def _distance(neighbours: list[set[int]], a: int, b: int) -> int:
    """Between nodes that are at most 3 edges apart."""
    if a == b:
        return 0
    if b in neighbours[a]:
        return 1
    return 3 if neighbours[a].isdisjoint(neighbours[b]) else 2


def _of_edges(graph: GraphLike, compute: Callable[[list[set[int]], int, int], float]) -> Tensor:
    """The curvature of each edge; computed once for both directions and parallel edges."""
    check_graph(graph)
    neighbours, ends = neighbour_sets(simple_adjacency(graph)), torch.stack([end.long().cpu() for end in graph.edges()])
    pairs, edge = torch.unique(ends.sort(0).values, dim=1, return_inverse=True)
    values = []
    with ProgressBar("edges", pairs.shape[1]) as bar:
        for pair in pairs.T.tolist():
            values.append(compute(neighbours, *pair))
            bar.advance()
    return torch.tensor(values, dtype=torch.float64)[edge]


def neighbour_sets(matrix: csr_matrix) -> list[set[int]]:
    """The neighbours of each node."""
    return [set(part.tolist()) for part in np.split(matrix.indices, matrix.indptr[1:-1])]
