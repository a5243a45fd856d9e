"""Message passing with gradients: sums, maxima, dot products and softmax along the edges of a graph.

    y_v = sum over edges u->v of  b(u->v) x_u                  `aggregate`
    s(u->v) = <x_u, y_v>                                       `edge_dot`

The two differentiate into each other, so composing them gives derivatives of any order:
dy/dx is an `aggregate` over the reversed edges, dy/db an `edge_dot`. The other operations have a fused
first derivative and, where a second one is asked for, are recomposed from these two.

Axes: x is (N, *, F). Axes in between are heads, or several signals on one graph.
Shapes: N_src, N_dst nodes, E edges in edge-id order. A node with no in-edges gets 0.
"""

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor
from torch.autograd import Function

from gnnlib import kernels
from gnnlib._dgl import dgl
from gnnlib.neighbors import Neighbors, neighbors

__all__ = [
    "aggregate",
    "degree_norm",
    "edge_dot",
    "edge_score",
    "edge_softmax",
    "gather_dst",
    "gather_src",
    "neighbour_share",
    "propagate",
]

Graph: TypeAlias = dgl.DGLGraph | Neighbors


# ---------------------------------------------------------------- differentiable kernels on (N, H, F)


class _Sum(Function):
    """coeff (E, H) or None, x (N_src, H or 1, F) -> (N_dst, heads = H or 1, F)."""

    @staticmethod
    def forward(ctx, x: Tensor, coeff: Tensor | None, nb: Neighbors, heads: int) -> Tensor:
        ctx.nb, ctx.x_heads = nb, x.shape[1]
        ctx.save_for_backward(x if ctx.needs_input_grad[1] else None, coeff)
        return kernels.choose(x).neighbour_sum(nb.csc, x, coeff, heads)

    @staticmethod
    def backward(ctx, grad: Tensor):
        x, coeff = ctx.saved_tensors
        grad = grad.contiguous()
        dx = _Sum.apply(grad, coeff, ctx.nb.reverse(), ctx.x_heads) if ctx.needs_input_grad[0] else None
        dcoeff = _Dot.apply(x, grad, ctx.nb) if ctx.needs_input_grad[1] else None
        return dx, dcoeff, None, None


class _Scaled(Function):
    """x (N_src, F) -> (N_dst, F): the sum normalised by factors of both ends, (N_src,) and (N_dst,) constants."""

    @staticmethod
    def forward(ctx, x: Tensor, scale_src: Tensor, scale_dst: Tensor, nb: Neighbors) -> Tensor:
        ctx.nb = nb
        ctx.save_for_backward(scale_src, scale_dst)
        return kernels.choose(x).scaled_sum(nb.csc, x, scale_src, scale_dst)

    @staticmethod
    def backward(ctx, grad: Tensor):
        scale_src, scale_dst = ctx.saved_tensors
        return _Scaled.apply(grad.contiguous(), scale_dst, scale_src, ctx.nb.reverse()), None, None, None


class _Dot(Function):
    """x (N_src, H or 1, F), y (N_dst, H or 1, F) -> (E, H)."""

    @staticmethod
    def forward(ctx, x: Tensor, y: Tensor, nb: Neighbors) -> Tensor:
        ctx.nb, ctx.heads = nb, (x.shape[1], y.shape[1])
        ctx.save_for_backward(x, y)
        return kernels.choose(x).edge_dot(nb.csc, x, y)

    @staticmethod
    def backward(ctx, grad: Tensor):
        (x, y), grad = ctx.saved_tensors, grad.contiguous()
        dx = _Sum.apply(y, grad, ctx.nb.reverse(), ctx.heads[0]) if ctx.needs_input_grad[0] else None
        dy = _Sum.apply(x, grad, ctx.nb, ctx.heads[1]) if ctx.needs_input_grad[1] else None
        return dx, dy, None


def _ones(num_nodes: int, like: Tensor) -> Tensor:
    return like.new_ones(num_nodes, 1, 1)


