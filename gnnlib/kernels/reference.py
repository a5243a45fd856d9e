"""The kernels in plain torch: any device, any floating dtype. Slow and clear, they are the definition.

bfloat16 and float16 are computed in float32, and results are rounded once.

Sums run over sorted segments, never through atomic additions, so a GPU gives the same bits twice.

Shapes: N_src and N_dst nodes, E edges, H heads, F features. ``adj`` is a group of edges
(`gnnlib.graph.CompressedRows`): by destination it gathers from sources, by source the other way round;
its rows are called v and the other ends u. A head axis of length 1 stands for "the same for all heads".
"""

import torch
from torch import Tensor

from gnnlib.kernels.half import computed, widened

__all__ = [
    "attend",
    "attend_ends_grad",
    "attend_grad",
    "dropped_dot",
    "dropped_sum",
    "edge_dot",
    "edge_score",
    "edge_score_att_grad",
    "edge_score_grad",
    "edge_softmax",
    "edge_softmax_grad",
    "edge_sum",
    "gate_grad",
    "gated_sum",
    "group",
    "max_grad",
    "neighbour_max",
    "neighbour_sum",
    "rectified_grad",
    "rectified_mean_max",
    "rectified_mean_max_grad",
    "rectified_sum",
    "scaled_sum",
    "tap_sum",
]


def group(key: Tensor, num_groups: int) -> tuple[Tensor, Tensor]:
    """Stable sort of (E,) keys: the (num_groups + 1,) starts of the groups and the (E,) order, int32."""
    order = torch.argsort(key, stable=True)
    sizes = torch.bincount(key, minlength=num_groups)
    starts = torch.zeros(num_groups + 1, dtype=torch.int32, device=key.device)
    starts[1:] = sizes.cumsum(0)
    return starts, order.int()


def _rows(adj) -> Tensor:
    """The row v of each slot: (E,)."""
    indptr = adj.indptr.long()
    return torch.repeat_interleave(torch.arange(len(indptr) - 1, device=indptr.device), indptr.diff())


def _reduce(adj, data: Tensor, how: str = "sum", initial: float = 0.0) -> Tensor:
    """(E, ...) values of slots to (rows, ...): one sorted segment per row."""
    if len(data) == 0 or data[0].numel() == 0:
        return data.new_full((len(adj.indptr) - 1, *data.shape[1:]), initial)
    return torch.segment_reduce(data, how, offsets=adj.indptr.long(), initial=initial, axis=0)


def _slots_to_edges(adj, data: Tensor, out: Tensor | None = None) -> Tensor:
    return (torch.empty_like(data) if out is None else out).index_copy_(0, adj.eid.long(), data)


@widened
def neighbour_sum(adj, x: Tensor, coeff: Tensor | None, heads: int, self_weight: float = 0.0) -> Tensor:
    """y_v[h] = sum over edges e from u of coeff_e[h] x_u[h]; summed over h too where ``heads`` is 1.

    x (N_u, H or 1, F), coeff (E, H) -> (N_v, heads = H or 1, F).  Without coeff: x (N_u, heads, F), and
    self_weight x_v is added in each row v that x has too.
    """
    message = x[adj.indices]
    if coeff is not None:
        message = coeff[adj.eid].unsqueeze(-1) * message
    if heads == 1 and message.shape[1] > 1:
        message = message.sum(1, keepdim=True)
    y = _reduce(adj, message)
    if self_weight:
        y[: len(x)] += self_weight * x[: len(y)]
    return y


def _mix(h: Tensor) -> Tensor:
    """32 bits that depend on all bits of h: the hash "lowbias32" (Wellons 2018)."""
    low = 0xFFFFFFFF
    h = ((h ^ (h >> 16)) * 0x7FEB352D) & low
    h = ((h ^ (h >> 15)) * 0x846CA68B) & low
    return h ^ (h >> 16)


def retained(eid: Tensor, shape: torch.Size, key: int, level: int) -> Tensor:
    """The mask of the entries that dropout retains, as a function of the edge and the column: (E, *shape)."""
    column = torch.arange(shape.numel(), device=eid.device)
    edge_hash = _mix((eid.long() + key) & 0xFFFFFFFF)
    return (_mix((edge_hash.unsqueeze(1) + column * 0x9E3779B9) & 0xFFFFFFFF) >= level).view(len(eid), *shape)


@widened
def dropped_sum(adj, x: Tensor, coeff: Tensor | None, scale: float, key: int, level: int) -> Tensor:
    """y_v[h] = scale times the sum over edges e from u of coeff_e[h] x_u[h] without the dropped entries.

    x (N_u, H, F), coeff (E, H or 1) or None for 1 -> (N_v, H, F)
    """
    message = scale * x[adj.indices].where(retained(adj.eid, x.shape[1:], key, level), 0)
    return _reduce(adj, message if coeff is None else coeff[adj.eid].unsqueeze(-1) * message)


