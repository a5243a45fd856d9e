"""Effective resistance and commute time between nodes."""

import numpy as np
import torch
from scipy.sparse import csr_matrix, diags
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from gnnlib._utils.calls import names_checked
from gnnlib.analysis.smoothing.base import adjacency_matrix, check_graph
from gnnlib.graph import GraphLike, takes_graph

__all__ = ["commute_time", "effective_resistance"]

MAX_NODES = 20_000  # of a component: the pseudo-inverse is dense


@names_checked()
@takes_graph()
def effective_resistance(graph: GraphLike, src: Tensor | None = None, dst: Tensor | None = None) -> Tensor:
    r"""The effective resistance of pairs of nodes, where each edge is a resistor of 1 (Klein and Randic 1993): with the
    pseudo-inverse of the Laplacian,

    .. math:: R_{uv} = L^+_{uu} + L^+_{vv} - 2 L^+_{uv}

    The Jacobian of a network between two nodes is small where their resistance is large (Black et al. 2023, arXiv
    2302.06835, theorem 3.2; Di Giovanni et al. 2023, arXiv 2302.02941). Edges in both directions count once, self-loops
    do not count, and parallel edges are parallel resistors. A component takes O(n^3) time and O(n^2) memory.

    Args:
        graph: a whole graph or a batch
        src, dst: the pairs; default: the edges of the graph

    Shapes:
        - src, dst: (P,)
        - output: (P,), float64

    Returns:
        the resistance of each pair; infinity between components

    Raises:
        ValueError: for a graph with two node sets, pairs that do not match, or a component of more than 20000 nodes

    Example:
        >>> import torch
        >>> from gnnlib.analysis.squashing import effective_resistance
        >>> import dgl
        >>> path = dgl.to_bidirected(dgl.graph(([0, 1, 2], [1, 2, 3])))
        >>> effective_resistance(path, torch.tensor([0, 0]), torch.tensor([1, 3])).round(decimals=6).tolist()
        [1.0, 3.0]
    """
    check_graph(graph)
    if (src is None) != (dst is None):
        raise ValueError("effective_resistance: expected both src and dst, or neither, got one")
    ends = graph.edges() if src is None or dst is None else (src, dst)
    rows, columns = (_nodes(graph, name, end) for name, end in zip(("src", "dst"), ends, strict=True))
    if len(rows) != len(columns):
        raise ValueError(f"effective_resistance: expected as many src as dst, got {len(rows)} and {len(columns)}")
    laplacian = _laplacian(graph)
    _, component = connected_components(laplacian, directed=False)
    resistance = np.where(component[rows] == component[columns], 0.0, np.inf)
    for label in np.unique(component[rows][rows != columns]):
        nodes = np.flatnonzero(component == label)
        pairs = (component[rows] == label) & (component[columns] == label)
        inverse = pseudo_inverse(laplacian[nodes][:, nodes].toarray())
        u, v = (np.searchsorted(nodes, end[pairs]) for end in (rows, columns))
        resistance[pairs] = inverse[u, u] + inverse[v, v] - 2 * inverse[u, v]
    return torch.from_numpy(resistance).clamp(min=0)


@names_checked()
@takes_graph()
def commute_time(graph: GraphLike, src: Tensor | None = None, dst: Tensor | None = None) -> Tensor:
    r"""The commute time of pairs of nodes: the expected number of steps of a random walk from u to v and back (Chandra
    et al. 1996), the resistance times the sum of the degrees of the component.

    Args:
        graph: as for `effective_resistance`
        src, dst: the pairs; default: the edges of the graph

    Shapes:
        - src, dst: (P,)
        - output: (P,), float64

    Returns:
        the number of steps; infinity between components

    Example:
        >>> import torch
        >>> from gnnlib.analysis.squashing import commute_time
        >>> import dgl
        >>> path = dgl.to_bidirected(dgl.graph(([0, 1, 2], [1, 2, 3])))
        >>> commute_time(path, torch.tensor([0]), torch.tensor([3])).round(decimals=6).tolist()
        [18.0]
    """
    resistance = effective_resistance(graph, src, dst)
    laplacian = _laplacian(graph)
    _, component = connected_components(laplacian, directed=False)
    total = np.bincount(component, laplacian.diagonal())
    sources = graph.edges()[0] if src is None else src
    return resistance * torch.from_numpy(total[component[_nodes(graph, "src", sources)]])


def _nodes(graph: GraphLike, name: str, end: Tensor) -> np.ndarray:
    nodes = torch.as_tensor(end).cpu().numpy()
    if nodes.ndim != 1 or nodes.dtype.kind not in "iu":
        raise ValueError(f"{name}: expected numbers of nodes (P,), got {nodes.dtype} {nodes.shape}")
    if nodes.size and not 0 <= nodes.min() <= nodes.max() < graph.num_nodes():
        raise ValueError(
            f"{name}: expected nodes from 0 to {graph.num_nodes() - 1}, got {nodes.min()} to {nodes.max()}"
        )
    return nodes


def _laplacian(graph: GraphLike) -> csr_matrix:
    """D - A without self-loops; an edge in both directions counts once."""
    counts = adjacency_matrix(graph).tocsr()
    weight = counts.maximum(counts.T).astype(np.float64)
    weight.setdiag(0)
    weight.eliminate_zeros()
    return laplacian_of(weight)


def laplacian_of(weight: csr_matrix) -> csr_matrix:
    """D - A of a symmetric matrix."""
    return (diags(np.asarray(weight.sum(1)).ravel()) - weight).tocsr()


def pseudo_inverse(laplacian: np.ndarray) -> np.ndarray:
    """Of a connected graph: the inverse after a shift of the constant vector."""
    n = len(laplacian)
    if n > MAX_NODES:
        raise ValueError(f"effective_resistance: expected components of at most {MAX_NODES} nodes, got {n}")
    return np.linalg.inv(laplacian + 1 / n) - 1 / n
