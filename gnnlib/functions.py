"""The differentiable kernels, on arrays of one shape: features (N, H, F), edge values (E, H), `Neighbors`.

    y_v = sum over edges u->v of  b(u->v) x_u                  `Sum`
    s(u->v) = <x_u, y_v>                                       `Dot`

The two differentiate into each other, so composing them gives derivatives of any order: dy/dx is a `Sum` over the
reversed edges, dy/db a `Dot`. The others have a fused first derivative and, where a second one is
asked for, are recomposed from these two. Public faces, with checks and free axes, are in `gnnlib.ops`.

Shapes: N_src, N_dst nodes, E edges in edge-id order. A head axis of length 1 stands for "the same for all heads".
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.autograd import Function

from gnnlib import kernels
from gnnlib.linear import linear
from gnnlib.neighbors import Compressed, Drop, Neighbors

PART = {"cpu": 1 << 19}  # numbers of an intermediate result that are held at once; on other devices, more


class Sum(Function):
    """coeff (E, H) or None, x (N_src, H or 1, F) -> (N_dst, heads = H or 1, F).

    Without coeff, own x_v is added for each node v that is a source and a destination under the same number.
    """

    @staticmethod
    def forward(ctx, x: Tensor, coeff: Tensor | None, nb: Neighbors, heads: int, own: float = 0.0) -> Tensor:
        ctx.nb, ctx.x_heads, ctx.own = nb, x.shape[1], own
        ctx.save_for_backward(x if ctx.needs_input_grad[1] else None, coeff)
        return kernels.choose(x).neighbour_sum(nb.csc, x, coeff, heads, own)

    @staticmethod
    def backward(ctx, grad: Tensor):
        x, coeff = ctx.saved_tensors
        grad = grad.contiguous()
        dx = Sum.apply(grad, coeff, ctx.nb.reverse(), ctx.x_heads, ctx.own) if ctx.needs_input_grad[0] else None
        dcoeff = Dot.apply(x, grad, ctx.nb) if ctx.needs_input_grad[1] else None
        return dx, dcoeff, None, None, None


class DroppedSum(Function):
    """x (N_src, H, F), coeff (E, H or 1) or None -> (N_dst, H, F): the sum of what ``nb.drop`` leaves of messages."""

    @staticmethod
    def forward(ctx, x: Tensor, coeff: Tensor | None, nb: Neighbors) -> Tensor:
        ctx.nb = nb
        ctx.save_for_backward(x if ctx.needs_input_grad[1] else None, coeff)
        return kernels.choose(x).dropped_sum(nb.csc, x, coeff, *_drop(nb))

    @staticmethod
    def backward(ctx, grad: Tensor):
        (x, coeff), nb, grad = ctx.saved_tensors, ctx.nb, grad.contiguous()
        dx = DroppedSum.apply(grad, coeff, nb.reverse()) if ctx.needs_input_grad[0] else None
        dcoeff = DroppedDot.apply(x, grad, nb, coeff.shape[1]) if ctx.needs_input_grad[1] else None
        return dx, dcoeff, None


def _drop(nb: Neighbors) -> Drop:
    assert nb.drop is not None
    return nb.drop


class DroppedDot(Function):
    """x (N_src, H, F), y (N_dst, H, F) -> (E, heads = H or 1), over the entries that ``nb.drop`` leaves."""

    @staticmethod
    def forward(ctx, x: Tensor, y: Tensor, nb: Neighbors, heads: int) -> Tensor:
        ctx.nb = nb
        ctx.save_for_backward(x, y)
        return kernels.choose(x).dropped_dot(nb.csc, x, y, heads, *_drop(nb))

    @staticmethod
    def backward(ctx, grad: Tensor):
        (x, y), nb, grad = ctx.saved_tensors, ctx.nb, grad.contiguous()
        return DroppedSum.apply(y, grad, nb.reverse()), DroppedSum.apply(x, grad, nb), None, None


class Scaled(Function):
    """x (N_src, F) -> (N_dst, F): the sum normalised by factors of both ends, (N_src,) and (N_dst,) constants."""

    @staticmethod
    def forward(ctx, x: Tensor, scale_src: Tensor, scale_dst: Tensor, nb: Neighbors) -> Tensor:
        ctx.nb = nb
        ctx.save_for_backward(scale_src, scale_dst)
        return kernels.choose(x).scaled_sum(nb.csc, x, scale_src, scale_dst)

    @staticmethod
    def backward(ctx, grad: Tensor):
        scale_src, scale_dst = ctx.saved_tensors
        return Scaled.apply(grad.contiguous(), scale_dst, scale_src, ctx.nb.reverse()), None, None, None


class Dot(Function):
    """x (N_src, H or 1, F), y (N_dst, H or 1, F) -> (E, H)."""

    @staticmethod
    def forward(ctx, x: Tensor, y: Tensor, nb: Neighbors) -> Tensor:
        ctx.nb, ctx.heads = nb, (x.shape[1], y.shape[1])
        ctx.save_for_backward(x, y)
        return kernels.choose(x).edge_dot(nb.csc, x, y)

    @staticmethod
    def backward(ctx, grad: Tensor):
        (x, y), grad = ctx.saved_tensors, grad.contiguous()
        dx = Sum.apply(y, grad, ctx.nb.reverse(), ctx.heads[0]) if ctx.needs_input_grad[0] else None
        dy = Sum.apply(x, grad, ctx.nb, ctx.heads[1]) if ctx.needs_input_grad[1] else None
        return dx, dy, None


def _ones(num_nodes: int, like: Tensor) -> Tensor:
    return like.new_ones(num_nodes, 1, 1)


def copy_src(nb: Neighbors, x: Tensor) -> Tensor:
    """(N_src, H) -> (E, H)"""
    return Dot.apply(x.unsqueeze(-1).contiguous(), _ones(nb.num_dst, x), nb)


def copy_dst(nb: Neighbors, y: Tensor) -> Tensor:
    return copy_src(nb.reverse(), y)


class EdgeSum(Function):
    """value (E, H) -> (N_dst, H): the sum over each destination's in-edges."""

    @staticmethod
    def forward(ctx, value: Tensor, nb: Neighbors) -> Tensor:
        ctx.nb = nb
        return kernels.choose(value).edge_sum(nb.csc, value)

    @staticmethod
    def backward(ctx, grad: Tensor):
        return copy_dst(ctx.nb, grad), None


