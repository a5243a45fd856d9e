"""Calls: messages for wrong arguments of functions and classes; which arguments a module of any library takes."""

import inspect
from collections.abc import Callable, Collection, Mapping
from functools import lru_cache, wraps
from inspect import Parameter, signature
from typing import Any, NamedTuple, TypeVar, cast

from torch import nn

__all__ = [
    "ARGUMENT_ERRORS",
    "BY_POSITION",
    "EDGE_NAMES",
    "VARIADIC",
    "Positional",
    "call_model",
    "call_with_edge",
    "check_call",
    "is_of",
    "names_checked",
    "positional_arguments",
]

Function = TypeVar("Function", bound=Callable[..., Any])

BY_POSITION = Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD
VARIADIC = Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD

ARGUMENT_ERRORS: dict[str, Callable[[str, Any], Exception | None]] = {}
"""By the name of a parameter: the error for an argument of another kind, or None. `gnnlib.graph` has graph and x."""

EDGE_NAMES = ("edge", "edge_weight", "edge_attr", "edge_feat", "edge_feats", "eweight", "efeat", "pseudo")
"""Names of edge weights or edge features here, in DGL and in PyTorch Geometric."""

FOREIGN = ("dgl.", "torch_geometric.")
"""Packages whose layers may have something else than edge values as their third argument."""


def is_of(module: object, *packages: str) -> bool:
    """Whether the class of a module, or one of its bases, is of one of the packages.

    Example:
        >>> from torch import nn
        >>> from gnnlib._utils.calls import is_of
        >>> is_of(nn.ReLU(), "torch.nn."), is_of(nn.ReLU(), "dgl.", "torch_geometric.")
        (True, False)
    """
    return any(kind.__module__.startswith(packages) for kind in type(module).__mro__)


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
    if len(names) > 2 and not is_of(module, *FOREIGN):
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


def names_checked(owner: str | None = None, /, **names: str) -> Callable[[Function], Function]:
    """Decorator of a function, a method or a class: the messages of `check_call` for wrong, missing and too many
    arguments, and after any other error those of `ARGUMENT_ERRORS`. A correct call costs one more frame.

    Args:
        owner: name in the messages; None: that of the function or the class
        names: what to write in place of the names of other libraries, or where an argument is missing

    Example:
        >>> from gnnlib._utils.calls import names_checked
        >>> @names_checked(num_hops="k=")
        ... def hops(graph, k):
        ...     return k
        >>> hops(None, num_hops=2)
        Traceback (most recent call last):
        ...
        TypeError: hops: expected k=, got num_hops=
    """

    def decorate(function: Function) -> Function:
        if isinstance(function, type):
            kind: Any = function
            constructor = "__init__" if kind.__init__ is not object.__init__ else "__new__"
            setattr(kind, constructor, _checked(getattr(kind, constructor), owner, names, bound=1))
            return function
        bound = next(iter(signature(function).parameters), None) in ("self", "cls")
        return cast(Function, _checked(function, owner or function.__qualname__, names, int(bound)))

    return decorate


def _checked(
    function: Callable[..., Any], owner: str | None, names: Mapping[str, str], bound: int
) -> Callable[..., Any]:
    """A function with messages. ``bound`` is 1 if its first argument is an object, or a class, and not the caller's."""
    parameters = signature(function).parameters.values()
    flags = [(place, p.name) for place, p in enumerate(parameters) if p.annotation in (bool, "bool")]

    def explain(error: Exception, args: tuple[Any, ...], options: Mapping[str, Any]) -> Exception:
        """The error that says what to write, or the error itself."""
        kind = args[0] if bound and isinstance(args[0], type) else type(args[0] if bound else None)
        name = owner or kind.__name__
        if isinstance(error, TypeError):
            check_call(name, function, args if bound else (None, *args), options, names, bound)
        if isinstance(error, _NoFlag):
            return TypeError(f"{name}: {error}")
        explains_itself = "expected " in str(error) and not isinstance(error, AttributeError)
        wrong = None if explains_itself else _argument_error(name, function, args, options)
        return wrong or error

    @wraps(function)
    def checked(*args: Any, **options: Any) -> Any:
        try:
            for place, flag in flags:
                _check_flag(flag, options[flag] if flag in options else args[place] if place < len(args) else False)
            return function(*args, **options)
        except Exception as error:
            explained = explain(error, args, options)
            if explained is error:
                raise
            raise explained from (None if isinstance(error, _NoFlag) else error)

    return checked


class _NoFlag(TypeError):
    """A flag that is neither True nor False."""


def _check_flag(name: str, value: Any) -> None:
    if value is not True and value is not False and type(value).__name__ not in ("bool", "bool_"):
        got = repr(value).partition("\n")[0][:50]
        raise _NoFlag(f"expected {name} to be True or False, got {got}")


def _argument_error(
    name: str, function: Callable[..., Any], args: tuple[Any, ...], options: Mapping[str, Any]
) -> Exception | None:
    """The error for an argument that is of another kind than the name of its parameter says, which explains another."""
    parameters = signature(function).parameters
    for parameter, value in {**dict(zip(parameters, args)), **options}.items():
        if parameter in ARGUMENT_ERRORS and value is not parameters[parameter].default:
            wrong = ARGUMENT_ERRORS[parameter](name, value)
            if wrong is not None:
                return wrong
    return None


def check_call(
    owner: object,
    function: Callable[..., Any],
    args: Collection[Any],
    options: Collection[str],
    renamed: Mapping[str, str],
    bound: int = 1,
) -> None:
    """Whether a function takes these arguments, ``self`` among them.

    Raises:
        TypeError: if it lacks a name, there are too many arguments by position, or a required one is missing
    """
    error = _call_error(function, args, options, renamed, bound)
    if error is not None:
        raise TypeError(f"{owner if isinstance(owner, str) else type(owner).__name__}: {error}") from None


def _call_error(
    function: Callable[..., Any],
    args: Collection[Any],
    options: Collection[str],
    renamed: Mapping[str, str],
    bound: int,
) -> str | None:
    parameters = list(signature(function).parameters.values())[bound:]
    names = [p.name for p in parameters if p.kind not in VARIADIC]
    positional = [p.name for p in parameters if p.kind in BY_POSITION]
    kinds = {p.kind for p in parameters}
    unknown = [name for name in options if name not in names]
    if unknown and Parameter.VAR_KEYWORD not in kinds:
        arguments = f"arguments among {', '.join(names)}" if names else "no arguments"
        return f"expected {renamed.get(unknown[0], arguments)}, got {unknown[0]}="
    if len(args) - 1 > len(positional) and Parameter.VAR_POSITIONAL not in kinds:
        keywords = ", ".join(f"{name}=" for name in names if name not in positional)
        return (
            f"expected {', '.join(positional) or 'nothing'} by position{keywords and f' and {keywords} by name'}, got "
            f"{len(args) - 1} arguments by position"
        )
    twice = [name for name in positional[: len(args) - 1] if name in options]
    if twice:
        return f"expected {twice[0]} once, got it by position and as {twice[0]}="
    required = [p.name for p in parameters if p.default is Parameter.empty and p.kind not in VARIADIC]
    missing = [name for name in required if name not in [*positional[: len(args) - 1], *options]]
    if not missing:
        return None
    return f"expected {renamed.get(missing[0], ', '.join(required))}, got no {', '.join(missing)}"
