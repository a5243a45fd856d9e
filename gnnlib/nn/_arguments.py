"""Constructor arguments of modules: checks, `extra_repr`, and messages for the names of other libraries.

A module of the library derives from `Arguments` and stores each argument as the attribute of the same name::

    class GraphNorm(Arguments, nn.Module):
        renamed: ClassVar = {"in_channels": "feats"}

        def __init__(self, feats: int, *, eps: float = 1e-5):
            super().__init__()
            self.feats = integer(self, "feats", feats)
            self.eps = number(self, "eps", eps, minimum=0)

The constructor receives numbers of NumPy, and tensors without axes, as numbers of Python. The checks return the value.
Their errors name the module and the argument: "GraphNorm: expected feats >= 1, got 0".
"""

import operator
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import wraps
from inspect import Parameter, signature
from typing import Any, ClassVar, TypeVar, cast

import numpy as np
import torch
from torch import Tensor, nn

from gnnlib._utils.calls import BY_POSITION, VARIADIC, check_call, names_checked
from gnnlib.graph import Adjacency, takes_graph
from gnnlib.graph._check import features_error, graph_error
from gnnlib.graph._convert import convert_graph
from gnnlib.nn._foreign import forward_answers

__all__ = [
    "Arguments",
    "check_model",
    "integer",
    "integers",
    "number",
    "one_of",
    "positive",
    "probability",
    "renames",
    "reset_parameters",
    "some_of",
]

Function = TypeVar("Function", bound=Callable[..., Any])


class Arguments:
    """Mixin of a module: `extra_repr` from its constructor's signature, and one message for any wrong argument.

    Where ``forward`` begins with the argument ``graph``, an error in it becomes one sentence if the graph or the
    features are wrong, or an argument has the name of another library.

    ``renamed`` maps a name of another library to what to write here: the name of an argument, or a phrase that
    completes "expected ...". A subclass adds to it: ``renamed = {**Base.renamed, "heads": "num_heads"}``.

    With ``takes_types``, the graph may have several edge types, and the features are dicts by node type.
    """

    renamed: ClassVar[Mapping[str, str]] = {}
    takes_types: ClassVar[bool] = False
    shown_by_position: ClassVar[Collection[str] | None] = None  # required arguments without names; None: all of them
    always_shown: ClassVar[Collection[str]] = ()  # arguments that `extra_repr` shows even where they are the default

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "__init__" in vars(cls):
            cls.__init__ = _checked(cls.__init__)  # type: ignore[method-assign]
        if "forward" in vars(cls) and list(signature(cls.forward).parameters)[1:2] == ["graph"]:
            cls.forward = _explained(cls.forward)

    forward: Callable[..., Any]

    def extra_repr(self) -> str:
        """Positional arguments, and those by name that are not their defaults. Modules show as children."""
        shown = []
        for name, parameter in list(signature(type(self).__init__).parameters.items())[1:]:
            default, required = parameter.default, parameter.default is Parameter.empty
            value = _argument(getattr(self, name, default), default)
            if value is Parameter.empty or parameter.kind in VARIADIC or isinstance(value, nn.Module | Tensor):
                continue
            if required or name in self.always_shown or (value is not default and value != default):
                text = getattr(value, "__name__", repr(value))  # a function or a class by its name
                bare = required and parameter.kind in BY_POSITION
                bare = bare and (self.shown_by_position is None or name in self.shown_by_position)
                shown.append(text if bare else f"{name}={text}")
        return ", ".join(shown)

    def __prepare_scriptable__(self) -> Any:
        """Called by ``torch.jit.script``."""
        if "graph" not in signature(self.forward).parameters:
            return self
        raise TypeError(
            f"{type(self).__name__}: expected a call in Python, got torch.jit.script: TorchScript has no DGL graphs; "
            "save a model with gnnlib.save_model"
        )