def sum_edges(nb: Neighbors, value: Tensor) -> Tensor:
    return EdgeSum.apply(value.contiguous(), nb)


class Max(Function):
    """x (N_src, H, F), coeff (E, H) or None -> (N_dst, H, F)."""

    @staticmethod
    def forward(ctx, x: Tensor, coeff: Tensor | None, nb: Neighbors) -> Tensor:
        y, arg = kernels.choose(x).neighbour_max(nb.csc, x, coeff)
        ctx.nb = nb
        ctx.save_for_backward(x, coeff, arg)
        return y

    @staticmethod
    def backward(ctx, grad: Tensor):
        x, coeff, arg = ctx.saved_tensors
        if torch.is_grad_enabled() or ctx.needs_input_grad[1]:
            return *_recompose(lambda x, coeff: _taken(ctx.nb, x, coeff, arg), (x, coeff), grad, ctx), None
        return kernels.choose(grad).max_grad(ctx.nb.csr, grad.contiguous(), arg, coeff), None, None


def _taken(nb: Neighbors, x: Tensor, coeff: Tensor | None, arg: Tensor) -> Tensor:
    """The messages that a maximum took, given the edge of each."""
    if nb.num_edges == 0:
        return x.sum() * 0 + x.new_zeros(arg.shape)
    edge = arg.clamp(min=0).long()
    message = torch.gather(x, 0, nb.src[edge].long())
    if coeff is not None:
        message = message * torch.gather(coeff.unsqueeze(-1).expand(*coeff.shape, x.shape[2]), 0, edge)
    return message.where(arg >= 0, 0)


