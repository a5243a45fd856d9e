"""Sums over neighbours: plain, normalised, weighted, with message dropout, of taps, and of the gradients of maxima.

One kernel computes all of them. ``MODE`` selects the message of an edge, and is a constant of the compiler.
"""

from typing import Any, NamedTuple

import torch
import triton.language as tl
from torch import Tensor

from gnnlib.kernels.cuda.launch import blocks, jit, launch, tile
from gnnlib.kernels.cuda.plan import Items, run

UNROLL = {"plain": 4, "scaled": 4, "join": 4}
"""Edges of a row whose messages are loaded before they are added, by the mode; 2 where they need more registers."""


BY_EDGE = "dropped", "selected", "rectified", "tap"
"""Modes whose messages depend on the edge."""


@jit
def mix(h):
    """The hash "lowbias32" (Wellons 2018) of unsigned 32 bits."""
    h = (h ^ (h >> 16)) * 0x7FEB352D
    h = (h ^ (h >> 15)) * 0x846CA68B
    return h ^ (h >> 16)


@jit
def _sum(
    row,
    start,
    stop,
    indices,
    eid,
    x,
    coeff,
    extra,
    row_values,
    y,
    num_items,
    num_row_values,
    heads,
    x_heads,
    coeff_heads,
    taps,
    groups,
    key,
    level,
    scale,
    MODE: tl.constexpr,
    WEIGHTED: tl.constexpr,
    BY_EDGE: tl.constexpr,
    END: tl.constexpr,
    FINISH: tl.constexpr,
    UNROLL: tl.constexpr,
    ITEMS: tl.constexpr,
    HEADS: tl.constexpr,
    COLS: tl.constexpr,
    VEC: tl.constexpr,
):
    """The sum of the messages of each item. MODE: the message of an edge from u.

    "plain": x_u; "scaled": extra_u x_u; "dropped": the entries of x_u that dropout retains; "selected": the entries of
    x_u whose edge, in extra, is this one; "rectified": max(0, x_u + extra_e); "tap": x_u in the columns of the tap
    extra_e; "join": the sum of a piece. WEIGHTED: times coeff_e. END: `Sum.end`, if FINISH is true.
    """
    pair = tl.arange(0, ITEMS * HEADS)
    item = tl.program_id(0).to(tl.int64) * ITEMS + pair // HEADS
    head = tl.program_id(1) * HEADS + pair % HEADS
    column = tl.program_id(2) * COLS + tl.arange(0, COLS)
    width = groups * VEC
    inside = (item < num_items) & (head < heads)
    columns = (column < width)[None, :]
    first = tl.load(start + item, inside, 0)
    size = tl.load(stop + item, inside, 0) - first
    x_head = head // taps if MODE == "tap" else tl.minimum(head, x_heads - 1)
    coeff_head = tl.minimum(head, coeff_heads - 1)
    total = tl.zeros([ITEMS * HEADS, COLS], tl.float32)
    for k in range(0, tl.max(size, 0), UNROLL):
        for j in tl.static_range(UNROLL):
            slot, live = first + k + j, k + j < size
            u = slot if MODE == "join" else tl.load(indices + slot, live, 0)
            if BY_EDGE:
                e = tl.load(eid + slot, live, 0).to(tl.int64)
            if MODE == "tap":
                live = live & (tl.load(extra + e, live, -1) == head % taps)
            offset = (u.to(tl.int64) * x_heads + x_head) * width
            mask = live[:, None] & columns
            message = tl.load(x + offset[:, None] + column[None, :], mask, 0).to(tl.float32)
            if MODE == "dropped":
                edge_hash = mix(e.to(tl.uint32) + key.to(tl.uint32, bitcast=True))
                place = (head * width)[:, None] + column[None, :]
                bits = mix(edge_hash[:, None] + place.to(tl.uint32) * 0x9E3779B9)
                message = tl.where(bits >= level.to(tl.uint32, bitcast=True), message, 0.0)
            elif MODE == "selected":
                edge = tl.load(extra + offset[:, None] + column[None, :], mask, -1)
                message = tl.where(edge == e[:, None], message, 0.0)
            elif MODE == "rectified":
                shift = tl.load(extra + (e * width)[:, None] + column[None, :], mask, 0).to(tl.float32)
                message = tl.where(message + shift <= 0, 0.0, message + shift)
            if MODE == "scaled":
                message *= tl.load(extra + u, live, 0).to(tl.float32)[:, None]
            if WEIGHTED:
                message *= tl.load(coeff + e * coeff_heads + coeff_head, live, 0).to(tl.float32)[:, None]
            total += message
    target = tl.load(row + item, inside, 0).to(tl.int64) if FINISH else item
    if FINISH and END == "scale":
        total *= tl.load(row_values + target, inside, 0).to(tl.float32)[:, None]
    elif FINISH and END == "row":
        mask = (inside & (target < num_row_values))[:, None] & columns
        offset = (target * heads + head) * width
        total += scale * tl.load(row_values + offset[:, None] + column[None, :], mask, 0).to(tl.float32)
    elif FINISH and END == "number":
        total *= scale
    offset = (target * heads + head) * width
    tl.store(y + offset[:, None] + column[None, :], total, inside[:, None] & columns)


