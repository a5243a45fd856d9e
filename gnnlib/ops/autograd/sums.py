"""Sums and maxima over neighbours, and dot products of both ends."""

import torch
from torch import Tensor
from torch.autograd import Function

from gnnlib import kernels
from gnnlib.graph import Adjacency, MessageDropout
from gnnlib.ops.autograd.recompose import recompose


class Sum(Function):
    """coeff (E, H) or None, x (N_src, H or 1, F) -> (N_dst, heads = H or 1, F).

    Without coeff, self_weight x_v is added for each node v that is a source and a destination under the same number.
    """

    @staticmethod
    def forward(ctx, x: Tensor, coeff: Tensor | None, adj: Adjacency, heads: int, self_weight: float = 0.0) -> Tensor:
        ctx.adj, ctx.x_heads, ctx.self_weight = adj, x.shape[1], self_weight
        ctx.save_for_backward(x if ctx.needs_input_grad[1] else None, coeff)
        return kernels.choose(x).neighbour_sum(adj.csc, x, coeff, heads, self_weight)

    @staticmethod
    def backward(ctx, grad: Tensor):
        x, coeff = ctx.saved_tensors
        grad = grad.contiguous()
        reverse, needs = ctx.adj.reverse(), ctx.needs_input_grad
        dx = Sum.apply(grad, coeff, reverse, ctx.x_heads, ctx.self_weight) if needs[0] else None
        dcoeff = Dot.apply(x, grad, ctx.adj) if needs[1] else None
        return dx, dcoeff, None, None, None


class DroppedSum(Function):
    """x (N_src, H, F), coeff (E, H or 1) or None -> (N_dst, H, F): the sum of messages after ``adj.dropout``."""

    @staticmethod
    def forward(ctx, x: Tensor, coeff: Tensor | None, adj: Adjacency) -> Tensor:
        ctx.adj = adj
        ctx.save_for_backward(x if ctx.needs_input_grad[1] else None, coeff)
        return kernels.choose(x).dropped_sum(adj.csc, x, coeff, *_drop(adj))

    @staticmethod
    def backward(ctx, grad: Tensor):
        (x, coeff), adj, grad = ctx.saved_tensors, ctx.adj, grad.contiguous()
        dx = DroppedSum.apply(grad, coeff, adj.reverse()) if ctx.needs_input_grad[0] else None
        dcoeff = DroppedDot.apply(x, grad, adj, coeff.shape[1]) if ctx.needs_input_grad[1] else None
        return dx, dcoeff, None


def _drop(adj: Adjacency) -> MessageDropout:
    assert adj.dropout is not None
    return adj.dropout


class DroppedDot(Function):
    """x (N_src, H, F), y (N_dst, H, F) -> (E, heads = H or 1), over the entries that ``adj.dropout`` leaves."""

    @staticmethod
    def forward(ctx, x: Tensor, y: Tensor, adj: Adjacency, heads: int) -> Tensor:
        ctx.adj = adj
        ctx.save_for_backward(x, y)
        return kernels.choose(x).dropped_dot(adj.csc, x, y, heads, *_drop(adj))

    @staticmethod
    def backward(ctx, grad: Tensor):
        (x, y), adj, grad = ctx.saved_tensors, ctx.adj, grad.contiguous()
        return DroppedSum.apply(y, grad, adj.reverse()), DroppedSum.apply(x, grad, adj), None, None


class Scaled(Function):
    """x (N_src, F) -> (N_dst, F): the sum normalised by factors of both ends, (N_src,) and (N_dst,) constants."""

    @staticmethod
    def forward(ctx, x: Tensor, scale_src: Tensor, scale_dst: Tensor, adj: Adjacency) -> Tensor:
        ctx.adj = adj
        ctx.save_for_backward(scale_src, scale_dst)
        return kernels.choose(x).scaled_sum(adj.csc, x, scale_src, scale_dst)

    @staticmethod
    def backward(ctx, grad: Tensor):
        scale_src, scale_dst = ctx.saved_tensors
        return Scaled.apply(grad.contiguous(), scale_dst, scale_src, ctx.adj.reverse()), None, None, None


