"""The summary of a depth study, ``results.json``: a row for each convolution, remedy and depth."""

import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

import torch
from torch import Tensor

from gnnlib.benchmarks.depth.cells import Cell, projected_nodes
from gnnlib.benchmarks.depth.data import METRICS, NodeData
from gnnlib.benchmarks.depth.journal import Journal
from gnnlib.benchmarks.depth.tuning import Trial, Tuner, best_trial

__all__ = ["core_seconds", "deepest", "mean", "metric_title", "outcomes_of", "summarise", "trials_of"]

PICTURES = 4  # depths at which outputs are drawn
# lists of a row, an entry per seed, and the name of that entry in a cell's outcome
LISTS = {"test": "test", "validation": "val", "train": "train", "epochs": "epochs", "seconds": "seconds",
         "errors": "error", "commits": "commit", "machines": "machine"}  # fmt: skip

Row = dict[str, Any]


def summarise(
    journal: Journal[Cell], data: NodeData, cells: Sequence[Cell], tuner: Tuner | None = None
) -> dict[str, Any]:
    """The content of ``results.json``: these cells first, then those of earlier runs of the same study."""
    order = dict.fromkeys(cell[:3] for cell in (*cells, *sorted(journal.entries)))
    rows = [row for key in order if (row := _row(key, journal, tuner)) is not None]
    return {
        **journal.origin,
        "commits": sorted({str(commit) for row in rows for commit in row["commits"]}),
        "machines": sorted({machine for row in rows for machine in row["machines"]}),
        "when": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "rows": rows,
        "pictures": _pictures(rows, journal),
        "picture_labels": _colours(data.label)[projected_nodes(len(data.label))].tolist(),
    }


def _row(key: tuple, journal: Journal[Cell], tuner: Tuner | None) -> Row | None:
    conv, remedy, depth = key
    seeds = sorted(cell.seed for cell in journal.entries if cell[:3] == key)
    if not seeds or (tuner and not tuner.is_tuned(Cell(conv, remedy, depth, 0))):
        return None
    outcomes = [journal.entries[Cell(conv, remedy, depth, seed)] for seed in seeds]
    return {
        "conv": conv,
        "remedy": remedy,
        "depth": depth,
        "seeds": seeds,
        **{name: [outcome[part] for outcome in outcomes] for name, part in LISTS.items()},
        "parameters": outcomes[0]["parameters"],
        "statistics": next((outcome["statistics"] for outcome in outcomes if "statistics" in outcome), None),
        **({} if tuner is None else _tuning(tuner.history(conv, remedy, depth))),
    }


def _tuning(trials: list[dict[str, Any]]) -> Row:
    """The hyperparameters of a tuned row, and the trials that they were chosen from."""
    return {"params": best_trial(trials)["params"], "trials": trials}


def trials_of(document: Mapping[str, Any]) -> Iterator[tuple[Trial, dict[str, Any]]]:
    """All trials of a tuned study."""
    for row in document["rows"]:
        for number, outcome in enumerate(row["trials"]):
            yield Trial(row["conv"], row["remedy"], row["depth"], number), outcome


def outcomes_of(document: Mapping[str, Any]) -> Iterator[tuple[Cell, dict[str, Any]]]:
    """The inverse of `summarise`, without the projections that no picture shows."""
    points = {(item["conv"], item["remedy"], item["depth"], 0): item["points"] for item in document["pictures"]}
    for row in document["rows"]:
        for i, seed in enumerate(row["seeds"]):
            cell = Cell(row["conv"], row["remedy"], row["depth"], seed)
            outcome = {part: row[name][i] for name, part in LISTS.items()}
            outcome["parameters"] = row["parameters"]
            if seed == 0 and row["statistics"] is not None:
                outcome["statistics"] = row["statistics"]
            if cell in points:
                outcome["points"] = points[cell]
            yield cell, outcome


def metric_title(document: Mapping[str, Any]) -> str:
    """What the figures of a study are."""
    return METRICS[document.get("metric", "accuracy")].title


def _colours(label: Tensor) -> Tensor:
    """The classes of a picture's points: those of the data, or five intervals of the first number."""
    if not label.is_floating_point():
        return label
    column = label[:, 0].contiguous()
    return torch.bucketize(column, torch.linspace(float(column.min()), float(column.max()), 6)[1:-1])


def mean(row: Row, name: str = "test") -> float:
    """The mean over seeds."""
    return math.fsum(row[name]) / len(row[name])


def core_seconds(row: Row) -> float:
    """The processor time of all seeds and, if the row is tuned, of all trials."""
    return math.fsum(row["seconds"]) + math.fsum(trial["seconds"] for trial in row.get("trials", ()))


def deepest(rows: Sequence[Row], conv: str) -> list[Row]:
    """The rows of a convolution at its largest depth, one per remedy, sorted by validation, the best first."""
    last: dict[str, Row] = {}
    for row in sorted((row for row in rows if row["conv"] == conv), key=lambda row: row["depth"]):
        last[row["remedy"]] = row
    largest = max(row["depth"] for row in last.values())
    rows = [row for row in last.values() if row["depth"] == largest]
    return sorted(rows, key=lambda row: -mean(row, "validation"))


def _pictures(rows: Sequence[Row], journal: Journal[Cell]) -> list[dict[str, Any]]:
    """The outputs with the first remedy of a study and with the best, at up to four depths."""
    pictures = []
    for conv in dict.fromkeys(row["conv"] for row in rows):
        first = next(row["remedy"] for row in rows if row["conv"] == conv)
        for remedy in dict.fromkeys([first, deepest(rows, conv)[0]["remedy"]]):
            depths = sorted(row["depth"] for row in rows if (row["conv"], row["remedy"]) == (conv, remedy))
            spread = {depths[round(i * (len(depths) - 1) / (PICTURES - 1))] for i in range(PICTURES)}
            for depth in sorted(spread):
                points = journal.entries.get(Cell(conv, remedy, depth, 0), {}).get("points")
                if points is not None:
                    pictures.append({"conv": conv, "remedy": remedy, "depth": depth, "points": points})
    return pictures