class Sum(NamedTuple):
    """A sum over the edges of each row, on (N, heads, width).

    ``mode`` is that of `_sum`. ``end`` selects the result of a row: the sum, the sum times a number of row_values
    ("scale"), the sum plus ``scale`` times a row of row_values ("row"), or ``scale`` times the sum ("number").
    """

    indices: Tensor
    eid: Tensor
    x: Tensor
    coeff: Tensor | None = None
    extra: Tensor | None = None
    row_values: Tensor | None = None
    mode: str = "plain"
    end: str = ""
    taps: int = 1
    key: int = 0
    level: int = 0
    scale: float = 0.0

    def launch(self, items: Items, y: Tensor, finish: bool) -> Tensor:
        """Computes the items; writes y, or returns the sums of pieces."""
        num_items, (heads, width) = len(items.row), y.shape[1:]
        form, weighted = tile(heads, width, self.x.dtype), self.coeff is not None
        out = y if finish else y.new_empty(num_items, heads, width, dtype=torch.float32)
        arrays = self.x, *(self.x if t is None else t for t in (self.coeff, self.extra, self.row_values))
        num_row_values = 0 if self.row_values is None else len(self.row_values)
        sizes = heads, self.x.shape[1], 1 if self.coeff is None else self.coeff.shape[1], self.taps, width // form.VEC
        numbers = num_items, num_row_values, *sizes, self.key, self.level, self.scale
        constants = {
            "MODE": self.mode,
            "WEIGHTED": weighted,
            "BY_EDGE": weighted or self.mode in BY_EDGE,
            "END": self.end,
            "FINISH": finish,
            "UNROLL": UNROLL.get(self.mode, 2),
        }
        grid = blocks(form, num_items, heads, width)
        launch(_sum, grid, *items, self.indices, self.eid, *arrays, out, *numbers, **constants, **form._asdict())
        return out

    def join(self, partial: Tensor) -> "Sum":
        """The sum of the results of pieces."""
        return self._replace(x=partial, coeff=None, extra=None, mode="join")


def compute_sum(adj, y: Tensor, x: Tensor, indices: Tensor | None = None, **options: Any) -> Tensor:
    """Fills y (N, heads, width) with the sum that ``options`` describe."""
    edges = Sum(adj.indices if indices is None else indices, adj.eid, x, **options)

    def compute(items: Items, partial: Tensor | None, finish: bool) -> Tensor:
        return (edges if partial is None else edges.join(partial)).launch(items, y, finish)

    run(adj.indptr, compute)
    return y


@jit
def _sum_over_heads(
    row,
    start,
    stop,
    indices,
    eid,
    x,
    coeff,
    y,
    num_items,
    x_heads,
    coeff_heads,
    groups,
    FINISH: tl.constexpr,
    ITEMS: tl.constexpr,
    HEADS: tl.constexpr,
    COLS: tl.constexpr,
    VEC: tl.constexpr,
):
    """The sum over edges and heads of coeff_e[h] x_u[h]."""
    item = tl.program_id(0).to(tl.int64) * ITEMS + tl.arange(0, ITEMS)
    column = tl.program_id(2) * COLS + tl.arange(0, COLS)
    width = groups * VEC
    inside, columns = item < num_items, (column < width)[None, :]
    first = tl.load(start + item, inside, 0)
    size = tl.load(stop + item, inside, 0) - first
    total = tl.zeros([ITEMS, COLS], tl.float32)
    for k in range(0, tl.max(size, 0)):
        live = k < size
        u = tl.load(indices + first + k, live, 0).to(tl.int64)
        e = tl.load(eid + first + k, live, 0).to(tl.int64)
        for head in range(0, coeff_heads):
            offset = (u * x_heads + tl.minimum(head, x_heads - 1)) * width
            message = tl.load(x + offset[:, None] + column[None, :], live[:, None] & columns, 0).to(tl.float32)
            total += message * tl.load(coeff + e * coeff_heads + head, live, 0).to(tl.float32)[:, None]
    target = tl.load(row + item, inside, 0).to(tl.int64) if FINISH else item
    tl.store(y + (target * width)[:, None] + column[None, :], total, inside[:, None] & columns)


