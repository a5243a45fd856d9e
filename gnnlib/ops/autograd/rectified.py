"""Sums, means and maxima of messages after a ReLU."""

from typing import Any

import torch
from torch import Tensor

from gnnlib import kernels
from gnnlib.graph import Adjacency
from gnnlib.kernels.half import computed
from gnnlib.kernels.reference import edge_ids
from gnnlib.ops.autograd.operation import Operation, Operator, is_composed, recompose
from gnnlib.ops.autograd.sums import Max, Scaled, sum_sources
from gnnlib.ops.edges_as_nodes import incidence


class RectifiedSum(Operation):
    """x (N_src, F), e (E, F), coeff (E,) -> (N_dst, F)"""

    schema = "Tensor x, Tensor e, Tensor coeff, adj -> Tensor"

    @staticmethod
    def forward(x: Tensor, e: Tensor, coeff: Tensor, adj: Adjacency) -> Tensor:
        return kernels.choose(x).rectified_sum(adj.csc, x, e, coeff)

    @staticmethod
    def fake(x: Tensor, e: Tensor, coeff: Tensor, adj: Adjacency) -> Tensor:
        return x.new_empty(adj.num_dst, x.shape[1])

    @staticmethod
    def composition(x: Tensor, e: Tensor, coeff: Tensor, adj: Adjacency) -> Tensor:
        from_src, from_dst = incidence(adj)
        return sum_sources(from_dst.reverse(), (sum_sources(from_src, x) + e).relu(), coeff)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        inputs, adj, needs = ctx.saved_tensors, ctx.adj, ctx.needs_input_grad
        if is_composed() or needs[2]:
            return recompose(lambda x, e, coeff: RectifiedSum.composition(x, e, coeff, adj), inputs, grad, ctx)
        de = RectifiedGrad.apply(*inputs, grad.contiguous(), adj)
        dx = sum_sources(incidence(adj)[0].reverse(), de) if needs[0] else None
        return dx, de if needs[1] else None, None


class RectifiedGrad(Operator):
    """The gradient of `RectifiedSum` for e."""

    schema = "Tensor x, Tensor e, Tensor coeff, Tensor grad, adj -> Tensor"

    @staticmethod
    def forward(x: Tensor, e: Tensor, coeff: Tensor, grad: Tensor, adj: Adjacency) -> Tensor:
        return kernels.choose(grad).rectified_grad(adj.csc, x, e, coeff, grad)

    @staticmethod
    def fake(x: Tensor, e: Tensor, coeff: Tensor, grad: Tensor, adj: Adjacency) -> Tensor:
        return e.new_empty(e.shape)


class RectifiedMeanMax(Operation):
    """a (N_src, F), b (N_dst, F), r (E, D), c (D, F), share (N_dst,) -> (N_dst, F) twice

    ``share`` is a constant: 1 over the number of in-edges.
    """

    schema = "Tensor a, Tensor b, Tensor r, Tensor c, Tensor share, adj -> (Tensor, Tensor, Tensor)"
    num_outputs = 2

    @staticmethod
    def forward(
        a: Tensor, b: Tensor, r: Tensor, c: Tensor, share: Tensor, adj: Adjacency
    ) -> tuple[Tensor, Tensor, Tensor]:
        return kernels.choose(a).rectified_mean_max(adj.csc, a, b, r, c, share)

    @staticmethod
    def fake(a: Tensor, b: Tensor, r: Tensor, c: Tensor, share: Tensor, adj: Adjacency) -> tuple[Tensor, ...]:
        y = a.new_empty(adj.num_dst, a.shape[1])
        return y, torch.empty_like(y), torch.empty_like(y, dtype=edge_ids(a))

    @staticmethod
    def composition(a: Tensor, b: Tensor, r: Tensor, c: Tensor, share: Tensor, adj: Adjacency) -> tuple[Tensor, Tensor]:
        """In half precision, messages that are rounded would be equal maxima."""
        dtype = a.dtype
        a, b, r, c = (t.to(computed(dtype)) for t in (a, b, r, c))
        from_src, from_dst = incidence(adj)
        messages, to_dst = (sum_sources(from_src, a) + sum_sources(from_dst, b) + r @ c).relu(), from_dst.reverse()
        mean = Scaled.apply(messages, share.new_ones(adj.num_edges), share, to_dst)
        top = Max.apply(messages.unsqueeze(1), None, to_dst).squeeze(1)
        return mean.to(dtype), top.to(dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        a, b, r, c, share, arg = ctx.saved_tensors
        d_mean, d_top = (b.new_zeros(b.shape) if g is None else g for g in grads)
        if is_composed() or ctx.needs_input_grad[2]:

            def both(a: Tensor, b: Tensor, r: Tensor, c: Tensor) -> Tensor:
                return torch.cat(RectifiedMeanMax.composition(a, b, r, c, share, ctx.adj), 1)

            return *recompose(both, (a, b, r, c), torch.cat([d_mean, d_top], 1), ctx), None
        da, db, dc = RectifiedMeanMaxGrad.apply(
            a, b, r, c, share, arg, d_mean.contiguous(), d_top.contiguous(), ctx.adj
        )
        return da, db, None, dc, None


class RectifiedMeanMaxGrad(Operator):
    """The gradients of `RectifiedMeanMax` for a, b and c."""

    schema = (
        "Tensor a, Tensor b, Tensor r, Tensor c, Tensor share, Tensor arg, Tensor d_mean, Tensor d_top, adj "
        "-> (Tensor, Tensor, Tensor)"
    )

    @staticmethod
    def forward(a, b, r, c, share, arg, d_mean, d_top, adj: Adjacency) -> tuple[Tensor, Tensor, Tensor]:
        k = kernels.choose(d_mean)
        return k.rectified_mean_max_grad(adj.csc, adj.csr, a, b, r, c, share, arg, d_mean, d_top)

    @staticmethod
    def fake(a, b, r, c, share, arg, d_mean, d_top, adj: Adjacency) -> tuple[Tensor, Tensor, Tensor]:
        return a.new_empty(a.shape), b.new_empty(b.shape), c.new_empty(c.shape)
