"""The report of a run, one HTML page."""

import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from gnnlib.benchmarks.report.ranking import Row, columns, leaderboard
from gnnlib.benchmarks.report.reading import Result, clean, load_results, shared_arguments


def write_report(run: Path) -> Path:
    """Writes ``report.html`` and ``plots/*.png`` into the run's folder.

    The page is one file without scripts and loads nothing. The same results give the same bytes.

    Args:
        run: a folder with ``<layer>/result.json`` and perhaps ``samples.npz``

    Returns:
        the path of the page

    Raises:
        FileNotFoundError: if there is no such folder, or no complete result in it
        OSError: if the folder cannot be written to
    """
    # imported here: matplotlib and torch take their time
    from gnnlib.benchmarks.report import attributions, charts, samples, tables, templates

    run = Path(run)
    results, problems = load_results(run)
    if not results:
        reasons = "; ".join(problems) or "none"
        raise FileNotFoundError(f"expected at least one whole <layer>/result.json in {run}, found: {reasons}")
    rows = leaderboard(results)
    ranked = [row.result for row in rows]
    graphs, sample_problems = samples.load(run / "samples.npz")
    maps, attribution_problems = attributions.load(run, graphs)
    task, plots = ranked[0]["task"], run / "plots"
    return templates.write_page(
        run / "report.html",
        "report/page.html",
        title=f"{task}: gnnlib benchmark",
        heading=task,
        lede=_lede(rows),
        facts=_facts(run, ranked),
        problems=problems + sample_problems + attribution_problems,
        several_seeds=any(len(result["seeds"]) > 1 for result in ranked),
        legend=charts.legend(ranked),
        board=tables.board(rows),
        figures=tables.other_figures(rows),
        curves=charts.curves(plots, ranked),
        costs=charts.costs(plots, ranked),
        samples=samples.pictures(plots, graphs),
        levels=samples.levels(plots, graphs),
        attributions=attributions.pictures(plots, ranked, graphs, maps),
        matrices=tables.matrices(plots, ranked),
        details=tables.details(rows),
    )


def _lede(rows: Sequence[Row]) -> dict[str, str]:
    """The number of layers and seeds, and the best layer with its metric."""
    score = next(column.cells[0] for column in columns(rows) if column.name == "metric")
    metric = rows[0].result["metric"]
    best = "; ".join(row.result["title"] for row in rows if row.best)  # titles have commas
    unit = f" {metric['unit']}" if metric.get("unit") else ""
    counts = sorted({len(row.result["seeds"]) for row in rows})
    seeds = "one seed" if counts == [1] else f"{' to '.join(map(str, dict.fromkeys((counts[0], counts[-1]))))} seeds"
    opening = f"One layer, {seeds}." if len(rows) == 1 else f"{len(rows)} layers, {seeds} each. Best:"
    return {"opening": opening, "best": f"{best}, {score}{unit}", "metric": metric["name"]}


def _facts(run: Path, results: Sequence[Result]) -> dict[str, list[str]]:
    """The data, the command, the time, the code and the machine; where layers differ, all values."""

    def distinct(values: Iterable[Any]) -> list[str]:
        return list(dict.fromkeys(str(value) for value in values if value))

    def recorded(key: str) -> list[str]:
        return distinct(result[key] for result in results)

    versions = [result["versions"] or {} for result in results]
    names = dict.fromkeys(name for table in versions for name in table)
    return {
        "data": recorded("summary"),
        "command": recorded("command") or [_command(results)],
        "when": sorted(recorded("when"))[-1:],
        "commit": recorded("commit"),
        "versions": [f"{name} {' and '.join(distinct(table.get(name) for table in versions))}" for name in names],
        "machine": recorded("machine"),
        "run": [clean(run.resolve().name)],
    }


def _command(results: Sequence[Result]) -> str:
    """The command that repeats this run, without the folders of this machine."""
    words = ["python", "-m", "benchmarks", "run", results[0]["task"]]
    arguments = shared_arguments(results)
    for name, value in arguments.items():
        if value is not None:
            words += ["--" + name.replace("_", "-"), "DIR" if name == "data" else str(value)]
    if "seeds" not in arguments:
        words += ["--seeds", str(max(len(result["seeds"]) for result in results))]
    return shlex.join([*words, "--layers", ",".join(sorted(result["layer"] for result in results))])
