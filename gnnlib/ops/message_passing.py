"""Message passing with gradients: sums, maxima, dot products and softmax along the edges of a graph.

    y_v = sum over edges u->v of  b(u->v) x_u                  `aggregate`
    s(u->v) = <x_u, y_v>                                       `edge_dot`

All are differentiable to any order; `gnnlib.ops.autograd` says how.

Axes: x is (N, *, F). Axes in between are heads, or several signals on one graph.
Shapes: N_src, N_dst nodes, E edges in edge-id order. A node with no in-edges gets 0.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from gnnlib._platform.dgl import dgl  # noqa: F401, for the examples
from gnnlib.graph.adjacency import Adjacency, Graph, adjacency, check_num_rows
from gnnlib.ops.autograd.attention import Attend, Score, Softmax, composed_attention
from gnnlib.ops.autograd.convolution import Convolve
from gnnlib.ops.autograd.sums import Dot, DroppedSum, Max, Scaled, Sum, copy_dst, copy_src
from gnnlib.ops.degrees import check_norm, degree_factors, degree_norm, divide_by_in_degree
from gnnlib.ops.edges_as_nodes import per_edge_messages

__all__ = [
    "aggregate",
    "attend",
    "convolve",
    "edge_dot",
    "edge_score",
    "edge_softmax",
    "gather_dst",
    "gather_src",
    "propagate",
]


def aggregate(graph: Graph, x: Tensor, coeff: Tensor | None = None, reduce: str = "sum", own: float = 0.0) -> Tensor:
    """Each node collects from its in-neighbours: y_v = reduce over edges u->v of coeff(u->v) x_u.

    The one operation of message passing (Gilmer et al. 2017, arXiv 1704.01212, equation 1, with the message
    linear in x). ``reduce`` is "sum", "mean" (over the number of in-edges) or "max" (elementwise).

    Args:
        graph: a DGLGraph with one edge type, or a block
        x: features of the source nodes
        coeff: a number per edge, or one per edge and head
        own: adds own x_v to each destination, where these are the first sources (whole graphs, blocks)

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
    adj = adjacency(graph, x.device if isinstance(x, Tensor) else None)
    if own and adj.num_dst > adj.num_src:
        raise ValueError(
            f"own: expected destinations that are sources too, got {adj.num_dst} and {adj.num_src} of them"
        )
    check_num_rows("x", x, adj.num_src, "source node")
    if x.dim() < 2:
        raise ValueError(f"x: expected shape (N, ..., F), got {tuple(x.shape)}")
    if coeff is not None:
        check_num_rows("coeff", coeff, adj.num_edges, "edge")
        coeff = coeff.to(x)
    if reduce == "mean":
        if coeff is None and not own:
            return propagate(adj, x, norm="right")
        coeff = divide_by_in_degree(adj, x.new_ones(adj.num_edges) if coeff is None else coeff)
    fused = own if coeff is None and reduce == "sum" and adj.drop is None else 0.0
    x3, w, restore = _to_heads(x, coeff, keep_heads=reduce == "max")
    if reduce == "max":
        messages, over = per_edge_messages(adj, x3)
        y = restore(Max.apply(messages, w, over))
    elif adj.drop is not None:
        heads = x3.shape[1] if w is None else max(w.shape[1], x3.shape[1])
        y = restore(DroppedSum.apply(x3.expand(-1, heads, -1).contiguous(), w, adj))
    else:
        y = restore(Sum.apply(x3, w, adj, 1 if w is None else w.shape[1], fused))
    return y if own == fused else y + own * x[: adj.num_dst]


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
    adj = adjacency(graph, x.device)
    check_norm(adj, norm, degrees)
    if weight is not None:
        return aggregate(adj, x, degree_norm(adj, weight, norm, degrees))
    if norm == "none":
        return aggregate(adj, x)
    if adj.drop is not None:
        return aggregate(adj, x, degree_norm(adj, None, norm, degrees, like=x))
    check_num_rows("x", x, adj.num_src, "source node")
    flat = x.reshape(len(x), x.shape[1:].numel()).contiguous()
    y = Scaled.apply(flat, *degree_factors(adj, norm, degrees, x.dtype), adj)
    return y if x.dim() == 2 else y.reshape(-1, *x.shape[1:])


def edge_dot(graph: Graph, x: Tensor, y: Tensor) -> Tensor:
    """The dot product of both ends of every edge: s(u->v) = <x_u, y_v>.

    Shapes: x (N_src, \\*, F), y (N_dst, \\*, F), the axes in between equal or 1; returns (E, \\*).

    >>> g = dgl.graph(([0, 0], [1, 2]))
    >>> x = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    >>> edge_dot(g, x, x).tolist()
    [11.0, 17.0]
    """
    adj = adjacency(graph, x.device if isinstance(x, Tensor) else None)
    check_num_rows("x", x, adj.num_src, "source node")
    check_num_rows("y", y, adj.num_dst, "destination node")
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

    return Dot.apply(to_heads(x), to_heads(y.to(x)), adj).reshape(adj.num_edges, *axes)