def _copy_src(nb: Neighbors, x: Tensor) -> Tensor:
    """(N_src, H) -> (E, H)"""
    return _Dot.apply(x.unsqueeze(-1).contiguous(), _ones(nb.num_dst, x), nb)


def _copy_dst(nb: Neighbors, y: Tensor) -> Tensor:
    return _copy_src(nb.reverse(), y)


def _sum_edges(nb: Neighbors, value: Tensor) -> Tensor:
    """(E, H) -> (N_dst, H): the sum over each destination's in-edges."""
    return _Sum.apply(_ones(nb.num_src, value), value.contiguous(), nb, value.shape[1]).squeeze(-1)


class _Max(Function):
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
            return *_recompose(lambda x, coeff: _taken(ctx.nb, x, coeff, arg), (x, coeff), grad, ctx), None
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


class _Softmax(Function):
    """(E, H) -> (E, H)"""

    @staticmethod
    def forward(ctx, score: Tensor, nb: Neighbors) -> Tensor:
        prob = kernels.choose(score).edge_softmax(nb.csc, score)
        ctx.nb = nb
        ctx.save_for_backward(prob)
        return prob

    @staticmethod
    def backward(ctx, grad: Tensor):
        (prob,), nb = ctx.saved_tensors, ctx.nb
        if torch.is_grad_enabled():
            return prob * (grad - _copy_dst(nb, _sum_edges(nb, prob * grad))), None
        return kernels.choose(grad).edge_softmax_grad(nb.csc, prob, grad.contiguous()), None


class _Score(Function):
    """a (N_src, H or 1, J), b (N_dst, H or 1, J), att (H, J) -> (E, H)"""

    @staticmethod
    def forward(ctx, a: Tensor, b: Tensor, att: Tensor, nb: Neighbors, slope: float) -> Tensor:
        ctx.nb, ctx.slope = nb, slope
        ctx.save_for_backward(a, b, att)
        return kernels.choose(a).edge_score(nb.csc, a, b, att, slope)

    @staticmethod
    def backward(ctx, grad: Tensor):
        a, b, att = ctx.saved_tensors
        nb, slope, needs = ctx.nb, ctx.slope, ctx.needs_input_grad
        if torch.is_grad_enabled():
            grads = _recompose(lambda a, b, att: _composed_score(nb, a, b, att, slope), (a, b, att), grad, ctx)
            return *grads, None, None
        k, grad = kernels.choose(grad), grad.contiguous()
        da = k.edge_score_grad(nb.csr, a, b, att, slope, grad) if needs[0] else None
        db = k.edge_score_grad(nb.csc, b, a, att, slope, grad) if needs[1] else None
        datt = k.edge_score_att_grad(nb.csc, a, b, slope, grad) if needs[2] else None
        return da, db, datt, None, None


def _composed_score(nb: Neighbors, a: Tensor, b: Tensor, att: Tensor, slope: float) -> Tensor:
    def on_edges(copy: Callable, x: Tensor) -> Tensor:
        return copy(nb, x.flatten(1)).unflatten(1, x.shape[1:])

    z = on_edges(_copy_src, a) + on_edges(_copy_dst, b)
    return (torch.nn.functional.leaky_relu(z, slope) * att).sum(-1)


def _recompose(function: Callable[..., Tensor], inputs: tuple, grad: Tensor, ctx) -> tuple:
    """Gradients through differentiable pieces, for the backward pass that is itself differentiated."""
    create_graph = torch.is_grad_enabled()
    wanted = [i for i in range(len(inputs)) if ctx.needs_input_grad[i]]
    with torch.enable_grad():
        # fresh leaves where the outer graph is not wanted; the inputs themselves where it is
        used = [t if create_graph or t is None else t.detach().requires_grad_(t.requires_grad) for t in inputs]
        y = function(*used)
    found = torch.autograd.grad(y, [used[i] for i in wanted], grad, create_graph=create_graph, allow_unused=True)
    grads: list = [None] * len(inputs)
    for i, g in zip(wanted, found, strict=True):
        grads[i] = g
    return tuple(grads)


