"""The report of a run: reads its ``result.json`` files, ranks the layers, writes one page that opens without a network.

The ranking is made once, by `leaderboard` and `columns`; the terminal's table and the page show the same cells.
"""

import base64
import json
import math
import re
import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks import plots
from datasets.files import atomic_write

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["Column", "Row", "columns", "leaderboard", "leaderboard_table", "load_results", "sources", "write_report"]

Result = dict[str, Any]
TABLE_CLASSES = 20  # a confusion matrix of more classes is a picture, not a table
PLACES = ("data", "out")  # arguments that name folders of one machine: left out of the command


# reading


def load_results(run: Path) -> tuple[list[Result], list[str]]:
    """The results below a run's folder, in the order of the folders' names, and what was wrong with others.

    A result that lacks what a ranking needs is left out. One whose curves, confusion matrix, validation scores or
    published figure are damaged loses only those. Results of another task or metric than most are left out too.

    Args:
        run: a folder that holds ``<layer>/result.json``.

    Raises:
        FileNotFoundError: there is no such folder.
    """
    run = Path(run)
    if not run.is_dir():
        raise FileNotFoundError(f"expected a run's folder with <layer>/result.json inside, received {run}: no folder")
    results: list[Result] = []
    problems: list[str] = []
    for folder in sorted(path for path in run.iterdir() if path.is_dir()):
        if folder.name == "plots" or folder.name.startswith("."):
            continue
        where = _clean(f"{folder.name}/result.json")
        try:
            text = (folder / "result.json").read_text(encoding="utf-8")
            result = _clean(json.loads(text, parse_int=lambda digits: int(digits) if len(digits) < 19 else math.inf))
            problems += [f"{where}: {flaw}" for flaw in _check(result)]
            twin = any(result["layer"] == other["layer"] for other in results)
            _expect(not twin, "layer", "a layer that no other folder holds", result["layer"])
        except FileNotFoundError:
            problems.append(f"{where}: not there: no seed of this layer has finished")
        except json.JSONDecodeError as error:
            problems.append(f"{where}: left out: not a whole JSON document ({error})")
        except (OSError, ValueError, RecursionError) as error:
            problems.append(f"{where}: left out: {_reason(error)}")
        else:
            results.append(result)
    kinds = Counter(_kind(result) for result in results)
    if len(kinds) > 1:
        most = max(kinds, key=lambda kind: (kinds[kind], kind))
        for other in [result for result in results if _kind(result) != most]:
            task, name, *_ = _kind(other)
            problems.append(f"{other['layer']}: left out: expected {most[1]} on {most[0]}, received {name} on {task}")
        results = [result for result in results if _kind(result) == most]
    return results, problems


def _kind(result: Result) -> tuple[str, str, str, bool]:
    metric = result["metric"]
    return result["task"], metric["name"], metric.get("unit") or "", metric["higher_is_better"]


def _clean(value: Any) -> Any:
    """The value with every unprintable character in its strings, half of a pair included, replaced."""
    if isinstance(value, str):
        return "".join(c if c.isprintable() else " " if c.isspace() else "\N{REPLACEMENT CHARACTER}" for c in value)
    if isinstance(value, list):
        return [_clean(item) for item in value]
    return {_clean(key): _clean(item) for key, item in value.items()} if isinstance(value, dict) else value


