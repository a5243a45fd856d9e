"""Attention, a part of `gnnlib.kernels.cpu`: scores, softmax and sum in one walk over the edges, and the way back.

Heads are taken four at a time where their number allows: what the tables say of an edge is then one load for all four.
"""

import numpy as np
import torch
from torch import Tensor

from gnnlib.kernels.few import (
    few_alike,
    few_exp,
    few_get,
    few_load,
    few_load_first,
    few_log,
    few_numbers,
    few_put,
    few_scaled,
    few_store,
    few_store_first,
    few_totals,
    few_zero,
    minus,
    over,
    plus,
    times,
)
from gnnlib.kernels.rows import ahead_of, clear, fetch, inline, scalar
from gnnlib.kernels.sums import edge_sum
from gnnlib.kernels.team import Kernel, has_hubs
from gnnlib.kernels.vectors import at, lanes, prefetch, store, where_above

# With c the largest left of any source and z = left_u + right_v: relative to leaky(c + right_v), which no score of v
# exceeds, exp(leaky(z)) is exp(left_u - c) for z > 0, and exp(slope (left_u - c)) exp((slope - 1) max(0, c + right_v))
# else. So there are exponentials for each node, none for each edge. Scores that lie too far apart for that are
# taken one by one ("exact"), relative to the top of each row.
#
# Tables, a row a node, in it a number a head. Of a source: left, the factor for z > 0, the one for the others; exact:
# left. Of a destination: right and such factors, which the forward pass divides by the softmax's denominator when it
# knows it; exact: right and the top, which becomes the denominator's logarithm.
SPREAD = 40.0


@inline
def _score(source, i, target, t, few):
    """left + right of an edge, of whose ends i and t are the places in the tables."""
    return plus(few_numbers(source, i, few), few_numbers(target, t, few))


@inline
def _weigh(exact, source, i, target, t, heads, slope, none, few):
    """exp(leaky(score)) relative to what the tables of both ends say."""
    z = _score(source, i, target, t, few)
    if exact:
        return few_exp(minus(where_above(z, none, z, times(z, slope)), few_numbers(target, t + heads, few)))
    above = times(few_numbers(source, i + heads, few), few_numbers(target, t + heads, few))
    below = times(few_numbers(source, i + 2 * heads, few), few_numbers(target, t + 2 * heads, few))
    return where_above(z, none, above, below)  # both made, for the sign of z cannot be foreseen


@inline
def _coefficients(coeff, e, h, per, few):
    return few_numbers(coeff, e * per + h, few) if per > 1 else few_alike(coeff, at(coeff, e), few)


@inline
def _add_four(y, o, x, i0, i1, i2, i3, c0, c1, c2, c3, width, few):
    """In each head, y[o : o + width] += the sum of c x[i : i + width]"""
    for f in range(0, width, lanes(y)):
        n = width - f
        lines = few_scaled(c0, few_get(x, i0 + f, width, n, few), few_get(y, o + f, width, n, few))
        lines = few_scaled(c1, few_get(x, i1 + f, width, n, few), lines)
        lines = few_scaled(c2, few_get(x, i2 + f, width, n, few), lines)
        few_put(y, o + f, width, few_scaled(c3, few_get(x, i3 + f, width, n, few), lines), n)


@inline
def _scale_and_add(y, o, c, x, i, width, few):
    """In each head, y[o : o + width] = c y[o : o + width] + x[i : i + width]"""
    for f in range(0, width, lanes(y)):
        n = width - f
        lines = few_scaled(c, few_get(y, o + f, width, n, few), few_get(x, i + f, width, n, few))
        few_put(y, o + f, width, lines, n)


@inline
def _dots_and_add(x, i, a, o, y, c, width, few):
    """In each head <x[i : i + width], a[o : o + width]>; and y[o : o + width] += c x[i : i + width]"""
    step, sums = lanes(y), few_zero(y, few)
    for f in range(0, width - step + 1, step):
        lines = few_load(x, i + f, width, few)
        sums = few_scaled(lines, few_load(a, o + f, width, few), sums)
        few_store(y, o + f, width, few_scaled(c, lines, few_load(y, o + f, width, few)))
    rest = width % step
    if rest:
        f = width - rest
        lines = few_load_first(x, i + f, width, rest, few)
        sums = few_scaled(lines, few_load_first(a, o + f, width, rest, few), sums)
        few_store_first(y, o + f, width, few_scaled(c, lines, few_load_first(y, o + f, width, rest, few)), rest)
    return few_totals(sums)


