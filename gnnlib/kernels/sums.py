"""Sums and maxima over neighbours, a part of `gnnlib.kernels.cpu`.

While four neighbours are added, the rows of those AHEAD are on their way from memory.
"""

import numpy as np
import torch
from torch import Tensor

from gnnlib.kernels.rows import add, add_four, ahead_of, clear, fetch, scalar
from gnnlib.kernels.team import Kernel
from gnnlib.kernels.vectors import at, get, lanes, lines, prefetch, put, scaled, zero


@Kernel
def _sum(chunk, v, start, stop, low, high, indices, scale_u, scale_v, x, y, own, width, ahead):
    f, is_scaled, one, last = low * lanes(x), len(scale_v) > 0, y.dtype.type(1), len(indices) - 1
    o, n, t = v * width + f, min(high * lanes(x), width) - f, scale_v[v] if is_scaled else one
    clear(y, o, n)
    if own != 0 and o < len(x):
        add(y, o, x, o, own, n)
    fours = start + (stop - start) // 4 * 4
    for s in range(start, fours, 4):
        if ahead:
            for k in range(4):
                fetch(x, at(indices, min(s + ahead + k, last)) * width + f, n)
        i0, i1, i2, i3 = at(indices, s), at(indices, s + 1), at(indices, s + 2), at(indices, s + 3)
        c0, c1, c2, c3 = one, one, one, one
        if is_scaled:
            c0, c1, c2, c3 = t * at(scale_u, i0), t * at(scale_u, i1), t * at(scale_u, i2), t * at(scale_u, i3)
        add_four(y, o, x, i0 * width + f, i1 * width + f, i2 * width + f, i3 * width + f, c0, c1, c2, c3, n)
    for s in range(fours, stop):
        if ahead:
            fetch(x, at(indices, min(s + ahead, last)) * width + f, n)
        i = at(indices, s)
        add(y, o, x, i * width + f, t * at(scale_u, i) if is_scaled else one, n)


@Kernel
def _sum_weighted(chunk, v, start, stop, low, high, indices, eid, x, coeff, y, heads, x_heads, y_heads, width, ahead):
    f, h0, h1, n, last = 0, low, high, width, len(indices) - 1  # a hub is cut by heads,
    if y_heads == 1:  # or, where there is one, by lines
        f, h0, h1 = low * lanes(x), 0, heads
        n = min(high * lanes(x), width) - f
        clear(y, v * width + f, n)
    else:
        clear(y, (v * y_heads + low) * width, (high - low) * width)
    row, o = x_heads * width, v * y_heads * width + f
    x_step, y_step = width * (x_heads > 1), width * (y_heads > 1)
    fours = start + (stop - start) // 4 * 4
    for s in range(start, fours, 4):
        if ahead:
            for k in range(4):
                fetch(x, at(indices, min(s + ahead + k, last)) * row + h0 * x_step + f, row)
                prefetch(coeff, np.int64(at(eid, min(s + ahead + k, last))) * heads)
        i0, i1, i2, i3 = (
            at(indices, s) * row,
            at(indices, s + 1) * row,
            at(indices, s + 2) * row,
            at(indices, s + 3) * row,
        )
        e0, e1, e2, e3 = at(eid, s) * heads, at(eid, s + 1) * heads, at(eid, s + 2) * heads, at(eid, s + 3) * heads
        for h in range(h0, h1):
            g = f + h * x_step
            c0, c1, c2, c3 = at(coeff, e0 + h), at(coeff, e1 + h), at(coeff, e2 + h), at(coeff, e3 + h)
            add_four(y, o + h * y_step, x, i0 + g, i1 + g, i2 + g, i3 + g, c0, c1, c2, c3, n)
    for s in range(fours, stop):
        if ahead:
            fetch(x, at(indices, min(s + ahead, last)) * row + h0 * x_step + f, row)
            prefetch(coeff, np.int64(at(eid, min(s + ahead, last))) * heads)
        for h in range(h0, h1):
            add(y, o + h * y_step, x, at(indices, s) * row + f + h * x_step, at(coeff, at(eid, s) * heads + h), n)


def neighbour_sum(adj, x: Tensor, coeff: Tensor | None, heads: int, own: float = 0.0) -> Tensor:
    x_heads, width = x.shape[1:]
    y = x.new_empty(len(adj.indptr) - 1, heads, width)
    if coeff is None:
        assert heads == x_heads
        _sum_rows(adj, x, y, heads * width, x.new_empty(0), x.new_empty(0), own)
    else:
        assert own == 0
        columns, flat = lines(x, width) if heads == 1 else heads, (x.view(-1), coeff.view(-1), y.view(-1))
        shape = coeff.shape[1], x_heads, heads, width
        _sum_weighted(coeff.numel() * width, adj.indptr, columns, adj.indices, adj.eid, *flat, *shape, ahead_of(x))
    return y


def scaled_sum(adj, x: Tensor, scale_u: Tensor, scale_v: Tensor) -> Tensor:
    y = x.new_empty(len(adj.indptr) - 1, x.shape[1])
    _sum_rows(adj, x, y, x.shape[1], scale_u, scale_v)
    return y


def _sum_rows(adj, x: Tensor, y: Tensor, width: int, scale_u: Tensor, scale_v: Tensor, own: float = 0.0) -> None:
    arrays = adj.indices, scale_u, scale_v, x.view(-1), y.view(-1), scalar(own, x)
    _sum(len(adj.indices) * width, adj.indptr, lines(x, width), *arrays, width, ahead_of(x))


@Kernel
def _tap_sum(chunk, v, start, stop, low, high, indices, eid, tap, x, z, signals, many, width, ahead):
    row, whole, one, last = signals * width, many * width, z.dtype.type(1), len(indices) - 1
    o = v * signals * whole
    clear(z, o + low * whole, (high - low) * whole)
    for s in range(start, stop):
        if ahead:
            fetch(x, at(indices, min(s + ahead, last)) * row + low * width, (high - low) * width)
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
            if ahead:
                prefetch(value, np.int64(at(eid, min(s + ahead, last))) * heads + f)
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
