"""Attention, a part of `gnnlib.kernels.cpu`: scores, softmax and sum in one walk over the edges, and the way back.

Heads are taken as many at a time as have `MOST` lines together, up to four: what the tables say of an edge is then one
load for all, and what is summed stays in registers. A head of more lines takes a walk for each `MOST` of them.
"""

import numpy as np
from torch import Tensor

from gnnlib.kernels.cpu.compile import static
from gnnlib.kernels.cpu.rows import AHEAD, ahead_of, fetch, inline, scalar
from gnnlib.kernels.cpu.team import CHUNKS, Kernel, has_hubs
from gnnlib.kernels.cpu.tiles import (
    minus,
    over,
    plus,
    tile_add,
    tile_alike,
    tile_exp,
    tile_get,
    tile_log,
    tile_numbers,
    tile_put,
    tile_scaled,
    tile_totals,
    tile_zero,
    times,
)
from gnnlib.kernels.cpu.vectors import at, lanes, lines, prefetch, store, where_above

# With c the largest left of any source and z = left_u + right_v: relative to leaky(c + right_v), which no score of v
# exceeds, exp(leaky(z)) is exp(left_u - c) for z > 0, and exp(slope (left_u - c)) exp((slope - 1) max(0, c + right_v))
# else. So there are exponentials for each node, none for each edge. Scores that lie too far apart for that are
# taken one by one ("exact"), relative to the top of each row.
#
# Tables, a row a node, in it a number a head. Of a source: left, the factor for z > 0, the one for the others; exact:
# left. Of a destination, made by the forward pass: right and such factors, over the softmax's denominator when that is
# known; exact: right and the top, which becomes the denominator's logarithm.
SPREAD = 40.0
MOST = 8  # lines; what is summed, a row and what multiplies it are three times as many registers


@inline
def _score(source, i, target, t, few):
    """left + right of an edge, of whose ends i and t are the places in the tables."""
    return plus(tile_numbers(source, i, few), tile_numbers(target, t, few))


@inline
def _weigh(exact, source, i, target, t, heads, slope, none, few):
    """exp(leaky(score)) relative to what the tables of both ends say."""
    z = _score(source, i, target, t, few)
    if len(exact):
        return tile_exp(minus(where_above(z, none, z, times(z, slope)), tile_numbers(target, t + heads, few)))
    above = times(tile_numbers(source, i + heads, few), tile_numbers(target, t + heads, few))
    below = times(tile_numbers(source, i + 2 * heads, few), tile_numbers(target, t + 2 * heads, few))
    return where_above(z, none, above, below)  # both made, for the sign of z cannot be foreseen


@inline
def _coefficients(coeff, e, h, heads, per, few):
    return tile_numbers(coeff, e * heads + h, few) if len(per) > 1 else tile_alike(coeff, at(coeff, e), few)


@inline
def _top(source, indices, start, stop, of_u, h, target, t, none, slope, few):
    """The largest score of a row."""
    top = tile_alike(source, source.dtype.type(-np.inf), few)
    for s in range(start, stop):
        z = _score(source, at(indices, s) * of_u + h, target, t, few)
        score = where_above(z, none, z, times(z, slope))
        top = where_above(score, top, score, top)
    return top


