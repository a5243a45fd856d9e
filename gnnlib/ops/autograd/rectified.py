"""Sums, means and maxima of messages after a ReLU."""

from functools import partial

import torch
from torch import Tensor
from torch.autograd import Function

from gnnlib import kernels
from gnnlib.graph import Adjacency
from gnnlib.kernels.half import computed
from gnnlib.ops.autograd.recompose import recompose
from gnnlib.ops.autograd.sums import Max, Scaled, sum_sources
from gnnlib.ops.edges_as_nodes import incidence


class RectifiedSum(Function):
    """x (N_src, F), e (E, F), coeff (E,) -> (N_dst, F)"""

    @staticmethod
    def forward(ctx, x: Tensor, e: Tensor, coeff: Tensor, adj: Adjacency) -> Tensor:
        ctx.adj = adj
        ctx.save_for_backward(x, e, coeff)
        return kernels.choose(x).rectified_sum(adj.csc, x, e, coeff)

    @staticmethod
    def backward(ctx, grad: Tensor):
        inputs = ctx.saved_tensors
        if torch.is_grad_enabled() or ctx.needs_input_grad[2]:
            return *recompose(partial(_composed_sum, ctx.adj), inputs, grad, ctx), None
        de = kernels.choose(grad).rectified_grad(ctx.adj.csc, *inputs, grad.contiguous())
        dx = sum_sources(incidence(ctx.adj)[0].reverse(), de) if ctx.needs_input_grad[0] else None
        return dx, de if ctx.needs_input_grad[1] else None, None, None


def _composed_sum(adj: Adjacency, x: Tensor, e: Tensor, coeff: Tensor) -> Tensor:
    from_src, from_dst = incidence(adj)
    return sum_sources(from_dst.reverse(), (sum_sources(from_src, x) + e).relu(), coeff)


class RectifiedMeanMax(Function):
    """a (N_src, F), b (N_dst, F), r (E, D), c (D, F), share (N_dst,) -> (N_dst, F) twice

    ``share`` is a constant: 1 over the number of in-edges.
    """

    @staticmethod
    def forward(
        ctx, a: Tensor, b: Tensor, r: Tensor, c: Tensor, share: Tensor, adj: Adjacency
    ) -> tuple[Tensor, Tensor]:
        mean, top, arg = kernels.choose(a).rectified_mean_max(adj.csc, a, b, r, c, share)
        ctx.adj = adj
        ctx.save_for_backward(a, b, r, c, share, arg)
        return mean, top

    @staticmethod
    def backward(ctx, d_mean: Tensor, d_top: Tensor):
        *inputs, share, arg = ctx.saved_tensors
        if torch.is_grad_enabled() or ctx.needs_input_grad[2]:
            grad = torch.cat([d_mean, d_top], 1)
            return *recompose(partial(composed_mean_max, ctx.adj, share), tuple(inputs), grad, ctx), None, None
        grads = d_mean.contiguous(), d_top.contiguous()
        k = kernels.choose(d_mean)
        da, db, dc = k.rectified_mean_max_grad(ctx.adj.csc, ctx.adj.csr, *inputs, share, arg, *grads)
        return da, db, None, dc, None, None


def composed_mean_max(adj: Adjacency, share: Tensor, a: Tensor, b: Tensor, r: Tensor, c: Tensor) -> Tensor:
    """(N_dst, 2 F): the mean beside the maximum. In half precision, messages that are rounded would be equal maxima."""
    dtype = a.dtype
    a, b, r, c = (t.to(computed(dtype)) for t in (a, b, r, c))
    from_src, from_dst = incidence(adj)
    messages, to_dst = (sum_sources(from_src, a) + sum_sources(from_dst, b) + r @ c).relu(), from_dst.reverse()
    mean = Scaled.apply(messages, share.new_ones(adj.num_edges), share, to_dst)
    return torch.cat([mean, Max.apply(messages.unsqueeze(1), None, to_dst).squeeze(1)], 1).to(dtype)
