"""Values of edges: dot products of both ends, softmax over the edges of a row, and scores of attention."""

import math
from typing import NamedTuple

import numpy as np
from torch import Tensor

from gnnlib.kernels.cpu.rows import AHEAD, ahead_of, dot, fetch, numbers, scalar, static, sums
from gnnlib.kernels.cpu.team import CHUNKS, FASTMATH, Array, has_hubs, kernel
from gnnlib.kernels.cpu.tiles import (
    minus,
    over,
    plus,
    tile_exp,
    tile_fill,
    tile_get,
    tile_numbers,
    tile_scaled,
    tile_totals,
    tile_zero,
    times,
)
from gnnlib.kernels.cpu.vectors import at, lanes, lines, number, prefetch, store, where_above, write
from gnnlib.kernels.half import widened

# LLVM vectorises a plain loop over a dot product only if it may reassociate the sum.
FASTMATH_DOT = FASTMATH | {"reassoc"}
FOUR_HEADS = (static(1),) * 4
EDGE_PARTS = 16  # parts that the edges of a hub are divided into where edges are independent


class EdgeDotArgs(NamedTuple):
    indices: Array
    eid: Array
    x: Array
    y: Array
    out: Array
    heads: int
    x_heads: int
    y_heads: int
    width: int
    ahead: tuple


@kernel(EdgeDotArgs)
def _edge_dot(row, args):
    indices, x, heads, width, start, stop = args.indices, args.x, args.heads, args.width, row.start, row.stop
    stride, last = args.x_heads * width, len(indices) - 1
    x_step, y_step = width * (args.x_heads > 1), width * (args.y_heads > 1)
    first, end = start + (stop - start) * row.low // EDGE_PARTS, start + (stop - start) * row.high // EDGE_PARTS
    for s in range(first, end):
        if len(args.ahead):
            fetch(x, at(indices, min(s + AHEAD, last)) * stride, stride)
            prefetch(args.out, np.int64(at(args.eid, min(s + AHEAD, last))) * heads)
        i, o, e = at(indices, s) * stride, row.v * args.y_heads * width, np.int64(at(args.eid, s)) * heads
        for h in range(heads):
            write(args.out, e + h, dot(x, i + h * x_step, args.y, o + h * y_step, width))


@kernel(EdgeDotArgs)
def _edge_dot_narrow(row, args):
    """Heads of one line each, four at a time."""
    indices, x, y, heads, width, start, stop = args.indices, args.x, args.y, args.heads, args.width, row.start, row.stop
    stride, last, tile = args.x_heads * width, len(indices) - 1, FOUR_HEADS
    x_step, y_step = width * (args.x_heads > 1), width * (args.y_heads > 1)
    first, end = start + (stop - start) * row.low // EDGE_PARTS, start + (stop - start) * row.high // EDGE_PARTS
    for s in range(first, end):
        if len(args.ahead):
            fetch(x, at(indices, min(s + AHEAD, last)) * stride, stride)
            prefetch(args.out, np.int64(at(args.eid, min(s + AHEAD, last))) * heads)
        i, o, e = at(indices, s) * stride, row.v * args.y_heads * width, np.int64(at(args.eid, s)) * heads
        for h in range(0, heads, len(tile)):
            a = tile_get(x, i + h * x_step, x_step, width, tile)
            b = tile_get(y, o + h * y_step, y_step, width, tile)
            store(args.out, e + h, tile_totals(tile_scaled(a, b, tile_zero(x, tile)), tile))


def edge_dot(adj, x: Tensor, y: Tensor, out: Tensor | None = None) -> Tensor:
    x_heads, y_heads, width = x.shape[1], y.shape[1], x.shape[2]
    heads = x_heads if y_heads == 1 else y_heads
    out = x.new_empty(adj.eid.shape[0], heads) if out is None else out
    arrays = adj.indices, adj.eid, x, y, out
    args = EdgeDotArgs(*arrays, heads, x_heads, y_heads, width, ahead_of(x))
    compute = _edge_dot_narrow if heads % 4 == 0 and lines(x, width) == 1 else _edge_dot
    compute(adj.eid.shape[0] * heads * width, adj.indptr, EDGE_PARTS, args)
    return out


class EdgeSoftmaxArgs(NamedTuple):
    eid: Array
    score: Array
    prob: Array
    heads: int
    ahead: tuple
    tile: tuple


