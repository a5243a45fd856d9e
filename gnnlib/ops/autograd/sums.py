"""Sums and maxima over neighbours, and dot products of both ends."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from gnnlib import kernels
from gnnlib.graph import Adjacency, MessageDropout
from gnnlib.ops.autograd.operation import Operation, Operator, is_composed, recompose


class Sum(Operation):
    """coeff (E, H) or None, x (N_src, H or 1, F) -> (N_dst, heads = H or 1, F).

    Without coeff, self_weight x_v is added for each node v that is a source and a destination under the same number.
    """

    schema = "Tensor x, Tensor? coeff, adj, SymInt heads, float self_weight=0.0 -> Tensor"
    linear = (0, 1)

    @staticmethod
    def forward(x: Tensor, coeff: Tensor | None, adj: Adjacency, heads: int, self_weight: float = 0.0) -> Tensor:
        return kernels.choose(x).neighbour_sum(adj.csc, x, coeff, heads, self_weight)

    @staticmethod
    def fake(x: Tensor, coeff: Tensor | None, adj: Adjacency, heads: int, self_weight: float = 0.0) -> Tensor:
        return x.new_empty(adj.num_dst, heads, x.shape[2])

    @classmethod
    def saved(cls, needs: Sequence[bool], inputs: tuple[Any, ...], outputs: tuple[Tensor, ...]) -> tuple[Any, ...]:
        return inputs[0] if needs[1] else None, inputs[1]

    @classmethod
    def setup_context(cls, ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        super().setup_context(ctx, inputs, output)
        ctx.x_heads, ctx.self_weight = inputs[0].shape[1], inputs[4] if len(inputs) > 4 else 0.0

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, coeff = ctx.saved_tensors
        grad, needs = grad.contiguous(), ctx.needs_input_grad
        dx = Sum.apply(grad, coeff, ctx.adj.reverse(), ctx.x_heads, ctx.self_weight) if needs[0] else None
        return dx, Dot.apply(x, grad, ctx.adj) if needs[1] else None

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[Any, ...], x: Tensor, coeff: Any, adj: Adjacency, heads: int, *rest: float
    ) -> Any:
        """A batch of coefficients is further heads, a batch of features alone is further features."""
        size = info.batch_size
        if in_dims[1] is None:
            features = x.movedim(in_dims[0], 2).flatten(2).contiguous()
            return Sum.apply(features, coeff, adj, heads, *rest).unflatten(2, (size, x.shape[-1])), 2
        coeff = coeff.movedim(in_dims[1], 1)
        x, num_heads = _batch_first(x, in_dims[0]), coeff.shape[2]
        x = x.flatten(1, 2) if x.shape[1:3] == (1, 1) else x.expand(-1, size, num_heads, -1).flatten(1, 2)
        y = Sum.apply(x.contiguous(), coeff.flatten(1).contiguous(), adj, size * num_heads).unflatten(
            1, (size, num_heads)
        )
        return (y if heads == num_heads else y.sum(2, keepdim=True)), 1


def _batch_first(x: Tensor, dim: int | None) -> Tensor:
    """(N, B or 1, \\*): the axis of a batch after that of the nodes."""
    return x.unsqueeze(1) if dim is None else x.movedim(dim, 1)


def fold_columns(operation: type[Operation], dim: int, value: Tensor, *rest: Any) -> tuple[Tensor, int]:
    """An operation on each column of (N, H), for a batch."""
    columns = value.movedim(dim, 1)
    y = operation.apply(columns.flatten(1).contiguous(), *rest)
    return y.unflatten(1, columns.shape[1:]), 1


class DroppedSum(Operation):
    """x (N_src, H, F), coeff (E, H or 1) or None -> (N_dst, H, F): the sum of messages after ``adj.dropout``."""

    num_inputs = 2
    linear = (0, 1)

    @staticmethod
    def forward(x: Tensor, coeff: Tensor | None, adj: Adjacency) -> Tensor:
        return kernels.choose(x).dropped_sum(adj.csc, x, coeff, *_drop(adj))

    @classmethod
    def saved(cls, needs: Sequence[bool], inputs: tuple[Any, ...], outputs: tuple[Tensor, ...]) -> tuple[Any, ...]:
        return inputs[0] if needs[1] else None, inputs[1]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (x, coeff), adj, grad = ctx.saved_tensors, ctx.adj, grad.contiguous()
        dx = DroppedSum.apply(grad, coeff, adj.reverse()) if ctx.needs_input_grad[0] else None
        return dx, DroppedDot.apply(x, grad, adj, coeff.shape[1]) if ctx.needs_input_grad[1] else None


def _drop(adj: Adjacency) -> MessageDropout:
    assert adj.dropout is not None
    return adj.dropout


class DroppedDot(Operation):
    """x (N_src, H, F), y (N_dst, H, F) -> (E, heads = H or 1), over the entries that ``adj.dropout`` leaves."""

    num_inputs = 2
    linear = (0, 1)

    @staticmethod
    def forward(x: Tensor, y: Tensor, adj: Adjacency, heads: int) -> Tensor:
        return kernels.choose(x).dropped_dot(adj.csc, x, y, heads, *_drop(adj))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (x, y), adj, grad = ctx.saved_tensors, ctx.adj, grad.contiguous()
        return DroppedSum.apply(y, grad, adj.reverse()), DroppedSum.apply(x, grad, adj)


class Scaled(Operation):
    """x (N_src, F) -> (N_dst, F): the sum normalised by factors of both ends, (N_src,) and (N_dst,) constants."""

    schema = "Tensor x, Tensor scale_src, Tensor scale_dst, adj -> Tensor"
    linear = (0,)

    @staticmethod
    def forward(x: Tensor, scale_src: Tensor, scale_dst: Tensor, adj: Adjacency) -> Tensor:
        return kernels.choose(x).scaled_sum(adj.csc, x, scale_src, scale_dst)

    @staticmethod
    def fake(x: Tensor, scale_src: Tensor, scale_dst: Tensor, adj: Adjacency) -> Tensor:
        return x.new_empty(adj.num_dst, x.shape[1])

    @classmethod
    def saved(cls, needs: Sequence[bool], inputs: tuple[Any, ...], outputs: tuple[Tensor, ...]) -> tuple[Any, ...]:
        return inputs[1:]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        scale_src, scale_dst = ctx.saved_tensors
        return Scaled.apply(grad.contiguous(), scale_dst, scale_src, ctx.adj.reverse()), None, None

    @classmethod
    def vmap(cls, info: Any, in_dims: tuple[Any, ...], *args: Any) -> tuple[Any, Any]:
        if in_dims[1] is None and in_dims[2] is None:
            return fold_columns(Scaled, in_dims[0], *args)
        return super().vmap(info, in_dims, *args)


class Dot(Operation):
    """x (N_src, H or 1, F), y (N_dst, H or 1, F) -> (E, H)."""

    schema = "Tensor x, Tensor y, adj -> Tensor"
    linear = (0, 1)

    @staticmethod
    def forward(x: Tensor, y: Tensor, adj: Adjacency) -> Tensor:
        return kernels.choose(x).edge_dot(adj.csc, x, y)

    @staticmethod
    def fake(x: Tensor, y: Tensor, adj: Adjacency) -> Tensor:
        return x.new_empty(adj.num_edges, y.shape[1] if x.shape[1] == 1 else x.shape[1])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (x, y), grad = ctx.saved_tensors, grad.contiguous()
        dx = Sum.apply(y, grad, ctx.adj.reverse(), x.shape[1]) if ctx.needs_input_grad[0] else None
        return dx, Sum.apply(x, grad, ctx.adj, y.shape[1]) if ctx.needs_input_grad[1] else None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], x: Tensor, y: Tensor, adj: Adjacency) -> tuple[Any, Any]:
        x, y = (_batch_first(t, dim) for t, dim in zip((x, y), in_dims))
        heads = info.batch_size, max(x.shape[2], y.shape[2])
        x, y = (t.expand(-1, *heads, -1).flatten(1, 2).contiguous() for t in (x, y))
        return Dot.apply(x, y, adj).unflatten(1, heads), 1


class CopySrc(Operation):
    """x (N_src, H) -> (E, H)"""

    schema = "Tensor x, adj -> Tensor"
    linear = (0,)

    @staticmethod
    def forward(x: Tensor, adj: Adjacency) -> Tensor:
        return x.index_select(0, adj.src)

    @staticmethod
    def fake(x: Tensor, adj: Adjacency) -> Tensor:
        return x.new_empty(adj.num_edges, x.shape[1])

    @classmethod
    def saved(cls, needs: Sequence[bool], inputs: tuple[Any, ...], outputs: tuple[Tensor, ...]) -> tuple[Any, ...]:
        return ()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return (sum_edges(ctx.adj.reverse(), grad),)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], x: Tensor, adj: Adjacency) -> tuple[Any, Any]:
        return fold_columns(CopySrc, in_dims[0], x, adj)


def copy_src(adj: Adjacency, x: Tensor) -> Tensor:
    """(N_src, H) -> (E, H)"""
    return CopySrc.apply(x, adj)


def copy_dst(adj: Adjacency, y: Tensor) -> Tensor:
    return copy_src(adj.reverse(), y)


class EdgeSum(Operation):
    """value (E, H) -> (N_dst, H): the sum over each destination's in-edges."""

    schema = "Tensor value, adj -> Tensor"
    linear = (0,)

    @staticmethod
    def forward(value: Tensor, adj: Adjacency) -> Tensor:
        return kernels.choose(value).edge_sum(adj.csc, value)

    @staticmethod
    def fake(value: Tensor, adj: Adjacency) -> Tensor:
        return value.new_empty(adj.num_dst, value.shape[1])

    @classmethod
    def saved(cls, needs: Sequence[bool], inputs: tuple[Any, ...], outputs: tuple[Tensor, ...]) -> tuple[Any, ...]:
        return ()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return (copy_dst(ctx.adj, grad),)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], value: Tensor, adj: Adjacency) -> tuple[Any, Any]:
        return fold_columns(EdgeSum, in_dims[0], value, adj)


