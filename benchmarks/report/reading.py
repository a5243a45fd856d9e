"""Reading and checking the ``result.json`` files of a run."""

import json
import math
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from gnnlib.benchmarks.records.store import parse_sealed

Result = dict[str, Any]


def load_results(run: Path) -> tuple[list[Result], list[str]]:
    """The complete results in a run's folder, sorted by the folders' names, and the problems of others.

    A result is left out if it does not hold the checksum of its content, lacks a value that the ranking needs, or has
    another task or metric than the majority. A wrong curve, confusion matrix, validation score or published figure is
    removed from its result.

    Args:
        run: a folder with ``<layer>/result.json``

    Raises:
        FileNotFoundError: if there is no such folder
    """
    run = Path(run)
    if not run.is_dir():
        raise FileNotFoundError(f"expected a run's folder with <layer>/result.json inside, received {run}: no folder")
    results: list[Result] = []
    problems: list[str] = []
    for folder in sorted(path for path in run.iterdir() if path.is_dir() and path.name != "plots"):
        where = clean(f"{folder.name}/result.json")
        try:
            result = _read(folder / "result.json")
            flaws = _check(result)
            twin = any(result["layer"] == other["layer"] for other in results)
            _expect(result, "layer", "a layer that no other folder holds", not twin)
        except FileNotFoundError:
            problems.append(f"{where}: not there: no seed of this layer has finished")
        except json.JSONDecodeError as error:
            problems.append(f"{where}: left out: not a whole JSON document ({error})")
        except (OSError, ValueError, RecursionError) as error:
            problems.append(f"{where}: left out: {getattr(error, 'strerror', None) or error}")  # not the whole path
        else:
            results.append(result)
            problems += [f"{where}: {flaw}" for flaw in flaws]
    return _of_one_kind(results, problems)


def clean(value: Any) -> Any:
    """The value with unprintable characters in its strings replaced, lone surrogates included, and with infinity in
    place of integers beyond 64 bits, which no check accepts."""
    if isinstance(value, str):
        return "".join(c if c.isprintable() else " " if c.isspace() else "\N{REPLACEMENT CHARACTER}" for c in value)
    if type(value) is int and not -(2**63) <= value < 2**63:
        return math.inf
    if isinstance(value, list):
        return [clean(item) for item in value]
    return {clean(key): clean(item) for key, item in value.items()} if isinstance(value, dict) else value


def shared_arguments(results: Sequence[Result]) -> dict[str, Any]:
    """The arguments of a run without those in which layers differ."""
    first, *rest = [result["arguments"] for result in results]
    return {name: value for name, value in first.items() if all(other.get(name) == value for other in rest)}


def _read(path: Path) -> Any:
    return clean(parse_sealed(path.read_text(encoding="utf-8")))


def _of_one_kind(results: list[Result], problems: list[str]) -> tuple[list[Result], list[str]]:
    """Leaves out results whose task or metric is not that of the majority."""
    kinds = [f"{result['metric']['name']} on {result['task']}" for result in results]
    majority = max(kinds, key=Counter(kinds).__getitem__, default="")
    for result, kind in zip(results, kinds):
        if kind != majority:
            problems.append(f"{result['layer']}: left out: expected {majority}, received {kind}")
    return [result for result, kind in zip(results, kinds) if kind == majority], problems


def _check(result: Result) -> list[str]:
    """Replaces damaged extras by None and returns their problems.

    Raises:
        ValueError: if a value that the ranking needs is missing or damaged
    """
    _expect({"the document": result}, "the document", "an object")
    for name, expected in NEEDED.items():
        _expect(result, name, expected)
    seeds, values = len(result["seeds"]), len(result["metric"]["values"])
    _expect(result, "metric.values", f"{seeds} numbers, one per seed", values == seeds)
    flaws = []
    for name, expected in EXTRAS.items():
        part = name.partition(".")[0]
        try:
            if result.setdefault(part, None) is not None:
                _expect(result, name, expected)
                if part == "confusion" and result["classes"] is not None:
                    size = len(result["confusion"])
                    _expect(result, "classes", f"{size} texts", len(result["classes"]) == size)
        except ValueError as error:
            flaws.append(f"{part} left out: {error}")
            result[part] = None
    return flaws


def _expect(result: Result, name: str, expected: str, holds: bool | None = None) -> None:
    """Checks a condition or, where there is none, the kind of a value.

    Raises:
        ValueError: if the condition does not hold or the value is of another kind
    """
    part, _, key = name.rpartition(".")
    table = result[part] if part else result
    if not (KINDS[expected](table.get(key)) if holds is None else holds):
        received = f"received {json.dumps(table[key])[:80]}" if key in table else "but the key is missing"
        raise ValueError(f"{name}: expected {expected}, {received}")


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _list(of: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(map(of, value))


def _is_curve(curve: Any) -> bool:
    """Lists of one length; a diverged training leaves null, NaN and infinity in them."""
    points = _list(lambda x: x is None or type(x) in (int, float))
    lists: list[Any] = list(filter(None, curve.values())) if isinstance(curve, dict) else [None]
    return all(map(points, lists)) and len({len(items) for items in lists}) <= 1


def _is_square(rows: Any) -> bool:
    return _list(_list(_is_count))(rows) and all(len(row) == len(rows) for row in rows)


def _is_figures(figures: Any) -> bool:
    tables = figures.values() if isinstance(figures, dict) else [None]
    return all(isinstance(table, dict) and _is_number(table.get("mean")) for table in tables)


FIGURES = "an object, each key an object with a number as its mean"
CURVES = "for each seed an object, each key a list of numbers, all lists of one length"
KINDS: dict[str, Callable[[Any], bool]] = {
    "an object": lambda value: isinstance(value, dict),
    "a text": lambda value: isinstance(value, str) and value != "",
    "true or false": lambda value: isinstance(value, bool),
    "a number": _is_number,
    "a finite number": _is_number,
    "a count": _is_count,
    "at least one finished seed": lambda value: isinstance(value, list) and value != [],
    "a list of numbers": _list(_is_number),
    "a list of texts": _list(lambda value: isinstance(value, str)),
    "a square matrix of counts": _is_square,
    CURVES: _list(_is_curve),
    FIGURES: _is_figures,
}
NEEDED = {
    **dict.fromkeys(("task", "layer", "title"), "a text"),
    **dict.fromkeys(("arguments", "metric"), "an object"),
    "seeds": "at least one finished seed",
    "metric.name": "a text",
    "metric.higher_is_better": "true or false",
    "metric.mean": "a finite number",
    "metric.values": "a list of numbers",
    "parameters": "a count",
    "seconds": "a number",
}
EXTRAS = {
    **dict.fromkeys(("validation", "published", "versions"), "an object"),
    "validation.values": "a list of numbers",
    "published.value": "a finite number",
    "published.source": "a text",
    "curves": CURVES,
    "figures": FIGURES,
    "classes": "a list of texts",
    "confusion": "a square matrix of counts",
    **dict.fromkeys(("readout", "commit", "machine", "command", "summary", "when"), "a text"),
}
