"""The journal of a depth study: a line of JSON for each finished cell, on disk before the next cell begins."""

import json
import os
import sys
from pathlib import Path
from typing import Any

from gnnlib._utils.files import atomic_write
from gnnlib.benchmarks.depth.cells import Cell
from gnnlib.benchmarks.records.results import keep_aside

__all__ = ["Journal"]


class Journal:
    """Outcomes by cell, in memory and in a file.

    A file of another study is set aside. Lines that are cut off or damaged are dropped, and their cells run again.

    Args:
        path: the file; None keeps the outcomes in memory only
        origin: what all cells share; the first line of the file
    """

    def __init__(self, path: Path | None, origin: dict[str, Any]):
        self.path, self.origin = path, origin
        self.cells: dict[Cell, dict[str, Any]] = {}
        if path is not None and path.exists():
            self._read(path)
        elif path is not None:
            self._write(path)

    def add(self, cell: Cell, outcome: dict[str, Any]) -> None:
        """Adds a cell and writes it to the disk."""
        self.cells[cell] = outcome
        if self.path is not None:
            with self.path.open("a") as file:
                file.write(_line(cell, outcome))
                file.flush()
                os.fsync(file.fileno())

    def _read(self, path: Path) -> None:
        first, *lines = path.read_text(errors="replace").splitlines(keepends=True) or [""]
        if _parse(first) != self.origin:
            keep_aside(path, "belongs to another study")
            return self._write(path)
        outcomes = [outcome for outcome in map(_parse, lines) if outcome is not None]
        for outcome in outcomes:
            self.cells[Cell(*(outcome.pop(name) for name in Cell._fields))] = outcome
        if len(outcomes) < len(lines):
            print(f"{path}: {len(lines) - len(outcomes)} damaged or cut off; those cells run again", file=sys.stderr)
            self._write(path)

    def _write(self, path: Path) -> None:
        with atomic_write(path) as part:
            lines = [_line(cell, outcome) for cell, outcome in self.cells.items()]
            part.write_text("".join([json.dumps(self.origin) + "\n", *lines]))


def _line(cell: Cell, outcome: dict[str, Any]) -> str:
    return json.dumps({**cell._asdict(), **outcome}) + "\n"


def _parse(line: str) -> dict[str, Any] | None:
    """The object of a line; None where the line is damaged or cut off."""
    try:
        return json.loads(line) if line.endswith("\n") else None
    except ValueError:
        return None
