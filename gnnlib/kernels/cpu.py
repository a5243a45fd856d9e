"""The kernels for the CPU: numba, float32 and float64. `gnnlib.kernels.reference` says what each computes.

Each is what to do for one row of the graph; `gnnlib.kernels.team` runs it over all rows, on PyTorch's threads. A row is
summed by one thread in the order of edge ids, so any number of threads gives the same bits.

Feature arrays are flat here, and a row of them is named by where it starts: u_i * stride. While four
neighbours are added, the rows of those AHEAD are on their way from memory.
"""

from functools import partial

import numpy as np
import torch
from torch import Tensor

from gnnlib.kernels.compile import jit
from gnnlib.kernels.gates import gate_grad, gated_sum  # noqa: F401, as all kernels, offered here
from gnnlib.kernels.messages import messages, messages_grad  # noqa: F401
from gnnlib.kernels.rectified import rectified_grad, rectified_sum  # noqa: F401
from gnnlib.kernels.team import CHUNKS, FASTMATH, Kernel
from gnnlib.kernels.vectors import (
    at,
    get,
    lanes,
    lines,
    load,
    load_first,
    prefetch,
    put,
    scaled,
    store,
    store_first,
    total,
    zero,
)

# A plain loop over a dot product is vectorised only if LLVM may regroup it.
FASTMATH_DOT = FASTMATH | {"reassoc"}
AHEAD = 64  # slots; with fewer, rows of 128 in the last-level cache are asked for too late
CACHED = 1 << 20  # bytes: rows of a smaller array are in the cache anyway
EDGE_PARTS = 16  # that the edges of a hub are cut into, where each edge is on its own

inline = partial(jit, cache=False, fastmath=FASTMATH, _nrt=False)


# ---------------------------------------------------------------- grouping


@jit
def _group(key, indptr, order):
    for e in range(len(key)):
        indptr[key[e] + 1] += 1
    for v in range(len(indptr) - 1):
        indptr[v + 1] += indptr[v]
    place = indptr[:-1].copy()
    for e in range(len(key)):
        order[place[key[e]]] = e
        place[key[e]] += 1


def group(key: Tensor, num_groups: int) -> tuple[Tensor, Tensor]:
    indptr = torch.zeros(num_groups + 1, dtype=torch.int32)
    order = torch.empty(len(key), dtype=torch.int32)
    _group(key.contiguous().numpy(), indptr.numpy(), order.numpy())
    return indptr, order


def _ahead(x: Tensor) -> int:
    return AHEAD if x.nbytes > CACHED else 0


def _scalar(value: float, like: Tensor):
    """A float of the tensors' own precision: float64 would drag float32 loops along."""
    return like.detach().numpy().dtype.type(value)


# ---------------------------------------------------------------- pieces of rows


@inline
def _clear(y, o, n):
    """y[o : o + n] = 0"""
    for f in range(0, n, lanes(y)):
        put(y, o + f, zero(y), n - f)


@inline
def _add(y, o, x, i, c, n):
    """y[o : o + n] += c x[i : i + n]"""
    for f in range(0, n, lanes(y)):
        put(y, o + f, scaled(c, get(x, i + f, n - f), get(y, o + f, n - f)), n - f)


@inline
def _add_four(y, o, x, i0, i1, i2, i3, c0, c1, c2, c3, n):
    """The same for four rows of x at once: a quarter of the traffic on y."""
    for f in range(0, n, lanes(y)):
        t = scaled(c0, get(x, i0 + f, n - f), get(y, o + f, n - f))
        t = scaled(c1, get(x, i1 + f, n - f), t)
        t = scaled(c2, get(x, i2 + f, n - f), t)
        put(y, o + f, scaled(c3, get(x, i3 + f, n - f), t), n - f)


