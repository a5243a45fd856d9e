"""Graphs of any kind as arguments: converted at their first use, and again after a change."""

import zlib
from collections.abc import Callable
from functools import wraps
from inspect import signature
from typing import Any, TypeGuard, TypeVar, cast
from weakref import ref

import numpy as np
import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from gnnlib._platform.dgl import dgl
from gnnlib._utils.calls import names_checked
from gnnlib.graph._adjacency import Adjacency
from gnnlib.graph._graph import Graph
from gnnlib.graph._parts import graph_kind

__all__ = ["NATIVE", "as_dgl", "as_graph", "is_graph", "takes_graph"]

NATIVE = dgl.DGLGraph, Graph, Adjacency
"""What is not converted."""

Function = TypeVar("Function", bound=Callable[..., Any])
_conversions = WeakIdKeyDictionary()  # object -> (fingerprint, graph), as long as the object lives


@names_checked()
def is_graph(data: Any) -> TypeGuard[Any]:
    """Whether an object is a DGLGraph or a `Graph`."""
    return isinstance(data, NATIVE[:2])


@names_checked()
def as_graph(data: Any, x: Any = None, owner: str = "as_graph") -> Any:
    """A graph of another library, or an edge list, as a `Graph`.

    The conversion is stored beside the object, and runs again after the object has changed. Changes of a tensor through
    memory that it shares with NumPy are not noticed.

    Args:
        data: what `Graph` takes. DGLGraphs, Graphs and lists of message-flow graphs are returned as they are
        x: node features, or a pair (x_src, x_dst) for a bipartite graph: their rows are the number of nodes of an
            ``edge_index`` or a pair of endpoints; None: the largest number plus one
        owner: name of the function or the layer, for errors

    Returns:
        the graph

    Raises:
        TypeError: if ``data`` is no graph
        ValueError: if nodes are out of range

    Example:
        >>> import torch
        >>> from gnnlib import as_graph
        >>> edge_index = torch.tensor([[0, 1], [1, 2]])
        >>> as_graph(edge_index, torch.ones(5, 8))
        Graph(num_nodes=5, num_edges=2, ndata=[], edata=[])
        >>> as_graph(edge_index) is as_graph(edge_index)
        True
    """
    if isinstance(data, NATIVE):
        return data
    kind = graph_kind(data)
    if kind is None:
        return data
    num_nodes = _num_rows(x) if kind in ("edge_index", "pair") else None
    try:
        if kind == "edge_index" and isinstance(data, Tensor) and data.is_floating_point():
            got = f"{data.dtype} of shape {tuple(data.shape)}"
            raise TypeError(f"expected the graph first, and then x; edge_index holds integers, got {got}")
        key, fingerprint = FINGERPRINTS[kind](data) if kind in FINGERPRINTS else (None, None)
        if key is None:
            return Graph(data, num_nodes)
        fingerprint = (fingerprint, num_nodes)
        stored, graph = _conversions.get(key, (None, None))
        if stored != fingerprint:
            graph = Graph(data, num_nodes)
            _conversions[key] = fingerprint, graph
        return graph
    except (TypeError, ValueError) as error:
        raise type(error)(f"{owner}: {str(error).removeprefix('Graph: ')}") from None


def _num_rows(x: Any) -> Any:
    if isinstance(x, (tuple, list)) and len(x) == 2:
        return tuple(len(part) for part in x)
    return len(x) if isinstance(x, (Tensor, np.ndarray)) and x.ndim else None