class Softmax(Function):
    """(E, H) -> (E, H)"""

    @staticmethod
    def forward(ctx, score: Tensor, nb: Neighbors) -> Tensor:
        prob = kernels.choose(score).edge_softmax(nb.csc, score)
        ctx.nb = nb
        ctx.save_for_backward(prob)
        return prob

    @staticmethod
    def backward(ctx, grad: Tensor):
        (prob,), nb = ctx.saved_tensors, ctx.nb
        if torch.is_grad_enabled():
            return prob * (grad - copy_dst(nb, sum_edges(nb, prob * grad))), None
        return kernels.choose(grad).edge_softmax_grad(nb.csc, prob, grad.contiguous()), None


class Score(Function):
    """a (N_src, H or 1, J), b (N_dst, H or 1, J), att (H, J) -> (E, H)"""

    @staticmethod
    def forward(ctx, a: Tensor, b: Tensor, att: Tensor, nb: Neighbors, slope: float) -> Tensor:
        ctx.nb, ctx.slope = nb, slope
        ctx.save_for_backward(a, b, att)
        return kernels.choose(a).edge_score(nb.csc, a, b, att, slope)

    @staticmethod
    def backward(ctx, grad: Tensor):
        a, b, att = ctx.saved_tensors
        nb, slope, needs = ctx.nb, ctx.slope, ctx.needs_input_grad
        if torch.is_grad_enabled():
            grads = _recompose(lambda a, b, att: _composed_score(nb, a, b, att, slope), (a, b, att), grad, ctx)
            return *grads, None, None
        k, grad = kernels.choose(grad), grad.contiguous()
        da = k.edge_score_grad(nb.csr, a, b, att, slope, grad) if needs[0] else None
        db = k.edge_score_grad(nb.csc, b, a, att, slope, grad) if needs[1] else None
        datt = k.edge_score_att_grad(nb.csc, a, b, slope, grad) if needs[2] else None
        return da, db, datt, None, None


def _composed_score(nb: Neighbors, a: Tensor, b: Tensor, att: Tensor, slope: float) -> Tensor:
    def on_edges(copy: Callable, x: Tensor) -> Tensor:
        return copy(nb, x.flatten(1)).unflatten(1, x.shape[1:])

    z = on_edges(copy_src, a) + on_edges(copy_dst, b)
    return (torch.nn.functional.leaky_relu(z, slope) * att).sum(-1)


class Attend(Function):
    """feat (N_src, H, F), own (N_dst, H, F), att_src, att_dst (H, F), coeff (E, H or 1) or None,
    bias (H, F) or None -> (N_dst, H, F)

    ``own`` None: the destinations are the first sources.
    """

    @staticmethod
    def forward(ctx, feat, own, att_src, att_dst, coeff, bias, nb: Neighbors, slope: float) -> Tensor:
        left, right = _scores(nb, feat, own, att_src, att_dst)
        y, *kept = kernels.choose(feat).attend(nb.csc, nb.csr, feat, left, right, slope, coeff, bias)
        ctx.nb, ctx.slope = nb, slope
        ctx.save_for_backward(feat, own, att_src, att_dst, coeff, bias, *kept)
        return y

    @staticmethod
    def backward(ctx, grad: Tensor):
        feat, own, att_src, att_dst, coeff, bias, *kept = ctx.saved_tensors
        nb, slope, inputs = ctx.nb, ctx.slope, (feat, own, att_src, att_dst, coeff, bias)
        if torch.is_grad_enabled() or ctx.needs_input_grad[4]:
            return *_recompose(partial(composed_attention, nb, slope), inputs, grad, ctx), None, None
        k, grad = kernels.choose(grad), grad.contiguous()
        d_feat, d_score, d_right = k.attend_grad(nb.csc, nb.csr, grad, feat, slope, coeff, *kept)
        d_bias = grad.sum(0) if ctx.needs_input_grad[5] else None
        if own is None:
            att = torch.stack([att_src, att_dst])
            d_att_src, d_att_dst = k.attend_ends_grad(nb.csr, feat, att, d_score, d_right, d_feat)
            return d_feat, None, d_att_src, d_att_dst, None, d_bias, None, None
        (d_att_src,) = k.attend_ends_grad(nb.csr, feat, att_src.unsqueeze(0), d_score, None, d_feat)
        d_own, d_att_dst = d_right.unsqueeze(2) * att_dst, torch.einsum("nh,nhf->hf", d_right, own)
        return d_feat, d_own, d_att_src, d_att_dst, None, d_bias, None, None


