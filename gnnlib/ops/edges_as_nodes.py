"""Edges as nodes: what is computed along edges, by the operations there are for nodes."""

from dataclasses import replace

import torch
from torch import Tensor

from gnnlib.graph.adjacency import Adjacency, CompressedRows, Graph, adjacency
from gnnlib.ops.autograd.sums import DroppedSum, Sum

__all__ = ["incidence", "per_edge_messages"]


def incidence(graph: Graph, like: Tensor | None = None) -> tuple[Adjacency, Adjacency]:
    """Two graphs from the nodes of a graph to its edges: each edge hears its source, or each its destination.

    ``aggregate(from_src, x)`` copies to each edge what its source has, (N_src, \\*, F) -> (E, \\*, F);
    ``aggregate(from_dst.reverse(), m, reduce=...)`` sums, or takes the mean or maximum of, what the in-edges of each
    destination have, (E, \\*, F) -> (N_dst, \\*, F). For values as wide as features this is faster than
    `gnnlib.ops.message_passing.gather_src`, because the kernels walk whole rows.

    Args:
        graph: a DGLGraph with one edge type, or a block
        like: on the device of this tensor; None: on that of the graph

    >>> from gnnlib import aggregate
    >>> from gnnlib._platform.dgl import dgl
    >>> from_src, from_dst = incidence(dgl.graph(([0, 1], [2, 2])))
    >>> m = aggregate(from_src, torch.tensor([[1.0, 4.0], [3.0, 2.0], [0.0, 0.0]]))
    >>> m.tolist(), aggregate(from_dst.reverse(), m, reduce="max").tolist()
    ([[1.0, 4.0], [3.0, 2.0]], [[0.0, 0.0], [0.0, 0.0], [3.0, 4.0]])
    """
    adj = adjacency(graph, None if like is None else like.device)
    each = torch.arange(adj.num_edges + 1, dtype=torch.int32, device=adj.device)

    def hears(end: Tensor, sent: CompressedRows, num_nodes: int) -> Adjacency:
        heard = CompressedRows(each, end, each[:-1])
        return Adjacency(
            num_nodes, adj.num_edges, end, each[:-1], heard, CompressedRows(sent.indptr, sent.eid, sent.eid)
        )

    return hears(adj.src, adj.csr, adj.num_src), hears(adj.dst, adj.csc, adj.num_dst)


def per_edge_messages(adj: Adjacency, x: Tensor, each: bool = False) -> tuple[Tensor, Adjacency]:
    """Features and neighbours such that each edge hears what ``nb.drop`` leaves of x on its way. Where it takes
    something, or with ``each``, each message is a source of its own: (N_src, \\*) -> (E, \\*).

    For what is more than a sum of messages; sums need not make them: `DroppedSum`.
    """
    if adj.drop is None and not each:
        return x, adj
    from_src, from_dst = incidence(adj)
    flat = x.reshape(len(x), 1, x.shape[1:].numel()).contiguous()
    if adj.drop is None:
        messages = Sum.apply(flat, None, from_src, 1)
    else:
        messages = DroppedSum.apply(flat, None, replace(from_src, drop=adj.drop))
    return messages.view(adj.num_edges, *x.shape[1:]), from_dst.reverse()