# ---------------------------------------------------------------- what users call


def _check(name: str, value: Tensor, rows: int, kind: str) -> None:
    if not isinstance(value, Tensor):
        raise TypeError(f"{name}: expected a tensor, got {type(value).__name__}")
    if not value.is_floating_point():
        raise TypeError(f"{name}: expected floating-point values, got {value.dtype}; convert with .float()")
    if value.dim() == 0 or len(value) != rows:
        raise ValueError(f"{name}: expected {rows} rows, one for each {kind}, got shape {tuple(value.shape)}")


def aggregate(graph: Graph, x: Tensor, coeff: Tensor | None = None, reduce: str = "sum") -> Tensor:
    """Each node collects from its in-neighbours: y_v = reduce over edges u->v of coeff(u->v) x_u.

    The one operation of message passing (Gilmer et al. 2017, arXiv 1704.01212, equation 1, with the message
    linear in x). ``reduce`` is "sum", "mean" (over the number of in-edges) or "max" (elementwise).

    Args:
        graph: a DGLGraph with one edge type, or a block
        x: features of the source nodes
        coeff: a number per edge, or one per edge and head

    Shapes: x (N_src, \\*, F); coeff (E,) or (E, \\*) where \\* are x's axes, each of the same length or 1
    in either; returns (N_dst, \\*, F). A node without in-edges gets 0.

    Raises: TypeError for integer features; ValueError for a wrong number of rows, for coefficients whose axes
    do not fit, or an unknown ``reduce``.

    >>> g = dgl.graph(([0, 1, 2], [2, 2, 0]))
    >>> x = torch.tensor([[1.0], [10.0], [100.0]])
    >>> aggregate(g, x).flatten().tolist()
    [100.0, 0.0, 11.0]
    >>> aggregate(g, x, torch.tensor([0.5, 2.0, 1.0]), reduce="mean").flatten().tolist()
    [100.0, 0.0, 10.25]
    """
    if reduce not in ("sum", "mean", "max"):
        raise ValueError(f"reduce: expected 'sum', 'mean' or 'max', got {reduce!r}")
    nb = neighbors(graph, x.device if isinstance(x, Tensor) else None)
    _check("x", x, nb.num_src, "source node")
    if x.dim() < 2:
        raise ValueError(f"x: expected shape (N, ..., F), got {tuple(x.shape)}")
    if coeff is not None:
        _check("coeff", coeff, nb.num_edges, "edge")
        coeff = coeff.to(x)
    if reduce == "mean":
        if coeff is None:
            return propagate(graph, x, norm="right")
        coeff = neighbour_share(graph, coeff)
    x3, w, restore = _to_heads(x, coeff, keep_heads=reduce == "max")
    if reduce == "max":
        return restore(_Max.apply(x3, w, nb))
    return restore(_Sum.apply(x3, w, nb, 1 if w is None else w.shape[1]))


def _to_heads(x: Tensor, coeff: Tensor | None, keep_heads: bool) -> tuple[Tensor, Tensor | None, Callable]:
    """x (N, *, F) and coeff (E, *) as (N, H or 1, F') and (E, H): axes with a coefficient of their own become
    heads, the rest joins the features. Third, the function that lays the result out like x again."""
    axes = x.shape[1:-1]
    each = coeff.shape[1:] if coeff is not None else ()
    if each and (len(each) != len(axes) or any(c != a and 1 not in (c, a) for c, a in zip(each, axes, strict=True))):
        raise ValueError(
            f"coeff: expected (E,) or (E, *) with axes fitting x's {tuple(axes)}, got {tuple(coeff.shape)} "  # type: ignore[union-attr]
            f"for x of shape {tuple(x.shape)}"
        )
    own = [i for i, c in enumerate(each) if c != 1]
    shared = [i for i in range(len(axes)) if i not in own]
    own_shape = [each[i] for i in own]
    order = [0, *(i + 1 for i in own), *(i + 1 for i in shared), len(axes) + 1]
    x = x.permute(order)
    tail = x.shape[1 + len(own) :]
    width = tail.numel()
    if own and (keep_heads or any(n != 1 for n in x.shape[1 : 1 + len(own)])):
        x = x.expand(len(x), *own_shape, *tail)
    x3 = x.reshape(len(x), x.shape[1 : 1 + len(own)].numel(), width)
    w = coeff.reshape(len(coeff), torch.Size(own_shape).numel()) if coeff is not None else None

    def restore(y: Tensor) -> Tensor:
        back = sorted(range(len(order)), key=order.__getitem__)
        return y.reshape(len(y), *own_shape, *tail).permute(back)

    return x3.contiguous(), w.contiguous() if w is not None else None, restore