def _scores(nb: Neighbors, feat: Tensor, own: Tensor | None, att_src: Tensor, att_dst: Tensor) -> tuple[Tensor, Tensor]:
    """Both ends' parts of the scores: (N_src, H) and (N_dst, H)."""
    if own is not None:
        return _per_head(feat, att_src)[0], _per_head(own, att_dst)[0]
    left, right = _per_head(feat, att_src, att_dst)
    return left, right[: nb.num_dst]


def _blocks(*vectors: Tensor) -> Tensor:
    """Each (H, F) as (H, H F), block by block, one below the other: products per head become matrix products."""
    one = torch.eye(len(vectors[0]), dtype=vectors[0].dtype, device=vectors[0].device).unsqueeze(2)
    return torch.cat([(one * vector).flatten(1) for vector in vectors])


def _per_head(feat: Tensor, *vectors: Tensor) -> tuple[Tensor, ...]:
    """<feat_v[h], vector[h]> for each vector: (N, H)"""
    return linear(feat.flatten(1), _blocks(*vectors)).split(feat.shape[1], 1)


def composed_attention(nb: Neighbors, slope: float, feat, own, att_src, att_dst, coeff, bias) -> Tensor:
    left, right = _scores(nb, feat, own, att_src, att_dst)
    z = torch.nn.functional.leaky_relu(copy_src(nb, left) + copy_dst(nb, right), slope)
    prob = Softmax.apply(z, nb)
    prob = prob if coeff is None else (prob * coeff).contiguous()
    y = Sum.apply(feat, prob, nb, feat.shape[1]) if nb.drop is None else DroppedSum.apply(feat, prob, nb)
    return y if bias is None else y + bias


class Convolve(Function):
    """x (N_src, S, F), basis (E, K) or taps (E,), weight (G, K, F, O) -> (N_dst, S, O): the sum over k of
    Sum(x, basis_k) weight_k, where signal s has the weights of group s % G.

    The sums, (N_dst, S, K, F), are made for a few destinations at a time and never kept: the backward pass makes them
    again. The gradient for x is the same operation on the reversed edges with each weight transposed.
    """

    @staticmethod
    def forward(ctx, x: Tensor, basis: Tensor, weight: Tensor, nb: Neighbors) -> Tensor:
        ctx.nb = nb
        ctx.save_for_backward(x, basis, weight)
        y, joined = x.new_empty(nb.num_dst, x.shape[1], weight.shape[3]), weight.flatten(1, 2)
        for rows, part in _parts(nb.csc, x.shape[1] * joined.shape[1], x):
            torch.matmul(_by_group(_collected(part, x, basis, weight), weight), joined, out=_by_group(y[rows], weight))
        return y

    @staticmethod
    def backward(ctx, grad: Tensor):
        (x, basis, weight), nb, needs = ctx.saved_tensors, ctx.nb, ctx.needs_input_grad
        if torch.is_grad_enabled():
            return *_recompose(partial(_composed_convolution, nb), (x, basis, weight), grad, ctx), None
        grad, joined = grad.contiguous(), weight.flatten(1, 2)
        dx = Convolve.apply(grad, basis, weight.transpose(2, 3).contiguous(), nb.reverse()) if needs[0] else None
        d_basis = torch.empty_like(basis) if needs[1] else None
        d_joined = torch.zeros_like(joined) if needs[2] else None
        for rows, part in _parts(nb.csc, x.shape[1] * joined.shape[1], x) if needs[1] or needs[2] else ():
            g = _by_group(grad[rows], weight)
            if d_joined is not None:
                d_joined.baddbmm_(_by_group(_collected(part, x, basis, weight), weight).transpose(1, 2), g)
            if d_basis is not None:
                dz = (g @ joined.transpose(1, 2)).transpose(0, 1)
                dz = dz.reshape(len(part.indptr) - 1, x.shape[1], weight.shape[1], x.shape[2])
                flat = x.flatten(1).unsqueeze(1), dz.transpose(1, 2).flatten(2).contiguous()
                kernels.choose(x).edge_dot(part, *flat, d_basis)
        return dx, d_basis, d_joined.view_as(weight) if d_joined is not None else None, None