@kernel(EdgeSoftmaxArgs)
def _edge_softmax(row, args):
    eid, score, prob, heads, tile = args.eid, args.score, args.prob, args.heads, args.tile
    last = len(eid) - 1
    for h in range(row.low * len(tile), row.high * len(tile), len(tile)):
        top, sum_ = tile_fill(score, score.dtype.type(-np.inf), tile), tile_fill(score, score.dtype.type(0), tile)
        for s in range(row.start, row.stop):
            if len(args.ahead):
                i = np.int64(at(eid, min(s + AHEAD, last))) * heads + h
                prefetch(score, i)
                prefetch(prob, i)
            x = tile_numbers(score, np.int64(at(eid, s)) * heads + h, tile)
            top = where_above(x, top, x, top)
        for s in range(row.start, row.stop):
            i = np.int64(at(eid, s)) * heads + h
            p = tile_exp(minus(tile_numbers(score, i, tile), top))
            store(prob, i, p)
            sum_ = plus(sum_, p)
        for s in range(row.start, row.stop):
            i = np.int64(at(eid, s)) * heads + h
            store(prob, i, over(tile_numbers(prob, i, tile), sum_))


class EdgeSoftmaxGradArgs(NamedTuple):
    eid: Array
    prob: Array
    grad: Array
    out: Array
    heads: int
    ahead: tuple
    tile: tuple


@kernel(EdgeSoftmaxGradArgs)
def _edge_softmax_grad(row, args):
    eid, prob, grad, out, heads, tile = args.eid, args.prob, args.grad, args.out, args.heads, args.tile
    last = len(eid) - 1
    for h in range(row.low * len(tile), row.high * len(tile), len(tile)):
        mean = tile_fill(prob, number(prob, 0), tile)
        for s in range(row.start, row.stop):
            if len(args.ahead):
                i = np.int64(at(eid, min(s + AHEAD, last))) * heads + h
                prefetch(prob, i)
                prefetch(grad, i)
                prefetch(out, i)
            i = np.int64(at(eid, s)) * heads + h
            mean = plus(mean, times(tile_numbers(prob, i, tile), tile_numbers(grad, i, tile)))
        for s in range(row.start, row.stop):
            i = np.int64(at(eid, s)) * heads + h
            difference = minus(tile_numbers(grad, i, tile), mean)
            store(out, i, times(tile_numbers(prob, i, tile), difference))


def _tile(adj, heads: int) -> tuple[tuple[int, ...], ...]:
    """The heads that are processed at a time; one head where hubs are divided by heads."""
    return (static(1),) * (1 if has_hubs(adj.indptr) else math.gcd(heads, 8))


