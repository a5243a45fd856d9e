"""Who receives from whom: the edges of a graph, grouped by destination and by source.

Every operation of the library walks these arrays. They are int32, built once per graph and device,
and kept as an attribute of the graph's structure (DGL's ``graph._graph``), which DGL replaces at
every edit and frees with the graph: so they are never stale and never outlive it.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from gnnlib import kernels
from gnnlib._platform.dgl import dgl

LIMIT = 2**31 - 1


class CompressedRows(NamedTuple):
    """Edges grouped by one of their ends.

    The edges of node ``v`` stand in slots ``indptr[v]`` to ``indptr[v + 1]``, in the order of their ids.

    Shapes: indptr (N + 1,), indices (E,), eid (E,), all int32.
    """

    indptr: Tensor
    indices: Tensor  # the other end of the edge in each slot
    eid: Tensor  # its edge id


class Drop(NamedTuple):
    """Which entries of the messages are kept: those whose hash, of the key, the edge and the column, is at least
    ``level``; and the factor that makes up for the others."""

    scale: float
    key: int
    level: int  # 2**32 times the share that is dropped

    @staticmethod
    def draw(p: float) -> "Drop":
        """A key from PyTorch's random numbers; each entry is dropped with probability p."""
        level = min(round(p * 2**32), 2**32 - 1)
        return Drop(1 / (1 - p) if p < 1 else 0.0, int(torch.randint(2**32, ())), level)


@dataclass(frozen=True, eq=False)
class Adjacency:
    """The edges of a graph three ways: as a list, by destination (CSC) and by source (CSR).

    >>> nb = adjacency(dgl.graph(([0, 2, 1], [1, 1, 0])))
    >>> nb.csc.indptr.tolist(), nb.csc.indices.tolist(), nb.csc.eid.tolist()
    ([0, 1, 3, 3], [1, 0, 2], [2, 0, 1])
    >>> nb.reverse().csc is nb.csr
    True
    """

    num_src: int
    num_dst: int
    src: Tensor  # (E,) int32, by edge id
    dst: Tensor
    csc: CompressedRows  # by destination: what a node receives
    csr: CompressedRows  # by source: what a node sends
    memo: dict[object, tuple[Tensor, int]] = field(default_factory=dict, repr=False)
    drop: Drop | None = None  # what messages lose on their way

    @staticmethod
    def from_edges(src: Tensor, dst: Tensor, num_src: int, num_dst: int) -> "Adjacency":
        """From the ends of every edge, listed by edge id (any integer dtype, any device).

        Raises: ValueError for ends out of range, or more than 2**31 - 1 nodes or edges.
        """
        if max(src.numel(), num_src, num_dst) > LIMIT:
            raise ValueError(
                f"expected at most {LIMIT} nodes and edges, got {num_src} sources, "
                f"{num_dst} destinations and {src.numel()} edges"
            )
        for name, ends, count in (("source", src, num_src), ("destination", dst, num_dst)):
            if len(ends) != len(src) or (len(ends) and not 0 <= int(ends.min()) <= int(ends.max()) < count):
                raise ValueError(
                    f"expected one {name} for each of {len(src)} edges, from 0 to {count - 1}, got {len(ends)} "
                    + (f"from {int(ends.min())} to {int(ends.max())}" if len(ends) else "")
                )
        src, dst = src.int(), dst.int()
        return Adjacency(num_src, num_dst, src, dst, _group(dst, src, num_dst), _group(src, dst, num_src))

    @property
    def num_edges(self) -> int:
        return self.src.numel()

    @property
    def device(self) -> torch.device:
        return self.src.device

    @property
    def in_degrees(self) -> Tensor:
        """(num_dst,) int32"""
        return self.csc.indptr.diff()

    @property
    def out_degrees(self) -> Tensor:
        """(num_src,) int32"""
        return self.csr.indptr.diff()

    def reverse(self) -> "Adjacency":
        """The same edges with their ends exchanged; costs nothing."""
        return Adjacency(self.num_dst, self.num_src, self.dst, self.src, self.csr, self.csc, drop=self.drop)

    def to(self, device: torch.device) -> "Adjacency":
        def move(group: CompressedRows) -> CompressedRows:
            return CompressedRows(*(t.to(device) for t in group))

        src, dst = self.src.to(device), self.dst.to(device)
        return Adjacency(self.num_src, self.num_dst, src, dst, move(self.csc), move(self.csr), drop=self.drop)

    def remember(self, key: object, make: Callable[[], Tensor]) -> Tensor:
        """A tensor that depends on the graph alone, made at its first use and again after a caller wrote into it."""
        made, version = self.memo.get(key, (None, 0))
        if made is None or made._version != version:
            with _ordinary():
                made = make()
            self.memo[key] = made, made._version
        return made.detach()


