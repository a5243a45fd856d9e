"""Graph structure: adjacency in CSC and CSR, batch sizes, and transforms that keep frames and batches."""

from gnnlib.graph._adjacency import Adjacency, CompressedRows, MessageDropout
from gnnlib.graph._batch import batch, graph_index, graph_sizes, node_to_graph, segments, unbatch
from gnnlib.graph._build import makes_dgl, new_bipartite, new_block, new_graph
from gnnlib.graph._convert import as_dgl, as_graph, is_graph, takes_graph, takes_graphs
from gnnlib.graph._graph import EID, ETYPE, NID, NTYPE, Frame, Graph
from gnnlib.graph._relations import relation_graph
from gnnlib.graph._structure import (
    GraphLike,
    adjacency,
    check_num_rows,
    edge_endpoints,
    prepare,
    set_adjacency_factory,
    with_message_dropout,
)
from gnnlib.graph._subgraphs import message_flow_graph, node_subgraph, to_bidirected
from gnnlib.graph.transforms import add_edges, add_self_loop, keep_edges, keep_nodes, remove_links, reverse

__all__ = [
    "Adjacency",
    "CompressedRows",
    "EID",
    "ETYPE",
    "Frame",
    "Graph",
    "GraphLike",
    "NID",
    "NTYPE",
    "MessageDropout",
    "add_edges",
    "add_self_loop",
    "adjacency",
    "as_dgl",
    "as_graph",
    "batch",
    "check_num_rows",
    "edge_endpoints",
    "graph_index",
    "graph_sizes",
    "is_graph",
    "keep_edges",
    "keep_nodes",
    "makes_dgl",
    "message_flow_graph",
    "new_bipartite",
    "new_block",
    "new_graph",
    "node_subgraph",
    "node_to_graph",
    "prepare",
    "relation_graph",
    "remove_links",
    "reverse",
    "segments",
    "set_adjacency_factory",
    "takes_graph",
    "takes_graphs",
    "to_bidirected",
    "unbatch",
    "with_message_dropout",
]
