"""Tracing of image networks with ``torch.fx``: which calls are replaced, unchanged or unsupported."""

import inspect
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from functools import reduce
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn

from gnnlib.grid.convert import LAYERS, Step

__all__ = ["Program", "Shapes", "caller", "convert", "trace", "unsupported"]

LIBRARIES = str(Path(torch.__file__).parent), str(Path(__file__).parents[1])

TRACED_MODULES = {"conv", "pooling", "linear"}
"""Files of torch.nn whose modules are traced to the functions that they call."""

UNCHANGED_MODULES = {"activation", "batchnorm", "dropout", "flatten", "instancenorm", "normalization"}
"""Files of torch.nn whose modules are unchanged: they have no window."""

UNCHANGED = """
    add sub rsub mul div truediv floordiv neg pow square abs sqrt rsqrt exp log clamp clip minimum maximum where
    relu relu6 leaky_relu prelu elu selu celu gelu silu mish hardswish hardsigmoid hardtanh sigmoid logsigmoid tanh
    softplus softsign softmax log_softmax linear sum mean amax amin masked_fill masked_scatter
    batch_norm layer_norm group_norm instance_norm local_response_norm rms_norm normalize
    dropout dropout1d dropout2d dropout3d alpha_dropout feature_alpha_dropout
    flatten unflatten view reshape squeeze unsqueeze permute transpose movedim contiguous expand expand_as
    chunk split cat concat stack getitem getattr size dim numel
    to type_as float double half new_zeros new_ones zeros_like ones_like clone detach
"""
"""Names of functions and methods that are unchanged, in place or not."""


class Program:
    """A traced forward pass. Its nodes are evaluated one after the other; no source is made of them and compiled."""

    def __init__(self, graph: fx.Graph):
        self.graph = graph
        *nodes, output = graph.nodes
        self.inputs = [node for node in nodes if node.op == "placeholder"]
        self.nodes = [node for node in nodes if node.op != "placeholder"]
        self.output = output.args[0]
        last_use = {value: node for node in (*nodes, output) for value in node.all_input_nodes}
        self.unused = {node: [value for value, last in last_use.items() if last is node] for node in self.nodes}

    def run(self, root: nn.Module, images: Tensor, dense: bool) -> Any:
        """The outputs of the network ``root`` for images (B, C, \\*size)."""
        values: dict[fx.Node, Any] = dict(zip(self.inputs, (images, dense)))
        for node in self.nodes:
            args = fx.map_arg(node.args, values.__getitem__)
            kwargs = fx.map_arg(node.kwargs, values.__getitem__)
            values[node] = EVALUATE[node.op](root, node.target, args, kwargs)
            for value in self.unused[node]:
                del values[value]
        return fx.map_arg(self.output, values.__getitem__)

    def __reduce__(self) -> tuple[type, tuple[fx.Graph]]:
        return Program, (self.graph,)


def _attribute(root: nn.Module, path: str) -> Any:
    return reduce(getattr, path.split("."), root)


EVALUATE: dict[str, Callable[[nn.Module, Any, tuple[Any, ...], dict[str, Any]], Any]] = {
    "call_function": lambda root, function, args, kwargs: function(*args, **kwargs),
    "call_method": lambda root, name, args, kwargs: getattr(args[0], name)(*args[1:], **kwargs),
    "call_module": lambda root, path, args, kwargs: _attribute(root, path)(*args, **kwargs),
    "get_attr": lambda root, path, args, kwargs: _attribute(root, path),
}


class _Tracer(fx.Tracer):
    proxy_buffer_attributes = True

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return super().is_leaf_module(m, module_qualified_name) and _file(m) not in TRACED_MODULES

    def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        with _located(f"{self.path_of_module(m)} ({type(m).__name__})"):
            return super().call_module(m, forward, args, kwargs)


def trace(root: nn.Module) -> fx.Graph:
    """Trace the forward pass of a network with one input, in its current mode."""
    with _located(type(root).__name__):
        graph = _Tracer().trace(root)
    for node in graph.nodes:
        stack = list(node.meta.get("nn_module_stack", {}).values())
        if stack:
            node.meta["caller"] = stack[-1][0], stack[-1][1].__name__
    inputs = [node.name for node in graph.nodes if node.op == "placeholder"]
    if len(inputs) != 1:
        raise ValueError(f"from_torch: expected a network with one input, got {inputs}")
    return graph


