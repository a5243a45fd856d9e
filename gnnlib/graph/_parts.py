"""Nodes and edges of graphs of any kind: edge lists, DGL, PyTorch Geometric, sparse matrices, networkx."""

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from gnnlib._platform.dgl import dgl

__all__ = [
    "BIPARTITE",
    "HOMOGENEOUS",
    "NETWORKX_SIZES",
    "OUT_OF_RANGE",
    "PYG_NAMES",
    "EdgeType",
    "Edges",
    "Nodes",
    "Parts",
    "as_node_numbers",
    "dgl_endpoints",
    "dgl_formats",
    "graph_kind",
    "not_a_graph",
    "parts_of",
]

EdgeType = tuple[str, str, str]
HOMOGENEOUS: EdgeType = ("_N", "_E", "_N")
BIPARTITE: EdgeType = ("src", "to", "dst")
SPARSE_FORMATS = {torch.sparse_coo: "COO", torch.sparse_csr: "CSR", torch.sparse_csc: "CSC"}


class Nodes(NamedTuple):
    """The nodes of a type: their number, their features by name, and how many each graph of a batch has."""

    num: int
    columns: Mapping[str, Tensor] = {}
    sizes: Tensor | None = None


class Edges(NamedTuple):
    """The edges of a type, in the order of their ids: endpoints, features by name, and how many each graph of a batch
    has."""

    src: Tensor
    dst: Tensor
    columns: Mapping[str, Tensor] = {}
    sizes: Tensor | None = None


class Parts(NamedTuple):
    """A graph: its nodes by type, its edges by type, and the destinations of a message-flow graph by type."""

    nodes: Mapping[str, Nodes]
    edges: Mapping[EdgeType, Edges]
    dst_nodes: Mapping[str, Nodes] | None = None
    idtype: torch.dtype = torch.int64

    def without_columns(self) -> "Parts":
        """The same nodes and edges without features."""

        def bare(types: Any) -> Any:
            return {kind: rows._replace(columns={}) for kind, rows in types.items()}

        dst_nodes = None if self.dst_nodes is None else bare(self.dst_nodes)
        return Parts(bare(self.nodes), bare(self.edges), dst_nodes, self.idtype)


def parts_of(data: Any, num_nodes: Any = None) -> Parts:
    """The nodes and edges of a graph, as `Graph` takes it.

    Raises:
        TypeError: if ``data`` is no graph, or nodes are no integers
        ValueError: if nodes are out of range, or sources and destinations differ in number
    """
    kind = graph_kind(data)
    if kind is None:
        raise TypeError(not_a_graph(data))
    if kind in COUNTED:
        return COUNTED[kind](data, num_nodes)
    if num_nodes is not None:
        raise TypeError(f"expected num_nodes with a pair, an edge_index or a mapping, got it with {_name(data)}")
    return READERS[kind](data)


def graph_kind(data: Any) -> str | None:
    """Which kind of graph an object is; None if it is none.

    Example:
        >>> import torch
        >>> from gnnlib.graph._parts import graph_kind
        >>> graph_kind(torch.tensor([[0], [1]])), graph_kind(([0], [1])), graph_kind(None)
        ('edge_index', 'pair', None)
    """
    if isinstance(data, Tensor):
        return "edge_index" if data.layout is torch.strided else "torch.sparse"
    if isinstance(data, dgl.DGLGraph):
        return "dgl"
    for base in type(data).__mro__:
        package = base.__module__.partition(".")[0]
        if package in ("networkx", "scipy"):
            return package
        if package == "torch_geometric" and base.__name__ in ("Data", "HeteroData"):
            return f"torch_geometric.{base.__name__}"
    if isinstance(data, np.ndarray):
        return "edge_index"
    if isinstance(data, Mapping):
        return "mapping"
    # A list of two graphs is no pair: a stack takes a list of message-flow graphs.
    if isinstance(data, (tuple, list)) and len(data) == 2 and all(_is_numbers(end) for end in data):
        return "pair"
    return None