@contextmanager
def _ordinary() -> Iterator[None]:
    """Tensors made here outlive the caller's context: they are constants, fit for autograd under inference mode too."""
    with torch.inference_mode(False), torch.no_grad():
        yield


def _group(by: Tensor, other: Tensor, num_nodes: int) -> CompressedRows:
    indptr, eid = kernels.choose(by).group(by, num_nodes)
    return CompressedRows(indptr, other[eid], eid)


def edge_endpoints(graph: dgl.DGLGraph) -> tuple[Tensor, Tensor]:
    """Both ends of every edge by edge id, from whichever sparse format the graph holds."""
    created = graph.formats()["created"]
    if "coo" in created:
        return graph.edges(order="eid")
    indptr, other, eid = graph.adj_tensors(created[0])
    grouped = torch.repeat_interleave(torch.arange(len(indptr) - 1, device=other.device), indptr.diff().long())
    if len(eid) == len(other):  # DGL gives none where the edges already lie in the order of their ids
        order = eid.long()
        other = torch.empty_like(other).index_copy_(0, order, other)
        grouped = torch.empty_like(grouped).index_copy_(0, order, grouped)
    return (other, grouped) if created[0] == "csc" else (grouped, other)


def _find(graph: dgl.DGLGraph) -> Adjacency:
    (source, _, destination), (src, dst) = graph.canonical_etypes[0], edge_endpoints(graph)
    return Adjacency.from_edges(src, dst, graph.num_src_nodes(source), graph.num_dst_nodes(destination))


def set_adjacency_factory(graph: dgl.DGLGraph, find: Callable[[], Adjacency]) -> None:
    """Teach a graph a shorter way to its neighbours; called once, if at all. It must not hold the graph."""
    graph._graph._gnnlib_find = find


def adjacency(graph: "dgl.DGLGraph | Adjacency", device: torch.device | str | None = None) -> Adjacency:
    """The `Adjacency` of a DGLGraph or message-flow block on ``device`` (default: the graph's own).

    Given Adjacency, they come back, moved where necessary. Of a graph with several edge types pass ``graph[etype]``,
    and keep it: DGL makes a new graph at each such call, and the neighbours belong to it.

    Raises: ValueError where the graph has several edge types or 2**31 edges or more.

    >>> g = dgl.graph(([0, 1], [1, 2]))
    >>> adjacency(g) is neighbors(g)
    True
    >>> before = adjacency(g)
    >>> g.add_edges([2], [0])
    >>> adjacency(g) is before, neighbors(g).num_edges
    (False, 3)
    """
    if isinstance(graph, Adjacency):
        return graph if device is None or torch.device(device) == graph.device else graph.to(torch.device(device))
    if not isinstance(graph, dgl.DGLGraph):
        raise TypeError(f"expected a DGLGraph or a block, got {type(graph).__name__}")
    if len(graph.canonical_etypes) != 1:
        raise ValueError(f"expected a graph with one edge type, got {graph.etypes}; pass graph[etype]")
    structure = graph._graph
    found: dict[torch.device, Adjacency] | None = getattr(structure, "_gnnlib_neighbors", None)
    if found is None:
        found = {}
        structure._gnnlib_neighbors = found
    device = torch.device(device) if device is not None else graph.device
    with _ordinary():
        if graph.device not in found:
            found[graph.device] = getattr(structure, "_gnnlib_find", lambda: _find(graph))()
        if device not in found:
            found[device] = found[graph.device].to(device)
    return found[device]


Graph: TypeAlias = dgl.DGLGraph | Adjacency


def check_num_rows(name: str, value: Tensor, rows: int, kind: str) -> None:
    """Raises unless ``value`` holds floating-point numbers, a row for each of so many nodes or edges."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name}: expected a tensor, got {type(value).__name__}")
    if not value.is_floating_point():
        raise TypeError(f"{name}: expected floating-point values, got {value.dtype}; convert with .float()")
    if value.dim() == 0 or len(value) != rows:
        raise ValueError(f"{name}: expected {rows} rows, one for each {kind}, got shape {tuple(value.shape)}")


def with_message_dropout(graph: dgl.DGLGraph, drop: Drop, device: torch.device) -> dgl.DGLGraph:
    """The same graph, on which messages lose what ``drop`` takes: sums, attention and the like see to it."""
    adjacency(graph, device)
    view = graph.formats([name for names in graph.formats().values() for name in names])
    found = graph._graph._gnnlib_neighbors
    view._graph._gnnlib_neighbors = {where: replace(adj, drop=drop) for where, adj in found.items()}
    return view
