"""The journal of a depth study: a line of JSON for each finished cell, on disk before the next cell begins."""

import json
import os
import sys
from pathlib import Path
from typing import Any

from gnnlib._utils.documents import seal
from gnnlib.benchmarks.depth.cells import Cell
from gnnlib.benchmarks.records.store import Store, parse_sealed

__all__ = ["Journal"]


class Journal(Store[Cell, dict[str, Any]]):
    """Outcomes by cell, in memory and in a file.

    A file of another study is set aside. Each line holds a checksum. Lines that are cut off or damaged are dropped, and
    their cells run again.

    Args:
        path: the file; None keeps the outcomes in memory only
        origin: what all cells share; the first line of the file
    """

    def __init__(self, path: Path | None, origin: dict[str, Any]):
        super().__init__(path, origin)
        self.damaged = 0  # lines
        self.read()
        if self.damaged:
            print(f"{path}: {self.damaged} damaged or cut off; those cells run again", file=sys.stderr)
        if path is not None and (self.damaged or not path.exists()):
            self.write()

    @property
    def cells(self) -> dict[Cell, dict[str, Any]]:
        return self.entries

    def add(self, cell: Cell, outcome: dict[str, Any]) -> None:
        """Adds a cell and writes it to the disk."""
        self.entries[cell] = outcome
        if self.path is not None:
            with self.path.open("a") as file:
                file.write(_line(_encode(cell, outcome)))
                file.flush()
                os.fsync(file.fileno())

    def document(self) -> dict[str, Any]:
        return {**self.origin, "cells": [_encode(cell, outcome) for cell, outcome in self.entries.items()]}

    def decode(self, document: dict[str, Any]) -> dict[Cell, dict[str, Any]]:
        return {Cell(*(outcome.pop(name) for name in Cell._fields)): outcome for outcome in document["cells"]}

    def format(self, document: dict[str, Any]) -> str:
        return "".join(map(_line, [self.origin, *document["cells"]]))

    def parse(self, text: str) -> dict[str, Any]:
        origin, *cells = map(_parse, text.splitlines(keepends=True))
        outcomes = [cell for cell in cells if cell is not None]
        self.damaged = len(cells) - len(outcomes)
        return {**(origin or {}), "cells": outcomes}


def _encode(cell: Cell, outcome: dict[str, Any]) -> dict[str, Any]:
    return {**cell._asdict(), **outcome}


def _line(document: Any) -> str:
    return json.dumps(seal(document)) + "\n"


def _parse(line: str) -> dict[str, Any] | None:
    """The object of a line; None where the line is damaged or cut off."""
    try:
        document = parse_sealed(line) if line.endswith("\n") else None
    except ValueError:
        return None
    return document and {name: value for name, value in document.items() if name != "checksum"}