def _reason(error: Exception) -> str:
    """An exception in words, without the paths of this machine that an OSError would tell."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return f"no array {error}" if isinstance(error, KeyError) else _clean(str(error))


def _expect(condition: bool, name: str, expected: str, received: Any) -> None:
    if not condition:
        raise ValueError(f"{name}: expected {expected}, received {json.dumps(received)[:80]}")


def _need(table: Any, key: str, kind: type | tuple[type, ...], expected: str, name: str = "") -> Any:
    _expect(isinstance(table, dict), name or "the document", "an object", table)
    name = f"{name}.{key}" if name else key
    if key not in table:
        raise ValueError(f"{name}: expected {expected}, but the key is missing")
    value = table[key]
    good = isinstance(value, kind) and not (isinstance(value, bool) and kind is not bool)
    _expect(good and not (isinstance(value, float) and not math.isfinite(value)), name, expected, value)
    return value


def _check(result: Any) -> list[str]:
    """Raises ValueError where a ranking is impossible; else puts None for damaged extras and returns what they were."""
    for key in ("task", "layer", "title"):
        _expect(bool(_need(result, key, str, "a text").strip()), key, "a text", result[key])
    _need(result, "arguments", dict, "an object")
    seeds = _need(result, "seeds", list, "a list of the finished seeds")
    _expect(bool(seeds), "seeds", "at least one finished seed", seeds)
    metric = _need(result, "metric", dict, "an object")
    _need(metric, "name", str, "a text", "metric")
    _need(metric, "higher_is_better", bool, "true or false", "metric")
    _need(metric, "mean", (int, float), "a finite number", "metric")
    values = _numbers(_need(metric, "values", list, "a list", "metric"), "metric.values")
    _expect(len(values) == len(seeds), "metric.values", f"{len(seeds)} numbers, one per seed", values)
    if metric.get("std") is not None:
        _need(metric, "std", (int, float), "a finite number or null", "metric")
    _expect(isinstance(metric.get("unit", ""), str | None), "metric.unit", "a text", metric.get("unit"))
    _expect(_need(result, "parameters", int, "a count") >= 0, "parameters", "a count", result["parameters"])
    _expect(_need(result, "seconds", (int, float), "a number") >= 0, "seconds", "a number", result["seconds"])
    flaws = []
    for part, check in EXTRAS.items():
        try:
            if result.setdefault(part, None) is not None:
                check(result[part], result)
        except ValueError as error:
            flaws.append(f"{part} left out: {error}")
            result[part] = None
    return flaws


def _numbers(values: Any, name: str, holes: bool = False) -> list[float]:
    """The list, checked; holes, which are null or not finite, only where they are allowed."""

    def good(x: Any) -> bool:
        number = isinstance(x, int | float) and not isinstance(x, bool)
        return (number and math.isfinite(x)) or (holes and (number or x is None))

    _expect(isinstance(values, list) and all(map(good, values)), name, "a list of numbers", values)
    return values


def _check_curves(curves: Any, _: Result) -> None:
    _expect(isinstance(curves, list), "curves", "a list with one object per seed", curves)
    for curve in curves:
        _expect(isinstance(curve, dict), "curve", "an object of lists", curve)
        lengths = {name: len(_numbers(values, name, name != "epoch")) for name, values in curve.items() if values}
        _expect(len(set(lengths.values())) <= 1, "curve", "lists of one length", lengths)


def _check_confusion(rows: Any, result: Result) -> None:
    _expect(isinstance(rows, list) and len(rows) > 0, "confusion", "a list of rows", rows)
    counts = [count for row in rows for count in _numbers(row, "row")]
    _expect(all(len(row) == len(rows) for row in rows), "confusion", "a square matrix", [len(row) for row in rows])
    _expect(all(isinstance(n, int) and n >= 0 for n in counts), "confusion", "counts", counts)
    classes = result.get("classes")
    if classes is not None:
        good = isinstance(classes, list) and all(isinstance(name, str) for name in classes)
        _expect(good and len(classes) == len(rows), "classes", f"{len(rows)} texts", classes)


def _check_published(published: Any, _: Result) -> None:
    _need(published, "value", (int, float), "a finite number", "published")
    _need(published, "source", str, "a text", "published")
    if published.get("std") is not None:
        _need(published, "std", (int, float), "a finite number or null", "published")
    _expect(isinstance(published.get("setting"), str | None), "published.setting", "a text", published.get("setting"))


def _check_validation(validation: Any, _: Result) -> None:
    _numbers(_need(validation, "values", list, "a list", "validation"), "validation.values")


def _is(kind: type, expected: str) -> Callable[[Any, Result], None]:
    return lambda value, _: _expect(isinstance(value, kind), "value", expected, value)


EXTRAS: dict[str, Callable[[Any, Result], None]] = {
    "validation": _check_validation,
    "readout": _is(str, "a text"),
    "published": _check_published,
    "curves": _check_curves,
    "confusion": _check_confusion,
    "versions": _is(dict, "an object"),
    "commit": _is(str, "a text"),
    "machine": _is(str, "a text"),
    "command": _is(str, "a text"),
    "when": _is(str, "a text"),
}


# ranking


@dataclass(frozen=True)
class Row:
    """One line of the leaderboard: the result and its place."""

    rank: int
    best: bool
    result: Result

    @property
    def difference(self) -> float | None:
        """Our mean minus the published figure."""
        published = self.result.get("published")
        return None if published is None else self.result["metric"]["mean"] - published["value"]


@dataclass(frozen=True)
class Column:
    """A column of the leaderboard: its heading, whether it holds numbers, and one text per row."""

    name: str
    heading: str
    number: bool
    cells: list[str]


def leaderboard(results: Sequence[Result]) -> list[Row]:
    """The results from best to worst by their mean; equals share a rank and stand in alphabetical order.

    >>> metric = dict(name="loss", higher_is_better=False)
    >>> means = {"a": 2.0, "c": 1.0, "b": 1.0}
    >>> rows = leaderboard([dict(layer=layer, metric=metric | {"mean": mean}) for layer, mean in means.items()])
    >>> [(row.rank, row.best, row.result["layer"]) for row in rows]
    [(1, True, 'b'), (1, True, 'c'), (3, False, 'a')]
    """

    def key(result: Result) -> float:
        return -result["metric"]["mean"] if result["metric"]["higher_is_better"] else result["metric"]["mean"]

    ranked = sorted(results, key=lambda result: (key(result), result["layer"]))
    rank: dict[float, int] = {}
    for i, result in enumerate(ranked, 1):
        rank.setdefault(key(result), i)
    return [Row(rank[key(result)], rank[key(result)] == 1, result) for result in ranked]


def columns(rows: Sequence[Row]) -> list[Column]:
    """What the leaderboard shows, as text; columns that no row has anything for are left out."""
    if not rows:
        return []
    metric = rows[0].result["metric"]
    digits = _digits(rows)
    heading = f"{metric['name']} ({metric['unit']})" if metric.get("unit") else metric["name"]
    published = [row.result.get("published") for row in rows]
    table = [
        Column("rank", "rank", True, [str(row.rank) for row in rows]),
        Column("layer", "layer", False, [row.result["title"] for row in rows]),
        Column("metric", heading, True, [_plus_minus(row.result["metric"], digits) for row in rows]),
        Column("seeds", "seeds", True, [_seeds(row.result) for row in rows]),
        Column("parameters", "parameters", True, [f"{row.result['parameters']:,}" for row in rows]),
        Column("seconds", "seconds", True, [f"{row.result['seconds']:,.1f}" for row in rows]),
        Column("readout", "read-out", False, [(row.result.get("readout") or "").split(":")[0] for row in rows]),
        Column("published", "published", True, [_plus_minus(p, digits) if p else "" for p in published]),
        Column("difference", "difference", True, ["" if row.difference is None else _signed(row.difference, digits)
                                                  for row in rows]),
    ]  # fmt: skip
    return [column for column in table if any(column.cells)]


def sources(rows: Sequence[Row]) -> list[str]:
    """Where the published figures come from, a line for each: layer, source, setting."""
    lines = []
    for row in rows:
        if published := row.result.get("published"):
            setting = f" ({published['setting']})" if published.get("setting") else ""
            lines.append(f"{row.result['title']}: {published['source']}{setting}")
    return lines


def leaderboard_table(results: Sequence[Result]) -> "Table":
    """The leaderboard for the terminal, the best in bold; what a cell says is never read as markup.

    To fit into 80 characters, seeds and read-out go below the table where they are the same for all layers.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    rows = leaderboard(results)
    shown = columns(rows)
    same = [c for c in shown if c.name in ("seeds", "readout") and len(rows) > 1 and len(set(c.cells)) == 1]
    notes = [f"{column.heading}: {column.cells[0]}" for column in same]
    notes += ["published:", *sources(rows)] if sources(rows) else []
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True, caption_justify="left")
    table.title = Text(results[0]["task"]) if results else None
    table.caption = Text("\n".join(notes)) if notes else None
    shown = [column for column in shown if column not in same]
    for column in shown:
        whole = max(map(len, [*column.heading.split(), *(column.cells if column.number else [])]))  # never broken
        side: Any = "right" if column.number else "left"
        table.add_column(Text(column.heading), justify=side, min_width=whole, overflow="fold")
    for i, row in enumerate(rows):
        table.add_row(*(Text(column.cells[i]) for column in shown), style="bold green" if row.best else None)
    return table