@Kernel
def _attend(
    chunk, v, start, stop, low, high, indices, eid, feat, source, target, coeff, slope, bias, y, exact, shape, few
):
    heads, width, per, ahead = shape
    many, row, last = len(few), heads * width, len(indices) - 1
    of_u, of_v = (heads, 2 * heads) if exact else (3 * heads, 3 * heads)
    none, one, steep = few_alike(y, y.dtype.type(0), few), few_alike(y, y.dtype.type(1), few), few_alike(y, slope, few)
    fours = start + (stop - start) // 4 * 4
    for h in range(low * many, high * many, many):
        o, t, g = v * row + h * width, v * of_v + h, h * width
        sum_ = none
        clear(y, o, many * width)
        if exact:
            top = few_alike(y, y.dtype.type(-np.inf), few)
            for s in range(start, stop):
                z = _score(source, at(indices, s) * of_u + h, target, t, few)
                score = where_above(z, none, z, times(z, steep))
                top = where_above(score, top, score, top)
            store(target, t + heads, top)
        for s in range(start, fours, 4):
            if ahead and h == low * many:
                for k in range(4):
                    coming = np.int64(at(indices, min(s + ahead + k, last)))
                    fetch(feat, coming * row + g, (high - low) * many * width)
                    prefetch(source, coming * of_u)
            u0, u1, u2, u3 = at(indices, s), at(indices, s + 1), at(indices, s + 2), at(indices, s + 3)
            i0, i1, i2, i3 = u0 * of_u + h, u1 * of_u + h, u2 * of_u + h, u3 * of_u + h
            c0 = _weigh(exact, source, i0, target, t, heads, steep, none, few)
            c1 = _weigh(exact, source, i1, target, t, heads, steep, none, few)
            c2 = _weigh(exact, source, i2, target, t, heads, steep, none, few)
            c3 = _weigh(exact, source, i3, target, t, heads, steep, none, few)
            sum_ = plus(sum_, plus(plus(c0, c1), plus(c2, c3)))
            if per:
                c0 = times(c0, _coefficients(coeff, np.int64(at(eid, s)), h, per, few))
                c1 = times(c1, _coefficients(coeff, np.int64(at(eid, s + 1)), h, per, few))
                c2 = times(c2, _coefficients(coeff, np.int64(at(eid, s + 2)), h, per, few))
                c3 = times(c3, _coefficients(coeff, np.int64(at(eid, s + 3)), h, per, few))
            f0, f1, f2, f3 = u0 * row + g, u1 * row + g, u2 * row + g, u3 * row + g
            _add_four(y, o, feat, f0, f1, f2, f3, c0, c1, c2, c3, width, few)
        for s in range(fours, stop):
            if ahead and h == low * many:
                fetch(feat, at(indices, min(s + ahead, last)) * row + g, (high - low) * many * width)
            u = np.int64(at(indices, s))
            i = u * of_u + h
            c = _weigh(exact, source, i, target, t, heads, steep, none, few)
            sum_ = plus(sum_, c)
            if per:
                c = times(c, _coefficients(coeff, np.int64(at(eid, s)), h, per, few))
            for f in range(0, width, lanes(y)):
                n = width - f
                lines = few_get(feat, u * row + g + f, width, n, few)
                few_put(y, o + f, width, few_scaled(c, lines, few_get(y, o + f, width, n, few)), n)
        share = over(one, sum_) if start < stop else one
        _scale_and_add(y, o, share, bias, g, width, few)
        if exact:
            store(target, t + heads, plus(few_numbers(target, t + heads, few), few_log(sum_)))
        else:
            store(target, t + heads, times(few_numbers(target, t + heads, few), share))
            store(target, t + 2 * heads, times(few_numbers(target, t + 2 * heads, few), share))


@Kernel
def _attend_grad(
    chunk, u, start, stop, low, high, indices, eid, grad, feat, source, target, coeff, slope, d_feat, d_prob, exact,
    shape, few,
):  # fmt: skip
    """By source: d_feat, and of each edge the gradient of its softmax."""
    heads, width, per, ahead = shape
    many, row, last = len(few), heads * width, len(indices) - 1
    of_u, of_v = (heads, 2 * heads) if exact else (3 * heads, 3 * heads)
    none, steep = few_alike(d_feat, d_feat.dtype.type(0), few), few_alike(d_feat, slope, few)
    for h in range(low * many, high * many, many):
        i, o = u * of_u + h, u * row + h * width
        clear(d_feat, o, many * width)
        for s in range(start, stop):
            v, e = np.int64(at(indices, s)), np.int64(at(eid, s))
            if ahead and h == low * many:
                coming = np.int64(at(indices, min(s + ahead, last)))
                fetch(grad, coming * row + h * width, (high - low) * many * width)
                prefetch(target, coming * of_v)
                prefetch(d_prob, np.int64(at(eid, min(s + ahead, last))) * heads)
            t = v * of_v + h
            p = _weigh(exact, source, i, target, t, heads, steep, none, few)
            if per:
                c = _coefficients(coeff, e, h, per, few)
                d = times(c, _dots_and_add(grad, v * row + h * width, feat, o, d_feat, times(p, c), width, few))
            else:
                d = _dots_and_add(grad, v * row + h * width, feat, o, d_feat, p, width, few)
            store(d_prob, e * heads + h, d)