@widened
def edge_softmax(adj, score: Tensor) -> Tensor:
    heads, prob, tile = score.shape[1], score.new_empty(*score.shape), _tile(adj, score.shape[1])
    args = EdgeSoftmaxArgs(adj.eid, score, prob, heads, ahead_of(score), tile)
    _edge_softmax(8 * score.numel(), adj.indptr, heads // len(tile), args)
    return prob


def edge_softmax_grad(adj, prob: Tensor, grad: Tensor) -> Tensor:
    heads, out, tile = prob.shape[1], prob.new_empty(*prob.shape), _tile(adj, prob.shape[1])
    args = EdgeSoftmaxGradArgs(adj.eid, prob, grad, out, heads, ahead_of(prob), tile)
    _edge_softmax_grad(4 * prob.numel(), adj.indptr, heads // len(tile), args)
    return out


class EdgeScoreArgs(NamedTuple):
    """``att``: (heads, width). ``a_heads``, ``b_heads``: heads of a and b, or 1."""

    indices: Array
    eid: Array
    a: Array
    b: Array
    att: Array
    slope: float
    out: Array
    heads: int
    a_heads: int
    b_heads: int
    width: int


@kernel(EdgeScoreArgs, fastmath=FASTMATH_DOT)
def _edge_score(row, args):
    a, b, att, slope, heads, width = args.a, args.b, args.att, args.slope, args.heads, args.width
    a_step, b_step, start, stop = width * (args.a_heads > 1), width * (args.b_heads > 1), row.start, row.stop
    first, end = start + (stop - start) * row.low // EDGE_PARTS, start + (stop - start) * row.high // EDGE_PARTS
    for s in range(first, end):
        i, e = np.int64(at(args.indices, s)) * args.a_heads * width, np.int64(at(args.eid, s)) * heads
        o = row.v * args.b_heads * width
        for h in range(heads):
            sum_ = number(att, 0)
            for j in range(width):
                z = at(a, i + h * a_step + j) + at(b, o + h * b_step + j)
                sum_ += at(att, h * width + j) * (z if z > 0 else z * slope)
            write(args.out, e + h, sum_)


class EdgeScoreGradArgs(NamedTuple):
    """``x_heads``, ``y_heads``: heads of x and y, or 1."""

    indices: Array
    eid: Array
    x: Array
    y: Array
    att: Array
    slope: float
    grad: Array
    out: Array
    heads: int
    x_heads: int
    y_heads: int
    width: int


@kernel(EdgeScoreGradArgs)
def _edge_score_grad(row, args):
    x, y, att, slope, out, heads, width = args.x, args.y, args.att, args.slope, args.out, args.heads, args.width
    x_step, y_step = width * (args.x_heads > 1), width * (args.y_heads > 1)
    first, end, o = row.low * lanes(out), min(row.high * lanes(out), width), row.v * args.x_heads * width
    for h in range(args.x_heads):
        for j in range(first, end):
            write(out, o + h * width + j, number(out, 0))
    for s in range(row.start, row.stop):
        i, e = np.int64(at(args.indices, s)) * args.y_heads * width, np.int64(at(args.eid, s)) * heads
        for h in range(heads):
            g, k = at(args.grad, e + h), o + h * x_step
            for j in range(first, end):
                z = at(x, k + j) + at(y, i + h * y_step + j)
                d = g * at(att, h * width + j)
                write(out, k + j, at(out, k + j) + (d if z > 0 else d * slope))


class EdgeScoreAttGradArgs(NamedTuple):
    indices: Array
    eid: Array
    a: Array
    b: Array
    slope: float
    grad: Array
    out: Array
    heads: int
    a_heads: int
    b_heads: int
    width: int


@kernel(EdgeScoreAttGradArgs)
def _edge_score_att_grad(row, args):
    a, b, slope, out, heads, width = args.a, args.b, args.slope, args.out, args.heads, args.width
    a_step, b_step, o = width * (args.a_heads > 1), width * (args.b_heads > 1), row.v * args.b_heads * width
    for s in range(row.start, row.stop):
        i, e = np.int64(at(args.indices, s)) * args.a_heads * width, np.int64(at(args.eid, s)) * heads
        for h in range(heads):
            g, k = at(args.grad, e + h), (row.chunk * heads + h) * width
            for j in range(width):
                z = at(a, i + h * a_step + j) + at(b, o + h * b_step + j)
                write(out, k + j, at(out, k + j) + g * (z if z > 0 else z * slope))


def edge_score(adj, a: Tensor, b: Tensor, att: Tensor, slope: float) -> Tensor:
    out = a.new_empty(adj.eid.shape[0], len(att))
    arrays = adj.indices, adj.eid, a, b, numbers(att)
    shape = len(att), a.shape[1], b.shape[1], a.shape[2]
    args = EdgeScoreArgs(*arrays, scalar(slope, a), out, *shape)
    _edge_score(adj.eid.shape[0] * att.numel(), adj.indptr, EDGE_PARTS, args)
    return out


def edge_score_grad(adj, x: Tensor, y: Tensor, att: Tensor, slope: float, grad: Tensor) -> Tensor:
    out = sums(x, *x.shape)
    arrays = adj.indices, adj.eid, x, y, numbers(att)
    shape = len(att), x.shape[1], y.shape[1], x.shape[2]
    args = EdgeScoreGradArgs(*arrays, scalar(slope, x), grad, out, *shape)
    _edge_score_grad(adj.eid.shape[0] * att.numel(), adj.indptr, lines(x, x.shape[2]), args)
    return out.to(x.dtype)


def edge_score_att_grad(adj, a: Tensor, b: Tensor, slope: float, grad: Tensor) -> Tensor:
    heads, width = grad.shape[1], a.shape[2]
    partial_sums = sums(a, CHUNKS, heads, width).zero_()
    arrays = adj.indices, adj.eid, a, b
    shape = heads, a.shape[1], b.shape[1], width
    args = EdgeScoreAttGradArgs(*arrays, scalar(slope, a), grad, partial_sums, *shape)
    _edge_score_att_grad(adj.eid.shape[0] * heads * width, adj.indptr, 1, args)
    return partial_sums.sum(0).to(a.dtype)
