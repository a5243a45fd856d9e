"""Concatenated graphs in flat arrays, from which batches are gathered."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from gnnlib._platform.dgl import dgl
from gnnlib.graph import Adjacency, CompressedRows, Graph, GraphLike, edge_endpoints, makes_dgl, set_adjacency_factory
from gnnlib.graph._adjacency import INT32_MAX
from gnnlib.graph._parts import Edges, Nodes, Parts

if TYPE_CHECKING:
    from gnnlib.kernels.batching import Runs

__all__ = ["FlatGraphs", "index_type"]

Columns = dict[str, Tensor]


@dataclass(frozen=True, eq=False)
class FlatGraphs:
    """The concatenated frames and `Adjacency` arrays of G graphs, with nodes and edges of each graph numbered from 0.

    Such indices are small (two bytes if every graph has fewer than 2**15 nodes and edges). A batch is gathered by
    copying the slice of each selected graph from every array, and adding the new offset to the indices.

    Args:
        types: the canonical edge type
        idtype: of the graphs
        nodes, edges: (G + 1,) int64, the offsets of each graph's nodes and edges
        ndata, edata: the frames
        starts: (N,) of "csc" and "csr": indptr without its last element
        ends: (E,) "src", "dst" and, unless sorted by edge id, "csc indices" and "csc eid", "csr indices" and "csr eid"
        guard: called with the indices of graphs, (B,), before they are read; raises ValueError for damaged ones
    """

    types: tuple[str, str, str]
    idtype: torch.dtype
    nodes: Tensor
    edges: Tensor
    ndata: Columns
    edata: Columns
    starts: Columns
    ends: Columns
    guard: Callable[[np.ndarray], None] | None = None

    @staticmethod
    def of(graphs: Sequence[GraphLike]) -> "FlatGraphs":
        """From one or more graphs of equal types, index types and columns (of those that have rows)."""
        nodes, edges = _bounds([g.num_nodes() for g in graphs]), _bounds([g.num_edges() for g in graphs])
        first_node = torch.repeat_interleave(nodes[:-1].int(), edges.diff())
        src, dst = (torch.cat(nodes_of).int() + first_node for nodes_of in zip(*map(edge_endpoints, graphs)))
        ndata = _end_to_end([g.ndata for g in graphs if g.num_nodes()] or [graphs[0].ndata])
        edata = _end_to_end([g.edata for g in graphs if g.num_edges()] or [graphs[0].edata])
        return FlatGraphs._split(graphs[0], nodes, edges, src, dst, ndata, edata)

    @staticmethod
    def of_batch(graph: GraphLike, by: Sequence[str] | None = None) -> "FlatGraphs":
        """From the graphs of a batch. ``by`` lists the formats, "csc" and "csr", whose "indices" and "eid" are stored;
        None: those that are not sorted by edge id."""
        nodes, edges = _bounds(graph.batch_num_nodes().tolist()), _bounds(graph.batch_num_edges().tolist())
        src, dst = (nodes_of.int() for nodes_of in edge_endpoints(graph))
        return FlatGraphs._split(graph, nodes, edges, src, dst, dict(graph.ndata), dict(graph.edata), by)

    @staticmethod
    def _split(
        like: GraphLike,
        nodes: Tensor,
        edges: Tensor,
        src: Tensor,
        dst: Tensor,
        ndata: Columns,
        edata: Columns,
        by: Sequence[str] | None = None,
    ) -> "FlatGraphs":
        """From endpoints (E,) that are numbered across all graphs."""
        first_node, first_edge = (torch.repeat_interleave(b[:-1].int(), edges.diff()) for b in (nodes, edges))
        adj = Adjacency.from_edges(src, dst, int(nodes[-1]), int(nodes[-1]))
        edge_offset = torch.repeat_interleave(edges[:-1].int(), nodes.diff())
        in_order = torch.arange(len(src), dtype=torch.int32)
        starts, ends = {}, {"src": src - first_node, "dst": dst - first_node}
        for way, group in (("csc", adj.csc), ("csr", adj.csr)):
            starts[way] = group.indptr[:-1] - edge_offset
            if way in by if by is not None else not torch.equal(group.eid, in_order):
                ends[f"{way} indices"], ends[f"{way} eid"] = group.indices - first_node, group.eid - first_edge
        small = index_type(nodes, edges)
        return FlatGraphs(
            types=like.canonical_etypes[0],
            idtype=like.idtype,
            nodes=nodes,
            edges=edges,
            ndata=ndata,
            edata=edata,
            starts={name: value.to(small) for name, value in starts.items()},
            ends={name: value.to(small) for name, value in ends.items()},
        )

    def select(self, indices: np.ndarray) -> "FlatGraphs":
        """A copy of the graphs with these indices, (B,) int64."""
        nodes, edges = self._runs(indices)
        return replace(
            self,
            nodes=torch.from_numpy(nodes.place),
            edges=torch.from_numpy(edges.place),
            ndata=_cut(self.ndata, nodes),
            edata=_cut(self.edata, edges),
            starts=_cut(self.starts, nodes),
            ends=_cut(self.ends, edges),
            guard=None,
        )

    def node_features(self, indices: np.ndarray) -> Columns:
        """A copy of the node features of the graphs with these indices, (B,) int64."""
        return _cut(self.ndata, self._runs(indices)[0])

    def batch(self, indices: np.ndarray) -> GraphLike:
        """The graphs with these indices, (B,) int64, as one batched graph."""
        nodes, edges = self._runs(indices)
        return self._graph(nodes, edges, _cut(self.ndata, nodes), _cut(self.edata, edges))

    def batch_all(self) -> GraphLike:
        """All graphs as one batched graph, which shares the frames."""
        if self.guard is not None:
            self.guard(np.arange(len(self.nodes) - 1))
        nodes, edges = (_kernels().Runs.all(bounds.numpy()) for bounds in (self.nodes, self.edges))
        return self._graph(nodes, edges, self.ndata, self.edata)

    def check(self, indices: np.ndarray) -> None:
        """Checks the numbers of the graphs with these indices, (B,) int64, whose bounds are valid.

        Raises:
            ValueError: if the number of a node or of an edge is out of range, or CSC or CSR list other edges than COO
        """
        ends = {name: value.numpy() for name, value in self.ends.items()}
        bounds = self.nodes.numpy(), self.edges.numpy()
        for way, row, column in (("csc", "dst", "src"), ("csr", "src", "dst")):
            graph = _kernels().find_contradiction(
                *(indices, bounds, self.starts[way].numpy(), ends[row], ends[column]),
                *(ends.get(f"{way} {name}") for name in ("indices", "eid")),
            )
            if graph >= 0:
                raise ValueError(f"graph {graph}: expected the same edges in COO and {way.upper()}, got others")

    def _runs(self, indices: np.ndarray) -> "tuple[Runs, Runs]":
        if self.guard is not None:
            self.guard(indices)
        return _kernels().find_runs(indices, self.nodes.numpy(), self.edges.numpy())

    def _graph(self, nodes: "Runs", edges: "Runs", ndata: Columns, edata: Columns) -> GraphLike:
        structure = _Structure(self, nodes, edges)
        graph = (_dgl_batch if makes_dgl() else _batch)(structure, ndata, edata)
        set_adjacency_factory(graph, structure.adjacency)
        return graph


class _Structure:
    """The edges of a batch, each array of which is gathered at its first use."""

    def __init__(self, flat: FlatGraphs, nodes: "Runs", edges: "Runs"):
        self.flat, self.nodes, self.edges = flat, nodes, edges
        self.num_nodes, self.num_edges = int(nodes.place[-1]), int(edges.place[-1])
        self._ends: Columns = {}  # int32

    def sizes(self) -> tuple[Tensor, Tensor]:
        """The number of nodes and of edges of each graph."""
        num_nodes, num_edges = (torch.from_numpy(runs.size).to(self.flat.idtype) for runs in (self.nodes, self.edges))
        return num_nodes, num_edges

    def indptr(self, way: str, dtype: torch.dtype) -> Tensor:
        return _kernels().shift_runs(self.flat.starts[way], self.nodes, self.edges.place, dtype, closed=True)

    def gather(self, name: str, dtype: torch.dtype) -> Tensor:
        by = self.edges if name.endswith("eid") else self.nodes
        return _kernels().shift_runs(self.flat.ends[name], self.edges, by.place, dtype)

    def end(self, name: str) -> Tensor:
        if name not in self._ends:
            self._ends[name] = self.gather(name, torch.int32)
        return self._ends[name]

    def adjacency(self) -> Adjacency:
        if self.flat.guard is not None:  # time has passed
            self.flat.guard(np.empty(0, np.int64))
        csc, csr = self._rows("csc", "src"), self._rows("csr", "dst")
        return Adjacency(self.num_nodes, self.num_nodes, self.end("src"), self.end("dst"), csc, csr)

    def _rows(self, way: str, other: str) -> CompressedRows:
        indptr = self.indptr(way, torch.int32)
        if f"{way} eid" not in self.flat.ends:
            return CompressedRows(indptr, self.end(other), _count(self.num_edges))
        return CompressedRows(indptr, self.end(f"{way} indices"), self.end(f"{way} eid"))


def _batch(structure: _Structure, ndata: Columns, edata: Columns) -> Graph:
    kind, (num_nodes, num_edges) = structure.flat.types, structure.sizes()
    nodes = Nodes(structure.num_nodes, ndata, num_nodes)
    edges = Edges(structure.end("src"), structure.end("dst"), edata, num_edges)
    return Graph._from_parts(Parts({kind[0]: nodes}, {kind: edges}, idtype=structure.flat.idtype))


def _dgl_batch(structure: _Structure, ndata: Columns, edata: Columns) -> dgl.DGLGraph:
    (ntype, etype, _), idtype = structure.flat.types, structure.flat.idtype
    mixed = "csc eid" in structure.flat.ends  # else DGL expects an empty list of ids
    unit = dgl.heterograph_index.create_unitgraph_from_csr(
        1,
        structure.num_nodes,
        structure.num_nodes,
        structure.indptr("csc", idtype),
        structure.gather("csc indices" if mixed else "src", idtype),
        structure.gather("csc eid", idtype) if mixed else torch.empty(0, dtype=idtype),
        ["coo", "csr", "csc"],
        True,  # CSC
    )
    frames = dgl.frame.Frame(ndata, structure.num_nodes), dgl.frame.Frame(edata, structure.num_edges)
    graph = dgl.DGLGraph(unit, [ntype], [etype], *([frame] for frame in frames))
    num_nodes, num_edges = structure.sizes()
    graph.set_batch_num_nodes(num_nodes)
    graph.set_batch_num_edges(num_edges)
    return graph


@cache
def _kernels() -> ModuleType:
    from gnnlib.kernels import batching  # imports numba, which takes a while: on first use only

    return batching


def _cut(columns: Columns, runs: "Runs") -> Columns:
    return {name: _kernels().copy_runs(value, runs) for name, value in columns.items()}


def index_type(nodes: Tensor, edges: Tensor) -> torch.dtype:
    """What holds the numbers within each graph, where the bounds of all are (G + 1,)."""
    return torch.int16 if max(nodes.diff().max(), edges.diff().max()) < 2**15 else torch.int32


def _bounds(sizes: list[int]) -> Tensor:
    bounds = torch.tensor([0, *sizes]).cumsum(0)
    if bounds[-1] > INT32_MAX:
        raise ValueError(f"expected at most {INT32_MAX} nodes and edges in all, got {bounds[-1]}")
    return bounds


def _end_to_end(frames: list[Any]) -> Columns:
    return {name: torch.cat([frame[name].detach() for frame in frames]) for name in frames[0]}


def _count(num: int) -> Tensor:
    """0, 1, 2, ... as int32; batches of about the same size share the array, unless it is large."""
    return _count_to(1 << num.bit_length())[:num] if num < 2**20 else torch.arange(num, dtype=torch.int32)


@lru_cache(maxsize=4)
def _count_to(num: int) -> Tensor:
    return torch.arange(num, dtype=torch.int32)
