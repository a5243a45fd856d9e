"""Batched graphs: the number of nodes of each graph, and the graph of each node or edge."""

from collections.abc import Iterable

import torch
from torch import Tensor

from gnnlib._platform.dgl import dgl
from gnnlib._utils.calls import names_checked
from gnnlib.graph._adjacency import Adjacency, CompressedRows
from gnnlib.graph._check import check_graph
from gnnlib.graph._convert import is_graph, takes_graph
from gnnlib.graph._export import to_dgl
from gnnlib.graph._graph import Graph
from gnnlib.graph._join import join, split
from gnnlib.graph._parts import parts_of
from gnnlib.graph._structure import GraphLike

__all__ = ["batch", "graph_index", "graph_sizes", "node_to_graph", "segments", "unbatch"]


@names_checked()
def batch(graphs: Iterable[GraphLike]) -> GraphLike:
    """One graph of several, which follow each other, with their features, as ``dgl.batch``.

    Args:
        graphs: of any kind, with the same types and the same columns. A graph without nodes (edges) may lack the
            columns of nodes (edges)

    Returns:
        a DGLGraph if the first graph is one, else a `Graph`

    Raises:
        TypeError: if one of them is no graph
        ValueError: if there are none, or they differ in types, columns, type of node numbers or device

    Example:
        >>> from gnnlib import Graph
        >>> from gnnlib.graph import batch, unbatch
        >>> graph = batch([Graph(([0], [1])), Graph(([0, 1], [1, 2]))])
        >>> graph
        Graph(num_nodes=5, num_edges=3, batch_size=2, ndata=[], edata=[])
        >>> [one.num_edges() for one in unbatch(graph)]
        [1, 2]
    """
    graphs = list(graphs)
    try:
        joined = join([graph._parts() if isinstance(graph, Graph) else parts_of(graph) for graph in graphs])
    except (TypeError, ValueError) as error:
        raise type(error)(f"batch: {error}") from None
    return to_dgl(joined) if isinstance(graphs[0], dgl.DGLGraph) else Graph._from_parts(joined)


@names_checked()
@takes_graph()
def unbatch(graph: GraphLike) -> list[GraphLike]:
    """The graphs of a batch, with their features, as ``dgl.unbatch``.

    Args:
        graph: a batch

    Returns:
        DGLGraphs if the batch is one, else Graphs

    Raises:
        TypeError: if it is no graph
        ValueError: if the batch sizes of nodes and edges disagree

    Example:
        >>> from gnnlib import Graph
        >>> from gnnlib.graph import unbatch
        >>> graph = Graph(([0, 1], [1, 2]), batch_num_nodes=[2, 1], batch_num_edges=[1, 1])
        >>> [one.num_nodes() for one in unbatch(graph)]
        [2, 1]
    """
    if not is_graph(graph):
        check_graph("unbatch", graph)
    if isinstance(graph, Graph):
        return [Graph._from_parts(parts) for parts in split(graph._parts())]
    return [to_dgl(parts) for parts in split(parts_of(graph))]


@names_checked()
@takes_graph()
def graph_sizes(graph: GraphLike) -> Tensor:
    """The number of destination nodes of each graph in a batch, (B,).

    Example:
        >>> from gnnlib.graph import graph_sizes
        >>> import dgl
        >>> graph_sizes(dgl.batch([dgl.graph(([0], [1])), dgl.graph(([0], [2]))])).tolist()
        [2, 3]
    """
    if not is_graph(graph) or len(graph.ntypes) > 1:  # several edge types of one node type do
        check_graph("graph_sizes", graph)
    if graph.is_block:  # DGL raises on a block's batch sizes
        return torch.tensor([graph.num_dst_nodes()], device=graph.device)
    return graph.batch_num_nodes(graph.dsttypes[0])


@names_checked()
@takes_graph()
def node_to_graph(graph: GraphLike, device: torch.device) -> Adjacency:
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
@takes_graph()
def graph_index(graph: GraphLike, sizes: Tensor) -> Tensor:
    """The graph of each node or edge in a batch, from the number of nodes or edges of each graph.

    Example:
        >>> from gnnlib.graph import graph_index
        >>> import dgl
        >>> batch = dgl.batch([dgl.graph(([0], [1])), dgl.graph(([0, 1], [1, 0]))])
        >>> graph_index(batch, batch.batch_num_edges()).tolist()
        [0, 1, 1]
    """
    return torch.repeat_interleave(torch.arange(graph.batch_size, device=graph.device), sizes.to(graph.device))
