"""Configuration files of ``run``: a result, or options by name in YAML or JSON."""

import json
import shlex
from argparse import ArgumentTypeError
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gnnlib._utils.documents import is_sealed
from gnnlib.benchmarks.arguments import parser
from gnnlib.benchmarks.errors import UsageError
from gnnlib.benchmarks.options import Option, options_of


def read_config(path: Path) -> dict[str, Any]:
    """The options that a file names, by field.

    Args:
        path: a ``result.json``, for its command, layer and seeds; or a YAML or JSON file, for its keys

    Raises:
        UsageError: for a file that is neither, a damaged result, an unknown key or an invalid value
    """
    document = _parse(path)
    if not isinstance(document, Mapping):
        raise UsageError(f"{path}: expected options by name, got {type(document).__name__}")
    if {"command", "layer", "seeds"} <= document.keys():
        return _of_result(path, document)
    options = {option.name: option for option in options_of("run") if option.name != "config"}
    for name in document:
        if name not in options:
            raise UsageError(f"{path}: unknown option {name!r}; expected some of: {', '.join(options)}")
    return {options[name].field: _value(path, options[name], value) for name, value in document.items()}


def _parse(path: Path) -> Any:
    try:
        text = path.read_text("utf-8")
        if path.suffix == ".json":
            return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: expected JSON: {error}") from error
    import yaml

    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        raise UsageError(f"{path}: expected YAML: {' '.join(str(error).split())}") from error


def _of_result(path: Path, result: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a result's command, for its one layer and its seeds."""
    if not is_sealed(result):
        raise UsageError(f"{path}: expected a result with the checksum of its content, got a damaged one")
    command, layer, seeds = result["command"], result["layer"], result["seeds"]
    words = shlex.split(command) if isinstance(command, str) else []
    if "run" not in words:
        raise UsageError(f"{path}: expected a result of 'run', got one of {command!r}")
    if (
        not isinstance(layer, str)
        or not isinstance(seeds, list)
        or not seeds
        or {type(seed) for seed in seeds} != {int}
    ):
        raise UsageError(f"{path}: expected a layer and the numbers of its seeds, got {layer!r} and {seeds!r:.80}")
    options = vars(parser().parse_args(words[words.index("run") :]))
    layer_and_seeds = {"layers": [layer], "seeds": 1 + max(seeds)}
    return {
        option.field: {**options, **layer_and_seeds}[option.field]
        for option in options_of("run")
        if option.name not in ("config", "data", "out")  # a result does not name the folders of a machine
    }


def _value(path: Path, option: Option, value: Any) -> Any:
    """A value of a configuration file, converted as on the command line."""
    if value is None:
        return option.default
    if any(isinstance(part, (list, dict)) for part in (value if isinstance(value, list) else [value])):
        raise UsageError(f"{path}: {option.name}: expected a value or a list of values, got a nested one")
    if option.nargs == "*":
        return [str(part) for part in value] if isinstance(value, list) else [str(value)]
    if option.type is bool and isinstance(value, bool):
        return value
    try:
        if option.type is bool:
            raise ValueError
        return option.type(",".join(map(str, value)) if isinstance(value, list) else str(value))
    except (ValueError, ArgumentTypeError) as error:
        expected = "true or false" if option.type is bool else option.metavar
        raise UsageError(f"{path}: {option.name}: expected {expected}, got {value!r}") from error