@inline
def _dot(x, i, y, o, n):
    """<x[i : i + n], y[o : o + n]>; here a choice within the loop, as `get` makes it, costs a fifth."""
    step, sum_ = lanes(y), zero(y)
    for f in range(0, n - step + 1, step):
        sum_ = scaled(load(x, i + f), load(y, o + f), sum_)
    rest = n % step
    if rest:
        f = n - rest
        sum_ = scaled(load_first(x, i + f, rest), load_first(y, o + f, rest), sum_)
    return total(sum_)


@inline
def _dot_and_add(x, i, a, o, y, c, n):
    """<x[i : i + n], a[o : o + n]>; and y[o : o + n] += c x[i : i + n]"""
    step, sum_ = lanes(y), zero(y)
    for f in range(0, n - step + 1, step):
        t = load(x, i + f)
        sum_ = scaled(t, load(a, o + f), sum_)
        store(y, o + f, scaled(c, t, load(y, o + f)))
    rest = n % step
    if rest:
        f = n - rest
        t = load_first(x, i + f, rest)
        sum_ = scaled(t, load_first(a, o + f, rest), sum_)
        store_first(y, o + f, scaled(c, t, load_first(y, o + f, rest)), rest)
    return total(sum_)


@inline
def _scale_and_add(y, o, c, x, i, n):
    """y[o : o + n] = c y[o : o + n] + x[i : i + n]"""
    for f in range(0, n, lanes(y)):
        put(y, o + f, scaled(c, get(y, o + f, n - f), get(x, i + f, n - f)), n - f)


@inline
def _fetch(x, i, n):
    """Asks for x[i : i + n], its first lines; what follows streams in by itself."""
    for f in range(0, min(n, 8 * lanes(x)), lanes(x)):
        prefetch(x, i + f)


# ---------------------------------------------------------------- sums


@Kernel
def _sum(chunk, v, start, stop, low, high, indices, scale_u, scale_v, x, y, own, width, ahead):
    f, is_scaled, one, last = low * lanes(x), len(scale_v) > 0, y.dtype.type(1), len(indices) - 1
    o, n, t = v * width + f, min(high * lanes(x), width) - f, scale_v[v] if is_scaled else one
    _clear(y, o, n)
    if own != 0 and o < len(x):
        _add(y, o, x, o, own, n)
    fours = start + (stop - start) // 4 * 4
    for s in range(start, fours, 4):
        if ahead:
            for k in range(4):
                _fetch(x, at(indices, min(s + ahead + k, last)) * width + f, n)
        i0, i1, i2, i3 = at(indices, s), at(indices, s + 1), at(indices, s + 2), at(indices, s + 3)
        c0, c1, c2, c3 = one, one, one, one
        if is_scaled:
            c0, c1, c2, c3 = t * at(scale_u, i0), t * at(scale_u, i1), t * at(scale_u, i2), t * at(scale_u, i3)
        _add_four(y, o, x, i0 * width + f, i1 * width + f, i2 * width + f, i3 * width + f, c0, c1, c2, c3, n)
    for s in range(fours, stop):
        if ahead:
            _fetch(x, at(indices, min(s + ahead, last)) * width + f, n)
        i = at(indices, s)
        _add(y, o, x, i * width + f, t * at(scale_u, i) if is_scaled else one, n)


@Kernel
def _sum_weighted(chunk, v, start, stop, low, high, indices, eid, x, coeff, y, heads, x_heads, y_heads, width, ahead):
    f, h0, h1, n, last = 0, low, high, width, len(indices) - 1  # a hub is cut by heads,
    if y_heads == 1:  # or, where there is one, by lines
        f, h0, h1 = low * lanes(x), 0, heads
        n = min(high * lanes(x), width) - f
        _clear(y, v * width + f, n)
    else:
        _clear(y, (v * y_heads + low) * width, (high - low) * width)
    row, o = x_heads * width, v * y_heads * width + f
    x_step, y_step = width * (x_heads > 1), width * (y_heads > 1)
    fours = start + (stop - start) // 4 * 4
    for s in range(start, fours, 4):
        if ahead:
            for k in range(4):
                _fetch(x, at(indices, min(s + ahead + k, last)) * row + h0 * x_step + f, row)
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
            _add_four(y, o + h * y_step, x, i0 + g, i1 + g, i2 + g, i3 + g, c0, c1, c2, c3, n)
    for s in range(fours, stop):
        if ahead:
            _fetch(x, at(indices, min(s + ahead, last)) * row + h0 * x_step + f, row)
            prefetch(coeff, np.int64(at(eid, min(s + ahead, last))) * heads)
        for h in range(h0, h1):
            _add(y, o + h * y_step, x, at(indices, s) * row + f + h * x_step, at(coeff, at(eid, s) * heads + h), n)


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
        _sum_weighted(coeff.numel() * width, adj.indptr, columns, adj.indices, adj.eid, *flat, *shape, _ahead(x))
    return y


