"""Sums over neighbours in which every feature of every message has a gate of its own."""

from functools import partial

import torch
from torch import Tensor
from torch.autograd import Function

from gnnlib import kernels
from gnnlib.graph import Adjacency, Graph, adjacency
from gnnlib.ops.autograd.recompose import recompose
from gnnlib.ops.edges_as_nodes import incidence, per_edge_messages
from gnnlib.ops.message_passing import aggregate

__all__ = ["gated"]


def gated(graph: Graph, x: Tensor, e: Tensor, epsilon: float | None = None) -> Tensor:
    r"""y_v = sum over edges u->v of sigmoid(e_uv) x_u, feature by feature; divided by the sum of the gates and epsilon,
    where there is an epsilon.

    On the CPU the messages are never made; beside e, the gates are kept for the backward pass.

    Shapes: x (N_src, \*, F), e (E, \*, F); returns (N_dst, \*, F). A node without in-edges gets 0.

    >>> from gnnlib._platform.dgl import dgl
    >>> x = torch.tensor([[1.0, 6.0], [3.0, 2.0], [0.0, 0.0]])
    >>> gated(dgl.graph(([0, 1], [2, 2])), x, torch.tensor([[0.0, 100.0], [0.0, -100.0]])).tolist()
    [[0.0, 0.0], [0.0, 0.0], [2.0, 6.0]]
    """
    flat_x, flat_e = (value.reshape(len(value), value.shape[1:].numel()).contiguous() for value in (x, e))
    flat_x, adj = per_edge_messages(adjacency(graph, x.device), flat_x)
    return _Gated.apply(flat_x, flat_e, adj, epsilon).view(adj.num_dst, *x.shape[1:])


def _composed(adj: Adjacency, epsilon: float | None, x: Tensor, e: Tensor) -> Tensor:
    from_src, from_dst = incidence(adj)
    gate, to_dst = e.sigmoid(), from_dst.reverse()
    y = aggregate(to_dst, gate * aggregate(from_src, x))
    return y if epsilon is None else y / (aggregate(to_dst, gate) + epsilon)


class _Gated(Function):
    """x (N_src, F), e (E, F) -> (N_dst, F)"""

    @staticmethod
    def forward(ctx, x: Tensor, e: Tensor, adj: Adjacency, epsilon: float | None) -> Tensor:
        t = (e * 0.5).tanh_()  # unlike torch's sigmoid, the same bits under any number of threads
        y, total = kernels.choose(x).gated_sum(adj.csc, t, x)
        total = torch.ones_like(total) if epsilon is None else total.add_(epsilon)
        y = y.div_(total)
        ctx.adj, ctx.epsilon = adj, epsilon
        ctx.save_for_backward(x, e, t, y, total)
        return y

    @staticmethod
    def backward(ctx, grad: Tensor):
        x, e, t, y, total = ctx.saved_tensors
        if torch.is_grad_enabled():
            return *recompose(partial(_composed, ctx.adj, ctx.epsilon), (x, e), grad, ctx), None, None
        grad, k = (grad / total).contiguous(), kernels.choose(grad)
        dx = k.gated_sum(ctx.adj.csr, t, grad)[0] if ctx.needs_input_grad[0] else None
        base = torch.zeros_like(y) if ctx.epsilon is None else y
        de = k.gate_grad(ctx.adj.csc, t, x, base, grad) if ctx.needs_input_grad[1] else None
        return dx, de, None, None
