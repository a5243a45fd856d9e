"""Traced networks as JSON: the nodes of an ``fx.Graph``, whose operations come from an allow-list.

Nothing is traced or compiled when a network is loaded: `gnnlib.grid.tracing.Program` evaluates the nodes.
"""

import operator
from collections.abc import Callable, Iterator
from types import EllipsisType
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

from gnnlib.grid.convert import LAYERS
from gnnlib.grid.tracing import UNCHANGED, caller

__all__ = ["describe_graph", "rebuild_graph"]

ATTRIBUTES = {"shape", "dtype", "device", "ndim", "T", "mT"}
"""Of tensors, what a node may read by ``getattr``."""

NAMES = {suffixed for name in UNCHANGED.split() for suffixed in (name, f"{name}_")} - {"getattr_"}


def _functions() -> Iterator[tuple[str, Callable[..., Any]]]:
    for space, prefix in ((operator, "operator"), (torch, "torch"), (F, "torch.nn.functional")):
        for name in sorted(NAMES):
            if callable(getattr(space, name, None)):
                yield f"{prefix}.{name}", getattr(space, name)
    yield "getattr", getattr
    for layer in LAYERS.values():
        yield f"gnnlib.grid.{layer.__name__}", layer


FUNCTIONS = dict(_functions())
"""The functions that a node may call, by name."""


def describe_graph(graph: fx.Graph) -> list[dict[str, Any]]:
    """The nodes of a graph as JSON, in their order.

    Raises:
        ValueError: for an operation that is not on the allow-list
    """
    numbers = {node: number for number, node in enumerate(graph.nodes)}

    def write(value: Any) -> Any:
        if value is None or isinstance(value, (bool, int, float, str)):
            return value
        if isinstance(value, fx.Node):
            return {"node": numbers[value]}
        if isinstance(value, list):
            return [write(item) for item in value]
        if isinstance(value, tuple):
            return {"tuple": [write(item) for item in value]}
        if isinstance(value, slice):
            return {"slice": [write(item) for item in (value.start, value.stop, value.step)]}
        if isinstance(value, torch.dtype):
            return {"dtype": str(value).removeprefix("torch.")}
        if isinstance(value, EllipsisType):
            return {"ellipsis": True}
        raise ValueError(f"expected numbers, text, tuples, lists, slices and dtypes as arguments, got {value!r}")

    def describe(node: fx.Node) -> dict[str, Any]:
        target = _name(node.target) if node.op == "call_function" else node.target
        kwargs = {name: write(value) for name, value in node.kwargs.items()}
        spec = {"op": node.op, "target": target, "args": [write(value) for value in node.args], "kwargs": kwargs}
        return spec | {"caller": list(caller(node))}

    nodes = [describe(node) for node in graph.nodes]
    rebuild_graph(nodes)  # what is written can be read
    return nodes


def _name(function: Any) -> str:
    for name, allowed in FUNCTIONS.items():
        if allowed is function:
            return name
    raise ValueError(f"expected a function that a traced network may call, got {function!r}")


def rebuild_graph(specs: Any) -> fx.Graph:
    """The graph whose nodes `describe_graph` returned.

    Raises:
        ValueError: for an operation that is not on the allow-list, and for nodes that are not in order
    """
    graph, nodes = fx.Graph(), list[fx.Node]()

    def read(value: Any) -> Any:
        if isinstance(value, list):
            return [read(item) for item in value]
        if not isinstance(value, dict):
            return value
        kind, content = _only(value)
        if kind == "node":
            if not (type(content) is int and 0 <= content < len(nodes)):
                raise ValueError(f"expected an earlier node, one of {len(nodes)}, got {content!r}")
            return nodes[content]
        if kind == "tuple" and isinstance(content, list):
            return tuple(map(read, content))
        if kind == "slice" and isinstance(content, list) and len(content) == 3:
            return slice(*map(read, content))
        if kind == "dtype" and isinstance(getattr(torch, str(content), None), torch.dtype):
            return getattr(torch, content)
        if kind == "ellipsis":
            return ...
        raise ValueError(f"expected a node, tuple, slice, dtype or ellipsis, got {value!r}")

    for number, spec in enumerate(specs):
        op, target = spec["op"], spec["target"]
        args, kwargs = tuple(map(read, spec["args"])), {str(name): read(v) for name, v in spec["kwargs"].items()}
        _check_node(op, target, args, last=number == len(specs) - 1)
        function = FUNCTIONS[target] if op == "call_function" else target
        node = graph.create_node(op, function, args, kwargs)
        path, kind = map(str, spec["caller"])
        node.meta["caller"] = path, kind
        nodes.append(node)
    inputs = [node.target for node in nodes if node.op == "placeholder"]
    if len(inputs) != 2 or inputs[1] != "dense" or not nodes or nodes[-1].op != "output":
        raise ValueError(f"expected a graph of two inputs, images and dense, and one output, got inputs {inputs}")
    return graph


def _only(value: dict[str, Any]) -> tuple[str, Any]:
    if len(value) != 1:
        raise ValueError(f"expected one key, got {sorted(value)}")
    return next(iter(value.items()))


def _check_node(op: Any, target: Any, args: tuple[Any, ...], last: bool) -> None:
    allowed = {
        "placeholder": lambda: target.isidentifier(),
        "get_attr": lambda: _is_path(target),
        "call_module": lambda: _is_path(target),
        "call_method": lambda: target in NAMES and bool(args) and isinstance(args[0], fx.Node),
        "call_function": lambda: (
            target in FUNCTIONS
            and (target != "getattr" or (len(args) == 2 and isinstance(args[0], fx.Node) and args[1] in ATTRIBUTES))
        ),
        "output": lambda: last and target == "output" and len(args) == 1,
    }
    if not isinstance(op, str) or not isinstance(target, str) or op not in allowed or not allowed[op]():
        raise ValueError(f"expected an operation of a traced network, got {op!r} of {target!r}")


def _is_path(path: str) -> bool:
    """Names of submodules and tensors, joined by dots."""
    return all(name not in nn.Module.__dict__ and _is_name(name) for name in path.split("."))


def _is_name(name: str) -> bool:
    return (name.isidentifier() and not name.startswith("__")) or (name.isascii() and name.isdigit())
