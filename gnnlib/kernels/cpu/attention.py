"""Attention: scores, softmax and weighted sum in one pass over the edges, and its gradients.

Up to four heads are processed at a time, as long as they have at most `MAX_LINES` cache lines together: each load of
an edge's tables serves all of them, and sums stay in registers. A wider head takes a pass for each `MAX_LINES`
lines.
"""

from typing import NamedTuple

import numpy as np
from torch import Tensor

from gnnlib.kernels.cpu.rows import AHEAD, empty, fetch, inline, numbers, scalar, static
from gnnlib.kernels.cpu.team import CHUNKS, Array, has_hubs, kernel
from gnnlib.kernels.cpu.tiles import (
    minus,
    over,
    plus,
    tile_add,
    tile_exp,
    tile_fill,
    tile_get,
    tile_log,
    tile_numbers,
    tile_put,
    tile_scaled,
    tile_totals,
    tile_zero,
    times,
)
from gnnlib.kernels.cpu.vectors import at, lanes, lines, number, prefetch, store, where_above

# With c the largest score of a source and z = src_score_u + dst_score_v: relative to leaky(c + dst_score_v), an upper
# bound of the scores of v, exp(leaky(z)) is exp(src_score_u - c) for z > 0, else
# exp(slope (src_score_u - c)) exp((slope - 1) max(0, c + dst_score_v)). So exponentials are computed per node, not per
# edge. If the scores of the sources differ by more than SPREAD, exponentials are computed per edge, relative to the
# maximum of each row: the exact mode.
#
# The tables have a row per node, with the following numbers for each head. Source: its score, the factor for z > 0, the
# factor for z <= 0; exact: its score. Destination, written by the forward pass: its score and two such factors, over
# the softmax's denominator once that is known; exact: its score and the maximum, then the denominator's logarithm.
SPREAD = 40.0
MAX_LINES = 8  # the sums, a row and its factors are three times as many registers


@inline
def _score(src_table, i, dst_table, t, tile):
    """The sum of both ends' scores, at the positions i and t of the tables."""
    return plus(tile_numbers(src_table, i, tile), tile_numbers(dst_table, t, tile))


@inline
def _weight(exact, src_table, i, dst_table, t, heads, slope, none, tile):
    """exp(leaky(score)), relative as the tables of both ends are."""
    z = _score(src_table, i, dst_table, t, tile)
    if exact:
        return tile_exp(minus(where_above(z, none, z, times(z, slope)), tile_numbers(dst_table, t + heads, tile)))
    above = times(tile_numbers(src_table, i + heads, tile), tile_numbers(dst_table, t + heads, tile))
    below = times(tile_numbers(src_table, i + 2 * heads, tile), tile_numbers(dst_table, t + 2 * heads, tile))
    return where_above(z, none, above, below)  # both are computed: the sign of z is unpredictable


@inline
def _top(src_table, indices, start, stop, src_size, h, dst_table, t, none, slope, tile):
    """The largest score of a row."""
    top = tile_fill(src_table, src_table.dtype.type(-np.inf), tile)
    for s in range(start, stop):
        z = _score(src_table, at(indices, s) * src_size + h, dst_table, t, tile)
        score = where_above(z, none, z, times(z, slope))
        top = where_above(score, top, score, top)
    return top


class AttendArgs(NamedTuple):
    """Rows of ``dst_score`` are ``stride`` numbers apart; ``src_top`` is the largest score of a source; ``weighted``:
    whether there is ``coeff`` (E, heads). ``tile`` is `static`."""

    indices: Array
    eid: Array
    feat: Array
    src_table: Array
    dst_score: Array
    dst_table: Array
    coeff: Array
    bias: Array
    y: Array
    slope: float
    src_top: float
    heads: int
    width: int
    stride: int
    exact: bool
    weighted: bool
    tile: tuple


