"""The file of figures of the commands ``speed`` and ``memory``, complete after each row."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from gnnlib._utils.files import atomic_write
from gnnlib.benchmarks.records.results import commit, keep_aside

__all__ = ["Figures"]

Row = dict[str, Any]


class Figures:
    """Rows in a JSON file; a new row replaces the row with the same key.

    A file with other shared values, or a damaged one, is renamed and a new file begins.

    Args:
        path: the file
        shared: values of all rows, such as the machine
        key: the fields that identify a row
        fields: fields that each row must have

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from gnnlib.benchmarks.speed.figures import Figures
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
        """The rows, in the order in which they came first."""
        return list(self._rows.values())

    def add(self, row: Row) -> None:
        """Adds a row with the current commit, and writes the file."""
        self._rows[self._key_of(row)] = {**row, "commit": self._commit}
        with atomic_write(self.path) as part:
            part.write_text(json.dumps({**self.shared, **self.extra, "rows": self.rows}, indent=1) + "\n")

    def _key_of(self, row: Row) -> tuple:
        return tuple(row[name] for name in self.key)

    def _read(self) -> None:
        try:
            document = json.loads(self.path.read_text())
            changed = [name for name, value in self.shared.items() if document[name] != value]
            rows = {self._key_of(row): row for row in document["rows"]}
            missing = {name for row in rows.values() for name in self.fields if name not in row}
        except (ValueError, KeyError, TypeError) as error:
            return keep_aside(self.path, f"is damaged ({error!r})")
        if missing:
            return keep_aside(self.path, f"is damaged (a row lacks {', '.join(sorted(missing))})")
        if changed:
            return keep_aside(self.path, f"has other {', '.join(changed)}")
        self._rows = rows
