"""What all rewirings share: the simple graph of each graph of a batch, and the change of its edges."""

import math
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from scipy.sparse import csr_matrix

from gnnlib.analysis.smoothing.base import adjacency_matrix, check_graph, simple_adjacency
from gnnlib.graph import GraphLike, add_edges, edge_endpoints, keep_edges
from gnnlib.nn._arguments import integer

__all__ = ["Change", "check_fill", "extend", "pair_array", "rewire"]


class Change(NamedTuple):
    """Pairs of nodes (P, 2), without a direction."""

    insertions: np.ndarray
    deletions: np.ndarray


def pair_array(pairs: Iterable[tuple[int, int]]) -> np.ndarray:
    """Pairs of nodes as an array (P, 2)."""
    return np.array(list(pairs), dtype=np.int64).reshape(-1, 2)


def rewire(
    name: str,
    graph: GraphLike,
    num_edges: int | float,
    fill: float | None,
    change: Callable[[csr_matrix, int], Change],
) -> GraphLike:
    """The graph after the change of each graph of the batch.

    Args:
        name: of the function, for errors
        graph: with every edge in both directions
        num_edges: of each graph; a float: a fraction of its edges, rounded up
        fill: the features of new edges
        change: called on the adjacency matrix of a simple graph and the number of edges
    """
    check_graph(graph)
    check_fill(name, graph, fill)
    counts = adjacency_matrix(graph).tocsr()
    if one_way := (counts != counts.T).nnz // 2:
        raise ValueError(f"{name}: expected every edge in both directions, got {one_way} pairs of nodes that differ")
    matrix = simple_adjacency(graph)
    bounds = [0, *np.cumsum(graph.batch_num_nodes().tolist()).tolist()]
    insertions, deletions = [], []
    for low, high in pairwise(bounds):
        part = matrix[low:high, low:high]
        pairs = change(part, _number(name, num_edges, part.nnz // 2))
        insertions.append(pairs.insertions + low)
        deletions.append(pairs.deletions + low)
    return _apply(graph, np.concatenate(insertions), np.concatenate(deletions), fill)


def _number(name: str, num_edges: int | float, edges: int) -> int:
    if isinstance(num_edges, float) and 0 <= num_edges < math.inf:
        return math.ceil(num_edges * edges)
    return integer(name, "num_edges", num_edges, minimum=0)


def check_fill(name: str, graph: GraphLike, fill: float | None) -> None:
    """Checks that new edges have features where the others have.

    Raises:
        ValueError: if they have none
    """
    if fill is None and len(graph.edata):
        names = ", ".join(sorted(map(str, graph.edata)))
        raise ValueError(f"{name}: expected fill, the features of new edges, as edges have {names}, got None")


def _apply(graph: GraphLike, insertions: np.ndarray, deletions: np.ndarray, fill: float | None) -> GraphLike:
    if len(deletions):
        n, (src, dst) = graph.num_nodes(), (end.long().cpu().numpy() for end in edge_endpoints(graph))
        both = np.concatenate([deletions, deletions[:, ::-1]])
        keep = ~np.isin(src * n + dst, both[:, 0] * n + both[:, 1])
        graph = keep_edges(graph, torch.from_numpy(keep))
    return extend(graph, np.concatenate([insertions, insertions[:, ::-1]]), fill)


def extend(graph: GraphLike, edges: np.ndarray, fill: float | None) -> GraphLike:
    """The graph with more edges, (A, 2) from the first to the second node."""
    src, dst = torch.from_numpy(edges).T
    return add_edges(graph, src, dst, fill=1.0 if fill is None else fill)