def _on_edges(graph: Graph, values: Tensor) -> tuple[Adjacency, Tensor]:
    adj = adjacency(graph, values.device if isinstance(values, Tensor) else None)
    check_num_rows("score", values, adj.num_edges, "edge")
    return adj, values.reshape(adj.num_edges, values.shape[1:].numel()).contiguous()


def edge_softmax(graph: Graph, score: Tensor) -> Tensor:
    """Softmax over the in-edges of each node (Velickovic et al. 2018, arXiv 1710.10903, equation 2).

    Shapes: score (E, \\*), returns the same; each trailing axis on its own.

    >>> g = dgl.graph(([0, 1, 2], [2, 2, 0]))
    >>> edge_softmax(g, torch.tensor([1.0, 1.0, 7.0])).tolist()
    [0.5, 0.5, 1.0]
    """
    adj, flat = _on_edges(graph, score)
    return Softmax.apply(flat, adj).reshape(score.shape)


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
    adj = adjacency(graph, a.device if isinstance(a, Tensor) else None)
    check_num_rows("a", a, adj.num_src, "source node")
    check_num_rows("b", b, adj.num_dst, "destination node")
    if any(t.dim() != 3 or t.shape[1] not in (1, len(att)) or t.shape[2] != att.shape[1] for t in (a, b)):
        raise ValueError(
            f"expected a and b of shape (N, H or 1, J) and att (H, J), "
            f"got {tuple(a.shape)}, {tuple(b.shape)} and {tuple(att.shape)}"
        )
    return Score.apply(a.contiguous(), b.contiguous(), att.contiguous(), adj, slope)


def attend(
    graph: Graph,
    feat: Tensor,
    att_src: Tensor,
    att_dst: Tensor,
    own: Tensor | None = None,
    slope: float = 0.2,
    coeff: Tensor | None = None,
    bias: Tensor | None = None,
) -> Tensor:
    """The attended average: y_v = sum over u->v of softmax_u(leaky(att_src . feat_u + att_dst . own_v)) feat_u.

    Velickovic et al. 2018, arXiv 1710.10903, equations 3 and 4, each head on its own. Scores, softmax and sum are one
    pass over the edges, with nothing kept for each edge; the backward pass takes one more over the
    features, and one over the scores.

    Args:
        graph: a DGLGraph with one edge type, or a block
        feat: features of the sources
        att_src, att_dst: the vectors that score a source and a destination
        own: features of the destinations; None: these are the first sources (whole graphs, blocks)
        slope: of the LeakyReLU
        coeff: multiplies the softmax: edge weights, or a dropout's mask
        bias: added to y

    Shapes: feat (N_src, \\*, H, F), att_src, att_dst and bias (H, F), own (N_dst, \\*, H, F), coeff (E,) or
    (E, \\*, H); returns (N_dst, \\*, H, F). A node without in-edges gets the bias, or 0.

    Raises: TypeError for integers; ValueError for shapes that do not fit.

    >>> g = dgl.graph(([0, 1, 2], [2, 2, 2]))
    >>> feat = torch.tensor([[[1.0]], [[5.0]], [[9.0]]])
    >>> attend(g, feat, torch.zeros(1, 1), torch.zeros(1, 1)).flatten().tolist()
    [0.0, 0.0, 5.0]
    """
    adj = adjacency(graph, feat.device if isinstance(feat, Tensor) else None)
    check_num_rows("feat", feat, adj.num_src, "source node")
    if own is not None:
        check_num_rows("own", own, adj.num_dst, "destination node")
    elif adj.num_dst > adj.num_src:
        raise ValueError(
            f"own: expected features of {adj.num_dst} destinations, of which {adj.num_src} are sources too"
        )
    shapes = [tuple(t.shape) for t in (att_src, att_dst, *([] if bias is None else [bias]))]
    if (
        feat.dim() < 3
        or any(shape != feat.shape[-2:] for shape in shapes)
        or (own is not None and own.shape[1:] != feat.shape[1:])
    ):
        raise ValueError(
            "expected feat and own of shape (N, ..., H, F), att_src, att_dst and bias of shape (H, F), "
            f"got {tuple(feat.shape)}, {None if own is None else tuple(own.shape)}, {shapes}"
        )
    heads = feat.shape[1:-1]
    if coeff is not None:
        check_num_rows("coeff", coeff, adj.num_edges, "edge")
        if coeff.shape[1:] not in (heads, torch.Size()):
            raise ValueError(f"coeff: expected ({adj.num_edges},) or (E, *, H) of feat, got {tuple(coeff.shape)}")
        coeff = coeff.to(feat).reshape(adj.num_edges, coeff.shape[1:].numel()).contiguous()

    def flat(t: Tensor) -> Tensor:
        return t.reshape(len(t), heads.numel(), t.shape[-1]).contiguous()

    def each(t: Tensor) -> Tensor:
        return t.expand(*heads, -1).reshape(heads.numel(), -1)

    vectors, shift = (each(att_src), each(att_dst)), None if bias is None else each(bias).contiguous()
    given = flat(feat), None if own is None else flat(own), *vectors, coeff, shift
    y = Attend.apply(*given, adj, slope) if adj.drop is None else composed_attention(adj, slope, *given)
    return y if y.shape[1:] == feat.shape[1:] else y.view(adj.num_dst, *feat.shape[1:])


