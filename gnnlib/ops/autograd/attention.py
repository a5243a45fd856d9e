"""Edge softmax, scores of attention, and attention (GAT) in one pass."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from gnnlib import kernels
from gnnlib.graph import Adjacency
from gnnlib.ops.autograd.operation import Operation, Operator, is_composed, recompose
from gnnlib.ops.autograd.sums import DroppedSum, Sum, copy_dst, copy_src, fold_columns, sum_edges
from gnnlib.ops.linear import wide_linear


class Softmax(Operation):
    """(E, H) -> (E, H)"""

    schema = "Tensor score, adj -> Tensor"

    @staticmethod
    def forward(score: Tensor, adj: Adjacency) -> Tensor:
        return kernels.choose(score).edge_softmax(adj.csc, score)

    @staticmethod
    def fake(score: Tensor, adj: Adjacency) -> Tensor:
        return score.new_empty(score.shape)

    @classmethod
    def saved(cls, needs: Sequence[bool], inputs: tuple[Any, ...], outputs: tuple[Tensor, ...]) -> tuple[Any, ...]:
        return outputs

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (prob,), adj = ctx.saved_tensors, ctx.adj
        if is_composed():
            return (_softmax_derivative(adj, prob, grad),)
        return (SoftmaxGrad.apply(prob, grad.contiguous(), adj),)

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> Tensor:
        assert tangents[0] is not None
        return _softmax_derivative(ctx.adj, ctx.saved_tensors[1], tangents[0])

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], score: Tensor, adj: Adjacency) -> tuple[Any, Any]:
        return fold_columns(Softmax, in_dims[0], score, adj)


def _softmax_derivative(adj: Adjacency, prob: Tensor, change: Tensor) -> Tensor:
    """The product with the derivative of the softmax, which is symmetric."""
    return prob * (change - copy_dst(adj, sum_edges(adj, prob * change)))


class SoftmaxGrad(Operator):
    """The gradient of `Softmax`."""

    schema = "Tensor prob, Tensor grad, adj -> Tensor"

    @staticmethod
    def forward(prob: Tensor, grad: Tensor, adj: Adjacency) -> Tensor:
        return kernels.choose(grad).edge_softmax_grad(adj.csc, prob, grad)

    @staticmethod
    def fake(prob: Tensor, grad: Tensor, adj: Adjacency) -> Tensor:
        return grad.new_empty(grad.shape)


class Score(Operation):
    """a (N_src, H or 1, J), b (N_dst, H or 1, J), att (H, J) -> (E, H)"""

    schema = "Tensor a, Tensor b, Tensor att, adj, float slope -> Tensor"

    @staticmethod
    def forward(a: Tensor, b: Tensor, att: Tensor, adj: Adjacency, slope: float) -> Tensor:
        return kernels.choose(a).edge_score(adj.csc, a, b, att, slope)

    @staticmethod
    def fake(a: Tensor, b: Tensor, att: Tensor, adj: Adjacency, slope: float) -> Tensor:
        return a.new_empty(adj.num_edges, att.shape[0])

    @staticmethod
    def composition(a: Tensor, b: Tensor, att: Tensor, adj: Adjacency, slope: float) -> Tensor:
        def on_edges(copy: Callable, x: Tensor) -> Tensor:
            return copy(adj, x.flatten(1)).unflatten(1, x.shape[1:])

        z = on_edges(copy_src, a) + on_edges(copy_dst, b)
        return (torch.nn.functional.leaky_relu(z, slope) * att).sum(-1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        a, b, att = ctx.saved_tensors
        adj, (slope,), needs = ctx.adj, ctx.constants, ctx.needs_input_grad
        if is_composed():
            return recompose(lambda a, b, att: Score.composition(a, b, att, adj, slope), (a, b, att), grad, ctx)
        grad = grad.contiguous()
        da = ScoreGrad.apply(a, b, att, grad, adj, slope, True) if needs[0] else None
        db = ScoreGrad.apply(b, a, att, grad, adj, slope, False) if needs[1] else None
        return da, db, ScoreAttGrad.apply(a, b, grad, adj, slope) if needs[2] else None


class ScoreGrad(Operator):
    """The gradient of `Score` for the features x of the sources or of the destinations; y are those of the others."""

    schema = "Tensor x, Tensor y, Tensor att, Tensor grad, adj, float slope, bool of_src -> Tensor"

    @staticmethod
    def forward(x: Tensor, y: Tensor, att: Tensor, grad: Tensor, adj: Adjacency, slope: float, of_src: bool) -> Tensor:
        return kernels.choose(grad).edge_score_grad(adj.csr if of_src else adj.csc, x, y, att, slope, grad)

    @staticmethod
    def fake(x: Tensor, y: Tensor, att: Tensor, grad: Tensor, adj: Adjacency, slope: float, of_src: bool) -> Tensor:
        return x.new_empty(x.shape)


class ScoreAttGrad(Operator):
    """The gradient of `Score` for att."""

    schema = "Tensor a, Tensor b, Tensor grad, adj, float slope -> Tensor"

    @staticmethod
    def forward(a: Tensor, b: Tensor, grad: Tensor, adj: Adjacency, slope: float) -> Tensor:
        return kernels.choose(grad).edge_score_att_grad(adj.csc, a, b, slope, grad)

    @staticmethod
    def fake(a: Tensor, b: Tensor, grad: Tensor, adj: Adjacency, slope: float) -> Tensor:
        return a.new_empty(grad.shape[1], a.shape[2])


class Attend(Operation):
    """feat (N_src, H, F), feat_dst (N_dst, H, F), att_src, att_dst (H, F), coeff (E, H or 1) or None,
    bias (H, F) or None -> (N_dst, H, F)

    ``feat_dst`` None: the destinations are the first sources. The tables that the backward pass needs have shapes that
    depend on the values. The operator does not return them, and its backward pass computes them again.
    """

    schema = (
        "Tensor feat, Tensor? feat_dst, Tensor att_src, Tensor att_dst, Tensor? coeff, Tensor? bias, adj, float slope "
        "-> Tensor"
    )

    @staticmethod
    def forward(feat, feat_dst, att_src, att_dst, coeff, bias, adj: Adjacency, slope: float) -> tuple[Tensor, ...]:
        src_score, dst_score = _scores(adj, feat, feat_dst, att_src, att_dst)
        return kernels.choose(feat).attend(adj.csc, adj.csr, feat, src_score, dst_score, slope, coeff, bias)

    @staticmethod
    def fake(feat, feat_dst, att_src, att_dst, coeff, bias, adj: Adjacency, slope: float) -> Tensor:
        return feat.new_empty(adj.num_dst, *feat.shape[1:])

    @staticmethod
    def composition(feat, feat_dst, att_src, att_dst, coeff, bias, adj: Adjacency, slope: float) -> Tensor:
        src_score, dst_score = _scores(adj, feat, feat_dst, att_src, att_dst)
        z = torch.nn.functional.leaky_relu(copy_src(adj, src_score) + copy_dst(adj, dst_score), slope)
        prob = Softmax.apply(z, adj)
        prob = prob if coeff is None else (prob * coeff).contiguous()
        y = Sum.apply(feat, prob, adj, feat.shape[1]) if adj.dropout is None else DroppedSum.apply(feat, prob, adj)
        return y if bias is None else y + bias

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        feat, feat_dst, att_src, att_dst, coeff, bias, *tables = ctx.saved_tensors
        adj, (slope,), inputs = ctx.adj, ctx.constants, (feat, feat_dst, att_src, att_dst, coeff, bias)
        if is_composed() or ctx.needs_input_grad[4]:
            compose: Any = Attend.composition
            return recompose(lambda *inputs: compose(*inputs, adj, slope), inputs, grad, ctx)
        results = AttendGrad.apply(grad.contiguous(), *inputs[:5], adj, slope, *tables)
        d_feat, d_feat_dst, (d_att_src, d_att_dst) = results
        d_bias = grad.sum(0) if ctx.needs_input_grad[5] else None
        return d_feat, None if feat_dst is None else d_feat_dst, d_att_src, d_att_dst, None, d_bias


class AttendGrad(Operator):
    """The gradients of `Attend` for feat, feat_dst (empty where it is None), and att_src and att_dst side by side."""

    schema = (
        "Tensor grad, Tensor feat, Tensor? feat_dst, Tensor att_src, Tensor att_dst, Tensor? coeff, adj, float slope "
        "-> (Tensor, Tensor, Tensor)"
    )

    @staticmethod
    def forward(grad, feat, feat_dst, att_src, att_dst, coeff, adj: Adjacency, slope: float, *tables: Tensor) -> Any:
        k = kernels.choose(grad)
        if not tables:
            tables = Attend.forward(feat, feat_dst, att_src, att_dst, coeff, None, adj, slope)[1:]
        d_feat, d_score, d_dst = k.attend_grad(adj.csc, adj.csr, grad, feat, slope, coeff, *tables)
        if feat_dst is None:
            att = torch.stack([att_src, att_dst])
            d_feat, d_att = k.attend_ends_grad(adj.csr, feat, att, d_score, d_dst, d_feat)
            return d_feat, feat.new_empty(0), d_att.to(att_src.dtype)
        d_feat, (d_att_src,) = k.attend_ends_grad(adj.csr, feat, att_src.unsqueeze(0), d_score, None, d_feat)
        d_feat_dst = (d_dst.unsqueeze(2) * att_dst).to(feat_dst.dtype)
        d_att_dst = torch.einsum("nh,nhf->hf", d_dst, feat_dst.to(d_dst.dtype))
        return d_feat, d_feat_dst, torch.stack([d_att_src, d_att_dst]).to(att_src.dtype)

    @staticmethod
    def fake(grad, feat, feat_dst, att_src, att_dst, coeff, adj: Adjacency, slope: float) -> Any:
        d_feat_dst = feat.new_empty(0) if feat_dst is None else feat_dst.new_empty(feat_dst.shape)
        return feat.new_empty(feat.shape), d_feat_dst, att_src.new_empty(2, *att_src.shape)


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
