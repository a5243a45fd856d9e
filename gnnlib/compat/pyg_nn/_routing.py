"""Which calls of PyG's layers run on gnnlib's kernels; the others run PyG's code."""

import inspect
from collections import Counter
from collections.abc import Callable
from copy import copy
from functools import cache, wraps
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch_geometric.nn import MessagePassing

__all__ = ["KernelLayer", "Unserved", "calls", "routed"]

calls: Counter[tuple[str, str]] = Counter()
"""The number of calls by layer and library, as ``calls["GCNConv", "gnnlib"]``."""

MESSAGE_FUNCTIONS = ("message", "aggregate", "update", "message_and_aggregate", "edge_update")
HOOKS = [
    f"_{part}_forward{time}_hooks"
    for part in ("propagate", "message", "aggregate", "message_and_aggregate", "edge_update")
    for time in ("", "_pre")
]
FLOATS = (torch.float32, torch.float64)
INTEGERS = (torch.int32, torch.int64)


class Unserved(Exception):
    """Raised by a forward for a call that is PyG's."""


class KernelLayer:
    """Base of the layers: before PyG's class among the bases.

    TorchScript compiles PyG's class in place of this one.
    """

    _pyg: ClassVar[Any]
    min_products: ClassVar[int] = 1 << 16  # of edges and features; PyG's code takes less time below it

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls._pyg = next((base for base in cls.__mro__ if base.__module__.startswith("torch_geometric.")), None)

    def _set_jittable_templates(self, *args: Any, **options: Any) -> None:
        """PyG reads the arguments of messages from the source of a class, which it looks up by the class's name."""
        layer: Any = self
        sources = getattr(layer.inspector, "_source_dict", {})
        sources.setdefault(self._pyg.__name__, inspect.getsource(self._pyg))
        super()._set_jittable_templates(*args, **options)  # type: ignore[misc]

    def __prepare_scriptable__(self) -> Any:
        layer = copy(self)
        layer.__class__ = self._pyg
        layer._set_jittable_templates()
        return layer


def routed(forward: Callable[..., Any]) -> Callable[..., Any]:
    """Decorator of a forward on the kernels: it gets the calls that these can serve, and PyG's forward the others."""

    @wraps(forward)
    def route(self: Any, *args: Any, **options: Any) -> Any:
        if _is_traced():
            return self._pyg.forward(self, *args, **options)
        if _is_plain(self) and _are_plain([*args, *options.values()], self.min_products):
            try:
                y = forward(self, *args, **options)
                calls[self._pyg.__name__, "gnnlib"] += 1
                return y
            except Unserved:
                pass
        calls[self._pyg.__name__, "torch_geometric"] += 1
        return self._pyg.forward(self, *args, **options)

    route.__doc__ = "Apply the layer: arguments, shapes and output are those of PyG's layer."
    return route


def _is_traced() -> bool:
    """Whether the call is compiled, traced, transformed by ``torch.func`` or differentiated forward."""
    return (
        torch.compiler.is_compiling()
        or torch.jit.is_tracing()
        or torch.is_autocast_enabled("cpu")
        or torch._C._functorch.maybe_current_level() is not None
        or torch.autograd.forward_ad._current_level >= 0
    )


def _is_plain(layer: Any) -> bool:
    """Whether nobody has replaced or observes the parts of PyG's message passing."""
    kind: Any = type(layer)
    return (
        not _is_customised(kind, layer._pyg)
        and not layer.explain
        and layer.decomposed_layers == 1
        and layer.node_dim in (0, -2)
        and not any(getattr(layer, name) for name in HOOKS)
    )


@cache
def _is_customised(cls: Any, pyg: Any) -> bool:
    return not cls.propagate.__module__.endswith(("_propagate", MessagePassing.__module__)) or any(
        getattr(cls, name) is not getattr(pyg, name) for name in MESSAGE_FUNCTIONS
    )


def _are_plain(values: list[Any], min_products: int) -> bool:
    """Whether x is a matrix, and the tensors are large enough, on the CPU, of PyTorch's own classes and of one type."""
    parts = [part for value in values for part in (value if isinstance(value, (tuple, list)) else [value])]
    tensors = [part for part in parts if isinstance(part, Tensor)]
    features = next((t for t in tensors if t.dtype in FLOATS), None)
    edges = next((t for t in tensors if t.dtype in INTEGERS or t.layout is not torch.strided), None)
    return (
        features is not None
        and edges is not None
        and features.layout is torch.strided
        and features.dim() == 2
        and _num_edges(edges) * features.shape[1] >= min_products
        and all(
            type(t) in (Tensor, nn.Parameter)
            and t.device.type == "cpu"
            and (t.dtype in INTEGERS or t.dtype == features.dtype)
            for t in tensors
        )
    )


def _num_edges(edges: Tensor) -> int:
    return edges.shape[-1] if edges.layout is torch.strided else edges._nnz()
