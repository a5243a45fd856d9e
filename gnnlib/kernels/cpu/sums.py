"""Sums and maxima over neighbours, a part of `gnnlib.kernels.cpu`.

A row's sum is made eight lines at a time, in registers, in one walk over its edges for each eight, while the lines of
the edges AHEAD are on their way from memory. Where each head has weights of its own, the lines are of eight heads. What
is left of a row is taken by fours, then one by one.
"""

import numpy as np
import torch
from torch import Tensor

from gnnlib.kernels.cpu.compile import static
from gnnlib.kernels.cpu.rows import AHEAD, add, ahead_of, clear, fetch, scalar
from gnnlib.kernels.cpu.team import Kernel
from gnnlib.kernels.cpu.tiles import tile_alike, tile_get, tile_numbers, tile_put, tile_scaled, tile_zero
from gnnlib.kernels.cpu.vectors import at, get, inlined, lanes, lines, prefetch, put, scaled, zero

EIGHT, FOUR, ONE = (static(1),) * 8, (static(1),) * 4, (static(1),)
PLAIN, SCALED, WEIGHTED = range(3)


@inlined
def _sum_lines(v, start, stop, f, indices, eid, scale_u, scale_v, coeff, x, y, own, how, width, ahead, few):
    """A few lines of row v, from column f on."""
    step, left, last, o = lanes(y), width - f, len(indices) - 1, v * width + f
    c = y.dtype.type(1)
    sums = tile_zero(y, few)
    if own != 0 and o < len(x):
        sums = tile_scaled(tile_alike(y, own, few), tile_get(x, o, step, left, few), sums)
    for s in range(start, stop):
        if len(ahead):
            coming = min(s + AHEAD, last)
            for k in range(len(few)):
                prefetch(x, np.int64(at(indices, coming)) * width + f + k * step)
            if len(how) == WEIGHTED:
                prefetch(coeff, np.int64(at(eid, coming)))
        u = np.int64(at(indices, s))
        if len(how) == SCALED:
            c = at(scale_v, v) * at(scale_u, u)
        elif len(how) == WEIGHTED:
            c = at(coeff, np.int64(at(eid, s)))
        sums = tile_scaled(tile_alike(y, c, few), tile_get(x, u * width + f, step, left, few), sums)
    tile_put(y, o, step, sums, left, few)


@Kernel
def _sum(chunk, v, start, stop, low, high, indices, eid, scale_u, scale_v, coeff, x, y, own, how, width, ahead):
    step, f, beyond = lanes(y), low * lanes(y), min(high * lanes(y), width)
    given = indices, eid, scale_u, scale_v, coeff, x, y, own, how, width, ahead
    while f + 8 * step <= beyond:
        _sum_lines(v, start, stop, f, *given, EIGHT)
        f += 8 * step
    while f + 4 * step <= beyond:
        _sum_lines(v, start, stop, f, *given, FOUR)
        f += 4 * step
    while f < beyond:
        _sum_lines(v, start, stop, f, *given, ONE)
        f += step


@inlined
def _sum_heads(v, start, stop, h, indices, eid, x, coeff, y, heads, x_heads, width, ahead, few):
    """A few heads of row v, from head h on."""
    row, step, last = x_heads * width, width * (x_heads > 1), len(indices) - 1
    for f in range(0, width, lanes(y)):
        left, g, sums = width - f, h * step + f, tile_zero(y, few)
        for s in range(start, stop):
            if len(ahead):
                coming = min(s + AHEAD, last)
                for k in range(len(few)):
                    prefetch(x, np.int64(at(indices, coming)) * row + g + k * step)
                prefetch(coeff, np.int64(at(eid, coming)) * heads + h)
            c = tile_numbers(coeff, np.int64(at(eid, s)) * heads + h, few)
            sums = tile_scaled(c, tile_get(x, np.int64(at(indices, s)) * row + g, step, left, few), sums)
        tile_put(y, (v * heads + h) * width + f, width, sums, left, few)


