"""The structure of a module as JSON (classes, attributes, tensors by name), and the module rebuilt from it.

Rebuilding calls no constructor. A name in the JSON resolves to a module class or to a function of tensors of gnnlib or
``torch.nn``, or to one of the caller's ``safe_globals``. All other values are numbers, text and tensors.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from importlib import import_module
from inspect import isfunction
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from gnnlib.grid import GridNetwork, from_torch

__all__ = ["Named", "describe", "name_of", "rebuild"]

Named = type[nn.Module] | Callable[..., Any]
PACKAGES = ("gnnlib.", "torch.nn.")
FUNCTION_MODULES = (
    "gnnlib.nn.embedding",
    "gnnlib.nn.readout",
    "gnnlib.nn.stack",
    "gnnlib.ops.message_passing",
    "torch.nn.functional",
)
"""Where functions may come from: none of these modules reads or writes files."""

MODULE_STATE = nn.Module().__dict__.keys()


def describe(model: nn.Module) -> tuple[Any, dict[str, Tensor]]:
    """The structure of a module as JSON, and its tensors on the CPU, shared ones once.

    Raises:
        ValueError: for a part that cannot be described, with its place in the model
    """
    writer = _Writer()
    return writer.write("", model), writer.tensors


def rebuild(structure: Any, tensors: Mapping[str, Tensor], safe_globals: Iterable[Named] = ()) -> nn.Module:
    """The module whose structure and tensors `describe` returned.

    Raises:
        ValueError: for a name that is not allowed, or tensors other than those described, with their place
    """
    reader = _Reader(tensors, {name_of(thing): thing for thing in safe_globals})
    model = reader.read("", structure)
    unused = sorted(tensors.keys() - reader.parameters.keys())
    if unused or not isinstance(model, nn.Module):
        raise ValueError(f"expected one module and its tensors, got {type(model).__name__}, and unused: {unused}")
    return model


def name_of(thing: Any) -> str:
    """The name by which a class or function is imported, from the outermost package that exports it.

    Raises:
        ValueError: if it cannot be imported

    Example:
        >>> from torch import nn
        >>> from gnnlib.io.structure import name_of
        >>> name_of(nn.Linear), name_of(nn.functional.relu)
        ('torch.nn.Linear', 'torch.nn.functional.relu')
    """
    parts, name = thing.__module__.split("."), thing.__qualname__
    for depth in range(1, len(parts) + 1):
        package = ".".join(parts[:depth])
        if getattr(import_module(package), name, None) is thing:
            return f"{package}.{name}"
    raise ValueError(f"expected an importable class or function, got {thing.__module__}.{name}")


def _resolve(name: str, safe_globals: Mapping[str, Named]) -> Any:
    """The class or function of this name, if it is allowed."""
    package, _, last = name.rpartition(".")
    if name in safe_globals:
        return safe_globals[name]
    if not name.startswith(PACKAGES):
        raise ValueError(f"expected parts of gnnlib and torch.nn, got {name}; if you trust it: safe_globals=[{last}]")
    try:
        thing = getattr(import_module(package), last)
    except (ImportError, AttributeError):
        raise ValueError(f"expected a part of this version of {name.partition('.')[0]}, got {name}") from None
    is_module = isinstance(thing, type) and issubclass(thing, nn.Module)
    is_function = isfunction(thing) and thing.__module__ in FUNCTION_MODULES
    if not (is_module or is_function) or name_of(thing) != name:
        raise ValueError(f"expected a module, or a function of {', '.join(FUNCTION_MODULES)}, got {name}")
    return thing


def _join(path: str, name: object) -> str:
    return f"{path}.{name}" if path else str(name)


class _Writer:
    """A tensor's name is its first place in the model, as in a state dict; a module that occurs again is a reference
    to its first place."""

    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}
        self.references: dict[int, dict[str, Any]] = {}

    def write(self, path: str, value: Any) -> Any:
        if value is None or isinstance(value, (bool, int, float, str)):
            return value
        if id(value) in self.references:
            return self.references[id(value)]
        if isinstance(value, Tensor):
            return self._tensor(path, value)
        if isinstance(value, nn.Module):
            self.references[id(value)] = {"shared": path}
            return self._module(path, value)
        if type(value) in (list, tuple, torch.Size):  # no NamedTuple, which would be read as a tuple
            items = [self.write(_join(path, number), item) for number, item in enumerate(value)]
            return items if isinstance(value, list) else {"tuple": items}
        if isinstance(value, dict) and all(isinstance(key, str) for key in value):
            return {"dict": self._dict(path, value)}
        if isinstance(value, partial):
            return {"partial": self.write(path, [value.func, list(value.args), value.keywords])}
        if isfunction(value) or isinstance(value, type):
            return {"name": self._name(path, value)}
        raise ValueError(f"{path}: expected modules, tensors, numbers, text and functions, got {value!r}")

    def _dict(self, path: str, values: Mapping[str, Any]) -> dict[str, Any]:
        return {name: self.write(_join(path, name), value) for name, value in values.items()}

    def _name(self, path: str, thing: Any) -> str:
        try:
            return name_of(thing)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None

    def _tensor(self, path: str, tensor: Tensor) -> dict[str, Any]:
        kind = ("parameter" if tensor.requires_grad else "frozen") if isinstance(tensor, nn.Parameter) else "tensor"
        self.tensors[path] = tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        self.references[id(tensor)] = {kind: path, "shape": list(tensor.shape), "dtype": str(tensor.dtype)}
        return self.references[id(tensor)]

    def _module(self, path: str, module: nn.Module) -> dict[str, Any]:
        if isinstance(module, GridNetwork):
            return {"from_torch": self._module(path, module.root), "size": module.input_size, "backend": module.backend}
        state = _state(module)
        hooks = [name for name in MODULE_STATE if "hook" in name and state[name]]
        if hooks:
            raise ValueError(f"{path}: expected a module without hooks, got {type(module).__name__} with {hooks[0]}")
        tensors = self._dict(path, {**state["_parameters"], **state["_buffers"]})
        for name in state["_non_persistent_buffers_set"]:
            tensors[name] = {**tensors[name], "persistent": False}
        submodules = self._dict(path, state["_modules"])
        attributes = self._dict(path, {name: value for name, value in state.items() if name not in MODULE_STATE})
        name = self._name(path, parametrize.type_before_parametrizations(module))
        sections = {"attributes": attributes, "tensors": tensors, "modules": submodules}
        return {"module": name, **{key: section for key, section in sections.items() if section}}


def _state(module: nn.Module) -> dict[str, Any]:
    """The state for pickling, in which recurrent layers omit what they construct again."""
    get_state = getattr(module, "__getstate__", None)
    return module.__dict__ if get_state is None or parametrize.is_parametrized(module) else get_state()


class _Reader:
    """Reads in the order of writing, so that a shared part comes before the references to it."""

    def __init__(self, tensors: Mapping[str, Tensor], safe_globals: Mapping[str, Named]):
        self.tensors, self.safe_globals = tensors, safe_globals
        self.parameters: dict[str, Tensor] = {}
        self.modules: dict[str, nn.Module] = {}

    def read(self, path: str, spec: Any) -> Any:
        if isinstance(spec, list):
            return [self.read(_join(path, number), item) for number, item in enumerate(spec)]
        if not isinstance(spec, dict):
            return spec
        for kind in KINDS:
            if kind in spec:
                return KINDS[kind](self, path, spec)
        raise ValueError(f"{path}: expected one of {', '.join(KINDS)}, got {spec}")

    def _dict(self, path: str, specs: Mapping[str, Any]) -> dict[str, Any]:
        return {name: self.read(_join(path, name), spec) for name, spec in specs.items()}

    def _name(self, path: str, name: str) -> Any:
        try:
            return _resolve(name, self.safe_globals)
        except ValueError as error:
            raise ValueError(f"{path}: {error}" if path else str(error)) from None

    def _partial(self, path: str, spec: dict[str, Any]) -> Any:
        function, arguments, options = self.read(path, spec["partial"])
        return partial(function, *arguments, **options)

    def _shared(self, path: str, spec: dict[str, Any]) -> nn.Module:
        return self.modules[spec["shared"]]

    def _tensor(self, path: str, spec: dict[str, Any]) -> Tensor:
        kind, name = next(iter(spec.items()))
        if name not in self.tensors:
            raise ValueError(f"{path}: expected a tensor {name}, got none")
        tensor = self.tensors[name]
        if [list(tensor.shape), str(tensor.dtype)] != [spec["shape"], spec["dtype"]]:
            got = f"{tuple(tensor.shape)} of {tensor.dtype}"
            raise ValueError(f"{name}: expected shape {tuple(spec['shape'])} of {spec['dtype']}, got {got}")
        if name not in self.parameters:
            self.parameters[name] = tensor if kind == "tensor" else nn.Parameter(tensor, kind == "parameter")
        return self.parameters[name]

    def _network(self, path: str, spec: dict[str, Any]) -> nn.Module:
        root = self._module(path, spec["from_torch"])
        self.modules[path] = from_torch(root, spec["size"], spec["backend"])
        return self.modules[path]

    def _module(self, path: str, spec: dict[str, Any]) -> nn.Module:
        kind = self._name(path, spec["module"])
        if not (isinstance(kind, type) and issubclass(kind, nn.Module)):
            raise ValueError(f"{path}: expected a module, got {spec['module']}")
        module = self.modules[path] = kind.__new__(kind)
        specs = spec.get("tensors", {})
        tensors = self._dict(path, specs)
        parameters = {name: tensor for name, tensor in tensors.items() if isinstance(tensor, nn.Parameter | None)}
        submodules = self._dict(path, spec.get("modules", {}))
        state = {
            **nn.Module().__dict__,
            **self._dict(path, spec.get("attributes", {})),
            "_parameters": parameters,
            "_buffers": {name: tensor for name, tensor in tensors.items() if name not in parameters},
            "_non_persistent_buffers_set": {n for n, one in specs.items() if one and not one.get("persistent", True)},
            "_modules": submodules,
        }
        module.__setstate__(state)
        if isinstance(submodules.get("parametrizations"), nn.ModuleDict):
            parametrize._inject_new_class(module)
            for name in submodules["parametrizations"]:
                parametrize._inject_property(module, name)
        return module


KINDS: dict[str, Callable[[_Reader, str, dict[str, Any]], Any]] = {
    "module": _Reader._module,
    "shared": _Reader._shared,
    "parameter": _Reader._tensor,
    "frozen": _Reader._tensor,
    "tensor": _Reader._tensor,
    "name": lambda reader, path, spec: reader._name(path, spec["name"]),
    "tuple": lambda reader, path, spec: tuple(reader.read(path, spec["tuple"])),
    "dict": lambda reader, path, spec: reader._dict(path, spec["dict"]),
    "partial": _Reader._partial,
    "from_torch": _Reader._network,
}
