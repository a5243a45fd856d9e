"""The journal of a depth study: a line of JSON for each finished training, on disk before the next one begins."""

import json
import os
import sys
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from gnnlib._utils.documents import seal
from gnnlib.benchmarks.records.store import Store, parse_sealed

__all__ = ["Journal"]


Key = TypeVar("Key", bound=NamedTuple)


class Journal(Store[Key, dict[str, Any]]):
    """Outcomes by cell, or by trial of a cell, in memory and in a file.

    A file of another study is set aside. Each line holds a checksum. Lines that are cut off or damaged are dropped, and
    their cells run again.

    Args:
        path: the file; None keeps the outcomes in memory only
        origin: what all outcomes share; the first line of the file
        key: the class of the keys
    """

    def __init__(self, path: Path | None, origin: dict[str, Any], key: type[Key]):
        super().__init__(path, origin)
        self.key = key
        self.damaged = 0  # lines
        self.read()
        if self.damaged:
            print(f"{path}: {self.damaged} damaged or cut off; those cells run again", file=sys.stderr)
        if path is not None and (self.damaged or not path.exists()):
            self.write()

    def add(self, key: Key, outcome: dict[str, Any]) -> None:
        """Adds an outcome and writes it to the disk."""
        self.entries[key] = outcome
        if self.path is not None:
            with self.path.open("a") as file:
                file.write(_line(_encode(key, outcome)))
                file.flush()
                os.fsync(file.fileno())

    def document(self) -> dict[str, Any]:
        return {**self.origin, "cells": [_encode(key, outcome) for key, outcome in self.entries.items()]}

    def decode(self, document: dict[str, Any]) -> dict[Key, dict[str, Any]]:
        names = self.key._fields
        return {self.key(*(outcome.pop(name) for name in names)): outcome for outcome in document["cells"]}

    def format(self, document: dict[str, Any]) -> str:
        return "".join(map(_line, [self.origin, *document["cells"]]))

    def parse(self, text: str) -> dict[str, Any]:
        origin, *cells = map(_parse, text.splitlines(keepends=True))
        outcomes = [cell for cell in cells if cell is not None]
        self.damaged = len(cells) - len(outcomes)
        return {"tuning": None, **(origin or {}), "cells": outcomes}


def _encode(key: NamedTuple, outcome: dict[str, Any]) -> dict[str, Any]:
    return {**key._asdict(), **outcome}


def _line(document: Any) -> str:
    return json.dumps(seal(document)) + "\n"


def _parse(line: str) -> dict[str, Any] | None:
    """The object of a line; None where the line is damaged or cut off."""
    try:
        document = parse_sealed(line) if line.endswith("\n") else None
    except ValueError:
        return None
    return document and {name: value for name, value in document.items() if name != "checksum"}
