"""Batches of small graphs: runs of rows of flat arrays are copied one after the other. On the CPU only."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from gnnlib.kernels.cpu.compile import jit

__all__ = ["Runs", "copy_runs", "find_contradiction", "find_runs", "shift_runs"]


class Runs(NamedTuple):
    """Run i is rows first[i] to first[i] + size[i] of the source, and rows place[i] to place[i + 1] of the result.

    Shapes:
        - first, size: (B,), int64
        - place: (B + 1,), int64
    """

    first: np.ndarray
    size: np.ndarray
    place: np.ndarray

    @staticmethod
    def all(bounds: np.ndarray) -> "Runs":
        """All segments of an array with the boundaries bounds (G + 1,)."""
        return Runs(bounds[:-1], np.diff(bounds), bounds)


@jit
def _find(chosen, node_bounds, edge_bounds, runs):
    for k in range(2):
        at, (first, size, place) = node_bounds if k == 0 else edge_bounds, runs[k]
        place[0] = 0
        for i in range(len(chosen)):
            first[i] = at[chosen[i]]
            size[i] = at[chosen[i] + 1] - first[i]
            place[i + 1] = place[i] + size[i]


def find_runs(chosen: np.ndarray, node_bounds: np.ndarray, edge_bounds: np.ndarray) -> tuple[Runs, Runs]:
    """The runs of nodes and of edges of the graphs chosen (B,), int64, of G graphs with boundaries (G + 1,)."""
    runs = np.empty((2, 3, len(chosen) + 1), np.int64)
    _find(chosen, node_bounds, edge_bounds, runs)
    return Runs(runs[0, 0, :-1], runs[0, 1, :-1], runs[0, 2]), Runs(runs[1, 0, :-1], runs[1, 1, :-1], runs[1, 2])


@jit
def _copy(x, first, size, place, width, y):
    for i in range(len(first)):
        start, stop = first[i] * width, (first[i] + size[i]) * width
        source, target = x[start:stop], y[place[i] * width : place[i + 1] * width]
        for j in range(len(target)):
            target[j] = source[j]


def copy_runs(x: Tensor, runs: Runs) -> Tensor:
    """x (N, \\*) of any dtype -> (place[-1], \\*)"""
    y = x.new_empty(runs.place[-1], *x.shape[1:])
    width = x.shape[1:].numel() * x.element_size()
    _copy(_bytes(x), *runs, width, _bytes(y))
    return y


def _bytes(x: Tensor) -> np.ndarray:
    try:
        return x.numpy().reshape(-1).view(np.uint8)  # in half the time of torch
    except TypeError:  # numpy has no bfloat16
        return x.view(-1).view(torch.uint8).numpy()


@jit
def _shift(x, first, size, place, by, y):
    num_runs = len(first)
    for i in range(num_runs):
        source, target, shift = x[first[i] : first[i] + size[i]], y[place[i] : place[i + 1]], by[i]
        for j in range(len(target)):
            target[j] = source[j] + shift
    if len(y) > place[num_runs]:
        y[place[num_runs]] = by[num_runs]


def shift_runs(x: Tensor, runs: Runs, by: np.ndarray, dtype: torch.dtype, closed: bool = False) -> Tensor:
    """x (N,) integers, by (B + 1,) -> (place[-1],): adds by[i] to run i. ``closed`` appends a row, by[B]."""
    y = torch.empty(runs.place[-1] + closed, dtype=dtype)
    _shift(x.numpy(), *runs, by, y.numpy())
    return y


@jit
def _contradiction(chosen, node_bounds, edge_bounds, starts, row, column, indices, eid, mixed):
    for graph in chosen:
        first_node, first_edge = node_bounds[graph], edge_bounds[graph]
        num_nodes, num_edges = node_bounds[graph + 1] - first_node, edge_bounds[graph + 1] - first_edge
        k = np.int64(0)
        for v in range(num_nodes):
            stop = np.int64(starts[first_node + v + 1]) if v + 1 < num_nodes else num_edges
            if starts[first_node + v] != k or stop < k or stop > num_edges:
                return graph
            last = np.int64(-1)
            for place in range(first_edge + k, first_edge + stop):
                e = np.int64(eid[place]) if mixed else place - first_edge
                if e <= last or e >= num_edges or row[first_edge + e] != v:
                    return graph
                if mixed and indices[place] != column[first_edge + e]:
                    return graph
                last = e
            k = stop
        if k != num_edges:
            return graph
    return -1


def find_contradiction(
    chosen: np.ndarray,
    bounds: tuple[np.ndarray, np.ndarray],
    starts: np.ndarray,
    row: np.ndarray,
    column: np.ndarray,
    indices: np.ndarray | None,
    eid: np.ndarray | None,
) -> int:
    """The first of the graphs chosen (B,) whose compressed rows are not those of its edges; -1 if there is none.

    Rows without a contradiction list each edge once, in ascending order, and each number of ``row`` is that of a node.
    No number is used as an index before it is compared with the bounds.

    Args:
        chosen: numbers of graphs, (B,) int64
        bounds: of the nodes and of the edges of G graphs, each (G + 1,)
        starts: indptr without its last element, (N,)
        row, column: the endpoints of each edge, (E,): that of its row, and the other
        indices, eid: of the compressed rows, (E,); None if edges are sorted by row
    """
    mixed = eid is not None and indices is not None
    return int(_contradiction(chosen, *bounds, starts, row, column, *((indices, eid) if mixed else (row, row)), mixed))
