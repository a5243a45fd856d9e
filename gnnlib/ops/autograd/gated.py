"""Gated sums."""

from functools import partial

import torch
from torch import Tensor
from torch.autograd import Function

from gnnlib import kernels
from gnnlib.graph import Adjacency
from gnnlib.ops.autograd.recompose import recompose
from gnnlib.ops.autograd.sums import sum_sources
from gnnlib.ops.edges_as_nodes import incidence


class GatedSum(Function):
    """x (N_src, F), e (E, F) -> (N_dst, F), the gates being sigmoid(e)."""

    @staticmethod
    def forward(ctx, x: Tensor, e: Tensor, adj: Adjacency, epsilon: float | None) -> Tensor:
        t = (e * 0.5).tanh_()  # unlike torch's sigmoid, the same bits under any number of threads
        y, total = kernels.choose(x).gated_sum(adj.csc, t, x)
        total = torch.ones_like(total) if epsilon is None else total.add_(epsilon)
        y = y.div_(total).to(x.dtype)
        ctx.adj, ctx.epsilon = adj, epsilon
        ctx.save_for_backward(x, e, t, y, total)
        return y

    @staticmethod
    def backward(ctx, grad: Tensor):
        x, e, t, y, total = ctx.saved_tensors
        if torch.is_grad_enabled():
            return *recompose(partial(composed_gated_sum, ctx.adj, ctx.epsilon), (x, e), grad, ctx), None, None
        grad, k = (grad / total).to(x.dtype).contiguous(), kernels.choose(x)
        dx = k.gated_sum(ctx.adj.csr, t, grad)[0].to(x.dtype) if ctx.needs_input_grad[0] else None
        base = torch.zeros_like(y) if ctx.epsilon is None else y
        de = k.gate_grad(ctx.adj.csc, t, x, base, grad) if ctx.needs_input_grad[1] else None
        return dx, de, None, None


def composed_gated_sum(adj: Adjacency, epsilon: float | None, x: Tensor, e: Tensor) -> Tensor:
    from_src, from_dst = incidence(adj)
    gate, to_dst = e.sigmoid(), from_dst.reverse()
    y = sum_sources(to_dst, gate * sum_sources(from_src, x))
    return y if epsilon is None else y / (sum_sources(to_dst, gate) + epsilon)
