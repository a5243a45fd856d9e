"""Means and maxima of messages after a ReLU. Messages are computed in registers, and again in the backward pass.

The loop over the edges of a row is within the loop over its columns, so the values of a column stay in registers: the
row's own features, the sums, and the weights C of the edge features r, of which there are a few. The weights come in
blocks of `BLOCK`, padded with zeros; the number of blocks is `static`.
"""

from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from gnnlib.kernels.cpu.compile import jit_callee
from gnnlib.kernels.cpu.rows import AHEAD, empty, numbers, static
from gnnlib.kernels.cpu.team import CHUNKS, FASTMATH, Array, kernel
from gnnlib.kernels.cpu.vectors import (
    at,
    fill,
    get,
    lanes,
    lines,
    number,
    per_line,
    prefetch,
    put,
    scaled,
    where_above,
    where_equal,
    zero,
)
from gnnlib.kernels.reference import edge_ids

BLOCK = 4

inline = partial(jit_callee, fastmath=FASTMATH, _nrt=False, forceinline=True)


class Inputs(NamedTuple):
    """``stride``: numbers from the features of an edge to those of the next; 0 if all edges have the same."""

    a: Array
    b: Array
    r: Array
    c: Array
    share: Array
    width: int
    stride: int
    blocks: tuple


class MeanMaxArgs(NamedTuple):
    indices: Array
    eid: Array
    a: Array
    b: Array
    r: Array
    c: Array
    share: Array
    width: int
    stride: int
    blocks: tuple
    mean: Array
    top: Array
    arg: Array


class GradArgs(NamedTuple):
    """By destination: d_out is d_b. By source: d_out is d_a, and d_c is empty."""

    indices: Array
    eid: Array
    a: Array
    b: Array
    r: Array
    c: Array
    share: Array
    width: int
    stride: int
    blocks: tuple
    arg: Array
    d_mean: Array
    d_top: Array
    d_out: Array
    d_c: Array


@inline
def _ahead(indices, s):
    """The row that is read `AHEAD` slots later, or the last one."""
    return np.int64(at(indices, min(s + AHEAD, len(indices) - 1)))


@inline
def _message(base, x, i, args, e, f, remaining):
    """base + x[i] + r[e] C, in the columns from f on."""
    r, c, k, width = args.r, args.c, e * args.stride, args.width
    z = scaled(number(x, 1), get(x, i + f, remaining), base)
    for d in range(0, BLOCK * len(args.blocks), BLOCK):
        o = d * width + f
        z = scaled(at(r, k + d), get(c, o, remaining), z)
        z = scaled(at(r, k + d + 1), get(c, o + width, remaining), z)
        z = scaled(at(r, k + d + 2), get(c, o + 2 * width, remaining), z)
        z = scaled(at(r, k + d + 3), get(c, o + 3 * width, remaining), z)
    return z


@inline
def _message_grad(like, z, edge, arg, d_mean, d_top):
    """The gradient of z: ``d_mean`` where z is above 0, plus ``d_top`` where ``edge`` is the maximum."""
    part = where_above(z, zero(like), d_mean, zero(like))
    return scaled(number(like, 1), part, where_equal(arg, edge, d_top, zero(like)))


@inline
def _add(y, o, vector, remaining):
    put(y, o, scaled(number(y, 1), vector, get(y, o, remaining)), remaining)


@kernel(MeanMaxArgs)
def _mean_max(row, args):
    indices, mean, arg, width, v = args.indices, args.mean, args.arg, args.width, row.v
    step, one, none = lanes(mean), number(mean, 1), zero(mean)
    first, end = row.low * step, min(row.high * step, width)
    for s in range(row.start, row.stop):
        o = _ahead(indices, s) * width
        for f in range(o + first, o + end, per_line(args.a)):
            prefetch(args.a, f)
    for f in range(first, end, step):
        remaining, o = width - f, v * width + f
        base, sum_, best, best_edge = get(args.b, o, remaining), none, none, fill(arg, arg.dtype.type(-1))
        for s in range(row.start, row.stop):
            u, e = np.int64(at(indices, s)), np.int64(at(args.eid, s))
            z = _message(base, args.a, u * width, args, e, f, remaining)
            m = where_above(none, z, none, z)  # NaN stays NaN
            sum_ = scaled(one, m, sum_)
            best_edge = where_above(m, best, fill(arg, arg.dtype.type(e)), best_edge)
            best = where_above(m, best, m, best)
        put(mean, o, scaled(args.share[v], sum_, none), remaining)
        put(args.top, o, where_above(sum_, fill(mean, -one), best, sum_), remaining)  # NaN if a message is
        put(arg, o, best_edge, remaining)


