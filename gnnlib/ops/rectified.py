"""Sums, means and maxima over neighbours of messages after a ReLU."""

from torch import Tensor

from gnnlib.graph import Adjacency, GraphLike, adjacency, check_num_rows, takes_graph
from gnnlib.ops.autograd.rectified import RectifiedMeanMax, RectifiedSum
from gnnlib.ops.degrees import degree_factors
from gnnlib.ops.edges_as_nodes import per_edge_messages

__all__ = ["rectified_mean_max", "rectified_sum"]


@takes_graph("a")
def rectified_mean_max(
    graph: GraphLike | Adjacency, a: Tensor, b: Tensor, edge: Tensor | None = None, weight: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    r"""The mean and the maximum of the messages m_uv = max(0, a_u + b_v + e_uv C) over the edges u->v into v.

    A linear layer on both ends and the edge, [x_u, x_v, e_uv] M, gives such messages, with two products per node and
    none per edge. On the CPU no message is stored: the backward pass computes them again. With a gradient for the
    edge features all messages are stored, as for second derivatives. Of equal messages the maximum is the
    first one, in the order of edge ids.

    Args:
        graph: a DGLGraph with one edge type, or a block
        a: features of the source nodes
        b: features of the destination nodes
        edge: the edge features e, a few per edge; None: none
        weight: C; None where ``edge`` is None

    Shapes:
        - a: (N_src, \*, F)
        - b: (N_dst, \*, F)
        - edge: (E, D)
        - weight: (D, F)
        - output: (N_dst, \*, F), twice

    Returns:
        The mean and the maximum. A node without in-edges gets 0.

    Raises:
        TypeError: if values are integers
        ValueError: if a number of rows is wrong or widths do not fit

    Example:
        >>> import torch
        >>> from gnnlib.ops.rectified import rectified_mean_max
        >>> import dgl
        >>> a, b = torch.tensor([[1.0, -5.0], [3.0, 2.0], [0.0, 0.0]]), torch.ones(3, 2)
        >>> mean, top = rectified_mean_max(dgl.graph(([0, 1], [2, 2])), a, b)
        >>> mean[2].tolist(), top[2].tolist()
        ([3.0, 1.5], [4.0, 3.0])
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
    share = degree_factors(adj, "right", "unweighted", a.dtype)[1]
    mean, top = RectifiedMeanMax.apply(flat_a, flat_b, edge.to(a).contiguous(), c.to(a), share, adj)
    return mean.view(b.shape), top.view(b.shape)


@takes_graph()
def rectified_sum(graph: GraphLike | Adjacency, x: Tensor, edge: Tensor, coeff: Tensor | None = None) -> Tensor:
    r"""y_v = sum over edges u->v of b_uv max(0, x_u + e_uv).

    The messages of GINE (Hu et al. 2020, arXiv 1905.12265). Edge features are as wide as node features. On the CPU no
    message is stored; the backward pass writes the gradient of the edge features only.

    Args:
        graph: a DGLGraph with one edge type, or a block
        x: features of the source nodes
        edge: edge features
        coeff: b, a number per edge; None: 1

    Shapes:
        - x: (N_src, \*, F)
        - edge: (E, F)
        - coeff: (E,)
        - output: (N_dst, \*, F)

    Returns:
        The sums. A node without in-edges gets 0.

    Raises:
        TypeError: if values are integers
        ValueError: if a number of rows is wrong or widths do not fit

    Example:
        >>> import torch
        >>> from gnnlib.ops.rectified import rectified_sum
        >>> import dgl
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
    return RectifiedSum.apply(flat, e.contiguous(), coeff.contiguous(), adj).view(adj.num_dst, *x.shape[1:])