def _compute_over_heads(adj, y: Tensor, x: Tensor, coeff: Tensor) -> Tensor:
    """Fills y (N, 1, width) with the sum over edges and heads."""
    width = y.shape[2]
    form = tile(1, width, x.dtype)

    def compute(items: Items, partial: Tensor | None, finish: bool) -> Tensor:
        if partial is not None:
            return Sum(adj.indices, adj.eid, partial, mode="join").launch(items, y, finish)
        num_items = len(items.row)
        out = y if finish else y.new_empty(num_items, 1, width, dtype=torch.float32)
        numbers = num_items, x.shape[1], coeff.shape[1], width // form.VEC
        grid, arrays = blocks(form, num_items, 1, width), (adj.indices, adj.eid, x, coeff)
        launch(_sum_over_heads, grid, *items, *arrays, out, *numbers, FINISH=finish, **form._asdict())
        return out

    run(adj.indptr, compute)
    return y


def neighbour_sum(adj, x: Tensor, coeff: Tensor | None, heads: int, self_weight: float = 0.0) -> Tensor:
    y = x.new_empty(len(adj.indptr) - 1, heads, x.shape[2])
    if coeff is not None and heads == 1 and coeff.shape[1] > 1:
        return _compute_over_heads(adj, y, x, coeff)
    if self_weight:
        return compute_sum(adj, y, x, row_values=x, end="row", scale=self_weight)
    return compute_sum(adj, y, x, coeff=coeff)


def scaled_sum(adj, x: Tensor, scale_u: Tensor, scale_v: Tensor) -> Tensor:
    y = x.new_empty(len(adj.indptr) - 1, 1, x.shape[1])
    return compute_sum(adj, y, x.unsqueeze(1), extra=scale_u, row_values=scale_v, mode="scaled", end="scale").squeeze(1)


def edge_sum(adj, value: Tensor) -> Tensor:
    y = value.new_empty(len(adj.indptr) - 1, 1, value.shape[1])
    return compute_sum(adj, y, value.unsqueeze(1), indices=adj.eid).squeeze(1)


def tap_sum(adj, x: Tensor, tap: Tensor, num_taps: int) -> Tensor:
    signals, width = x.shape[1:]
    y = x.new_empty(len(adj.indptr) - 1, signals * num_taps, width)
    return compute_sum(adj, y, x, extra=tap, mode="tap", taps=num_taps).view(-1, signals, num_taps, width)


def signed(bits: int) -> int:
    """The signed number of 32 bits, which is compiled as one type whatever its value."""
    return bits - 2**32 if bits >= 2**31 else bits


def dropped_sum(adj, x: Tensor, coeff: Tensor | None, scale: float, key: int, level: int) -> Tensor:
    y, key, level = x.new_empty(len(adj.indptr) - 1, *x.shape[1:]), signed(key), signed(level)
    return compute_sum(adj, y, x, coeff=coeff, mode="dropped", end="number", scale=scale, key=key, level=level)


def max_grad(adj, grad: Tensor, arg: Tensor, coeff: Tensor | None) -> Tensor:
    dx = grad.new_empty(len(adj.indptr) - 1, *grad.shape[1:])
    return compute_sum(adj, dx, grad, coeff=coeff, extra=arg, mode="selected")


def rectified_sum(adj, x: Tensor, e: Tensor, coeff: Tensor) -> Tensor:
    y = x.new_empty(len(adj.indptr) - 1, 1, x.shape[1])
    return compute_sum(adj, y, x.unsqueeze(1), coeff=coeff.unsqueeze(1), extra=e, mode="rectified").squeeze(1)
