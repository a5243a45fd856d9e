"""Edge softmax, scores of attention, and attention (GAT) in one pass."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.autograd import Function

from gnnlib import kernels
from gnnlib.graph import Adjacency
from gnnlib.ops.autograd.recompose import recompose
from gnnlib.ops.autograd.sums import DroppedSum, Sum, copy_dst, copy_src, sum_edges
from gnnlib.ops.linear import wide_linear


class Softmax(Function):
    """(E, H) -> (E, H)"""

    @staticmethod
    def forward(ctx, score: Tensor, adj: Adjacency) -> Tensor:
        prob = kernels.choose(score).edge_softmax(adj.csc, score)
        ctx.adj = adj
        ctx.save_for_backward(prob)
        return prob

    @staticmethod
    def backward(ctx, grad: Tensor):
        (prob,), adj = ctx.saved_tensors, ctx.adj
        if torch.is_grad_enabled():
            return prob * (grad - copy_dst(adj, sum_edges(adj, prob * grad))), None
        return kernels.choose(grad).edge_softmax_grad(adj.csc, prob, grad.contiguous()), None


class Score(Function):
    """a (N_src, H or 1, J), b (N_dst, H or 1, J), att (H, J) -> (E, H)"""

    @staticmethod
    def forward(ctx, a: Tensor, b: Tensor, att: Tensor, adj: Adjacency, slope: float) -> Tensor:
        ctx.adj, ctx.slope = adj, slope
        ctx.save_for_backward(a, b, att)
        return kernels.choose(a).edge_score(adj.csc, a, b, att, slope)

    @staticmethod
    def backward(ctx, grad: Tensor):
        a, b, att = ctx.saved_tensors
        adj, slope, needs = ctx.adj, ctx.slope, ctx.needs_input_grad
        if torch.is_grad_enabled():
            grads = recompose(lambda a, b, att: _composed_score(adj, a, b, att, slope), (a, b, att), grad, ctx)
            return *grads, None, None
        k, grad = kernels.choose(grad), grad.contiguous()
        da = k.edge_score_grad(adj.csr, a, b, att, slope, grad) if needs[0] else None
        db = k.edge_score_grad(adj.csc, b, a, att, slope, grad) if needs[1] else None
        datt = k.edge_score_att_grad(adj.csc, a, b, slope, grad) if needs[2] else None
        return da, db, datt, None, None


def _composed_score(adj: Adjacency, a: Tensor, b: Tensor, att: Tensor, slope: float) -> Tensor:
    def on_edges(copy: Callable, x: Tensor) -> Tensor:
        return copy(adj, x.flatten(1)).unflatten(1, x.shape[1:])

    z = on_edges(copy_src, a) + on_edges(copy_dst, b)
    return (torch.nn.functional.leaky_relu(z, slope) * att).sum(-1)


class Attend(Function):
    """feat (N_src, H, F), feat_dst (N_dst, H, F), att_src, att_dst (H, F), coeff (E, H or 1) or None,
    bias (H, F) or None -> (N_dst, H, F)

    ``feat_dst`` None: the destinations are the first sources.
    """

    @staticmethod
    def forward(ctx, feat, feat_dst, att_src, att_dst, coeff, bias, adj: Adjacency, slope: float) -> Tensor:
        src_score, dst_score = _scores(adj, feat, feat_dst, att_src, att_dst)
        y, *saved = kernels.choose(feat).attend(adj.csc, adj.csr, feat, src_score, dst_score, slope, coeff, bias)
        ctx.adj, ctx.slope = adj, slope
        ctx.save_for_backward(feat, feat_dst, att_src, att_dst, coeff, bias, *saved)
        return y

    @staticmethod
    def backward(ctx, grad: Tensor):
        feat, feat_dst, att_src, att_dst, coeff, bias, *saved = ctx.saved_tensors
        adj, slope, inputs = ctx.adj, ctx.slope, (feat, feat_dst, att_src, att_dst, coeff, bias)
        if torch.is_grad_enabled() or ctx.needs_input_grad[4]:
            return *recompose(partial(composed_attention, adj, slope), inputs, grad, ctx), None, None
        k, grad = kernels.choose(grad), grad.contiguous()
        d_feat, d_score, d_dst = k.attend_grad(adj.csc, adj.csr, grad, feat, slope, coeff, *saved)
        d_bias = grad.sum(0) if ctx.needs_input_grad[5] else None
        if feat_dst is None:
            att = torch.stack([att_src, att_dst])
            d_feat, (d_att_src, d_att_dst) = k.attend_ends_grad(adj.csr, feat, att, d_score, d_dst, d_feat)
            return d_feat, None, d_att_src, d_att_dst, None, d_bias, None, None
        d_feat, (d_att_src,) = k.attend_ends_grad(adj.csr, feat, att_src.unsqueeze(0), d_score, None, d_feat)
        d_feat_dst, d_att_dst = (
            d_dst.unsqueeze(2) * att_dst,
            torch.einsum("nh,nhf->hf", d_dst, feat_dst.to(d_dst.dtype)),
        )
        return d_feat, d_feat_dst, d_att_src, d_att_dst, None, d_bias, None, None


def _scores(
    adj: Adjacency, feat: Tensor, feat_dst: Tensor | None, att_src: Tensor, att_dst: Tensor
) -> tuple[Tensor, Tensor]:
    """The scores of both ends: (N_src, H) and (N_dst, H)."""
    if feat_dst is not None:
        return _per_head(feat, att_src)[0], _per_head(feat_dst, att_dst)[0]
    src_score, dst_score = _per_head(feat, att_src, att_dst)
    return src_score, dst_score[: adj.num_dst]


def _blocks(*vectors: Tensor) -> Tensor:
    """Block-diagonal matrices (H, H F) of vectors (H, F), concatenated: products per head become matrix products."""
    one = torch.eye(len(vectors[0]), dtype=vectors[0].dtype, device=vectors[0].device).unsqueeze(2)
    return torch.cat([(one * vector).flatten(1) for vector in vectors])


def _per_head(feat: Tensor, *vectors: Tensor) -> tuple[Tensor, ...]:
    """<feat_v[h], vector[h]> for each vector: (N, H)."""
    return wide_linear(feat.flatten(1), _blocks(*vectors)).split(feat.shape[1], 1)


def composed_attention(adj: Adjacency, slope: float, feat, feat_dst, att_src, att_dst, coeff, bias) -> Tensor:
    src_score, dst_score = _scores(adj, feat, feat_dst, att_src, att_dst)
    z = torch.nn.functional.leaky_relu(copy_src(adj, src_score) + copy_dst(adj, dst_score), slope)
    prob = Softmax.apply(z, adj)
    prob = prob if coeff is None else (prob * coeff).contiguous()
    y = Sum.apply(feat, prob, adj, feat.shape[1]) if adj.dropout is None else DroppedSum.apply(feat, prob, adj)
    return y if bias is None else y + bias