def scaled_sum(adj, x: Tensor, scale_u: Tensor, scale_v: Tensor) -> Tensor:
    y = x.new_empty(len(adj.indptr) - 1, x.shape[1])
    _sum_rows(adj, x, y, x.shape[1], scale_u, scale_v)
    return y


def _sum_rows(adj, x: Tensor, y: Tensor, width: int, scale_u: Tensor, scale_v: Tensor, own: float = 0.0) -> None:
    arrays = adj.indices, scale_u, scale_v, x.view(-1), y.view(-1), _scalar(own, x)
    _sum(len(adj.indices) * width, adj.indptr, lines(x, width), *arrays, width, _ahead(x))


@Kernel
def _tap_sum(chunk, v, start, stop, low, high, indices, eid, tap, x, z, signals, many, width, ahead):
    row, whole, one, last = signals * width, many * width, z.dtype.type(1), len(indices) - 1
    o = v * signals * whole
    _clear(z, o + low * whole, (high - low) * whole)
    for s in range(start, stop):
        if ahead:
            _fetch(x, at(indices, min(s + ahead, last)) * row + low * width, (high - low) * width)
        i, t = at(indices, s) * row, np.int64(at(tap, np.int64(at(eid, s)))) * width
        for b in range(low, high):
            _add(z, o + b * whole + t, x, i + b * width, one, width)


def tap_sum(adj, x: Tensor, tap: Tensor, many: int) -> Tensor:
    signals, width = x.shape[1:]
    z = x.new_empty(len(adj.indptr) - 1, signals, many, width)
    shape = signals, many, width, _ahead(x)
    work = len(adj.eid) * signals * width + z.numel()
    _tap_sum(work, adj.indptr, signals, adj.indices, adj.eid, tap, x.view(-1), z.view(-1), *shape)
    return z


@Kernel
def _edge_sum(chunk, v, start, stop, low, high, eid, value, y, heads, ahead):
    last = len(eid) - 1
    for h in range(low, high):
        y[v * heads + h] = 0
    for s in range(start, stop):
        if ahead:
            prefetch(value, np.int64(at(eid, min(s + ahead, last))) * heads)
        for h in range(low, high):
            y[v * heads + h] += at(value, at(eid, s) * heads + h)


def edge_sum(adj, value: Tensor) -> Tensor:
    heads = value.shape[1]
    y = value.new_empty(len(adj.indptr) - 1, heads)
    _edge_sum(value.numel(), adj.indptr, heads, adj.eid, value.view(-1), y.view(-1), heads, _ahead(value))
    return y


# ---------------------------------------------------------------- maxima


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


# ---------------------------------------------------------------- along edges


@Kernel
def _edge_dot(chunk, v, start, stop, low, high, indices, eid, x, y, out, heads, x_heads, y_heads, width, ahead):
    row, last = x_heads * width, len(indices) - 1
    x_step, y_step = width * (x_heads > 1), width * (y_heads > 1)
    first, beyond = start + (stop - start) * low // EDGE_PARTS, start + (stop - start) * high // EDGE_PARTS
    for s in range(first, beyond):
        if ahead:
            _fetch(x, at(indices, min(s + ahead, last)) * row, row)
        i, o, e = at(indices, s) * row, v * y_heads * width, np.int64(at(eid, s)) * heads
        for h in range(heads):
            out[e + h] = _dot(x, i + h * x_step, y, o + h * y_step, width)


