"""Sums of messages after a ReLU, with a vector per edge: no message is stored."""

from typing import NamedTuple

import numpy as np
from torch import Tensor

from gnnlib.kernels.cpu.team import Array, kernel
from gnnlib.kernels.cpu.vectors import lanes, lines


class RectifiedSumArgs(NamedTuple):
    indices: Array
    eid: Array
    x: Array
    e: Array
    coeff: Array
    y: Array


@kernel(RectifiedSumArgs)
def _rectified_sum(row, args):
    x, e, y, v = args.x, args.e, args.y, row.v
    first, end = np.uint64(row.low * lanes(y)), np.uint64(min(row.high * lanes(y), y.shape[1]))
    none = y.dtype.type(0)
    for f in range(first, end):
        y[v, f] = 0
    for s in range(row.start, row.stop):
        u, k = args.indices[s], args.eid[s]
        b = args.coeff[k]
        for f in range(first, end):
            z = x[u, f] + e[k, f]
            y[v, f] += b * (none if z <= none else z)  # NaN stays NaN


class RectifiedGradArgs(NamedTuple):
    indices: Array
    eid: Array
    x: Array
    e: Array
    coeff: Array
    grad: Array
    out: Array


@kernel(RectifiedGradArgs)
def _rectified_grad(row, args):
    x, e, out, v = args.x, args.e, args.out, row.v
    first, end = np.uint64(row.low * lanes(out)), np.uint64(min(row.high * lanes(out), out.shape[1]))
    none = out.dtype.type(0)
    for s in range(row.start, row.stop):
        u, k = args.indices[s], args.eid[s]
        b = args.coeff[k]
        for f in range(first, end):
            out[k, f] = none if x[u, f] + e[k, f] <= none else b * args.grad[v, f]


def rectified_sum(adj, x: Tensor, e: Tensor, coeff: Tensor) -> Tensor:
    y = x.new_empty(len(adj.indptr) - 1, x.shape[1])
    _rectified_sum(e.numel(), adj.indptr, lines(x, x.shape[1]), RectifiedSumArgs(adj.indices, adj.eid, x, e, coeff, y))
    return y


def rectified_grad(adj, x: Tensor, e: Tensor, coeff: Tensor, grad: Tensor) -> Tensor:
    out = e.new_empty(*e.shape)
    args = RectifiedGradArgs(adj.indices, adj.eid, x, e, coeff, grad, out)
    _rectified_grad(e.numel(), adj.indptr, lines(x, x.shape[1]), args)
    return out
