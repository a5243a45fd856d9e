"""Sums of messages with dropout on single entries (DropMessage, Fang et al. 2023, arXiv 2204.10037).

Neither messages nor masks are stored: whether an entry is dropped is a function of a key, its edge and its column, so
every pass makes the same choice. bfloat16 is widened first: the hash takes longer than the reads.
"""

from typing import NamedTuple

import numpy as np
from torch import Tensor

from gnnlib.kernels.cpu.edges import EDGE_PARTS, FASTMATH_DOT
from gnnlib.kernels.cpu.rows import AHEAD, empty, fetch, inline, scalar
from gnnlib.kernels.cpu.team import Array, kernel
from gnnlib.kernels.cpu.vectors import at, lanes, lines, number, write
from gnnlib.kernels.half import widened


@inline
def mix(h):
    """32 bits that depend on all bits of h: the hash "lowbias32" (Wellons 2018,
    https://nullprogram.com/blog/2018/07/31)."""
    h = np.uint32((h ^ (h >> np.uint32(16))) * np.uint32(0x7FEB352D))
    h = np.uint32((h ^ (h >> np.uint32(15))) * np.uint32(0x846CA68B))
    return np.uint32(h ^ (h >> np.uint32(16)))


@inline
def retains(edge_hash, column, level):
    return mix(np.uint32(edge_hash + np.uint32(column) * np.uint32(0x9E3779B9))) >= level


@inline
def add_retained(y, o, x, i, c, n, first, edge_hash, level):
    """y[o : o + n] += c x[i : i + n] without the dropped entries; the columns are first, first + 1, ..."""
    none = number(y, 0)
    for f in range(n):
        value = at(x, i + f) if retains(edge_hash, first + f, level) else none
        write(y, o + f, at(y, o + f) + c * value)


class DroppedSumArgs(NamedTuple):
    """``coeff``: (E, heads), or empty for none, with one head."""

    indices: Array
    eid: Array
    x: Array
    coeff: Array
    y: Array
    heads: int
    width: int
    scale: float
    key: int
    level: int


@kernel(DroppedSumArgs)
def _dropped_sum(row, args):
    indices, x, coeff, y, heads, width = args.indices, args.x, args.coeff, args.y, args.heads, args.width
    stride, last, step, v = heads * width, len(indices) - 1, width if heads > 1 else lanes(y), row.v
    begin, end = row.low * step, min(row.high * step, stride)
    for f in range(v * stride + begin, v * stride + end):
        write(y, f, number(y, 0))
    for s in range(row.start, row.stop):
        fetch(x, np.int64(at(indices, min(s + AHEAD, last))) * stride, stride)
        i, e = np.int64(at(indices, s)) * stride, np.int64(at(args.eid, s))
        edge_hash = mix(np.uint32(args.key + e))
        if heads == 1:
            c = args.scale * at(coeff, e) if len(coeff) else args.scale
            add_retained(y, v * stride + begin, x, i + begin, c, end - begin, begin, edge_hash, args.level)
        else:
            for h in range(row.low, row.high):
                f, c = h * width, args.scale * at(coeff, e * heads + h)
                add_retained(y, v * stride + f, x, i + f, c, width, f, edge_hash, args.level)


class DroppedDotArgs(NamedTuple):
    indices: Array
    eid: Array
    x: Array
    y: Array
    out: Array
    heads: int
    width: int
    scale: float
    key: int
    level: int


@kernel(DroppedDotArgs, fastmath=FASTMATH_DOT)
def _dropped_dot(row, args):
    x, y, heads, width, start, stop = args.x, args.y, args.heads, args.width, row.start, row.stop
    stride, none = heads * width, number(y, 0)
    first, end = start + (stop - start) * row.low // EDGE_PARTS, start + (stop - start) * row.high // EDGE_PARTS
    for s in range(first, end):
        i, e = np.int64(at(args.indices, s)) * stride, np.int64(at(args.eid, s))
        edge_hash, o = mix(np.uint32(args.key + e)), row.v * stride
        for h in range(heads):
            sum_ = none
            for f in range(h * width, (h + 1) * width):
                sum_ += at(x, i + f) * (at(y, o + f) if retains(edge_hash, f, args.level) else none)
            write(args.out, e * heads + h, args.scale * sum_)


def _choice(like: Tensor, scale: float, key: int, level: int) -> tuple:
    return scalar(scale, like), np.uint32(key), np.uint32(level)


@widened
def dropped_sum(adj, x: Tensor, coeff: Tensor | None, scale: float, key: int, level: int) -> Tensor:
    heads = 1 if coeff is None else coeff.shape[1]
    width = x.shape[1] * x.shape[2] // heads
    y = x.new_empty(adj.indptr.shape[0] - 1, *x.shape[1:])
    coeff = empty(x) if coeff is None else coeff
    columns = lines(x, width) if heads == 1 else heads
    arrays = adj.indices, adj.eid, x, coeff, y
    args = DroppedSumArgs(*arrays, heads, width, *_choice(x, scale, key, level))
    _dropped_sum(adj.eid.shape[0] * heads * width, adj.indptr, columns, args)
    return y


@widened
def dropped_dot(adj, x: Tensor, y: Tensor, heads: int, scale: float, key: int, level: int) -> Tensor:
    out = x.new_empty(adj.eid.shape[0], heads)
    width = x.shape[1] * x.shape[2] // heads
    arrays = adj.indices, adj.eid, x, y, out
    args = DroppedDotArgs(*arrays, heads, width, *_choice(x, scale, key, level))
    _dropped_dot(adj.eid.shape[0] * heads * width, adj.indptr, EDGE_PARTS, args)
    return out
