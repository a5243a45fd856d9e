"""What happens along edges, a part of `gnnlib.kernels.cpu`: dot products of both ends, softmax, and scores."""

from functools import partial

import numpy as np
from torch import Tensor

from gnnlib.kernels.cpu.rows import AHEAD, ahead_of, dot, fetch, scalar
from gnnlib.kernels.cpu.team import CHUNKS, FASTMATH, Kernel
from gnnlib.kernels.cpu.vectors import at, lanes, lines

# A plain loop over a dot product is vectorised only if LLVM may regroup it.
FASTMATH_DOT = FASTMATH | {"reassoc"}
EDGE_PARTS = 16  # that the edges of a hub are cut into, where each edge is on its own


@Kernel
def _edge_dot(chunk, v, start, stop, low, high, indices, eid, x, y, out, heads, x_heads, y_heads, width, ahead):
    row, last = x_heads * width, len(indices) - 1
    x_step, y_step = width * (x_heads > 1), width * (y_heads > 1)
    first, beyond = start + (stop - start) * low // EDGE_PARTS, start + (stop - start) * high // EDGE_PARTS
    for s in range(first, beyond):
        if len(ahead):
            fetch(x, at(indices, min(s + AHEAD, last)) * row, row)
        i, o, e = at(indices, s) * row, v * y_heads * width, np.int64(at(eid, s)) * heads
        for h in range(heads):
            out[e + h] = dot(x, i + h * x_step, y, o + h * y_step, width)


def edge_dot(adj, x: Tensor, y: Tensor, out: Tensor | None = None) -> Tensor:
    x_heads, y_heads, width = x.shape[1], y.shape[1], x.shape[2]
    heads = x_heads if y_heads == 1 else y_heads
    out = x.new_empty(len(adj.eid), heads) if out is None else out
    arrays, work = (adj.indices, adj.eid, x.view(-1), y.view(-1), out.view(-1)), len(adj.eid) * heads * width
    _edge_dot(work, adj.indptr, EDGE_PARTS, *arrays, heads, x_heads, y_heads, width, ahead_of(x))
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
    arrays = adj.indices, adj.eid, a, b, att, scalar(slope, a)
    _edge_score(len(adj.eid) * att.numel(), adj.indptr, EDGE_PARTS, *arrays, out)
    return out


def edge_score_grad(adj, own: Tensor, other: Tensor, att: Tensor, slope: float, grad: Tensor) -> Tensor:
    out = own.new_empty(*own.shape)
    arrays = adj.indices, adj.eid, own, other, att, scalar(slope, own), grad
    _edge_score_grad(len(adj.eid) * att.numel(), adj.indptr, lines(own, own.shape[2]), *arrays, out)
    return out


def edge_score_att_grad(adj, a: Tensor, b: Tensor, slope: float, grad: Tensor) -> Tensor:
    partial_sums = a.new_zeros(CHUNKS, grad.shape[1], a.shape[2])
    arrays = adj.indices, adj.eid, a, b, scalar(slope, a), grad
    _edge_score_att_grad(len(adj.eid) * partial_sums[0].numel(), adj.indptr, 1, *arrays, partial_sums)
    return partial_sums.sum(0)
