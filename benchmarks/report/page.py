"""The page: what was run on top, then the sections."""

import shlex
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import Any

from gnnlib.benchmarks.report.ranking import Row, columns, leaderboard
from gnnlib.benchmarks.report.reading import Result, clean, load_results, shared_arguments


def write_report(run: Path) -> Path:
    """Writes ``report.html`` and ``plots/*.png`` into the run's folder and returns the page's path.

    The page is one file without scripts; nothing in it is loaded from anywhere. The same results give the same bytes.

    Args:
        run: a folder that holds ``<layer>/result.json`` and perhaps ``samples.npz``.

    Raises:
        FileNotFoundError: there is no such folder, or no whole result in it; the message names what is wrong.
        OSError: the folder cannot be written to.
    """
    # Only now: matplotlib takes its time, and datasets imports torch.
    from gnnlib._utils.files import atomic_write
    from gnnlib.benchmarks.report import attributions, charts, plots, samples, tables

    run = Path(run)
    results, problems = load_results(run)
    if not results:
        found = "; ".join(problems) or "none"
        raise FileNotFoundError(f"expected at least one whole <layer>/result.json in {run}, found: {found}")
    rows = leaderboard(results)
    ranked = [row.result for row in rows]
    graphs, flaws = samples.load(run / "samples.npz")
    seen, more_flaws = attributions.load(run, graphs)
    sections = [
        _problems(problems + flaws + more_flaws),
        tables.board(rows),
        tables.others(rows),
        charts.curves(run / "plots", ranked),
        charts.costs(run / "plots", ranked),
        samples.section(run / "plots", graphs),
        samples.levels(run / "plots", graphs),
        attributions.section(run / "plots", ranked, graphs, seen),
        tables.matrices(run / "plots", ranked),
        tables.details(rows),
    ]
    page = Template(Path(__file__).with_suffix(".html").read_text(encoding="utf-8")).substitute(
        title=escape(f"{ranked[0]['task']}: gnnlib benchmark"),
        task=escape(ranked[0]["task"]),
        lede=_lede(rows),
        facts=_facts(run, ranked),
        sections="\n".join(filter(None, sections)),
        light=" ".join(f"--c{i}: {light};" for i, (light, _) in enumerate(plots.PALETTE)),
        dark=" ".join(f"--c{i}: {dark};" for i, (_, dark) in enumerate(plots.PALETTE)),
        toggles="\n".join(f"body:has(#show{i}:not(:checked)) .s{i} {{ display: none; }}" for i in range(len(rows))),
    )
    path = run / "report.html"
    with atomic_write(path) as part:
        part.write_bytes(page.encode())
    return path


def _problems(problems: Sequence[str]) -> str:
    if not problems:
        return ""
    items = "".join(f"<li>{escape(problem)}</li>" for problem in problems)
    return f'<div class="note" role="note"><p><strong>Not everything could be read:</strong></p><ul>{items}</ul></div>'


def _lede(rows: Sequence[Row]) -> str:
    """How many layers and seeds, and which layer is best."""
    score = next(column.cells[0] for column in columns(rows) if column.name == "metric")
    metric = rows[0].result["metric"]
    best = " and ".join(escape(row.result["title"]) for row in rows if row.best)
    unit = f" {escape(metric['unit'])}" if metric.get("unit") else ""
    counts = sorted({len(row.result["seeds"]) for row in rows})
    seeds = "one seed" if counts == [1] else f"{' to '.join(map(str, dict.fromkeys((counts[0], counts[-1]))))} seeds"
    lead = f"One layer, {seeds}. " if len(rows) == 1 else f"{len(rows)} layers, {seeds} each. Best: "
    return f"{lead}<strong>{best}, {score}{unit}</strong> {escape(metric['name'])}."


def _facts(run: Path, results: Sequence[Result]) -> str:
    """What was run, where and with what; where layers differ, every value."""

    def distinct(values: Iterable[Any]) -> list[str]:
        return list(dict.fromkeys(escape(str(value)) for value in values if value))

    def recorded(key: str) -> list[str]:
        return distinct(result[key] for result in results)

    versions = [result["versions"] or {} for result in results]
    names = dict.fromkeys(name for one in versions for name in one)
    facts = {
        "data": ", ".join(recorded("summary")),
        "command": "<br>".join(f"<code>{text}</code>" for text in recorded("command") or [escape(_command(results))]),
        "when": max(recorded("when"), default=""),
        "commit": ", ".join(f"<code>{text}</code>" for text in recorded("commit")),
        "versions": " · ".join(
            f"{escape(name)} {' and '.join(distinct(one.get(name) for one in versions))}" for name in names
        ),
        "machine": ", ".join(recorded("machine")),
        "run": escape(clean(run.resolve().name)),
    }
    lines = [f"<dt>{name}</dt><dd>{text}</dd>" for name, text in facts.items() if text]
    return "<dl>\n" + "\n".join(lines) + "\n</dl>"


def _command(results: Sequence[Result]) -> str:
    """The command that makes this run again; a folder of this machine is not named."""
    words = ["python", "-m", "benchmarks", "run", results[0]["task"]]
    arguments = shared_arguments(results)
    for name, value in arguments.items():
        if value is not None:
            words += ["--" + name.replace("_", "-"), "DIR" if name == "data" else str(value)]
    if "seeds" not in arguments:
        words += ["--seeds", str(max(len(result["seeds"]) for result in results))]
    return shlex.join([*words, "--layers", ",".join(sorted(result["layer"] for result in results))])
