"""Sums of messages of which single entries are dropped, a part of `gnnlib.kernels.cpu`.

No message and no mask is written: whether an entry is kept is a function of a key, its edge and its column, so that
every pass makes the same choice again.
"""

from functools import partial

import numpy as np
from torch import Tensor

from gnnlib.kernels.cpu.edges import EDGE_PARTS, FASTMATH_DOT
from gnnlib.kernels.cpu.rows import AHEAD, ahead_of, fetch, inline, scalar
from gnnlib.kernels.cpu.team import Kernel
from gnnlib.kernels.cpu.vectors import at, lanes, lines


@inline
def mix(h):
    """32 bits of which each depends on each of h: the hash "lowbias32" (Wellons 2018,
    https://nullprogram.com/blog/2018/07/31)."""
    h = np.uint32((h ^ (h >> np.uint32(16))) * np.uint32(0x7FEB352D))
    h = np.uint32((h ^ (h >> np.uint32(15))) * np.uint32(0x846CA68B))
    return np.uint32(h ^ (h >> np.uint32(16)))


@inline
def kept(of_edge, column, level):
    return mix(np.uint32(of_edge + np.uint32(column) * np.uint32(0x9E3779B9))) >= level


@inline
def add_kept(y, o, x, i, c, n, first, of_edge, level):
    """y[o : o + n] += c x[i : i + n], where kept; the columns are first, first + 1, ..."""
    none = y.dtype.type(0)
    for f in range(np.uint64(n)):
        y[np.uint64(o) + f] += c * (x[np.uint64(i) + f] if kept(of_edge, first + f, level) else none)


@Kernel
def _dropped_sum(chunk, v, start, stop, low, high, indices, eid, x, coeff, y, heads, width, scale, key, level, ahead):
    row, last, step = heads * width, len(indices) - 1, width if heads > 1 else lanes(y)
    begin, end = low * step, min(high * step, row)
    for f in range(np.uint64(v * row + begin), np.uint64(v * row + end)):
        y[f] = 0
    for s in range(start, stop):
        if len(ahead):
            fetch(x, np.int64(at(indices, min(s + AHEAD, last))) * row, row)
        i, e = np.int64(at(indices, s)) * row, np.int64(at(eid, s))
        of_edge = mix(np.uint32(key + e))
        if heads == 1:
            c = scale * at(coeff, e) if len(coeff) else scale
            add_kept(y, v * row + begin, x, i + begin, c, end - begin, begin, of_edge, level)
        else:
            for h in range(low, high):
                f, c = h * width, scale * at(coeff, e * heads + h)
                add_kept(y, v * row + f, x, i + f, c, width, f, of_edge, level)


@partial(Kernel, fastmath=FASTMATH_DOT)
def _dropped_dot(chunk, v, start, stop, low, high, indices, eid, x, y, out, heads, width, scale, key, level):
    row, none = heads * width, y.dtype.type(0)
    first, beyond = start + (stop - start) * low // EDGE_PARTS, start + (stop - start) * high // EDGE_PARTS
    for s in range(first, beyond):
        i, e = np.uint64(at(indices, s)) * np.uint64(row), np.int64(at(eid, s))
        of_edge, o = mix(np.uint32(key + e)), np.uint64(v * row)
        for h in range(heads):
            sum_ = none
            for f in range(np.uint64(h * width), np.uint64((h + 1) * width)):
                sum_ += x[i + f] * (y[o + f] if kept(of_edge, f, level) else none)
            out[e * heads + h] = scale * sum_


def _choice(like: Tensor, scale: float, key: int, level: int) -> tuple:
    return scalar(scale, like), np.uint32(key), np.uint32(level)


def dropped_sum(adj, x: Tensor, coeff: Tensor | None, scale: float, key: int, level: int) -> Tensor:
    heads = 1 if coeff is None else coeff.shape[1]
    width = x.shape[1] * x.shape[2] // heads
    y = x.new_empty(len(adj.indptr) - 1, *x.shape[1:])
    coeff = x.new_empty(0) if coeff is None else coeff.view(-1)
    columns = lines(x, width) if heads == 1 else heads
    arrays = adj.indices, adj.eid, x.view(-1), coeff, y.view(-1)
    choice = _choice(x, scale, key, level)
    _dropped_sum(len(adj.eid) * heads * width, adj.indptr, columns, *arrays, heads, width, *choice, ahead_of(x))
    return y


def dropped_dot(adj, x: Tensor, y: Tensor, heads: int, scale: float, key: int, level: int) -> Tensor:
    out = x.new_empty(len(adj.eid), heads)
    width = x.shape[1] * x.shape[2] // heads
    arrays = adj.indices, adj.eid, x.view(-1), y.view(-1), out.view(-1)
    work = len(adj.eid) * heads * width
    _dropped_dot(work, adj.indptr, EDGE_PARTS, *arrays, heads, width, *_choice(x, scale, key, level))
    return out