@kernel(AttendArgs)
def _attend(row, args):
    indices, eid, feat, src_table, dst_table = args.indices, args.eid, args.feat, args.src_table, args.dst_table
    y, heads, width, exact, tile = args.y, args.heads, args.width, args.exact, args.tile
    start, stop, v, first, end = row.start, row.stop, row.v, row.low * len(tile), row.high * len(tile)
    stride, last = heads * width, len(indices) - 1
    src_size, dst_size = (heads, 2 * heads) if exact else (3 * heads, 3 * heads)
    none, one, slope = (
        tile_fill(y, number(y, 0), tile),
        tile_fill(y, number(y, 1), tile),
        tile_fill(y, args.slope, tile),
    )
    for h in range(first, end, len(tile)):
        t, sum_, score = v * dst_size + h, one, tile_numbers(args.dst_score, v * args.stride + h, tile)
        store(dst_table, t, score)
        if exact:
            top = _top(src_table, indices, start, stop, src_size, h, dst_table, t, none, slope, tile)
            store(dst_table, t + heads, top)
        else:
            finite, bound = plus(one, minus(score, score)), plus(score, tile_fill(y, args.src_top, tile))  # or NaN
            bound = where_above(bound, none, bound, none)
            store(dst_table, t + heads, finite)
            store(dst_table, t + 2 * heads, times(finite, tile_exp(times(bound, minus(slope, one)))))
        for f in range(h * width, (h + 1) * width, len(tile[0]) * lanes(y)):
            remaining, sum_, sums = (h + 1) * width - f, none, tile_zero(y, tile)
            for s in range(start, stop):
                if f == first * width:
                    ahead = np.int64(at(indices, min(s + AHEAD, last)))
                    fetch(feat, ahead * stride + f, (end - first) * width)
                    prefetch(src_table, ahead * src_size)
                u = np.int64(at(indices, s))
                c = _weight(exact, src_table, u * src_size + h, dst_table, t, heads, slope, none, tile)
                sum_ = plus(sum_, c)
                if args.weighted:
                    c = times(c, tile_numbers(args.coeff, np.int64(at(eid, s)) * heads + h, tile))
                sums = tile_scaled(c, tile_get(feat, u * stride + f, width, remaining, tile), sums)
            sum_ = sum_ if start < stop else one
            sums = tile_scaled(over(one, sum_), sums, tile_get(args.bias, f, width, remaining, tile))
            tile_put(y, v * stride + f, width, sums, remaining, tile)
        if exact:
            store(dst_table, t + heads, plus(tile_numbers(dst_table, t + heads, tile), tile_log(sum_)))
        else:
            share = over(one, sum_)
            store(dst_table, t + heads, times(tile_numbers(dst_table, t + heads, tile), share))
            store(dst_table, t + 2 * heads, times(tile_numbers(dst_table, t + 2 * heads, tile), share))


class FeatGradArgs(NamedTuple):
    indices: Array
    eid: Array
    grad: Array
    feat: Array
    src_table: Array
    dst_table: Array
    coeff: Array
    slope: float
    d_feat: Array
    d_prob: Array
    heads: int
    width: int
    exact: bool
    weighted: bool
    tile: tuple


