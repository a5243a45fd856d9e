"""Incidence graphs: edges as nodes, so that operations along edges are those over neighbours."""

from contextlib import nullcontext
from dataclasses import replace

import torch
from torch import Tensor

from gnnlib.graph import Adjacency, CompressedRows, GraphLike, adjacency, takes_graph
from gnnlib.graph._adjacency import constants, transforms_active
from gnnlib.ops.autograd.sums import DroppedSum, Sum

__all__ = ["incidence", "per_edge_messages"]


@takes_graph()
def incidence(graph: GraphLike | Adjacency, like: Tensor | None = None) -> tuple[Adjacency, Adjacency]:
    r"""Returns two graphs from the nodes of a graph to its edges: from sources, and from destinations.

    ``aggregate(from_src, x)`` copies the features of the sources to the edges, (N_src, \*, F) -> (E, \*, F).
    ``aggregate(from_dst.reverse(), m, reduce=...)`` is the sum, mean or maximum of edge values over the in-edges of
    each destination, (E, \*, F) -> (N_dst, \*, F). For values as wide as features both are faster than
    `gnnlib.ops.gather_src`, because the kernels read whole rows.

    Args:
        graph: a DGLGraph with one edge type, or a block
        like: the result is on the device of this tensor; None: on that of the graph

    Returns:
        the adjacency from sources to edges, and that from destinations to edges

    Example:
        >>> import torch
        >>> from gnnlib import aggregate
        >>> from gnnlib.ops.edges_as_nodes import incidence
        >>> import dgl
        >>> from_src, from_dst = incidence(dgl.graph(([0, 1], [2, 2])))
        >>> m = aggregate(from_src, torch.tensor([[1.0, 4.0], [3.0, 2.0], [0.0, 0.0]]))
        >>> m.tolist(), aggregate(from_dst.reverse(), m, reduce="max").tolist()
        ([[1.0, 4.0], [3.0, 2.0]], [[0.0, 0.0], [0.0, 0.0], [3.0, 4.0]])
    """
    adj = adjacency(graph, None if like is None else like.device)
    with constants() if transforms_active() else nullcontext():
        numbers = torch.arange(adj.num_edges + 1, dtype=torch.int32, device=adj.device)
        edge = numbers[:-1]

    def to_edges(node: Tensor, rows: CompressedRows, num_nodes: int) -> Adjacency:
        csc = CompressedRows(numbers, node, edge)
        return Adjacency(num_nodes, adj.num_edges, node, edge, csc, CompressedRows(rows.indptr, rows.eid, rows.eid))

    return to_edges(adj.src, adj.csr, adj.num_src), to_edges(adj.dst, adj.csc, adj.num_dst)


def per_edge_messages(adj: Adjacency, x: Tensor, always: bool = False) -> tuple[Tensor, Adjacency]:
    """Applies the message dropout of the adjacency to features, (N_src, \\*) -> (E, \\*) where it drops something.

    It serves operations that are more than a sum of messages; sums apply the dropout themselves (`DroppedSum`).

    Args:
        adj: the adjacency; ``adj.dropout`` is its message dropout, or None
        x: features of the source nodes
        always: makes one message per edge without dropout too

    Returns:
        the features and the adjacency to aggregate them over: (x, adj) as they are, or one row per edge
    """
    if adj.dropout is None and not always:
        return x, adj
    from_src, from_dst = incidence(adj)
    flat = x.reshape(len(x), 1, x.shape[1:].numel()).contiguous()
    if adj.dropout is None:
        messages = Sum.apply(flat, None, from_src, 1)
    else:
        messages = DroppedSum.apply(flat, None, replace(from_src, dropout=adj.dropout))
    return messages.view(adj.num_edges, *x.shape[1:]), from_dst.reverse()