def _digits(rows: Sequence[Row]) -> int:
    return 2 if max(abs(row.result["metric"]["mean"]) for row in rows) >= 10 else 4


def _plus_minus(figure: dict[str, Any], digits: int) -> str:
    mean = figure["mean"] if "mean" in figure else figure["value"]
    spread = "" if figure.get("std") is None else f" ± {figure['std']:.{digits}f}"
    return f"{mean:.{digits}f}{spread}"


def _signed(value: float, digits: int) -> str:
    return f"{value:+.{digits}f}".replace("-", "−")


def _seeds(result: Result) -> str:
    """How many seeds are done, and of how many if the run was stopped."""
    done, wanted = len(result["seeds"]), result["arguments"].get("seeds")
    unfinished = isinstance(wanted, int) and not isinstance(wanted, bool) and wanted > done
    return f"{done} of {wanted}" if unfinished else str(done)


# writing


def write_report(run: Path) -> Path:
    """Writes ``report.html`` and ``plots/*.png`` into the run's folder and returns the page's path.

    The page is one file without scripts; nothing in it is loaded from anywhere. The same results give the same bytes.

    Args:
        run: a folder that holds ``<layer>/result.json`` and perhaps ``samples.npz``.

    Raises:
        FileNotFoundError: there is no such folder, or no whole result in it; the message names what is wrong.
        OSError: the folder cannot be written to.
    """
    run = Path(run)
    results, problems = load_results(run)
    if not results:
        found = "; ".join(problems) or "none"
        raise FileNotFoundError(f"expected at least one whole <layer>/result.json in {run}, found: {found}")
    rows = leaderboard(results)
    ranked = [row.result for row in rows]
    samples, flaws = _samples(run / "samples.npz")
    look = plots.styles(ranked)
    for result in ranked:
        if result["confusion"]:
            name = re.sub(r"[^\w-]", "_", result["layer"])
            _save(run / "plots" / f"confusion-{name[:100]}.png", plots.png(plots.confusion(result)))
    sections = [
        _problems(problems + flaws),
        _board(rows),
        _plots(run, ranked),
        _sample_section(run, samples),
        _confusion_section(ranked),
        _settings_section(rows),
    ]
    used = {style.number for style in look.values()}
    page = Template(Path(__file__).with_suffix(".html").read_text(encoding="utf-8")).substitute(
        title=escape(f"{ranked[0]['task']}: gnnlib benchmark"),
        task=escape(ranked[0]["task"]),
        lede=_lede(rows),
        facts=_facts(run, ranked),
        sections="\n".join(filter(None, sections)),
        light=" ".join(f"--c{i}: {light};" for i, (light, _) in enumerate(plots.PALETTE)),
        dark=" ".join(f"--c{i}: {dark};" for i, (_, dark) in enumerate(plots.PALETTE)),
        toggles="\n".join(f"body:has(#show{i}:not(:checked)) .s{i} {{ display: none; }}" for i in sorted(used)),
        foot="Made by gnnlib from the <code>result.json</code> files beside this page.",
    )
    path = run / "report.html"
    _save(path, page.encode())
    return path


