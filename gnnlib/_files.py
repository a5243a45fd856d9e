"""Files that are there whole or not at all."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["atomic_write"]


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A path beside ``path`` to write to: it becomes ``path`` in one step at the end, or vanishes upon an exception.

    Raises:
        FileNotFoundError: nothing was written.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with atomic_write(Path(folder) / "result.json") as part:
    ...         _ = part.write_text("{}")
    ...     os.listdir(folder)
    ['result.json']
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{uuid.uuid4().hex}.{path.name}")  # keeps the suffix: some writers add their own
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