def _argument(value: Any, default: Any) -> Any:
    """The argument behind an attribute: a flag behind a parameter or None, a number behind a dropout or a tensor."""
    if isinstance(default, bool) and not isinstance(value, bool):
        return value is not None
    if isinstance(default, float) and isinstance(value, nn.Dropout):
        return value.p
    if isinstance(default, float) and isinstance(value, Tensor):
        return float(f"{value.item():.6g}")
    return value


def _checked(init: Callable[..., None]) -> Callable[..., None]:
    flags = {name for name, parameter in signature(init).parameters.items() if parameter.annotation is bool}

    @wraps(init)
    def checked(self: Any, *args: Any, **options: Any) -> None:
        check_call(type(self).__name__, init, (self, *args), options, self.renamed)
        args, options = _python_numbers(args), {name: _python_numbers(value) for name, value in options.items()}
        for name, value in options.items():
            if name in flags and not isinstance(value, bool):
                raise TypeError(f"{type(self).__name__}: expected {name} to be True or False, got {value!r}")
        init(self, *args, **options)

    return checked


def _python_numbers(value: Any) -> Any:
    """A number of NumPy, or a tensor without axes, as one of Python; also inside tuples and lists."""
    if isinstance(value, np.generic) or (isinstance(value, Tensor) and value.dim() == 0):
        return value.item()
    return type(value)(map(_python_numbers, value)) if type(value) in (tuple, list) else value


def _explained(forward: Callable[..., Any]) -> Callable[..., Any]:
    """``forward``, whose errors after a wrong call say what to write. A correct call costs one more frame."""
    names = list(signature(forward).parameters)[1:]
    edge = "value" if "edge" in names else None
    forward = takes_graph()(forward)

    @wraps(forward)
    def checked(self: Any, *args: Any, **options: Any) -> Any:
        try:
            return forward(self, *args, **options)
        except Exception as error:
            values = {**dict(zip(names, args)), **options}
            wrong = _graph_error(self, values, error)
            if wrong is not None:
                raise wrong from None
            check_call(self, forward, (self, *args), options, forward_answers(getattr(self, "takes_edge", edge)))
            explained = ": expected " in str(error) and not str(error).startswith("Linear: ")  # a part of most layers
            wrong = None if explained or self.takes_types else _values_error(self, values)
            if wrong is not None:
                raise wrong from error
            raise

    return checked


def _graph_error(module: nn.Module, values: Mapping[str, Any], error: Exception) -> Exception | None:
    """What is wrong with the graph of a call; None if it is one, or a list of message-flow graphs."""
    graph = values.get("graph")
    blocks = isinstance(graph, (list, tuple)) and not isinstance(error, AttributeError)  # of a k-hop layer
    if "graph" not in values or blocks or isinstance(graph, Adjacency):
        return None
    try:
        graph = convert_graph(graph, values.get("x"), _name(module))
        return graph_error(_name(module), graph, getattr(module, "takes_types", False))
    except (TypeError, ValueError):  # of the conversion, whose error says what is wrong
        return None


def _values_error(module: nn.Module, values: Mapping[str, Any]) -> Exception | None:
    """What is wrong with features and edge values, which the parameters' dtype and device decide."""
    like = next((p for p in module.parameters() if p.is_floating_point()), None)
    for name in ("x", "edge"):
        value = values.get(name)
        for part in value if isinstance(value, tuple) else (value,):
            checkable = part is not None and not (name == "edge" and isinstance(part, list)) and not _is_autocast(part)
            wrong = features_error(_name(module), part, like=like, name=name) if checkable else None
            if wrong is not None:
                return wrong
    return None


def _is_autocast(value: Any) -> bool:
    return isinstance(value, Tensor) and torch.is_autocast_enabled(value.device.type)


def renames(owner: str, **names: str) -> Callable[[Function], Function]:
    """`names_checked`, for a function that also receives numbers of NumPy as numbers of Python."""

    def decorate(function: Function) -> Function:
        @names_checked(owner, **names)
        @wraps(function)
        def checked(*args: Any, **options: Any) -> Any:
            return function(*_python_numbers(args), **{name: _python_numbers(value) for name, value in options.items()})

        return cast(Function, checked)

    return decorate