@Kernel
def _attend(
    chunk, v, start, stop, low, high, indices, eid, feat, source, right, target, coeff, bias, y, slope, most, size, form
):
    """Rows of ``right`` are so far ``apart``; ``most`` is the largest left."""
    (heads, width, apart), (exact, per, ahead, few) = size, form
    many, row, last = len(few), heads * width, len(indices) - 1
    of_u, of_v = (heads, 2 * heads) if len(exact) else (3 * heads, 3 * heads)
    none, one, steep = (
        tile_alike(y, y.dtype.type(0), few),
        tile_alike(y, y.dtype.type(1), few),
        tile_alike(y, slope, few),
    )
    for h in range(low * many, high * many, many):
        t, sum_, number = v * of_v + h, one, tile_numbers(right, v * apart + h, few)
        store(target, t, number)
        if len(exact):
            store(target, t + heads, _top(source, indices, start, stop, of_u, h, target, t, none, steep, few))
        else:
            finite, bound = plus(one, minus(number, number)), plus(number, tile_alike(y, most, few))  # or NaN
            bound = where_above(bound, none, bound, none)
            store(target, t + heads, finite)
            store(target, t + 2 * heads, times(finite, tile_exp(times(bound, minus(steep, one)))))
        for f in range(h * width, (h + 1) * width, len(few[0]) * lanes(y)):
            left, sum_, sums = (h + 1) * width - f, none, tile_zero(y, few)
            for s in range(start, stop):
                if len(ahead) and f == low * many * width:
                    coming = np.int64(at(indices, min(s + AHEAD, last)))
                    fetch(feat, coming * row + f, (high - low) * many * width)
                    prefetch(source, coming * of_u)
                u = np.int64(at(indices, s))
                c = _weigh(exact, source, u * of_u + h, target, t, heads, steep, none, few)
                sum_ = plus(sum_, c)
                if len(per):
                    c = times(c, _coefficients(coeff, np.int64(at(eid, s)), h, heads, per, few))
                sums = tile_scaled(c, tile_get(feat, u * row + f, width, left, few), sums)
            sum_ = sum_ if start < stop else one
            sums = tile_scaled(over(one, sum_), sums, tile_get(bias, f, width, left, few))
            tile_put(y, v * row + f, width, sums, left, few)
        if len(exact):
            store(target, t + heads, plus(tile_numbers(target, t + heads, few), tile_log(sum_)))
        else:
            share = over(one, sum_)
            store(target, t + heads, times(tile_numbers(target, t + heads, few), share))
            store(target, t + 2 * heads, times(tile_numbers(target, t + 2 * heads, few), share))


@Kernel
def _attend_grad(
    chunk, u, start, stop, low, high, indices, eid, grad, feat, source, target, coeff, slope, d_feat, d_prob, size,
    form,
):  # fmt: skip
    """By source: d_feat, and of each edge the gradient of its softmax."""
    (heads, width), (exact, per, ahead, few) = size, form
    many, row, last = len(few), heads * width, len(indices) - 1
    of_u, of_v = (heads, 2 * heads) if len(exact) else (3 * heads, 3 * heads)
    none, steep = tile_alike(d_feat, d_feat.dtype.type(0), few), tile_alike(d_feat, slope, few)
    for h in range(low * many, high * many, many):
        for f in range(h * width, h * width + max(width, 1), len(few[0]) * lanes(d_feat)):  # of width 0 too: d_prob
            left, zeros = (h + 1) * width - f, tile_zero(d_feat, few)
            own, sums = tile_get(feat, u * row + f, width, left, few), zeros
            for s in range(start, stop):
                v, e = np.int64(at(indices, s)), np.int64(at(eid, s))
                if len(ahead) and f == low * many * width:
                    coming = np.int64(at(indices, min(s + AHEAD, last)))
                    fetch(grad, coming * row + f, (high - low) * many * width)
                    prefetch(target, coming * of_v)
                    prefetch(d_prob, np.int64(at(eid, min(s + AHEAD, last))) * heads)
                p = _weigh(exact, source, u * of_u + h, target, v * of_v + h, heads, steep, none, few)
                lines_ = tile_get(grad, v * row + f, width, left, few)
                d = tile_totals(tile_scaled(lines_, own, zeros), few)
                if len(per):
                    c = _coefficients(coeff, e, h, heads, per, few)
                    p, d = times(p, c), times(d, c)
                sums = tile_scaled(p, lines_, sums)
                if f > h * width:
                    d = plus(d, tile_numbers(d_prob, e * heads + h, few))
                store(d_prob, e * heads + h, d)
            tile_put(d_feat, u * row + f, width, sums, left, few)


