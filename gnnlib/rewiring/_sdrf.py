"""SDRF: stochastic discrete Ricci flow (Topping et al. 2022)."""

import math
from collections.abc import Iterable
from functools import partial

import numpy as np
from scipy.sparse import csr_matrix

from gnnlib._utils.calls import names_checked
from gnnlib._utils.progress import ProgressBar
from gnnlib.analysis.squashing.curvature import balanced_forman, neighbour_sets, square_counts
from gnnlib.graph import GraphLike, takes_graph
from gnnlib.nn._arguments import integer, number
from gnnlib.rewiring._rewire import Change, pair_array, rewire

__all__ = ["sdrf"]

TIE = 1e-9  # difference of improvements that are equal up to rounding


@names_checked(num_iterations="num_edges=", max_iterations="num_edges=", removal_bound="max_curvature=")
@takes_graph()
def sdrf(
    graph: GraphLike,
    num_edges: int | float,
    *,
    tau: float = math.inf,
    max_curvature: float | None = None,
    fill: float | None = None,
    seed: int = 0,
) -> GraphLike:
    r"""Stochastic discrete Ricci flow (SDRF: Topping et al. 2022, arXiv 2111.14522, algorithm 1): edges around the
    edges with the lowest curvature, which are bottlenecks.

    Each step finds the edge i ~ j with the lowest balanced Forman curvature, and adds an edge k ~ l between i or a
    neighbour of i, and j or a neighbour of j, with the probability

    .. math:: p(k, l) \propto \exp\big(\tau \, (\mathrm{Ric}_{kl}(i, j) - \mathrm{Ric}(i, j))\big)

    where the first curvature is that with the edge k ~ l. It then removes the edge with the highest curvature if that
    is above ``max_curvature``. It ends after ``num_edges`` steps, or if no edge can be added at i ~ j.

    Differs from the paper: only the curvatures that an edge changes are computed again.

    Args:
        graph: a whole graph or a batch, with every edge in both directions. Self-loops stay
        num_edges: number of steps in each graph; a float: as a fraction of its edges
        tau: infinity: the edge with the largest improvement; of equal ones a random one
        max_curvature: C+; None: no edge is removed
        fill: the features of new edges
        seed: of the random numbers

    Returns:
        A new graph.

    Raises:
        ValueError: for a graph with two node sets or edges in one direction only
        ValueError: if edges have features and ``fill`` is None

    Example:
        >>> import networkx
        >>> import torch
        >>> from gnnlib.analysis.squashing import balanced_forman_curvature
        >>> from gnnlib.rewiring import sdrf
        >>> import dgl
        >>> src, dst = torch.tensor(list(networkx.barbell_graph(5, 0).edges())).T
        >>> barbell = dgl.to_bidirected(dgl.graph((src, dst)))
        >>> [round(balanced_forman_curvature(g).min().item(), 2) for g in (barbell, sdrf(barbell, 4))]
        [-1.2, -0.8]
    """
    number("sdrf", "tau", tau, minimum=0)
    integer("sdrf", "seed", seed, minimum=0)
    if max_curvature is not None:
        number("sdrf", "max_curvature", max_curvature)
    return rewire("sdrf", graph, num_edges, fill, partial(_flow, tau=tau, bound=max_curvature, seed=seed))


def _flow(matrix: csr_matrix, steps: int, *, tau: float, bound: float | None, seed: int) -> Change:
    random, curved = np.random.default_rng(seed), CurvedGraph(matrix)
    start = set(curved.curvature)
    with ProgressBar("edges", steps) as bar:
        for _ in range(steps if start else 0):
            pairs, gains = improvements(curved.neighbours, *min(curved.curvature, key=curved.curvature.__getitem__))
            if not len(pairs):
                break
            curved.link(*pairs[_choose(gains, tau, random)])
            top = max(curved.curvature, key=curved.curvature.__getitem__)
            if bound is not None and curved.curvature[top] > bound:
                curved.unlink(*top)
            bar.advance()
    end = set(curved.curvature)
    return Change(pair_array(sorted(end - start)), pair_array(sorted(start - end)))


