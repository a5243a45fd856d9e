"""What `Stack.build` takes for a norm, a skip, an activation, a jump or a readout: a class or a function that makes a
module, a module without parameters, or a name."""

import copy
import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
from torch import nn

from gnnlib.nn._arguments import probability
from gnnlib.nn.drop import DropEdge, DropMessage, DropNode, Dropout
from gnnlib.nn.feed_forward import FeedForward
from gnnlib.nn.norm import (
    BatchNorm,
    ContraNorm,
    DiffGroupNorm,
    GraphNorm,
    LayerNorm,
    MeanSubtraction,
    NodeNorm,
    PairNorm,
    PairNormSCS,
)
from gnnlib.nn.readout import (
    AttentionReadout,
    MaxReadout,
    MeanMaxReadout,
    MeanReadout,
    Set2Set,
    SortPool,
    SumReadout,
)
from gnnlib.nn.residual import DenseConnection, GRUUpdate, JumpingKnowledge, Residual, SkipNode

__all__ = [
    "ACTIVATIONS",
    "FEED_FORWARDS",
    "JUMPS",
    "NORMS",
    "READOUTS",
    "SKIPS",
    "as_drop_edge",
    "as_dropout",
    "as_factory",
    "as_layer",
]

Factory = Callable[..., Any]

NORMS: dict[str, Factory] = {
    "batchnorm": BatchNorm,
    "layernorm": LayerNorm,
    "graphnorm": GraphNorm,
    "instancenorm": partial(GraphNorm, mean_scale=False),
    "pairnorm": PairNorm,
    "pairnorm-si": partial(PairNorm, individually=True),
    "pairnorm-scs": PairNormSCS,
    "meansub": MeanSubtraction,
    "diffgroup": DiffGroupNorm,
    "nodenorm": NodeNorm,
    "contranorm": ContraNorm,
}
SKIPS: dict[str, Factory] = {
    "residual": Residual,
    "linear-residual": partial(Residual, linear=True),
    "dense": DenseConnection,
    "gru": GRUUpdate,
    "skipnode": SkipNode,
}
FEED_FORWARDS: dict[str, Factory] = {"ffn": FeedForward}
ACTIVATIONS: dict[str, Factory] = {
    "relu": nn.ReLU,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "leaky_relu": nn.LeakyReLU,
    "prelu": nn.PReLU,
    "selu": nn.SELU,
    "sigmoid": nn.Sigmoid,
    "silu": nn.SiLU,
    "softplus": nn.Softplus,
    "tanh": nn.Tanh,
}
JUMPS: dict[str, Factory] = {
    "jk-cat": JumpingKnowledge.cat,
    "jk-max": JumpingKnowledge.max,
    "jk-lstm": JumpingKnowledge.lstm,
}
READOUTS: dict[str, Factory] = {
    "sum": SumReadout,
    "mean": MeanReadout,
    "max": MaxReadout,
    "mean-max": MeanMaxReadout,
    "attention": AttentionReadout,
    "set2set": Set2Set,
    "sort": SortPool,
}
CALLS = {
    "conv": ("in_feats", "out_feats"),
    "norm": ("feats",),
    "skip": ("in_feats", "out_feats", "layer"),
    "activation": (),
    "feed_forward": ("feats",),
    "jump": ("feats", "num_layers"),
    "readout": ("in_feats",),
}
"""How `Stack.build` calls each factory."""
OURS: dict[Any, Factory] = {nn.BatchNorm1d: BatchNorm, nn.LayerNorm: LayerNorm}
"""PyTorch's classes, and ours that are called with a graph."""


def as_factory(name: str, value: Any, names: Mapping[str, Factory]) -> Factory | None:
    """A function that makes a module, from what `Stack.build` was given; None for None.

    Args:
        name: of the argument
        value: a class, a function that makes a module, a module without parameters, a function of ``torch`` such as
            ``torch.relu``, or one of ``names``
        names: what may be given as a string

    Raises:
        TypeError: for anything else, with what to write
    """
    if value is None:
        return None
    text = value if isinstance(value, str) else getattr(value, "__name__", None)
    if isinstance(value, str) or (names is ACTIVATIONS and text in names):  # or torch.relu
        return _by_name(name, str(text), names)
    if isinstance(value, nn.Module):
        return _copies(name, value)
    if value is JumpingKnowledge:
        raise TypeError(f"Stack: expected {name}=JumpingKnowledge.cat, .max or .lstm, got the class JumpingKnowledge")
    if not callable(value):
        raise TypeError(f"Stack: expected {name} to be a class or a function that makes a module, got {value!r}")
    factory = OURS.get(value, value)
    _check_call(name, factory)
    return factory


