"""Attention: scores, softmax and weighted sum in one pass over the edges, and its gradients in two.

The sum of a row is scaled to its largest score so far, so the pass needs no maximum in advance. The backward pass walks
by source, for the gradients of the features and of the softmax, and then by destination over the scores.
"""

import torch
import triton.language as tl
from torch import Tensor

from gnnlib.kernels import reference
from gnnlib.kernels.cuda.edges import LANES, edge_dot, pair_blocks, pairs
from gnnlib.kernels.cuda.launch import blocks, jit, launch, tile
from gnnlib.kernels.cuda.plan import Items, run, slot_rows
from gnnlib.kernels.cuda.sums import Sum, edge_sum
from gnnlib.kernels.half import widened


@jit
def _attend(
    row,
    start,
    stop,
    indices,
    eid,
    feat,
    src_score,
    dst_score,
    coeff,
    bias,
    y,
    top,
    total,
    num_items,
    heads,
    coeff_heads,
    groups,
    slope,
    WEIGHTED: tl.constexpr,
    BIASED: tl.constexpr,
    JOIN: tl.constexpr,
    FINISH: tl.constexpr,
    ITEMS: tl.constexpr,
    HEADS: tl.constexpr,
    COLS: tl.constexpr,
    VEC: tl.constexpr,
):
    """JOIN: src_score and dst_score are the largest scores and the sums of pieces, feat their weighted sums. ``top``
    receives the logarithm of the denominator if FINISH is true, else as ``total`` what JOIN reads."""
    pair = tl.arange(0, ITEMS * HEADS)
    item = tl.program_id(0).to(tl.int64) * ITEMS + pair // HEADS
    head = tl.program_id(1) * HEADS + pair % HEADS
    column = tl.program_id(2) * COLS + tl.arange(0, COLS)
    width = groups * VEC
    inside = (item < num_items) & (head < heads)
    columns = (column < width)[None, :]
    first = tl.load(start + item, inside, 0)
    size = tl.load(stop + item, inside, 0) - first
    v = tl.load(row + item, inside, 0).to(tl.int64)
    if not JOIN:
        centre = tl.load(dst_score + v * heads + head, inside, 0).to(tl.float32)
    best = tl.full([ITEMS * HEADS], float("-inf"), tl.float32)
    sum_ = tl.zeros([ITEMS * HEADS], tl.float32)
    sums = tl.zeros([ITEMS * HEADS, COLS], tl.float32)
    for k in range(0, tl.max(size, 0)):
        live = k < size
        u = first + k if JOIN else tl.load(indices + first + k, live, 0)
        place = u.to(tl.int64) * heads + head
        score = tl.load(src_score + place, live, 0).to(tl.float32)
        if not JOIN:
            score += centre
            score = tl.where(score > 0, score, score * slope)
        score = tl.where(live, score, float("-inf"))
        larger = tl.maximum(best, score)
        shift = tl.where(larger == float("-inf"), 0.0, larger)
        past, weight = tl.exp(best - shift), tl.exp(score - shift)
        count = weight
        if JOIN:
            count *= tl.load(dst_score + place, live, 0)
        elif WEIGHTED:
            e = tl.load(eid + first + k, live, 0).to(tl.int64)
            weight *= tl.load(coeff + e * coeff_heads + tl.minimum(head, coeff_heads - 1), live, 0).to(tl.float32)
        sum_ = sum_ * past + count
        offset = place * width
        message = tl.load(feat + offset[:, None] + column[None, :], live[:, None] & columns, 0).to(tl.float32)
        sums = sums * past[:, None] + message * weight[:, None]
        best = larger
    target = v if FINISH else item
    place = target * heads + head
    mask = inside[:, None] & columns
    writes = inside & (tl.program_id(2) == 0)
    if FINISH:
        sums /= tl.where(size > 0, sum_, 1.0)[:, None]
        if BIASED:
            sums += tl.load(bias + (head * width)[:, None] + column[None, :], mask, 0).to(tl.float32)
        tl.store(top + place, best + tl.log(sum_), writes)
    else:
        tl.store(top + place, best, writes)
        tl.store(total + place, sum_, writes)
    tl.store(y + (place * width)[:, None] + column[None, :], sums, mask)


def attend(
    csc,
    csr,
    feat: Tensor,
    src_score: Tensor,
    dst_score: Tensor,
    slope: float,
    coeff: Tensor | None,
    bias: Tensor | None,
) -> tuple[Tensor, ...]:
    heads, width = feat.shape[1:]
    form = tile(heads, width, feat.dtype)
    src_score, dst_score = (t.float().contiguous() for t in (src_score, dst_score))
    y, log = feat.new_empty(len(dst_score), heads, width), torch.empty_like(dst_score)
    shift = feat if bias is None else bias.contiguous()

    def compute(items: Items, partial: tuple[Tensor, ...] | None, finish: bool) -> tuple[Tensor, ...]:
        num_items, join = len(items.row), partial is not None
        out = (y, log, log) if finish else _pieces(log, num_items, width)
        weighted = coeff is not None and not join
        ends = partial or (feat, src_score, dst_score)
        arrays = csc.indices, csc.eid, *ends, feat if coeff is None else coeff, shift, *out
        numbers = num_items, heads, 1 if coeff is None else coeff.shape[1], width // form.VEC, slope
        constants = {"WEIGHTED": weighted, "BIASED": bias is not None, "JOIN": join, "FINISH": finish}
        grid = blocks(form, num_items, heads, width)
        launch(_attend, grid, *items, *arrays, *numbers, **constants, **form._asdict())
        return out

    run(csc.indptr, compute)
    return y, src_score, dst_score, log