class CurvedGraph:
    """A simple graph and the balanced Forman curvature of its edges i ~ j, i < j, which follows each change."""

    def __init__(self, matrix: csr_matrix):
        self.neighbours = neighbour_sets(matrix)
        self.curvature: dict[tuple[int, int], float] = {}
        self._update((i, j) for i, near in enumerate(self.neighbours) for j in near if i < j)

    def link(self, k: int, l: int) -> None:  # noqa: E741  the paper's names
        """Adds an edge."""
        self.neighbours[k].add(l)
        self.neighbours[l].add(k)
        self._update(self._around(k, l))

    def unlink(self, k: int, l: int) -> None:  # noqa: E741
        """Removes an edge."""
        changed = self._around(k, l)
        self.neighbours[k].remove(l)
        self.neighbours[l].remove(k)
        del self.curvature[min(k, l), max(k, l)]
        self._update(changed - {(k, l), (l, k)})

    def _around(self, k: int, l: int) -> set[tuple[int, int]]:  # noqa: E741
        """The edges whose degrees, triangles or 4-cycles depend on the edge k ~ l."""
        near_k, near_l = self.neighbours[k], self.neighbours[l]
        return (
            {(k, a) for a in near_k}
            | {(l, b) for b in near_l}
            | {(a, b) for a in near_k for b in self.neighbours[a] & near_l}
        )

    def _update(self, pairs: Iterable[tuple[int, int]]) -> None:
        for i, j in {(min(pair), max(pair)) for pair in pairs}:
            self.curvature[i, j] = balanced_forman(self.neighbours, i, j)


def improvements(neighbours: list[set[int]], i: int, j: int) -> tuple[np.ndarray, np.ndarray]:
    """The pairs (P, 2) of SDRF at the edge i ~ j, and by how much each raises its curvature, (P,)."""
    ks, ls = (np.array([v, *sorted(neighbours[v])]) for v in (i, j))
    gain = np.zeros((len(ks), len(ls)))
    _gain_of_squares(gain, neighbours, (i, ks), (j, ls))
    start = balanced_forman(neighbours, i, j)
    for row, k in enumerate(ks):
        gain[row, 0] = _gain_at_end(neighbours, i, j, (int(k), j), start)
    for column, l in enumerate(ls):  # noqa: E741
        gain[0, column] = _gain_at_end(neighbours, i, j, (i, int(l)), start)
    free = np.array([[k != l and l not in neighbours[k] for l in ls.tolist()] for k in ks.tolist()])  # noqa: E741
    rows, columns = free.nonzero()
    return np.stack([ks[rows], ls[columns]], 1), gain[rows, columns]


def _gain_of_squares(
    gain: np.ndarray, neighbours: list[set[int]], i_near: tuple[int, np.ndarray], j_near: tuple[int, np.ndarray]
) -> None:
    """An edge between the neighbours of i and j that are not both's makes a 4-cycle; degrees and triangles stay."""
    (i, ks), (j, ls) = i_near, j_near
    counts = square_counts(neighbours, i, j)
    degree = max(len(neighbours[i]), len(neighbours[j]))
    if min(len(neighbours[i]), len(neighbours[j])) == 1:
        return
    corners, largest = sum(map(len, counts)), max((max(c.values(), default=0) for c in counts), default=0)
    rows = [r for r, k in enumerate(ks.tolist()) if k not in (i, j) and k not in neighbours[j]]
    columns = [c for c, l in enumerate(ls.tolist()) if l not in (i, j) and l not in neighbours[i]]  # noqa: E741
    at_k = np.array([counts[0].get(int(ks[row]), 0) for row in rows], int)[:, None]
    at_l = np.array([counts[1].get(int(ls[column]), 0) for column in columns], int)[None]
    value = (corners + (at_k == 0) + (at_l == 0)) / (np.maximum(np.maximum(at_k, at_l) + 1, largest) * degree)
    gain[np.ix_(rows, columns)] = value - (corners / (largest * degree) if largest else 0)


def _gain_at_end(neighbours: list[set[int]], i: int, j: int, pair: tuple[int, int], start: float) -> float:
    """Of an edge at i or j, which changes a degree."""
    k, l = pair  # noqa: E741
    if k == l or l in neighbours[k]:
        return 0.0
    neighbours[k].add(l)
    neighbours[l].add(k)
    gain = balanced_forman(neighbours, i, j) - start
    neighbours[k].remove(l)
    neighbours[l].remove(k)
    return gain


def _choose(gains: np.ndarray, tau: float, random: np.random.Generator) -> int:
    if math.isinf(tau):
        return int(random.choice(np.flatnonzero(gains >= gains.max() - TIE)))
    weight = np.exp(tau * (gains - gains.max()))
    return int(random.choice(len(gains), p=weight / weight.sum()))
