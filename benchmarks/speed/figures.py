"""The file of figures of the commands ``speed`` and ``memory``, complete after each row."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from gnnlib.benchmarks.records.results import commit
from gnnlib.benchmarks.records.store import Store

__all__ = ["Figures"]

Row = dict[str, Any]


class Figures(Store[tuple, Row]):
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
        ...         figures.add_row({"name": name, "ms": ms})
        ...     [(row["name"], row["ms"]) for row in figures.rows]
        [('gcn', 2), ('gat', 5)]
    """

    def __init__(self, path: Path, shared: dict[str, Any], key: Sequence[str], fields: Iterable[str] = ()):
        super().__init__(path, shared)
        self.key, self.fields = key, tuple(fields)
        self.extra: dict[str, Any] = {}  # of the newest run
        self._commit = commit()
        self.read()

    @property
    def rows(self) -> list[Row]:
        """The rows, in the order in which they came first."""
        return list(self.entries.values())

    def add_row(self, row: Row) -> None:
        """Adds a row with the current commit, and writes the file."""
        self.add(self._key_of(row), {**row, "commit": self._commit})

    def document(self) -> dict[str, Any]:
        return {**self.origin, **self.extra, "rows": self.rows}

    def decode(self, document: dict[str, Any]) -> dict[tuple, Row]:
        rows = {self._key_of(row): row for row in document["rows"]}
        missing = sorted({name for row in rows.values() for name in self.fields if name not in row})
        if missing:
            raise ValueError(f"a row lacks {', '.join(missing)}")
        return rows

    def _key_of(self, row: Row) -> tuple:
        return tuple(row[name] for name in self.key)
