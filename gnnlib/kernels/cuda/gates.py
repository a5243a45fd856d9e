"""Gated sums, and the gradients of gates and of messages after a ReLU: a vector per edge, and no stored message."""

import torch
import triton.language as tl
from torch import Tensor

from gnnlib.kernels.cuda.launch import blocks, jit, launch, tile
from gnnlib.kernels.cuda.plan import Items, run, slot_rows
from gnnlib.kernels.cuda.sums import Sum


@jit
def _gated_sum(
    row,
    start,
    stop,
    indices,
    eid,
    t,
    x,
    y,
    total,
    num_items,
    groups,
    FINISH: tl.constexpr,
    ITEMS: tl.constexpr,
    HEADS: tl.constexpr,
    COLS: tl.constexpr,
    VEC: tl.constexpr,
):
    """The sums of gated messages and of gates."""
    item = tl.program_id(0).to(tl.int64) * ITEMS + tl.arange(0, ITEMS)
    column = tl.program_id(2) * COLS + tl.arange(0, COLS)
    width = groups * VEC
    inside, columns = item < num_items, (column < width)[None, :]
    first = tl.load(start + item, inside, 0)
    size = tl.load(stop + item, inside, 0) - first
    sums, gates = tl.zeros([ITEMS, COLS], tl.float32), tl.zeros([ITEMS, COLS], tl.float32)
    for k in range(0, tl.max(size, 0)):
        live = k < size
        mask = live[:, None] & columns
        u = tl.load(indices + first + k, live, 0).to(tl.int64)
        e = tl.load(eid + first + k, live, 0).to(tl.int64)
        gate = tl.load(t + (e * width)[:, None] + column[None, :], mask, 0).to(tl.float32)
        gate = tl.where(mask, 0.5 + 0.5 * gate, 0.0)
        gates += gate
        sums += gate * tl.load(x + (u * width)[:, None] + column[None, :], mask, 0).to(tl.float32)
    target = tl.load(row + item, inside, 0).to(tl.int64) if FINISH else item
    place, mask = (target * width)[:, None] + column[None, :], inside[:, None] & columns
    tl.store(y + place, sums, mask)
    tl.store(total + place, gates, mask)


def gated_sum(adj, t: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    width, num_rows = x.shape[1], len(adj.indptr) - 1
    form = tile(1, width, x.dtype)
    result = tuple(x.new_empty(num_rows, 1, width, dtype=torch.float32) for _ in range(2))

    def compute(items: Items, partial: tuple[Tensor, ...] | None, finish: bool) -> tuple[Tensor, ...]:
        if partial is not None:
            pieces = zip(partial, result, strict=True)
            return tuple(Sum(adj.indices, adj.eid, p, mode="join").launch(items, y, finish) for p, y in pieces)
        num_items = len(items.row)
        out = result if finish else tuple(y.new_empty(num_items, 1, width) for y in result)
        arrays, grid = (adj.indices, adj.eid, t, x, *out), blocks(form, num_items, 1, width)
        launch(_gated_sum, grid, *items, *arrays, num_items, width // form.VEC, FINISH=finish, **form._asdict())
        return out

    run(adj.indptr, compute)
    return result[0].squeeze(1), result[1].squeeze(1)


@jit
def _edge_grad(
    row,
    indices,
    eid,
    x,
    y,
    edge,
    coeff,
    grad,
    out,
    num_slots,
    groups,
    MODE: tl.constexpr,
    ITEMS: tl.constexpr,
    HEADS: tl.constexpr,
    COLS: tl.constexpr,
    VEC: tl.constexpr,
):
    """The gradient of a vector per edge: MODE is "gate" or "rectified"."""
    slot = tl.program_id(0).to(tl.int64) * ITEMS + tl.arange(0, ITEMS)
    column = tl.program_id(2) * COLS + tl.arange(0, COLS)
    width = groups * VEC
    live = slot < num_slots
    mask = live[:, None] & (column < width)[None, :]
    u = tl.load(indices + slot, live, 0).to(tl.int64)
    v = (tl.load(row + slot, live, 0).to(tl.int64) * width)[:, None] + column[None, :]
    e = tl.load(eid + slot, live, 0).to(tl.int64)
    place = (e * width)[:, None] + column[None, :]
    message = tl.load(x + (u * width)[:, None] + column[None, :], mask, 0).to(tl.float32)
    value = tl.load(edge + place, mask, 0).to(tl.float32)
    result = tl.load(grad + v, mask, 0).to(tl.float32)
    if MODE == "gate":
        result *= (1 - value * value) * 0.25 * (message - tl.load(y + v, mask, 0).to(tl.float32))
    else:
        result *= tl.load(coeff + e, live, 0).to(tl.float32)[:, None]
        result = tl.where(message + value <= 0, 0.0, result)
    tl.store(out + place, result, mask)


def _compute_edge_grad(adj, mode: str, x: Tensor, y: Tensor, edge: Tensor, coeff: Tensor, grad: Tensor) -> Tensor:
    out, (num_slots, width) = torch.empty_like(edge), edge.shape
    form = tile(1, width, x.dtype)
    arrays = slot_rows(adj.indptr), adj.indices, adj.eid, x, y, edge, coeff, grad, out
    grid = blocks(form, num_slots, 1, width)
    launch(_edge_grad, grid, *arrays, num_slots, width // form.VEC, MODE=mode, **form._asdict())
    return out


def gate_grad(adj, t: Tensor, x: Tensor, y: Tensor, grad: Tensor) -> Tensor:
    return _compute_edge_grad(adj, "gate", x, y, t, t, grad)


def rectified_grad(adj, x: Tensor, e: Tensor, coeff: Tensor, grad: Tensor) -> Tensor:
    return _compute_edge_grad(adj, "rectified", x, x, e, coeff, grad)
