"""A graph in PyTorch alone, with the methods of a DGLGraph."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from gnnlib._utils.calls import names_checked
from gnnlib.graph._export import fill_dgl, to_dgl, to_networkx, to_pyg, to_scipy
from gnnlib.graph._parts import Edges, EdgeType, Nodes, Parts, parts_of

__all__ = ["EID", "ETYPE", "NID", "NTYPE", "Frame", "Graph"]

NID = EID = "_ID"
"""The column of original node and edge numbers in a subgraph or a message-flow graph, as ``dgl.NID``, ``dgl.EID``."""

NTYPE = ETYPE = "_TYPE"
"""The column of node and edge types in a graph without types, as ``dgl.NTYPE``, ``dgl.ETYPE``."""


class Frame(dict[str, Tensor]):
    """Features of nodes or edges by name: tensors with one row per node or edge.

    Example:
        >>> import torch
        >>> from gnnlib import Graph
        >>> graph = Graph(([0, 1], [1, 2]))
        >>> graph.ndata["feat"] = torch.ones(3, 8)
        >>> list(graph.ndata)
        ['feat']
    """

    def __init__(self, num_rows: int, kind: str, columns: Mapping[str, Tensor] | None = None):
        super().__init__()
        self.num_rows, self.kind = num_rows, kind
        self.update(columns or {})

    def __setitem__(self, name: str, value: Tensor) -> None:
        if not isinstance(value, Tensor):
            raise TypeError(f"{self.kind}[{name!r}]: expected a tensor, got {type(value).__name__}")
        if value.dim() == 0 or len(value) != self.num_rows:
            raise ValueError(f"{self.kind}[{name!r}]: expected {self.num_rows} rows, got shape {tuple(value.shape)}")
        super().__setitem__(name, value)

    def update(self, columns: Any = (), /, **more: Tensor) -> None:
        """Add or replace columns."""
        for name, value in {**dict(columns), **more}.items():
            self[name] = value

    def copy(self) -> "Frame":
        """Another frame with the same tensors."""
        return Frame(self.num_rows, self.kind, self)

    def to(self, device: torch.device) -> "Frame":
        """The frame on a device."""
        return Frame(self.num_rows, self.kind, {name: value.to(device) for name, value in self.items()})

    def __reduce__(self) -> tuple[Any, ...]:
        return Frame, (self.num_rows, self.kind, dict(self))


@dataclass(eq=False)
class _Nodes:
    """The nodes of a type."""

    num: int
    frame: Frame
    sizes: Tensor | None = None

    def copy(self) -> "_Nodes":
        return _Nodes(self.num, self.frame.copy(), self.sizes)

    def to(self, device: torch.device) -> "_Nodes":
        return _Nodes(self.num, self.frame.to(device), _move(self.sizes, device))


class _Structure(SimpleNamespace):
    """What carries the cached adjacency of edges, and can be referred to weakly."""


@dataclass(eq=False)
class _Edges:
    """The edges of a type. The cache of their adjacency, ``structure``, is shared by copies of the graph."""

    src: Tensor
    dst: Tensor
    frame: Frame
    sizes: Tensor | None = None
    structure: _Structure = field(default_factory=_Structure)

    @property
    def num(self) -> int:
        return len(self.src)

    def copy(self) -> "_Edges":
        return _Edges(self.src, self.dst, self.frame.copy(), self.sizes, self.structure)

    def to(self, device: torch.device) -> "_Edges":
        return _Edges(self.src.to(device), self.dst.to(device), self.frame.to(device), _move(self.sizes, device))


def _move(sizes: Tensor | None, device: torch.device) -> Tensor | None:
    return None if sizes is None else sizes.to(device)


class _View:
    """``graph.nodes`` and ``graph.edges``: a call returns numbers, and an index by type a view with ``data``."""

    def __init__(self, numbers: Callable[..., Any], rows: Callable[[Any], Any]):
        self._numbers, self._rows = numbers, rows

    def __call__(self, *args: Any, **options: Any) -> Any:
        return self._numbers(*args, **options)

    def __getitem__(self, kind: Any) -> SimpleNamespace:
        return SimpleNamespace(data=self._rows(kind).frame)


@names_checked()
class Graph:
    """A graph in PyTorch alone: edges, features, batch sizes and types, with the methods of a ``dgl.DGLGraph``.

    Layers, norms, readouts, measures, `Stack`, `fit` and `GraphStore` take it in place of a DGLGraph. They also take
    whatever this constructor takes: the conversion runs once, and again if the object changes.

    Edges keep their order, and parallel edges and self-loops stay. Edges of a Graph cannot change, features can. The
    adjacency is computed at its first use and stored with the edges.

    Args:
        data: one of

            - a pair (src, dst) of tensors, arrays or lists of integers, or both as an ``edge_index`` (2, E)
            - a mapping from edge types (source type, name, destination type) to such pairs
            - a DGLGraph or a message-flow graph (DGL block); the order is that of the edge ids
            - ``Data``, ``Batch`` or ``HeteroData`` of PyTorch Geometric
            - a sparse matrix of PyTorch (COO, CSR, CSC) or SciPy, A[u, v] for the edge from u to v, in the order of its
              storage; its values are ``edata["weight"]``. A rectangular matrix is a bipartite graph
            - a graph of networkx; an undirected edge is two directed ones
        num_nodes: of a pair, the number of nodes, or (sources, destinations) of a bipartite graph; of a mapping, a dict
            by type; None: the largest number plus one
        ndata: node features by name, where there is one node type
        edata: edge features by name, where there is one edge type
        batch_num_nodes: number of nodes of each graph in a batch
        batch_num_edges: number of edges of each graph in a batch

    Raises:
        TypeError: if ``data`` is none of these, or nodes are no integers
        ValueError: if nodes are out of range, sources and destinations differ in number, or features in rows

    Example:
        >>> import torch
        >>> from gnnlib import GCNConv, Graph
        >>> graph = Graph(([0, 1, 2], [1, 2, 0]), ndata={"feat": torch.ones(3, 8)})
        >>> graph
        Graph(num_nodes=3, num_edges=3, ndata=['feat'], edata=[])
        >>> GCNConv(8, 4)(graph, graph.ndata["feat"]).shape
        torch.Size([3, 4])
        >>> Graph(torch.tensor([[0, 1], [1, 2]]), num_nodes=5).num_nodes()
        5
    """

    label: Any
    label_map: Any

    def __init__(
        self,
        data: Any,
        num_nodes: Any = None,
        *,
        ndata: Mapping[str, Tensor] | None = None,
        edata: Mapping[str, Tensor] | None = None,
        batch_num_nodes: Any = None,
        batch_num_edges: Any = None,
    ):
        try:
            parts = data._parts() if isinstance(data, Graph) else parts_of(data, num_nodes)
        except (TypeError, ValueError) as error:
            raise type(error)(f"Graph: {error}") from None
        self._fill(parts)
        if ndata is not None:
            self.ndata.update(ndata)
        if edata is not None:
            self.edata.update(edata)
        if batch_num_nodes is not None:
            self.set_batch_num_nodes(batch_num_nodes)
        if batch_num_edges is not None:
            self.set_batch_num_edges(batch_num_edges)

    def _fill(self, parts: Parts) -> None:
        def nodes(name: str, types: Mapping[str, Nodes]) -> dict[str, _Nodes]:
            return {kind: _Nodes(n.num, Frame(n.num, name, n.columns), n.sizes) for kind, n in types.items()}

        self._src = nodes("ndata" if parts.dst_nodes is None else "srcdata", parts.nodes)
        self._dst = self._src if parts.dst_nodes is None else nodes("dstdata", parts.dst_nodes)
        self._edges = {
            kind: _Edges(e.src, e.dst, Frame(len(e.src), "edata", e.columns), e.sizes)
            for kind, e in parts.edges.items()
        }
        self.idtype = parts.idtype

    @classmethod
    def _from_parts(cls, parts: Parts) -> "Graph":
        """From valid nodes and edges, which are not checked."""
        graph = cls.__new__(cls)
        graph._fill(parts)
        return graph

    @classmethod
    def _of(
        cls, src: dict[str, _Nodes], dst: dict[str, _Nodes], edges: dict[EdgeType, _Edges], like: "Graph"
    ) -> "Graph":
        graph = cls.__new__(cls)
        graph._src, graph._dst, graph._edges, graph.idtype = src, dst, edges, like.idtype
        return graph

    def _parts(self) -> Parts:
        def nodes(types: dict[str, _Nodes]) -> dict[str, Nodes]:
            return {kind: Nodes(n.num, dict(n.frame), n.sizes) for kind, n in types.items()}

        edges = {kind: Edges(e.src, e.dst, dict(e.frame), e.sizes) for kind, e in self._edges.items()}
        return Parts(nodes(self._src), edges, nodes(self._dst) if self.is_block else None, self.idtype)

    # Types

    @property
    def canonical_etypes(self) -> list[EdgeType]:
        """The edge types, as (source type, name, destination type)."""
        return list(self._edges)

    @property
    def etypes(self) -> list[str]:
        """The names of the edge types."""
        return [name for _, name, _ in self._edges]

    @property
    def ntypes(self) -> list[str]:
        """The node types; of a message-flow graph those of the sources, then those of the destinations."""
        return [*self._src, *self._dst] if self.is_block else list(self._src)

    @property
    def srctypes(self) -> list[str]:
        """The types of the sources, or all types if a type is at both ends of edges."""
        return self._end_types(0) if self._is_bipartite else list(self._src)

    @property
    def dsttypes(self) -> list[str]:
        """The types of the destinations, or all types if a type is at both ends of edges."""
        return self._end_types(2) if self._is_bipartite else list(self._dst)

    @property
    def _is_bipartite(self) -> bool:
        return not self.is_block and not set(self._end_types(0)) & set(self._end_types(2))

    def _end_types(self, end: int) -> list[str]:
        return list(dict.fromkeys(kind[end] for kind in self._edges))

    @property
    def is_block(self) -> bool:
        """Whether it is a message-flow graph: one whose sources and destinations have features of their own."""
        return self._dst is not self._src

    @property
    def is_homogeneous(self) -> bool:
        """Whether there is one node type and one edge type."""
        return len(self._edges) == 1 and len(self._src) == 1 and not self.is_block

    def __getitem__(self, etype: str | EdgeType) -> "Graph":
        """The graph of one edge type, with the same features and the same cached adjacency."""
        kind = self._edge_type(etype)
        src = {kind[0]: self._src[kind[0]]}
        dst = {kind[2]: self._dst[kind[2]]}
        if not self.is_block:
            src = dst = {**src, **dst}
        return self._of(src, dst, {kind: self._edges[kind]}, self)

    def _edge_type(self, etype: Any = None) -> EdgeType:
        kinds = [kind for kind in self._edges if etype in (None, kind, kind[1])]
        if len(kinds) == 1:
            return kinds[0]
        raise ValueError(f"Graph: expected one of the edge types {self.canonical_etypes}, got {etype!r}")

    def _one(self, nodes: dict[str, _Nodes], types: list[str], ntype: Any = None) -> _Nodes:
        if ntype is None and len(types) == 1:
            return nodes[types[0]]
        if ntype in nodes:
            return nodes[ntype]
        raise ValueError(f"Graph: expected one of the node types {types}, got {ntype!r}")

    def _rows(self, ntype: Any = None) -> _Nodes:
        if self.is_block:
            raise ValueError("Graph: expected srcdata or dstdata of a message-flow graph, got ndata")
        return self._one(self._src, self.ntypes, ntype)

    # Nodes and edges

    def num_nodes(self, ntype: str | None = None) -> int:
        """The number of nodes, of a type or of all."""
        if ntype is not None:
            return self._rows(ntype).num
        return sum(nodes.num for nodes in (*self._src.values(), *(self._dst.values() if self.is_block else ())))

    def num_src_nodes(self, ntype: str | None = None) -> int:
        """The number of sources, of a type or of all."""
        return sum(self._src[kind].num for kind in self.srctypes if ntype in (None, kind))

    def num_dst_nodes(self, ntype: str | None = None) -> int:
        """The number of destinations, of a type or of all."""
        return sum(self._dst[kind].num for kind in self.dsttypes if ntype in (None, kind))

    def num_edges(self, etype: str | EdgeType | None = None) -> int:
        """The number of edges, of a type or of all."""
        return (
            sum(edges.num for edges in self._edges.values())
            if etype is None
            else self._edges[self._edge_type(etype)].num
        )

    @property
    def nodes(self) -> _View:
        """``graph.nodes()`` are the node numbers, ``graph.nodes[ntype].data`` are the features of a type."""
        return _View(
            lambda ntype=None: torch.arange(self._rows(ntype).num, dtype=self.idtype, device=self.device), self._rows
        )

    @property
    def edges(self) -> _View:
        """``graph.edges()`` are the endpoints by edge id, ``graph.edges[etype].data`` are the features of a type."""
        return _View(self._endpoints, lambda etype: self._edges[self._edge_type(etype)])

    def _endpoints(self, form: str = "uv", order: str = "eid", etype: Any = None) -> Any:
        edges = self._edges[self._edge_type(etype)]
        src, dst = edges.src.to(self.idtype), edges.dst.to(self.idtype)
        if form not in ("uv", "eid", "all"):
            raise ValueError(f"Graph: expected form 'uv', 'eid' or 'all', got {form!r}")
        if order not in ("eid", "srcdst"):
            raise ValueError(f"Graph: expected order 'eid' or 'srcdst', got {order!r}")
        if order == "eid" and form == "uv":
            return src, dst
        eid = torch.arange(edges.num, dtype=self.idtype, device=self.device)
        if order == "srcdst":
            eid = (src * max(1, self.num_dst_nodes()) + dst).argsort(stable=True).to(self.idtype)
            src, dst = src[eid.long()], dst[eid.long()]
        return {"uv": (src, dst), "eid": eid, "all": (src, dst, eid)}[form]

    def in_degrees(self, v: int | Sequence[int] | Tensor | None = None) -> Any:
        """The number of in-edges of the destinations v, or of all; a number for one node."""
        return self._degrees("dst", self.num_dst_nodes(), v)

    def out_degrees(self, u: int | Sequence[int] | Tensor | None = None) -> Any:
        """The number of out-edges of the sources u, or of all; a number for one node."""
        return self._degrees("src", self.num_src_nodes(), u)

    def _degrees(self, end: str, num: int, nodes: int | Sequence[int] | Tensor | None) -> Any:
        degrees = torch.bincount(getattr(self._edges[self._edge_type()], end), minlength=num).to(self.idtype)
        if nodes is None:
            return degrees
        index = torch.as_tensor(nodes, device=self.device)
        if index.numel() and not (index.min() >= 0 and index.max() < num):
            raise IndexError(f"Graph: expected nodes 0 to {num - 1}, got {index.min()} to {index.max()}")
        return degrees[index.long()] if index.dim() else int(degrees[index])

    # Features

    @property
    def ndata(self) -> Frame:
        """Node features by name, where there is one node type."""
        return self._rows().frame

    @property
    def srcdata(self) -> Frame:
        """Features of the sources by name, where they have one type."""
        return self._one(self._src, self.srctypes).frame

    @property
    def dstdata(self) -> Frame:
        """Features of the destinations by name, where they have one type."""
        return self._one(self._dst, self.dsttypes).frame

    @property
    def edata(self) -> Frame:
        """Edge features by name, where there is one edge type."""
        return self._edges[self._edge_type()].frame

    # Batches

    @property
    def batch_size(self) -> int:
        """The number of graphs in a batch; 1 for a single graph."""
        sizes = next((nodes.sizes for nodes in self._src.values()), None)
        return 1 if sizes is None else len(sizes)

    def batch_num_nodes(self, ntype: str | None = None) -> Tensor:
        """The number of nodes of each graph in a batch, (B,)."""
        return self._sizes(self._rows(ntype))

    def batch_num_edges(self, etype: str | EdgeType | None = None) -> Tensor:
        """The number of edges of each graph in a batch, (B,)."""
        return self._sizes(self._edges[self._edge_type(etype)])

    def _sizes(self, rows: Any) -> Tensor:
        sizes = torch.tensor([rows.num]) if rows.sizes is None else rows.sizes
        return sizes.to(self.device, self.idtype)

    def set_batch_num_nodes(self, sizes: Any) -> None:
        """Set the number of nodes of each graph in a batch, (B,), or a dict by type."""
        types = sizes.items() if isinstance(sizes, Mapping) else [(None, sizes)]
        for ntype, values in types:
            rows = self._rows(ntype)
            rows.sizes = _checked_sizes(values, rows.num, "nodes")

    def set_batch_num_edges(self, sizes: Any) -> None:
        """Set the number of edges of each graph in a batch, (B,), or a dict by type."""
        types = sizes.items() if isinstance(sizes, Mapping) else [(None, sizes)]
        for etype, values in types:
            rows = self._edges[self._edge_type(etype)]
            rows.sizes = _checked_sizes(values, rows.num, "edges")

    # Copies

    @property
    def device(self) -> torch.device:
        """The device of the edges."""
        return next((edges.src.device for edges in self._edges.values()), torch.device("cpu"))

    def to(self, device: torch.device | str) -> "Graph":
        """The graph on a device; the graph itself if it is there."""
        device = torch.device(device)
        return self if device == self.device else self._copy(lambda rows: rows.to(device))

    def cpu(self) -> "Graph":
        """The graph on the CPU."""
        return self.to("cpu")

    def int(self) -> "Graph":
        """The graph with node numbers of int32."""
        return self._with_idtype(torch.int32)

    def long(self) -> "Graph":
        """The graph with node numbers of int64."""
        return self._with_idtype(torch.int64)

    def _with_idtype(self, idtype: torch.dtype) -> "Graph":
        graph = self.local_var()
        graph.idtype = idtype
        return graph

    def local_var(self) -> "Graph":
        """A copy that shares edges and features. Columns that are added to the copy are not in the graph."""
        return self._copy(lambda rows: rows.copy())

    @contextmanager
    def local_scope(self) -> Iterator[None]:
        """Columns that are added within a ``with`` block are removed at its end, and those replaced return."""
        rows_of: list[_Nodes | _Edges] = [*self._src.values(), *self._dst.values(), *self._edges.values()]
        frames = [(rows, rows.frame) for rows in rows_of]
        for rows, frame in frames:
            rows.frame = frame.copy()
        try:
            yield
        finally:
            for rows, frame in frames:
                rows.frame = frame

    def _copy(self, copy: Callable[[Any], Any]) -> "Graph":
        src = {kind: copy(nodes) for kind, nodes in self._src.items()}
        dst = {kind: copy(nodes) for kind, nodes in self._dst.items()} if self.is_block else src
        graph = self._of(src, dst, {kind: copy(edges) for kind, edges in self._edges.items()}, self)
        attributes = {name: value for name, value in vars(self).items() if name not in vars(graph)}
        vars(graph).update(attributes)  # label, label_map
        return graph

    # Other libraries

    def to_dgl(self) -> Any:
        """A ``dgl.DGLGraph``, or a message-flow graph (DGL block), with the same features and batch sizes.

        Its structure, with the formats that DGL computes, is stored with the edges.
        """
        parts = self._parts()
        if len(self._edges) > 1:
            return to_dgl(parts)
        structures = self._graph.__dict__.setdefault("_gnnlib_dgl", {})
        if self.idtype not in structures:
            structures[self.idtype] = to_dgl(parts.without_columns())
        graph = structures[self.idtype].local_var()
        fill_dgl(graph, parts)
        return graph

    def to_pyg(self) -> Any:
        """A ``Data`` of PyTorch Geometric, a ``Batch`` of several graphs, or a ``HeteroData`` of several types.

        Features keep their names: PyG's models expect the node features as ``x``. Without types, edge features get the
        prefix ``edge_`` if their names do not contain "edge", because PyG tells them from node features by it. Features
        with a name that has a meaning in PyG, such as ``num_nodes``, are ``node_feature_0`` or ``edge_feature_0``
        there. `Graph` of the result, or of its copy, has the names of before.
        """
        return to_pyg(self._parts())

    def to_networkx(self) -> Any:
        """A ``networkx.MultiDiGraph``, with features as attributes and the number of each edge as ``id``.

        `Graph` of the result has the same batch sizes.
        """
        return to_networkx(self._parts())

    def to_scipy(self, weight: str | None = None) -> Any:
        """A ``scipy.sparse.coo_matrix`` with A[u, v] for the edge from u to v.

        Args:
            weight: the column of ``edata`` whose values A has; None: 1
        """
        return to_scipy(self._parts(), weight)

    @property
    def _graph(self) -> Any:
        """What carries the cached adjacency, as the attribute of the same name of a DGLGraph."""
        return self._edges[self._edge_type()].structure

    def _with_new_cache(self) -> "Graph":
        """A copy whose adjacency is cached apart."""
        graph = self.local_var()
        for edges in graph._edges.values():
            edges.structure = _Structure()
        return graph

    if not TYPE_CHECKING:  # a type checker should report unknown names

        def __getattr__(self, name: str) -> Any:
            expected = "an attribute of a Graph, or graph.to_dgl() for those of a DGLGraph"
            raise AttributeError(f"Graph: expected {expected}, got {name}", name=name, obj=self)

    def __copy__(self) -> "Graph":
        return self.local_var()

    def __getstate__(self) -> dict[str, Any]:
        """Cached adjacencies are not pickled."""
        return vars(self._with_new_cache())

    def __repr__(self) -> str:
        if len(self._edges) == 1 and not self.is_block and len(self._src) == 1:
            nodes, columns = f"num_nodes={self.num_nodes()}", f"ndata={list(self.ndata)}"
        elif len(self._edges) == 1:
            nodes = f"num_src_nodes={self.num_src_nodes()}, num_dst_nodes={self.num_dst_nodes()}"
            columns = f"srcdata={list(self.srcdata)}, dstdata={list(self.dstdata)}"
        else:
            nodes = f"num_nodes={ ({kind: rows.num for kind, rows in self._src.items()}) }"
            return f"Graph({nodes}, num_edges={ ({kind: edges.num for kind, edges in self._edges.items()}) })"
        batch = f", batch_size={self.batch_size}" if self.batch_size > 1 else ""
        return f"Graph({nodes}, num_edges={self.num_edges()}{batch}, {columns}, edata={list(self.edata)})"


def _checked_sizes(sizes: Any, total: int, name: str) -> Tensor:
    values = torch.as_tensor(sizes)
    if values.dim() != 1 or values.is_floating_point() or int(values.sum()) != total:
        raise ValueError(f"Graph: expected batch sizes (B,) with the sum {total}, the number of {name}, got {sizes}")
    return values