def convolve(graph: Graph, x: Tensor, basis: Tensor, weight: Tensor) -> Tensor:
    """The one equation of the library: y_v = sum over u->v and over k of basis_k(u->v) x_u weight_k.

    Nothing of shape (E, F), (E, O) or (N, K, F) is kept: the sums over neighbours are made for a few destinations at a
    time and multiplied by the weights at once.

    Args:
        graph: a DGLGraph with one edge type, or a block
        x: features of the sources
        basis: a number per edge and k; or integers, the one k that each edge has: the taps of a window
        weight: a matrix per k; or one per group and k, where the last but one axis of x is that of the groups

    Shapes: x (N_src, \\*, F), basis (E, K) or (E,), weight (K, F, O); returns (N_dst, \\*, O). With groups: x
    (N_src, \\*, G, F), weight (G, K, F, O), returns (N_dst, \\*, G, O).

    >>> g = dgl.graph(([0, 1], [2, 2]))
    >>> x, basis = torch.tensor([[1.0], [2.0], [3.0]]), torch.tensor([[1.0, 0.0], [0.5, 2.0]])
    >>> convolve(g, x, basis, torch.tensor([[[10.0]], [[100.0]]])).flatten().tolist()
    [0.0, 0.0, 420.0]
    """
    adj = adjacency(graph, x.device if isinstance(x, Tensor) else None)
    check_num_rows("x", x, adj.num_src, "source node")
    taps = isinstance(basis, Tensor) and basis.dtype in (torch.int32, torch.int64)
    if taps:
        _check_taps(basis, adj.num_edges, weight)
    else:
        check_num_rows("basis", basis, adj.num_edges, "edge")
    if (
        x.dim() + 1 < weight.dim()
        or weight.dim() not in (3, 4)
        or weight.shape[-2] != x.shape[-1]
        or (weight.dim() == 4 and len(weight) != x.shape[-2])
        or not (taps or (basis.dim() == 2 and basis.shape[1] == weight.shape[-3]))
    ):
        raise ValueError(
            "expected x (N, *, F), basis (E, K) and weight (K, F, O), or x (N, *, G, F) and weight (G, K, F, O), "
            f"got {tuple(x.shape)}, {tuple(basis.shape)} and {tuple(weight.shape)}"
        )
    flat, adj = per_edge_messages(adj, x.reshape(len(x), x.shape[1:-1].numel(), x.shape[-1]).contiguous())
    basis = basis.to(x.device if taps else x).contiguous()
    y = Convolve.apply(flat, basis, weight.view(-1, *weight.shape[-3:]).contiguous(), adj)
    return y.view(adj.num_dst, *x.shape[1:-1], weight.shape[-1])


def _check_taps(taps: Tensor, num_edges: int, weight: Tensor) -> None:
    if taps.shape != (num_edges,):
        raise ValueError(f"taps: expected shape ({num_edges},), one for each edge, got {tuple(taps.shape)}")
    low, high = (t.item() for t in taps.aminmax()) if num_edges else (0, -1)
    if low < 0 or high >= weight.shape[-3]:
        raise ValueError(f"taps: expected numbers from 0 to {weight.shape[-3] - 1}, got {low} to {high}")


def gather_src(graph: Graph, x: Tensor) -> Tensor:
    """Each edge's copy of its source's value: (N_src, \\*) -> (E, \\*)."""
    adj = adjacency(graph, x.device if isinstance(x, Tensor) else None)
    check_num_rows("x", x, adj.num_src, "source node")
    return copy_src(adj, x.reshape(len(x), x.shape[1:].numel())).reshape(adj.num_edges, *x.shape[1:])


def gather_dst(graph: Graph, x: Tensor) -> Tensor:
    """Each edge's copy of its destination's value: (N_dst, \\*) -> (E, \\*)."""
    adj = adjacency(graph, x.device if isinstance(x, Tensor) else None)
    check_num_rows("x", x, adj.num_dst, "destination node")
    return copy_dst(adj, x.reshape(len(x), x.shape[1:].numel())).reshape(adj.num_edges, *x.shape[1:])
