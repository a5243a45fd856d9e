"""Shortcuts: edges to the nodes within k hops, and virtual nodes."""

import numpy as np
import torch
from torch import Tensor

from gnnlib._utils.calls import names_checked
from gnnlib.analysis.smoothing.base import adjacency_matrix, check_graph
from gnnlib.graph import GraphLike, edge_endpoints, graph_index, new_graph, takes_graph
from gnnlib.nn._arguments import integer
from gnnlib.rewiring._rewire import check_fill, extend

__all__ = ["add_k_hop_edges", "add_virtual_node"]


@names_checked()
@takes_graph()
def add_k_hop_edges(graph: GraphLike, k: int, *, fill: float | None = None) -> GraphLike:
    """Edges from each node to all nodes that are at most k edges away (Abu-El-Haija et al. 2019, MixHop, arXiv
    1905.00067, uses the same neighbourhoods; Bruel-Gabrielsson et al. 2022, arXiv 2201.12674, section 3, rewires by
    them).

    The other edges stay, and there are no new self-loops.

    Args:
        graph: a whole graph or a batch; edges may have directions
        k: number of edges
        fill: the features of new edges

    Returns:
        A new graph.

    Raises:
        ValueError: for a graph with two node sets, or edges with features where ``fill`` is None

    Example:
        >>> from gnnlib.rewiring import add_k_hop_edges
        >>> import dgl
        >>> path = dgl.graph(([0, 1, 2], [1, 2, 3]))
        >>> [end.tolist() for end in add_k_hop_edges(path, 2).edges()]
        [[0, 1, 2, 0, 1], [1, 2, 3, 2, 3]]
    """
    check_graph(graph)
    check_fill("add_k_hop_edges", graph, fill)
    step = adjacency_matrix(graph).tocsr() > 0
    within = step
    for _ in range(integer("add_k_hop_edges", "k", k) - 1):
        within = within + within @ step
    new = (within > step).tocoo()
    other = new.row != new.col
    return extend(graph, np.stack([new.row[other], new.col[other]], 1).astype(np.int64), fill)


@names_checked()
@takes_graph()
def add_virtual_node(graph: GraphLike, *, fill: float | None = None) -> GraphLike:
    """A virtual node in each graph, with edges from and to all nodes (Gilmer et al. 2017, arXiv 1704.01212, section
    5.2), as the transform ``VirtualNode`` of PyTorch Geometric.

    The virtual node follows the other nodes of its graph. Its features are 0. Its edges follow the other edges: first
    those from it. Any two nodes of a graph are then at most two edges apart. (`gnnlib.VirtualNode` has the virtual node
    in the model and not in the graph.)

    Args:
        graph: a whole graph or a batch
        fill: the features of new edges

    Returns:
        A new graph, with as many more nodes as there are graphs.

    Raises:
        ValueError: for a graph with two node sets, or edges with features where ``fill`` is None

    Example:
        >>> import torch
        >>> from gnnlib.rewiring import add_virtual_node
        >>> import dgl
        >>> g = dgl.batch([dgl.graph(([0], [1])), dgl.graph(([], []), num_nodes=1)])
        >>> g.ndata["x"] = torch.ones(3, 1)
        >>> g = add_virtual_node(g)
        >>> g.batch_num_nodes().tolist(), g.batch_num_edges().tolist(), g.ndata["x"].flatten().tolist()
        ([3, 2], [5, 2], [1.0, 1.0, 0.0, 1.0, 0.0])
    """
    check_graph(graph)
    check_fill("add_virtual_node", graph, fill)
    graph_of_node = graph_index(graph, graph.batch_num_nodes())
    nodes = torch.arange(graph.num_nodes(), device=graph.device) + graph_of_node
    graphs = torch.arange(graph.batch_size, device=graph.device)
    virtual = graph.batch_num_nodes().to(graph.device).cumsum(0) + graphs
    larger = _with_more_nodes(graph, nodes)
    hub = virtual[graph_of_node]
    order = torch.argsort(torch.cat([graph_of_node, graph_of_node]), stable=True)
    edges = torch.stack([torch.cat([hub, nodes]), torch.cat([nodes, hub])], 1)[order]
    return extend(larger, edges.cpu().numpy(), fill)


def _with_more_nodes(graph: GraphLike, nodes: Tensor) -> GraphLike:
    """The graph with a node more in each graph of the batch, where its nodes have these numbers."""
    total = graph.num_nodes() + graph.batch_size
    src, dst = (nodes[end.long()] for end in edge_endpoints(graph))
    larger = new_graph(src, dst, total, like=graph)
    for name, value in graph.ndata.items():
        larger.ndata[name] = value.new_zeros(total, *value.shape[1:]).index_copy(0, nodes.to(value.device), value)
    for name, value in graph.edata.items():
        larger.edata[name] = value
    if graph.batch_size > 1:
        larger.set_batch_num_nodes(graph.batch_num_nodes() + 1)
        larger.set_batch_num_edges(graph.batch_num_edges())
    return larger