def edge_dot(graph: Graph, x: Tensor, y: Tensor) -> Tensor:
    """The dot product of both ends of every edge: s(u->v) = <x_u, y_v>.

    Shapes: x (N_src, \\*, F), y (N_dst, \\*, F), the axes in between equal or 1; returns (E, \\*).

    >>> g = dgl.graph(([0, 0], [1, 2]))
    >>> x = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    >>> edge_dot(g, x, x).tolist()
    [11.0, 17.0]
    """
    nb = neighbors(graph, x.device if isinstance(x, Tensor) else None)
    _check("x", x, nb.num_src, "source node")
    _check("y", y, nb.num_dst, "destination node")
    ends = list(zip(x.shape[1:], y.shape[1:]))
    if (
        x.dim() < 2
        or x.dim() != y.dim()
        or x.shape[-1] != y.shape[-1]
        or any(a != b and 1 not in (a, b) for a, b in ends)
    ):
        raise ValueError(
            "expected x and y of shape (N, ..., F) with the axes in between equal or 1, "
            f"got {tuple(x.shape)} and {tuple(y.shape)}"
        )
    axes = torch.broadcast_shapes(x.shape[1:-1], y.shape[1:-1])

    def to_heads(t: Tensor) -> Tensor:
        single = t.shape[1:-1].numel() == 1
        t = t if single else t.expand(len(t), *axes, t.shape[-1])
        return t.reshape(len(t), 1 if single else axes.numel(), t.shape[-1]).contiguous()

    return _Dot.apply(to_heads(x), to_heads(y.to(x)), nb).reshape(nb.num_edges, *axes)


def _on_edges(graph: Graph, values: Tensor) -> tuple[Neighbors, Tensor]:
    nb = neighbors(graph, values.device if isinstance(values, Tensor) else None)
    _check("score", values, nb.num_edges, "edge")
    return nb, values.reshape(nb.num_edges, values.shape[1:].numel()).contiguous()


def edge_softmax(graph: Graph, score: Tensor) -> Tensor:
    """Softmax over the in-edges of each node (Velickovic et al. 2018, arXiv 1710.10903, equation 2).

    Shapes: score (E, \\*), returns the same; each trailing axis on its own.

    >>> g = dgl.graph(([0, 1, 2], [2, 2, 0]))
    >>> edge_softmax(g, torch.tensor([1.0, 1.0, 7.0])).tolist()
    [0.5, 0.5, 1.0]
    """
    nb, flat = _on_edges(graph, score)
    return _Softmax.apply(flat, nb).reshape(score.shape)


