"""Subgraphs of chosen nodes: those between them (Cluster-GCN), and all their in-edges as a message-flow graph."""

from typing import Any

import torch
from torch import Tensor

from gnnlib._platform.dgl import dgl
from gnnlib._utils.calls import names_checked
from gnnlib._utils.indices import as_indices
from gnnlib.graph._adjacency import CompressedRows
from gnnlib.graph._build import makes_dgl, new_block, new_graph
from gnnlib.graph._check import check_one_node_set
from gnnlib.graph._convert import takes_graph
from gnnlib.graph._graph import EID, NID
from gnnlib.graph._structure import GraphLike, adjacency

__all__ = ["message_flow_graph", "node_subgraph", "to_bidirected"]


@names_checked()
@takes_graph()
def node_subgraph(graph: GraphLike, nodes: Tensor) -> GraphLike:
    """The subgraph of some nodes, in the order in which they are given, with node and edge frames.

    Edges are sorted by their source in that order, as ``dgl.node_subgraph`` sorts them. (`keep_nodes` keeps the order
    of nodes and edges, and the sizes of a batch.)

    Args:
        graph: homogeneous
        nodes: node numbers without repeats, or a mask

    Shapes:
        - nodes: (n,), or (N,) for a mask

    Returns:
        A new graph. ``ndata["_ID"]`` and ``edata["_ID"]`` are the numbers in the whole graph, as in DGL.

    Raises:
        ValueError: if the graph is a block or has two node types.
        TypeError: if the graph has several edge types.

    Example:
        >>> import torch
        >>> from gnnlib.graph import node_subgraph
        >>> import dgl
        >>> subgraph = node_subgraph(dgl.graph(([0, 1, 2], [1, 2, 0])), torch.tensor([2, 0]))
        >>> subgraph.edges()[0].tolist(), subgraph.ndata["_ID"].tolist(), subgraph.edata["_ID"].tolist()
        ([0], [2, 0], [2])
    """
    check_one_node_set("node_subgraph", graph)
    nodes = as_indices(nodes, graph.num_nodes(), "node_subgraph").to(graph.device)
    if makes_dgl(graph):
        return dgl.node_subgraph(graph, nodes.to(graph.idtype))
    position = torch.full((graph.num_nodes(),), -1)
    position[nodes] = torch.arange(len(nodes))
    src, dst, eid = _edges_of(adjacency(graph).csr, nodes)
    dst = position[dst]
    between = dst >= 0
    src, dst, eid = src[between], dst[between], eid[between]
    subgraph = new_graph(src, dst, len(nodes), like=graph)
    _copy_rows(graph.ndata, subgraph.ndata, nodes, NID, graph.idtype)
    _copy_rows(graph.edata, subgraph.edata, eid, EID, graph.idtype)
    return subgraph


@names_checked()
@takes_graph()
def message_flow_graph(graph: GraphLike, nodes: Tensor) -> GraphLike:
    """The message-flow graph (DGL block) of all in-edges of some nodes, with node and edge frames.

    Its destinations are the nodes in the order in which they are given. Its sources are these and then the others, in
    the order of the edges. Edges are sorted by destination, and then by their number in the graph.

    Args:
        graph: homogeneous
        nodes: node numbers without repeats, or a mask

    Shapes:
        - nodes: (n,), or (N,) for a mask

    Returns:
        The message-flow graph. ``srcdata["_ID"]``, ``dstdata["_ID"]`` and ``edata["_ID"]`` are the numbers in the
        graph, as in DGL.

    Raises:
        ValueError: if the graph is a block or has two node types.
        TypeError: if the graph has several edge types.

    Example:
        >>> import torch
        >>> from gnnlib.graph import message_flow_graph
        >>> import dgl
        >>> mfg = message_flow_graph(dgl.graph(([0, 1, 2], [1, 2, 0])), torch.tensor([2]))
        >>> mfg.srcdata["_ID"].tolist(), mfg.dstdata["_ID"].tolist(), mfg.edata["_ID"].tolist()
        ([2, 1], [2], [1])
    """
    check_one_node_set("message_flow_graph", graph)
    nodes = as_indices(nodes, graph.num_nodes(), "message_flow_graph").to(graph.device)
    if makes_dgl(graph):
        return _dgl_block(graph, nodes.to(graph.idtype))
    dst, src, eid = _edges_of(adjacency(graph).csc, nodes)
    src_nodes, src = _in_order(torch.cat([nodes, src]))
    block = new_block(src[len(nodes) :], dst, len(src_nodes), len(nodes), like=graph)
    _copy_rows(graph.ndata, block.srcdata, src_nodes, NID, graph.idtype)
    _copy_rows(graph.ndata, block.dstdata, nodes, NID, graph.idtype)
    _copy_rows(graph.edata, block.edata, eid, EID, graph.idtype)
    return block


def _dgl_block(graph: Any, nodes: Tensor) -> Any:
    subgraph = dgl.in_subgraph(graph, nodes)  # DGL's sampler would shuffle the edges, and so the order of sums
    block = dgl.to_block(subgraph, nodes)
    block.edata[EID] = subgraph.edata[EID][block.edata[EID].long()]
    return block


@names_checked()
@takes_graph()
def to_bidirected(graph: GraphLike) -> GraphLike:
    """The graph with each edge in both directions, without multi-edges and features, sorted by source and destination.

    It equals ``dgl.to_bidirected``.

    Args:
        graph: homogeneous

    Returns:
        A new graph.

    Raises:
        ValueError: if the graph is a block or has two node types.
        TypeError: if the graph has several edge types.

    Example:
        >>> from gnnlib.graph import to_bidirected
        >>> import dgl
        >>> [nodes.tolist() for nodes in to_bidirected(dgl.graph(([0, 0, 1], [1, 1, 2]))).edges()]
        [[0, 1, 1, 2], [1, 0, 2, 1]]
    """
    check_one_node_set("to_bidirected", graph)
    n = max(1, graph.num_nodes())
    src, dst = (nodes.long() for nodes in graph.edges())
    pairs = torch.cat([src * n + dst, dst * n + src]).unique()
    return new_graph(pairs // n, pairs % n, graph.num_nodes(), like=graph)


def _edges_of(rows: CompressedRows, nodes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of the edges of some rows, one row after the other: the position of the row in ``nodes``, the node at the other
    end, and the number of the edge."""
    starts, ends = rows.indptr[nodes].long(), rows.indptr[nodes + 1].long()
    sizes = ends - starts
    row = torch.repeat_interleave(torch.arange(len(nodes)), sizes)
    slot = torch.arange(len(row)) + (starts - sizes.cumsum(0) + sizes)[row]
    return row, rows.indices[slot].long(), rows.eid[slot].long()


def _in_order(nodes: Tensor) -> tuple[Tensor, Tensor]:
    """The different nodes in the order of their first appearance, and the place of each of ``nodes`` among them."""
    values, inverse = nodes.unique(return_inverse=True)
    first = torch.full_like(values, len(nodes)).scatter_reduce_(0, inverse, torch.arange(len(nodes)), "amin")
    order = first.argsort()
    return values[order], order.argsort()[inverse]


def _copy_rows(columns: Any, frame: Any, rows: Tensor, name: str, idtype: torch.dtype) -> None:
    for key, value in columns.items():
        frame[key] = value[rows.to(value.device)]
    frame[name] = rows.to(idtype)