def _save(path: Path, content: bytes) -> None:
    with atomic_write(path) as part:
        part.write_bytes(content)


def _lede(rows: Sequence[Row]) -> str:
    shown = {column.name: column.cells for column in columns(rows)}
    metric = rows[0].result["metric"]
    best = " and ".join(escape(row.result["title"]) for row in rows if row.best)
    unit = f" {escape(metric['unit'])}" if metric.get("unit") else ""
    layers = "One layer" if len(rows) == 1 else f"{len(rows)} layers"
    seeds = sorted({len(row.result["seeds"]) for row in rows})
    many = "one seed" if seeds == [1] else f"{' to '.join(str(n) for n in dict.fromkeys((seeds[0], seeds[-1])))} seeds"
    each = "" if len(rows) == 1 else " each"
    lead = "" if len(rows) == 1 else "Best: "
    score = f"<strong>{best}, {shown['metric'][0]}{unit}</strong> {escape(metric['name'])}"
    return f"{layers}, {many}{each}. {lead}{score}."


def _facts(run: Path, results: Sequence[Result]) -> str:
    """What was run, where and with what; where layers differ, every value."""

    def distinct(values: Iterable[Any]) -> list[str]:
        return list(dict.fromkeys(str(value) for value in values if value))

    versions = {name: None for result in results for name in result["versions"] or {}}
    facts = {
        "command": [f"<code>{escape(command)}</code>" for command in _commands(results)],
        "when": [escape(text) for text in distinct(result["when"] for result in results)],
        "commit": [f"<code>{escape(text)}</code>" for text in distinct(result["commit"] for result in results)],
        "versions": [
            escape(f"{name} {' and '.join(distinct((r['versions'] or {}).get(name) for r in results))}")
            for name in versions
        ],
        "machine": [escape(text) for text in distinct(result["machine"] for result in results)],
        "run": [escape(_clean(run.resolve().name))],
    }
    breaks = {"command": "<br>", "versions": " · "}
    lines = [f"<dt>{name}</dt><dd>{breaks.get(name, ', ').join(texts)}</dd>" for name, texts in facts.items() if texts]
    return f"<dl>\n{chr(10).join(lines)}\n</dl>"


