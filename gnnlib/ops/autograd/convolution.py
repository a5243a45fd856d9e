"""Sums with a vector of coefficients an edge, each with a matrix of its own."""

from functools import partial

import torch
from torch import Tensor
from torch.autograd import Function

from gnnlib import kernels
from gnnlib.graph import Adjacency, CompressedRows
from gnnlib.ops.autograd.recompose import recompose
from gnnlib.ops.autograd.sums import Sum

PART = {"cpu": 1 << 19}  # numbers of an intermediate result that are held at once; on other devices, more


class Convolve(Function):
    """x (N_src, S, F), basis (E, K) or taps (E,), weight (G, K, F, O) -> (N_dst, S, O): the sum over k of
    Sum(x, basis_k) weight_k, where signal s has the weights of group s % G.

    The sums, (N_dst, S, K, F), are made for a few destinations at a time and never kept: the backward pass makes them
    again. The gradient for x is the same operation on the reversed edges with each weight transposed.
    """

    @staticmethod
    def forward(ctx, x: Tensor, basis: Tensor, weight: Tensor, adj: Adjacency) -> Tensor:
        ctx.adj = adj
        ctx.save_for_backward(x, basis, weight)
        y, joined = x.new_empty(adj.num_dst, x.shape[1], weight.shape[3]), weight.flatten(1, 2)
        for rows, part in _parts(adj.csc, x.shape[1] * joined.shape[1], x):
            torch.matmul(_by_group(_collected(part, x, basis, weight), weight), joined, out=_by_group(y[rows], weight))
        return y

    @staticmethod
    def backward(ctx, grad: Tensor):
        (x, basis, weight), adj, needs = ctx.saved_tensors, ctx.adj, ctx.needs_input_grad
        if torch.is_grad_enabled():
            return *recompose(partial(_composed_convolution, adj), (x, basis, weight), grad, ctx), None
        grad, joined = grad.contiguous(), weight.flatten(1, 2)
        dx = Convolve.apply(grad, basis, weight.transpose(2, 3).contiguous(), adj.reverse()) if needs[0] else None
        d_basis = torch.empty_like(basis) if needs[1] else None
        d_joined = torch.zeros_like(joined) if needs[2] else None
        for rows, part in _parts(adj.csc, x.shape[1] * joined.shape[1], x) if needs[1] or needs[2] else ():
            g = _by_group(grad[rows], weight)
            if d_joined is not None:
                d_joined.baddbmm_(_by_group(_collected(part, x, basis, weight), weight).transpose(1, 2), g)
            if d_basis is not None:
                dz = (g @ joined.transpose(1, 2)).transpose(0, 1)
                dz = dz.reshape(len(part.indptr) - 1, x.shape[1], weight.shape[1], x.shape[2])
                flat = x.flatten(1).unsqueeze(1), dz.transpose(1, 2).flatten(2).contiguous()
                kernels.choose(x).edge_dot(part, *flat, d_basis)
        return dx, d_basis, d_joined.view_as(weight) if d_joined is not None else None, None


def _collected(adj: CompressedRows, x: Tensor, basis: Tensor, weight: Tensor) -> Tensor:
    """The sums before the weights: (N_v, S, K F)"""
    k, many = kernels.choose(x), weight.shape[1]
    if basis.dim() == 1:
        return k.tap_sum(adj, x, basis, many).flatten(2)
    z = k.neighbour_sum(adj, x.flatten(1).unsqueeze(1), basis, many)
    return z.view(len(z), many, *x.shape[1:]).transpose(1, 2).flatten(2)


def _by_group(z: Tensor, weight: Tensor) -> Tensor:
    """(N, S, width) -> (G, N S / G, width)"""
    return z.reshape(z.shape[:2].numel() // len(weight), len(weight), z.shape[2]).transpose(0, 1)


def _composed_convolution(adj: Adjacency, x: Tensor, basis: Tensor, weight: Tensor) -> Tensor:
    many = weight.shape[1]
    if basis.dim() == 1:
        basis = torch.nn.functional.one_hot(basis.long(), many).to(x)
    z = Sum.apply(x.flatten(1).unsqueeze(1), basis, adj, many).view(adj.num_dst, many, *x.shape[1:])
    y = _by_group(z.transpose(1, 2).flatten(2), weight) @ weight.flatten(1, 2)
    return y.transpose(0, 1).reshape(adj.num_dst, x.shape[1], weight.shape[3])


def _parts(adj: CompressedRows, width: int, like: Tensor) -> list[tuple[slice, CompressedRows]]:
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
                CompressedRows(
                    adj.indptr[bounds[i] : bounds[i + 1] + 1] - slots[i],
                    adj.indices[slots[i] : slots[i + 1]],
                    adj.eid[slots[i] : slots[i + 1]],
                ),
            )
            for i in range(len(bounds) - 1)
        ]
    return kept[step]