@kernel(FeatGradArgs)
def _attend_feat_grad(row, args):
    """By source: the gradient of feat, and for each edge the gradient of its softmax."""
    indices, eid, grad, feat, src_table, dst_table = (
        args.indices,
        args.eid,
        args.grad,
        args.feat,
        args.src_table,
        args.dst_table,
    )
    d_feat, d_prob, heads, width, exact, tile = args.d_feat, args.d_prob, args.heads, args.width, args.exact, args.tile
    u, first, end = row.v, row.low * len(tile), row.high * len(tile)
    stride, last = heads * width, len(indices) - 1
    src_size, dst_size = (heads, 2 * heads) if exact else (3 * heads, 3 * heads)
    none, slope = tile_fill(d_feat, number(d_feat, 0), tile), tile_fill(d_feat, args.slope, tile)
    for h in range(first, end, len(tile)):
        # at least one pass, which writes d_prob, also for a width of 0
        for f in range(h * width, h * width + max(width, 1), len(tile[0]) * lanes(d_feat)):
            remaining, zeros = (h + 1) * width - f, tile_zero(d_feat, tile)
            x, sums = tile_get(feat, u * stride + f, width, remaining, tile), zeros
            for s in range(row.start, row.stop):
                v, e = np.int64(at(indices, s)), np.int64(at(eid, s))
                if f == first * width:
                    ahead = np.int64(at(indices, min(s + AHEAD, last)))
                    fetch(grad, ahead * stride + f, (end - first) * width)
                    prefetch(dst_table, ahead * dst_size)
                    prefetch(d_prob, np.int64(at(eid, min(s + AHEAD, last))) * heads)
                p = _weight(exact, src_table, u * src_size + h, dst_table, v * dst_size + h, heads, slope, none, tile)
                lines_ = tile_get(grad, v * stride + f, width, remaining, tile)
                d = tile_totals(tile_scaled(lines_, x, zeros), tile)
                if args.weighted:
                    c = tile_numbers(args.coeff, e * heads + h, tile)
                    p, d = times(p, c), times(d, c)
                sums = tile_scaled(p, lines_, sums)
                if f > h * width:
                    d = plus(d, tile_numbers(d_prob, e * heads + h, tile))
                store(d_prob, e * heads + h, d)
            tile_put(d_feat, u * stride + f, width, sums, remaining, tile)


class ScoreGradArgs(NamedTuple):
    """``score``: (E, heads) the gradients of the softmax, overwritten by those of the scores."""

    indices: Array
    eid: Array
    src_table: Array
    dst_table: Array
    slope: float
    score: Array
    d_dst: Array
    heads: int
    exact: bool
    tile: tuple


@kernel(ScoreGradArgs)
def _attend_score_grad(row, args):
    """By destination: the gradients of the scores, and their sums."""
    indices, eid, src_table, dst_table, score = args.indices, args.eid, args.src_table, args.dst_table, args.score
    heads, exact, tile, start, stop = args.heads, args.exact, args.tile, row.start, row.stop
    first, end, last = row.low * len(tile), row.high * len(tile), len(indices) - 1
    src_size, dst_size = (heads, 2 * heads) if exact else (3 * heads, 3 * heads)
    none, slope = tile_fill(score, number(score, 0), tile), tile_fill(score, args.slope, tile)
    for h in range(first, end, len(tile)):
        t = row.v * dst_size + h
        mean, total, sum_ = none, none, none
        for s in range(start, stop):
            if h == first:
                prefetch(src_table, np.int64(at(indices, min(s + AHEAD, last))) * src_size)
                prefetch(score, np.int64(at(eid, min(s + AHEAD, last))) * heads)
            i, e = at(indices, s) * src_size + h, at(eid, s) * heads + h
            p = _weight(exact, src_table, i, dst_table, t, heads, slope, none, tile)
            mean = plus(mean, times(p, tile_numbers(score, e, tile)))
            total = plus(total, p)
        # the total is 1 up to rounding; the division makes what cancels below cancel to the last bit
        mean = where_above(total, none, over(mean, total), mean)
        for s in range(start, stop):
            i, e = at(indices, s) * src_size + h, at(eid, s) * heads + h
            p = _weight(exact, src_table, i, dst_table, t, heads, slope, none, tile)
            d = times(p, minus(tile_numbers(score, e, tile), mean))
            d = where_above(_score(src_table, i, dst_table, t, tile), none, d, times(d, slope))
            store(score, e, d)
            sum_ = plus(sum_, d)
        store(args.d_dst, row.v * heads + h, sum_)


class EndsGradArgs(NamedTuple):
    """``att``: (vectors, heads, width), 1 or 2 vectors."""

    eid: Array
    d_score: Array
    d_dst: Array
    feat: Array
    att: Array
    d_feat: Array
    d_att: Array
    heads: int
    width: int
    vectors: int
    tile: tuple