def _commands(results: Sequence[Result]) -> list[str]:
    """The commands that make this run again: those recorded, else made from the arguments that all layers share."""
    recorded = list(dict.fromkeys(result["command"] for result in results if result["command"]))
    if recorded:
        return recorded
    words = ["python", "-m", "benchmarks", "run", results[0]["task"]]
    for name, value in _shared(results).items():
        option = "--" + name.replace("_", "-")
        if name in PLACES:
            words += [option, "DIR"] if name == "data" and value else []
        elif value is True:
            words.append(option)
        elif isinstance(value, list) and value:
            words += [option, *map(str, value)]
        elif isinstance(value, str | int | float) and value is not False:
            words += [option, str(value)]
    if "--seeds" not in words and all(result["seeds"] == list(range(len(result["seeds"]))) for result in results):
        words += ["--seeds", str(max(len(result["seeds"]) for result in results))]
    return [shlex.join(words)]


def _shared(results: Sequence[Result]) -> dict[str, Any]:
    first, *others = [result["arguments"] for result in results]
    return {name: value for name, value in first.items() if all(o.get(name, o) == value for o in others)}


def _problems(problems: Sequence[str]) -> str:
    if not problems:
        return ""
    items = "".join(f"<li>{escape(problem)}</li>" for problem in problems)
    return f'<div class="note" role="note"><p><strong>Not everything could be read:</strong></p><ul>{items}</ul></div>'


