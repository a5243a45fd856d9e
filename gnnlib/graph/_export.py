"""Graphs for other libraries, from nodes and edges."""

from collections.abc import Mapping
from itertools import count
from typing import Any

import torch
from torch import Tensor

from gnnlib._platform.dgl import check_dgl, dgl
from gnnlib.graph._join import split
from gnnlib.graph._parts import HOMOGENEOUS, NETWORKX_SIZES, PYG_NAMES, Edges, Nodes, Parts

PYG_WORDS = "index", "batch"
PYG_RESERVED = {"adj", "adj_t", "face", "num_edges", "num_nodes", "ptr"}
"""Names, and parts of names, that PyG does not read as plain features."""

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
    from torch_geometric.data import Batch

    if parts.dst_nodes is not None:
        raise ValueError("Graph: expected a graph for to_pyg, got a message-flow graph, which PyG does not have")
    is_batch = any(nodes.sizes is not None for nodes in parts.nodes.values())
    names = _pyg_names(parts)
    graphs = [_to_data(graph, names) for graph in (split(parts) if is_batch else [parts])]
    data = Batch.from_data_list(graphs) if is_batch else graphs[0]
    changed = {kind: {key: name for name, key in keys.items() if key != name} for kind, keys in names.items()}
    vars(data)[PYG_NAMES] = {kind: keys for kind, keys in changed.items() if keys}
    return data


def _to_data(parts: Parts, names: Mapping[Any, Mapping[str, str]]) -> Any:
    from torch_geometric.data import Data, HeteroData

    data = Data() if list(parts.edges) == [HOMOGENEOUS] else HeteroData()
    for kind, nodes in parts.nodes.items():
        store = data if isinstance(data, Data) else data[kind]
        store.num_nodes = nodes.num
        _set_columns(store, nodes.columns, names[kind])
    for edge_type, edges in parts.edges.items():
        store = data if isinstance(data, Data) else data[edge_type]
        store.edge_index = torch.stack([edges.src, edges.dst]).long()
        _set_columns(store, edges.columns, names[edge_type])
    return data


def _set_columns(store: Any, columns: Mapping[str, Tensor], names: Mapping[str, str]) -> None:
    for name, value in columns.items():
        store[names[name]] = value  # no attribute: PyG hides those that start with an underscore


def _pyg_names(parts: Parts) -> dict[Any, dict[str, str]]:
    """PyG's names of the features of each type, by their names.

    PyG tells node features from edge features by their lengths and by "edge" in the name. It has conventions for other
    names: in a batch, it adds the number of nodes to a feature with "index" in its name. A feature with such a name, or
    with that of another, is called "node_feature_0" or "edge_feature_0".
    """
    rows: dict[Any, Nodes | Edges] = {**parts.nodes, **parts.edges}
    if list(parts.edges) != [HOMOGENEOUS]:
        keys = {kind: {name: name for name in rows[kind].columns} for kind in rows}
        return {kind: _without(PYG_WORDS, keys[kind], "edge" if kind in parts.edges else "node") for kind in rows}
    nodes, edges = (rows[kind].columns for kind in (HOMOGENEOUS[0], HOMOGENEOUS))
    return {
        HOMOGENEOUS[0]: _without((*PYG_WORDS, "edge"), {name: name for name in nodes}, "node"),
        HOMOGENEOUS: _without(PYG_WORDS, {name: name if "edge" in name else f"edge_{name}" for name in edges}, "edge"),
    }


def _without(words: tuple[str, ...], keys: Mapping[str, str], end: str) -> dict[str, str]:
    """Keys by name, with numbered ones in place of repetitions, and of those that PyG would read."""
    unique: dict[str, str] = {}
    for name, key in sorted(keys.items(), key=lambda item: item[0] != item[1]):
        if key in PYG_RESERVED or key in unique.values() or any(word in key for word in words):
            key = next(key for i in count() if (key := f"{end}_feature_{i}") not in {*keys.values(), *unique.values()})
        unique[name] = key
    return unique


def to_networkx(parts: Parts) -> Any:
    """A ``networkx.MultiDiGraph``: features are attributes, ``id`` is the number of an edge, and the batch sizes are
    attributes of the graph."""
    import networkx

    nodes, edges = _one_type("to_networkx", parts)
    if "id" in edges.columns:
        raise ValueError("Graph: expected no edge feature 'id' for to_networkx, where it is the number of an edge")
    graph = networkx.MultiDiGraph()
    if nodes.sizes is not None and edges.sizes is not None:
        graph.graph[NETWORKX_SIZES] = nodes.sizes.tolist(), edges.sizes.tolist()
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
    if weight not in (None, *edges.columns):
        raise ValueError(f"Graph: expected weight for to_scipy to be one of {list(edges.columns)}, got {weight!r}")
    values = torch.ones(len(edges.src)) if weight is None else edges.columns[weight]
    if values.dim() != 1:
        raise ValueError(f"Graph: expected edata[{weight!r}] of shape (E,) for to_scipy, got {tuple(values.shape)}")
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
