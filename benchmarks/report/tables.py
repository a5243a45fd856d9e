"""The page's tables: the leaderboard, other figures, the confusion matrices, and the details."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gnnlib.benchmarks.report import plots
from gnnlib.benchmarks.report.ranking import Row, columns, decimals, equal_columns, figures, sources
from gnnlib.benchmarks.report.reading import Result, shared_arguments

TABLE_CLASSES = 20  # a confusion matrix of more classes is a picture
Table = dict[str, Any]  # the variables of a table of the template


SEEDS = "A seed sets the random numbers of one training, from the initial weights on; where data have folds, its fold."
READOUT = "The read-out turns the features of all nodes into the output of a graph."


def board(rows: Sequence[Row]) -> Table:
    """The leaderboard, with a strip of the seeds for each layer; what is equal in all rows is in notes."""
    metric = rows[0].result["metric"]
    styles = plots.styles([row.result for row in rows])
    values = [value for row in rows for value in row.result["metric"]["values"]]
    better = "higher is better" if metric["higher_is_better"] else "lower is better"
    several = any(len(row.result["seeds"]) > 1 for row in rows)
    over = "mean ± standard deviation over seeds" if several else "one seed each, so that no spread is known"
    shown = columns(rows)
    equal = equal_columns(rows, shown)
    return {
        "caption": f"{metric['name'].capitalize()}, {over} ({better}).",
        "columns": [column for column in shown if column not in equal],
        "notes": _notes(rows, {column.name: column.cells[0] for column in equal}),
        "rows": [
            {
                "best": row.best,
                "colour": styles[row.result["layer"]].variable,
                "dot": "dot" if styles[row.result["layer"]].number < len(plots.PALETTE) else "dot ring",
                **_strip(row.result["metric"], min(values), max(values)),
            }
            for row in rows
        ],
        "sources": sources(rows),
    }


def _notes(rows: Sequence[Row], equal: dict[str, str]) -> list[str]:
    """What seeds and read-outs are, and those that all layers share."""
    seeds = f"Seeds of each layer: {equal['seeds']}. " if "seeds" in equal else ""
    readouts = dict.fromkeys(row.result["readout"] for row in rows if row.result["readout"])
    shared = f" Of each layer: {next(iter(readouts))}." if "readout" in equal and len(readouts) == 1 else ""
    return [seeds + SEEDS, *([READOUT + shared] if readouts else [])]


def other_figures(rows: Sequence[Row]) -> Table | None:
    """Other figures: a line for each figure and a column for each layer; None where there are none."""
    lines = figures(rows)
    return {"titles": [row.result["title"] for row in rows], "lines": lines} if lines else None


def matrices(folder: Path, results: Sequence[Result]) -> list[Table]:
    """The confusion matrices, the best layer's first, and each as a file in the folder."""
    return [_matrix(folder, result) for result in results if result["confusion"]]


def details(rows: Sequence[Row]) -> Table:
    """Arguments, seeds one by one, validation scores, readouts in full."""
    shared = shared_arguments([row.result for row in rows])
    digits = decimals(rows)
    table = []
    for result in (row.result for row in rows):
        validation = (result["validation"] or {}).get("values")
        table.append({
            "layer": result["title"],
            "seeds": ", ".join(map(str, result["seeds"])),
            "each seed": ", ".join(f"{value:.{digits}f}" for value in result["metric"]["values"]),
            "validation, mean": f"{math.fsum(validation) / len(validation):.{digits}f}" if validation else "",
            "read-out": result["readout"] or "",
            "commit": result["commit"] or "",
        })  # fmt: skip
    names = [name for name in table[0] if any(cells[name] for cells in table)]
    arguments = [f"{name} {value}" for name, value in shared.items() if name != "data" and value is not None]
    return {
        "shared": ", ".join(arguments) or "none",
        "names": names,
        "lines": [[cells[name] for name in names] for cells in table],
    }


def _strip(metric: dict[str, Any], low: float, high: float) -> Table:
    """The places of the seeds and of their mean in a strip 130 wide, on the scale of the whole table."""

    def x(value: float) -> str:
        return f"{4 + 122 * ((value - low) / (high - low) if high > low else 0.5):.1f}"

    return {
        "ticks": [x(value) for value in metric["values"]],
        "mean": x(metric["mean"]),
        "label": "each seed: " + ", ".join(f"{value:g}" for value in metric["values"]),
    }


def _matrix(folder: Path, result: Result) -> Table:
    counts = result["confusion"]
    correct, total = sum(row[i] for i, row in enumerate(counts)), sum(map(sum, counts))
    names = result["classes"] or [str(i) for i in range(len(counts))]
    return {
        "title": result["title"],
        "caption": f"{result['title']}: {correct:,} of {total:,} right",
        "image": plots.save(plots.confusion(result), folder / f"confusion-{plots.file_name(result['layer'])}.png"),
        "classes": names if len(counts) <= TABLE_CLASSES else None,
        "rows": [_row(name, i, row) for i, (name, row) in enumerate(zip(names, counts, strict=True))],
    }


def _row(name: str, true: int, counts: Sequence[int]) -> Table:
    """The predictions for one class; the deeper a cell's colour, the larger its share."""
    total = sum(counts)
    cells = []
    for i, count in enumerate(counts):
        share = count / max(total, 1) if i == true else math.sqrt(count / max(total, 1))  # single errors stay visible
        kind = "zero" if not count else "good" if i == true else "bad"
        cells.append({"count": f"{count:,}", "kind": kind, "share": f"{share:.3f}" if count else ""})
    return {"name": name, "cells": cells, "recall": f"{100 * counts[true] / total:.1f} %" if total else ""}
