"""Rectified messages, a part of `gnnlib.kernels.cpu`: made in registers, and made again in the backward pass.

The loop over a row's edges is within that over its columns, so that what belongs to a column stays where it is: the
row's own part, sums, and the weights C of the edge features r, of which there are a few. Those come in blocks of
`MANY`, filled up with zeros; ``blocks`` is how many there are, `static`. ``row``
is how far the features of an edge are from those of the next: 0 where all have the same.
"""

from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from gnnlib.kernels.cpu.compile import jit, static
from gnnlib.kernels.cpu.rows import AHEAD
from gnnlib.kernels.cpu.team import CHUNKS, FASTMATH, Kernel
from gnnlib.kernels.cpu.vectors import (
    at,
    every,
    get,
    lanes,
    lines,
    prefetch,
    put,
    scaled,
    where_above,
    where_same,
    zero,
)
from gnnlib.kernels.reference import edge_ids

MANY = 4

inline = partial(jit, cache=False, fastmath=FASTMATH, _nrt=False, forceinline=True)


@inline
def _coming(indices, s):
    """The row that is read `AHEAD` slots later, or the last one."""
    return np.int64(at(indices, min(s + AHEAD, len(indices) - 1)))


@inline
def _join(own, x, i, r, k, c, f, width, blocks, left):
    """own + x[i] + r[k] C, in the columns from f on"""
    z = scaled(x.dtype.type(1), get(x, i + f, left), own)
    for d in range(0, MANY * len(blocks), MANY):
        o = d * width + f
        z = scaled(at(r, k + d), get(c, o, left), z)
        z = scaled(at(r, k + d + 1), get(c, o + width, left), z)
        z = scaled(at(r, k + d + 2), get(c, o + 2 * width, left), z)
        z = scaled(at(r, k + d + 3), get(c, o + 3 * width, left), z)
    return z


@inline
def _part(like, z, edge, won, each, most):
    """The gradient of z: ``each`` where it is above 0, and ``most`` where its edge has won."""
    part = where_above(z, zero(like), each, zero(like))
    return scaled(like.dtype.type(1), part, where_same(won, edge, most, zero(like)))


@inline
def _add(y, o, vector, left):
    put(y, o, scaled(y.dtype.type(1), vector, get(y, o, left)), left)


@Kernel
def _messages(chunk, v, start, stop, low, high, indices, eid, a, b, r, c, share, mean, top, arg, width, row, blocks):
    step, one, none = lanes(mean), mean.dtype.type(1), zero(mean)
    first, beyond = low * step, min(high * step, width)
    for s in range(start, stop):
        o = _coming(indices, s) * width
        for f in range(o + first, o + beyond, step):
            prefetch(a, f)
    for f in range(first, beyond, step):
        left, o = width - f, v * width + f
        own, sum_, best, won = get(b, o, left), none, none, every(arg, arg.dtype.type(-1))
        for s in range(start, stop):
            u, e = np.int64(at(indices, s)), np.int64(at(eid, s))
            z = _join(own, a, u * width, r, e * row, c, f, width, blocks, left)
            m = where_above(none, z, none, z)  # NaN stays NaN
            sum_ = scaled(one, m, sum_)
            won = where_above(m, best, every(arg, arg.dtype.type(e)), won)
            best = where_above(m, best, m, best)
        put(mean, o, scaled(share[v], sum_, none), left)
        put(top, o, where_above(sum_, every(mean, -one), best, sum_), left)  # NaN if a message is
        put(arg, o, won, left)


