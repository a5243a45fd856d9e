"""Gated sums: each feature of each message has a gate."""

from typing import NamedTuple

import numpy as np
from torch import Tensor

from gnnlib.kernels.cpu.team import Array, kernel
from gnnlib.kernels.cpu.vectors import lanes, lines


class GatedSumArgs(NamedTuple):
    indices: Array
    eid: Array
    t: Array
    x: Array
    y: Array
    total: Array


@kernel(GatedSumArgs)
def _gated_sum(row, args):
    t, x, y, total, v = args.t, args.x, args.y, args.total, row.v
    first, end = np.uint64(row.low * lanes(y)), np.uint64(min(row.high * lanes(y), y.shape[1]))
    half = y.dtype.type(0.5)
    for f in range(first, end):
        y[v, f] = 0
        total[v, f] = 0
    for s in range(row.start, row.stop):
        u, e = args.indices[s], args.eid[s]
        for f in range(first, end):
            gate = half + half * t[e, f]
            y[v, f] += gate * x[u, f]
            total[v, f] += gate


class GateGradArgs(NamedTuple):
    indices: Array
    eid: Array
    t: Array
    x: Array
    y: Array
    grad: Array
    out: Array


@kernel(GateGradArgs)
def _gate_grad(row, args):
    t, x, y, out, v = args.t, args.x, args.y, args.out, row.v
    first, end = np.uint64(row.low * lanes(out)), np.uint64(min(row.high * lanes(out), out.shape[1]))
    one, quarter = out.dtype.type(1), out.dtype.type(0.25)
    for s in range(row.start, row.stop):
        u, e = args.indices[s], args.eid[s]
        for f in range(first, end):
            out[e, f] = quarter * (one - t[e, f] * t[e, f]) * args.grad[v, f] * (x[u, f] - y[v, f])


def gated_sum(adj, t: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    y, total = (x.new_empty(len(adj.indptr) - 1, x.shape[1]) for _ in range(2))
    _gated_sum(2 * t.numel(), adj.indptr, lines(x, x.shape[1]), GatedSumArgs(adj.indices, adj.eid, t, x, y, total))
    return y, total


def gate_grad(adj, t: Tensor, x: Tensor, y: Tensor, grad: Tensor) -> Tensor:
    out = t.new_empty(*t.shape)
    _gate_grad(4 * t.numel(), adj.indptr, lines(x, x.shape[1]), GateGradArgs(adj.indices, adj.eid, t, x, y, grad, out))
    return out
