"""Graph structure: adjacency in CSC and CSR, batch sizes, and transforms that keep frames and batches."""

from gnnlib.graph._adjacency import (
    Adjacency,
    CompressedRows,
    Graph,
    MessageDropout,
    adjacency,
    check_num_rows,
    edge_endpoints,
    set_adjacency_factory,
    with_message_dropout,
)
from gnnlib.graph.batch import graph_index, graph_sizes, node_to_graph, segments
from gnnlib.graph.transforms import add_self_loop, keep_edges, keep_nodes, reverse

__all__ = [
    "Adjacency",
    "CompressedRows",
    "Graph",
    "MessageDropout",
    "add_self_loop",
    "adjacency",
    "check_num_rows",
    "edge_endpoints",
    "graph_index",
    "graph_sizes",
    "keep_edges",
    "keep_nodes",
    "node_to_graph",
    "reverse",
    "segments",
    "set_adjacency_factory",
    "with_message_dropout",
]
