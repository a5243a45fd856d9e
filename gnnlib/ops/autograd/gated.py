"""Gated sums."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from gnnlib import kernels
from gnnlib.graph import Adjacency
from gnnlib.kernels.half import computed
from gnnlib.ops.autograd.operation import Operation, Operator, is_composed, recompose
from gnnlib.ops.autograd.sums import sum_sources
from gnnlib.ops.edges_as_nodes import incidence


class GatedSum(Operation):
    """x (N_src, F), e (E, F) -> (N_dst, F), the gates being sigmoid(e)."""

    schema = "Tensor x, Tensor e, adj, float? epsilon -> (Tensor, Tensor, Tensor)"

    @staticmethod
    def forward(x: Tensor, e: Tensor, adj: Adjacency, epsilon: float | None) -> tuple[Tensor, Tensor, Tensor]:
        t = (e * 0.5).tanh_()  # unlike torch's sigmoid, the same bits under any number of threads
        y, total = kernels.choose(x).gated_sum(adj.csc, t, x)
        total = torch.ones_like(total) if epsilon is None else total.add_(epsilon)
        return y.div_(total).to(x.dtype), t, total

    @staticmethod
    def fake(x: Tensor, e: Tensor, adj: Adjacency, epsilon: float | None) -> tuple[Tensor, Tensor, Tensor]:
        y = x.new_empty(adj.num_dst, x.shape[1])
        return y, e.new_empty(e.shape), torch.empty_like(y, dtype=computed(x.dtype))

    @staticmethod
    def composition(x: Tensor, e: Tensor, adj: Adjacency, epsilon: float | None) -> Tensor:
        from_src, from_dst = incidence(adj)
        gate, to_dst = e.sigmoid(), from_dst.reverse()
        y = sum_sources(to_dst, gate * sum_sources(from_src, x))
        return y if epsilon is None else y / (sum_sources(to_dst, gate) + epsilon)

    @classmethod
    def saved(cls, needs: Sequence[bool], inputs: tuple[Any, ...], outputs: tuple[Tensor, ...]) -> tuple[Any, ...]:
        return *inputs, *outputs

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, e, y, t, total = ctx.saved_tensors
        (epsilon,), needs = ctx.constants, ctx.needs_input_grad
        if is_composed():
            return recompose(lambda x, e: GatedSum.composition(x, e, ctx.adj, epsilon), (x, e), grad, ctx)
        grad = (grad / total).to(x.dtype).contiguous()
        dx = GatedSumGrad.apply(grad, t, ctx.adj) if needs[0] else None
        base = torch.zeros_like(y) if epsilon is None else y
        return dx, GateGrad.apply(t, x, base, grad, ctx.adj) if needs[1] else None


class GatedSumGrad(Operator):
    """The gradient of `GatedSum` for x: a gated sum over out-edges."""

    schema = "Tensor grad, Tensor t, adj -> Tensor"

    @staticmethod
    def forward(grad: Tensor, t: Tensor, adj: Adjacency) -> Tensor:
        return kernels.choose(grad).gated_sum(adj.csr, t, grad)[0].to(grad.dtype)

    @staticmethod
    def fake(grad: Tensor, t: Tensor, adj: Adjacency) -> Tensor:
        return grad.new_empty(adj.num_src, grad.shape[1])


class GateGrad(Operator):
    """The gradient of `GatedSum` for e."""

    schema = "Tensor t, Tensor x, Tensor y, Tensor grad, adj -> Tensor"

    @staticmethod
    def forward(t: Tensor, x: Tensor, y: Tensor, grad: Tensor, adj: Adjacency) -> Tensor:
        return kernels.choose(x).gate_grad(adj.csc, t, x, y, grad)

    @staticmethod
    def fake(t: Tensor, x: Tensor, y: Tensor, grad: Tensor, adj: Adjacency) -> Tensor:
        return t.new_empty(t.shape)
