"""Adjacency in CSC and CSR, cached on the graph's structure.

The arrays are int32, built once per graph and device, and stored as an attribute of the graph's structure (DGL's
``graph._graph``). DGL replaces the structure at every edit and frees it with the graph, so the cache is never stale and
never outlives the graph.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor

from gnnlib import kernels
from gnnlib._platform.dgl import dgl
from gnnlib._utils.calls import names_checked
from gnnlib.graph._check import check_dense, check_graph, kind_of

INT32_MAX = 2**31 - 1


@names_checked()
class CompressedRows(NamedTuple):
    """Edges in compressed sparse rows: the edges of node ``v`` are in slots ``indptr[v]`` to ``indptr[v + 1]``, in the
    order of their ids.

    Shapes:
        - indptr: (N + 1,) int32
        - indices: (E,) int32, the node at the other end of the edge in each slot
        - eid: (E,) int32, the edge id in each slot
    """

    indptr: Tensor
    indices: Tensor
    eid: Tensor


@names_checked()
class MessageDropout(NamedTuple):
    """Dropout of message entries without a stored mask: an entry is zero if the hash of the key, the edge and the
    column is below the threshold, and is multiplied by ``scale`` otherwise."""

    scale: float
    key: int
    threshold: int  # 2**32 times the dropout probability

    @staticmethod
    def sample(p: float) -> "MessageDropout":
        """Dropout with probability p and a key from PyTorch's random number generator."""
        threshold = min(round(p * 2**32), 2**32 - 1)
        return MessageDropout(1 / (1 - p) if p < 1 else 0.0, int(torch.randint(2**32, ())), threshold)


@names_checked()
@dataclass(frozen=True, eq=False)
class Adjacency:
    """The edges of a graph in three formats: COO, CSC (by destination) and CSR (by source).

    Args:
        num_src, num_dst: numbers of source and destination nodes
        src, dst: (E,) int32, the endpoints of every edge by edge id
        csc: in-edges of the destinations
        csr: out-edges of the sources
        cache: tensors that depend on the graph alone; see :meth:`cached`
        dropout: the dropout of messages, or None

    Example:
        >>> from gnnlib import adjacency
        >>> import dgl
        >>> adj = adjacency(dgl.graph(([0, 2, 1], [1, 1, 0])))
        >>> adj.csc.indptr.tolist(), adj.csc.indices.tolist(), adj.csc.eid.tolist()
        ([0, 1, 3, 3], [1, 0, 2], [2, 0, 1])
        >>> adj.reverse().csc is adj.csr
        True
    """

    num_src: int
    num_dst: int
    src: Tensor
    dst: Tensor
    csc: CompressedRows
    csr: CompressedRows
    cache: dict[object, tuple[Tensor, int]] = field(default_factory=dict, repr=False)
    dropout: MessageDropout | None = None

    @staticmethod
    def from_edges(src: Tensor, dst: Tensor, num_src: int, num_dst: int) -> "Adjacency":
        """Build from the endpoints of every edge by edge id, of any integer dtype, on any device.

        Raises:
            ValueError: if an endpoint is out of range.
            ValueError: if there are more than 2**31 - 1 nodes or edges.
        """
        if max(src.numel(), num_src, num_dst) > INT32_MAX:
            raise ValueError(
                f"expected at most {INT32_MAX} nodes and edges, got {num_src} sources, "
                f"{num_dst} destinations and {src.numel()} edges"
            )
        for name, nodes, count in (("source", src, num_src), ("destination", dst, num_dst)):
            if len(nodes) != len(src) or (len(nodes) and not 0 <= int(nodes.min()) <= int(nodes.max()) < count):
                raise ValueError(
                    f"expected one {name} for each of {len(src)} edges, from 0 to {count - 1}, got {len(nodes)} "
                    + (f"from {int(nodes.min())} to {int(nodes.max())}" if len(nodes) else "")
                )
        src, dst = src.int(), dst.int()
        return Adjacency(num_src, num_dst, src, dst, _compress(dst, src, num_dst), _compress(src, dst, num_src))

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
        """The adjacency with every edge reversed. Shares all tensors."""
        return Adjacency(self.num_dst, self.num_src, self.dst, self.src, self.csr, self.csc, dropout=self.dropout)

    def to(self, device: torch.device) -> "Adjacency":
        """A copy on another device."""

        def move(rows: CompressedRows) -> CompressedRows:
            return CompressedRows(*(t.to(device) for t in rows))

        src, dst = self.src.to(device), self.dst.to(device)
        return Adjacency(self.num_src, self.num_dst, src, dst, move(self.csc), move(self.csr), dropout=self.dropout)

    def cached(self, key: object, compute: Callable[[], Tensor]) -> Tensor:
        """A tensor that depends on the graph alone, computed at its first use.

        It is computed again if a caller has modified it in place.
        """
        tensor, version = self.cache.get(key, (None, 0))
        if tensor is None or tensor._version != version:
            with _constants():
                tensor = compute()
            self.cache[key] = tensor, tensor._version
        return tensor.detach()


@contextmanager
def _constants() -> Iterator[None]:
    """Tensors made here are cached beyond the caller's context: they need no gradient, and are not inference tensors,
    which autograd would refuse later."""
    with torch.inference_mode(False), torch.no_grad():
        yield