def edge_dot(adj, x: Tensor, y: Tensor, out: Tensor | None = None) -> Tensor:
    x_heads, y_heads, width = x.shape[1], y.shape[1], x.shape[2]
    heads = x_heads if y_heads == 1 else y_heads
    out = x.new_empty(len(adj.eid), heads) if out is None else out
    arrays, work = (adj.indices, adj.eid, x.view(-1), y.view(-1), out.view(-1)), len(adj.eid) * heads * width
    _edge_dot(work, adj.indptr, EDGE_PARTS, *arrays, heads, x_heads, y_heads, width, _ahead(x))
    return out


@Kernel
def _edge_softmax(chunk, v, start, stop, low, high, eid, score, prob):
    for h in range(low, high):
        top, sum_ = score.dtype.type(-np.inf), score.dtype.type(0)
        for s in range(start, stop):
            top = max(top, score[eid[s], h])
        for s in range(start, stop):
            p = np.exp(score[eid[s], h] - top)
            prob[eid[s], h] = p
            sum_ += p
        for s in range(start, stop):
            prob[eid[s], h] /= sum_


@Kernel
def _edge_softmax_grad(chunk, v, start, stop, low, high, eid, prob, grad, out):
    for h in range(low, high):
        mean = prob.dtype.type(0)
        for s in range(start, stop):
            mean += prob[eid[s], h] * grad[eid[s], h]
        for s in range(start, stop):
            out[eid[s], h] = prob[eid[s], h] * (grad[eid[s], h] - mean)


def edge_softmax(adj, score: Tensor) -> Tensor:
    prob = score.new_empty(*score.shape)
    _edge_softmax(8 * score.numel(), adj.indptr, score.shape[1], adj.eid, score, prob)
    return prob


def edge_softmax_grad(adj, prob: Tensor, grad: Tensor) -> Tensor:
    out = prob.new_empty(*prob.shape)
    _edge_softmax_grad(4 * prob.numel(), adj.indptr, prob.shape[1], adj.eid, prob, grad, out)
    return out


@partial(Kernel, fastmath=FASTMATH_DOT)
def _edge_score(chunk, v, start, stop, low, high, indices, eid, a, b, att, slope, out):
    heads, width = att.shape
    a_step, b_step = min(a.shape[1] - 1, 1), min(b.shape[1] - 1, 1)
    first, beyond = start + (stop - start) * low // EDGE_PARTS, start + (stop - start) * high // EDGE_PARTS
    for s in range(first, beyond):
        u, e = indices[s], eid[s]
        for h in range(heads):
            sum_ = a.dtype.type(0)
            for j in range(width):
                z = a[u, h * a_step, j] + b[v, h * b_step, j]
                sum_ += att[h, j] * (z if z > 0 else z * slope)
            out[e, h] = sum_


@Kernel
def _edge_score_grad(chunk, v, start, stop, low, high, indices, eid, own, other, att, slope, grad, out):
    heads, width = att.shape
    own_step, other_step = min(own.shape[1] - 1, 1), min(other.shape[1] - 1, 1)
    first, beyond = np.uint64(low * lanes(out)), np.uint64(min(high * lanes(out), width))
    for h in range(out.shape[1]):
        for j in range(first, beyond):
            out[v, h, j] = 0
    for s in range(start, stop):
        u, e = indices[s], eid[s]
        for h in range(heads):
            g = grad[e, h]
            for j in range(first, beyond):
                z = own[v, h * own_step, j] + other[u, h * other_step, j]
                d = g * att[h, j]
                out[v, h * own_step, j] += d if z > 0 else d * slope


@Kernel
def _edge_score_att_grad(chunk, v, start, stop, low, high, indices, eid, a, b, slope, grad, out):
    heads, width = out.shape[1:]
    a_step, b_step = min(a.shape[1] - 1, 1), min(b.shape[1] - 1, 1)
    for s in range(start, stop):
        u, e = indices[s], eid[s]
        for h in range(heads):
            g = grad[e, h]
            for j in range(width):
                z = a[u, h * a_step, j] + b[v, h * b_step, j]
                out[chunk, h, j] += g * (z if z > 0 else z * slope)