@widened
def dropped_dot(adj, x: Tensor, y: Tensor, heads: int, scale: float, key: int, level: int) -> Tensor:
    """s_e[h] = scale <x_u[h], y_v[h]> over the retained entries: the gradient of the coefficients of `dropped_sum`.

    x (N_u, H, F), y (N_v, H, F) -> (E, heads = H, or 1: summed over all heads)
    """
    products = scale * x[adj.indices].where(retained(adj.eid, x.shape[1:], key, level), 0) * y[_rows(adj)]
    return _slots_to_edges(adj, products.sum(-1) if heads > 1 else products.sum((1, 2)).unsqueeze(1))


@widened
def scaled_sum(adj, x: Tensor, scale_u: Tensor, scale_v: Tensor) -> Tensor:
    """y_v = sum over edges from u of scale_v scale_u x_u: a sum normalised at both ends.

    x (N_u, F), scale_u (N_u,), scale_v (N_v,) -> (N_v, F)
    """
    coeff = scale_v[_rows(adj)] * scale_u[adj.indices]
    return _reduce(adj, coeff.unsqueeze(-1) * x[adj.indices])


@widened
def tap_sum(adj, x: Tensor, tap: Tensor, num_taps: int) -> Tensor:
    """y_v[s, k] = sum over the edges e from u with tap_e = k of x_u[s]: the input of each tap of a window.

    x (N_u, S, F), tap (E,) integers less than ``num_taps`` -> (N_v, S, num_taps, F)
    """
    hot = torch.nn.functional.one_hot(tap[adj.eid].long(), num_taps).to(x)
    return _reduce(adj, hot[:, None, :, None] * x[adj.indices].unsqueeze(2))


@widened
def edge_sum(adj, value: Tensor) -> Tensor:
    """The sum of (E, H) values over the edges of each row: (N_v, H)."""
    return _reduce(adj, value[adj.eid])


@widened
def neighbour_max(adj, x: Tensor, coeff: Tensor | None) -> tuple[Tensor, Tensor]:
    """The largest message coeff_e[h] x_u[h] for each row, head and feature, and the id of the first edge that
    has it (-1, and a maximum of 0, for a row without edges). NaN is larger than any number, as in torch.

    x (N_u, H, F), coeff (E, H) or None -> (N_v, H, F), int32 (N_v, H, F)
    """
    message = x[adj.indices]
    if coeff is not None:
        message = coeff[adj.eid].unsqueeze(-1) * message
    row, num_rows, num_slots = _rows(adj), len(adj.indptr) - 1, len(adj.eid)
    y = _reduce(adj, message, "max", float("-inf"))
    wins = (message == y[row]) | message.isnan()
    slot = torch.arange(num_slots, device=x.device).view(-1, 1, 1).expand(wins.shape)
    first = torch.full((num_rows, *x.shape[1:]), num_slots, device=x.device)
    first.scatter_reduce_(0, row.view(-1, 1, 1).expand(wins.shape), slot.where(wins, num_slots), "amin")
    exists = first < num_slots
    arg = torch.full_like(first, -1, dtype=torch.int32)
    arg[exists] = adj.eid[first[exists]]
    return y.where(exists, 0), arg


@widened
def max_grad(adj, grad: Tensor, arg: Tensor, coeff: Tensor | None) -> Tensor:
    """The gradient of `neighbour_max` for x: each source sums the gradients of the maxima that its edges are.

    ``adj`` groups by source. grad, arg (N_dst, H, F) -> (N_src, H, F)
    """
    selected = grad[adj.indices].where(arg[adj.indices] == adj.eid.view(-1, 1, 1), 0)
    if coeff is not None:
        selected = selected * coeff[adj.eid].unsqueeze(-1)
    return _reduce(adj, selected)


def edge_dot(adj, x: Tensor, y: Tensor, out: Tensor | None = None) -> Tensor:
    """s_e[h] = <x_u[h], y_v[h]> for each edge.  x (N_u, H or 1, F), y (N_v, H or 1, F) -> (E, H)

    ``out``: the output, if ``adj`` has only some rows of a graph and its edge ids are those of the graph.
    """
    wide = computed(x.dtype)
    dot = (x[adj.indices].to(wide) * y[_rows(adj)].to(wide)).sum(-1)
    return _slots_to_edges(adj, dot.to(x.dtype), out)


@widened
def edge_softmax(adj, score: Tensor) -> Tensor:
    """Softmax of (E, H) scores over the edges of each row."""
    score, row = score[adj.eid], _rows(adj)
    top = _reduce(adj, score, "max", float("-inf"))
    exp = (score - top[row]).exp()
    return _slots_to_edges(adj, exp / _reduce(adj, exp)[row])