def _is_numbers(end: Any) -> bool:
    if isinstance(end, (list, tuple, range)):
        return all(isinstance(node, (int, np.integer)) for node in end[:1])
    return isinstance(end, (Tensor, np.ndarray))


def not_a_graph(data: Any) -> str:
    """What is expected in place of an object of no kind."""
    return (
        "expected a graph: a pair (src, dst), an edge_index of shape (2, E), or a graph of DGL, PyTorch Geometric, "
        f"networkx, SciPy or torch.sparse, got {_name(data)}"
    )


def _name(data: Any) -> str:
    kind = type(data)
    return "None" if data is None else f"{kind.__module__}.{kind.__name__}".removeprefix("builtins.")


# Edge lists


def _from_edge_index(edge_index: Any, num_nodes: Any) -> Parts:
    edge_index = torch.as_tensor(edge_index)
    if edge_index.dim() != 2 or edge_index.shape[0] != 2:
        transposed = ", edge_index.t()" if edge_index.dim() == 2 and edge_index.shape[1] == 2 else ""
        raise ValueError(f"expected an edge_index of shape (2, E){transposed}, got {tuple(edge_index.shape)}")
    return _from_pair((edge_index[0], edge_index[1]), num_nodes)


def _from_pair(pair: Any, num_nodes: Any) -> Parts:
    src, dst = (as_node_numbers(end).clone() for end in pair)  # which a change of the original does not reach
    if len(src) != len(dst):
        raise ValueError(f"expected one source and one destination per edge, got {len(src)} and {len(dst)}")
    if isinstance(num_nodes, (tuple, list)):
        source, _, destination = BIPARTITE
        num_src, num_dst = num_nodes
        nodes = {source: Nodes(_count(num_src, "source", src)), destination: Nodes(_count(num_dst, "destination", dst))}
        return Parts(nodes, {BIPARTITE: Edges(src, dst)})
    return Parts({HOMOGENEOUS[0]: Nodes(_count(num_nodes, "node", src, dst))}, {HOMOGENEOUS: Edges(src, dst)})


def _from_mapping(data: Mapping[Any, Any], num_nodes: Any) -> Parts:
    if not data:
        raise ValueError("expected an edge type or more, got an empty mapping")
    ends: dict[str, list[Tensor]] = {}
    edges = {}
    for edge_type, pair in data.items():
        if not (isinstance(edge_type, tuple) and len(edge_type) == 3):
            raise TypeError(f"expected edge types (source type, name, destination type), got {edge_type!r}")
        src, dst = (as_node_numbers(end).clone() for end in pair)  # which a change of the original does not reach
        if len(src) != len(dst):
            raise ValueError(
                f"{edge_type}: expected one source and one destination per edge, got {len(src)}, {len(dst)}"
            )
        edges[edge_type] = Edges(src, dst)
        ends.setdefault(edge_type[0], []).append(src)
        ends.setdefault(edge_type[2], []).append(dst)
    counts = dict(num_nodes or {})
    types = sorted({*ends, *counts})
    return Parts({kind: Nodes(_count(counts.get(kind), kind, *ends.get(kind, []))) for kind in types}, edges)


def as_node_numbers(end: Any) -> Tensor:
    """Node numbers, (E,): a tensor, an array or a list of any integer type."""
    nodes = torch.as_tensor(end)
    if nodes.numel() == 0:
        nodes = nodes.long()
    if nodes.is_floating_point() or nodes.is_complex() or nodes.dtype == torch.bool:
        raise TypeError(f"expected nodes as integers, edge_index.long(), got {nodes.dtype}")
    if nodes.dim() != 1:
        raise ValueError(f"expected nodes of shape (E,), got {tuple(nodes.shape)}")
    return nodes.detach()


OUT_OF_RANGE = re.compile("^expected (node|source|destination)s from 0 to ")