@kernel(GradArgs)
def _grad_by_dst(row, args):
    indices, r, arg, d_b, width, v = args.indices, args.r, args.arg, args.d_out, args.width, row.v
    step, one, none, num_feats = lanes(d_b), number(d_b, 1), zero(d_b), BLOCK * len(args.blocks)
    first, end = row.low * step, min(row.high * step, width)
    for s in range(row.start, row.stop):
        o = _ahead(indices, s) * width
        for f in range(o + first, o + end, per_line(args.a)):
            prefetch(args.a, f)
    for f in range(first, end, step):
        remaining, o = width - f, v * width + f
        base, best_edge, d_top = get(args.b, o, remaining), get(arg, o, remaining), get(args.d_top, o, remaining)
        d_mean = scaled(args.share[v], get(args.d_mean, o, remaining), none)
        for d in range(0, num_feats, BLOCK):
            sum_, c0, c1, c2, c3 = none, none, none, none, none
            for s in range(row.start, row.stop):
                u, e = np.int64(at(indices, s)), np.int64(at(args.eid, s))
                z = _message(base, args.a, u * width, args, e, f, remaining)
                dz = _message_grad(d_b, z, fill(arg, arg.dtype.type(e)), best_edge, d_mean, d_top)
                k = e * args.stride + d
                sum_ = scaled(one, dz, sum_)
                c0, c1 = scaled(at(r, k), dz, c0), scaled(at(r, k + 1), dz, c1)
                c2, c3 = scaled(at(r, k + 2), dz, c2), scaled(at(r, k + 3), dz, c3)
            put(d_b, o, sum_, remaining)
            t = (row.chunk * num_feats + d) * width + f
            _add(args.d_c, t, c0, remaining)
            _add(args.d_c, t + width, c1, remaining)
            _add(args.d_c, t + 2 * width, c2, remaining)
            _add(args.d_c, t + 3 * width, c3, remaining)


@kernel(GradArgs)
def _grad_by_src(row, args):
    indices, arg, d_a, width, u = args.indices, args.arg, args.d_out, args.width, row.v
    step, one, none = lanes(d_a), number(d_a, 1), zero(d_a)
    first, end = row.low * step, min(row.high * step, width)
    for s in range(row.start, row.stop):
        o = _ahead(indices, s) * width
        for f in range(o + first, o + end, step):
            prefetch(args.b, f)
            prefetch(arg, f)
            prefetch(args.d_mean, f)
            prefetch(args.d_top, f)
    for f in range(first, end, step):
        remaining = width - f
        base, sum_ = get(args.a, u * width + f, remaining), none
        for s in range(row.start, row.stop):
            v, e = np.int64(at(indices, s)), np.int64(at(args.eid, s))
            o = v * width + f
            z = _message(base, args.b, v * width, args, e, f, remaining)
            d_mean = scaled(at(args.share, v), get(args.d_mean, o, remaining), none)
            best_edge, d_top = get(arg, o, remaining), get(args.d_top, o, remaining)
            dz = _message_grad(d_a, z, fill(arg, arg.dtype.type(e)), best_edge, d_mean, d_top)
            sum_ = scaled(one, dz, sum_)
        put(d_a, u * width + f, sum_, remaining)


def _inputs(a: Tensor, b: Tensor, r: Tensor, c: Tensor, share: Tensor) -> Inputs:
    """The inputs of all kernels. Without edge features all edges share one row of zeros."""
    num_feats = BLOCK * max(1, -(-len(c) // BLOCK))
    r = pad(r, (0, num_feats - len(c))) if len(c) else r.new_zeros(num_feats)
    weight = numbers(pad(c, (0, 0, 0, num_feats - len(c))))
    arrays = a, b, r, weight, numbers(share)
    return Inputs(*arrays, b.shape[1], num_feats if len(c) else 0, static(num_feats // BLOCK))


def rectified_mean_max(csc, a: Tensor, b: Tensor, r: Tensor, c: Tensor, share: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    mean, top, arg = torch.empty_like(b), torch.empty_like(b), torch.empty_like(b, dtype=edge_ids(b))
    work, columns = len(csc.eid) * (len(c) + BLOCK) * b.shape[1], lines(b, b.shape[1])
    outputs = mean, top, arg
    args = MeanMaxArgs(csc.indices, csc.eid, *_inputs(a, b, r, c, share), *outputs)
    _mean_max(work, csc.indptr, columns, args)
    return mean, top, arg


def rectified_mean_max_grad(
    csc, csr, a: Tensor, b: Tensor, r: Tensor, c: Tensor, share: Tensor, arg: Tensor, d_mean: Tensor, d_top: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    inputs = _inputs(a, b, r, c, share)
    num_feats = BLOCK * len(inputs.blocks)
    d_a, d_b, d_c = torch.empty_like(a), torch.empty_like(b), numbers(c).new_zeros(CHUNKS, num_feats, c.shape[1])
    work, columns = len(csc.eid) * (len(c) + BLOCK) * b.shape[1], lines(b, b.shape[1])
    grads = arg, d_mean, d_top
    by_dst = GradArgs(csc.indices, csc.eid, *inputs, *grads, d_b, d_c)
    by_src = GradArgs(csr.indices, csr.eid, *inputs, *grads, d_a, empty(numbers(c)))
    _grad_by_dst(2 * work, csc.indptr, columns, by_dst)
    _grad_by_src(work, csr.indptr, columns, by_src)
    return d_a, d_b, d_c.sum(0)[: len(c)]