def _compress(rows: Tensor, columns: Tensor, num_rows: int) -> CompressedRows:
    indptr, eid = kernels.choose(rows).group(rows, num_rows)
    return CompressedRows(indptr, columns[eid], eid)


@names_checked()
def edge_endpoints(graph: dgl.DGLGraph) -> tuple[Tensor, Tensor]:
    """The source and destination of every edge by edge id, from a sparse format that the graph already has."""
    check_graph("graph", graph)
    created = graph.formats()["created"]
    if "coo" in created:
        return graph.edges(order="eid")
    indptr, columns, eid = graph.adj_tensors(created[0])
    rows = torch.repeat_interleave(torch.arange(len(indptr) - 1, device=columns.device), indptr.diff().long())
    if len(eid) == len(columns):  # DGL returns no ids if the edges are already sorted by them
        order = eid.long()
        columns = torch.empty_like(columns).index_copy_(0, order, columns)
        rows = torch.empty_like(rows).index_copy_(0, order, rows)
    return (columns, rows) if created[0] == "csc" else (rows, columns)


def _from_graph(graph: dgl.DGLGraph) -> Adjacency:
    (source, _, destination), (src, dst) = graph.canonical_etypes[0], edge_endpoints(graph)
    return Adjacency.from_edges(src, dst, graph.num_src_nodes(source), graph.num_dst_nodes(destination))


@names_checked()
def set_adjacency_factory(graph: dgl.DGLGraph, factory: Callable[[], Adjacency]) -> None:
    """Register a faster way to build the graph's adjacency. It is called at most once, and must not reference the
    graph."""
    graph._graph._gnnlib_adjacency_factory = factory


@names_checked()
def adjacency(graph: "dgl.DGLGraph | Adjacency", device: torch.device | str | None = None) -> Adjacency:
    """The `Adjacency` of a DGLGraph or a message-flow graph (DGL block), built at the first call and then cached.

    An `Adjacency` is returned as it is, or moved to the device. Of a graph with several edge types pass
    ``graph[etype]`` and keep a reference to it: DGL makes a new graph at each such call, and the cache belongs to it.

    Args:
        graph: with one edge type
        device: where the tensors are; None: the graph's device

    Returns:
        The adjacency, the same object at every call until the graph is edited.

    Raises:
        TypeError: if the graph is neither a DGLGraph nor an Adjacency.
        ValueError: if the graph has several edge types, or 2**31 edges or more.
        RuntimeError: if the call is traced by ``torch.jit.trace``.

    Example:
        >>> from gnnlib import adjacency
        >>> import dgl
        >>> g = dgl.graph(([0, 1], [1, 2]))
        >>> adjacency(g) is adjacency(g)
        True
        >>> before = adjacency(g)
        >>> g.add_edges([2], [0])
        >>> adjacency(g) is before, adjacency(g).num_edges
        (False, 3)
    """
    if torch.jit.is_tracing():
        raise RuntimeError(
            "expected message passing outside of torch.jit.trace, got it inside: TorchScript has no DGL graphs; "
            "save a model with gnnlib.save_model"
        )
    if isinstance(graph, Adjacency):
        return graph if device is None or torch.device(device) == graph.device else graph.to(torch.device(device))
    check_graph("graph", graph)
    structure = graph._graph
    by_device: dict[torch.device, Adjacency] | None = getattr(structure, "_gnnlib_adjacency", None)
    if by_device is None:
        by_device = {}
        structure._gnnlib_adjacency = by_device
    device = torch.device(device) if device is not None else graph.device
    with _constants():
        if graph.device not in by_device:
            factory = getattr(structure, "_gnnlib_adjacency_factory", lambda: _from_graph(graph))
            by_device[graph.device] = factory()
        if device not in by_device:
            by_device[device] = by_device[graph.device].to(device)
    return by_device[device]


Graph: TypeAlias = dgl.DGLGraph | Adjacency


@names_checked()
def check_num_rows(name: str, value: Tensor, rows: int, kind: str) -> None:
    """Check that ``value`` is a floating-point tensor with one row per node or edge.

    Raises:
        TypeError: if the value is not a dense tensor, or not floating point.
        ValueError: if it has another number of rows.
    """
    if not isinstance(value, Tensor):
        raise TypeError(f"{name}: expected a tensor, got {kind_of(value)}")
    check_dense(name, value)
    if not value.is_floating_point():
        raise TypeError(f"{name}: expected floating-point values, got {value.dtype}; convert with .float()")
    if value.dim() == 0 or len(value) != rows:
        raise ValueError(f"{name}: expected {rows} rows, one for each {kind}, got shape {tuple(value.shape)}")


@names_checked()
def with_message_dropout(graph: dgl.DGLGraph, dropout: MessageDropout, device: torch.device) -> dgl.DGLGraph:
    """A view of the graph whose adjacency carries a message dropout, which sums, attention and gating apply."""
    adjacency(graph, device)
    view = graph.formats([name for names in graph.formats().values() for name in names])
    by_device = graph._graph._gnnlib_adjacency
    view._graph._gnnlib_adjacency = {key: replace(adj, dropout=dropout) for key, adj in by_device.items()}
    return view
