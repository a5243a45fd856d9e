"""Graphs of any kind as arguments: converted at their first use, and again after a change."""

from collections.abc import Callable
from functools import wraps
from inspect import signature
from typing import Any, TypeGuard, TypeVar, cast

import numpy as np
import torch
from torch import Tensor

from gnnlib._platform.dgl import dgl
from gnnlib._utils.calls import names_checked
from gnnlib.graph._adjacency import Adjacency, constants
from gnnlib.graph._derived import derived
from gnnlib.graph._graph import Graph
from gnnlib.graph._parts import OUT_OF_RANGE, graph_kind, not_a_graph
from gnnlib.graph._prepare import is_prepared, run_eagerly

__all__ = ["NATIVE", "as_dgl", "as_graph", "convert_graph", "is_graph", "takes_graph", "takes_graphs"]

NATIVE = dgl.DGLGraph, Graph, Adjacency
"""What is not converted."""

Function = TypeVar("Function", bound=Callable[..., Any])


@names_checked()
def is_graph(data: Any) -> TypeGuard[Any]:
    """Whether an object is a DGLGraph or a `Graph`."""
    return isinstance(data, NATIVE[:2])


@names_checked()
def as_graph(data: Any, x: Any = None) -> Any:
    """A graph of another library, or an edge list, as a `Graph`.

    The conversion is stored beside the object, and runs again after the object has changed. Changes of a tensor through
    memory that it shares with NumPy are not noticed.

    Args:
        data: what `Graph` takes. DGLGraphs, Graphs and lists of message-flow graphs are returned as they are
        x: node features, or a pair (x_src, x_dst) for a bipartite graph: their rows are the number of nodes of an
            ``edge_index`` or a pair of endpoints; None: the largest number plus one

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
    graph = convert_graph(data, x, "as_graph")
    if not isinstance(graph, (*NATIVE, list, tuple)):
        raise TypeError(f"as_graph: {not_a_graph(data)}")
    return graph


def convert_graph(data: Any, x: Any, owner: str) -> Any:
    """`as_graph`, with the name of a function or a layer in errors. What is no graph is returned, for its own check."""
    if isinstance(data, NATIVE):
        return data
    kind = graph_kind(data)
    if kind is None:
        return data
    num_nodes = _num_rows(x) if kind in ("edge_index", "pair") else None
    try:
        if kind == "edge_index" and len(data) != 2 and torch.as_tensor(data).is_floating_point():
            raise TypeError(f"expected the graph first, and then x, got a tensor of shape {tuple(data.shape)}")
        return derived(data, kind, ("graph", num_nodes), lambda: _converted(data, num_nodes))
    except (TypeError, ValueError) as error:
        message = str(error).removeprefix("Graph: ")
        rows = f"; x has {num_nodes} rows" if num_nodes is not None and OUT_OF_RANGE.search(message) else ""
        raise type(error)(f"{owner}: {message}{rows}") from None


def _converted(data: Any, num_nodes: Any) -> Graph:
    with constants():
        return Graph(data, num_nodes)


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
            if torch.compiler.is_compiling() and graph is not None and not is_prepared(graph):
                return run_eagerly(converted, *args, **options)
            if not isinstance(graph, NATIVE) and graph is not None:
                rows = args[x_place] if len(args) > x_place else options.get(x)
                graph = convert_graph(graph, rows, _owner(args[0]) if is_method else function.__name__)
                if len(args) > place:
                    args = (*args[:place], graph, *args[place + 1 :])
                else:
                    options["graph"] = graph
            return function(*args, **options)

        vars(converted)["takes_graph"] = True  # for the test that no public function lacks this
        return cast(Function, converted)

    return decorate


@names_checked()
def takes_graphs(function: Function) -> Function:
    """Decorator of a function with an argument ``graphs``, a sequence: it receives what `as_graph` gives for each.

    Example:
        >>> from gnnlib.graph import takes_graphs
        >>> @takes_graphs
        ... def num_edges(graphs):
        ...     return sum(graph.num_edges() for graph in graphs)
        >>> num_edges([([0, 1], [1, 2]), ([0], [1])])
        3
    """
    place = list(signature(function).parameters).index("graphs")

    @wraps(function)
    def converted(*args: Any, **options: Any) -> Any:
        if len(args) > place:
            args = (*args[:place], _convert_all(args[place], function.__name__), *args[place + 1 :])
        elif "graphs" in options:
            options["graphs"] = _convert_all(options["graphs"], function.__name__)
        return function(*args, **options)

    vars(converted)["takes_graph"] = True  # for the test that no public function lacks this
    return cast(Function, converted)


def _convert_all(graphs: Any, owner: str) -> list[Any]:
    if not isinstance(graphs, (list, tuple)):
        raise TypeError(f"{owner}: expected a list of graphs, got {type(graphs).__name__}")
    converted = [convert_graph(graph, None, owner) for graph in graphs]
    for place, graph in enumerate(converted):
        if not isinstance(graph, NATIVE):
            raise TypeError(f"{owner}: graph {place}: {not_a_graph(graph)}")
    return converted


def _owner(instance: Any) -> str:
    return (instance if isinstance(instance, type) else type(instance)).__name__


@names_checked()
def as_dgl(graph: Any) -> Any:
    """A DGLGraph with the edges and features of a graph, for what DGL alone can do."""
    return graph.to_dgl() if isinstance(graph, Graph) else graph