@Kernel
def _attend_score_grad(
    chunk, v, start, stop, low, high, indices, eid, source, target, slope, score, d_right, exact, heads, ahead, few
):
    """By destination: from the gradients of a softmax those of its scores, in their place, and their sum."""
    many, last = len(few), len(indices) - 1
    of_u, of_v = (heads, 2 * heads) if exact else (3 * heads, 3 * heads)
    none, steep = few_alike(score, score.dtype.type(0), few), few_alike(score, slope, few)
    for h in range(low * many, high * many, many):
        t = v * of_v + h
        mean, whole, sum_ = none, none, none
        for s in range(start, stop):
            if ahead and h == low * many:
                prefetch(source, np.int64(at(indices, min(s + ahead, last))) * of_u)
                prefetch(score, np.int64(at(eid, min(s + ahead, last))) * heads)
            i, e = at(indices, s) * of_u + h, at(eid, s) * heads + h
            p = _weigh(exact, source, i, target, t, heads, steep, none, few)
            mean = plus(mean, times(p, few_numbers(score, e, few)))
            whole = plus(whole, p)
        # by 1, to rounding: but what cancels below is to cancel to the last bit
        mean = where_above(whole, none, over(mean, whole), mean)
        for s in range(start, stop):
            i, e = at(indices, s) * of_u + h, at(eid, s) * heads + h
            p = _weigh(exact, source, i, target, t, heads, steep, none, few)
            d = times(p, minus(few_numbers(score, e, few), mean))
            d = where_above(_score(source, i, target, t, few), none, d, times(d, steep))
            store(score, e, d)
            sum_ = plus(sum_, d)
        store(d_right, v * heads + h, sum_)


def _tables(left: Tensor, right: Tensor, slope: float) -> tuple[Tensor, Tensor]:
    """The tables of the sources and of the destinations, before the softmax's denominators are known."""
    if left.numel() and right.numel() and 0 <= slope <= 1:
        (low, high), ends = (t.item() for t in left.aminmax()), [t.item() for t in right.aminmax()]
        if high - low <= SPREAD and np.isfinite(ends).all():
            apart, bound = left - high, (right + high).clamp_(min=0)
            source = torch.cat([left, apart.exp(), apart.mul_(slope).exp_()], 1)
            return source, torch.cat([right, torch.ones_like(right), bound.mul_(slope - 1).exp_()], 1)
    return left.contiguous(), torch.cat([right, right], 1)


def _few(adj, heads: int) -> tuple[int, ...]:
    """As long as heads are taken at a time; one by one where hubs are shared out by heads."""
    return (0,) * (4 if heads % 4 == 0 and not has_hubs(adj.indptr) else 1)


def _per(coeff: Tensor | None) -> int:
    """Coefficients of an edge."""
    return 0 if coeff is None else coeff.shape[1]


def attend(
    adj, feat: Tensor, left: Tensor, right: Tensor, slope: float, coeff: Tensor | None, bias: Tensor | None
) -> tuple[Tensor, ...]:
    heads, width = feat.shape[1:]
    y, (source, target) = feat.new_empty(len(right), heads, width), _tables(left, right, slope)
    weight, shift = (t if t is not None else feat.new_zeros(n) for t, n in ((coeff, 0), (bias, heads * width)))
    arrays = adj.indices, adj.eid, *(t.view(-1) for t in (feat, source, target, weight)), scalar(slope, feat)
    work, few = len(adj.eid) * heads * (width + 8), _few(adj, heads)
    shape = heads, width, _per(coeff), ahead_of(feat)
    arrays = *arrays, shift.view(-1), y.view(-1), source.shape[1] == heads
    _attend(work, adj.indptr, heads // len(few), *arrays, shape, few)
    return y, source, target


def attend_grad(
    csc, csr, grad: Tensor, feat: Tensor, slope: float, coeff: Tensor | None, *kept: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    (heads, width), (source, target) = feat.shape[1:], kept
    d_feat, d_right = feat.new_empty(*feat.shape), target.new_empty(len(target), heads)
    score = source.new_empty(len(csr.eid), heads)
    weight = coeff if coeff is not None else feat.new_zeros(0)
    work, factor, exact = len(csr.eid) * heads, scalar(slope, feat), source.shape[1] == heads
    tables = source.view(-1), target.view(-1)
    arrays = csr.indices, csr.eid, grad.view(-1), feat.view(-1), *tables, weight.view(-1), factor
    results, few = (d_feat.view(-1), score.view(-1)), _few(csr, heads)
    shape = heads, width, _per(coeff), ahead_of(grad)
    columns = heads // len(few)
    _attend_grad(work * (2 * width + 8), csr.indptr, columns, *arrays, *results, exact, shape, few)
    into, few = (csc.indices, csc.eid, *tables, factor, score.view(-1), d_right.view(-1)), _few(csc, heads)
    _attend_score_grad(work * 16, csc.indptr, heads // len(few), *into, exact, heads, ahead_of(score), few)
    return d_feat, edge_sum(csr, score), d_right
