"""Edges as nodes: what is computed along edges, by the operations there are for nodes."""

from dataclasses import replace

import torch
from torch import Tensor

from gnnlib.graph.adjacency import Compressed, Graph, Neighbors, neighbors
from gnnlib.ops.autograd.sums import DroppedSum, Sum

__all__ = ["incidence", "sent"]


def incidence(graph: Graph, like: Tensor | None = None) -> tuple[Neighbors, Neighbors]:
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
    nb = neighbors(graph, None if like is None else like.device)
    each = torch.arange(nb.num_edges + 1, dtype=torch.int32, device=nb.device)

    def hears(end: Tensor, sent: Compressed, num_nodes: int) -> Neighbors:
        heard = Compressed(each, end, each[:-1])
        return Neighbors(num_nodes, nb.num_edges, end, each[:-1], heard, Compressed(sent.indptr, sent.eid, sent.eid))

    return hears(nb.src, nb.csr, nb.num_src), hears(nb.dst, nb.csc, nb.num_dst)


def sent(nb: Neighbors, x: Tensor, each: bool = False) -> tuple[Tensor, Neighbors]:
    """Features and neighbours such that each edge hears what ``nb.drop`` leaves of x on its way. Where it takes
    something, or with ``each``, each message is a source of its own: (N_src, \\*) -> (E, \\*).

    For what is more than a sum of messages; sums need not make them: `DroppedSum`.
    """
    if nb.drop is None and not each:
        return x, nb
    from_src, from_dst = incidence(nb)
    flat = x.reshape(len(x), 1, x.shape[1:].numel()).contiguous()
    if nb.drop is None:
        messages = Sum.apply(flat, None, from_src, 1)
    else:
        messages = DroppedSum.apply(flat, None, replace(from_src, drop=nb.drop))
    return messages.view(nb.num_edges, *x.shape[1:]), from_dst.reverse()