@Kernel
def _attend_score_grad(
    chunk, v, start, stop, low, high, indices, eid, source, target, slope, score, d_right, heads, form
):
    """By destination: from the gradients of a softmax those of its scores, in their place, and their sum."""
    exact, ahead, few = form
    many, last = len(few), len(indices) - 1
    of_u, of_v = (heads, 2 * heads) if len(exact) else (3 * heads, 3 * heads)
    none, steep = tile_alike(score, score.dtype.type(0), few), tile_alike(score, slope, few)
    for h in range(low * many, high * many, many):
        t = v * of_v + h
        mean, whole, sum_ = none, none, none
        for s in range(start, stop):
            if len(ahead) and h == low * many:
                prefetch(source, np.int64(at(indices, min(s + AHEAD, last))) * of_u)
                prefetch(score, np.int64(at(eid, min(s + AHEAD, last))) * heads)
            i, e = at(indices, s) * of_u + h, at(eid, s) * heads + h
            p = _weigh(exact, source, i, target, t, heads, steep, none, few)
            mean = plus(mean, times(p, tile_numbers(score, e, few)))
            whole = plus(whole, p)
        # by 1, to rounding: but what cancels below is to cancel to the last bit
        mean = where_above(whole, none, over(mean, whole), mean)
        for s in range(start, stop):
            i, e = at(indices, s) * of_u + h, at(eid, s) * heads + h
            p = _weigh(exact, source, i, target, t, heads, steep, none, few)
            d = times(p, minus(tile_numbers(score, e, few), mean))
            d = where_above(_score(source, i, target, t, few), none, d, times(d, steep))
            store(score, e, d)
            sum_ = plus(sum_, d)
        store(d_right, v * heads + h, sum_)


@Kernel
def _ends_grad(chunk, u, start, stop, low, high, eid, d_score, d_right, feat, att, d_feat, d_att, heads, width, form):
    """By source: what the gradients of left and right add to that of feat, and those of the vectors that made them."""
    vectors, ahead, few = form
    many, row, last = len(few), heads * width, len(eid) - 1
    none = tile_alike(d_feat, d_feat.dtype.type(0), few)
    for h in range(low * many, high * many, many):
        of_left = none
        for s in range(start, stop):
            if len(ahead):
                prefetch(d_score, np.int64(at(eid, min(s + AHEAD, last))) * heads + h)
            of_left = plus(of_left, tile_numbers(d_score, np.int64(at(eid, s)) * heads + h, few))
        of_right = tile_numbers(d_right, u * heads + h, few) if u * heads < len(d_right) else none
        for f in range(h * width, (h + 1) * width, len(few[0]) * lanes(d_feat)):
            left, part = (h + 1) * width - f, chunk * len(vectors) * row + f
            own = tile_get(feat, u * row + f, width, left, few)
            tile_add(d_feat, u * row + f, width, of_left, tile_get(att, f, width, left, few), left, few)
            tile_add(d_att, part, width, of_left, own, left, few)
            if len(vectors) > 1:
                tile_add(d_feat, u * row + f, width, of_right, tile_get(att, row + f, width, left, few), left, few)
                tile_add(d_att, part + row, width, of_right, own, left, few)


@Kernel
def _tell(chunk, u, start, stop, low, high, left, table, slope, most, apart, heads, few):
    """The table of the sources from rows of left that are so far apart, and the largest left."""
    by, top, many = tile_alike(table, slope, few), tile_alike(table, most, few), len(few)
    for h in range(low * many, high * many, many):
        number, o = tile_numbers(left, u * apart + h, few), u * 3 * heads + h
        store(table, o, number)
        store(table, o + heads, tile_exp(minus(number, top)))
        store(table, o + 2 * heads, tile_exp(times(by, minus(number, top))))


