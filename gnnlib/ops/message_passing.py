"""Differentiable message passing: sums, maxima, dot products, softmax and attention along the edges of a graph.

    y_v = sum over edges u->v of  b(u->v) x_u                  `aggregate`
    s(u->v) = <x_u, y_v>                                       `edge_dot`

All are differentiable to any order (`gnnlib.ops.autograd`).

Features are (N, \\*, F). The axes between nodes and features are heads, or several signals on one graph. N_src and
N_dst are the numbers of source and destination nodes, E is the number of edges, in edge-id order. A node without
in-edges gets 0.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from gnnlib._utils.calls import names_checked
from gnnlib.graph import Adjacency, GraphLike, adjacency, check_num_rows, takes_graph
from gnnlib.graph._adjacency import is_traced
from gnnlib.kernels.half import computed
from gnnlib.ops.autograd.attention import Attend, Score, Softmax
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


@names_checked()
@takes_graph()
def aggregate(
    graph: GraphLike | Adjacency, x: Tensor, coeff: Tensor | None = None, reduce: str = "sum", self_weight: float = 0.0
) -> Tensor:
    r"""Aggregates the features of the in-neighbours of each node.

    The operation of message passing (Gilmer et al. 2017, arXiv 1704.01212, equation 1) with messages that are linear
    in x:

    .. math:: y_v = \operatorname*{reduce}_{u \to v} b_{uv} x_u

    Args:
        graph: a DGLGraph with one edge type, or a block
        x: features of the source nodes
        coeff: the coefficients b, one per edge, or one per edge and head
        reduce: "sum", "mean" (over the number of in-edges) or "max" (elementwise)
        self_weight: adds self_weight x_v to each destination, where the destinations are the first sources (whole
            graphs, blocks)

    Shapes:
        - x: (N_src, \*, F)
        - coeff: (E,), or (E, \*) where \* are x's axes, each of the same length or 1 in either; or (E, \*, 1)
        - output: (N_dst, \*, F); 0 for a node without in-edges

    Raises:
        TypeError: if x or coeff holds integers
        ValueError: if the number of rows is wrong, the axes of coeff do not fit x, or ``reduce`` is unknown

    Example:
        >>> import torch
        >>> from gnnlib import aggregate
        >>> import dgl
        >>> g = dgl.graph(([0, 1, 2], [2, 2, 0]))
        >>> x = torch.tensor([[1.0], [10.0], [100.0]])
        >>> aggregate(g, x).flatten().tolist()
        [100.0, 0.0, 11.0]
        >>> aggregate(g, x, torch.tensor([0.5, 2.0, 1.0]), reduce="mean").flatten().tolist()
        [100.0, 0.0, 10.25]
    """
    if reduce not in ("sum", "mean", "max"):
        raise ValueError(f"reduce: expected 'sum', 'mean' or 'max', got {reduce!r}")
    adj = _adjacency(graph, x)
    if self_weight and adj.num_dst > adj.num_src:
        raise ValueError(
            f"self_weight: expected destinations that are sources too, got {adj.num_dst} and {adj.num_src} of them"
        )
    _check_features(adj, x)
    if coeff is not None:
        check_num_rows("coeff", coeff, adj.num_edges, "edge")
        coeff = coeff.to(x)
    if reduce == "max":
        y = _max(adj, x, coeff)
        return y + self_weight * x[: adj.num_dst] if self_weight else y
    if reduce == "mean":
        if coeff is None and not self_weight:
            return _scaled_sum(adj, x, "right", "unweighted")
        coeff = divide_by_in_degree(adj, x.new_ones(adj.num_edges) if coeff is None else coeff)
    return _sum(adj, x, coeff, self_weight)


@names_checked()
@takes_graph()
def propagate(
    graph: GraphLike | Adjacency,
    x: Tensor,
    weight: Tensor | None = None,
    norm: str = "both",
    degrees: str = "unweighted",
) -> Tensor:
    r"""Sums the features of the in-neighbours of each node, normalised by degree.

    It equals ``aggregate(graph, x, degree_norm(graph, weight, norm, degrees))``. Without edge weights each coefficient
    is a product of a factor of the source and one of the destination, and no array over edges is made.

    Args:
        graph: a DGLGraph with one edge type, or a block
        x: features of the source nodes
        weight: edge weights
        norm, degrees: as in `degree_norm`

    Shapes:
        - x: (N_src, \*, F)
        - weight: (E,) or (E, 1)
        - output: (N_dst, \*, F)

    Raises:
        TypeError: if x or weight holds integers
        ValueError: if a number of rows is wrong, or ``norm`` or ``degrees`` is unknown

    Example:
        >>> import torch
        >>> from gnnlib import propagate
        >>> import dgl
        >>> g = dgl.graph(([0, 1, 2], [2, 2, 0]))
        >>> propagate(g, torch.tensor([[1.0], [5.0], [100.0]]), norm="right").flatten().tolist()
        [100.0, 0.0, 3.0]
    """
    adj = _adjacency(graph, x)
    check_norm(adj, norm, degrees)
    if weight is None and norm != "none":
        check_num_rows("x", x, adj.num_src, "source node")
        return _scaled_sum(adj, x, norm, degrees)
    _check_features(adj, x)
    if weight is not None and weight.shape == (adj.num_edges, 1):
        weight = weight.squeeze(1)
    return _sum(adj, x, None if weight is None else degree_norm(adj, weight, norm, degrees).to(x))


def _adjacency(graph: GraphLike | Adjacency, x: Tensor) -> Adjacency:
    return adjacency(graph, x.device if isinstance(x, Tensor) else None)


def _check_features(adj: Adjacency, x: Tensor) -> None:
    check_num_rows("x", x, adj.num_src, "source node")
    if x.dim() < 2:
        raise ValueError(f"x: expected shape (N, ..., F), got {tuple(x.shape)}")


def _sum(adj: Adjacency, x: Tensor, coeff: Tensor | None, self_weight: float = 0.0) -> Tensor:
    """The weighted sum over in-neighbours, plus self_weight x_v."""
    x3, coeff2, restore = _to_heads(x, coeff)
    if adj.dropout is not None:
        heads = x3.shape[1] if coeff2 is None else max(coeff2.shape[1], x3.shape[1])
        y = restore(DroppedSum.apply(x3.expand(-1, heads, -1).contiguous(), coeff2, adj))
    elif coeff2 is None:
        return restore(Sum.apply(x3, None, adj, 1, self_weight))
    else:
        y = restore(Sum.apply(x3, coeff2, adj, coeff2.shape[1], 0.0))
    return y + self_weight * x[: adj.num_dst] if self_weight else y


def _scaled_sum(adj: Adjacency, x: Tensor, norm: str, degrees: str) -> Tensor:
    """The sum over in-neighbours with a factor of each end."""
    if adj.dropout is not None:
        return _sum(adj, x, degree_norm(adj, None, norm, degrees, like=x))
    flat = x.reshape(len(x), x.shape[1:].numel()).contiguous()
    y = Scaled.apply(flat, *degree_factors(adj, norm, degrees, x.dtype), adj)
    return y if x.dim() == 2 else y.reshape(-1, *x.shape[1:])


def _max(adj: Adjacency, x: Tensor, coeff: Tensor | None) -> Tensor:
    """The elementwise maximum over in-neighbours."""
    x3, coeff2, restore = _to_heads(x, coeff, expand=True)
    messages, target = per_edge_messages(adj, x3)
    return restore(Max.apply(messages, coeff2, target))


def _to_heads(
    x: Tensor, coeff: Tensor | None, expand: bool = False
) -> tuple[Tensor, Tensor | None, Callable[[Tensor], Tensor]]:
    """x (N, *, F) and coeff (E, *) as (N, H or 1, F') and (E, H).

    Axes with a coefficient of their own become heads, the others join the features; ``expand`` repeats x over heads.
    The function that is returned restores the axes of x in the result.
    """
    axes = x.shape[1:-1]
    if coeff is not None and coeff.dim() == x.dim() and coeff.shape[-1] == 1:
        coeff = coeff.squeeze(-1)
    sizes = coeff.shape[1:] if coeff is not None else torch.Size()
    if sizes and (len(sizes) != len(axes) or any(c != a and 1 not in (c, a) for c, a in zip(sizes, axes))):
        raise ValueError(
            f"coeff: expected (E,) or (E, *) with axes fitting x's {tuple(axes)}, got {tuple(coeff.shape)} "  # type: ignore[union-attr]
            f"for x of shape {tuple(x.shape)}"
        )
    heads = [axis for axis, size in enumerate(sizes) if size != 1]
    head_shape = torch.Size(sizes[axis] for axis in heads)
    order = [0, *(i + 1 for i in heads), *(i + 1 for i in range(len(axes)) if i not in heads), len(axes) + 1]
    x = x.permute(order)
    tail = x.shape[1 + len(heads) :]
    if heads and (expand or any(size != 1 for size in x.shape[1 : 1 + len(heads)])):
        x = x.expand(len(x), *head_shape, *tail)
    x3 = x.reshape(len(x), x.shape[1 : 1 + len(heads)].numel(), tail.numel()).contiguous()
    coeff2 = None if coeff is None else coeff.reshape(len(coeff), head_shape.numel()).contiguous()

    def restore(y: Tensor) -> Tensor:
        inverse = sorted(range(len(order)), key=order.__getitem__)
        return y.reshape(len(y), *head_shape, *tail).permute(inverse)

    return x3, coeff2, restore


@names_checked()
@takes_graph()
def edge_dot(graph: GraphLike | Adjacency, x: Tensor, y: Tensor) -> Tensor:
    r"""Computes the dot product of the two endpoints of every edge: s(u->v) = <x_u, y_v>.

    Args:
        graph: a DGLGraph with one edge type, or a block
        x: features of the source nodes
        y: features of the destination nodes

    Shapes:
        - x: (N_src, \*, F)
        - y: (N_dst, \*, F), the axes in between equal to x's or 1 in either
        - output: (E, \*)

    Raises:
        TypeError: if x or y holds integers
        ValueError: if a number of rows is wrong or the shapes do not fit

    Example:
        >>> import torch
        >>> from gnnlib import edge_dot
        >>> import dgl
        >>> g = dgl.graph(([0, 0], [1, 2]))
        >>> x = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
        >>> edge_dot(g, x, x).tolist()
        [11.0, 17.0]
    """
    adj = _adjacency(graph, x)
    check_num_rows("x", x, adj.num_src, "source node")
    check_num_rows("y", y, adj.num_dst, "destination node")
    if (
        x.dim() < 2
        or x.dim() != y.dim()
        or x.shape[-1] != y.shape[-1]
        or any(a != b and 1 not in (a, b) for a, b in zip(x.shape[1:], y.shape[1:]))
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


@names_checked()
@takes_graph()
def edge_softmax(graph: GraphLike | Adjacency, score: Tensor) -> Tensor:
    r"""Computes the softmax over the in-edges of each node (Velickovic et al. 2018, arXiv 1710.10903, equation 2).

    Args:
        graph: a DGLGraph with one edge type, or a block
        score: values on the edges; trailing axes are independent

    Shapes:
        - score: (E, \*)
        - output: the same

    Raises:
        TypeError: if score holds integers
        ValueError: if the number of rows is not that of the edges

    Example:
        >>> import torch
        >>> from gnnlib import edge_softmax
        >>> import dgl
        >>> g = dgl.graph(([0, 1, 2], [2, 2, 0]))
        >>> edge_softmax(g, torch.tensor([1.0, 1.0, 7.0])).tolist()
        [0.5, 0.5, 1.0]
    """
    adj = _adjacency(graph, score)
    check_num_rows("score", score, adj.num_edges, "edge")
    flat = score.reshape(adj.num_edges, score.shape[1:].numel()).contiguous()
    return Softmax.apply(flat, adj).reshape(score.shape)


@names_checked()
@takes_graph("a")
def edge_score(graph: GraphLike | Adjacency, a: Tensor, b: Tensor, att: Tensor, slope: float = 0.0) -> Tensor:
    r"""Applies a two-layer network to the endpoints of every edge.

    .. math:: s_h(u \to v) = \sum_j \mathrm{att}_{hj}\, \mathrm{LeakyReLU}(a_{uhj} + b_{vhj})

    The first layer is split into a part of the source and one of the destination, so nothing of shape (E, H, J) is
    made. It is the score of GAT (J = 1), of GATv2, and of predicted edges (one hidden layer shared by H outputs).

    Args:
        graph: a DGLGraph with one edge type, or a block
        a: the part of the sources
        b: the part of the destinations
        att: the second layer
        slope: of the LeakyReLU for negative arguments

    Shapes:
        - a: (N_src, H or 1, J)
        - b: (N_dst, H or 1, J)
        - att: (H, J)
        - output: (E, H)

    Raises:
        TypeError: if a or b holds integers
        ValueError: if the shapes do not fit

    Example:
        >>> import torch
        >>> from gnnlib.ops import edge_score
        >>> import dgl
        >>> g = dgl.graph(([0], [1]))
        >>> a = torch.tensor([[[1.0, -3.0]], [[0.0, 0.0]]])
        >>> edge_score(g, a, torch.zeros(2, 1, 2), torch.tensor([[10.0, 1.0]]), slope=0.1).tolist()
        [[9.699999809265137]]
    """
    adj = _adjacency(graph, a)
    check_num_rows("a", a, adj.num_src, "source node")
    check_num_rows("b", b, adj.num_dst, "destination node")
    if any(t.dim() != 3 or t.shape[1] not in (1, len(att)) or t.shape[2] != att.shape[1] for t in (a, b)):
        raise ValueError(
            f"expected a and b of shape (N, H or 1, J) and att (H, J), "
            f"got {tuple(a.shape)}, {tuple(b.shape)} and {tuple(att.shape)}"
        )
    return Score.apply(a.contiguous(), b.contiguous(), att.contiguous(), adj, slope)


@names_checked()
@takes_graph("feat")
def attend(
    graph: GraphLike | Adjacency,
    feat: Tensor,
    att_src: Tensor,
    att_dst: Tensor,
    feat_dst: Tensor | None = None,
    slope: float = 0.2,
    coeff: Tensor | None = None,
    bias: Tensor | None = None,
) -> Tensor:
    r"""Averages the features of the in-neighbours with attention (Velickovic et al. 2018, arXiv 1710.10903, equations
    3 and 4), each head by itself.

    .. math:: y_v = \sum_{u \to v} \alpha_{uv}\, \mathrm{feat}_u + \mathrm{bias}, \qquad
        \alpha_{uv} = \operatorname{softmax}_u \mathrm{LeakyReLU}(a_{src} \cdot \mathrm{feat}_u + a_{dst} \cdot
        \mathrm{feat}^{dst}_v)

    Scores, softmax and sum are one pass over the edges, and nothing is stored per edge. The backward pass takes one
    pass over the features and one over the scores.

    Args:
        graph: a DGLGraph with one edge type, or a block
        feat: features of the source nodes
        att_src, att_dst: the vectors that score a source and a destination
        feat_dst: features of the destination nodes; None: the destinations are the first sources (whole graphs, blocks)
        slope: of the LeakyReLU
        coeff: multiplies the softmax: edge weights, or a dropout mask
        bias: added to y

    Shapes:
        - feat: (N_src, \*, H, F)
        - feat_dst: (N_dst, \*, H, F)
        - att_src, att_dst, bias: (H, F)
        - coeff: (E,) or (E, \*, H)
        - output: (N_dst, \*, H, F); the bias, or 0, for a node without in-edges

    Raises:
        TypeError: if feat, feat_dst or coeff holds integers
        ValueError: if the shapes do not fit

    Example:
        >>> import torch
        >>> from gnnlib.ops import attend
        >>> import dgl
        >>> g = dgl.graph(([0, 1, 2], [2, 2, 2]))
        >>> feat = torch.tensor([[[1.0]], [[5.0]], [[9.0]]])
        >>> attend(g, feat, torch.zeros(1, 1), torch.zeros(1, 1)).flatten().tolist()
        [0.0, 0.0, 5.0]
    """
    adj = _adjacency(graph, feat)
    check_num_rows("feat", feat, adj.num_src, "source node")
    if feat_dst is not None:
        check_num_rows("feat_dst", feat_dst, adj.num_dst, "destination node")
    elif adj.num_dst > adj.num_src:
        raise ValueError(
            f"feat_dst: expected features of {adj.num_dst} destinations, of which {adj.num_src} are sources too"
        )
    shapes = [tuple(t.shape) for t in (att_src, att_dst, *([] if bias is None else [bias]))]
    if (
        feat.dim() < 3
        or any(shape != feat.shape[-2:] for shape in shapes)
        or (feat_dst is not None and feat_dst.shape[1:] != feat.shape[1:])
    ):
        raise ValueError(
            "expected feat and feat_dst of shape (N, ..., H, F), att_src, att_dst and bias of shape (H, F), "
            f"got {tuple(feat.shape)}, {None if feat_dst is None else tuple(feat_dst.shape)}, {shapes}"
        )
    heads = feat.shape[1:-1]
    if coeff is not None:
        check_num_rows("coeff", coeff, adj.num_edges, "edge")
        if coeff.shape[1:] not in (heads, torch.Size()):
            raise ValueError(f"coeff: expected ({adj.num_edges},) or (E, *, H) of feat, got {tuple(coeff.shape)}")
        coeff = coeff.to(feat).reshape(adj.num_edges, coeff.shape[1:].numel()).contiguous()

    def flatten(t: Tensor) -> Tensor:
        return t.reshape(len(t), heads.numel(), t.shape[-1]).contiguous()

    def per_head(t: Tensor) -> Tensor:
        return t.expand(*heads, -1).reshape(heads.numel(), -1)

    vectors, shift = (per_head(att_src), per_head(att_dst)), None if bias is None else per_head(bias).contiguous()
    inputs = flatten(feat), None if feat_dst is None else flatten(feat_dst), *vectors, coeff, shift
    y = (Attend.apply if adj.dropout is None else Attend.composition)(*inputs, adj, slope)
    return y if y.shape[1:] == feat.shape[1:] else y.view(adj.num_dst, *feat.shape[1:])


@names_checked()
@takes_graph()
def convolve(
    graph: GraphLike | Adjacency, x: Tensor, basis: Tensor, weight: Tensor, coeff: Tensor | None = None
) -> Tensor:
    r"""Sums the features of the in-neighbours, each transformed by a combination of K matrices.

    .. math:: y_v = \sum_{u \to v} \sum_k b_k(u \to v)\, x_u W_k

    Nothing of shape (E, F), (E, O) or (N, K, F) is stored: the sums over neighbours are made for a few hundred
    destinations at a time and multiplied by the matrices at once. With integers, where most destinations have edges of
    few k only, as in a graph with many relations, only the sums of these k are made.

    Args:
        graph: a DGLGraph with one edge type, or a block
        x: features of the source nodes
        basis: the coefficients b, K per edge; or integers, the one k of each edge, as the taps of a window or relations
        weight: a matrix per k; or one per group and k, where the last but one axis of x is that of the groups
        coeff: edge weights, where the basis is integers; None: 1

    Shapes:
        - x: (N_src, \*, F), or (N_src, \*, G, F) with groups
        - basis: (E, K) or (E,)
        - weight: (K, F, O), or (G, K, F, O) with groups
        - coeff: (E,)
        - output: (N_dst, \*, O), or (N_dst, \*, G, O) with groups

    Raises:
        TypeError: if x holds integers
        ValueError: if the shapes do not fit, an integer is not below K, or ``coeff`` comes with K coefficients per edge

    Example:
        >>> import torch
        >>> from gnnlib.ops import convolve
        >>> import dgl
        >>> g = dgl.graph(([0, 1], [2, 2]))
        >>> x, basis = torch.tensor([[1.0], [2.0], [3.0]]), torch.tensor([[1.0, 0.0], [0.5, 2.0]])
        >>> convolve(g, x, basis, torch.tensor([[[10.0]], [[100.0]]])).flatten().tolist()
        [0.0, 0.0, 420.0]
    """
    adj = _adjacency(graph, x)
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
    if coeff is not None:
        _check_tap_weights(coeff, adj.num_edges, taps)
    flat, target = per_edge_messages(adj, x.reshape(len(x), x.shape[1:-1].numel(), x.shape[-1]).contiguous())
    basis = basis.to(x.device if taps else x).contiguous()
    wide = computed(x.dtype)  # most of the time is spent in the products, which take float32 sums
    basis = basis if taps else basis.to(wide)
    coeff = None if coeff is None else coeff.to(x.device, wide).contiguous()
    y = Convolve.apply(flat.to(wide), basis, weight.view(-1, *weight.shape[-3:]).contiguous().to(wide), coeff, target)
    return y.to(x.dtype).view(adj.num_dst, *x.shape[1:-1], weight.shape[-1])


def _check_taps(taps: Tensor, num_edges: int, weight: Tensor) -> None:
    if taps.shape != (num_edges,):
        raise ValueError(f"taps: expected shape ({num_edges},), one for each edge, got {tuple(taps.shape)}")
    low, high = (t.item() for t in taps.aminmax()) if num_edges and not is_traced() else (0, -1)
    if low < 0 or high >= weight.shape[-3]:
        raise ValueError(f"taps: expected numbers from 0 to {weight.shape[-3] - 1}, got {low} to {high}")


def _check_tap_weights(coeff: Tensor, num_edges: int, taps: bool) -> None:
    check_num_rows("coeff", coeff, num_edges, "edge")
    if not taps or coeff.dim() != 1:
        expected = "integers as the basis" if not taps else f"shape ({num_edges},)"
        raise ValueError(f"coeff: expected {expected}, got coefficients of shape {tuple(coeff.shape)}")


@names_checked()
@takes_graph()
def gather_src(graph: GraphLike | Adjacency, x: Tensor) -> Tensor:
    r"""Copies the values of the source nodes to the edges.

    Args:
        graph: a DGLGraph with one edge type, or a block
        x: values of the source nodes

    Shapes:
        - x: (N_src, \*)
        - output: (E, \*)

    Raises:
        TypeError: if x holds integers
        ValueError: if the number of rows is not that of the source nodes
    """
    adj = _adjacency(graph, x)
    check_num_rows("x", x, adj.num_src, "source node")
    return copy_src(adj, x.reshape(len(x), x.shape[1:].numel())).reshape(adj.num_edges, *x.shape[1:])


@names_checked()
@takes_graph()
def gather_dst(graph: GraphLike | Adjacency, x: Tensor) -> Tensor:
    r"""Copies the values of the destination nodes to the edges: as `gather_src`, with x (N_dst, \*)."""
    adj = _adjacency(graph, x)
    check_num_rows("x", x, adj.num_dst, "destination node")
    return copy_dst(adj, x.reshape(len(x), x.shape[1:].numel())).reshape(adj.num_edges, *x.shape[1:])