def _collected(adj: Compressed, x: Tensor, basis: Tensor, weight: Tensor) -> Tensor:
    """The sums before the weights: (N_v, S, K F)"""
    k, many = kernels.choose(x), weight.shape[1]
    if basis.dim() == 1:
        return k.tap_sum(adj, x, basis, many).flatten(2)
    z = k.neighbour_sum(adj, x.flatten(1).unsqueeze(1), basis, many)
    return z.view(len(z), many, *x.shape[1:]).transpose(1, 2).flatten(2)


def _by_group(z: Tensor, weight: Tensor) -> Tensor:
    """(N, S, width) -> (G, N S / G, width)"""
    return z.reshape(z.shape[:2].numel() // len(weight), len(weight), z.shape[2]).transpose(0, 1)


def _composed_convolution(nb: Neighbors, x: Tensor, basis: Tensor, weight: Tensor) -> Tensor:
    many = weight.shape[1]
    if basis.dim() == 1:
        basis = torch.nn.functional.one_hot(basis.long(), many).to(x)
    z = Sum.apply(x.flatten(1).unsqueeze(1), basis, nb, many).view(nb.num_dst, many, *x.shape[1:])
    y = _by_group(z.transpose(1, 2).flatten(2), weight) @ weight.flatten(1, 2)
    return y.transpose(0, 1).reshape(nb.num_dst, x.shape[1], weight.shape[3])


def _parts(adj: Compressed, width: int, like: Tensor) -> list[tuple[slice, Compressed]]:
    """A few rows of a group of edges after the other, such that an array of that width for each stays in the cache:
    made once for each power of two of rows, and kept with ``adj.indices``."""
    room = PART.get(like.device.type, 1 << 26) // max(1, width)
    step, rows = 1 << max(0, room.bit_length() - 1), len(adj.indptr) - 1
    kept = adj.indices.__dict__.setdefault("_gnnlib_parts", {})
    if step not in kept:
        bounds = [*range(0, rows, step), rows]
        slots = adj.indptr[bounds].tolist()
        kept[step] = [
            (
                slice(bounds[i], bounds[i + 1]),
                Compressed(
                    adj.indptr[bounds[i] : bounds[i + 1] + 1] - slots[i],
                    adj.indices[slots[i] : slots[i + 1]],
                    adj.eid[slots[i] : slots[i + 1]],
                ),
            )
            for i in range(len(bounds) - 1)
        ]
    return kept[step]


def _recompose(function: Callable[..., Tensor], inputs: tuple, grad: Tensor, ctx) -> tuple:
    """Gradients through differentiable pieces, for the backward pass that is itself differentiated."""
    create_graph = torch.is_grad_enabled()
    wanted = [i for i in range(len(inputs)) if ctx.needs_input_grad[i]]
    with torch.enable_grad():
        # fresh leaves where the outer graph is not wanted; the inputs themselves where it is
        used = [t if create_graph or t is None else t.detach().requires_grad_(t.requires_grad) for t in inputs]
        y = function(*used)
    found = torch.autograd.grad(y, [used[i] for i in wanted], grad, create_graph=create_graph, allow_unused=True)
    grads: list = [None] * len(inputs)
    for i, g in zip(wanted, found, strict=True):
        grads[i] = g
    return tuple(grads)