def _name(owner: object) -> str:
    return owner if isinstance(owner, str) else type(owner).__name__


def check_model(owner: object, model: Any, rest: str = "data") -> None:
    """Check that an argument is a module.

    Raises:
        TypeError: if it is none
    """
    if not isinstance(model, nn.Module):
        got = f"the class {model.__name__}" if isinstance(model, type) else type(model).__name__
        raise TypeError(f"{_name(owner)}: expected a model, a torch.nn.Module, first, and then {rest}, got {got}")


def integer(owner: object, name: str, value: Any, minimum: int = 1) -> int:
    """An integer of at least ``minimum``, of Python, NumPy or a tensor of one entry."""
    try:
        index = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        index = None
    if index is None or index < minimum:
        kind = "an integer " if index is None else ""
        got = f"a {type(value).__name__}; pass networks by name" if isinstance(value, nn.Module) else repr(value)
        raise ValueError(f"{_name(owner)}: expected {kind}{name} >= {minimum}, got {got}")
    return index


def integers(owner: object, name: str, value: Any, minimum: int = 1) -> tuple[int, ...]:
    """One integer for each axis; a single one is for two axes."""
    sizes = tuple(value) if isinstance(value, Sequence) else (value, value)
    if not sizes:
        raise ValueError(f"{_name(owner)}: expected a {name} with an axis or more, got {value}")
    return tuple(integer(owner, name, size, minimum) for size in sizes)


def number(owner: object, name: str, value: Any, minimum: float = float("-inf"), maximum: float = float("inf")) -> Any:
    """A number from ``minimum`` to ``maximum``."""
    try:
        valid = minimum <= value <= maximum
    except TypeError:
        valid = False
    if not valid:
        bounds = [f" >= {minimum}"] * (minimum > float("-inf")) + [f" <= {maximum}"] * (maximum < float("inf"))
        raise ValueError(f"{_name(owner)}: expected a number {name}{' and'.join(bounds)}, got {value!r}")
    return value


def positive(owner: object, name: str, value: Any) -> float:
    """A finite number above 0, of Python, NumPy or a tensor of one entry."""
    try:
        valid = 0 < value < float("inf")
    except (TypeError, ValueError, RuntimeError):
        valid = False
    if not valid:
        raise ValueError(f"{_name(owner)}: expected a positive {name}, got {value!r}")
    return float(value)


def probability(owner: object, name: str, value: Any) -> Any:
    """A number from 0 to 1."""
    try:
        valid = 0 <= value <= 1
    except TypeError:
        valid = False
    if not valid:
        raise ValueError(f"{_name(owner)}: expected a probability {name} from 0 to 1, got {value!r}")
    return value


def one_of(owner: object, name: str, value: Any, choices: Collection[Any]) -> Any:
    """One of some choices."""
    if value not in choices:
        raise ValueError(f"{_name(owner)}: expected {name} to be one of {', '.join(map(repr, choices))}, got {value!r}")
    return value


def some_of(owner: object, name: str, values: Any, choices: Collection[Any]) -> tuple[Any, ...]:
    """One or more of some choices."""
    valid = isinstance(values, (list, tuple)) and len(values) > 0 and all(value in choices for value in values)
    if not valid:
        raise ValueError(f"{_name(owner)}: expected {name} of {list(choices)}, got {values!r}")
    return tuple(values)


def reset_parameters(*modules: nn.Module) -> None:
    """Draw the parameters of modules anew, in the order of their children.

    Raises:
        TypeError: if a module has parameters and no ``reset_parameters``
    """
    for module in modules:
        reset = getattr(module, "reset_parameters", None)
        if callable(reset):
            reset()
        elif next(module.parameters(recurse=False), None) is not None:
            raise TypeError(f"reset_parameters: expected a module that has this method, got {type(module).__name__}")
        else:
            reset_parameters(*module.children())
