"""All cells as one small document: a row for each convolution, remedy and depth."""

from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any

from benchmarks.depth.cells import Cell, dot_rows
from benchmarks.depth.data import NodeData
from benchmarks.depth.journal import Journal
from benchmarks.results import machine

__all__ = ["deepest", "mean", "summarise"]

PICTURES = 4  # depths at which outputs are drawn

Row = dict[str, Any]


def summarise(journal: Journal, data: NodeData, cells: Sequence[Cell]) -> dict[str, Any]:
    """What ``results.json`` holds: the cells asked for, and those of earlier runs of the same study."""
    order = dict.fromkeys(cell[:3] for cell in (*cells, *sorted(journal.cells)))
    rows = [row for key in order if (row := _row(key, journal)) is not None]
    return {
        **journal.origin,
        "commits": sorted({str(outcome["commit"]) for outcome in journal.cells.values()}),
        "machine": machine(),
        "when": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "rows": rows,
        "pictures": _pictures(rows, journal),
        "picture_labels": data.label[dot_rows(len(data.label))].tolist(),
    }


def _row(key: tuple, journal: Journal) -> Row | None:
    conv, remedy, depth = key
    seeds = sorted(cell.seed for cell in journal.cells if cell[:3] == key)
    if not seeds:
        return None
    outcomes = [journal.cells[Cell(conv, remedy, depth, seed)] for seed in seeds]
    lists = {name: [o[part] for o in outcomes] for name, part in (("validation", "val"), ("train", "train"))}
    return {
        "conv": conv,
        "remedy": remedy,
        "depth": depth,
        "seeds": seeds,
        "test": [o["test"] for o in outcomes],
        **lists,
        "parameters": outcomes[0]["parameters"],
        "epochs": [o["epochs"] for o in outcomes],
        "seconds": [o["seconds"] for o in outcomes],
        "errors": sorted({o["error"] for o in outcomes if o["error"]}),
        "looks": next((o["looks"] for o in outcomes if "looks" in o), None),
    }


def mean(row: Row, name: str = "test") -> float:
    return sum(row[name]) / len(row[name])


def deepest(rows: Sequence[Row], conv: str) -> list[Row]:
    """For each remedy of a convolution its deepest row, the best first by validation."""
    last: dict[str, Row] = {}
    for row in sorted((row for row in rows if row["conv"] == conv), key=lambda row: row["depth"]):
        last[row["remedy"]] = row
    most = max(row["depth"] for row in last.values())
    rest = [row for row in last.values() if row["depth"] == most]
    return sorted(rest, key=lambda row: -mean(row, "validation"))


def _pictures(rows: Sequence[Row], journal: Journal) -> list[dict[str, Any]]:
    """The outputs without a remedy (the first that was asked for) and with the best, at a few depths."""
    found = []
    for conv in dict.fromkeys(row["conv"] for row in rows):
        first = next(row["remedy"] for row in rows if row["conv"] == conv)
        for remedy in dict.fromkeys([first, deepest(rows, conv)[0]["remedy"]]):
            depths = sorted(row["depth"] for row in rows if (row["conv"], row["remedy"]) == (conv, remedy))
            spread = {depths[round(i * (len(depths) - 1) / (PICTURES - 1))] for i in range(PICTURES)}
            for depth in sorted(spread):
                dots = journal.cells.get(Cell(conv, remedy, depth, 0), {}).get("dots")
                if dots is not None:
                    found.append({"conv": conv, "remedy": remedy, "depth": depth, "dots": dots})
    return found
