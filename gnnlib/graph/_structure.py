"""The adjacency of a graph, cached on the graph's structure.

The arrays are int32, built once per graph and device, and stored as an attribute of the graph's structure (DGL's
``graph._graph``, or the edges of a `Graph`). DGL replaces the structure at every edit and frees it with the graph, and
edges of a `Graph` do not change, so the cache is never stale and never outlives the graph.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import TypeAlias

import torch
from torch import Tensor

from gnnlib._platform.dgl import dgl
from gnnlib._utils.calls import names_checked
from gnnlib.graph._adjacency import Adjacency, MessageDropout, constants
from gnnlib.graph._check import check_dense, check_graph, kind_of
from gnnlib.graph._convert import takes_graph
from gnnlib.graph._graph import Graph
from gnnlib.graph._parts import dgl_endpoints, dgl_formats
from gnnlib.graph._prepare import PreparedGraph, adjacency_of_tensors, run_eagerly

__all__ = [
    "GraphLike",
    "adjacency",
    "check_num_rows",
    "edge_endpoints",
    "prepare",
    "set_adjacency_factory",
    "with_message_dropout",
]

GraphLike: TypeAlias = dgl.DGLGraph | Graph
"""A graph as an argument; `takes_graph` converts the other kinds."""


@names_checked()
@takes_graph()
def edge_endpoints(graph: GraphLike) -> tuple[Tensor, Tensor]:
    """The source and destination of every edge by edge id, from a sparse format that the graph already has."""
    check_graph("graph", graph)
    return graph.edges() if isinstance(graph, Graph) else dgl_endpoints(graph)


def _from_graph(graph: GraphLike) -> Adjacency:
    (source, _, destination), (src, dst) = graph.canonical_etypes[0], edge_endpoints(graph)
    return Adjacency.from_edges(src, dst, graph.num_src_nodes(source), graph.num_dst_nodes(destination))


@names_checked()
@takes_graph()
def set_adjacency_factory(graph: GraphLike, factory: Callable[[], Adjacency]) -> None:
    """Register a faster way to build the graph's adjacency. It is called at most once, and must not reference the
    graph."""
    graph._graph._gnnlib_adjacency_factory = factory


@names_checked()
@takes_graph()
def adjacency(graph: GraphLike | Adjacency, device: torch.device | str | None = None) -> Adjacency:
    """The `Adjacency` of a DGLGraph or a message-flow graph (DGL block), built at the first call and then cached.

    An `Adjacency` is returned as it is, or moved to the device. Of a graph with several edge types pass
    ``relation_graph(graph, etype)``: DGL makes a new structure at each ``graph[etype]``, and the cache belongs to it.

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
    if torch.compiler.is_compiling():
        return graph if isinstance(graph, Adjacency) else adjacency_of_tensors(*graph._tensors)  # type: ignore[union-attr]
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
    device = graph.device if device is None else torch.device(device)
    return by_device[device] if device in by_device else _add_device(graph, by_device, device)


def _add_device(graph: GraphLike, by_device: dict[torch.device, Adjacency], device: torch.device) -> Adjacency:
    with constants():
        if graph.device not in by_device:
            factory = getattr(graph._graph, "_gnnlib_adjacency_factory", lambda: _from_graph(graph))
            by_device[graph.device] = factory()
        if device not in by_device:
            by_device[device] = by_device[graph.device].to(device)
    return by_device[device]


@names_checked()
@takes_graph()
def prepare(graph: GraphLike) -> Graph:
    """Prepares a graph for ``torch.compile`` and ``torch.export``: a `Graph` whose adjacency is computed.

    Compiled functions read the tensors of a prepared graph and no other object, so that a layer on it is one graph
    without breaks (``fullgraph=True``). Prepared graphs of different sizes share a compilation. On any other graph, a
    compiled function calls the layers of this library in eager mode. A prepared graph is a pytree of tensors, and
    therefore an input of ``torch.export``.

    Args:
        graph: with one edge type

    Returns:
        the graph, with the same features and batch sizes

    Raises:
        TypeError: if it is no graph of one edge type

    Example:
        >>> import torch
        >>> from gnnlib import GCNConv, prepare
        >>> graph = prepare(torch.tensor([[0, 1, 2], [1, 2, 0]]))
        >>> layer = torch.compile(GCNConv(8, 4), backend="eager", fullgraph=True)
        >>> layer(graph, torch.ones(3, 8)).shape
        torch.Size([3, 4])
    """
    check_graph("prepare", graph)
    if isinstance(graph, PreparedGraph):
        return graph
    with constants():
        copy = graph.local_var() if isinstance(graph, Graph) else Graph(graph)
        return PreparedGraph.of(copy, adjacency(copy))


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
@takes_graph()
def with_message_dropout(graph: GraphLike, dropout: MessageDropout, device: torch.device) -> GraphLike:
    """A view of the graph whose adjacency carries a message dropout, which sums, attention and gating apply."""
    if torch.compiler.is_compiling():  # the key of the dropout would be a constant
        return run_eagerly(with_message_dropout, graph, dropout, device)
    adjacency(graph, device)
    if isinstance(graph, Graph):
        view = graph._with_new_cache()
    else:
        view = graph.formats(dgl_formats(graph).allowed)
    by_device = graph._graph._gnnlib_adjacency
    view._graph._gnnlib_adjacency = {key: replace(adj, dropout=dropout) for key, adj in by_device.items()}
    return view