@Kernel
def _sum_each_head(chunk, v, start, stop, low, high, indices, eid, x, coeff, y, heads, x_heads, width, ahead):
    h, given = low, (indices, eid, x, coeff, y, heads, x_heads, width, ahead)
    while h + 8 <= high:
        _sum_heads(v, start, stop, h, *given, EIGHT)
        h += 8
    while h + 4 <= high:
        _sum_heads(v, start, stop, h, *given, FOUR)
        h += 4
    while h < high:
        _sum_heads(v, start, stop, h, *given, ONE)
        h += 1


@Kernel
def _sum_over_heads(chunk, v, start, stop, low, high, indices, eid, x, coeff, y, heads, x_heads, width, ahead):
    row, step, last = x_heads * width, width * (x_heads > 1), len(indices) - 1
    for f in range(low * lanes(y), min(high * lanes(y), width), lanes(y)):
        left, sum_ = width - f, zero(y)
        for s in range(start, stop):
            if len(ahead):
                prefetch(coeff, np.int64(at(eid, min(s + AHEAD, last))) * heads)
                fetch(x, np.int64(at(indices, min(s + AHEAD, last))) * row, row)
            i, e = np.int64(at(indices, s)) * row + f, np.int64(at(eid, s)) * heads
            for h in range(heads):
                sum_ = scaled(at(coeff, e + h), get(x, i + h * step, left), sum_)
        put(y, v * width + f, sum_, left)


def neighbour_sum(adj, x: Tensor, coeff: Tensor | None, heads: int, own: float = 0.0) -> Tensor:
    x_heads, width = x.shape[1:]
    y = x.new_empty(len(adj.indptr) - 1, heads, width)
    if coeff is None:
        assert heads == x_heads
        _sum_rows(adj, x, y, heads * width, own=own)
    elif coeff.shape[1] == 1:
        assert own == 0
        _sum_rows(adj, x, y, width, coeff=coeff.view(-1))
    else:
        kernel, columns = (_sum_over_heads, lines(x, width)) if heads == 1 else (_sum_each_head, heads)
        arrays = adj.indices, adj.eid, *(t.view(-1) for t in (x, coeff, y))
        kernel(coeff.numel() * width, adj.indptr, columns, *arrays, coeff.shape[1], x_heads, width, ahead_of(x))
    return y


def scaled_sum(adj, x: Tensor, scale_u: Tensor, scale_v: Tensor) -> Tensor:
    y = x.new_empty(len(adj.indptr) - 1, x.shape[1])
    _sum_rows(adj, x, y, x.shape[1], scale=(scale_u, scale_v))
    return y


def _sum_rows(
    adj,
    x: Tensor,
    y: Tensor,
    width: int,
    own: float = 0.0,
    scale: tuple[Tensor, Tensor] | None = None,
    coeff: Tensor | None = None,
) -> None:
    none = x.new_empty(0)
    how = SCALED if scale is not None else PLAIN if coeff is None else WEIGHTED
    factors = *(scale or (none, none)), none if coeff is None else coeff
    arrays = adj.indices, adj.eid, *factors, x.view(-1), y.view(-1), scalar(own, x)
    _sum(len(adj.indices) * width, adj.indptr, lines(x, width), *arrays, static(how), width, ahead_of(x))


@Kernel
def _tap_sum(chunk, v, start, stop, low, high, indices, eid, tap, x, z, signals, many, width, ahead):
    row, whole, one, last = signals * width, many * width, z.dtype.type(1), len(indices) - 1
    o = v * signals * whole
    clear(z, o + low * whole, (high - low) * whole)
    for s in range(start, stop):
        if len(ahead):
            fetch(x, at(indices, min(s + AHEAD, last)) * row + low * width, (high - low) * width)
        i, t = at(indices, s) * row, np.int64(at(tap, np.int64(at(eid, s)))) * width
        for b in range(low, high):
            add(z, o + b * whole + t, x, i + b * width, one, width)


