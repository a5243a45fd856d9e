"""The lower bound of an aggregation's time: its memory traffic with almost no arithmetic."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

import gnnlib
from gnnlib._platform.dgl import dgl
from gnnlib.benchmarks.speed.measure import CPU_CLOCK, Clock

LINE = 16  # numbers in a cache line


class Touched(NamedTuple):
    """The arguments of the kernel of `_touch`."""

    indices: Tensor
    eid: Tensor
    coeff: Tensor
    x: Tensor
    y: Tensor
    width: int
    coeffs: int


def _touch() -> Any:
    """A kernel that reads a number from each cache line of the rows and coefficients that a node sums, and writes y.

    The numbers are integers, because each sum of floats waits for the one before.
    """
    from gnnlib.kernels.cpu.rows import AHEAD  # imported here: numba takes its time
    from gnnlib.kernels.cpu.team import Kernel
    from gnnlib.kernels.cpu.vectors import prefetch

    def touch(row, args):
        indices, eid, coeff, x, y, width, coeffs = args
        total, last = np.int32(0), len(indices) - 1
        for s in range(row.start, row.stop):
            coming = min(s + AHEAD, last)
            for f in range(0, width, LINE):
                prefetch(x, indices[coming] * width + f)
            for h in range(0, coeffs, LINE):
                prefetch(coeff, eid[coming] * coeffs + h)
            for f in range(0, width, LINE):
                total ^= x[indices[s] * width + f]
            for h in range(0, coeffs, LINE):
                total ^= coeff[eid[s] * coeffs + h]
        for f in range(width):
            y[row.v * width + f] = total

    return Kernel(touch, Touched, cache=False)


def gather(graph: dgl.DGLGraph, width: int, coeffs: int = 0) -> tuple[Callable[[], None], int]:
    """The memory traffic of an aggregation, on as many threads as PyTorch uses.

    Args:
        graph: the graph
        width: of the rows, (N, width) floats
        coeffs: coefficients for each edge

    Returns:
        a function that reads and writes the memory, and the number of bytes
    """
    adj = gnnlib.adjacency(graph).csc
    x, coeff = (torch.ones(n, dtype=torch.int32) for n in (graph.num_nodes() * width, graph.num_edges() * coeffs))
    y, touch = torch.zeros_like(x), _touch()
    moved = graph.num_edges() * (width + 1 + coeffs + (coeffs > 0)) * 4 + y.nbytes + adj.indptr.nbytes

    def run() -> None:
        args = Touched(adj.indices, adj.eid, coeff, x, y, width, coeffs)
        touch(graph.num_edges() * width, adj.indptr, 1, args)

    return run, moved


def copy_bandwidth(
    size: int = 1 << 26, repeats: int = 5, device: torch.device | None = None, clock: Clock = CPU_CLOCK
) -> float:
    """The bytes per second that a copy of a large array reads and writes, the best of some repetitions."""
    x = torch.ones(size // 4, device=device)
    y: Tensor = torch.empty_like(x)
    return 2 * size / min(clock.seconds(lambda: y.copy_(x)) for _ in range(repeats))