def edge_score(graph: Graph, a: Tensor, b: Tensor, att: Tensor, slope: float = 0.0) -> Tensor:
    """A two-layer network on both ends of each edge: s(u->v)[h] = sum_j att[h, j] leaky(a_u[h, j] + b_v[h, j]).

    With leaky(z) = z for z > 0, else slope z. The first layer is split into a part per end, so that nothing of
    shape (E, H, J) is ever held: the score of GAT (J = 1), GATv2, and predicted edges (one hidden layer
    shared by all H outputs).

    Shapes: a (N_src, H or 1, J), b (N_dst, H or 1, J), att (H, J); returns (E, H).

    >>> g = dgl.graph(([0], [1]))
    >>> a = torch.tensor([[[1.0, -3.0]], [[0.0, 0.0]]])
    >>> edge_score(g, a, torch.zeros(2, 1, 2), torch.tensor([[10.0, 1.0]]), slope=0.1).tolist()
    [[9.699999809265137]]
    """
    nb = neighbors(graph, a.device if isinstance(a, Tensor) else None)
    _check("a", a, nb.num_src, "source node")
    _check("b", b, nb.num_dst, "destination node")
    if any(t.dim() != 3 or t.shape[1] not in (1, len(att)) or t.shape[2] != att.shape[1] for t in (a, b)):
        raise ValueError(
            f"expected a and b of shape (N, H or 1, J) and att (H, J), "
            f"got {tuple(a.shape)}, {tuple(b.shape)} and {tuple(att.shape)}"
        )
    return _Score.apply(a.contiguous(), b.contiguous(), att.contiguous(), nb, slope)


def gather_src(graph: Graph, x: Tensor) -> Tensor:
    """Each edge's copy of its source's value: (N_src, \\*) -> (E, \\*)."""
    nb = neighbors(graph, x.device if isinstance(x, Tensor) else None)
    _check("x", x, nb.num_src, "source node")
    return _copy_src(nb, x.reshape(len(x), x.shape[1:].numel())).reshape(nb.num_edges, *x.shape[1:])


def gather_dst(graph: Graph, x: Tensor) -> Tensor:
    """Each edge's copy of its destination's value: (N_dst, \\*) -> (E, \\*)."""
    nb = neighbors(graph, x.device if isinstance(x, Tensor) else None)
    _check("x", x, nb.num_dst, "destination node")
    return _copy_dst(nb, x.reshape(len(x), x.shape[1:].numel())).reshape(nb.num_edges, *x.shape[1:])


# ---------------------------------------------------------------- degrees

NORMS = {"both": (-0.5, -0.5), "left": (-1.0, 0.0), "right": (0.0, -1.0), "none": (0.0, 0.0)}
"""Powers of the degree of the source and of the destination."""


def degree_norm(
    graph: Graph,
    weight: Tensor | None = None,
    norm: str = "both",
    degrees: str = "unweighted",
    like: Tensor | None = None,
) -> Tensor:
    """Edge coefficients normalised by degree: b(u->v) = w(u->v) d_u^p d_v^q.

    ``norm`` is "both" (p = q = -1/2: Kipf and Welling 2017, arXiv 1609.02907, equation 2), "right" (p = 0, q = -1:
    divide by the row sum of the adjacency matrix, the mean over neighbours), "left" (p = -1, q = 0) or "none".

    ``degrees`` says which degree: "unweighted" counts the out-edges of the source and the in-edges of the
    destination; "weighted" sums their weights; "in" counts in-edges at both ends (whole graphs only).
    A count of 0 is taken as 1, as in DGL; a weighted degree of 0 gives the factor 0. In a block, out-edges are those
    inside the block.

    Shapes: weight (E, \\*) or None; returns (E, \\*), or (E,) with the dtype and device of ``like``.

    Raises: ValueError for unknown names, or for negative weighted degrees under a square root.

    >>> g = dgl.graph(([0, 1, 2, 2], [2, 2, 2, 0]))
    >>> degree_norm(g, norm="right").tolist()
    [0.3333333432674408, 0.3333333432674408, 0.3333333432674408, 1.0]
    >>> degree_norm(g, torch.tensor([1.0, 2.0, 5.0, 7.0]), "right", "weighted").tolist()
    [0.125, 0.25, 0.625, 1.0]
    """
    like = weight if weight is not None else like if like is not None else torch.empty(0, device=graph.device)
    nb = neighbors(graph, like.device)
    _check_norm(nb, norm, degrees)
    if weight is not None:
        _check("weight", weight, nb.num_edges, "edge")
        if degrees == "weighted":
            return _weighted_norm(nb, weight, NORMS[norm])

    def make() -> Tensor:
        src, dst = _scales(nb, norm, degrees, torch.float64)
        return (src[nb.src] * dst[nb.dst]).to(like.dtype)

    factor = nb.remember((norm, degrees == "in", like.dtype), make)
    return factor if weight is None else weight * factor.view(-1, *[1] * (weight.dim() - 1))


