"""Means and maxima of messages after a ReLU. Messages are computed in registers, and again in the backward pass."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from gnnlib.kernels.cuda.edges import CHUNK
from gnnlib.kernels.cuda.launch import blocks, jit, launch, tile
from gnnlib.kernels.cuda.plan import Items, run, slot_rows
from gnnlib.kernels.cuda.sums import Sum


def registers(dtype: torch.dtype) -> int:
    """The largest number of registers. In half precision a thread has eight columns of a row, of their sums, of maxima
    and of edges: with 64 registers it would spill."""
    return 96 if dtype.itemsize == 2 else 64


@jit
def _message(base, x, u, r, c, e, live, mask, column, width, num_feats):
    """base + x[u] + r[e] C: the message before the ReLU."""
    z = base + tl.load(x + (u * width)[:, None] + column[None, :], mask, 0).to(tl.float32)
    for d in range(0, num_feats):
        weight = tl.load(c + d * width + column, column < width, 0).to(tl.float32)
        z += tl.load(r + e * num_feats + d, live, 0).to(tl.float32)[:, None] * weight[None, :]
    return z


@jit
def _mean_max(
    row,
    start,
    stop,
    indices,
    eid,
    a,
    b,
    r,
    c,
    share,
    edge,
    mean,
    top,
    arg,
    num_items,
    num_feats,
    groups,
    JOIN: tl.constexpr,
    FINISH: tl.constexpr,
    ITEMS: tl.constexpr,
    HEADS: tl.constexpr,
    COLS: tl.constexpr,
    VEC: tl.constexpr,
):
    """JOIN: a, b and edge are the sums, the maxima and their edges of pieces."""
    item = tl.program_id(0).to(tl.int64) * ITEMS + tl.arange(0, ITEMS)
    column = tl.program_id(2) * COLS + tl.arange(0, COLS)
    width = groups * VEC
    inside, columns = item < num_items, (column < width)[None, :]
    first = tl.load(start + item, inside, 0)
    size = tl.load(stop + item, inside, 0) - first
    v = tl.load(row + item, inside, 0).to(tl.int64)
    if not JOIN:
        place = (v * width)[:, None] + column[None, :]
        base = tl.load(b + place, inside[:, None] & columns, 0).to(tl.float32)
    sum_, best = tl.zeros([ITEMS, COLS], tl.float32), tl.zeros([ITEMS, COLS], tl.float32)
    best_edge = tl.full([ITEMS, COLS], -1, tl.int32)
    for k in range(0, tl.max(size, 0)):
        live = k < size
        mask = live[:, None] & columns
        if JOIN:
            place = ((first + k).to(tl.int64) * width)[:, None] + column[None, :]
            part, value = tl.load(a + place, mask, 0), tl.load(b + place, mask, 0)
            e = tl.load(edge + place, mask, -1)
        else:
            u = tl.load(indices + first + k, live, 0).to(tl.int64)
            slot_edge = tl.load(eid + first + k, live, 0)
            z = _message(base, a, u, r, c, slot_edge.to(tl.int64), live, mask, column, width, num_feats)
            value = tl.where((z <= 0) | (mask == 0), 0.0, z)
            part, e = value, tl.broadcast_to(slot_edge[:, None], [ITEMS, COLS])
        sum_ += part
        best_edge = tl.where(value > best, e, best_edge)
        best = tl.where(value > best, value, best)
    target = v if FINISH else item
    place, mask = (target * width)[:, None] + column[None, :], inside[:, None] & columns
    if FINISH:
        best_edge = tl.where(sum_ == sum_, best_edge, -1)
        best = tl.where(sum_ == sum_, best, sum_)  # NaN if a message is
        sum_ *= tl.load(share + v, inside, 0).to(tl.float32)[:, None]
    tl.store(mean + place, sum_, mask)
    tl.store(top + place, best, mask)
    tl.store(arg + place, best_edge, mask)


def rectified_mean_max(csc, a: Tensor, b: Tensor, r: Tensor, c: Tensor, share: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    width, form = b.shape[1], tile(1, b.shape[1], b.dtype)
    result = torch.empty_like(b), torch.empty_like(b), torch.empty_like(b, dtype=torch.int32)

    def compute(items: Items, partial: tuple[Tensor, ...] | None, finish: bool) -> tuple[Tensor, ...]:
        num_items, join = len(items.row), partial is not None
        pieces = (b.new_empty(num_items, width, dtype=t) for t in (torch.float32, torch.float32, torch.int32))
        out = result if finish else tuple(pieces)
        sums, maxima, edges = partial or (a, b, csc.eid)
        arrays = csc.indices, csc.eid, sums, maxima, r, c, share, edges, *out
        numbers, grid = (num_items, len(c), width // form.VEC), blocks(form, num_items, 1, width)
        constants = {"JOIN": join, "FINISH": finish, "maxnreg": registers(b.dtype), **form._asdict()}
        launch(_mean_max, grid, *items, *arrays, *numbers, **constants)
        return out

    run(csc.indptr, compute)
    return result


@jit
def _end_grad(
    row,
    start,
    stop,
    indices,
    eid,
    centre,
    x,
    r,
    c,
    share,
    arg,
    d_mean,
    d_top,
    out,
    num_items,
    num_feats,
    groups,
    BY_DST: tl.constexpr,
    FINISH: tl.constexpr,
    ITEMS: tl.constexpr,
    HEADS: tl.constexpr,
    COLS: tl.constexpr,
    VEC: tl.constexpr,
):
    """The gradient for the end that the rows are: ``centre`` has its features, ``x`` those of the other end."""
    item = tl.program_id(0).to(tl.int64) * ITEMS + tl.arange(0, ITEMS)
    column = tl.program_id(2) * COLS + tl.arange(0, COLS)
    width = groups * VEC
    inside, columns = item < num_items, (column < width)[None, :]
    first = tl.load(start + item, inside, 0)
    size = tl.load(stop + item, inside, 0) - first
    w = tl.load(row + item, inside, 0).to(tl.int64)
    place = (w * width)[:, None] + column[None, :]
    base = tl.load(centre + place, inside[:, None] & columns, 0).to(tl.float32)
    total = tl.zeros([ITEMS, COLS], tl.float32)
    for k in range(0, tl.max(size, 0)):
        live = k < size
        mask = live[:, None] & columns
        u = tl.load(indices + first + k, live, 0).to(tl.int64)
        e = tl.load(eid + first + k, live, 0)
        z = _message(base, x, u, r, c, e.to(tl.int64), live, mask, column, width, num_feats)
        v = w if BY_DST else u
        place = (v * width)[:, None] + column[None, :]
        factor = tl.load(share + v, live, 0).to(tl.float32)
        part = tl.load(d_mean + place, mask, 0).to(tl.float32) * factor[:, None]
        total += tl.where(z > 0, part, 0.0)
        part = tl.load(d_top + place, mask, 0).to(tl.float32)
        total += tl.where(tl.load(arg + place, mask, -1) == e[:, None], part, 0.0)
    target = w if FINISH else item
    tl.store(out + (target * width)[:, None] + column[None, :], total, inside[:, None] & columns)


@jit
def _feat_grad(
    row,
    indices,
    eid,
    a,
    b,
    r,
    c,
    share,
    arg,
    d_mean,
    d_top,
    out,
    num_slots,
    num_feats,
    groups,
    SLOTS: tl.constexpr,
    ITEMS: tl.constexpr,
    HEADS: tl.constexpr,
    COLS: tl.constexpr,
    VEC: tl.constexpr,
):
    """The gradient of a row of C over a chunk of edges."""
    chunk, feature = tl.program_id(0).to(tl.int64), tl.program_id(1)
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
        e = tl.load(eid + slot, live, 0)
        place = (v * width)[:, None] + column[None, :]
        base = tl.load(b + place, mask, 0).to(tl.float32)
        z = _message(base, a, u, r, c, e.to(tl.int64), live, mask, column, width, num_feats)
        part = tl.load(d_mean + place, mask, 0).to(tl.float32)
        dz = tl.where(z > 0, part * tl.load(share + v, live, 0).to(tl.float32)[:, None], 0.0)
        part = tl.load(d_top + place, mask, 0).to(tl.float32)
        dz += tl.where(tl.load(arg + place, mask, -1) == e[:, None], part, 0.0)
        total += dz * tl.load(r + e.to(tl.int64) * num_feats + feature, live, 0).to(tl.float32)[:, None]
    tl.store(out + (chunk * num_feats + feature) * width + column, tl.sum(total, 0), column < width)


def rectified_mean_max_grad(
    csc, csr, a: Tensor, b: Tensor, r: Tensor, c: Tensor, share: Tensor, arg: Tensor, d_mean: Tensor, d_top: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    edges = r, c, share, arg, d_mean, d_top
    width, chunks = b.shape[1], triton.cdiv(len(csc.eid), CHUNK)
    form, d_c = tile(1, width, b.dtype), c.new_zeros(chunks, *c.shape, dtype=torch.float32)
    arrays = slot_rows(csc.indptr), csc.indices, csc.eid, a, b, *edges, d_c
    grid, numbers = (chunks, len(c), triton.cdiv(width, form.COLS)), (len(csc.eid), len(c), width // form.VEC)
    launch(_feat_grad, grid, *arrays, *numbers, SLOTS=CHUNK, **form._asdict())
    return _compute_end_grad(csr, a, b, edges, False), _compute_end_grad(csc, b, a, edges, True), d_c.sum(0).to(c.dtype)


def _compute_end_grad(adj, centre: Tensor, x: Tensor, edges: tuple[Tensor, ...], by_dst: bool) -> Tensor:
    """The gradient of ``centre``, the features of the rows of adj."""
    width, result = centre.shape[1], torch.empty_like(centre).unsqueeze(1)
    form, num_feats = tile(1, width, centre.dtype), len(edges[1])

    def compute(items: Items, partial: Tensor | None, finish: bool) -> Tensor:
        if partial is not None:
            return Sum(adj.indices, adj.eid, partial, mode="join").launch(items, result, finish)
        num_items = len(items.row)
        out = result if finish else result.new_empty(num_items, 1, width, dtype=torch.float32)
        arrays, grid = (adj.indices, adj.eid, centre, x, *edges, out), blocks(form, num_items, 1, width)
        constants = {"BY_DST": by_dst, "FINISH": finish, "maxnreg": registers(centre.dtype), **form._asdict()}
        launch(_end_grad, grid, *items, *arrays, num_items, num_feats, width // form.VEC, **constants)
        return out

    run(adj.indptr, compute)
    return result.squeeze(1)
