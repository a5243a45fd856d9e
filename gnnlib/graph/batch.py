"""Batches of graphs: the size of each graph, and which graph each node or edge belongs to."""

import torch
from torch import Tensor

from gnnlib._platform.dgl import dgl
from gnnlib.graph.adjacency import Adjacency, CompressedRows

__all__ = ["graph_sizes", "node_to_graph", "graph_index"]


def graph_sizes(graph: dgl.DGLGraph) -> Tensor:
    """(B,) number of destination nodes of each graph in a batch."""
    if graph.is_block:  # DGL raises on a block's batch sizes
        return torch.tensor([graph.num_dst_nodes()], device=graph.device)
    return graph.batch_num_nodes(graph.dsttypes[0])


def node_to_graph(graph: dgl.DGLGraph, device: torch.device) -> Adjacency:
    """Every node with one edge to the graph it belongs to: what readouts aggregate over."""
    sizes = graph_sizes(graph).to(device)
    num_nodes, num_graphs = int(sizes.sum()), len(sizes)
    node = torch.arange(num_nodes, dtype=torch.int32, device=device)
    owner = torch.repeat_interleave(torch.arange(num_graphs, dtype=torch.int32, device=device), sizes)
    starts = torch.cat([sizes.new_zeros(1), sizes.cumsum(0)]).int()
    each = torch.arange(num_nodes + 1, dtype=torch.int32, device=device)
    return Adjacency(
        num_nodes, num_graphs, node, owner, CompressedRows(starts, node, node), CompressedRows(each, owner, node)
    )


def graph_index(graph: dgl.DGLGraph, sizes: Tensor) -> Tensor:
    """Which graph of the batch each edge or node belongs to, from the sizes of each."""
    return torch.repeat_interleave(torch.arange(graph.batch_size, device=graph.device), sizes.to(graph.device))