def sum_edges(adj: Adjacency, value: Tensor) -> Tensor:
    return EdgeSum.apply(value.contiguous(), adj)


def sum_sources(adj: Adjacency, x: Tensor, coeff: Tensor | None = None) -> Tensor:
    """x (N_src, F), coeff (E,) or None -> (N_dst, F)"""
    y = Sum.apply(x.unsqueeze(1).contiguous(), None if coeff is None else coeff.unsqueeze(1).contiguous(), adj, 1)
    return y.squeeze(1)


class Max(Operation):
    """x (N_src, H, F), coeff (E, H) or None -> (N_dst, H, F)."""

    schema = "Tensor x, Tensor? coeff, adj -> (Tensor, Tensor)"

    @staticmethod
    def forward(x: Tensor, coeff: Tensor | None, adj: Adjacency) -> tuple[Tensor, Tensor]:
        return kernels.choose(x).neighbour_max(adj.csc, x, coeff)

    @staticmethod
    def fake(x: Tensor, coeff: Tensor | None, adj: Adjacency) -> tuple[Tensor, Tensor]:
        y = x.new_empty(adj.num_dst, *x.shape[1:])
        return y, torch.empty_like(y, dtype=torch.int32)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, coeff, arg = ctx.saved_tensors
        if is_composed() or ctx.needs_input_grad[1]:
            return recompose(lambda x, coeff: _taken(ctx.adj, x, coeff, arg), (x, coeff), grad, ctx)
        return MaxGrad.apply(grad.contiguous(), arg, coeff, ctx.adj), None

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> tuple[Tensor, None]:
        x, coeff, _, arg = ctx.saved_tensors
        terms = [] if tangents[0] is None else [_taken(ctx.adj, tangents[0], coeff, arg)]
        terms += [] if tangents[1] is None else [_taken(ctx.adj, x, tangents[1], arg)]
        return sum(terms[1:], terms[0]), None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], x: Tensor, coeff: Any, adj: Adjacency) -> tuple[Any, Any]:
        if coeff is None:
            features = x.movedim(in_dims[0], 2)
            results = Max.function.apply(features.flatten(2).contiguous(), None, adj)
            return tuple(t.unflatten(2, features.shape[2:]) for t in results), (2, 2)
        x, coeff = (_batch_first(t, dim) for t, dim in zip((x, coeff), in_dims))
        heads = info.batch_size, x.shape[2]
        x, coeff = x.expand(-1, *heads, -1), coeff.expand(-1, *heads)
        results = Max.function.apply(x.flatten(1, 2).contiguous(), coeff.flatten(1).contiguous(), adj)
        return tuple(t.unflatten(1, heads) for t in results), (1, 1)


class MaxGrad(Operator):
    """The gradient of `Max` for x."""

    schema = "Tensor grad, Tensor arg, Tensor? coeff, adj -> Tensor"

    @staticmethod
    def forward(grad: Tensor, arg: Tensor, coeff: Tensor | None, adj: Adjacency) -> Tensor:
        return kernels.choose(grad).max_grad(adj.csr, grad, arg, coeff)

    @staticmethod
    def fake(grad: Tensor, arg: Tensor, coeff: Tensor | None, adj: Adjacency) -> Tensor:
        return grad.new_empty(adj.num_src, *grad.shape[1:])


def _taken(adj: Adjacency, x: Tensor, coeff: Tensor | None, arg: Tensor) -> Tensor:
    """The messages that a maximum took, given the edge of each."""
    if adj.num_edges == 0:
        return x.sum() * 0 + x.new_zeros(arg.shape)
    edge = arg.clamp(min=0).long()
    message = torch.gather(x, 0, adj.src[edge].long())
    if coeff is not None:
        message = message * torch.gather(coeff.unsqueeze(-1).expand(*coeff.shape, x.shape[2]), 0, edge)
    return message.where(arg >= 0, 0)
