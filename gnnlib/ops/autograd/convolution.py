"""Convolution: sums over neighbours with K coefficients per edge and a weight matrix for each."""

from typing import Any

import torch
from torch import Tensor

from gnnlib import kernels
from gnnlib.graph import Adjacency, CompressedRows
from gnnlib.ops.autograd.operation import Operation, Operator, is_composed, recompose
from gnnlib.ops.autograd.sums import Sum

PART = {"cpu": 1 << 19}  # numbers of an intermediate result in memory; more on other devices


class Convolve(Operation):
    """x (N_src, S, F), basis (E, K) or taps (E,), weight (G, K, F, O) -> (N_dst, S, O): the sum over k of
    Sum(x, basis_k) weight_k, where signal s has the weights of group s % G.

    The sums, (N_dst, S, K, F), are computed for a few destinations at a time and not stored: the backward pass
    computes them again. The gradient for x is the same operation on the reversed edges with each weight transposed.
    """

    schema = "Tensor x, Tensor basis, Tensor weight, adj -> Tensor"

    @staticmethod
    def forward(x: Tensor, basis: Tensor, weight: Tensor, adj: Adjacency) -> Tensor:
        y, joined = x.new_empty(adj.num_dst, x.shape[1], weight.shape[3]), weight.flatten(1, 2)
        for rows, part in _parts(adj.csc, x.shape[1] * joined.shape[1], x):
            torch.matmul(
                _by_group(_sums_per_kernel(part, x, basis, weight), weight), joined, out=_by_group(y[rows], weight)
            )
        return y

    @staticmethod
    def fake(x: Tensor, basis: Tensor, weight: Tensor, adj: Adjacency) -> Tensor:
        return x.new_empty(adj.num_dst, x.shape[1], weight.shape[3])

    @staticmethod
    def composition(x: Tensor, basis: Tensor, weight: Tensor, adj: Adjacency) -> Tensor:
        num_kernels = weight.shape[1]
        if basis.dim() == 1:
            basis = torch.nn.functional.one_hot(basis.long(), num_kernels).to(x)
        z = Sum.apply(x.flatten(1).unsqueeze(1), basis, adj, num_kernels)
        z = z.reshape(adj.num_dst, num_kernels, *x.shape[1:])
        y = _by_group(z.transpose(1, 2).flatten(2), weight) @ weight.flatten(1, 2)
        return y.transpose(0, 1).reshape(adj.num_dst, x.shape[1], weight.shape[3])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (x, basis, weight), adj, needs = ctx.saved_tensors, ctx.adj, ctx.needs_input_grad
        if is_composed():
            return recompose(
                lambda x, basis, weight: Convolve.composition(x, basis, weight, adj), (x, basis, weight), grad, ctx
            )
        grad = grad.contiguous()
        dx = Convolve.apply(grad, basis, weight.transpose(2, 3).contiguous(), adj.reverse()) if needs[0] else None
        if not (needs[1] or needs[2]):
            return dx, None, None
        d_basis, d_weight = ConvolveGrad.apply(x, basis, weight, grad, adj, needs[1], needs[2])
        return dx, d_basis if needs[1] else None, d_weight if needs[2] else None


class ConvolveGrad(Operator):
    """The gradients of `Convolve` for the basis and the weight, empty where they are not needed."""

    schema = (
        "Tensor x, Tensor basis, Tensor weight, Tensor grad, adj, bool needs_basis, bool needs_weight "
        "-> (Tensor, Tensor)"
    )

    @staticmethod
    def forward(x, basis, weight, grad, adj: Adjacency, needs_basis: bool, needs_weight: bool) -> tuple[Tensor, Tensor]:
        joined = weight.flatten(1, 2)
        d_basis, d_weight = ConvolveGrad.fake(x, basis, weight, grad, adj, needs_basis, needs_weight)
        d_joined = d_weight.zero_().view_as(joined) if needs_weight else None
        for rows, part in _parts(adj.csc, x.shape[1] * joined.shape[1], x):
            g = _by_group(grad[rows], weight)
            if d_joined is not None:
                d_joined.baddbmm_(_by_group(_sums_per_kernel(part, x, basis, weight), weight).transpose(1, 2), g)
            if needs_basis:
                dz = (g @ joined.transpose(1, 2)).transpose(0, 1)
                dz = dz.reshape(len(part.indptr) - 1, x.shape[1], weight.shape[1], x.shape[2])
                flat = x.flatten(1).unsqueeze(1), dz.transpose(1, 2).flatten(2).contiguous()
                kernels.choose(x).edge_dot(part, *flat, d_basis)
        return d_basis, d_weight

    @staticmethod
    def fake(x, basis, weight, grad, adj: Adjacency, needs_basis: bool, needs_weight: bool) -> tuple[Tensor, Tensor]:
        none = x.new_empty(0)
        return (
            basis.new_empty(basis.shape) if needs_basis else none,
            weight.new_empty(weight.shape) if needs_weight else none.clone(),
        )


def _sums_per_kernel(adj: CompressedRows, x: Tensor, basis: Tensor, weight: Tensor) -> Tensor:
    """The sums before the weights: (N_v, S, K F)"""
    k, num_kernels = kernels.choose(x), weight.shape[1]
    if basis.dim() == 1:
        return k.tap_sum(adj, x, basis, num_kernels).flatten(2)
    z = k.neighbour_sum(adj, x.flatten(1).unsqueeze(1), basis, num_kernels)
    return z.view(len(z), num_kernels, *x.shape[1:]).transpose(1, 2).flatten(2)


def _by_group(z: Tensor, weight: Tensor) -> Tensor:
    """(N, S, width) -> (G, N S / G, width)"""
    return z.reshape(z.shape[:2].numel() // len(weight), len(weight), z.shape[2]).transpose(0, 1)


def _parts(adj: CompressedRows, width: int, like: Tensor) -> list[tuple[slice, CompressedRows]]:
    """Consecutive parts of the rows of ``adj``, such that an array of this width per row stays in the CPU's cache.

    The parts are cached on ``adj.indices``, one list for each power of two of rows.
    """
    room = PART.get(like.device.type, 1 << 26) // max(1, width)
    step, rows = 1 << max(0, room.bit_length() - 1), len(adj.indptr) - 1
    cached = adj.indices.__dict__.setdefault("_gnnlib_parts", {})
    if step not in cached:
        bounds = [*range(0, rows, step), rows]
        slots = adj.indptr[torch.tensor(bounds)].tolist()
        cached[step] = [
            (
                slice(bounds[i], bounds[i + 1]),
                CompressedRows(
                    adj.indptr[bounds[i] : bounds[i + 1] + 1] - slots[i],
                    adj.indices[slots[i] : slots[i + 1]],
                    adj.eid[slots[i] : slots[i + 1]],
                ),
            )
            for i in range(len(bounds) - 1)
        ]
    return cached[step]
