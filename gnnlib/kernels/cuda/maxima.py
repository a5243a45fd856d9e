"""Maxima over neighbours, and the edges that have them."""

import torch
import triton.language as tl
from torch import Tensor

from gnnlib.kernels.cuda.launch import blocks, jit, launch, tile
from gnnlib.kernels.cuda.plan import Items, run


@jit
def _max(
    row,
    start,
    stop,
    indices,
    eid,
    x,
    coeff,
    edge,
    y,
    arg,
    num_items,
    heads,
    groups,
    WEIGHTED: tl.constexpr,
    JOIN: tl.constexpr,
    FINISH: tl.constexpr,
    ITEMS: tl.constexpr,
    HEADS: tl.constexpr,
    COLS: tl.constexpr,
    VEC: tl.constexpr,
):
    """The largest message of each item, and its edge. JOIN: x and edge are those of pieces."""
    pair = tl.arange(0, ITEMS * HEADS)
    item = tl.program_id(0).to(tl.int64) * ITEMS + pair // HEADS
    head = tl.program_id(1) * HEADS + pair % HEADS
    column = tl.program_id(2) * COLS + tl.arange(0, COLS)
    width = groups * VEC
    inside = (item < num_items) & (head < heads)
    columns = (column < width)[None, :]
    first = tl.load(start + item, inside, 0)
    size = tl.load(stop + item, inside, 0) - first
    best = tl.zeros([ITEMS * HEADS, COLS], tl.float32)
    best_edge = tl.full([ITEMS * HEADS, COLS], -1, tl.int32)
    for k in range(0, tl.max(size, 0)):
        live = k < size
        mask = live[:, None] & columns
        u = first + k if JOIN else tl.load(indices + first + k, live, 0)
        offset = (u.to(tl.int64) * heads + head) * width
        message = tl.load(x + offset[:, None] + column[None, :], mask, 0).to(tl.float32)
        if JOIN:
            e = tl.load(edge + offset[:, None] + column[None, :], mask, 0)
        else:
            slot_edge = tl.load(eid + first + k, live, 0)
            if WEIGHTED:
                place = slot_edge.to(tl.int64) * heads + head
                message *= tl.load(coeff + place, live, 0).to(tl.float32)[:, None]
            e = tl.broadcast_to(slot_edge[:, None], [ITEMS * HEADS, COLS])
        larger = (best_edge < 0) | (message > best) | ((message != message) & (best == best))
        larger = larger & mask
        best = tl.where(larger, message, best)
        best_edge = tl.where(larger, e, best_edge)
    target = tl.load(row + item, inside, 0).to(tl.int64) if FINISH else item
    offset = (target * heads + head) * width
    mask = inside[:, None] & columns
    tl.store(y + offset[:, None] + column[None, :], best, mask)
    tl.store(arg + offset[:, None] + column[None, :], best_edge, mask)


def neighbour_max(adj, x: Tensor, coeff: Tensor | None) -> tuple[Tensor, Tensor]:
    heads, width = x.shape[1:]
    form, num_rows = tile(heads, width, x.dtype), len(adj.indptr) - 1
    result = x.new_empty(num_rows, heads, width), x.new_empty(num_rows, heads, width, dtype=torch.int32)

    def compute(items: Items, partial: tuple[Tensor, Tensor] | None, finish: bool) -> tuple[Tensor, Tensor]:
        num_items, join = len(items.row), partial is not None
        values, edges = partial or (x, adj.eid)
        out = (
            result
            if finish
            else (values.new_empty(num_items, heads, width, dtype=torch.float32),)
            + (edges.new_empty(num_items, heads, width),)
        )
        constants = {"WEIGHTED": coeff is not None and not join, "JOIN": join, "FINISH": finish, **form._asdict()}
        arrays = adj.indices, adj.eid, values, x if coeff is None else coeff, edges, *out
        numbers = num_items, heads, width // form.VEC
        launch(_max, blocks(form, num_items, heads, width), *items, *arrays, *numbers, **constants)
        return out

    run(adj.indptr, compute)
    return result