def _board(rows: Sequence[Row]) -> str:
    shown = columns(rows)
    metric = rows[0].result["metric"]
    look = plots.styles([row.result for row in rows])
    values = [value for row in rows for value in row.result["metric"]["values"]]
    low, high = min(values), max(values)
    head, body = "", ""
    for column in shown:
        head += f'<th scope="col"{" class=right" if column.number else ""}>{escape(column.heading)}</th>'
        head += '<th scope="col" class="spread">each seed</th>' if column.name == "metric" else ""
    for i, row in enumerate(rows):
        colour = f"var(--c{look[row.result['layer']].number % len(plots.PALETTE)})"
        body += f"<tr{' class=best' if row.best else ''}>"
        for column in shown:
            cell = escape(column.cells[i])
            if column.name == "layer":
                body += f'<th scope="row"><span class="dot" style="background: {colour}"></span>{cell}</th>'
                continue
            kinds = " ".join(filter(None, ["right" if column.number else "", column.name]))
            body += f'<td class="{kinds}">{cell}</td>'
            if column.name == "metric":
                body += f'<td class="spread">{_strip(row.result["metric"], low, high, colour)}</td>'
        body += "</tr>\n"
    better = "higher is better" if metric["higher_is_better"] else "lower is better"
    caption = f"{escape(metric['name']).capitalize()}, mean ± standard deviation over seeds ({better})"
    notes = "".join(f"<li>{escape(line)}</li>" for line in sources(rows))
    if notes:
        summary = "<summary>Sources of the published figures</summary>"
        notes = f'<details class="sources" open>{summary}<ul>{notes}</ul></details>'
    return f"""<section><h2 id="board">Leaderboard</h2>
<p id="caption">{caption}.</p>
<div class="scroll" role="region" aria-labelledby="board" tabindex="0">
<table class="board" aria-labelledby="board" aria-describedby="caption">
<thead><tr>{head}</tr></thead>
<tbody>
{body}</tbody></table></div>
{notes}</section>"""


def _strip(metric: dict[str, Any], low: float, high: float, colour: str) -> str:
    """A small picture of one row: a tick per seed and a dot at the mean, on the scale of the whole table."""
    width = 130.0

    def x(value: float) -> str:
        return f"{4 + (width - 8) * ((value - low) / (high - low) if high > low else 0.5):.1f}"

    ticks = "".join(f'<path d="M{x(value)} 4v8"/>' for value in metric["values"])
    label = "each seed: " + ", ".join(f"{value:g}" for value in metric["values"])
    return (
        f'<svg class="strip" role="img" aria-label="{escape(label)}" viewBox="0 0 {width:g} 16">'
        f'<path d="M0 8h{width:g}" stroke="var(--rule)"/><g stroke="{colour}" stroke-width="1.3">{ticks}</g>'
        f'<circle cx="{x(metric["mean"])}" cy="8" r="3.2" fill="{colour}"/></svg>'
    )


def _plots(run: Path, results: Sequence[Result]) -> str:
    """Curves and scatter, under one legend whose boxes show and hide layers in all of them."""

    def panel(name: str, kind: str, label: str) -> str:
        return plots.svg(plots.panel(results, kind), name, escape(label))

    keys = ""
    for result in results:
        i, _, dash, _ = plots.styles(results)[result["layer"]]
        gaps = "" if dash == "-" else f' stroke-dasharray="{" ".join(str(2 * part) for part in dash[1])}"'
        line = f'<path d="M0 5h24" stroke="var(--c{i % len(plots.PALETTE)})" stroke-width="3"{gaps}/>'
        keys += (
            f'<label><input type="checkbox" id="show{i}" checked>'
            f'<svg viewBox="0 0 24 10" aria-hidden="true">{line}</svg>'
            f"{escape(result['title'])}</label>\n"
        )
    keys = f'<fieldset class="keys"><legend>Show</legend>\n{keys}</fieldset>'
    curves = ""
    kinds = [kind for kind in plots.CURVES if plots.has_curves(results, kind)]
    for i, kind in enumerate(kinds):
        ends = []
        for result in results:
            _, mean, _ = plots.mean_curve(result["curves"] or [], kind)
            ends += [f"{result['title']} {mean[-1]:.4g}"] if len(mean) else []
        label = f"{plots.CURVES[kind]} by epoch; at the last epoch: {', '.join(ends)}"
        curves += panel(f"curve{i}", kind, label)
    if kinds:
        _save(run / "plots" / "learning-curves.png", plots.png(plots.learning_curves(results)))
        curves = f"""<section><h2>Learning curves</h2>
<p>The line is the mean over seeds, the band one standard deviation each way.</p>
{keys}
<div class="plots">{curves}</div></section>
"""
    _save(run / "plots" / "cost.png", plots.png(plots.leaderboard_scatter(results)))
    costs = ""
    for i, cost in enumerate(plots.COSTS):
        points = ", ".join(f"{r['title']} {r['metric']['mean']:.4g} at {r[cost]:,.4g}" for r in results)
        costs += panel(f"cost{i}", cost, f"{results[0]['metric']['name']} against {cost}: {points}")
    return f"""{curves}<section><h2>What it costs</h2>
<p>Each layer's mean, with one standard deviation each way, against its size and its time.</p>
{"" if kinds else keys}
<div class="plots wide">{costs}</div></section>"""