@Kernel
def _grad_by_target(
    chunk, v, start, stop, low, high, indices, eid, a, b, r, c, share, arg, d_mean, d_top, d_b, d_c, width, row, blocks
):
    step, one, none, n = lanes(d_b), d_b.dtype.type(1), zero(d_b), MANY * len(blocks)
    first, beyond = low * step, min(high * step, width)
    for s in range(start, stop):
        o = _coming(indices, s) * width
        for f in range(o + first, o + beyond, step):
            prefetch(a, f)
    for f in range(first, beyond, step):
        left, o = width - f, v * width + f
        own, won, most = get(b, o, left), get(arg, o, left), get(d_top, o, left)
        each = scaled(share[v], get(d_mean, o, left), none)
        for d in range(0, n, MANY):
            sum_, c0, c1, c2, c3 = none, none, none, none, none
            for s in range(start, stop):
                u, e = np.int64(at(indices, s)), np.int64(at(eid, s))
                z = _join(own, a, u * width, r, e * row, c, f, width, blocks, left)
                dz, k = _part(d_b, z, every(arg, arg.dtype.type(e)), won, each, most), e * row + d
                sum_ = scaled(one, dz, sum_)
                c0, c1 = scaled(at(r, k), dz, c0), scaled(at(r, k + 1), dz, c1)
                c2, c3 = scaled(at(r, k + 2), dz, c2), scaled(at(r, k + 3), dz, c3)
            put(d_b, o, sum_, left)
            t = (chunk * n + d) * width + f
            _add(d_c, t, c0, left)
            _add(d_c, t + width, c1, left)
            _add(d_c, t + 2 * width, c2, left)
            _add(d_c, t + 3 * width, c3, left)


@Kernel
def _grad_by_source(
    chunk, u, start, stop, low, high, indices, eid, a, b, r, c, share, arg, d_mean, d_top, d_a, width, row, blocks
):
    step, one, none = lanes(d_a), d_a.dtype.type(1), zero(d_a)
    first, beyond = low * step, min(high * step, width)
    for s in range(start, stop):
        o = _coming(indices, s) * width
        for f in range(o + first, o + beyond, step):
            prefetch(b, f)
            prefetch(arg, f)
            prefetch(d_mean, f)
            prefetch(d_top, f)
    for f in range(first, beyond, step):
        left = width - f
        own, sum_ = get(a, u * width + f, left), none
        for s in range(start, stop):
            v, e = np.int64(at(indices, s)), np.int64(at(eid, s))
            o = v * width + f
            z = _join(own, b, v * width, r, e * row, c, f, width, blocks, left)
            each = scaled(at(share, v), get(d_mean, o, left), none)
            won, most = get(arg, o, left), get(d_top, o, left)
            sum_ = scaled(one, _part(d_a, z, every(arg, arg.dtype.type(e)), won, each, most), sum_)
        put(d_a, u * width + f, sum_, left)


def _flat(*arrays: Tensor) -> tuple[Tensor, ...]:
    return tuple(t.view(-1) for t in arrays)


def _inputs(a: Tensor, b: Tensor, r: Tensor, c: Tensor, share: Tensor) -> tuple[tuple, tuple]:
    """What all kernels read, and the shape of it. Without edge features all edges have the same zeros."""
    many = MANY * max(1, -(-len(c) // MANY))
    r = pad(r, (0, many - len(c))) if len(c) else r.new_zeros(many)
    arrays = *_flat(a, b, r, pad(c, (0, 0, 0, many - len(c)))), share
    return arrays, (b.shape[1], many if len(c) else 0, static(many // MANY))


def messages(csc, a: Tensor, b: Tensor, r: Tensor, c: Tensor, share: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    given, shape = _inputs(a, b, r, c, share)
    mean, top, arg = torch.empty_like(b), torch.empty_like(b), torch.empty_like(b, dtype=edge_ids(b))
    work, columns = len(csc.eid) * (len(c) + MANY) * b.shape[1], lines(b, b.shape[1])
    _messages(work, csc.indptr, columns, csc.indices, csc.eid, *given, *_flat(mean, top, arg), *shape)
    return mean, top, arg


def messages_grad(
    csc, csr, a: Tensor, b: Tensor, r: Tensor, c: Tensor, share: Tensor, arg: Tensor, d_mean: Tensor, d_top: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    given, shape = _inputs(a, b, r, c, share)
    d_a, d_b, d_c = torch.empty_like(a), torch.empty_like(b), c.new_zeros(CHUNKS, MANY * len(shape[2]), c.shape[1])
    work, columns = len(csc.eid) * (len(c) + MANY) * b.shape[1], lines(b, b.shape[1])
    given = *given, *_flat(arg, d_mean, d_top)
    _grad_by_target(2 * work, csc.indptr, columns, csc.indices, csc.eid, *given, *_flat(d_b, d_c), *shape)
    _grad_by_source(work, csr.indptr, columns, csr.indices, csr.eid, *given, d_a.view(-1), *shape)
    return d_a, d_b, d_c.sum(0)[: len(c)]
