"""Values of edges: dot products of both ends, softmax over the edges of a row, and scores of attention."""

import math
from typing import NamedTuple

import numpy as np
from torch import Tensor

from gnnlib.kernels.cpu.rows import AHEAD, ahead_of, dot, fetch, scalar, static
from gnnlib.kernels.cpu.team import CHUNKS, FASTMATH, Array, has_hubs, kernel
from gnnlib.kernels.cpu.tiles import minus, over, plus, tile_exp, tile_fill, tile_numbers, times
from gnnlib.kernels.cpu.vectors import at, lanes, lines, prefetch, store, where_above

# LLVM vectorises a plain loop over a dot product only if it may reassociate the sum.
FASTMATH_DOT = FASTMATH | {"reassoc"}
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
        i, o, e = at(indices, s) * stride, row.v * args.y_heads * width, np.int64(at(args.eid, s)) * heads
        for h in range(heads):
            args.out[e + h] = dot(x, i + h * x_step, args.y, o + h * y_step, width)


def edge_dot(adj, x: Tensor, y: Tensor, out: Tensor | None = None) -> Tensor:
    x_heads, y_heads, width = x.shape[1], y.shape[1], x.shape[2]
    heads = x_heads if y_heads == 1 else y_heads
    out = x.new_empty(len(adj.eid), heads) if out is None else out
    arrays = adj.indices, adj.eid, x.view(-1), y.view(-1), out.view(-1)
    args = EdgeDotArgs(*arrays, heads, x_heads, y_heads, width, ahead_of(x))
    _edge_dot(len(adj.eid) * heads * width, adj.indptr, EDGE_PARTS, args)
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
        mean = tile_fill(prob, prob.dtype.type(0), tile)
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


def edge_softmax(adj, score: Tensor) -> Tensor:
    heads, prob, tile = score.shape[1], score.new_empty(*score.shape), _tile(adj, score.shape[1])
    args = EdgeSoftmaxArgs(adj.eid, score.view(-1), prob.view(-1), heads, ahead_of(score), tile)
    _edge_softmax(8 * score.numel(), adj.indptr, heads // len(tile), args)
    return prob


def edge_softmax_grad(adj, prob: Tensor, grad: Tensor) -> Tensor:
    heads, out, tile = prob.shape[1], prob.new_empty(*prob.shape), _tile(adj, prob.shape[1])
    args = EdgeSoftmaxGradArgs(adj.eid, prob.view(-1), grad.view(-1), out.view(-1), heads, ahead_of(prob), tile)
    _edge_softmax_grad(4 * prob.numel(), adj.indptr, heads // len(tile), args)
    return out


class EdgeScoreArgs(NamedTuple):
    indices: Array
    eid: Array
    a: Array
    b: Array
    att: Array
    slope: float
    out: Array


@kernel(EdgeScoreArgs, fastmath=FASTMATH_DOT)
def _edge_score(row, args):
    a, b, att, slope, v, start, stop = args.a, args.b, args.att, args.slope, row.v, row.start, row.stop
    heads, width = att.shape
    a_step, b_step = min(a.shape[1] - 1, 1), min(b.shape[1] - 1, 1)
    first, end = start + (stop - start) * row.low // EDGE_PARTS, start + (stop - start) * row.high // EDGE_PARTS
    for s in range(first, end):
        u, e = args.indices[s], args.eid[s]
        for h in range(heads):
            sum_ = a.dtype.type(0)
            for j in range(width):
                z = a[u, h * a_step, j] + b[v, h * b_step, j]
                sum_ += att[h, j] * (z if z > 0 else z * slope)
            args.out[e, h] = sum_


class EdgeScoreGradArgs(NamedTuple):
    indices: Array
    eid: Array
    x: Array
    y: Array
    att: Array
    slope: float
    grad: Array
    out: Array


@kernel(EdgeScoreGradArgs)
def _edge_score_grad(row, args):
    x, y, att, slope, out, v = args.x, args.y, args.att, args.slope, args.out, row.v
    heads, width = att.shape
    x_step, y_step = min(x.shape[1] - 1, 1), min(y.shape[1] - 1, 1)
    first, end = np.uint64(row.low * lanes(out)), np.uint64(min(row.high * lanes(out), width))
    for h in range(out.shape[1]):
        for j in range(first, end):
            out[v, h, j] = 0
    for s in range(row.start, row.stop):
        u, e = args.indices[s], args.eid[s]
        for h in range(heads):
            g = args.grad[e, h]
            for j in range(first, end):
                z = x[v, h * x_step, j] + y[u, h * y_step, j]
                d = g * att[h, j]
                out[v, h * x_step, j] += d if z > 0 else d * slope


class EdgeScoreAttGradArgs(NamedTuple):
    indices: Array
    eid: Array
    a: Array
    b: Array
    slope: float
    grad: Array
    out: Array


@kernel(EdgeScoreAttGradArgs)
def _edge_score_att_grad(row, args):
    a, b, slope, out, v = args.a, args.b, args.slope, args.out, row.v
    heads, width = out.shape[1:]
    a_step, b_step = min(a.shape[1] - 1, 1), min(b.shape[1] - 1, 1)
    for s in range(row.start, row.stop):
        u, e = args.indices[s], args.eid[s]
        for h in range(heads):
            g = args.grad[e, h]
            for j in range(width):
                z = a[u, h * a_step, j] + b[v, h * b_step, j]
                out[row.chunk, h, j] += g * (z if z > 0 else z * slope)


def edge_score(adj, a: Tensor, b: Tensor, att: Tensor, slope: float) -> Tensor:
    out = a.new_empty(len(adj.eid), len(att))
    args = EdgeScoreArgs(adj.indices, adj.eid, a, b, att, scalar(slope, a), out)
    _edge_score(len(adj.eid) * att.numel(), adj.indptr, EDGE_PARTS, args)
    return out


def edge_score_grad(adj, x: Tensor, y: Tensor, att: Tensor, slope: float, grad: Tensor) -> Tensor:
    out = x.new_empty(*x.shape)
    args = EdgeScoreGradArgs(adj.indices, adj.eid, x, y, att, scalar(slope, x), grad, out)
    _edge_score_grad(len(adj.eid) * att.numel(), adj.indptr, lines(x, x.shape[2]), args)
    return out


def edge_score_att_grad(adj, a: Tensor, b: Tensor, slope: float, grad: Tensor) -> Tensor:
    partial_sums = a.new_zeros(CHUNKS, grad.shape[1], a.shape[2])
    args = EdgeScoreAttGradArgs(adj.indices, adj.eid, a, b, scalar(slope, a), grad, partial_sums)
    _edge_score_att_grad(len(adj.eid) * partial_sums[0].numel(), adj.indptr, 1, args)
    return partial_sums.sum(0)