def _samples(path: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """The graphs in ``samples.npz``, each with image, pos, src, dst and title, and what was wrong with others."""
    if not path.exists():
        return [], []
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except Exception as error:  # a damaged archive raises whatever its format does
        return [], [f"{path.name}: left out: {_reason(error)} ({type(error).__name__})"]
    samples, flaws = [], []
    numbers = sorted(int(name[6:]) for name in arrays if name.startswith("image_") and name[6:].isdecimal())
    for i in numbers:
        try:
            samples.append(_sample(arrays, i))
        except (KeyError, ValueError, TypeError) as error:
            flaws.append(f"{path.name}: sample {i} left out: {_reason(error)}")
    return samples, flaws


def _sample(arrays: dict[str, np.ndarray], i: int) -> dict[str, Any]:
    found = {name: arrays[f"{name}_{i}"] for name in ("image", "pos", "src", "dst")}
    image, pos, src, dst = found.values()
    good = image.size > 0 and (image.ndim == 2 or (image.ndim == 3 and image.shape[2] in (1, 3, 4)))
    _expect(good and image.dtype.kind in "buif", "image", "(H, W) or (H, W, 3) numbers", f"{image.dtype} {image.shape}")
    good = pos.ndim == 2 and pos.shape[1] == 2 and pos.dtype.kind in "uif" and bool(np.isfinite(pos).all())
    _expect(good, "pos", "(n, 2) finite numbers", f"{pos.dtype} {pos.shape}")
    for name, end in (("src", src), ("dst", dst)):
        good = end.ndim == 1 and end.shape == src.shape and (end.size == 0 or end.dtype.kind in "ui")
        good = good and (end.size == 0 or (end.min() >= 0 and end.max() < len(pos)))
        _expect(good, name, f"(e,) node numbers below {len(pos)}", f"{end.dtype} {end.shape}")
    title = arrays.get(f"title_{i}", arrays.get(f"label_{i}", np.array(f"sample {i}")))
    return found | {"src": src.astype(int), "dst": dst.astype(int), "title": _clean(str(title))}


def _sample_section(run: Path, samples: Sequence[dict[str, Any]]) -> str:
    figures = ""
    for i, one in enumerate(samples):
        image = plots.png(plots.sample(one["image"], one["pos"], one["src"], one["dst"]), background="black")
        _save(run / "plots" / f"sample-{i}.png", image)
        nodes, edges = len(one["pos"]), len(one["src"])
        alt = escape(f"a graph of {nodes} nodes and {edges} edges over its image: {one['title']}")
        data = base64.b64encode(image).decode()
        figures += f'<figure><img src="data:image/png;base64,{data}" alt="{alt}">'
        figures += f"<figcaption>{escape(one['title'])}</figcaption></figure>\n"
    if not figures:
        return ""
    return f"""<section><h2>Sample graphs</h2>
<p>Nodes are dots, edges are lines; edges both ways are drawn once, and an edge from a node to itself is not drawn.</p>
<div class="samples">
{figures}</div></section>"""


def _confusion_section(results: Sequence[Result]) -> str:
    having = [result for result in results if result["confusion"]]
    if not having:
        return ""
    best, *others = having
    folded = ""
    if others:
        summary = "The other layer" if len(others) == 1 else f"The other {len(others)} layers"
        matrices = "\n".join(f"<div>{_matrix(result)}</div>" for result in others)
        folded = f'<details><summary>{summary}</summary><div class="matrices">{matrices}</div></details>'
    return f"""<section><h2>Confusion matrix</h2>
<p>Rows are true classes, columns predictions, summed over seeds; “found” is the share of a class that was right.</p>
{_matrix(best)}
{folded}</section>"""


def _matrix(result: Result) -> str:
    rows = result["confusion"]
    title = escape(result["title"])
    right, total = sum(row[i] for i, row in enumerate(rows)), sum(map(sum, rows))
    caption = f"{title}: {right:,} of {total:,} right"
    if len(rows) > TABLE_CLASSES:
        data = base64.b64encode(plots.png(plots.confusion(result))).decode()
        return f'<img class="matrix-plot" src="data:image/png;base64,{data}" alt="Confusion matrix of {caption}">'
    names = [escape(name) for name in result.get("classes") or map(str, range(len(rows)))]
    body = ""
    for i, row in enumerate(rows):
        body += f'<tr><th scope="row">{names[i]}</th>'
        for j, count in enumerate(row):
            share = count / max(sum(row), 1)
            share = share if i == j else math.sqrt(share)  # single errors stay visible
            style = f'class="{"good" if i == j else "bad"}" style="--share: {share:.3f}"' if count else 'class="zero"'
            body += f"<td {style}>{count:,}</td>"
        body += f'<td class="recall">{100 * row[i] / sum(row):.1f} %</td></tr>\n' if any(row) else "<td></td></tr>\n"
    head = "".join(f'<th scope="col">{name}</th>' for name in names)
    return f"""<div class="scroll" role="region" aria-label="Confusion matrix of {title}" tabindex="0">
<table class="matrix"><caption>{caption}</caption>
<thead><tr><td></td>{head}<th scope="col" class="recall">found</th></tr></thead>
<tbody>
{body}</tbody></table></div>"""


def _settings_section(rows: Sequence[Row]) -> str:
    """What else was recorded: arguments, in which layers may differ, read-outs in full, validation scores."""
    shared = _shared([row.result for row in rows])
    digits = _digits(rows)
    table = []
    for row in rows:
        result = row.result
        own = {name: value for name, value in result["arguments"].items() if name not in shared and name not in PLACES}
        validation = (result["validation"] or {}).get("values")
        cells = {
            "seeds": ", ".join(map(str, result["seeds"])),
            "each seed": ", ".join(f"{value:.{digits}f}" for value in result["metric"]["values"]),
            "validation, mean": f"{sum(validation) / len(validation):.{digits}f}" if validation else "",
            "read-out": result["readout"] or "",
            "own arguments": ", ".join(f"{name} {value}" for name, value in own.items()),
            "commit": result["commit"] or "",
        }
        table.append({"layer": result["title"]} | cells)
    names = [name for name in table[0] if any(cells[name] for cells in table)]
    head = "".join(f'<th scope="col">{name}</th>' for name in names)
    body = ""
    for cells in table:
        first, *others = (escape(cells[name]) for name in names)
        body += f'<tr><th scope="row">{first}</th>{"".join(f"<td>{cell}</td>" for cell in others)}</tr>\n'
    common = ", ".join(f"{name} {value}" for name, value in shared.items() if name not in PLACES and value is not None)
    return f"""<section><h2 id="details">Details</h2>
<p>Arguments that all layers share: {escape(common) or "none"}.</p>
<details><summary>Each layer's seeds, scores and settings</summary>
<div class="scroll" role="region" aria-labelledby="details" tabindex="0"><table class="wrap">
<thead><tr>{head}</tr></thead>
<tbody>
{body}</tbody></table></div></details></section>"""
