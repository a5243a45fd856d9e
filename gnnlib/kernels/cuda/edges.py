"""Values of edges: dot products of both ends, softmax over the edges of a row, and scores of attention.

An edge is a slot of the compressed rows, so neighbouring programs read the same row. Kernels over columns have
one loop over them, and sum them once.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from gnnlib.kernels.cuda.launch import blocks, jit, launch, tile
from gnnlib.kernels.cuda.plan import Items, run, slot_rows
from gnnlib.kernels.cuda.sums import Sum, edge_sum, mix, signed

LANES = 4
"""Edges of a row that are processed at a time where there are no columns."""
PAIRS = 128
"""Rows and heads, or edges and heads, of a tile without columns."""
CHUNK = 1024
"""Edges of a partial sum over all edges."""


@jit
def _dot(
    row,
    indices,
    eid,
    x,
    y,
    att,
    out,
    num_slots,
    heads,
    x_heads,
    y_heads,
    groups,
    key,
    level,
    scale,
    MODE: tl.constexpr,
    ITEMS: tl.constexpr,
    HEADS: tl.constexpr,
    COLS: tl.constexpr,
    VEC: tl.constexpr,
):
    """A number of both ends for each edge and head: MODE is "dot", "dropped" or "score"."""
    pair = tl.arange(0, ITEMS * HEADS)
    slot = tl.program_id(0).to(tl.int64) * ITEMS + pair // HEADS
    head = tl.program_id(1) * HEADS + pair % HEADS
    width = groups * VEC
    inside = (slot < num_slots) & (head < heads)
    u = tl.load(indices + slot, inside, 0).to(tl.int64)
    v = tl.load(row + slot, inside, 0).to(tl.int64)
    e = tl.load(eid + slot, inside, 0).to(tl.int64)
    x_row = (u * x_heads + tl.minimum(head, x_heads - 1)) * width
    y_row = (v * y_heads + tl.minimum(head, y_heads - 1)) * width
    if MODE == "dropped":
        edge_hash = mix(e.to(tl.uint32) + key.to(tl.uint32, bitcast=True))
    total = tl.zeros([ITEMS * HEADS, COLS], tl.float32)
    for c in range(0, width, COLS):
        column = c + tl.arange(0, COLS)
        columns = (column < width)[None, :]
        mask = inside[:, None] & columns
        a = tl.load(x + x_row[:, None] + column[None, :], mask, 0).to(tl.float32)
        b = tl.load(y + y_row[:, None] + column[None, :], mask, 0).to(tl.float32)
        if MODE == "score":
            place = (head * width)[:, None] + column[None, :]
            z = a + b
            z = tl.where(z > 0, z, z * scale)
            total += z * tl.load(att + place, mask, 0).to(tl.float32)
        elif MODE == "dropped":
            place = (head * width)[:, None] + column[None, :]
            bits = mix(edge_hash[:, None] + place.to(tl.uint32) * 0x9E3779B9)
            total += tl.where(bits >= level.to(tl.uint32, bitcast=True), a, 0.0) * b
        else:
            total += a * b
    result = tl.sum(total, 1)
    if MODE == "dropped":
        result *= scale
    tl.store(out + e * heads + head, result, inside)


def _compute_dot(
    adj,
    out: Tensor,
    x: Tensor,
    y: Tensor,
    att: Tensor | None = None,
    mode: str = "dot",
    key: int = 0,
    level: int = 0,
    scale: float = 0.0,
) -> Tensor:
    """Fills out (E, heads) with numbers of x (N_u, heads or 1, width) and y (N_v, heads or 1, width)."""
    num_slots, heads, width = len(adj.eid), out.shape[1], x.shape[2]
    form = tile(heads, width, x.dtype)
    arrays = slot_rows(adj.indptr), adj.indices, adj.eid, x, y, x if att is None else att, out
    numbers = num_slots, heads, x.shape[1], y.shape[1], width // form.VEC, signed(key), signed(level), scale
    grid = blocks(form, num_slots, heads, 1)
    launch(_dot, grid, *arrays, *numbers, MODE=mode, **form._asdict())
    return out


def edge_dot(adj, x: Tensor, y: Tensor, out: Tensor | None = None) -> Tensor:
    heads = max(x.shape[1], y.shape[1]) if x.shape[1] and y.shape[1] else 0
    return _compute_dot(adj, x.new_empty(len(adj.eid), heads) if out is None else out, x, y)


def dropped_dot(adj, x: Tensor, y: Tensor, heads: int, scale: float, key: int, level: int) -> Tensor:
    if heads == 1:
        x, y = x.flatten(1).unsqueeze(1), y.flatten(1).unsqueeze(1)
    out = x.new_empty(len(adj.eid), heads)
    return _compute_dot(adj, out, x, y, mode="dropped", key=key, level=level, scale=scale)


def edge_score(adj, a: Tensor, b: Tensor, att: Tensor, slope: float) -> Tensor:
    return _compute_dot(adj, a.new_empty(len(adj.eid), len(att)), a, b, att.contiguous(), mode="score", scale=slope)


@jit
def _score_grad(
    row,
    start,
    stop,
    indices,
    eid,
    x,
    y,
    att,
    grad,
    out,
    num_items,
    x_heads,
    y_heads,
    heads,
    groups,
    slope,
    FINISH: tl.constexpr,
    ITEMS: tl.constexpr,
    HEADS: tl.constexpr,
    COLS: tl.constexpr,
    VEC: tl.constexpr,
):
    """The gradient of the score for x, the end that the rows are: one head of x takes all heads."""
    pair = tl.arange(0, ITEMS * HEADS)
    item = tl.program_id(0).to(tl.int64) * ITEMS + pair // HEADS
    x_head = tl.program_id(1) * HEADS + pair % HEADS
    column = tl.program_id(2) * COLS + tl.arange(0, COLS)
    width = groups * VEC
    inside = (item < num_items) & (x_head < x_heads)
    columns = (column < width)[None, :]
    first = tl.load(start + item, inside, 0)
    size = tl.load(stop + item, inside, 0) - first
    v = tl.load(row + item, inside, 0).to(tl.int64)
    offset = (v * x_heads + x_head) * width
    centre = tl.load(x + offset[:, None] + column[None, :], inside[:, None] & columns, 0).to(tl.float32)
    total = tl.zeros([ITEMS * HEADS, COLS], tl.float32)
    for k in range(0, tl.max(size, 0)):
        live = k < size
        u = tl.load(indices + first + k, live, 0).to(tl.int64)
        e = tl.load(eid + first + k, live, 0).to(tl.int64)
        for i in range(0, heads // x_heads):
            head = x_head + i
            offset = (u * y_heads + tl.minimum(head, y_heads - 1)) * width
            mask = live[:, None] & columns
            z = centre + tl.load(y + offset[:, None] + column[None, :], mask, 0).to(tl.float32)
            weight = tl.load(att + (head * width)[:, None] + column[None, :], mask, 0).to(tl.float32)
            weight *= tl.load(grad + e * heads + head, live, 0).to(tl.float32)[:, None]
            total += tl.where(z > 0, weight, weight * slope)
    target = v if FINISH else item
    offset = (target * x_heads + x_head) * width
    tl.store(out + offset[:, None] + column[None, :], total, inside[:, None] & columns)


def edge_score_grad(adj, x: Tensor, y: Tensor, att: Tensor, slope: float, grad: Tensor) -> Tensor:
    x_heads, width = x.shape[1:]
    form, result = tile(x_heads, width, x.dtype), x.new_empty(len(adj.indptr) - 1, x_heads, width)
    arrays = adj.indices, adj.eid, x, y, att.contiguous(), grad

    def compute(items: Items, partial: Tensor | None, finish: bool) -> Tensor:
        if partial is not None:
            return Sum(adj.indices, adj.eid, partial, mode="join").launch(items, result, finish)
        num_items = len(items.row)
        out = result if finish else result.new_empty(num_items, x_heads, width, dtype=torch.float32)
        numbers = num_items, x_heads, y.shape[1], len(att), width // form.VEC, slope
        grid = blocks(form, num_items, x_heads, width)
        launch(_score_grad, grid, *items, *arrays, out, *numbers, FINISH=finish, **form._asdict())
        return out

    run(adj.indptr, compute)
    return result


@jit
def _att_grad(
    row,
    indices,
    eid,
    a,
    b,
    grad,
    out,
    num_slots,
    heads,
    x_heads,
    y_heads,
    groups,
    slope,
    SLOTS: tl.constexpr,
    ITEMS: tl.constexpr,
    HEADS: tl.constexpr,
    COLS: tl.constexpr,
    VEC: tl.constexpr,
):
    """The gradient of the score for att over a chunk of edges."""
    chunk, head = tl.program_id(0).to(tl.int64), tl.program_id(1)
    column = tl.program_id(2) * COLS + tl.arange(0, COLS)
    width = groups * VEC
    columns = (column < width)[None, :]
    total = tl.zeros([ITEMS, COLS], tl.float32)
    for k in range(0, SLOTS, ITEMS):
        slot = chunk * SLOTS + k + tl.arange(0, ITEMS)
        live = slot < num_slots
        mask = live[:, None] & columns
        u = tl.load(indices + slot, live, 0).to(tl.int64)
        v = tl.load(row + slot, live, 0).to(tl.int64)
        e = tl.load(eid + slot, live, 0).to(tl.int64)
        x_row = (u * x_heads + tl.minimum(head, x_heads - 1)) * width
        y_row = (v * y_heads + tl.minimum(head, y_heads - 1)) * width
        z = tl.load(a + x_row[:, None] + column[None, :], mask, 0).to(tl.float32)
        z += tl.load(b + y_row[:, None] + column[None, :], mask, 0).to(tl.float32)
        z = tl.where(z > 0, z, z * slope)
        total += z * tl.load(grad + e * heads + head, live, 0).to(tl.float32)[:, None]
    tl.store(out + (chunk * heads + head) * width + column, tl.sum(total, 0), column < width)


def edge_score_att_grad(adj, a: Tensor, b: Tensor, slope: float, grad: Tensor) -> Tensor:
    (num_slots, heads), width = grad.shape, a.shape[2]
    form = tile(1, width, a.dtype)
    chunks = triton.cdiv(num_slots, CHUNK)
    out = a.new_zeros(chunks, heads, width, dtype=torch.float32)
    arrays = slot_rows(adj.indptr), adj.indices, adj.eid, a, b, grad, out
    numbers = num_slots, heads, a.shape[1], b.shape[1], width // form.VEC, slope
    grid = chunks, heads, triton.cdiv(width, form.COLS)
    launch(_att_grad, grid, *arrays, *numbers, SLOTS=CHUNK, **form._asdict())
    return out.sum(0).to(a.dtype)


@jit
def _softmax_sums(
    row,
    start,
    stop,
    eid,
    score,
    count,
    top,
    total,
    num_items,
    heads,
    JOIN: tl.constexpr,
    FINISH: tl.constexpr,
    ITEMS: tl.constexpr,
    HEADS: tl.constexpr,
    LANES: tl.constexpr,
):
    """The largest score of each row, and the sum of the exponentials relative to it."""
    pair, lane = tl.arange(0, ITEMS * HEADS), tl.arange(0, LANES)
    item = tl.program_id(0).to(tl.int64) * ITEMS + pair // HEADS
    head = tl.program_id(1) * HEADS + pair % HEADS
    inside = (item < num_items) & (head < heads)
    first = tl.load(start + item, inside, 0)
    size = tl.load(stop + item, inside, 0) - first
    best = tl.full([ITEMS * HEADS], float("-inf"), tl.float32)
    sum_ = tl.zeros([ITEMS * HEADS], tl.float32)
    for k in range(0, tl.max(size, 0), LANES):
        live = (k + lane)[None, :] < size[:, None]
        slot = (first + k)[:, None] + lane[None, :]
        e = slot if JOIN else tl.load(eid + slot, live, 0)
        place = e.to(tl.int64) * heads + head[:, None]
        value = tl.load(score + place, live, float("-inf")).to(tl.float32)
        larger = tl.maximum(best, tl.max(value, 1))
        shift = tl.where(larger == float("-inf"), 0.0, larger)
        exp = tl.exp(value - shift[:, None])
        if JOIN:
            exp *= tl.load(count + place, live, 0)
        sum_ = sum_ * tl.exp(best - shift) + tl.sum(exp, 1)
        best = larger
    target = tl.load(row + item, inside, 0).to(tl.int64) if FINISH else item
    tl.store(top + target * heads + head, best, inside)
    tl.store(total + target * heads + head, sum_, inside)


@jit
def _softmax(
    row,
    eid,
    score,
    grad,
    top,
    total,
    out,
    num_slots,
    heads,
    MODE: tl.constexpr,
    ITEMS: tl.constexpr,
    HEADS: tl.constexpr,
):
    """The softmax of each edge, or the gradient of its score, from numbers of its row."""
    pair = tl.arange(0, ITEMS * HEADS)
    slot = tl.program_id(0).to(tl.int64) * ITEMS + pair // HEADS
    head = tl.program_id(1) * HEADS + pair % HEADS
    inside = (slot < num_slots) & (head < heads)
    v = tl.load(row + slot, inside, 0).to(tl.int64) * heads + head
    e = tl.load(eid + slot, inside, 0).to(tl.int64) * heads + head
    value = tl.load(score + e, inside, 0).to(tl.float32)
    if MODE == "softmax":
        value = tl.exp(value - tl.load(top + v, inside, 0)) / tl.load(total + v, inside, 1)
    else:
        value *= tl.load(grad + e, inside, 0).to(tl.float32) - tl.load(total + v, inside, 0).to(tl.float32)
    tl.store(out + e, value, inside)


def pairs(heads: int) -> dict[str, int]:
    """The tile of a kernel without columns."""
    block = 1 if heads == 1 else 4
    return {"ITEMS": PAIRS // block, "HEADS": block}


def pair_blocks(form: dict[str, int], num_items: int, heads: int) -> tuple[int, int]:
    return triton.cdiv(num_items, form["ITEMS"]), triton.cdiv(heads, form["HEADS"])


def _softmax_rows(adj, score: Tensor) -> tuple[Tensor, Tensor]:
    """The largest score of each row, and the sum of the exponentials relative to it: (N_v, H) each."""
    heads = score.shape[1]
    top = score.new_empty(len(adj.indptr) - 1, heads, dtype=torch.float32)
    result = top, torch.empty_like(top)
    form = pairs(heads)

    def compute(items: Items, partial: tuple[Tensor, ...] | None, finish: bool) -> tuple[Tensor, ...]:
        num_items, join = len(items.row), partial is not None
        out = result if finish else tuple(t.new_empty(num_items, heads) for t in result)
        grid = pair_blocks(form, num_items, heads)
        arrays = adj.eid, *(partial or (score, score)), *out
        launch(_softmax_sums, grid, *items, *arrays, num_items, heads, JOIN=join, FINISH=finish, LANES=LANES, **form)
        return out

    run(adj.indptr, compute)
    return result


def _compute_softmax(adj, mode: str, score: Tensor, grad: Tensor, top: Tensor, total: Tensor) -> Tensor:
    out, (num_slots, heads) = torch.empty_like(score), score.shape
    form = pairs(heads)
    arrays = slot_rows(adj.indptr), adj.eid, score, grad, top, total, out
    launch(_softmax, pair_blocks(form, num_slots, heads), *arrays, num_slots, heads, MODE=mode, **form)
    return out


def edge_softmax(adj, score: Tensor) -> Tensor:
    top, total = _softmax_rows(adj, score)
    return _compute_softmax(adj, "softmax", score, score, top, total)


def edge_softmax_grad(adj, prob: Tensor, grad: Tensor) -> Tensor:
    total = edge_sum(adj, prob.float() * grad.float())
    return _compute_softmax(adj, "grad", prob, grad, total, total)
