"""Calls of modules of any library: which arguments a forward method takes, and under which name edge values."""

import inspect
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

from torch import nn

__all__ = ["EDGE_NAMES", "Positional", "call_model", "call_with_edge", "positional_arguments"]

EDGE_NAMES = ("edge", "edge_weight", "edge_attr", "edge_feat", "edge_feats", "eweight", "efeat", "pseudo")
"""Names of edge weights or edge features here, in DGL and in PyTorch Geometric."""

FOREIGN = ("dgl.", "torch_geometric.")
"""Packages whose layers may have something else than edge values as their third argument."""


class Positional(NamedTuple):
    """The arguments that a function takes by position: their names, and how many of them have no default."""

    names: tuple[str, ...]
    required: int


def positional_arguments(module: Any) -> Positional | None:
    """The arguments that a module or a function takes by position; None if it takes any number of them.

    Example:
        >>> from torch import nn
        >>> from gnnlib._utils.calls import positional_arguments
        >>> positional_arguments(nn.Linear(1, 1)).names, positional_arguments(lambda graph, x, *rest: x)
        (('input',), None)
    """
    if isinstance(module, nn.parallel.DistributedDataParallel):
        module = module.module
    function = module.forward if isinstance(module, nn.Module) else module
    method = getattr(function, "__func__", None)
    if method is None:
        return _arguments(function)
    arguments = _arguments_of_method(method)
    return arguments and Positional(arguments.names[1:], arguments.required - 1)


@lru_cache(maxsize=512)
def _arguments_of_method(method: Callable[..., Any]) -> Positional | None:
    return _arguments(method)


def _arguments(function: Callable[..., Any]) -> Positional | None:
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:  # a function that is written in C
        return None
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return None
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return Positional(tuple(p.name for p in positional), sum(p.default is p.empty for p in positional))


def call_with_edge(owner: str, module: Any, graph: Any, x: Any, edge: Any) -> Any:
    """``module(graph, x, edge)``, with the edge values under the name that its forward has for them.

    Raises:
        TypeError: if it takes no edge values
    """
    arguments = positional_arguments(module)
    if arguments is None:
        return module(graph, x, edge)
    names = arguments.names
    name = next((name for name in EDGE_NAMES if name in names), None)
    if name is not None:
        return module(graph, x, **{name: edge})
    if len(names) > 2 and not type(module).__module__.startswith(FOREIGN):
        return module(graph, x, edge)
    raise TypeError(
        f"{owner}: expected no edge values, as {type(module).__name__}.forward takes {', '.join(names)} and none of "
        f"{', '.join(EDGE_NAMES[:4])}, got edge of shape {tuple(edge.shape)}"
    )


def call_model(model: nn.Module, graph: Any, x: Any, edge: Any = None) -> Any:
    """``model(graph, x, edge)``, ``model(graph, x)`` or ``model(x)``, as its forward takes them.

    Raises:
        TypeError: if there are edge values and it takes none

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from gnnlib._utils.calls import call_model
        >>> call_model(nn.Flatten(), None, torch.ones(2, 3, 4)).shape
        torch.Size([2, 12])
    """
    if edge is not None:
        return call_with_edge(type(model).__name__, model, graph, x, edge)
    arguments = positional_arguments(model)
    if arguments is None or arguments.required > 2:
        return model(graph, x, None)
    return model(x) if len(arguments.names) == 1 else model(graph, x)
