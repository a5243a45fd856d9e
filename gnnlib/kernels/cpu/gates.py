"""Gated sums: each feature of each message has a gate."""

from typing import NamedTuple

import numpy as np
from torch import Tensor

from gnnlib.kernels.cpu.rows import sums
from gnnlib.kernels.cpu.team import Array, kernel
from gnnlib.kernels.cpu.vectors import at, fill, get, lanes, lines, number, put, scaled, zero


class GatedSumArgs(NamedTuple):
    indices: Array
    eid: Array
    t: Array
    x: Array
    y: Array
    total: Array
    width: int


@kernel(GatedSumArgs)
def _gated_sum(row, args):
    t, x, y, total, width = args.t, args.x, args.y, args.total, args.width
    step, o, one, half = lanes(y), row.v * width, number(y, 1), number(y, 0.5)
    first, end = row.low * step, min(row.high * step, width)
    for f in range(first, end, step):
        put(y, o + f, zero(y), width - f)
        put(total, o + f, zero(y), width - f)
    for s in range(row.start, row.stop):
        i, k = np.int64(at(args.indices, s)) * width, np.int64(at(args.eid, s)) * width
        for f in range(first, end, step):
            remaining = width - f
            gate = scaled(half, get(t, k + f, remaining), fill(y, half))
            put(y, o + f, scaled(gate, get(x, i + f, remaining), get(y, o + f, remaining)), remaining)
            put(total, o + f, scaled(one, gate, get(total, o + f, remaining)), remaining)


class GateGradArgs(NamedTuple):
    indices: Array
    eid: Array
    t: Array
    x: Array
    y: Array
    grad: Array
    out: Array
    width: int


@kernel(GateGradArgs)
def _gate_grad(row, args):
    t, x, y, out, width = args.t, args.x, args.y, args.out, args.width
    step, o, one, quarter, none = lanes(out), row.v * width, number(out, 1), number(out, 0.25), zero(out)
    first, end = row.low * step, min(row.high * step, width)
    for s in range(row.start, row.stop):
        i, k = np.int64(at(args.indices, s)) * width, np.int64(at(args.eid, s)) * width
        for f in range(first, end, step):
            remaining, gate = width - f, get(t, k + f, width - f)
            slope = scaled(quarter, scaled(scaled(-one, gate, none), gate, fill(out, one)), none)
            apart = scaled(-one, get(y, o + f, remaining), get(x, i + f, remaining))
            put(out, k + f, scaled(scaled(slope, get(args.grad, o + f, remaining), none), apart, none), remaining)


def gated_sum(adj, t: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    width = x.shape[1]
    y, total = (sums(x, adj.indptr.shape[0] - 1, width) for _ in range(2))
    arrays = adj.indices, adj.eid, t, x, y, total
    _gated_sum(2 * t.numel(), adj.indptr, lines(x, width), GatedSumArgs(*arrays, width))
    return y, total


def gate_grad(adj, t: Tensor, x: Tensor, y: Tensor, grad: Tensor) -> Tensor:
    out, width = t.new_empty(*t.shape), x.shape[1]
    arrays = adj.indices, adj.eid, t, x, y, grad, out
    _gate_grad(4 * t.numel(), adj.indptr, lines(x, width), GateGradArgs(*arrays, width))
    return out