def _by_name(name: str, text: str, names: Mapping[str, Factory]) -> Factory:
    key = text.lower()
    for choice in (key, f"jk-{key}", key.replace("_", ""), key.replace("_", "-")):
        if choice in names:
            return names[choice]
    if not names:
        raise TypeError(f"Stack: expected {name} to be a class, {name}=GCNConv or another, and no string, got {text!r}")
    choices = ", ".join(map(repr, names))
    raise TypeError(f"Stack: expected {name} to be a class that makes a module, or one of {choices}, got {text!r}")


def _copies(name: str, module: nn.Module) -> Factory:
    """A function that copies a module for each layer; of one with parameters or widths each layer needs its own."""
    kind = type(module)
    if next(module.parameters(), None) is not None or hasattr(module, "in_feats") or name == "conv":
        raise TypeError(
            f"Stack: expected {name}={kind.__name__}, a class or a function that makes a module for each layer, "
            f"got one module {kind.__name__}"
        )
    return lambda *widths: copy.deepcopy(module)


def as_layer(conv: Any) -> Factory:
    """The factory of the layers, if it can be called as ``conv(in_feats, out_feats)``.

    Raises:
        TypeError: if it cannot, with what to write
    """
    factory = as_factory("conv", conv, {})
    if factory is None:
        raise TypeError(
            "Stack: expected conv to be a class or a function that makes a layer, such as GCNConv, got None"
        )
    return factory


def _check_call(name: str, factory: Factory) -> None:
    """Whether a class or a function can be called as `Stack.build` calls it."""
    try:
        parameters = list(inspect.signature(factory).parameters.values())
    except ValueError:  # written in C
        return
    arguments, kind = CALLS[name], getattr(factory, "__name__", str(factory))
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    required = [p.name for p in parameters if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    extra = required[len(arguments) :]
    call = f"{name}({', '.join(arguments)})"
    if extra:
        heads = f"lambda i, o: {kind}(i, o // 4, num_heads=4)"
        write = heads if extra == ["num_heads"] else f"partial({kind}, {', '.join(f'{n}=...' for n in extra)})"
        raise TypeError(
            f"Stack: expected {name}={write}, called as {call}, got {kind}, which needs {', '.join(extra)} too"
        )
    maker: Any = factory
    number = maker.keywords.get("num_heads", 1) if isinstance(maker, partial) and name == "conv" else 1
    if number != 1 and isinstance(maker.func, type):
        kind = maker.func.__name__
        raise TypeError(
            f"Stack: expected conv=lambda i, o: {kind}(i, o // {number}, num_heads={number}), got partial({kind}, "
            f"num_heads={number}), whose output is {number} times as wide"
        )
    if len(positional) < len(arguments) and all(p.kind != p.VAR_POSITIONAL for p in parameters):
        takes = ", ".join(p.name for p in positional) or "nothing"
        raise TypeError(f"Stack: expected {name} to be called as {call}, got {kind}, which takes {takes}")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.number)) and not isinstance(value, bool)


def as_dropout(owner: str, value: Any) -> nn.Module | None:
    """The dropout of features: of a probability, a module, or a class with a default probability."""
    if _is_number(value):
        return Dropout(probability(owner, "dropout", value))
    return _as_drop(owner, "dropout", value, "a probability or a module such as DropNode(0.5)", (DropEdge, DropMessage))


def as_drop_edge(owner: str, value: Any) -> nn.Module | None:
    """The dropout of edges: of a probability, a module, or a class with a default probability."""
    if _is_number(value):
        return DropEdge(probability(owner, "drop_edge", value))
    return _as_drop(owner, "drop_edge", value, "a probability or DropEdge(0.5)", (DropNode, DropMessage, nn.Dropout))


def _as_drop(owner: str, name: str, value: Any, expected: str, wrong_types: tuple[type, ...]) -> Any:
    kind = value if isinstance(value, type) else type(value)
    if issubclass(kind, DropMessage):
        expected = f"{expected}, and a layer inside of DropMessage, conv=lambda i, o: DropMessage(GCNConv(i, o), 0.5)"
    elif issubclass(kind, wrong_types):
        expected = f"{expected}, and {kind.__name__} as {'dropout' if name == 'drop_edge' else 'drop_edge'}="
    elif isinstance(getattr(value, "func", value), type):  # a class, or a partial of one
        return value()
    elif value is None or callable(value):
        return value
    got = f"the class {kind.__name__}" if isinstance(value, type) else repr(value)
    raise TypeError(f"{owner}: expected {name} to be {expected}, got {got}")