@contextmanager
def _located(where: str) -> Iterator[None]:
    """Turn errors of tracing into ValueErrors with a location, that of the innermost context."""
    try:
        yield
    except Exception as error:
        if isinstance(error, ValueError) and str(error).startswith("from_torch: "):
            raise
        raise ValueError(f"from_torch: {where}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """What was expected of a forward pass that cannot be traced, and the line that prevents it."""
    if isinstance(error, fx.proxy.TraceError):
        return f"expected no control flow that depends on values, got {_line(error)}"
    if any(word in str(error) for word in ("Proxy", "symbolic tracing", "proxy.")):
        return f"expected operations on tensors alone, got {_line(error)}"
    return f"expected a forward pass of one input, images, got {_line(error)}, {type(error).__name__}: {error}"


def _line(error: Exception) -> str:
    """The line of the network's code at which an error was raised."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith(LIBRARIES)]
    if not frames:
        return "a call of a library"
    *_, frame = frames
    return f"`{frame.line}` in line {frame.lineno} of {Path(frame.filename).name}"


def _file(module: nn.Module) -> str:
    return type(module).__module__.removeprefix("torch.nn.modules.")


def caller(node: fx.Node) -> tuple[str, str]:
    """Path and type of the module that calls."""
    return node.meta.get("caller", ("", ""))


def unsupported(root: nn.Module, graph: fx.Graph) -> Iterator[str]:
    """The modules and functions that cannot be converted, as path (type) with the function's name."""
    for node in graph.nodes:
        path, kind = caller(node)
        where = f"{path} ({kind})" if path else type(root).__name__
        if node.op == "call_module":
            part = root.get_submodule(node.target)
            if _file(part) not in UNCHANGED_MODULES or isinstance(part, nn.MultiheadAttention):
                yield where
        elif node.op == "call_function" and node.target in LAYERS:
            arguments = inspect.signature(LAYERS[node.target]).bind(*node.args, **node.kwargs).arguments
            if arguments.get("divisor_override") is not None:
                yield f"{where}: divisor_override={arguments['divisor_override']}"
        elif node.op in ("call_function", "call_method"):
            name = node.target if isinstance(node.target, str) else node.target.__name__
            if name.rstrip("_") not in UNCHANGED.split():
                yield f"{where}: {name}"


def convert(graph: fx.Graph) -> fx.Graph:
    """Replace functions by layers on lattices, and add a second input ``dense``."""
    (images,) = graph.find_nodes(op="placeholder")
    with graph.inserting_after(images):
        dense = graph.placeholder("dense")
    for node in graph.nodes:
        if node.op == "call_function" and node.target in LAYERS:
            node.target = LAYERS[node.target]
            node.kwargs = {**node.kwargs, "dense": dense}
    return deepcopy(graph)  # without references to the original functions: some cannot be pickled


class Shapes(fx.Interpreter):
    """Run a network with zeros of the right shape as outputs of convolutions and poolings."""

    def __init__(self, module: nn.Module, graph: fx.Graph):
        super().__init__(module, graph=graph)
        self.extra_traceback = False  # our errors have a location

    def run_node(self, n: fx.Node) -> Any:
        path, kind = caller(n)
        try:
            return super().run_node(n)
        except Exception as error:
            where = f"{path} ({kind})" if path else type(self.module).__name__
            if isinstance(error, ValueError) and "expected " in str(error):  # of a layer on a lattice
                raise ValueError(f"from_torch: {where}: {error}") from error
            args = (*self.fetch_args_kwargs_from_env(n)[0],)
            shapes = " and ".join(str(tuple(value.shape)) for value in args if isinstance(value, Tensor))
            raise ValueError(f"from_torch: {where}: expected inputs of shapes that fit, got {shapes}") from error

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        if not hasattr(target, "step"):
            return super().call_function(target, args, kwargs)
        step = self.step(target, args, kwargs)
        images = args[0] if args else kwargs["input"]
        return images.new_zeros(len(images), step.channels, *step.size)

    def step(self, target: Any, args: Any, kwargs: Any) -> Step:
        return target.step(*args, **{name: value for name, value in kwargs.items() if name != "dense"})
