"""The sum, the mean and the maximum over neighbours of messages that pass through a ReLU."""

from functools import partial

import torch
from torch import Tensor
from torch.autograd import Function

from gnnlib import kernels
from gnnlib.graph import Adjacency, Graph, adjacency, check_num_rows
from gnnlib.ops.autograd.recompose import recompose
from gnnlib.ops.degrees import mean_from_sum
from gnnlib.ops.edges_as_nodes import incidence, per_edge_messages
from gnnlib.ops.message_passing import aggregate

__all__ = ["mean_and_max", "rectified_sum"]


def mean_and_max(
    graph: Graph, a: Tensor, b: Tensor, edge: Tensor | None = None, weight: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    r"""The mean and the maximum, over the edges u->v into v, of the messages m_uv = max(0, a_u + b_v + e_uv C).

    A linear layer on both ends and the edge, [x_u, x_v, e_uv] M, is such a sum, with two products for each node and
    none for each edge. On the CPU no message is ever written to memory: the backward pass makes them again. With a
    gradient for the edge features it holds them all, as second derivatives do. Of equal messages the
    maximum is the first one, in the order of edge ids.

    Args:
        edge, weight: the edge features e and their C; neither, or both

    Shapes: a (N_src, \*, F), b (N_dst, \*, F), edge (E, D) with a small D, weight (D, F); returns twice (N_dst, \*, F).
    A node without in-edges gets 0.

    Raises: TypeError for integer values; ValueError for a wrong number of rows or widths that do not fit.

    >>> from gnnlib._platform.dgl import dgl
    >>> a, b = torch.tensor([[1.0, -5.0], [3.0, 2.0], [0.0, 0.0]]), torch.ones(3, 2)
    >>> [found[2].tolist() for found in mean_and_max(dgl.graph(([0, 1], [2, 2])), a, b)]
    [[3.0, 1.5], [4.0, 3.0]]
    """
    adj = adjacency(graph, a.device if isinstance(a, Tensor) else None)
    check_num_rows("a", a, adj.num_src, "source node")
    check_num_rows("b", b, adj.num_dst, "destination node")
    edge = a.new_zeros(adj.num_edges, 0) if edge is None else edge
    weight = a.new_zeros(0, a.shape[-1]) if weight is None else weight
    check_num_rows("edge", edge, adj.num_edges, "edge")
    if a.shape[1:] != b.shape[1:] or a.dim() < 2 or edge.dim() != 2 or weight.shape != (edge.shape[1], a.shape[-1]):
        raise ValueError(
            "expected a and b of shape (N, ..., F), edge (E, D) and weight (D, F), "
            f"got {tuple(a.shape)}, {tuple(b.shape)}, {tuple(edge.shape)} and {tuple(weight.shape)}"
        )
    c = weight.repeat(1, a.shape[1:-1].numel())
    flat_a, flat_b = (t.reshape(len(t), c.shape[1]).contiguous() for t in (a, b.to(a)))
    flat_a, adj = per_edge_messages(adj, flat_a)
    found = _MeanAndMax.apply(flat_a, flat_b, edge.to(a).contiguous(), c.to(a), adj)
    return tuple(t.view(b.shape) for t in found)


def rectified_sum(graph: Graph, x: Tensor, edge: Tensor, coeff: Tensor | None = None) -> Tensor:
    r"""The sum, over the edges u->v into v, of rectified messages: y_v = sum of b_uv max(0, x_u + e_uv).

    The messages of GINE (Hu et al. 2020, arXiv 1905.12265). Each edge has a vector of its own here, as wide as a
    node's. On the CPU the messages are never made; the backward pass writes those vectors' gradients alone.

    Args:
        coeff: b, a number per edge; None: 1

    Shapes: x (N_src, \*, F), edge (E, F), coeff (E,); returns (N_dst, \*, F). A node without in-edges gets 0.

    Raises: TypeError for integer values; ValueError for a wrong number of rows or widths that do not fit.

    >>> from gnnlib._platform.dgl import dgl
    >>> x, edge = torch.tensor([[1.0], [-5.0], [0.0]]), torch.tensor([[3.0], [4.0]])
    >>> rectified_sum(dgl.graph(([0, 1], [2, 2])), x, edge).flatten().tolist()
    [0.0, 0.0, 4.0]
    """
    adj = adjacency(graph, x.device if isinstance(x, Tensor) else None)
    check_num_rows("x", x, adj.num_src, "source node")
    check_num_rows("edge", edge, adj.num_edges, "edge")
    if x.dim() < 2 or edge.dim() != 2 or edge.shape[1] != x.shape[-1]:
        raise ValueError(f"expected x (N, ..., F) and edge (E, F), got {tuple(x.shape)} and {tuple(edge.shape)}")
    signals = x.shape[1:-1].numel()
    e = edge.to(x).repeat(1, signals)
    coeff = x.new_ones(adj.num_edges) if coeff is None else coeff.to(x)
    check_num_rows("coeff", coeff, adj.num_edges, "edge")
    flat, adj = per_edge_messages(adj, x.reshape(len(x), signals * edge.shape[1]).contiguous())
    return _RectifiedSum.apply(flat, e.contiguous(), coeff.contiguous(), adj).view(adj.num_dst, *x.shape[1:])


def _rectified(adj: Adjacency, x: Tensor, e: Tensor, coeff: Tensor) -> Tensor:
    from_src, from_dst = incidence(adj)
    return aggregate(from_dst.reverse(), (aggregate(from_src, x) + e).relu(), coeff)


class _RectifiedSum(Function):
    """x (N_src, F), e (E, F), coeff (E,) -> (N_dst, F)"""

    @staticmethod
    def forward(ctx, x: Tensor, e: Tensor, coeff: Tensor, adj: Adjacency) -> Tensor:
        ctx.adj = adj
        ctx.save_for_backward(x, e, coeff)
        return kernels.choose(x).rectified_sum(adj.csc, x, e, coeff)

    @staticmethod
    def backward(ctx, grad: Tensor):
        given = ctx.saved_tensors
        if torch.is_grad_enabled() or ctx.needs_input_grad[2]:
            return *recompose(partial(_rectified, ctx.adj), given, grad, ctx), None
        de = kernels.choose(grad).rectified_grad(ctx.adj.csc, *given, grad.contiguous())
        dx = aggregate(incidence(ctx.adj)[0].reverse(), de) if ctx.needs_input_grad[0] else None
        return dx, de if ctx.needs_input_grad[1] else None, None, None


def _composed(adj: Adjacency, a: Tensor, b: Tensor, r: Tensor, c: Tensor) -> Tensor:
    """(N_dst, 2 F)"""
    from_src, from_dst = incidence(adj)
    message = (aggregate(from_src, a) + aggregate(from_dst, b) + r @ c).relu()
    return torch.cat([aggregate(from_dst.reverse(), message, reduce=reduce) for reduce in ("mean", "max")], 1)


class _MeanAndMax(Function):
    """a (N_src, F), b (N_dst, F), r (E, D), c (D, F) -> (N_dst, F) twice"""

    @staticmethod
    def forward(ctx, a: Tensor, b: Tensor, r: Tensor, c: Tensor, adj: Adjacency) -> tuple[Tensor, Tensor]:
        share = mean_from_sum(adj, b.new_ones(adj.num_dst))
        mean, top, arg = kernels.choose(a).messages(adj.csc, a, b, r, c, share)
        ctx.adj = adj
        ctx.save_for_backward(a, b, r, c, share, arg)
        return mean, top

    @staticmethod
    def backward(ctx, d_mean: Tensor, d_top: Tensor):
        *inputs, share, arg = ctx.saved_tensors
        if torch.is_grad_enabled() or ctx.needs_input_grad[2]:
            grad = torch.cat([d_mean, d_top], 1)
            return *recompose(partial(_composed, ctx.adj), tuple(inputs), grad, ctx), None
        given, k = (*inputs, share, arg, d_mean.contiguous(), d_top.contiguous()), kernels.choose(d_mean)
        da, db, dc = k.messages_grad(ctx.adj.csc, ctx.adj.csr, *given)
        return da, db, None, dc, None
