"""Convolution: sums over neighbours with K coefficients per edge and a weight matrix for each."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from gnnlib import kernels
from gnnlib.graph import Adjacency, CompressedRows
from gnnlib.ops.autograd.operation import Operation, Operator, is_composed, recompose
from gnnlib.ops.autograd.sums import Sum
from gnnlib.ops.autograd.taps import tap_rows

PART = {"cpu": 1 << 19}  # numbers of an intermediate result in memory; more on other devices
MAX_EMPTY = 4  # rows and taps for each edge, above which the taps of a row are summed one after the other


class Convolve(Operation):
    """x (N_src, S, F), basis (E, K) or taps (E,), weight (G, K, F, O) -> (N_dst, S, O): the sum over k of
    Sum(x, basis_k) weight_k, where signal s has the weights of group s % G. ``coeff`` (E,) is a factor of the taps.

    The sums, (N_dst, S, K, F), are computed for a few destinations at a time and not stored: the backward pass
    computes them again. If most destinations have edges of few taps only, the sums of the other taps are not computed.
    The gradient for x is the same operation on the reversed edges with each weight transposed.
    """

    schema = "Tensor x, Tensor basis, Tensor weight, Tensor? coeff, adj -> Tensor"

    @staticmethod
    def forward(x: Tensor, basis: Tensor, weight: Tensor, coeff: Tensor | None, adj: Adjacency) -> Tensor:
        y = Convolve.fake(x, basis, weight, coeff, adj)
        if by_tap(adj.csc, basis, weight, coeff):
            y.zero_()
        for part in _parts(adj.csc, x, basis, weight, coeff):
            z, joined = _by_group(part.sums(x, basis, weight, coeff), weight), part.weights(weight)
            if isinstance(part.rows, slice):
                torch.matmul(z, joined, out=_by_group(y[part.rows], weight))
            else:
                product = torch.matmul(z, joined, out=z.new_empty(*z.shape[:2], joined.shape[2]))  # not by autocast
                y.index_add_(0, part.rows, _by_signal(product, y))
        return y

    @staticmethod
    def fake(x: Tensor, basis: Tensor, weight: Tensor, coeff: Tensor | None, adj: Adjacency) -> Tensor:
        return x.new_empty(adj.num_dst, x.shape[1], weight.shape[3])

    @staticmethod
    def composition(x: Tensor, basis: Tensor, weight: Tensor, coeff: Tensor | None, adj: Adjacency) -> Tensor:
        num_kernels = weight.shape[1]
        if basis.dim() == 1:
            basis = torch.nn.functional.one_hot(basis.long(), num_kernels).to(x)
        if coeff is not None:
            basis = coeff.unsqueeze(1) * basis
        z = Sum.apply(x.flatten(1).unsqueeze(1), basis, adj, num_kernels)
        z = z.reshape(adj.num_dst, num_kernels, *x.shape[1:])
        y = _by_group(z.transpose(1, 2).flatten(2), weight) @ weight.flatten(1, 2)
        return y.transpose(0, 1).reshape(adj.num_dst, x.shape[1], weight.shape[3])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (x, basis, weight, coeff), adj, needs = ctx.saved_tensors, ctx.adj, ctx.needs_input_grad
        if is_composed():
            inputs = x, basis, weight, coeff
            return recompose(
                lambda x, basis, weight, coeff: Convolve.composition(x, basis, weight, coeff, adj), inputs, grad, ctx
            )
        grad, dx = grad.contiguous(), None
        if needs[0]:
            dx = Convolve.apply(grad, basis, weight.transpose(2, 3).contiguous(), coeff, adj.reverse())
        if not any(needs[1:4]):
            return dx, None, None, None
        d_edge, d_weight = ConvolveGrad.apply(x, basis, weight, coeff, grad, adj, needs[1] or needs[3], needs[2])
        return dx, d_edge if needs[1] else None, d_weight if needs[2] else None, d_edge if needs[3] else None


class ConvolveGrad(Operator):
    """The gradients of `Convolve` for the coefficients of the edges (the basis, or ``coeff`` of taps) and the weight,
    empty where they are not needed."""

    schema = (
        "Tensor x, Tensor basis, Tensor weight, Tensor? coeff, Tensor grad, adj, bool needs_edge, bool needs_weight "
        "-> (Tensor, Tensor)"
    )

    @staticmethod
    def forward(
        x, basis, weight, coeff, grad, adj: Adjacency, needs_edge: bool, needs_weight: bool
    ) -> tuple[Tensor, Tensor]:
        d_edge, d_weight = ConvolveGrad.fake(x, basis, weight, coeff, grad, adj, needs_edge, needs_weight)
        d_weight.zero_()
        for part in _parts(adj.csc, x, basis, weight, coeff):
            g = _by_group(grad[part.rows], weight)
            if needs_weight:
                z = _by_group(part.sums(x, basis, weight, coeff), weight)
                part.weights(d_weight).baddbmm_(z.transpose(1, 2), g)
            if needs_edge:
                num_kernels = part.num_kernels(weight)
                dz = (g @ part.weights(weight).transpose(1, 2)).transpose(0, 1)
                dz = dz.reshape(len(part.edges.indptr) - 1, x.shape[1], num_kernels, x.shape[2])
                flat = x.flatten(1).unsqueeze(1), dz.transpose(1, 2).flatten(2).contiguous()
                kernels.choose(x).edge_dot(part.edges, *flat, d_edge.view(adj.num_edges, num_kernels))
        return d_edge, d_weight

    @staticmethod
    def fake(
        x, basis, weight, coeff, grad, adj: Adjacency, needs_edge: bool, needs_weight: bool
    ) -> tuple[Tensor, Tensor]:
        none, edge = x.new_empty(0), basis if coeff is None else coeff
        return (
            edge.new_empty(edge.shape) if needs_edge else none,
            weight.new_empty(weight.shape) if needs_weight else none.clone(),
        )


class _Part(NamedTuple):
    """Some destinations and their in-edges: all of them (a slice of the rows), or those of one tap (an index)."""

    rows: slice | Tensor
    edges: CompressedRows
    taps: slice | None = None

    def sums(self, x: Tensor, basis: Tensor, weight: Tensor, coeff: Tensor | None) -> Tensor:
        """The sums before the weights: (N_v, S, K F)"""
        k, flat, num_kernels = kernels.choose(x), x.flatten(1).unsqueeze(1), self.num_kernels(weight)
        if not isinstance(self.rows, slice):
            z = k.neighbour_sum(self.edges, flat, None if coeff is None else coeff.unsqueeze(1), 1)
            return z.view(len(z), *x.shape[1:])
        if basis.dim() == 1:
            return k.tap_sum(self.edges, x, basis, num_kernels).flatten(2)
        z = k.neighbour_sum(self.edges, flat, basis, num_kernels)
        return z.view(len(z), num_kernels, *x.shape[1:]).transpose(1, 2).flatten(2)

    def weights(self, weight: Tensor) -> Tensor:
        """The weights of the taps, (G, K F, O): a view."""
        return (weight if self.taps is None else weight[:, self.taps]).flatten(1, 2)

    def num_kernels(self, weight: Tensor) -> int:
        return weight.shape[1] if self.taps is None else 1


def _by_group(z: Tensor, weight: Tensor) -> Tensor:
    """(N, S, width) -> (G, N S / G, width)"""
    return z.reshape(z.shape[:2].numel() // len(weight), len(weight), z.shape[2]).transpose(0, 1)


def _by_signal(z: Tensor, like: Tensor) -> Tensor:
    """(G, N S / G, width) -> (N, S, width)"""
    return z.transpose(0, 1).reshape(-1, *like.shape[1:])


def by_tap(adj: CompressedRows, basis: Tensor, weight: Tensor, coeff: Tensor | None) -> bool:
    """Whether the edges of each tap are summed alone: they have coefficients, or few taps have edges in most rows."""
    if basis.dim() > 1:
        return False
    return coeff is not None or (adj.indptr.shape[0] - 1) * weight.shape[1] > MAX_EMPTY * basis.shape[0]


def _parts(adj: CompressedRows, x: Tensor, basis: Tensor, weight: Tensor, coeff: Tensor | None) -> list[_Part]:
    """Parts of the rows of ``adj``, such that their sums stay in the CPU's cache.

    The parts are cached, one list for each power of two of rows.
    """
    if not by_tap(adj, basis, weight, coeff):
        step = _step(x.shape[1] * weight.shape[1] * weight.shape[2], x)
        cached = adj.indices.__dict__.setdefault("_gnnlib_parts", {})
        if step not in cached:
            bounds = [*range(0, len(adj.indptr) - 1, step), len(adj.indptr) - 1]
            cached[step] = [_Part(rows, edges) for rows, edges in _cut(adj, bounds)]
        return cached[step]
    step, pairs = _step(x.shape[1] * weight.shape[2], x), tap_rows(adj, basis, weight.shape[1])
    cached = pairs.rows.__dict__.setdefault("_gnnlib_parts", {})
    if step not in cached:
        cached[step] = [
            _Part(pairs.rows[rows], edges, slice(tap, tap + 1))
            for tap, (start, stop) in enumerate(zip(pairs.starts, pairs.starts[1:]))
            if start < stop
            for rows, edges in _cut(pairs.edges, [*range(start, stop, step), stop])
        ]
    return cached[step]


def _step(width: int, like: Tensor) -> int:
    """The number of rows of this width in a part."""
    room = PART.get(like.device.type, 1 << 26) // max(1, width)
    return 1 << max(0, room.bit_length() - 1)


def _cut(adj: CompressedRows, bounds: list[int]) -> list[tuple[slice, CompressedRows]]:
    """The rows between consecutive bounds, and their edges."""
    slots = adj.indptr[torch.tensor(bounds)].tolist()
    return [
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
