"""Batched graphs: the number of nodes of each graph, and the graph of each node or edge."""

import torch
from torch import Tensor

from gnnlib._platform.dgl import dgl
from gnnlib._utils.calls import names_checked
from gnnlib.graph._adjacency import Adjacency, CompressedRows
from gnnlib.graph._check import check_graph

__all__ = ["graph_index", "graph_sizes", "node_to_graph", "segments"]


@names_checked()
def graph_sizes(graph: dgl.DGLGraph) -> Tensor:
    """The number of destination nodes of each graph in a batch, (B,).

    Example:
        >>> from gnnlib.graph import graph_sizes
        >>> import dgl
        >>> graph_sizes(dgl.batch([dgl.graph(([0], [1])), dgl.graph(([0], [2]))])).tolist()
        [2, 3]
    """
    if not isinstance(graph, dgl.DGLGraph) or len(graph.ntypes) > 1:  # several edge types of one node type do
        check_graph("graph_sizes", graph)
    if graph.is_block:  # DGL raises on a block's batch sizes
        return torch.tensor([graph.num_dst_nodes()], device=graph.device)
    return graph.batch_num_nodes(graph.dsttypes[0])


@names_checked()
def node_to_graph(graph: dgl.DGLGraph, device: torch.device) -> Adjacency:
    """The bipartite adjacency of a batch, from every node to its graph: the structure that readouts aggregate over.

    Example:
        >>> from gnnlib.graph import node_to_graph
        >>> import dgl
        >>> node_to_graph(dgl.batch([dgl.graph(([0], [1])), dgl.graph(([0], [2]))]), "cpu").dst.tolist()
        [0, 0, 1, 1, 1]
    """
    return segments(graph_sizes(graph).to(device))


@names_checked()
def segments(sizes: Tensor) -> Adjacency:
    """The bipartite adjacency from every row to its segment, from the number of rows of each segment.

    Example:
        >>> import torch
        >>> from gnnlib.graph import segments
        >>> segments(torch.tensor([2, 0, 1])).dst.tolist()
        [0, 0, 2]
    """
    num_rows, num_segments, device = int(sizes.sum()), len(sizes), sizes.device
    rows = torch.arange(num_rows + 1, dtype=torch.int32, device=device)
    index = torch.repeat_interleave(torch.arange(num_segments, dtype=torch.int32, device=device), sizes)
    starts = torch.cat([sizes.new_zeros(1), sizes.cumsum(0)]).int()
    eid = rows[:-1]  # edge v runs from row v
    return Adjacency(
        num_rows, num_segments, eid, index, CompressedRows(starts, eid, eid), CompressedRows(rows, index, eid)
    )


@names_checked()
def graph_index(graph: dgl.DGLGraph, sizes: Tensor) -> Tensor:
    """The graph of each node or edge in a batch, from the number of nodes or edges of each graph.

    Example:
        >>> from gnnlib.graph import graph_index
        >>> import dgl
        >>> batch = dgl.batch([dgl.graph(([0], [1])), dgl.graph(([0, 1], [1, 0]))])
        >>> graph_index(batch, batch.batch_num_edges()).tolist()
        [0, 1, 1]
    """
    return torch.repeat_interleave(torch.arange(graph.batch_size, device=graph.device), sizes.to(graph.device))