@kernel(EndsGradArgs)
def _ends_grad(row, args):
    """By source: what both ends' scores add to the gradient of feat, and the gradients of att."""
    eid, d_score, d_dst, feat, att = args.eid, args.d_score, args.d_dst, args.feat, args.att
    d_feat, d_att, heads, width, tile, u = args.d_feat, args.d_att, args.heads, args.width, args.tile, row.v
    stride, last = heads * width, len(eid) - 1
    none = tile_fill(d_feat, number(d_feat, 0), tile)
    for h in range(row.low * len(tile), row.high * len(tile), len(tile)):
        d_src_u = none
        for s in range(row.start, row.stop):
            prefetch(d_score, np.int64(at(eid, min(s + AHEAD, last))) * heads + h)
            d_src_u = plus(d_src_u, tile_numbers(d_score, np.int64(at(eid, s)) * heads + h, tile))
        d_dst_u = tile_numbers(d_dst, u * heads + h, tile) if u * heads < len(d_dst) else none
        for f in range(h * width, (h + 1) * width, len(tile[0]) * lanes(d_feat)):
            remaining, part, o = (h + 1) * width - f, row.chunk * args.vectors * stride + f, u * stride + f
            x = tile_get(feat, o, width, remaining, tile)
            sums = tile_get(d_feat, o, width, remaining, tile)
            sums = tile_scaled(d_src_u, tile_get(att, f, width, remaining, tile), sums)
            tile_add(d_att, part, width, d_src_u, x, remaining, tile)
            if args.vectors > 1:
                sums = tile_scaled(d_dst_u, tile_get(att, stride + f, width, remaining, tile), sums)
                tile_add(d_att, part + stride, width, d_dst_u, x, remaining, tile)
            tile_put(d_feat, o, width, sums, remaining, tile)


class SourceTableArgs(NamedTuple):
    """Rows of ``score`` are ``stride`` numbers apart; ``top`` is the largest score."""

    score: Array
    table: Array
    slope: float
    top: float
    stride: int
    heads: int
    tile: tuple


@kernel(SourceTableArgs)
def _source_table(row, args):
    table, heads, tile, u = args.table, args.heads, args.tile, row.v
    slope, top = tile_fill(table, args.slope, tile), tile_fill(table, args.top, tile)
    for h in range(row.low * len(tile), row.high * len(tile), len(tile)):
        score, o = tile_numbers(args.score, u * args.stride + h, tile), u * 3 * heads + h
        store(table, o, score)
        store(table, o + heads, tile_exp(minus(score, top)))
        store(table, o + 2 * heads, tile_exp(times(slope, minus(score, top))))


