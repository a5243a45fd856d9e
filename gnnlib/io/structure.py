"""The structure of a module as JSON (classes, attributes, tensors by name), and the module rebuilt from it.

Rebuilding runs no constructor, imports nothing and compiles nothing. A name in the JSON stands for a module class or a
function of tensors of gnnlib or ``torch.nn`` that is imported already, or for one of the caller's ``safe_globals``. An
attribute cannot take the place of anything that its class defines. All other values are numbers, text and tensors.
"""

import sys
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from inspect import isfunction
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

import gnnlib.models
import gnnlib.nn  # noqa: F401  what a model may be made of
from gnnlib._platform.dgl import dgl
from gnnlib.grid import GridNetwork
from gnnlib.io.traced import describe_graph, rebuild_graph

__all__ = ["Named", "describe", "name_of", "rebuild"]

Named = type[nn.Module] | Callable[..., Any]

MODULE_PACKAGES = (
    "gnnlib.coarsening.",
    "gnnlib.grid.",
    "gnnlib.models.",
    "gnnlib.nn.",
    "gnnlib.ops.",
    "gnnlib.train.",
    "torch.nn.modules.",
    "torch.nn.utils.parametriz",
    "dgl.nn.pytorch.hetero",
)
"""Module classes may be defined in Python modules whose names begin so."""

FUNCTION_MODULES = (
    "dgl.nn.pytorch.hetero",
    "gnnlib.nn.embedding",
    "gnnlib.nn.layer",
    "gnnlib.nn.readout",
    "gnnlib.ops.message_passing",
    "torch.nn.functional",
)
"""Where functions may be defined: none of these modules reads or writes files."""

MODULE_STATE = nn.Module().__dict__.keys()

MAX_DEPTH = 150
MAX_PARTS = 2_000_000
"""Limits on the nesting and the number of JSON values of a structure."""


def describe(model: nn.Module) -> tuple[Any, dict[str, Tensor]]:
    """The structure of a module as JSON, and its tensors on the CPU, shared ones once.

    Raises:
        ValueError: for a part that cannot be described, with its place in the model
    """
    writer = _Writer()
    try:
        structure = writer.write("", getattr(model, "_orig_mod", model))  # of a compiled model, what was compiled
    except RecursionError:
        raise ValueError(f"expected at most {MAX_DEPTH} levels of parts, got more") from None
    _check_size(structure)
    return structure, writer.tensors


def rebuild(structure: Any, tensors: Mapping[str, Tensor], safe_globals: Iterable[Named] = ()) -> nn.Module:
    """The module whose structure and tensors `describe` returned.

    Raises:
        ValueError: for a name that is not allowed, or tensors other than those described, with their place; for a
            structure of too many levels or parts, before anything is built
    """
    _check_size(structure)
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
        if name.isidentifier() and vars(sys.modules.get(package, object)).get(name) is thing:
            return f"{package}.{name}"
    raise ValueError(f"expected an importable class or function, got {thing.__module__}.{name}")


def _resolve(name: Any, safe_globals: Mapping[str, Named]) -> Any:
    """The class or function of this name, if it is allowed. Nothing is imported."""
    package, _, last = str(name).rpartition(".")
    if name in safe_globals:
        return safe_globals[name]
    ours = package == "gnnlib" or f"{package}.".startswith((*MODULE_PACKAGES, *FUNCTION_MODULES, "torch.nn."))
    if not ours and not (package == "dgl.nn" and _is_allowed_class(vars(dgl.nn).get(last))):
        raise ValueError(f"expected parts of gnnlib and torch.nn, got {name}; if you trust it: safe_globals=[{last}]")
    thing = vars(sys.modules.get(package, object)).get(last)
    if thing is None:
        raise ValueError(f"expected a part of this version of {package.partition('.')[0]}, got {name}")
    if not (_is_allowed_class(thing) or _is_allowed_function(thing)) or name_of(thing) != name:
        raise ValueError(f"expected a module, or a function of {', '.join(FUNCTION_MODULES)}, got {name}")
    return thing


def _is_allowed_class(thing: Any) -> bool:
    return isinstance(thing, type) and issubclass(thing, nn.Module) and thing.__module__.startswith(MODULE_PACKAGES)


def _is_allowed_function(thing: Any) -> bool:
    return isfunction(thing) and thing.__module__ in FUNCTION_MODULES


def _check_size(structure: Any) -> None:
    """Raises ValueError for a structure of too many levels or parts."""
    level, depth, parts = [structure], 0, 0
    while level:
        depth, parts = depth + 1, parts + len(level)
        if depth > MAX_DEPTH or parts > MAX_PARTS:
            raise ValueError(f"expected at most {MAX_DEPTH} levels and {MAX_PARTS} parts, got more")
        level = [
            part
            for value in level
            if isinstance(value, (dict, list))
            for part in (value.values() if isinstance(value, dict) else value)
        ]