def _count(num: Any, name: str, *ends: Tensor) -> int:
    """The number of nodes, at least one more than the largest number."""
    limits = [nodes.aminmax() for nodes in ends if len(nodes)]
    low, high = min((int(low) for low, _ in limits), default=0), max((int(high) for _, high in limits), default=-1)
    if num is None:
        num = high + 1
    if not isinstance(num, (int, np.integer)) or isinstance(num, bool) or num < 0:
        raise ValueError(f"expected the number of {name}s, 0 or more, got {num!r}")
    if low < 0 or high >= num:
        raise ValueError(f"expected {name}s from 0 to {num - 1}, got {low if low < 0 else high}")
    return int(num)


# Other libraries


class Formats(NamedTuple):
    """A sparse format that a DGLGraph has, and all those that it may have."""

    created: str
    allowed: list[str]


def dgl_formats(graph: Any) -> Formats:
    """The formats of a DGLGraph, stored with its structure: on Python 3.13, DGL takes 0.2 ms to name them."""
    structure = graph._graph
    formats = getattr(structure, "_gnnlib_formats", None)
    if formats is None:
        names = graph.formats()
        created = "coo" if "coo" in names["created"] else names["created"][0]
        formats = structure._gnnlib_formats = Formats(created, [*names["created"], *names["not created"]])
    return formats


def dgl_endpoints(graph: Any) -> tuple[Tensor, Tensor]:
    """The endpoints of a DGLGraph with one edge type by edge id, from a sparse format that it already has."""
    structure = graph._graph
    endpoints = getattr(structure, "_gnnlib_endpoints", None)
    if endpoints is not None:
        return endpoints
    created = dgl_formats(graph).created
    if created == "coo":
        structure._gnnlib_endpoints = graph.edges(order="eid")  # DGL's own memory
        return structure._gnnlib_endpoints
    indptr, columns, eid = graph.adj_tensors(created)
    rows = _rows(indptr).to(columns.dtype)
    if len(eid) == len(columns):  # DGL returns no ids if the edges are already sorted by them
        order = eid.long()
        columns = torch.empty_like(columns).index_copy_(0, order, columns)
        rows = torch.empty_like(rows).index_copy_(0, order, rows)
    return (columns, rows) if created == "csc" else (rows, columns)


def _from_dgl(graph: Any) -> Parts:
    """The frames are read without DGL's views, which would take most of the time of a small graph."""
    kinds, is_batch = graph.canonical_etypes, graph._batch_num_nodes is not None and graph.batch_size > 1

    def nodes(types: list[str], frames: Any) -> dict[str, Nodes]:
        sizes = [graph.batch_num_nodes(kind) if is_batch else None for kind in types]
        return {kind: Nodes(frame.num_rows, dict(frame), n) for kind, frame, n in zip(types, frames, sizes)}

    def edges(kind: EdgeType, frame: Any) -> Edges:
        src, dst = dgl_endpoints(graph) if len(kinds) == 1 else graph.edges(order="eid", etype=kind)
        return Edges(src, dst, dict(frame), graph.batch_num_edges(kind) if is_batch else None)

    of_type = {kind: edges(kind, frame) for kind, frame in zip(kinds, graph._edge_frames)}
    idtype = next(iter(of_type.values())).src.dtype
    if not graph.is_block:
        return Parts(nodes(graph.ntypes, graph._node_frames), of_type, idtype=idtype)
    num_types = len(graph.srctypes)
    sources = nodes(graph.srctypes, graph._node_frames[:num_types])
    return Parts(sources, of_type, nodes(graph.dsttypes, graph._node_frames[num_types:]), idtype)


PYG_NAMES = "_gnnlib_names"
"""Attribute of a Data from `to_pyg`: by node and edge type, the names of the features that PyG has under others."""

PYG_KEYS = "edge_index", "batch", "ptr"
"""What is no feature."""