def _sources(adj, src_score: Tensor, slope: float) -> tuple[Tensor, float]:
    """The table of the sources, and their largest score."""
    if src_score.numel() and 0 <= slope <= 1:
        low, high = (t.item() for t in src_score.aminmax())
        if high - low <= SPREAD:
            (flat, stride), heads, tile = _flat(src_score), src_score.shape[1], _tile(adj, src_score.unsqueeze(2))
            table = src_score.new_empty(len(src_score), 3 * heads)
            factors = scalar(slope, src_score), scalar(high, src_score)
            args = SourceTableArgs(flat, table, *factors, stride, heads, tile)
            _source_table(32 * src_score.numel(), adj.indptr, heads // len(tile), args)
            return table, high
    return src_score.contiguous(), 0.0


def _flat(x: Tensor) -> tuple[Tensor, int]:
    """The rows of x in a flat array, and their stride."""
    x = x.detach() if x.stride(1) == 1 else x.detach().contiguous()
    return x.as_strided(((len(x) - 1) * x.stride(0) + x.shape[1] if len(x) else 0,), (1,)), x.stride(0)


def _tile(adj, feat: Tensor) -> tuple[tuple[int, ...], ...]:
    """The heads that are processed at a time, and the lines of each; one head where hubs are divided by heads."""
    heads, width = feat.shape[1:]
    per_head = min(MAX_LINES, 1 << (max(1, lines(feat, width)) - 1).bit_length())  # 1, 2, 4 or 8: few kernels
    return (static(per_head),) * (1 if heads % 4 or has_hubs(adj.indptr) else min(4, MAX_LINES // per_head))


def _coefficients(coeff: Tensor | None, like: Tensor) -> Tensor:
    """Flat (E, H) coefficients, empty for none."""
    return empty(like) if coeff is None else coeff.expand(-1, like.shape[1]).contiguous()


def attend(
    csc,
    csr,
    feat: Tensor,
    src_score: Tensor,
    dst_score: Tensor,
    slope: float,
    coeff: Tensor | None,
    bias: Tensor | None,
) -> tuple[Tensor, ...]:
    heads, width = feat.shape[1:]
    src_score, dst_score = numbers(src_score), numbers(dst_score)
    (src_table, src_top), (flat, stride) = _sources(csr, src_score, slope), _flat(dst_score)
    exact = src_table.shape[1] == heads
    y = feat.new_empty(len(dst_score), heads, width)
    dst_table = dst_score.new_empty(len(dst_score), heads * (2 if exact else 3))
    weight = _coefficients(coeff, feat)
    shift = dst_score.new_zeros(heads * width) if bias is None else numbers(bias)
    ends, tile = (feat, src_table, flat, dst_table), _tile(csc, feat)
    factors, shape = (scalar(slope, feat), scalar(src_top, feat)), (heads, width, stride)
    arrays = csc.indices, csc.eid, *ends, weight, shift, y
    args = AttendArgs(*arrays, *factors, *shape, exact, coeff is not None, tile)
    _attend(len(csc.eid) * heads * (width + 8), csc.indptr, heads // len(tile), args)
    return y, src_table, dst_table


def attend_grad(
    csc, csr, grad: Tensor, feat: Tensor, slope: float, coeff: Tensor | None, *saved: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    (heads, width), (src_table, dst_table) = feat.shape[1:], saved
    d_feat, d_dst = feat.new_empty(*feat.shape), dst_table.new_empty(len(dst_table), heads)
    score, exact = src_table.new_empty(len(csr.eid), heads), src_table.shape[1] == heads
    weight = _coefficients(coeff, feat)
    work, factor = len(csr.eid) * heads, scalar(slope, feat)
    tables, tile = (src_table, dst_table), _tile(csr, feat)
    arrays = csr.indices, csr.eid, grad, feat, *tables, weight
    results = d_feat, score
    by_src = FeatGradArgs(*arrays, factor, *results, heads, width, exact, coeff is not None, tile)
    _attend_feat_grad(work * (2 * width + 8), csr.indptr, heads // len(tile), by_src)
    tile = _tile(csc, score.unsqueeze(2))
    results = score, d_dst
    by_dst = ScoreGradArgs(csc.indices, csc.eid, *tables, factor, *results, heads, exact, tile)
    _attend_score_grad(work * 16, csc.indptr, heads // len(tile), by_dst)
    return d_feat, score, d_dst


def attend_ends_grad(
    csr, feat: Tensor, att: Tensor, d_score: Tensor, d_dst: Tensor | None, d_feat: Tensor
) -> tuple[Tensor, Tensor]:
    heads, width = feat.shape[1:]
    att, d_score = numbers(att), numbers(d_score)
    dst = empty(d_score) if d_dst is None else numbers(d_dst)
    arrays = csr.eid, d_score, dst, feat, att, d_feat
    tile, d_att = _tile(csr, feat), att.new_zeros(CHUNKS, *att.shape)
    args = EndsGradArgs(*arrays, d_att, heads, width, len(att), tile)
    _ends_grad(d_score.numel() + 4 * feat.numel(), csr.indptr, heads // len(tile), args)
    return d_feat, d_att.sum(0)