def edge_score(adj, a: Tensor, b: Tensor, att: Tensor, slope: float) -> Tensor:
    out = a.new_empty(len(adj.eid), len(att))
    arrays = adj.indices, adj.eid, a, b, att, _scalar(slope, a)
    _edge_score(len(adj.eid) * att.numel(), adj.indptr, EDGE_PARTS, *arrays, out)
    return out


def edge_score_grad(adj, own: Tensor, other: Tensor, att: Tensor, slope: float, grad: Tensor) -> Tensor:
    out = own.new_empty(*own.shape)
    arrays = adj.indices, adj.eid, own, other, att, _scalar(slope, own), grad
    _edge_score_grad(len(adj.eid) * att.numel(), adj.indptr, lines(own, own.shape[2]), *arrays, out)
    return out


def edge_score_att_grad(adj, a: Tensor, b: Tensor, slope: float, grad: Tensor) -> Tensor:
    partial_sums = a.new_zeros(CHUNKS, grad.shape[1], a.shape[2])
    arrays = adj.indices, adj.eid, a, b, _scalar(slope, a), grad
    _edge_score_att_grad(len(adj.eid) * partial_sums[0].numel(), adj.indptr, 1, *arrays, partial_sums)
    return partial_sums.sum(0)


# ---------------------------------------------------------------- attention


# With c the largest left of any source and z = left_u + right_v: relative to leaky(c + right_v), which no score of v
# exceeds, exp(leaky(z)) is exp(left_u - c) for z > 0, and exp(slope (left_u - c)) exp((slope - 1) max(0, c + right_v))
# else. So there are exponentials for each node, none for each edge. Scores that lie too far apart for that are
# taken one by one ("exact"), relative to the top of each row.
SPREAD = 40.0


@inline
def _leaky(z, slope):
    return z if z > 0 else z * slope


@inline
def _weigh(exact, z, source, s, target, t, heads, slope):
    """exp(leaky(z)) relative to what the tables of both ends say, of which s and t are the places for one head."""
    if exact:
        return np.exp(_leaky(z, slope) - at(target, t + heads))
    above = at(source, s + heads) * at(target, t + heads)
    below = at(source, s + 2 * heads) * at(target, t + 2 * heads)
    return above if z > 0 else below  # both made, for the sign of z cannot be foreseen and a wrong guess costs more