def _check_parts(path: str, kind: type, parts: Mapping[str, Any], attributes: Mapping[str, Any]) -> None:
    """Raises ValueError for a submodule, tensor or attribute whose name is none, or hides what its class defines.

    An attribute may hide a plain value of its class, but nothing of ``nn.Module``.
    """
    for name in (*parts, *attributes):
        if not (name.isidentifier() or (name.isascii() and name.isdigit())) or name.startswith("__"):
            raise ValueError(f"{path}: expected names that are identifiers or digits, got {name!r}")
    reserved = {*dir(nn.Module), *MODULE_STATE} - {"training"}
    hidden = [name for name in parts if name in reserved or callable(getattr(kind, name, None))]
    for name, value in attributes.items():
        if name in reserved or (hasattr(kind, name) and not (_is_plain(getattr(kind, name)) and _is_plain(value))):
            hidden.append(name)
    if hidden:
        raise ValueError(f"{path}: expected names that {kind.__name__} does not define itself, got {hidden[0]}")


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, (bool, int, float, str))


def _join(path: str, name: object) -> str:
    return f"{path}.{name}" if path else str(name)


class _Writer:
    """A tensor's name is its first place in the model, as in a state dict; a module that occurs again is a reference
    to its first place."""

    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}
        self.references: dict[int, dict[str, Any]] = {}

    def write(self, path: str, value: Any) -> Any:
        value = value.item() if isinstance(value, np.generic) else value
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

    def _network(self, path: str, network: GridNetwork) -> dict[str, Any]:
        programs = {mode: describe_graph(network.programs[mode].graph) for mode in (True, False)}
        spec = {"grid_network": self._module(path, network.root), "size": list(network.input_size)}
        return {**spec, "backend": network.backend, "training": programs[True], "evaluation": programs[False]}

    def _module(self, path: str, module: nn.Module) -> dict[str, Any]:
        if isinstance(module, GridNetwork):
            return self._network(path, module)
        state = _state(module)
        hooks = [name for name in MODULE_STATE if "hook" in name and state[name] and not _is_torchs_own(state[name])]
        if hooks:
            raise ValueError(f"{path}: expected a module without hooks, got {type(module).__name__} with {hooks[0]}")
        tensors = self._dict(path, {**state["_parameters"], **state["_buffers"]})
        for name in state["_non_persistent_buffers_set"]:
            tensors[name] = {**tensors[name], "persistent": False}
        submodules = self._dict(path, state["_modules"])
        attributes = self._dict(path, {name: value for name, value in state.items() if name not in MODULE_STATE})
        kind = parametrize.type_before_parametrizations(module)
        name = self._name(path, kind)
        _check_parts(path, kind, {**tensors, **submodules}, attributes)
        sections = {"attributes": attributes, "tensors": tensors, "modules": submodules}
        return {"module": name, **{key: section for key, section in sections.items() if section}}


def _is_torchs_own(hooks: Mapping[int, Any]) -> bool:
    """Hooks by which ``weight_norm`` reads state dicts of an older form; they do not change what a module computes."""
    functions = [getattr(hook, "hook", hook) for hook in hooks.values()]
    return all(getattr(function, "__module__", None) == parametrizations.__name__ for function in functions)


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
        if not (isinstance(function, type) or isfunction(function) or isinstance(function, partial)):
            raise ValueError(f"{path}: expected a partial of a class or function, got {type(function).__name__}")
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
        root = self._module(path, spec["grid_network"])
        graphs = {mode: rebuild_graph(spec[name]) for mode, name in ((True, "training"), (False, "evaluation"))}
        self.modules[path] = GridNetwork(root, [int(size) for size in spec["size"]], graphs, spec["backend"])
        return self.modules[path]

    def _module(self, path: str, spec: dict[str, Any]) -> nn.Module:
        kind = self._name(path, spec["module"])
        if not (isinstance(kind, type) and issubclass(kind, nn.Module)):
            raise ValueError(f"{path}: expected a module, got {spec['module']}")
        specs = spec.get("tensors", {})
        _check_parts(path, kind, {**specs, **spec.get("modules", {})}, spec.get("attributes", {}))
        module = self.modules[path] = kind.__new__(kind)
        tensors = self._dict(path, specs)
        parameters = {name: tensor for name, tensor in tensors.items() if isinstance(tensor, nn.Parameter | None)}
        submodules = self._dict(path, spec.get("modules", {}))
        for name, part, kinds in (
            *((name, part, Tensor) for name, part in tensors.items()),
            *((name, part, nn.Module) for name, part in submodules.items()),
        ):
            if not (part is None or isinstance(part, kinds)):
                raise ValueError(f"{_join(path, name)}: expected a {kinds.__name__}, got {type(part).__name__}")
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
    "grid_network": _Reader._network,
}
