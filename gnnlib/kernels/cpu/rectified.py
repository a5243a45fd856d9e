"""Sums of messages after a ReLU, with a vector per edge: no message is stored."""

from typing import NamedTuple

import numpy as np
from torch import Tensor

from gnnlib.kernels.cpu.rows import sums
from gnnlib.kernels.cpu.team import Array, kernel
from gnnlib.kernels.cpu.vectors import at, get, lanes, lines, number, put, scaled, where_above, where_at_most, zero


class RectifiedSumArgs(NamedTuple):
    indices: Array
    eid: Array
    x: Array
    e: Array
    coeff: Array
    y: Array
    width: int


@kernel(RectifiedSumArgs)
def _rectified_sum(row, args):
    x, e, y, width = args.x, args.e, args.y, args.width
    step, o, one, none = lanes(y), row.v * width, number(y, 1), zero(y)
    first, end = row.low * step, min(row.high * step, width)
    for f in range(first, end, step):
        put(y, o + f, none, width - f)
    for s in range(row.start, row.stop):
        i, k = np.int64(at(args.indices, s)) * width, np.int64(at(args.eid, s))
        b, k = at(args.coeff, k), k * width
        for f in range(first, end, step):
            remaining = width - f
            z = scaled(one, get(x, i + f, remaining), get(e, k + f, remaining))
            z = where_above(none, z, none, z)  # NaN stays NaN
            put(y, o + f, scaled(b, z, get(y, o + f, remaining)), remaining)


class RectifiedGradArgs(NamedTuple):
    indices: Array
    eid: Array
    x: Array
    e: Array
    coeff: Array
    grad: Array
    out: Array
    width: int


@kernel(RectifiedGradArgs)
def _rectified_grad(row, args):
    x, e, out, width = args.x, args.e, args.out, args.width
    step, o, one, none = lanes(out), row.v * width, number(out, 1), zero(out)
    first, end = row.low * step, min(row.high * step, width)
    for s in range(row.start, row.stop):
        i, k = np.int64(at(args.indices, s)) * width, np.int64(at(args.eid, s))
        b, k = at(args.coeff, k), k * width
        for f in range(first, end, step):
            remaining = width - f
            z = scaled(one, get(x, i + f, remaining), get(e, k + f, remaining))
            grad = scaled(b, get(args.grad, o + f, remaining), none)
            put(out, k + f, where_at_most(z, none, none, grad), remaining)


def rectified_sum(adj, x: Tensor, e: Tensor, coeff: Tensor) -> Tensor:
    width = x.shape[1]
    y = sums(x, adj.indptr.shape[0] - 1, width)
    arrays = adj.indices, adj.eid, x, e, coeff, y
    _rectified_sum(e.numel(), adj.indptr, lines(x, width), RectifiedSumArgs(*arrays, width))
    return y.to(x.dtype)


def rectified_grad(adj, x: Tensor, e: Tensor, coeff: Tensor, grad: Tensor) -> Tensor:
    out, width = e.new_empty(*e.shape), x.shape[1]
    arrays = adj.indices, adj.eid, x, e, coeff, grad, out
    _rectified_grad(e.numel(), adj.indptr, lines(x, width), RectifiedGradArgs(*arrays, width))
    return out