@widened
def edge_softmax_grad(adj, prob: Tensor, grad: Tensor) -> Tensor:
    """prob (grad - sum over the row of prob grad), all (E, H)."""
    prob, grad = prob[adj.eid], grad[adj.eid]
    return _slots_to_edges(adj, prob * (grad - _reduce(adj, prob * grad)[_rows(adj)]))


def _leaky(z: Tensor, slope: float) -> Tensor:
    return torch.where(z > 0, z, z * slope)


@widened
def edge_score(adj, a: Tensor, b: Tensor, att: Tensor, slope: float) -> Tensor:
    """s_e[h] = sum over j of att[h, j] leaky(a_u[h, j] + b_v[h, j]).

    a (N_u, H or 1, J), b (N_v, H or 1, J), att (H, J) -> (E, H)
    """
    z = a[adj.indices] + b[_rows(adj)]
    return _slots_to_edges(adj, (_leaky(z, slope) * att).sum(-1))


@widened
def edge_score_grad(adj, x: Tensor, y: Tensor, att: Tensor, slope: float, grad: Tensor) -> Tensor:
    """Gradient of `edge_score` for the end that ``adj`` groups by: x (rows, H or 1, J)."""
    z = x[_rows(adj)] + y[adj.indices]
    dz = grad[adj.eid].unsqueeze(-1) * att
    dz = torch.where(z > 0, dz, dz * slope)
    if x.shape[1] == 1:
        dz = dz.sum(1, keepdim=True)
    return _reduce(adj, dz)


@widened
def edge_score_att_grad(adj, a: Tensor, b: Tensor, slope: float, grad: Tensor) -> Tensor:
    """Gradient of `edge_score` for att: (H, J)."""
    z = _leaky(a[adj.indices] + b[_rows(adj)], slope)
    return (grad[adj.eid].unsqueeze(-1) * z).sum(0)


