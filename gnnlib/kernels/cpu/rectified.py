"""Sums of rectified messages with a vector for each edge, a part of `gnnlib.kernels.cpu`: no message is written."""

import numpy as np
from torch import Tensor

from gnnlib.kernels.cpu.team import Kernel
from gnnlib.kernels.cpu.vectors import lanes, lines


@Kernel
def _rectified_sum(chunk, v, start, stop, low, high, indices, eid, x, e, coeff, y):
    first, beyond = np.uint64(low * lanes(y)), np.uint64(min(high * lanes(y), y.shape[1]))
    none = y.dtype.type(0)
    for f in range(first, beyond):
        y[v, f] = 0
    for s in range(start, stop):
        u, k = indices[s], eid[s]
        b = coeff[k]
        for f in range(first, beyond):
            z = x[u, f] + e[k, f]
            y[v, f] += b * (none if z <= none else z)  # NaN stays NaN


@Kernel
def _rectified_grad(chunk, v, start, stop, low, high, indices, eid, x, e, coeff, grad, out):
    first, beyond = np.uint64(low * lanes(out)), np.uint64(min(high * lanes(out), out.shape[1]))
    none = out.dtype.type(0)
    for s in range(start, stop):
        u, k = indices[s], eid[s]
        b = coeff[k]
        for f in range(first, beyond):
            out[k, f] = none if x[u, f] + e[k, f] <= none else b * grad[v, f]


def rectified_sum(adj, x: Tensor, e: Tensor, coeff: Tensor) -> Tensor:
    y = x.new_empty(len(adj.indptr) - 1, x.shape[1])
    _rectified_sum(e.numel(), adj.indptr, lines(x, x.shape[1]), adj.indices, adj.eid, x, e, coeff, y)
    return y


def rectified_grad(adj, x: Tensor, e: Tensor, coeff: Tensor, grad: Tensor) -> Tensor:
    out = e.new_empty(*e.shape)
    _rectified_grad(e.numel(), adj.indptr, lines(x, x.shape[1]), adj.indices, adj.eid, x, e, coeff, grad, out)
    return out
