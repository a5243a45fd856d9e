"""Sums, dot products and maxima."""

import torch
from torch import Tensor
from torch.autograd import Function

from gnnlib import kernels
from gnnlib.graph.adjacency import Drop, Neighbors
from gnnlib.ops.autograd.recompose import recompose


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
            return *recompose(lambda x, coeff: _taken(ctx.nb, x, coeff, arg), (x, coeff), grad, ctx), None
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