def _from_pyg(data: Any) -> Parts:
    if data.edge_index is None:
        adj = ", or its adj_t as the graph" if "adj_t" in data else ""
        raise ValueError(f"expected a Data with edges in edge_index{adj}, got the keys {list(data.keys())}")
    num_nodes, num_edges = data.num_nodes, data.edge_index.shape[1]
    edges = _from_edge_index(data.edge_index, num_nodes).edges[HOMOGENEOUS]
    names, kind, keys = vars(data).get(PYG_NAMES, {}), HOMOGENEOUS[0], data.keys()
    of_nodes = {key: data[key] for key in keys if data.is_node_attr(key)}
    of_edges = {key: data[key] for key in keys if data.is_edge_attr(key)}
    node_columns = _pyg_columns(of_nodes, num_nodes, names.get(kind, {}))
    edge_columns = _pyg_columns(of_edges, num_edges, names.get(HOMOGENEOUS, {}))
    node_sizes = edge_sizes = None
    if getattr(data, "ptr", None) is not None and data.batch is not None:
        node_sizes = data.ptr.diff()
        edge_sizes = torch.bincount(data.batch[data.edge_index[0]], minlength=len(node_sizes))
    return Parts(
        {kind: Nodes(num_nodes, node_columns, node_sizes)},
        {HOMOGENEOUS: edges._replace(columns=edge_columns, sizes=edge_sizes)},
    )


def _pyg_columns(features: Mapping[str, Any], rows: int, names: Mapping[str, str]) -> dict[str, Tensor]:
    """The attributes that are tensors with a row for each node or edge, under their names before `to_pyg`."""
    columns = {key: value for key, value in features.items() if key not in PYG_KEYS and _has_rows(value, rows)}
    others = columns.keys() - names.keys()  # where one has the name of a column now, the column keeps PyG's
    return {names[key] if key in names and names[key] not in others else key: columns[key] for key in columns}


def _has_rows(value: Any, rows: int) -> bool:
    return isinstance(value, Tensor) and value.layout is torch.strided and value.dim() > 0 and len(value) == rows


def _from_hetero_data(data: Any) -> Parts:
    if not all("edge_index" in store for store in data.edge_stores) or not data.edge_types:
        raise ValueError(f"expected a HeteroData with an edge_index of each edge type, got the types {data.edge_types}")
    counts = {store._key: store.num_nodes for store in data.node_stores}
    parts = _from_mapping({store._key: store.edge_index for store in data.edge_stores}, counts)
    names = vars(data).get(PYG_NAMES, {})

    def columns(store: Any, rows: int) -> dict[str, Tensor]:
        return _pyg_columns(dict(store.items()), rows, names.get(store._key, {}))

    def node_sizes(store: Any) -> Tensor | None:
        return store.ptr.diff() if "ptr" in store else None

    nodes = {s._key: Nodes(counts[s._key], columns(s, counts[s._key]), node_sizes(s)) for s in data.node_stores}
    edges = {}
    for store in data.edge_stores:
        pair, sizes = parts.edges[store._key], nodes[store._key[0]].sizes
        if sizes is not None:
            sizes = torch.bincount(data[store._key[0]].batch[pair.src.long()], minlength=len(sizes))
        edges[store._key] = pair._replace(columns=columns(store, len(pair.src)), sizes=sizes)
    return Parts(nodes, edges)


NETWORKX_SIZES = "gnnlib_batch_sizes"
"""Attribute of a graph from `to_networkx`: numbers of nodes and numbers of edges of the graphs of a batch."""


def _from_torch_sparse(matrix: Tensor) -> Parts:
    if matrix.layout not in SPARSE_FORMATS or matrix.dim() != 2:
        formats = ", ".join(SPARSE_FORMATS.values())
        raise ValueError(f"expected a sparse matrix ({formats}), got {matrix.layout} of shape {tuple(matrix.shape)}")
    matrix = matrix.detach()  # whose parts refer to it
    if matrix.layout is torch.sparse_coo:
        (src, dst), values = matrix._indices(), matrix._values()
    elif matrix.layout is torch.sparse_csr:
        src, dst, values = _rows(matrix.crow_indices()), matrix.col_indices(), matrix.values()
    else:
        src, dst, values = matrix.row_indices(), _rows(matrix.ccol_indices()), matrix.values()
    return _from_matrix(src, dst, values, matrix.shape)