@names_checked()
def takes_graph(x: str = "x") -> Callable[[Function], Function]:
    """Decorator of a function or a method with an argument ``graph``: it receives what `as_graph` gives.

    A DGLGraph costs one more frame.

    Args:
        x: name of the argument whose rows are the nodes of an edge list, if the function has one of this name

    Example:
        >>> from gnnlib.graph import takes_graph
        >>> @takes_graph()
        ... def num_edges(graph):
        ...     return graph.num_edges()
        >>> num_edges(([0, 1], [1, 2]))
        2
    """

    def decorate(function: Function) -> Function:
        names = list(signature(function).parameters)
        place, is_method = names.index("graph"), names[0] in ("self", "cls")
        x_place = names.index(x) if x in names else len(names)

        @wraps(function)
        def converted(*args: Any, **options: Any) -> Any:
            graph = args[place] if len(args) > place else options.get("graph")
            if not isinstance(graph, NATIVE) and graph is not None:
                rows = args[x_place] if len(args) > x_place else options.get(x)
                graph = as_graph(graph, rows, _owner(args[0]) if is_method else function.__name__)
                if len(args) > place:
                    args = (*args[:place], graph, *args[place + 1 :])
                else:
                    options["graph"] = graph
            return function(*args, **options)

        vars(converted)["takes_graph"] = True  # for the test that no public function lacks this
        return cast(Function, converted)

    return decorate


def _owner(instance: Any) -> str:
    return (instance if isinstance(instance, type) else type(instance)).__name__


@names_checked()
def as_dgl(graph: Any) -> Any:
    """A DGLGraph with the edges and features of a graph, for what DGL alone can do."""
    return graph.to_dgl() if isinstance(graph, Graph) else graph


# What tells that an object has changed: a key that lives as long as the object, and values that change with it.


def _state(value: Any) -> Any:
    """The state of a tensor or an array; None for what cannot be observed."""
    if isinstance(value, np.ndarray):
        return value.shape, value.dtype, zlib.crc32(np.ascontiguousarray(value).tobytes())
    return None if value.is_inference() else (value.data_ptr(), value.shape, value._version)


class _Identity:
    """An object, compared by identity and referred to weakly: another one may later have its address."""

    def __init__(self, value: Any):
        self.value = ref(value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Identity) and self.value() is other.value() is not None

    __hash__ = None  # type: ignore[assignment]


def _of_edge_index(data: Any) -> tuple[Any, Any]:
    state = _state(data)
    return (None if state is None else data), state


def _of_pair(data: Any) -> tuple[Any, Any]:
    src, dst = data
    if not all(isinstance(end, (Tensor, np.ndarray)) for end in data):
        return None, None
    states = _state(src), _state(dst)
    return (None if None in states else src), (states, _Identity(dst))


def _of_sparse(data: Tensor) -> tuple[Any, Any]:
    if data.layout is torch.sparse_coo:
        arrays: tuple[Tensor, ...] = data._indices(), data._values()
    elif data.layout is torch.sparse_csr:
        arrays = data.crow_indices(), data.col_indices(), data.values()
    elif data.layout is torch.sparse_csc:
        arrays = data.ccol_indices(), data.row_indices(), data.values()
    else:
        return None, None
    states = tuple(map(_state, arrays))
    return (None if None in states else data), states


def _of_scipy(data: Any) -> tuple[Any, Any]:
    names = {"csr": ("indptr", "indices", "data"), "csc": ("indptr", "indices", "data"), "coo": ("row", "col", "data")}
    if data.format not in names:
        return None, None
    return data, (data.format, data.shape, *(_state(getattr(data, name)) for name in names[data.format]))


def _of_pyg(data: Any) -> tuple[Any, Any]:
    values = [(store._key, name, value) for store in data.stores for name, value in store.items()]
    return data, [(key, name, _of_attribute(value)) for key, name, value in values]


def _of_attribute(value: Any) -> Any:
    if isinstance(value, Tensor):
        return _Identity(value), _state(value) if value.layout is torch.strided else None
    return value if isinstance(value, (int, str)) else type(value)  # what is neither does not reach the graph


def _of_networkx(data: Any) -> tuple[Any, Any]:
    """networkx empties this dict at every change of the graph."""
    cache = getattr(data, "__networkx_cache__", None)
    return (None, None) if cache is None else (data, cache.setdefault("gnnlib", object()))


FINGERPRINTS: dict[str, Callable[[Any], tuple[Any, Any]]] = {
    "edge_index": _of_edge_index,
    "pair": _of_pair,
    "torch.sparse": _of_sparse,
    "scipy": _of_scipy,
    "torch_geometric.Data": _of_pyg,
    "torch_geometric.HeteroData": _of_pyg,
    "networkx": _of_networkx,
}