def propagate(
    graph: Graph, x: Tensor, weight: Tensor | None = None, norm: str = "both", degrees: str = "unweighted"
) -> Tensor:
    """The sum over in-neighbours normalised by degree: ``aggregate(graph, x, degree_norm(graph, weight, ...))``.

    Without weights the coefficients are products of a factor of each end, and none is made per edge.

    Shapes: x (N_src, \\*, F); weight (E,) or None; returns (N_dst, \\*, F).

    >>> g = dgl.graph(([0, 1, 2], [2, 2, 0]))
    >>> propagate(g, torch.tensor([[1.0], [5.0], [100.0]]), norm="right").flatten().tolist()
    [100.0, 0.0, 3.0]
    """
    nb = neighbors(graph, x.device)
    _check_norm(nb, norm, degrees)
    if weight is not None:
        return aggregate(nb, x, degree_norm(nb, weight, norm, degrees))
    if norm == "none":
        return aggregate(nb, x)
    _check("x", x, nb.num_src, "source node")
    flat = x.reshape(len(x), x.shape[1:].numel()).contiguous()
    return _Scaled.apply(flat, *_scales(nb, norm, degrees, x.dtype), nb).reshape(-1, *x.shape[1:])


def _check_norm(nb: Neighbors, norm: str, degrees: str) -> None:
    if norm not in NORMS:
        raise ValueError(f"norm: expected one of {sorted(NORMS)}, got {norm!r}")
    if degrees not in ("unweighted", "weighted", "in"):
        raise ValueError(f"degrees: expected 'unweighted', 'weighted' or 'in', got {degrees!r}")
    if degrees == "in" and nb.num_src != nb.num_dst:
        raise ValueError(f"degrees='in' needs a whole graph, got {nb.num_src} sources, {nb.num_dst} destinations")


def _scales(nb: Neighbors, norm: str, degrees: str, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """The factor of each source and of each destination, from counts of edges."""

    def factor(end: str, count: Tensor, power: float) -> Tensor:
        return nb.remember((end, norm, degrees, dtype), lambda: (count.clamp(min=1).double() ** power).to(dtype))

    powers = NORMS[norm]
    src = factor("src", nb.in_degrees if degrees == "in" else nb.out_degrees, powers[0])
    return src, factor("dst", nb.in_degrees, powers[1])


def neighbour_share(graph: Graph, weight: Tensor) -> Tensor:
    """Edge values divided by the number of in-edges of their destination, so that their sum is a mean."""
    return degree_norm(graph, weight, norm="right")


def _power(degree: Tensor, power: float) -> Tensor:
    """degree ** power, 0 where the degree is 0."""
    return torch.where(degree == 0, 0.0, degree.where(degree != 0, 1.0) ** power)


def _weighted_norm(nb: Neighbors, weight: Tensor, powers: tuple[float, float]) -> Tensor:
    flat = weight.reshape(nb.num_edges, weight.shape[1:].numel())
    factor = flat
    for power, view, copy in ((powers[0], nb.reverse(), _copy_src), (powers[1], nb, _copy_dst)):
        if power:
            degree = _sum_edges(view, flat)
            if power == -0.5 and bool((degree < 0).any()):
                raise ValueError(f"expected weighted degrees of at least 0 under a square root, got {degree.min():.3g}")
            factor = factor * copy(nb, _power(degree, power))
    return factor.reshape(weight.shape)
