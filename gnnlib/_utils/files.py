"""Atomic writes and checksums of files."""

import os
import uuid
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain, count
from pathlib import Path

__all__ = ["atomic_write", "naming", "remove_parts", "set_aside", "spread_checksum"]

PAGE, PAGES = (
    4096,
    1024,
)  # bytes; evenly spaced pages of a checksum, which cover all of a small file


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Context with a temporary path beside ``path``, renamed to ``path`` at the end, or deleted on an exception.

    Raises:
        FileNotFoundError: if nothing was written
        OSError: if the file cannot be written; the error of a full disk has its name

    Example:
        >>> import os, tempfile
        >>> from pathlib import Path
        >>> from gnnlib._utils.files import atomic_write
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with atomic_write(Path(folder) / "result.json") as part:
        ...         _ = part.write_text("{}")
        ...     os.listdir(folder)
        ['result.json']
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{uuid.uuid4().hex}.{path.name}")  # with the suffix: some writers append one
    try:
        with naming(path):
            yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Context that adds the name of the file to the OSError of a failed write, as that of a failed open has it."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise


def remove_parts(path: Path) -> None:
    """Deletes the temporary files of processes that were killed within `atomic_write` to this path."""
    for part in path.parent.glob(f".{'[0-9a-f]' * 32}.{path.name}"):
        part.unlink(missing_ok=True)


def set_aside(path: Path, aside: Path) -> Path:
    """Renames ``path`` to ``aside``, or to the first of aside-1, aside-2, ... that does not exist.

    Returns:
        The new path.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from gnnlib._utils.files import set_aside
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for text in ("first", "second"):
        ...         path = Path(folder) / "result.json"
        ...         _ = path.write_text(text)
        ...         print(set_aside(path, path.with_name("result-old.json")).name)
        result-old.json
        result-old-1.json
    """
    numbered = (aside.with_name(f"{aside.stem}-{number}{aside.suffix}") for number in count(1))
    free = next(name for name in chain([aside], numbered) if not name.exists())
    os.replace(path, free)
    return free


def spread_checksum(path: Path) -> int:
    """The CRC-32 of 4 MiB spread evenly over a file of any length: detects truncated and unwritten parts, and is fast.

    Example:
        >>> import tempfile, zlib
        >>> from pathlib import Path
        >>> from gnnlib._utils.files import spread_checksum
        >>> with tempfile.NamedTemporaryFile() as file:
        ...     _ = file.write(b"bytes"), file.flush()
        ...     spread_checksum(Path(file.name)) == zlib.crc32(b"bytes" * 1024)
        True
    """
    checksum, last = 0, max(0, path.stat().st_size - PAGE)
    with open(path, "rb", buffering=0) as file:
        for number in range(PAGES):
            file.seek(last * number // (PAGES - 1))
            checksum = zlib.crc32(file.read(PAGE), checksum)
    return checksum
