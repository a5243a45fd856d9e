"""Gated sums, a part of `gnnlib.kernels.cpu`: every feature of every message has a gate of its own."""

import numpy as np
from torch import Tensor

from gnnlib.kernels.cpu.team import Kernel
from gnnlib.kernels.cpu.vectors import lanes, lines


@Kernel
def _gated_sum(chunk, v, start, stop, low, high, indices, eid, t, x, y, total):
    first, beyond = np.uint64(low * lanes(y)), np.uint64(min(high * lanes(y), y.shape[1]))
    half = y.dtype.type(0.5)
    for f in range(first, beyond):
        y[v, f] = 0
        total[v, f] = 0
    for s in range(start, stop):
        u, e = indices[s], eid[s]
        for f in range(first, beyond):
            gate = half + half * t[e, f]
            y[v, f] += gate * x[u, f]
            total[v, f] += gate


@Kernel
def _gate_grad(chunk, v, start, stop, low, high, indices, eid, t, x, y, grad, out):
    first, beyond = np.uint64(low * lanes(out)), np.uint64(min(high * lanes(out), out.shape[1]))
    one, quarter = out.dtype.type(1), out.dtype.type(0.25)
    for s in range(start, stop):
        u, e = indices[s], eid[s]
        for f in range(first, beyond):
            out[e, f] = quarter * (one - t[e, f] * t[e, f]) * grad[v, f] * (x[u, f] - y[v, f])


def gated_sum(adj, t: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    y, total = (x.new_empty(len(adj.indptr) - 1, x.shape[1]) for _ in range(2))
    _gated_sum(2 * t.numel(), adj.indptr, lines(x, x.shape[1]), adj.indices, adj.eid, t, x, y, total)
    return y, total


def gate_grad(adj, t: Tensor, x: Tensor, y: Tensor, grad: Tensor) -> Tensor:
    out = t.new_empty(*t.shape)
    _gate_grad(4 * t.numel(), adj.indptr, lines(x, x.shape[1]), adj.indices, adj.eid, t, x, y, grad, out)
    return out
