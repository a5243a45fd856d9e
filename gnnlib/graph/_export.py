"""Graphs for other libraries, from nodes and edges."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from gnnlib._platform.dgl import check_dgl, dgl
from gnnlib.graph._join import split
from gnnlib.graph._parts import HOMOGENEOUS, Edges, Nodes, Parts

__all__ = ["fill_dgl", "to_dgl", "to_networkx", "to_pyg", "to_scipy"]


def to_dgl(parts: Parts) -> Any:
    """A DGLGraph, or a message-flow graph (DGL block)."""
    check_dgl("Graph.to_dgl")
    pairs = {kind: (edges.src, edges.dst) for kind, edges in parts.edges.items()}
    counts = {kind: nodes.num for kind, nodes in parts.nodes.items()}
    if parts.dst_nodes is not None:
        graph = dgl.create_block(pairs, counts, {kind: n.num for kind, n in parts.dst_nodes.items()}, parts.idtype)
    elif list(pairs) == [HOMOGENEOUS]:
        graph = dgl.graph(pairs[HOMOGENEOUS], num_nodes=counts[HOMOGENEOUS[0]], idtype=parts.idtype)
    else:
        graph = dgl.heterograph(pairs, counts, idtype=parts.idtype)
    fill_dgl(graph, parts)
    return graph


def fill_dgl(graph: Any, parts: Parts) -> None:
    """Set the features and the batch sizes of a DGLGraph."""
    if parts.dst_nodes is None:
        frames = [(graph.nodes[kind].data, nodes.columns) for kind, nodes in parts.nodes.items()]
    else:
        frames = [(graph.srcnodes[kind].data, nodes.columns) for kind, nodes in parts.nodes.items()]
        frames += [(graph.dstnodes[kind].data, nodes.columns) for kind, nodes in parts.dst_nodes.items()]
    frames += [(graph.edges[kind].data, edges.columns) for kind, edges in parts.edges.items()]
    for frame, columns in frames:
        for name, value in columns.items():
            frame[name] = value

    def sizes(types: Mapping[Any, Any]) -> dict[Any, Tensor]:
        batch_sizes = {kind: rows.sizes for kind, rows in types.items() if rows.sizes is not None}
        return {kind: values.to(graph.device, graph.idtype) for kind, values in batch_sizes.items()}

    if num_nodes := sizes(parts.nodes):
        graph.set_batch_num_nodes(num_nodes)
        graph.set_batch_num_edges(sizes(parts.edges))


def to_pyg(parts: Parts) -> Any:
    """A Data of PyTorch Geometric, a Batch of several graphs, or a HeteroData of several types."""
    from torch_geometric.data import Batch, Data, HeteroData

    if parts.dst_nodes is not None:
        raise ValueError("Graph: expected a graph for to_pyg, got a message-flow graph, which PyG does not have")
    if list(parts.edges) == [HOMOGENEOUS]:
        graphs = []
        for nodes, edges in (_pair(graph) for graph in split(parts)):
            edge_index = torch.stack([edges.src, edges.dst]).long()
            columns = {name if "edge" in name else f"edge_{name}": value for name, value in edges.columns.items()}
            graphs.append(Data(edge_index=edge_index, num_nodes=nodes.num, **nodes.columns, **columns))
        return graphs[0] if parts.nodes[HOMOGENEOUS[0]].sizes is None else Batch.from_data_list(graphs)
    if any(nodes.sizes is not None for nodes in parts.nodes.values()):
        raise ValueError("Graph: expected a single graph with types for to_pyg, got a batch")
    data = HeteroData()
    for kind, nodes in parts.nodes.items():
        data[kind].num_nodes = nodes.num
        data[kind].update(nodes.columns)
    for edge_type, edges in parts.edges.items():
        data[edge_type].edge_index = torch.stack([edges.src, edges.dst]).long()
        data[edge_type].update(edges.columns)
    return data


def to_networkx(parts: Parts) -> Any:
    """A ``networkx.MultiDiGraph``: features are attributes, and ``id`` is the number of an edge."""
    import networkx

    nodes, edges = _one_type("to_networkx", parts)
    graph = networkx.MultiDiGraph()
    graph.add_nodes_from((v, {name: value[v] for name, value in nodes.columns.items()}) for v in range(nodes.num))
    graph.add_edges_from(
        (u, v, {"id": i, **{name: value[i] for name, value in edges.columns.items()}})
        for i, (u, v) in enumerate(zip(edges.src.tolist(), edges.dst.tolist(), strict=True))
    )
    return graph


def to_scipy(parts: Parts, weight: str | None = None) -> Any:
    """A ``scipy.sparse.coo_matrix`` with A[u, v] for the edge from u to v: a column of ``edata``, or 1."""
    import scipy.sparse

    (_, edges), (source, _, destination) = _pair(parts), next(iter(parts.edges))
    values = torch.ones(len(edges.src)) if weight is None else edges.columns[weight]
    dst_nodes = parts.nodes if parts.dst_nodes is None else parts.dst_nodes
    shape = parts.nodes[source].num, dst_nodes[destination].num
    data, src, dst = (tensor.detach().cpu().numpy() for tensor in (values, edges.src, edges.dst))
    return scipy.sparse.coo_matrix((data, (src, dst)), shape)


def _pair(parts: Parts) -> tuple[Nodes, Edges]:
    if len(parts.edges) != 1:
        raise ValueError(f"Graph: expected one edge type, graph[etype], got {list(parts.edges)}")
    return next(iter(parts.nodes.values())), next(iter(parts.edges.values()))


def _one_type(name: str, parts: Parts) -> tuple[Nodes, Edges]:
    if list(parts.edges) != [HOMOGENEOUS] or parts.dst_nodes is not None:
        raise ValueError(f"Graph: expected a graph with one node type for {name}, got {list(parts.edges)}")
    return _pair(parts)
