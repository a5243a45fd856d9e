"""The tables of docs/speed.md and docs/results.md, and docs/images/speed.png, out of benchmarks/results/speed and
speed-xeon: .venv/bin/python -m docs.pictures_speed"""

import json
from functools import partial
from pathlib import Path

from docs.tables import fill_tables
from gnnlib.benchmarks.speed.measure import PEERS, Row
from gnnlib.benchmarks.speed.plot import plot
from gnnlib.benchmarks.speed.show import milliseconds

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "docs" / "speed.md", ROOT / "docs" / "results.md"]
SHORT = ("gcn", "gin", "gat", "sage", "sgc", "weighted", "weighted-heads", "ecc-16", "superpixels-gat", "all-pairs")
"""The rows of docs/results.md."""
PEAKS = "peak memory (MB): gnnlib, lowest of the others"


def rows(folder: str = "speed") -> dict[tuple[str, str], Row]:
    """By allocator and workload."""
    documents = json.loads((ROOT / "benchmarks" / "results" / folder / "speed.json").read_text())["rows"]
    return {(row["allocator"], row["workload"]): Row.from_document(row) for row in documents}


def _times(row: Row, peer: str) -> str:
    ratio = row.ratio(peer)
    return "" if ratio is None else f"{ratio:.{1 if ratio >= 10 else 2}f}"


def _with_target(row: Row, peer: str) -> str:
    """The ratio, in bold where it meets its target, else with the target."""
    cell, target = _times(row, peer), row.targets.get(peer)
    if not cell or target is None:
        return cell
    return f"**{cell}**" if (row.ratio(peer) or 0.0) >= target else f"{cell} ({target:g})"


def _peaks(row: Row) -> str:
    theirs = [peak for peer in PEERS if (peak := row.peak.get(peer)) is not None]
    return f"{(row.peak['gnnlib'] or 0) / 1e6:,.0f}, {min(theirs) / 1e6:,.0f}" if theirs else ""


def _markdown(*lines: list[str]) -> str:
    head, *body = lines
    return "\n".join("|" + "".join(f" {cell} |" for cell in cells) for cells in (head, ["---"] * len(head), *body))


def full(folder: str = "speed") -> str:
    """A line for each workload with peers; after the peaks, where measured, the figures with retained memory."""
    by_key, lines = rows(folder), []
    for (allocator, name), row in by_key.items():
        if allocator != "default" or row.factors:
            continue
        bound = "" if row.bound is None else f"{row.bound:.0%}"
        cells = [
            row.title,
            milliseconds(row.median("gnnlib")),
            _with_target(row, "dgl"),
            _with_target(row, "pyg"),
            _times(row, "csr"),
        ]
        cells += [milliseconds(row.median("dense")), bound, _peaks(row)]
        if retained := by_key.get(("keep", name)):
            cells += [milliseconds(retained.median("gnnlib")), _times(retained, "dgl"), _times(retained, "pyg")]
            cells += [milliseconds(retained.median("dense"))]
        lines.append(cells)
    head = ["workload", "gnnlib (ms)", "dgl.nn", "PyG", "PyG, CSR", "dense part (ms)", "bound", PEAKS]
    if len(lines[0]) > len(head):
        head += [f"retained: {name}" for name in ("gnnlib (ms)", "dgl.nn", "PyG", "dense part (ms)")]
    return _markdown(head, *lines)


def growth() -> str:
    lines = []
    for (allocator, _), row in rows().items():
        if allocator == "default" and row.factors:
            steps = ", ".join(f"{name} {milliseconds(row.median(name))}" for name in row.factors)
            lines.append([row.title, steps, f"{row.exponent or 0.0:.2f}"])
    return _markdown(["workload and what is enlarged", "time (ms) at each size", "exponent"], *lines)


def short() -> str:
    lines = []
    for name in SHORT:
        row = rows()["default", name]
        cells = [row.title, milliseconds(row.median("gnnlib")), _times(row, "dgl"), _times(row, "pyg")]
        lines.append([*cells, milliseconds(row.median("dense")), _peaks(row)])
    return _markdown(["workload", "gnnlib (ms)", "dgl.nn", "PyG", "dense part (ms)", PEAKS], *lines)


TABLES = {"speed-full": full, "speed-xeon": partial(full, "speed-xeon"), "speed-growth": growth, "speed": short}


def with_tables(page: str) -> str:
    return fill_tables(page, TABLES)


if __name__ == "__main__":
    for path in PAGES:
        path.write_text(with_tables(path.read_text("utf-8")), "utf-8")
    plot(list(rows().values()), ROOT / "docs" / "images" / "speed.png")