def _attention(
    adj, src_score: Tensor, dst_score: Tensor, slope: float, log: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """By slot and head: the score before the LeakyReLU, and the softmax; by row: the logarithm of its denominator."""
    row, z = _rows(adj), src_score[adj.indices] + dst_score[_rows(adj)]
    score = _leaky(z, slope)
    if log is not None:
        return z, (score - log[row]).exp(), log
    top = _reduce(adj, score, "max", float("-inf"))
    exp = (score - top[row]).exp()
    total = _reduce(adj, exp)
    return z, exp / total[row], top + total.log()


@widened
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
    """y_v[h] = bias[h] + sum over edges e from u of coeff_e[h] softmax_e(leaky(z_e[h])) feat_u[h].

    With z_e[h] = src_score_u[h] + dst_score_v[h]. Also returns the tensors to save for `attend_grad`: here both scores
    and the logarithm of the denominator.

    feat (N_u, H, F), src_score (N_u, H), dst_score (N_v, H), coeff (E, H or 1) or None, bias (H, F) or None
    -> (N_v, H, F), ...
    """
    _, prob, log = _attention(csc, src_score, dst_score, slope)
    if coeff is not None:
        prob = prob * coeff[csc.eid]
    y = _reduce(csc, prob.unsqueeze(-1) * feat[csc.indices])
    return y if bias is None else y + bias, src_score, dst_score, log


@widened
def attend_grad(
    csc, csr, grad: Tensor, feat: Tensor, slope: float, coeff: Tensor | None, *saved: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of `attend` for feat, for the scores before the LeakyReLU, (E, H), and for dst_score. ``saved`` are the
    tensors that `attend` returned after y.

    With p the softmax, d_e = coeff_e <grad_v, feat_u> its gradient and m_v the sum of p_e d_e over the edges of v, the
    score's gradient is p_e (d_e - m_v).
    """
    src_score, dst_score, log = saved
    z, prob, _ = _attention(csc, src_score, dst_score, slope, log)
    row, scale = _rows(csc), coeff[csc.eid] if coeff is not None else 1.0
    dot = (grad[row] * feat[csc.indices]).sum(-1) * scale
    mean = _reduce(csc, prob * dot) / _reduce(
        csc, prob
    )  # the divisor is 1 up to rounding, which would not cancel below
    d_score = prob * (dot - mean[row])
    d_score = torch.where(z > 0, d_score, d_score * slope)
    d_feat = neighbour_sum(csr, grad, _slots_to_edges(csc, prob * scale), feat.shape[1])
    by_edge = _slots_to_edges(csc, d_score)
    return d_feat, by_edge, edge_sum(csc, by_edge)


@widened
def attend_ends_grad(
    csr, feat: Tensor, att: Tensor, d_score: Tensor, d_dst: Tensor | None, d_feat: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradients through src_score_u = <att_0, feat_u> and, for the first N_v sources, dst_score_u = <att_1, feat_u>.

    Returns d_feat plus the gradient of feat, in the memory of d_feat where possible, and the gradient of att:
    (2, H, F), or (1, H, F) if d_dst is None.
    """
    return ends_grad(feat, att, edge_sum(csr, d_score), d_dst, d_feat)


def ends_grad(feat: Tensor, att: Tensor, d_src: Tensor, d_dst: Tensor | None, d_feat: Tensor) -> tuple[Tensor, Tensor]:
    """`attend_ends_grad` with the gradient of src_score, (N_u, H)."""
    grads = feat.new_zeros(len(att), *feat.shape[:2])
    grads[0] = d_src
    if d_dst is not None:
        grads[1, : len(d_dst)] = d_dst
    d_feat += torch.einsum("knh,khf->nhf", grads, att)
    return d_feat, torch.einsum("knh,nhf->khf", grads, feat)


def gated_sum(adj, t: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """y_v = sum over edges e from u of sigmoid_e x_u, feature by feature, and the sum of the gates.

    The input is t = tanh(e / 2), from -1 to 1: sigmoid(e) = (1 + t) / 2. Both results are float32 for bfloat16 and
    float16: the caller divides them.

    t (E, F), x (N_u, F) -> (N_v, F), (N_v, F)
    """
    t, x = t.to(computed(t.dtype)), x.to(computed(x.dtype))
    gate = (1 + t[adj.eid]) / 2
    return _reduce(adj, gate * x[adj.indices]), _reduce(adj, gate)


@widened
def gate_grad(adj, t: Tensor, x: Tensor, y: Tensor, grad: Tensor) -> Tensor:
    """sigmoid'(e) grad_v (x_u - y_v) for each edge e from u to v, with t as in `gated_sum`.

    t (E, F), x (N_u, F), y (N_v, F), grad (N_v, F) -> (E, F)
    """
    row, gate = _rows(adj), t[adj.eid]
    return _slots_to_edges(adj, (1 - gate * gate) / 4 * grad[row] * (x[adj.indices] - y[row]))


def edge_ids(like: Tensor) -> torch.dtype:
    """The integer type of edge ids in `rectified_mean_max`: as wide as the numbers."""
    return torch.int64 if like.element_size() == 8 else torch.int32


@widened(results=2)
def rectified_mean_max(csc, a: Tensor, b: Tensor, r: Tensor, c: Tensor, share: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Sum and maximum of the messages m_e = max(0, a_u + b_v + r_e C) over the edges e from u to v.

    Returns share_v times the sum, the maximum, and the id of the first edge whose message is the maximum and above 0,
    else -1. A row without edges gets 0.

    a (N_u, F), b (N_v, F), r (E, D), c (D, F), share (N_v,) -> (N_v, F), (N_v, F), integers (N_v, F)
    """
    message = (a[csc.indices] + b[_rows(csc)] + r[csc.eid] @ c).relu()
    slots = csc._replace(indices=torch.arange(len(message), device=message.device))
    top, arg = (t.squeeze(1) for t in neighbour_max(slots, message.unsqueeze(1), None))
    return share.unsqueeze(1) * _reduce(csc, message), top, arg.where(top > 0, -1).to(edge_ids(b))


@widened(results=3)
def rectified_mean_max_grad(
    csc, csr, a: Tensor, b: Tensor, r: Tensor, c: Tensor, share: Tensor, arg: Tensor, d_mean: Tensor, d_top: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of `rectified_mean_max` for a, b and c; arg is its last output."""
    row, edge = _rows(csc), csc.eid
    z = a[csc.indices] + b[row] + r[edge] @ c
    dz = (share.unsqueeze(1) * d_mean)[row].where(z > 0, 0) + d_top[row].where(arg[row] == edge.unsqueeze(1), 0)
    return _reduce(csr, _slots_to_edges(csc, dz)[csr.eid]), _reduce(csc, dz), r[edge].T @ dz


@widened
def rectified_sum(adj, x: Tensor, e: Tensor, coeff: Tensor) -> Tensor:
    """y_v = sum over edges k from u of coeff_k max(0, x_u + e_k)

    x (N_u, F), e (E, F), coeff (E,) -> (N_v, F)
    """
    return _reduce(adj, coeff[adj.eid].unsqueeze(1) * (x[adj.indices] + e[adj.eid]).relu())


@widened
def rectified_grad(adj, x: Tensor, e: Tensor, coeff: Tensor, grad: Tensor) -> Tensor:
    """The gradient of `rectified_sum` for e: coeff_k grad_v where the message is above 0.

    x (N_u, F), e (E, F), coeff (E,), grad (N_v, F) -> (E, F)
    """
    z = x[adj.indices] + e[adj.eid]
    return _slots_to_edges(adj, torch.where(z <= 0, 0, coeff[adj.eid].unsqueeze(1) * grad[_rows(adj)]))