def tap_sum(adj, x: Tensor, tap: Tensor, many: int) -> Tensor:
    signals, width = x.shape[1:]
    z = x.new_empty(len(adj.indptr) - 1, signals, many, width)
    shape = signals, many, width, ahead_of(x)
    work = len(adj.eid) * signals * width + z.numel()
    _tap_sum(work, adj.indptr, signals, adj.indices, adj.eid, tap, x.view(-1), z.view(-1), *shape)
    return z


@Kernel
def _edge_sum(chunk, v, start, stop, low, high, eid, value, y, heads, ahead):
    last, one = len(eid) - 1, y.dtype.type(1)
    for f in range(low * lanes(y), min(high * lanes(y), heads), lanes(y)):
        n, sum_ = heads - f, zero(y)
        for s in range(start, stop):
            if len(ahead):
                prefetch(value, np.int64(at(eid, min(s + AHEAD, last))) * heads + f)
            sum_ = scaled(one, get(value, at(eid, s) * heads + f, n), sum_)
        put(y, v * heads + f, sum_, n)


def edge_sum(adj, value: Tensor) -> Tensor:
    heads = value.shape[1]
    y = value.new_empty(len(adj.indptr) - 1, heads)
    columns, arrays = lines(value, heads), (adj.eid, value.view(-1), y.view(-1))
    _edge_sum(value.numel(), adj.indptr, columns, *arrays, heads, ahead_of(value))
    return y


@Kernel
def _max(chunk, v, start, stop, low, high, indices, eid, x, coeff, y, arg):
    heads, width, weighted = x.shape[1], x.shape[2], coeff.shape[1] > 0
    first, beyond = np.uint64(low * lanes(y)), np.uint64(min(high * lanes(y), width))
    for h in range(heads):
        for f in range(first, beyond):
            y[v, h, f] = 0
            arg[v, h, f] = -1
        for s in range(start, stop):
            u, e = indices[s], eid[s]
            c = coeff[e, h] if weighted else x.dtype.type(1)
            for f in range(first, beyond):
                m = c * x[u, h, f]
                best = y[v, h, f]
                if s == start or m > best or (m != m and best == best):
                    y[v, h, f] = m
                    arg[v, h, f] = e


@Kernel
def _max_grad(chunk, u, start, stop, low, high, indices, eid, grad, arg, coeff, dx):
    heads, width, weighted = dx.shape[1], dx.shape[2], coeff.shape[1] > 0
    first, beyond = np.uint64(low * lanes(dx)), np.uint64(min(high * lanes(dx), width))
    for h in range(heads):
        for f in range(first, beyond):
            dx[u, h, f] = 0
        for s in range(start, stop):
            v, e = indices[s], eid[s]
            c = coeff[e, h] if weighted else dx.dtype.type(1)
            for f in range(first, beyond):
                dx[u, h, f] += c * grad[v, h, f] if arg[v, h, f] == e else dx.dtype.type(0)


def neighbour_max(adj, x: Tensor, coeff: Tensor | None) -> tuple[Tensor, Tensor]:
    y = x.new_empty(len(adj.indptr) - 1, *x.shape[1:])
    arg = torch.empty(y.shape, dtype=torch.int32)
    weight = coeff if coeff is not None else x.new_empty(0, 0)
    work = len(adj.eid) * x[:1].numel()
    _max(work, adj.indptr, lines(x, x.shape[2]), adj.indices, adj.eid, x, weight, y, arg)
    return y, arg


def max_grad(adj, grad: Tensor, arg: Tensor, coeff: Tensor | None) -> Tensor:
    dx = grad.new_empty(len(adj.indptr) - 1, *grad.shape[1:])
    weight = coeff if coeff is not None else grad.new_empty(0, 0)
    work = len(adj.eid) * grad[:1].numel()
    _max_grad(work, adj.indptr, lines(dx, dx.shape[2]), adj.indices, adj.eid, grad, arg, weight, dx)
    return dx