def _pieces(like: Tensor, num_items: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Weighted sums, largest scores and denominators of pieces."""
    heads = like.shape[1]
    return like.new_empty(num_items, heads, width), like.new_empty(num_items, heads), like.new_empty(num_items, heads)


@jit
def _attend_feat_grad(
    row,
    start,
    stop,
    indices,
    eid,
    grad,
    feat,
    src_score,
    dst_score,
    log,
    coeff,
    d_prob,
    d_feat,
    num_items,
    heads,
    coeff_heads,
    groups,
    slope,
    WEIGHTED: tl.constexpr,
    DOT: tl.constexpr,
    FINISH: tl.constexpr,
    ITEMS: tl.constexpr,
    HEADS: tl.constexpr,
    COLS: tl.constexpr,
    VEC: tl.constexpr,
):
    """By source: the gradient of feat and, if DOT is true, for each edge the gradient of its softmax."""
    pair = tl.arange(0, ITEMS * HEADS)
    item = tl.program_id(0).to(tl.int64) * ITEMS + pair // HEADS
    head = tl.program_id(1) * HEADS + pair % HEADS
    column = tl.program_id(2) * COLS + tl.arange(0, COLS)
    width = groups * VEC
    inside = (item < num_items) & (head < heads)
    columns = (column < width)[None, :]
    mask = inside[:, None] & columns
    first = tl.load(start + item, inside, 0)
    size = tl.load(stop + item, inside, 0) - first
    u = tl.load(row + item, inside, 0).to(tl.int64)
    centre = tl.load(src_score + u * heads + head, inside, 0)
    if DOT:
        offset = (u * heads + head) * width
        x = tl.load(feat + offset[:, None] + column[None, :], mask, 0).to(tl.float32)
    total = tl.zeros([ITEMS * HEADS, COLS], tl.float32)
    for k in range(0, tl.max(size, 0)):
        live = k < size
        place = tl.load(indices + first + k, live, 0).to(tl.int64) * heads + head
        score = centre + tl.load(dst_score + place, live, 0)
        prob = tl.exp(tl.where(score > 0, score, score * slope) - tl.load(log + place, live, 0))
        offset = place * width
        message = tl.load(grad + offset[:, None] + column[None, :], live[:, None] & columns, 0).to(tl.float32)
        if WEIGHTED or DOT:
            e = tl.load(eid + first + k, live, 0).to(tl.int64)
        if WEIGHTED:
            c = tl.load(coeff + e * coeff_heads + tl.minimum(head, coeff_heads - 1), live, 0).to(tl.float32)
            prob *= c
        total += tl.where(live, prob, 0.0)[:, None] * message
        if DOT:
            dot = tl.sum(message * x, 1)
            if WEIGHTED:
                dot *= c
            tl.store(d_prob + e * heads + head, dot, live)
    target = u if FINISH else item
    offset = (target * heads + head) * width
    tl.store(d_feat + offset[:, None] + column[None, :], total, mask)


@jit
def _score_sums(
    row,
    start,
    stop,
    indices,
    eid,
    src_score,
    dst_score,
    log,
    d_prob,
    sums,
    num_items,
    heads,
    slope,
    FINISH: tl.constexpr,
    ITEMS: tl.constexpr,
    HEADS: tl.constexpr,
    LANES: tl.constexpr,
):
    """By destination: the sums of p d and of p, with d the gradient of p: (N_v, 2, heads)."""
    pair, lane = tl.arange(0, ITEMS * HEADS), tl.arange(0, LANES)
    item = tl.program_id(0).to(tl.int64) * ITEMS + pair // HEADS
    head = tl.program_id(1) * HEADS + pair % HEADS
    inside = (item < num_items) & (head < heads)
    first = tl.load(start + item, inside, 0)
    size = tl.load(stop + item, inside, 0) - first
    v = tl.load(row + item, inside, 0).to(tl.int64)
    centre = tl.load(dst_score + v * heads + head, inside, 0)
    shift = tl.load(log + v * heads + head, inside, 0)
    moment, total = tl.zeros([ITEMS * HEADS], tl.float32), tl.zeros([ITEMS * HEADS], tl.float32)
    for k in range(0, tl.max(size, 0), LANES):
        live = (k + lane)[None, :] < size[:, None]
        slot = (first + k)[:, None] + lane[None, :]
        u = tl.load(indices + slot, live, 0).to(tl.int64)
        e = tl.load(eid + slot, live, 0).to(tl.int64)
        score = centre[:, None] + tl.load(src_score + u * heads + head[:, None], live, 0)
        prob = tl.exp(tl.where(score > 0, score, score * slope) - shift[:, None])
        prob = tl.where(live, prob, 0.0)
        moment += tl.sum(prob * tl.load(d_prob + e * heads + head[:, None], live, 0), 1)
        total += tl.sum(prob, 1)
    target = v if FINISH else item
    tl.store(sums + 2 * target * heads + head, moment, inside)
    tl.store(sums + (2 * target + 1) * heads + head, total, inside)


@jit
def _score_grad(
    row,
    indices,
    eid,
    src_score,
    dst_score,
    log,
    sums,
    d_score,
    num_slots,
    heads,
    slope,
    ITEMS: tl.constexpr,
    HEADS: tl.constexpr,
):
    """The gradients of the scores, in place of those of the softmax."""
    pair = tl.arange(0, ITEMS * HEADS)
    slot = tl.program_id(0).to(tl.int64) * ITEMS + pair // HEADS
    head = tl.program_id(1) * HEADS + pair % HEADS
    inside = (slot < num_slots) & (head < heads)
    u = tl.load(indices + slot, inside, 0).to(tl.int64)
    v = tl.load(row + slot, inside, 0).to(tl.int64)
    e = tl.load(eid + slot, inside, 0).to(tl.int64)
    score = tl.load(src_score + u * heads + head, inside, 0) + tl.load(dst_score + v * heads + head, inside, 0)
    shift = tl.load(log + v * heads + head, inside, 0)
    prob = tl.exp(tl.where(score > 0, score, score * slope) - shift)
    # the divisor is 1 up to rounding, which would not cancel below
    mean = tl.load(sums + 2 * v * heads + head, inside, 0) / tl.load(sums + (2 * v + 1) * heads + head, inside, 1)
    d = prob * (tl.load(d_score + e * heads + head, inside, 0) - mean)
    tl.store(d_score + e * heads + head, tl.where(score > 0, d, d * slope), inside)


def attend_grad(
    csc, csr, grad: Tensor, feat: Tensor, slope: float, coeff: Tensor | None, *saved: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    d_feat, d_prob = _feat_grad(csr, grad, feat, slope, coeff, saved)
    (num_slots, heads), form = d_prob.shape, pairs(d_prob.shape[1])
    sums = d_prob.new_empty(len(grad), 1, 2 * heads)

    def compute(items: Items, partial: Tensor | None, finish: bool) -> Tensor:
        if partial is not None:
            return Sum(csc.indices, csc.eid, partial, mode="join").launch(items, sums, finish)
        num_items = len(items.row)
        out, grid = sums if finish else sums.new_empty(num_items, 1, 2 * heads), pair_blocks(form, num_items, heads)
        arrays = csc.indices, csc.eid, *saved, d_prob, out
        launch(_score_sums, grid, *items, *arrays, num_items, heads, slope, FINISH=finish, LANES=LANES, **form)
        return out

    run(csc.indptr, compute)
    arrays = slot_rows(csc.indptr), csc.indices, csc.eid, *saved, sums, d_prob
    launch(_score_grad, pair_blocks(form, num_slots, heads), *arrays, num_slots, heads, slope, **form)
    return d_feat, d_prob, edge_sum(csc, d_prob)


def _feat_grad(
    csr, grad: Tensor, feat: Tensor, slope: float, coeff: Tensor | None, saved: tuple[Tensor, ...]
) -> tuple[Tensor, Tensor]:
    """The gradients of feat and of the softmax, (E, H), in one pass if a tile holds all columns of a head."""
    heads, width = feat.shape[1:]
    form, d_feat = tile(heads, width, feat.dtype), torch.empty_like(feat)
    d_prob, fused = saved[0].new_empty(len(csr.eid), heads), width <= form.COLS

    def compute(items: Items, partial: Tensor | None, finish: bool) -> Tensor:
        if partial is not None:
            return Sum(csr.indices, csr.eid, partial, mode="join").launch(items, d_feat, finish)
        num_items = len(items.row)
        out = d_feat if finish else d_prob.new_empty(num_items, heads, width)
        arrays = csr.indices, csr.eid, grad, feat, *saved, d_prob if coeff is None else coeff, d_prob, out
        numbers = num_items, heads, 1 if coeff is None else coeff.shape[1], width // form.VEC, slope
        constants = {"WEIGHTED": coeff is not None, "DOT": fused, "FINISH": finish, **form._asdict()}
        launch(_attend_feat_grad, blocks(form, num_items, heads, width), *items, *arrays, *numbers, **constants)
        return out

    run(csr.indptr, compute)
    if not fused:
        edge_dot(csr, grad, feat, d_prob)
        d_prob = d_prob if coeff is None else d_prob.mul_(coeff)
    return d_feat, d_prob


@widened
def attend_ends_grad(
    csr, feat: Tensor, att: Tensor, d_score: Tensor, d_dst: Tensor | None, d_feat: Tensor
) -> tuple[Tensor, Tensor]:
    return reference.ends_grad(feat, att, edge_sum(csr, d_score), d_dst, d_feat)
