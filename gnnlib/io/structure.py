"""What a module is made of, as JSON: classes, attributes, tensors by name; and the module again.

No constructor runs on reading. A name becomes a module's class or a function of tensors, of gnnlib or ``torch.nn``, or
what the caller trusts; all else is numbers, text and tensors.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from importlib import import_module
from inspect import isfunction
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from gnnlib.grid._from_torch import GridNetwork, from_torch

__all__ = ["Named", "describe", "name_of", "rebuild"]

Named = type[nn.Module] | Callable[..., Any]
OURS = ("gnnlib.", "torch.nn.")
CALLED = (
    "gnnlib.nn.embedding",
    "gnnlib.ops.message_passing",
    "gnnlib.nn.readout",
    "gnnlib.nn.stack",
    "torch.nn.functional",
)
OWN = nn.Module().__dict__.keys()  # what every module has


def describe(model: nn.Module) -> tuple[Any, dict[str, Tensor]]:
    """A module as JSON, and its tensors, on the CPU, each once.

    Raises: ValueError for what cannot be written, naming where it is.
    """
    writer = _Writer()
    return writer.write("", model), writer.tensors


def rebuild(made: Any, tensors: Mapping[str, Tensor], known: Iterable[Named] = ()) -> nn.Module:
    """The module of which `describe` gave this.

    Raises: ValueError for a name that is not known, and for tensors that are not those described, naming where.
    """
    reader = _Reader(tensors, {name_of(thing): thing for thing in known})
    model = reader.read("", made)
    others = sorted(tensors.keys() - reader.parameters.keys())
    if others or not isinstance(model, nn.Module):
        raise ValueError(f"expected one module and its tensors, got {type(model).__name__}, and others: {others}")
    return model


def name_of(thing: Any) -> str:
    """What a class or a function is imported as, from the outermost package that has it.

    >>> name_of(nn.Linear), name_of(nn.functional.relu)
    ('torch.nn.Linear', 'torch.nn.functional.relu')
    """
    parts, name = thing.__module__.split("."), thing.__qualname__
    for depth in range(1, len(parts) + 1):
        package = ".".join(parts[:depth])
        if getattr(import_module(package), name, None) is thing:
            return f"{package}.{name}"
    raise ValueError(f"expected what can be imported, got {thing.__module__}.{name}")


def _named(name: str, known: Mapping[str, Named]) -> Any:
    """Of gnnlib and torch.nn nothing but modules, and functions of tensors: none that reads or writes files."""
    package, _, last = name.rpartition(".")
    if name in known:
        return known[name]
    if not name.startswith(OURS):
        raise ValueError(f"expected parts of gnnlib and torch.nn, got {name}; if you trust it, say known=[{last}]")
    try:
        thing = getattr(import_module(package), last)
    except (ImportError, AttributeError):
        raise ValueError(f"expected a part that this version has, got {name}") from None
    module = isinstance(thing, type) and issubclass(thing, nn.Module)
    if not (module or (isfunction(thing) and thing.__module__ in CALLED)) or name_of(thing) != name:
        raise ValueError(f"expected a module, or a function of {', '.join(CALLED)}, got {name}")
    return thing


def _inside(path: str, name: object) -> str:
    return f"{path}.{name}" if path else str(name)


class _Writer:
    """Each tensor is named by where it was met first, as in a state dict; so is a module that is met again."""

    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}
        self.met: dict[int, dict[str, Any]] = {}

    def write(self, path: str, value: Any) -> Any:
        if value is None or isinstance(value, (bool, int, float, str)):
            return value
        if id(value) in self.met:
            return self.met[id(value)]
        if isinstance(value, Tensor):
            return self._tensor(path, value)
        if isinstance(value, nn.Module):
            self.met[id(value)] = {"same": path}
            return self._module(path, value)
        if type(value) in (list, tuple, torch.Size):  # no NamedTuple, which would be read as a tuple
            every = [self.write(_inside(path, number), one) for number, one in enumerate(value)]
            return every if isinstance(value, list) else {"tuple": every}
        if isinstance(value, dict) and all(isinstance(key, str) for key in value):
            return {"dict": self._each(path, value)}
        if isinstance(value, partial):
            return {"partial": self.write(path, [value.func, list(value.args), value.keywords])}
        if isfunction(value) or isinstance(value, type):
            return {"name": self._name(path, value)}
        raise ValueError(f"{path}: expected modules, tensors, numbers, text and functions, got {value!r}")

    def _each(self, path: str, values: Mapping[str, Any]) -> dict[str, Any]:
        return {name: self.write(_inside(path, name), value) for name, value in values.items()}

    def _name(self, path: str, thing: Any) -> str:
        try:
            return name_of(thing)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None

    def _tensor(self, path: str, tensor: Tensor) -> dict[str, Any]:
        kind = ("parameter" if tensor.requires_grad else "frozen") if isinstance(tensor, nn.Parameter) else "tensor"
        self.tensors[path] = tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        self.met[id(tensor)] = {kind: path, "shape": list(tensor.shape), "dtype": str(tensor.dtype)}
        return self.met[id(tensor)]

    def _module(self, path: str, module: nn.Module) -> dict[str, Any]:
        if isinstance(module, GridNetwork):
            return {"from_torch": self._module(path, module.root), "size": module.input_size, "backend": module.backend}
        state = _state(module)
        hooks = [name for name in OWN if "hook" in name and state[name]]
        if hooks:
            raise ValueError(f"{path}: expected a module without hooks, got {type(module).__name__} with {hooks[0]}")
        tensors = self._each(path, {**state["_parameters"], **state["_buffers"]})
        for name in state["_non_persistent_buffers_set"]:
            tensors[name] = {**tensors[name], "persistent": False}
        parts = self._each(path, state["_modules"])
        others = self._each(path, {name: value for name, value in state.items() if name not in OWN})
        name = self._name(path, parametrize.type_before_parametrizations(module))
        sections = {"attributes": others, "tensors": tensors, "modules": parts}
        return {"module": name, **{key: section for key, section in sections.items() if section}}


def _state(module: nn.Module) -> dict[str, Any]:
    """As it is pickled: recurrent layers leave out what they make again."""
    own = getattr(module, "__getstate__", None)
    return module.__dict__ if own is None or parametrize.is_parametrized(module) else own()


class _Reader:
    """In the order in which it was written."""

    def __init__(self, tensors: Mapping[str, Tensor], known: Mapping[str, Named]):
        self.tensors, self.known = tensors, known
        self.parameters: dict[str, Tensor] = {}
        self.modules: dict[str, nn.Module] = {}

    def read(self, path: str, made: Any) -> Any:
        if isinstance(made, list):
            return [self.read(_inside(path, number), one) for number, one in enumerate(made)]
        if not isinstance(made, dict):
            return made
        for kind in KINDS:
            if kind in made:
                return KINDS[kind](self, path, made)
        raise ValueError(f"{path}: expected one of {', '.join(KINDS)}, got {made}")

    def _each(self, path: str, made: Mapping[str, Any]) -> dict[str, Any]:
        return {name: self.read(_inside(path, name), one) for name, one in made.items()}

    def _name(self, path: str, name: str) -> Any:
        try:
            return _named(name, self.known)
        except ValueError as error:
            raise ValueError(f"{path}: {error}" if path else str(error)) from None

    def _partial(self, path: str, made: dict[str, Any]) -> Any:
        function, arguments, options = self.read(path, made["partial"])
        return partial(function, *arguments, **options)

    def _same(self, path: str, made: dict[str, Any]) -> nn.Module:
        return self.modules[made["same"]]

    def _tensor(self, path: str, made: dict[str, Any]) -> Tensor:
        kind, name = next(iter(made.items()))
        if name not in self.tensors:
            raise ValueError(f"{path}: expected a tensor {name}, got none")
        tensor = self.tensors[name]
        if [list(tensor.shape), str(tensor.dtype)] != [made["shape"], made["dtype"]]:
            got = f"{tuple(tensor.shape)} of {tensor.dtype}"
            raise ValueError(f"{name}: expected shape {tuple(made['shape'])} of {made['dtype']}, got {got}")
        if name not in self.parameters:
            self.parameters[name] = tensor if kind == "tensor" else nn.Parameter(tensor, kind == "parameter")
        return self.parameters[name]

    def _network(self, path: str, made: dict[str, Any]) -> nn.Module:
        root = self._module(path, made["from_torch"])
        self.modules[path] = from_torch(root, made["size"], made["backend"])
        return self.modules[path]

    def _module(self, path: str, made: dict[str, Any]) -> nn.Module:
        kind = self._name(path, made["module"])
        if not (isinstance(kind, type) and issubclass(kind, nn.Module)):
            raise ValueError(f"{path}: expected a module, got {made['module']}")
        module = self.modules[path] = kind.__new__(kind)
        tensors = self._each(path, made.get("tensors", {}))
        parameters = {name: tensor for name, tensor in tensors.items() if isinstance(tensor, nn.Parameter | None)}
        passing = {name for name, one in made.get("tensors", {}).items() if one and not one.get("persistent", True)}
        parts = self._each(path, made.get("modules", {}))
        state = {
            **nn.Module().__dict__,
            **self._each(path, made.get("attributes", {})),
            "_parameters": parameters,
            "_buffers": {name: tensor for name, tensor in tensors.items() if name not in parameters},
            "_non_persistent_buffers_set": passing,
            "_modules": parts,
        }
        module.__setstate__(state)
        if isinstance(parts.get("parametrizations"), nn.ModuleDict):
            parametrize._inject_new_class(module)
            for name in parts["parametrizations"]:
                parametrize._inject_property(module, name)
        return module


KINDS: dict[str, Callable[[_Reader, str, dict[str, Any]], Any]] = {
    "module": _Reader._module,
    "same": _Reader._same,
    "parameter": _Reader._tensor,
    "frozen": _Reader._tensor,
    "tensor": _Reader._tensor,
    "name": lambda reader, path, made: reader._name(path, made["name"]),
    "tuple": lambda reader, path, made: tuple(reader.read(path, made["tuple"])),
    "dict": lambda reader, path, made: reader._each(path, made["dict"]),
    "partial": _Reader._partial,
    "from_torch": _Reader._network,
}
