"""Sums and maxima over neighbours.

A row is summed eight cache lines at a time, in registers, in one pass over its edges for each eight, while the lines
of the edges `AHEAD` are prefetched. If each head has its own weights, the lines are those of eight heads. The
remaining lines of a row are taken by four, then one by one. Kernels that add to their output in memory (maxima, taps)
widen bfloat16 first: rounding each time would lose digits, and they take longer than the reads.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from gnnlib.kernels.cpu.rows import AHEAD, add, ahead_of, clear, empty, fetch, scalar, static
from gnnlib.kernels.cpu.team import Array, kernel
from gnnlib.kernels.cpu.tiles import tile_fill, tile_get, tile_numbers, tile_put, tile_scaled, tile_zero
from gnnlib.kernels.cpu.vectors import (
    at,
    get,
    inlined,
    lanes,
    lines,
    number,
    per_line,
    prefetch,
    put,
    scaled,
    write,
    zero,
)
from gnnlib.kernels.half import widened

EIGHT, FOUR, ONE = (static(1),) * 8, (static(1),) * 4, (static(1),)
PLAIN, SCALED, WEIGHTED = range(3)


class SumArgs(NamedTuple):
    """``mode``: `static` PLAIN, SCALED (by scale_u and scale_v) or WEIGHTED (by coeff)."""

    indices: Array
    eid: Array
    scale_u: Array
    scale_v: Array
    coeff: Array
    x: Array
    y: Array
    self_weight: float
    width: int
    mode: tuple


@inlined
def _sum_lines(row, args, f, tile):
    """The lines of a tile, from column f on."""
    indices, eid, coeff, x, y, width = args.indices, args.eid, args.coeff, args.x, args.y, args.width
    step, remaining, last, o = lanes(y), width - f, len(indices) - 1, row.v * width + f
    c = number(y, 1)
    sums = tile_zero(y, tile)
    if args.self_weight != 0 and o < len(x):
        sums = tile_scaled(tile_fill(y, args.self_weight, tile), tile_get(x, o, step, remaining, tile), sums)
    for s in range(row.start, row.stop):
        ahead = min(s + AHEAD, last)
        for k in range(0, len(tile) * step, per_line(x)):
            prefetch(x, np.int64(at(indices, ahead)) * width + f + k)
        if len(args.mode) == WEIGHTED:
            prefetch(coeff, np.int64(at(eid, ahead)))
        u = np.int64(at(indices, s))
        if len(args.mode) == SCALED:
            c = at(args.scale_v, row.v) * at(args.scale_u, u)
        elif len(args.mode) == WEIGHTED:
            c = at(coeff, np.int64(at(eid, s)))
        sums = tile_scaled(tile_fill(y, c, tile), tile_get(x, u * width + f, step, remaining, tile), sums)
    tile_put(y, o, step, sums, remaining, tile)


@kernel(SumArgs)
def _sum(row, args):
    step = lanes(args.y)
    f, end = row.low * step, min(row.high * step, args.width)
    while f + 8 * step <= end:
        _sum_lines(row, args, f, EIGHT)
        f += 8 * step
    while f + 4 * step <= end:
        _sum_lines(row, args, f, FOUR)
        f += 4 * step
    while f < end:
        _sum_lines(row, args, f, ONE)
        f += step


class HeadSumArgs(NamedTuple):
    """``coeff``: (E, heads). ``x_heads``: heads of x, or 1. ``ahead``: `static`; where x is in the cache, a prefetch
    takes a fifth of the time."""

    indices: Array
    eid: Array
    x: Array
    coeff: Array
    y: Array
    heads: int
    x_heads: int
    width: int
    ahead: tuple


@inlined
def _sum_heads(row, args, h, tile):
    """The heads of a tile, from head h on."""
    indices, eid, x, coeff, heads, width = args.indices, args.eid, args.x, args.coeff, args.heads, args.width
    stride, step, last = args.x_heads * width, width * (args.x_heads > 1), len(indices) - 1
    for f in range(0, width, lanes(args.y)):
        remaining, g, sums = width - f, h * step + f, tile_zero(args.y, tile)
        for s in range(row.start, row.stop):
            if len(args.ahead):
                ahead = min(s + AHEAD, last)
                for k in range(len(tile)):
                    prefetch(x, np.int64(at(indices, ahead)) * stride + g + k * step)
                prefetch(coeff, np.int64(at(eid, ahead)) * heads + h)
            c = tile_numbers(coeff, np.int64(at(eid, s)) * heads + h, tile)
            sums = tile_scaled(c, tile_get(x, np.int64(at(indices, s)) * stride + g, step, remaining, tile), sums)
        tile_put(args.y, (row.v * heads + h) * width + f, width, sums, remaining, tile)


@kernel(HeadSumArgs)
def _sum_each_head(row, args):
    h = row.low
    while h + 8 <= row.high:
        _sum_heads(row, args, h, EIGHT)
        h += 8
    while h + 4 <= row.high:
        _sum_heads(row, args, h, FOUR)
        h += 4
    while h < row.high:
        _sum_heads(row, args, h, ONE)
        h += 1


@kernel(HeadSumArgs)
def _sum_over_heads(row, args):
    indices, eid, x, coeff, heads, width = args.indices, args.eid, args.x, args.coeff, args.heads, args.width
    stride, step, last = args.x_heads * width, width * (args.x_heads > 1), len(indices) - 1
    for f in range(row.low * lanes(args.y), min(row.high * lanes(args.y), width), lanes(args.y)):
        remaining, sum_ = width - f, zero(args.y)
        for s in range(row.start, row.stop):
            if len(args.ahead):
                prefetch(coeff, np.int64(at(eid, min(s + AHEAD, last))) * heads)
                fetch(x, np.int64(at(indices, min(s + AHEAD, last))) * stride, stride)
            i, e = np.int64(at(indices, s)) * stride + f, np.int64(at(eid, s)) * heads
            for h in range(heads):
                sum_ = scaled(at(coeff, e + h), get(x, i + h * step, remaining), sum_)
        put(args.y, row.v * width + f, sum_, remaining)


def neighbour_sum(adj, x: Tensor, coeff: Tensor | None, heads: int, self_weight: float = 0.0) -> Tensor:
    x_heads, width = x.shape[1:]
    y = x.new_empty(adj.indptr.shape[0] - 1, heads, width)
    if coeff is None:
        assert heads == x_heads
        _sum_rows(adj, x, y, heads * width, self_weight=self_weight)
    elif coeff.shape[1] == 1:
        assert self_weight == 0
        _sum_rows(adj, x, y, width, coeff=coeff)
    else:
        compute, columns = (_sum_over_heads, lines(x, width)) if heads == 1 else (_sum_each_head, heads)
        arrays = adj.indices, adj.eid, x, coeff, y
        args = HeadSumArgs(*arrays, coeff.shape[1], x_heads, width, ahead_of(x))
        compute(coeff.numel() * width, adj.indptr, columns, args)
    return y


def scaled_sum(adj, x: Tensor, scale_u: Tensor, scale_v: Tensor) -> Tensor:
    y = x.new_empty(adj.indptr.shape[0] - 1, x.shape[1])
    _sum_rows(adj, x, y, x.shape[1], scale=(scale_u, scale_v))
    return y


def _sum_rows(
    adj,
    x: Tensor,
    y: Tensor,
    width: int,
    self_weight: float = 0.0,
    scale: tuple[Tensor, Tensor] | None = None,
    coeff: Tensor | None = None,
) -> None:
    none = empty(x)
    mode = static(SCALED if scale is not None else PLAIN if coeff is None else WEIGHTED)
    factors = *(scale or (none, none)), none if coeff is None else coeff
    args = SumArgs(adj.indices, adj.eid, *factors, x, y, scalar(self_weight, x), width, mode)
    _sum(adj.indices.shape[0] * width, adj.indptr, lines(x, width), args)


class TapSumArgs(NamedTuple):
    """``tap``: (E,) the tap of each edge, less than ``num_taps``."""

    indices: Array
    eid: Array
    tap: Array
    x: Array
    z: Array
    signals: int
    num_taps: int
    width: int
    ahead: tuple


@kernel(TapSumArgs)
def _tap_sum(row, args):
    indices, x, z, width, low, high = args.indices, args.x, args.z, args.width, row.low, row.high
    stride, signal, one, last = args.signals * width, args.num_taps * width, number(z, 1), len(indices) - 1
    o = row.v * args.signals * signal
    clear(z, o + low * signal, (high - low) * signal)
    for s in range(row.start, row.stop):
        if len(args.ahead):
            fetch(x, at(indices, min(s + AHEAD, last)) * stride + low * width, (high - low) * width)
        i, t = at(indices, s) * stride, np.int64(at(args.tap, np.int64(at(args.eid, s)))) * width
        for b in range(low, high):
            add(z, o + b * signal + t, x, i + b * width, one, width)


@widened
def tap_sum(adj, x: Tensor, tap: Tensor, num_taps: int) -> Tensor:
    signals, width = x.shape[1:]
    z = x.new_empty(adj.indptr.shape[0] - 1, signals, num_taps, width)
    shape = signals, num_taps, width, ahead_of(x)
    work = adj.eid.shape[0] * signals * width + z.numel()
    _tap_sum(work, adj.indptr, signals, TapSumArgs(adj.indices, adj.eid, tap.int(), x, z, *shape))
    return z


class EdgeSumArgs(NamedTuple):
    eid: Array
    value: Array
    y: Array
    heads: int


@kernel(EdgeSumArgs)
def _edge_sum(row, args):
    eid, y, heads = args.eid, args.y, args.heads
    last, one = len(eid) - 1, number(y, 1)
    for f in range(row.low * lanes(y), min(row.high * lanes(y), heads), lanes(y)):
        n, sum_ = heads - f, zero(y)
        for s in range(row.start, row.stop):
            prefetch(args.value, np.int64(at(eid, min(s + AHEAD, last))) * heads + f)
            sum_ = scaled(one, get(args.value, at(eid, s) * heads + f, n), sum_)
        put(y, row.v * heads + f, sum_, n)


def edge_sum(adj, value: Tensor) -> Tensor:
    heads = value.shape[1]
    y = value.new_empty(adj.indptr.shape[0] - 1, heads)
    _edge_sum(value.numel(), adj.indptr, lines(value, heads), EdgeSumArgs(adj.eid, value, y, heads))
    return y


class MaxArgs(NamedTuple):
    """``coeff``: (E, H), or (0,) for none."""

    indices: Array
    eid: Array
    x: Array
    coeff: Array
    y: Array
    arg: Array
    heads: int
    width: int


@kernel(MaxArgs)
def _max(row, args):
    x, coeff, y, arg, heads, width = args.x, args.coeff, args.y, args.arg, args.heads, args.width
    first, end, weighted = row.low * lanes(y), min(row.high * lanes(y), width), len(coeff) > 0
    for h in range(heads):
        o, c = (row.v * heads + h) * width, number(x, 1)
        for f in range(first, end):
            write(y, o + f, number(y, 0))
            arg[np.uint64(o + f)] = -1
        for s in range(row.start, row.stop):
            e, i = np.int64(at(args.eid, s)), (np.int64(at(args.indices, s)) * heads + h) * width
            if weighted:
                c = at(coeff, e * heads + h)
            for f in range(first, end):
                m = c * at(x, i + f)
                best = at(y, o + f)
                if s == row.start or m > best or (m != m and best == best):
                    write(y, o + f, m)
                    arg[np.uint64(o + f)] = e


class MaxGradArgs(NamedTuple):
    indices: Array
    eid: Array
    grad: Array
    arg: Array
    coeff: Array
    dx: Array
    heads: int
    width: int


@kernel(MaxGradArgs)
def _max_grad(row, args):
    coeff, dx, heads, width = args.coeff, args.dx, args.heads, args.width
    first, end, weighted = row.low * lanes(dx), min(row.high * lanes(dx), width), len(coeff) > 0
    for h in range(heads):
        o, c, none = (row.v * heads + h) * width, number(dx, 1), number(dx, 0)
        for f in range(first, end):
            write(dx, o + f, none)
        for s in range(row.start, row.stop):
            e, i = np.int64(at(args.eid, s)), (np.int64(at(args.indices, s)) * heads + h) * width
            if weighted:
                c = at(coeff, e * heads + h)
            for f in range(first, end):
                part = c * at(args.grad, i + f) if at(args.arg, i + f) == e else none
                write(dx, o + f, at(dx, o + f) + part)


@widened
def neighbour_max(adj, x: Tensor, coeff: Tensor | None) -> tuple[Tensor, Tensor]:
    heads, width = x.shape[1:]
    y = x.new_empty(adj.indptr.shape[0] - 1, heads, width)
    arg = torch.empty(y.shape, dtype=torch.int32)
    weight = coeff if coeff is not None else empty(x)
    work = adj.eid.shape[0] * heads * width
    arrays = adj.indices, adj.eid, x, weight, y, arg
    _max(work, adj.indptr, lines(y, width), MaxArgs(*arrays, heads, width))
    return y, arg


@widened
def max_grad(adj, grad: Tensor, arg: Tensor, coeff: Tensor | None) -> Tensor:
    heads, width = grad.shape[1:]
    dx = grad.new_empty(adj.indptr.shape[0] - 1, heads, width)
    weight = coeff if coeff is not None else empty(grad)
    work = adj.eid.shape[0] * heads * width
    arrays = adj.indices, adj.eid, grad, arg, weight, dx
    _max_grad(work, adj.indptr, lines(dx, width), MaxGradArgs(*arrays, heads, width))
    return dx