def _rows(indptr: Tensor) -> Tensor:
    return torch.repeat_interleave(torch.arange(len(indptr) - 1, device=indptr.device), indptr.diff().long())


def _from_scipy(matrix: Any) -> Parts:
    coo = matrix.tocoo()
    return _from_matrix(torch.from_numpy(coo.row), torch.from_numpy(coo.col), torch.from_numpy(coo.data), coo.shape)


def _from_matrix(src: Tensor, dst: Tensor, values: Tensor, shape: Any) -> Parts:
    """Of a square matrix, or of a rectangular one, whose rows are the sources of a bipartite graph."""
    parts = _from_pair((src, dst), shape[0] if shape[0] == shape[1] else tuple(shape))
    ((kind, edges),) = parts.edges.items()
    return parts._replace(edges={kind: edges._replace(columns={"weight": values})})


def _from_networkx(graph: Any) -> Parts:
    """Nodes in the order of the graph, edges in that of their attribute ``id``, or of the graph without it.

    An undirected edge is two, as in ``graph.to_directed()``. Attributes that are numbers or tensors become features.
    Batch sizes are those of `to_networkx`, unless the number of nodes or of edges has changed.
    """
    number = {node: i for i, node in enumerate(graph)}
    edges = list((graph if graph.is_directed() else graph.to_directed()).edges(data=True))
    numbers = [attributes.get("id") for _, _, attributes in edges]
    if all(isinstance(i, int) for i in numbers) and sorted(numbers) == list(range(len(edges))):
        edges.sort(key=lambda edge: edge[2]["id"])
    src, dst = torch.tensor([(number[u], number[v]) for u, v, _ in edges], dtype=torch.int64).reshape(-1, 2).t()
    pair = _from_pair((src, dst), len(number)).edges[HOMOGENEOUS]
    features = {name: values for name, values in _columns([edge[2] for edge in edges]).items() if name != "id"}
    node_sizes, edge_sizes = graph.graph.get(NETWORKX_SIZES, ([], []))
    if (sum(node_sizes), sum(edge_sizes)) != (len(number), len(edges)):
        node_sizes = edge_sizes = []
    sizes = [torch.tensor(values) if values else None for values in (node_sizes, edge_sizes)]
    nodes = Nodes(len(number), _columns([graph.nodes[node] for node in graph]), sizes[0])
    return Parts({HOMOGENEOUS[0]: nodes}, {HOMOGENEOUS: pair._replace(columns=features, sizes=sizes[1])})


def _columns(rows: list[Mapping[str, Any]]) -> dict[str, Tensor]:
    """The attributes that all rows have, as numbers or as tensors of one shape."""
    columns = {}
    for name in rows[0] if rows else ():
        values: list[Any] = [row.get(name) for row in rows]
        if all(isinstance(value, Tensor) and value.shape == values[0].shape for value in values):
            columns[name] = torch.stack(values)
        elif all(isinstance(value, (int, float)) for value in values):
            columns[name] = torch.tensor(values)
    return columns


COUNTED: dict[str, Callable[[Any, Any], Parts]] = {
    "edge_index": _from_edge_index,
    "pair": _from_pair,
    "mapping": _from_mapping,
}
"""Readers of edges without their number of nodes."""

READERS: dict[str, Callable[[Any], Parts]] = {
    "dgl": _from_dgl,
    "torch.sparse": _from_torch_sparse,
    "torch_geometric.Data": _from_pyg,
    "torch_geometric.HeteroData": _from_hetero_data,
    "scipy": _from_scipy,
    "networkx": _from_networkx,
}
