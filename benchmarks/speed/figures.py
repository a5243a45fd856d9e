"""The file of a measuring command: whole after each row, and no row is lost to a later run that measures others."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from gnnlib._utils.files import atomic_write
from gnnlib.benchmarks.records.results import commit, keep_aside

__all__ = ["Figures"]

Row = dict[str, Any]


class Figures:
    """Rows as JSON, under what they share. A row takes the place of one with the same ``key``; the others stay, each
    with the commit that measured it. A file that shares something else, or is damaged, is kept aside; so is one whose
    rows lack the key or one of the other ``fields``.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name, ms in (("gcn", 3), ("gat", 5), ("gcn", 2)):
    ...         figures = Figures(Path(folder) / "speed.json", {"machine": "mine"}, ["name"])
    ...         figures.add({"name": name, "ms": ms})
    ...     [(row["name"], row["ms"]) for row in figures.rows]
    [('gcn', 2), ('gat', 5)]
    """

    def __init__(self, path: Path, shared: dict[str, Any], key: Sequence[str], fields: Iterable[str] = ()):
        self.path, self.shared, self.key, self.fields = path, shared, key, tuple(fields)
        self.extra: dict[str, Any] = {}  # of the newest run
        self._rows: dict[tuple, Row] = {}
        self._commit = commit()
        if path.exists():
            self._read()

    @property
    def rows(self) -> list[Row]:
        return list(self._rows.values())

    def add(self, row: Row) -> None:
        self._rows[self._place(row)] = {**row, "commit": self._commit}
        with atomic_write(self.path) as partly:
            partly.write_text(json.dumps({**self.shared, **self.extra, "rows": self.rows}, indent=1) + "\n")

    def _place(self, row: Row) -> tuple:
        return tuple(row[name] for name in self.key)

    def _read(self) -> None:
        try:
            document = json.loads(self.path.read_text())
            other = [name for name, value in self.shared.items() if document[name] != value]
            rows = {self._place(row): row for row in document["rows"]}
            lacking = {name for row in rows.values() for name in self.fields if name not in row}
        except (ValueError, KeyError, TypeError) as error:
            return keep_aside(self.path, f"is damaged ({error!r})")
        if lacking:
            return keep_aside(self.path, f"is damaged (a row lacks {', '.join(sorted(lacking))})")
        if other:
            return keep_aside(self.path, f"has other {', '.join(other)}")
        self._rows = rows
