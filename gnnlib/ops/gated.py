"""Gated sums over neighbours: each feature of each message has a gate (Bresson and Laurent 2017, arXiv 1711.07553)."""

from torch import Tensor

from gnnlib.graph import Adjacency, GraphLike, adjacency, takes_graph
from gnnlib.ops.autograd.gated import GatedSum
from gnnlib.ops.edges_as_nodes import per_edge_messages

__all__ = ["gated_sum"]


@takes_graph()
def gated_sum(graph: GraphLike | Adjacency, x: Tensor, e: Tensor, epsilon: float | None = None) -> Tensor:
    r"""y_v = sum over edges u->v of sigmoid(e_uv) x_u, feature by feature.

    On the CPU no message is stored. The gates are saved for the backward pass.

    Args:
        graph: a DGLGraph with one edge type, or a block
        x: features of the source nodes
        e: logits of the gates
        epsilon: divides y_v by the sum of its gates plus epsilon; None: no division

    Shapes:
        - x: (N_src, \*, F)
        - e: (E, \*, F)
        - output: (N_dst, \*, F)

    Returns:
        The sums. A node without in-edges gets 0.

    Example:
        >>> import torch
        >>> from gnnlib.ops.gated import gated_sum
        >>> import dgl
        >>> x = torch.tensor([[1.0, 6.0], [3.0, 2.0], [0.0, 0.0]])
        >>> gated_sum(dgl.graph(([0, 1], [2, 2])), x, torch.tensor([[0.0, 100.0], [0.0, -100.0]])).tolist()
        [[0.0, 0.0], [0.0, 0.0], [2.0, 6.0]]
    """
    flat_x, flat_e = (value.reshape(len(value), value.shape[1:].numel()).contiguous() for value in (x, e))
    flat_x, adj = per_edge_messages(adjacency(graph, x.device), flat_x)
    return GatedSum.apply(flat_x, flat_e, adj, epsilon).view(adj.num_dst, *x.shape[1:])
