"""What memory allows: the rows that an aggregation reads and writes, with next to no arithmetic."""

import time
from collections.abc import Callable
from functools import cache

import numba
import numpy as np
import torch
from numba import prange
from torch import Tensor

import gnnlib
from gnnlib._dgl import dgl

LINE = 64  # bytes that memory hands out at a time
CHUNKS = 64


@cache
def _touch() -> Callable[..., None]:
    """One number out of each cache line of the rows that each node sums, and their coefficients; then y whole.

    Four rows at a time are on their way; integers, because sums of floats wait for each other.
    """

    def touch(starts, indptr, indices, eid, coeff, x, y, stride):
        width = x.shape[1]
        for chunk in prange(len(starts) - 1):
            for v in range(starts[chunk], starts[chunk + 1]):
                total = np.int32(0)
                start, stop = indptr[v], indptr[v + 1]
                fours = start + (stop - start) // 4 * 4
                for s in range(start, fours, 4):
                    u0, u1, u2, u3 = indices[s], indices[s + 1], indices[s + 2], indices[s + 3]
                    for f in range(0, width, stride):
                        total ^= x[u0, f] ^ x[u1, f] ^ x[u2, f] ^ x[u3, f]
                for s in range(fours, stop):
                    for f in range(0, width, stride):
                        total ^= x[indices[s], f]
                for s in range(start, stop):
                    for h in range(0, coeff.shape[1], stride):
                        total ^= coeff[eid[s], h]
                for f in range(width):
                    y[v, f] = total

    return numba.njit(touch, parallel=True)


def gather(graph: dgl.DGLGraph, width: int, coeffs: int = 0) -> tuple[Callable[[], None], int]:
    """A function that reads and writes what an aggregation of (N, width) floats must, on as many threads as torch
    uses, and the bytes it moves. ``coeffs``: numbers an edge."""
    nb = gnnlib.neighbors(graph).csc
    arrays = [t.numpy() for t in nb]
    x, coeff = np.ones((graph.num_nodes(), width), np.int32), np.ones((graph.num_edges(), coeffs), np.int32)
    y = np.zeros_like(x)
    cuts = np.searchsorted(arrays[0], np.linspace(0, graph.num_edges(), CHUNKS + 1))
    cuts[0], cuts[-1] = 0, graph.num_nodes()
    moved = graph.num_edges() * (width + 1 + coeffs + (coeffs > 0)) * 4 + y.nbytes + arrays[0].nbytes

    def run() -> None:
        numba.set_num_threads(min(torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS))  # type: ignore[attr-defined]
        _touch()(cuts, *arrays, coeff, x, y, LINE // 4)

    return run, moved


def copy_bandwidth(size: int = 1 << 26, repeats: int = 5) -> float:
    """Bytes a second that copying a large array reads and writes, the best of a few times."""
    x = torch.ones(size // 4)
    y: Tensor = torch.empty_like(x)
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        y.copy_(x)
        best = min(best, time.perf_counter() - start)
    return 2 * size / best
