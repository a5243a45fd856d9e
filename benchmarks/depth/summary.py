"""All cells as one small document, a row for each convolution, remedy and depth; and the cells of such a document."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from gnnlib.benchmarks.depth.cells import Cell, dot_rows
from gnnlib.benchmarks.depth.data import NodeData
from gnnlib.benchmarks.depth.journal import Journal

__all__ = ["cells_of", "deepest", "mean", "summarise"]

PICTURES = 4  # depths at which outputs are drawn
# of a row, one a seed, and what a cell calls it
LISTS = {"test": "test", "validation": "val", "train": "train", "epochs": "epochs", "seconds": "seconds",
         "errors": "error", "commits": "commit", "machines": "machine"}  # fmt: skip

Row = dict[str, Any]


def summarise(journal: Journal, data: NodeData, cells: Sequence[Cell]) -> dict[str, Any]:
    """What ``results.json`` holds: the cells asked for, and those of earlier runs of the same study."""
    order = dict.fromkeys(cell[:3] for cell in (*cells, *sorted(journal.cells)))
    rows = [row for key in order if (row := _row(key, journal)) is not None]
    return {
        **journal.origin,
        "commits": sorted({str(code) for row in rows for code in row["commits"]}),
        "machines": sorted({place for row in rows for place in row["machines"]}),
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
    return {
        "conv": conv,
        "remedy": remedy,
        "depth": depth,
        "seeds": seeds,
        **{name: [outcome[part] for outcome in outcomes] for name, part in LISTS.items()},
        "parameters": outcomes[0]["parameters"],
        "looks": next((o["looks"] for o in outcomes if "looks" in o), None),
    }


def cells_of(document: Mapping[str, Any]) -> Iterator[tuple[Cell, dict[str, Any]]]:
    """The inverse of `summarise`, but for the outputs of cells that are in no picture."""
    dots = {(each["conv"], each["remedy"], each["depth"], 0): each["dots"] for each in document["pictures"]}
    for row in document["rows"]:
        for i, seed in enumerate(row["seeds"]):
            cell = Cell(row["conv"], row["remedy"], row["depth"], seed)
            outcome = {part: row[name][i] for name, part in LISTS.items()}
            outcome["parameters"] = row["parameters"]
            if seed == 0 and row["looks"] is not None:
                outcome["looks"] = row["looks"]
            if cell in dots:
                outcome["dots"] = dots[cell]
            yield cell, outcome


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