@Kernel
def _attend(
    chunk,
    v,
    start,
    stop,
    low,
    high,
    indices,
    eid,
    feat,
    source,
    target,
    coeff,
    slope,
    bias,
    y,
    exact,
    heads,
    width,
    per,
    ahead,
):
    row, own, last = heads * width, v * heads * 4, len(indices) - 1
    _clear(y, v * row + low * width, (high - low) * width)
    for h in range(low, high):
        t = own + h
        target[t + 3 * heads] = 0
        if exact:
            top = y.dtype.type(-np.inf)
            for s in range(start, stop):
                top = max(top, _leaky(at(source, at(indices, s) * heads * 3 + h) + at(target, t), slope))
            target[t + heads] = top
    fours = start + (stop - start) // 4 * 4
    for s in range(start, fours, 4):
        if ahead:
            for k in range(4):
                coming = np.int64(at(indices, min(s + ahead + k, last)))
                _fetch(feat, coming * row + low * width, (high - low) * width)
                prefetch(source, coming * heads * 3)
        i0, i1, i2, i3 = (
            at(indices, s) * heads,
            at(indices, s + 1) * heads,
            at(indices, s + 2) * heads,
            at(indices, s + 3) * heads,
        )
        for h in range(low, high):
            t, s0, s1, s2, s3, g = own + h, i0 * 3 + h, i1 * 3 + h, i2 * 3 + h, i3 * 3 + h, h * width
            r = at(target, t)
            c0 = _weigh(exact, at(source, s0) + r, source, s0, target, t, heads, slope)
            c1 = _weigh(exact, at(source, s1) + r, source, s1, target, t, heads, slope)
            c2 = _weigh(exact, at(source, s2) + r, source, s2, target, t, heads, slope)
            c3 = _weigh(exact, at(source, s3) + r, source, s3, target, t, heads, slope)
            target[t + 3 * heads] += (c0 + c1) + (c2 + c3)
            if per:
                w = h * (per > 1)
                c0, c1 = c0 * at(coeff, at(eid, s) * per + w), c1 * at(coeff, at(eid, s + 1) * per + w)
                c2, c3 = c2 * at(coeff, at(eid, s + 2) * per + w), c3 * at(coeff, at(eid, s + 3) * per + w)
            f0, f1, f2, f3 = i0 * width + g, i1 * width + g, i2 * width + g, i3 * width + g
            _add_four(y, v * row + g, feat, f0, f1, f2, f3, c0, c1, c2, c3, width)
    for s in range(fours, stop):
        if ahead:
            _fetch(feat, at(indices, min(s + ahead, last)) * row + low * width, (high - low) * width)
        for h in range(low, high):
            t, i = own + h, at(indices, s) * heads * 3 + h
            c = _weigh(exact, at(source, i) + at(target, t), source, i, target, t, heads, slope)
            target[t + 3 * heads] += c
            if per:
                c *= at(coeff, at(eid, s) * per + h * (per > 1))
            _add(y, v * row + h * width, feat, at(indices, s) * row + h * width, c, width)
    one = y.dtype.type(1)
    for h in range(low, high):
        by = one / at(target, own + h + 3 * heads) if start < stop else one
        _scale_and_add(y, v * row + h * width, by, bias, h * width, width)


@Kernel
def _attend_grad(
    chunk,
    u,
    start,
    stop,
    low,
    high,
    indices,
    eid,
    grad,
    feat,
    source,
    target,
    coeff,
    slope,
    d_feat,
    d_prob,
    exact,
    heads,
    width,
    per,
    ahead,
):
    """By source: d_feat, and of each edge the gradient of its softmax."""
    row, own, last, one = heads * width, u * heads * 3, len(indices) - 1, d_feat.dtype.type(1)
    _clear(d_feat, u * row + low * width, (high - low) * width)
    for s in range(start, stop):
        v, e = at(indices, s), np.int64(at(eid, s))
        if ahead:
            coming = np.int64(at(indices, min(s + ahead, last)))
            _fetch(grad, coming * row + low * width, (high - low) * width)
            prefetch(target, coming * heads * 4)
            prefetch(d_prob, np.int64(at(eid, min(s + ahead, last))) * heads)
        for h in range(low, high):
            o, t = u * row + h * width, v * heads * 4 + h
            p = _weigh(exact, at(source, own + h) + at(target, t), source, own + h, target, t, heads, slope)
            c = at(coeff, e * per + h * (per > 1)) if per else one
            d_prob[e * heads + h] = c * _dot_and_add(grad, v * row + h * width, feat, o, d_feat, p * c, width)


@Kernel
def _attend_score_grad(
    chunk, v, start, stop, low, high, indices, eid, source, target, slope, score, d_right, exact, heads, ahead
):
    """By destination: from the gradients of a softmax those of its scores, in their place, and their sum."""
    last = len(indices) - 1
    for h in range(low, high):
        t = v * heads * 4 + h
        mean, whole, sum_ = d_right.dtype.type(0), d_right.dtype.type(0), d_right.dtype.type(0)
        for s in range(start, stop):
            if ahead and h == low:
                prefetch(source, np.int64(at(indices, min(s + ahead, last))) * heads * 3)
                prefetch(score, np.int64(at(eid, min(s + ahead, last))) * heads)
            i, e = at(indices, s) * heads * 3 + h, np.int64(at(eid, s)) * heads + h
            p = _weigh(exact, at(source, i) + at(target, t), source, i, target, t, heads, slope)
            mean += p * at(score, e)
            whole += p
        if whole > 0:
            mean /= whole  # by 1, to rounding: but what cancels below is to cancel to the last bit
        for s in range(start, stop):
            i, e = at(indices, s) * heads * 3 + h, np.int64(at(eid, s)) * heads + h
            z = at(source, i) + at(target, t)
            d = _weigh(exact, z, source, i, target, t, heads, slope) * (at(score, e) - mean)
            d = d if z > 0 else d * slope
            score[e] = d
            sum_ += d
        d_right[v * heads + h] = sum_


