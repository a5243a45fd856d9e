"""FoSR: first-order spectral rewiring (Karhadkar et al. 2023)."""

from functools import partial
from heapq import heappop, heappush

import numpy as np
from scipy.sparse import csr_matrix

from gnnlib._utils.calls import names_checked
from gnnlib._utils.progress import ProgressBar
from gnnlib.analysis.squashing.curvature import neighbour_sets
from gnnlib.graph import GraphLike, takes_graph
from gnnlib.nn._arguments import integer
from gnnlib.rewiring._rewire import Change, pair_array, rewire

__all__ = ["fosr"]


@names_checked(num_iterations="num_edges=", initial_power_iters="power_iterations=")
@takes_graph()
def fosr(
    graph: GraphLike,
    num_edges: int | float,
    *,
    power_iterations: int = 50,
    fill: float | None = None,
    seed: int = 0,
) -> GraphLike:
    r"""First-order spectral rewiring (FoSR: Karhadkar, Banerjee and Montufar 2023, arXiv 2210.11790, algorithm 1):
    edges that increase the spectral gap.

    With the eigenvector x of the second largest eigenvalue of D^{-1/2} A D^{-1/2}, each step adds the edge with the
    smallest first term of the derivative of this eigenvalue:

    .. math:: \arg\min_{u \not\sim v} \frac{x_u x_v}{\sqrt{(1 + d_u)(1 + d_v)}}

    Power iteration of the lazy walk estimates the eigenvector, with a step after each new edge. In a graph of several
    components the eigenvector differs between them, and edges join them. It ends earlier if no product is negative. The
    rule is of first order, so a single edge may also reduce the gap.

    Args:
        graph: a whole graph or a batch, with every edge in both directions. Self-loops stay, and do not count
        num_edges: number of new edges in each graph; a float: as a fraction of its edges
        power_iterations: steps before the first edge (the paper's code: 5)
        fill: the features of new edges
        seed: of the random vector at the start

    Returns:
        A new graph.

    Raises:
        ValueError: for a graph with two node sets or edges in one direction only
        ValueError: if edges have features and ``fill`` is None

    Example:
        >>> import networkx
        >>> import torch
        >>> from gnnlib.analysis.squashing import spectral_gap
        >>> from gnnlib.rewiring import fosr
        >>> import dgl
        >>> src, dst = torch.tensor(list(networkx.barbell_graph(5, 0).edges())).T
        >>> barbell = dgl.to_bidirected(dgl.graph((src, dst)))
        >>> [round(spectral_gap(g).item(), 2) for g in (barbell, fosr(barbell, 4))]
        [0.07, 0.4]
    """
    integer("fosr", "power_iterations", power_iterations)
    integer("fosr", "seed", seed, minimum=0)
    return rewire("fosr", graph, num_edges, fill, partial(_add, power_iterations=power_iterations, seed=seed))


def _add(matrix: csr_matrix, count: int, *, power_iterations: int, seed: int) -> Change:
    degree = np.asarray(matrix.sum(1), np.float64).ravel()
    neighbours = neighbour_sets(matrix)
    x = np.random.default_rng(seed).standard_normal(len(degree))
    insertions: list[tuple[int, int]] = []
    for _ in range(power_iterations - 1):
        x = _lazy_step(matrix, insertions, degree, x)
    with ProgressBar("edges", count) as bar:
        for _ in range(count):
            x = _lazy_step(matrix, insertions, degree, x)
            pair = smallest_product(x / np.sqrt(1 + degree), neighbours)
            if pair is None:
                break
            u, v = pair
            insertions.append((min(u, v), max(u, v)))
            neighbours[u].add(v)
            neighbours[v].add(u)
            degree[[u, v]] += 1
            bar.advance()
    return Change(pair_array(insertions), pair_array([]))


def _lazy_step(matrix: csr_matrix, insertions: list[tuple[int, int]], degree: np.ndarray, x: np.ndarray) -> np.ndarray:
    """A step with the matrix and the new edges, orthogonal to the first eigenvector, the root of the degrees."""
    root = np.sqrt(degree)
    x = x - root * (root @ x) / max(degree.sum(), 1)
    potential = np.divide(x, root, out=np.zeros_like(x), where=root > 0)
    product = matrix @ potential
    u, v = pair_array(insertions).T
    np.add.at(product, u, potential[v])
    np.add.at(product, v, potential[u])
    x = x + np.divide(product, root, out=np.zeros_like(x), where=root > 0)
    return x / max(float(np.linalg.norm(x)), np.finfo(float).tiny)


def smallest_product(y: np.ndarray, neighbours: list[set[int]]) -> tuple[int, int] | None:
    """The pair without an edge whose product y_u y_v is smallest, if one is negative.

    Negative products pair a negative entry with a positive one. Sorted by size, the next larger product of a pair is
    that of one of two pairs, so that a heap finds the products in order.
    """
    negative, positive = (order[sign * y[order] > 0] for sign in (-1, 1) for order in [np.argsort(-sign * y)])
    if not len(negative) or not len(positive):
        return None
    heap = [(y[negative[0]] * y[positive[0]], 0, 0)]
    while heap:
        _, a, b = heappop(heap)
        u, v = int(negative[a]), int(positive[b])
        if v not in neighbours[u]:
            return u, v
        if a + 1 < len(negative) and b == 0:  # each pair of ranks has one predecessor
            heappush(heap, (y[negative[a + 1]] * y[positive[b]], a + 1, b))
        if b + 1 < len(positive):
            heappush(heap, (y[negative[a]] * y[positive[b + 1]], a, b + 1))
    return None