def _sources(adj, left: Tensor, slope: float) -> tuple[Tensor, float]:
    """The table of the sources, and the largest left."""
    if left.numel() and 0 <= slope <= 1:
        low, high = (t.item() for t in left.aminmax())
        if high - low <= SPREAD:
            (flat, apart), heads, few = _flat(left), left.shape[1], _few(adj, left.unsqueeze(2))
            table, given = left.new_empty(len(left), 3 * heads), (scalar(slope, left), scalar(high, left))
            _tell(32 * left.numel(), adj.indptr, heads // len(few), flat, table.view(-1), *given, apart, heads, few)
            return table, high
    return left.contiguous(), 0.0


def _flat(x: Tensor) -> tuple[Tensor, int]:
    """The rows of x in a flat array, and how far apart they are there."""
    x = x.detach() if x.stride(1) == 1 else x.detach().contiguous()
    return x.as_strided(((len(x) - 1) * x.stride(0) + x.shape[1] if len(x) else 0,), (1,)), x.stride(0)


def _few(adj, feat: Tensor) -> tuple[tuple[int, ...], ...]:
    """The heads that are taken at a time, and the lines of each; one head where hubs are shared out by heads."""
    heads, width = feat.shape[1:]
    each = min(MOST, 1 << (lines(feat, width) - 1).bit_length())  # few kernels: 1, 2, 4 or 8
    return (static(each),) * (1 if heads % 4 or has_hubs(adj.indptr) else min(4, MOST // each))


def _per(coeff: Tensor | None) -> tuple[int, ...]:
    """Coefficients of an edge, `static`: none, one, or one for each head."""
    return static(0 if coeff is None else min(coeff.shape[1], 2))


def attend(
    csc, csr, feat: Tensor, left: Tensor, right: Tensor, slope: float, coeff: Tensor | None, bias: Tensor | None
) -> tuple[Tensor, ...]:
    heads, width = feat.shape[1:]
    (source, most), (flat, apart) = _sources(csr, left, slope), _flat(right)
    exact = source.shape[1] == heads
    y, target = feat.new_empty(len(right), heads, width), feat.new_empty(len(right), heads * (2 if exact else 3))
    weight, shift = (t if t is not None else feat.new_zeros(n) for t, n in ((coeff, 0), (bias, heads * width)))
    ends = feat.view(-1), source.view(-1), flat
    arrays = csc.indices, csc.eid, *ends, *(t.view(-1) for t in (target, weight, shift, y))
    work, few, size = len(csc.eid) * heads * (width + 8), _few(csc, feat), (heads, width, apart)
    given, form = (scalar(slope, feat), scalar(most, feat)), (static(exact), _per(coeff), ahead_of(feat), few)
    _attend(work, csc.indptr, heads // len(few), *arrays, *given, size, form)
    return y, source, target


def attend_grad(
    csc, csr, grad: Tensor, feat: Tensor, slope: float, coeff: Tensor | None, *kept: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    (heads, width), (source, target) = feat.shape[1:], kept
    d_feat, d_right = feat.new_empty(*feat.shape), target.new_empty(len(target), heads)
    score = source.new_empty(len(csr.eid), heads)
    weight = coeff if coeff is not None else feat.new_zeros(0)
    work, factor, exact = len(csr.eid) * heads, scalar(slope, feat), static(source.shape[1] == heads)
    tables, few = (source.view(-1), target.view(-1)), _few(csr, feat)
    arrays = csr.indices, csr.eid, grad.view(-1), feat.view(-1), *tables, weight.view(-1), factor
    results, form = (d_feat.view(-1), score.view(-1)), (exact, _per(coeff), ahead_of(grad), few)
    _attend_grad(work * (2 * width + 8), csr.indptr, heads // len(few), *arrays, *results, (heads, width), form)
    few, into = _few(csc, score.unsqueeze(2)), (csc.indices, csc.eid, *tables, factor, score.view(-1))
    columns = heads // len(few)
    _attend_score_grad(work * 16, csc.indptr, columns, *into, d_right.view(-1), heads, (exact, ahead_of(score), few))
    return d_feat, score, d_right


def attend_ends_grad(csr, feat: Tensor, att: Tensor, d_score: Tensor, d_right: Tensor | None, d_feat: Tensor) -> Tensor:
    heads, width = feat.shape[1:]
    right = feat.new_empty(0) if d_right is None else d_right.view(-1)
    arrays = csr.eid, d_score.view(-1), right, feat.view(-1), att.view(-1), d_feat.view(-1)
    few, d_att = _few(csr, feat), feat.new_zeros(CHUNKS, *att.shape)
    work, form = d_score.numel() + 4 * feat.numel(), (static(len(att)), ahead_of(d_score), few)
    _ends_grad(work, csr.indptr, heads // len(few), *arrays, d_att.view(-1), heads, width, form)
    return d_att.sum(0)
