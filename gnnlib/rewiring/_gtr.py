"""GTR: greedy total resistance rewiring (Black et al. 2023)."""

import numpy as np
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components

from gnnlib._utils.calls import names_checked
from gnnlib._utils.progress import ProgressBar
from gnnlib.analysis.squashing.resistance import laplacian_of, pseudo_inverse
from gnnlib.graph import GraphLike, takes_graph
from gnnlib.rewiring._rewire import Change, pair_array, rewire

__all__ = ["gtr"]

ROWS = 64  # of the matrix of pairs in memory at a time
Factors = tuple[np.ndarray, np.ndarray]


@names_checked(num_iterations="num_edges=")
@takes_graph()
def gtr(graph: GraphLike, num_edges: int | float, *, fill: float | None = None) -> GraphLike:
    r"""Greedy total resistance rewiring (GTR: Black et al. 2023, arXiv 2302.06835, section 5): edges that reduce the
    sum of the effective resistances of all pairs of nodes.

    Each step adds the edge that reduces the total resistance of its component of n nodes most, which is that of the
    largest

    .. math:: n \frac{B_{uv}^2}{1 + R_{uv}}, \qquad R_{uv} = (1_u - 1_v)^T L^+ (1_u - 1_v), \qquad
        B_{uv}^2 = (1_u - 1_v)^T (L^+)^2 (1_u - 1_v)

    with the pseudo-inverse of the Laplacian. The first component takes O(n^3) time, each edge O(n^2). No edge joins
    two components. There are no random numbers.

    Args:
        graph: a whole graph or a batch, with every edge in both directions. Self-loops stay, and do not count
        num_edges: number of new edges in each graph; a float: as a fraction of its edges
        fill: the features of new edges

    Returns:
        A new graph.

    Raises:
        ValueError: for a graph with two node sets, edges in one direction only, or a component of more than 20000
            nodes
        ValueError: if edges have features and ``fill`` is None

    Example:
        >>> import torch
        >>> from gnnlib.rewiring import gtr
        >>> import dgl
        >>> path = dgl.to_bidirected(dgl.graph(([0, 1, 2, 3, 4], [1, 2, 3, 4, 5])))
        >>> [end[-2:].tolist() for end in gtr(path, 1).edges()]
        [[0, 5], [5, 0]]
    """
    return rewire("gtr", graph, num_edges, fill, _add)


def _add(matrix: csr_matrix, count: int) -> Change:
    _, label = connected_components(matrix, directed=False)
    components = [_Component(matrix, nodes) for nodes in _groups(label) if len(nodes) > 2]
    insertions = []
    with ProgressBar("edges", count) as bar:
        for _ in range(count):
            component = max(components, key=lambda component: component.best[0], default=None)
            if component is None or component.best[0] <= 0:
                break
            insertions.append(component.link(*component.best[1:]))
            bar.advance()
    return Change(pair_array(insertions), pair_array([]))


def _groups(label: np.ndarray) -> list[np.ndarray]:
    order = np.argsort(label, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(label[order])) + 1)


class _Component:
    """A component: the upper triangles of the pseudo-inverse of its Laplacian and of the square of that."""

    def __init__(self, matrix: csr_matrix, nodes: np.ndarray):
        part = matrix[nodes][:, nodes].astype(np.float64)
        self.nodes, self.edges = nodes, part.toarray() > 0
        self.edges |= np.tri(len(nodes), dtype=bool)
        self.inverse = pseudo_inverse(laplacian_of(part).toarray())
        self.square = self.inverse @ self.inverse
        zero = np.zeros(len(nodes))
        self.best = self._sweep((zero, zero), (zero, zero))

    def link(self, u: int, v: int) -> tuple[int, int]:
        """Adds an edge: an update of rank one (Sherman and Morrison 1950). Returns its nodes in the whole graph."""
        w, p = (_column(matrix, u) - _column(matrix, v) for matrix in (self.inverse, self.square))
        scale = 1 / (1 + w[u] - w[v])
        self.edges[u, v] = True
        self.best = self._sweep((-scale * w, w), (w, scale**2 * (w @ w) / 2 * w - scale * p))
        return int(self.nodes[u]), int(self.nodes[v])

    def _sweep(self, of_inverse: Factors, of_square: Factors) -> tuple[float, int, int]:
        """Adds products a b^T to the inverse, and c d^T + d c^T to the square. Returns the largest reduction of the
        total resistance by a new edge, and the edge; 0 if there is none."""
        top, n, (a, b), (c, d) = (0.0, 0, 0), len(self.nodes), of_inverse, of_square
        resistance, biharmonic = self.inverse.diagonal() + a * b, self.square.diagonal() + 2 * c * d
        for low in range(0, n, ROWS):
            rows, columns = slice(low, low + ROWS), slice(low, None)
            inverse, square = self.inverse[rows, columns], self.square[rows, columns]
            inverse += np.outer(a[rows], b[columns])
            square += np.stack([c[rows], d[rows]], 1) @ np.stack([d[columns], c[columns]])
            gain = biharmonic[rows, None] + biharmonic[columns] - 2 * square
            gain /= 1 + resistance[rows, None] + resistance[columns] - 2 * inverse
            gain[self.edges[rows, columns]] = 0
            row, column = np.unravel_index(gain.argmax(), gain.shape)
            if n * gain[row, column] > top[0]:
                top = float(n * gain[row, column]), low + int(row), low + int(column)
        return top


def _column(upper: np.ndarray, u: int) -> np.ndarray:
    """A column of a symmetric matrix, from its upper triangle."""
    return np.concatenate([upper[:u, u], upper[u, u:]])
