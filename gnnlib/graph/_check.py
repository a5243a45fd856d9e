"""Arguments that should be graphs, or dense features: what to write in place of others."""

from collections.abc import Mapping
from numbers import Number
from types import NoneType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gnnlib._utils.calls import ARGUMENT_ERRORS
from gnnlib.graph._convert import is_graph
from gnnlib.graph._parts import graph_kind

__all__ = ["check_dense", "check_graph", "check_one_node_set", "features_error", "graph_error", "kind_of"]


def graph_error(owner: str, graph: Any, types: bool = False) -> TypeError | None:
    """The error for an argument that is no graph of one edge type (with ``types``, of any number); None if it is."""
    kind = type(graph)
    if is_graph(graph):
        if types or len(graph.canonical_etypes) == 1:
            return None
        return TypeError(f"{owner}: expected a graph with one edge type, graph[etype], got the types {graph.etypes}")
    if isinstance(graph, (list, tuple)):
        return TypeError(
            f"{owner}: expected one graph, gnnlib.graph.batch(graphs), or a Stack for one message-flow graph "
            f"(DGL block) per layer, got a {kind.__name__} of {len(graph)}"
        )
    if isinstance(graph, Tensor) and graph.is_floating_point():
        return TypeError(f"{owner}: expected the graph first, and then x, got a tensor of shape {tuple(graph.shape)}")
    got = "None" if graph is None else f"{kind.__module__}.{kind.__name__}".removeprefix("builtins.")
    return TypeError(f"{owner}: expected a graph (DGL, PyG, networkx, SciPy, torch.sparse) or an edge_index, got {got}")


def check_graph(owner: str, graph: Any) -> None:
    """Check that an argument is a graph of one edge type.

    Raises:
        TypeError: if it is not
    """
    error = graph_error(owner, graph)
    if error is not None:
        raise error


def check_one_node_set(owner: str, graph: Any) -> None:
    """Check that the sources of a graph are its destinations: no message-flow graph, and not bipartite.

    Raises:
        TypeError: if it is no graph, or one of several edge types
        ValueError: if it has two node sets
    """
    check_graph(owner, graph)
    if not graph.is_homogeneous:
        raise ValueError(
            f"{owner}: expected a graph with one node set, got {graph.num_src_nodes()} sources, "
            f"{graph.num_dst_nodes()} destinations"
        )


def check_dense(name: str, value: Any) -> None:
    """Check that a tensor is no sparse one.

    Raises:
        TypeError: if it is sparse
    """
    layout = getattr(value, "layout", torch.strided)
    if layout is not torch.strided:
        raise TypeError(f"{name}: expected a dense tensor, got one of layout {layout}; convert with .to_dense()")


def kind_of(value: Any) -> str:
    """The type of a value, for errors."""
    return "None" if value is None else type(value).__name__


def _column(name: str, value: Any) -> str:
    """The column of a graph that was meant, for the name of one or for all of them."""
    key = value if isinstance(value, str) else "feat"
    meant = isinstance(value, (str, Mapping))
    return f", graph.{'edata' if name == 'edge' else 'ndata'}[{key!r}]" if meant else ""


def features_error(
    owner: str, x: Any, *, width: int | None = None, like: Tensor | None = None, name: str = "x"
) -> Exception | None:
    """The error for features that are no tensor, or of another width, type or device; None if there is none.

    Args:
        owner: name of the module
        x: the features
        width: of the last axis; None: any
        like: a parameter, whose type and device they need; None: any
        name: of the argument

    Example:
        >>> import torch
        >>> from gnnlib.graph._check import features_error
        >>> print(features_error("Linear", torch.ones(2, 3), width=4))
        Linear: expected x of shape (..., 4), got (2, 3)
    """
    if isinstance(x, np.ndarray):
        return TypeError(f"{owner}: expected {name} to be a tensor, torch.from_numpy(x), got a numpy.ndarray")
    if not isinstance(x, Tensor):
        return TypeError(f"{owner}: expected {name} to be a tensor{_column(name, x)}, got {kind_of(x)}")
    if width is not None and (x.dim() == 0 or x.shape[-1] != width):
        return ValueError(f"{owner}: expected {name} of shape (..., {width}), got {tuple(x.shape)}")
    if like is not None and like.is_floating_point() and x.is_floating_point() and x.dtype != like.dtype:
        return TypeError(
            f"{owner}: expected {name} of the parameters' dtype {like.dtype}, got {x.dtype}; convert with "
            f"{name}.to({like.dtype}), or the layer with .to({x.dtype})"
        )
    if like is not None and x.device != like.device:
        return ValueError(f"{owner}: expected {name} on the parameters' device, {like.device}, got {x.device}")
    return None


def _no_graph(owner: str, value: Any) -> Exception | None:
    """The error for a value that is no graph of any kind, and no message-flow graphs."""
    blocks = isinstance(value, (list, tuple)) and all(getattr(graph, "is_block", False) for graph in value)
    ours = type(value).__module__.startswith(("dgl.", "gnnlib."))
    return None if blocks or ours or graph_kind(value) is not None else graph_error(owner, value)


def _no_features(owner: str, value: Any) -> Exception | None:
    """The error for features that are no features at all: no tensor, pair, or table of this library."""
    kinds = str, Mapping, list, np.ndarray, Number, NoneType
    return features_error(owner, value) if isinstance(value, kinds) or is_graph(value) else None


ARGUMENT_ERRORS.update(graph=_no_graph, x=_no_features)