class Dot(Function):
    """x (N_src, H or 1, F), y (N_dst, H or 1, F) -> (E, H)."""

    @staticmethod
    def forward(ctx, x: Tensor, y: Tensor, adj: Adjacency) -> Tensor:
        ctx.adj, ctx.heads = adj, (x.shape[1], y.shape[1])
        ctx.save_for_backward(x, y)
        return kernels.choose(x).edge_dot(adj.csc, x, y)

    @staticmethod
    def backward(ctx, grad: Tensor):
        (x, y), grad = ctx.saved_tensors, grad.contiguous()
        dx = Sum.apply(y, grad, ctx.adj.reverse(), ctx.heads[0]) if ctx.needs_input_grad[0] else None
        dy = Sum.apply(x, grad, ctx.adj, ctx.heads[1]) if ctx.needs_input_grad[1] else None
        return dx, dy, None


class CopySrc(Function):
    """x (N_src, H) -> (E, H)"""

    @staticmethod
    def forward(ctx, x: Tensor, adj: Adjacency) -> Tensor:
        ctx.adj = adj
        return x.index_select(0, adj.src)

    @staticmethod
    def backward(ctx, grad: Tensor):
        return sum_edges(ctx.adj.reverse(), grad), None


def copy_src(adj: Adjacency, x: Tensor) -> Tensor:
    """(N_src, H) -> (E, H)"""
    return CopySrc.apply(x, adj)


def copy_dst(adj: Adjacency, y: Tensor) -> Tensor:
    return copy_src(adj.reverse(), y)


class EdgeSum(Function):
    """value (E, H) -> (N_dst, H): the sum over each destination's in-edges."""

    @staticmethod
    def forward(ctx, value: Tensor, adj: Adjacency) -> Tensor:
        ctx.adj = adj
        return kernels.choose(value).edge_sum(adj.csc, value)

    @staticmethod
    def backward(ctx, grad: Tensor):
        return copy_dst(ctx.adj, grad), None


def sum_edges(adj: Adjacency, value: Tensor) -> Tensor:
    return EdgeSum.apply(value.contiguous(), adj)


def sum_sources(adj: Adjacency, x: Tensor, coeff: Tensor | None = None) -> Tensor:
    """x (N_src, F), coeff (E,) or None -> (N_dst, F)"""
    y = Sum.apply(x.unsqueeze(1).contiguous(), None if coeff is None else coeff.unsqueeze(1).contiguous(), adj, 1)
    return y.squeeze(1)


class Max(Function):
    """x (N_src, H, F), coeff (E, H) or None -> (N_dst, H, F)."""

    @staticmethod
    def forward(ctx, x: Tensor, coeff: Tensor | None, adj: Adjacency) -> Tensor:
        y, arg = kernels.choose(x).neighbour_max(adj.csc, x, coeff)
        ctx.adj = adj
        ctx.save_for_backward(x, coeff, arg)
        return y

    @staticmethod
    def backward(ctx, grad: Tensor):
        x, coeff, arg = ctx.saved_tensors
        if torch.is_grad_enabled() or ctx.needs_input_grad[1]:
            return *recompose(lambda x, coeff: _taken(ctx.adj, x, coeff, arg), (x, coeff), grad, ctx), None
        return kernels.choose(grad).max_grad(ctx.adj.csr, grad.contiguous(), arg, coeff), None, None


def _taken(adj: Adjacency, x: Tensor, coeff: Tensor | None, arg: Tensor) -> Tensor:
    """The messages that a maximum took, given the edge of each."""
    if adj.num_edges == 0:
        return x.sum() * 0 + x.new_zeros(arg.shape)
    edge = arg.clamp(min=0).long()
    message = torch.gather(x, 0, adj.src[edge].long())
    if coeff is not None:
        message = message * torch.gather(coeff.unsqueeze(-1).expand(*coeff.shape, x.shape[2]), 0, edge)
    return message.where(arg >= 0, 0)
