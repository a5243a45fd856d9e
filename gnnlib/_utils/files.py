"""Files that are there whole or not at all."""

import os
import uuid
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain, count
from pathlib import Path

__all__ = ["atomic_write", "naming", "remove_parts", "set_aside", "spread_checksum"]

PAGE, PAGES = 4096, 1024  # bytes, and how many such pieces, evenly spread, a checksum covers: all of a small file


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A path beside ``path`` to write to: it becomes ``path`` in one step at the end, or vanishes upon an exception.

    Raises:
        FileNotFoundError: nothing was written.
        OSError: it could not be; where the disk is full, with the name of the file.

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
        with naming(path):
            yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """A write that fails in here says to which file, as an open does by itself."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise


def remove_parts(path: Path) -> None:
    """What processes that were killed within `atomic_write` to this path have left."""
    for part in path.parent.glob(f".{'[0-9a-f]' * 32}.{path.name}"):
        part.unlink(missing_ok=True)


def set_aside(path: Path, aside: Path) -> Path:
    """Renames ``path`` to ``aside``, or to the first of aside-1, aside-2, ... that is free, and returns that.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for text in ("first", "second"):
    ...         path = Path(folder) / "result.json"
    ...         _ = path.write_text(text)
    ...         print(set_aside(path, path.with_name("result-old.json")).name)
    result-old.json
    result-old-1.json
    """
    others = (aside.with_name(f"{aside.stem}-{number}{aside.suffix}") for number in count(1))
    free = next(name for name in chain([aside], others) if not name.exists())
    os.replace(path, free)
    return free


def spread_checksum(path: Path) -> int:
    """Of 4 MiB, spread over a file of any length: enough for what was cut off or never written, and soon read.

    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile() as file:
    ...     _ = file.write(b"whole"), file.flush()
    ...     spread_checksum(Path(file.name)) == zlib.crc32(b"whole" * 1024)
    True
    """
    found, last = 0, max(0, path.stat().st_size - PAGE)
    with open(path, "rb", buffering=0) as file:
        for number in range(PAGES):
            file.seek(last * number // (PAGES - 1))
            found = zlib.crc32(file.read(PAGE), found)
    return found