def _tables(left: Tensor, right: Tensor, slope: float, log: Tensor | None) -> tuple[Tensor, Tensor, Tensor, bool]:
    """For `_weigh`, by source: left and its exponentials; by destination: right, the factors for z > 0 and below, and
    room for one more; relative to a bound on each row's scores, which comes third, or to ``log``. Last: whether exact.
    """
    heads, share = right.shape[1], torch.ones_like(right)
    if left.numel() and right.numel() and 0 <= slope <= 1:
        (low, high), ends = (t.item() for t in left.aminmax()), [t.item() for t in right.aminmax()]
        if high - low <= SPREAD and np.isfinite(ends).all():
            apart, bound = left - high, right + high
            source = torch.cat([left, apart.exp(), apart.mul_(slope).exp_()], 1)
            top, below = torch.nn.functional.leaky_relu(bound, slope), bound.clamp_(min=0).mul_(slope - 1).exp_()
            share = share if log is None else (top - log).exp_()
            return source, torch.cat([right, share, below.mul_(share), share], 1), top, False
    target = torch.cat([right, share if log is None else log, share, share], 1)
    return left.repeat(1, 3), target, target[:, heads : 2 * heads], True


def attend(
    adj, feat: Tensor, left: Tensor, right: Tensor, slope: float, coeff: Tensor | None, bias: Tensor | None
) -> tuple[Tensor, Tensor]:
    heads, width = feat.shape[1:]
    y, (source, target, top, exact) = feat.new_empty(len(right), heads, width), _tables(left, right, slope, None)
    weight, shift = (t if t is not None else feat.new_zeros(n) for t, n in ((coeff, 0), (bias, heads * width)))
    inputs = adj.indices, adj.eid, *(t.view(-1) for t in (feat, source, target, weight)), _scalar(slope, feat)
    shape = exact, heads, width, coeff.shape[1] if coeff is not None else 0, _ahead(feat)
    work = len(adj.eid) * heads * (width + 8)
    _attend(work, adj.indptr, heads, *inputs, shift.view(-1), y.view(-1), *shape)
    return y, target[:, 3 * heads :].contiguous().log_().add_(top)


def attend_grad(
    csc, csr, grad: Tensor, feat: Tensor, left: Tensor, right: Tensor, slope: float, coeff: Tensor | None, log: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    heads, width = feat.shape[1:]
    source, target, _, exact = _tables(left, right, slope, log)
    tables, factor = (source.view(-1), target.view(-1)), _scalar(slope, feat)
    d_feat, d_right = feat.new_empty(*feat.shape), right.new_empty(*right.shape)
    score = left.new_empty(len(csr.eid), heads)
    weight = coeff if coeff is not None else feat.new_zeros(0)
    inputs = csr.indices, csr.eid, grad.view(-1), feat.view(-1), *tables, weight.view(-1), factor
    shape = exact, heads, width, coeff.shape[1] if coeff is not None else 0, _ahead(grad)
    work = len(csr.eid) * heads
    _attend_grad(work * (2 * width + 8), csr.indptr, heads, *inputs, d_feat.view(-1), score.view(-1), *shape)
    results = score.view(-1), d_right.view(-1)
    into = csc.indices, csc.eid, *tables, factor
    _attend_score_grad(work * 16, csc.indptr, heads, *into, *results, exact, heads, _ahead(score))
    return d_feat, edge_sum(csr, score), d_right
