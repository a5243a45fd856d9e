"""A lock for one process at a time, in a file that says which process holds it."""

import errno
import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import IO

from gnnlib._utils.files import naming

__all__ = ["InUseError", "exclusive"]

_held: set[Path] = set()  # by this process, which the system would let lock them again


class InUseError(RuntimeError):
    """Another process holds the lock."""


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Context in which this process alone holds the lock of a file. At the end the file is deleted, and so are the
    folders that were made for it and are empty.

    The system releases the lock of a process that ends in any way, and child processes do not inherit it. A file that
    was left behind is therefore taken over.

    Raises:
        InUseError: if a process holds it, with its number and host

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from gnnlib._utils.lock import exclusive
        >>> with tempfile.TemporaryDirectory() as folder, exclusive(Path(folder) / "lock"):
        ...     print([path.name for path in Path(folder).iterdir()])
        ['lock']
    """
    path = path.absolute()
    new = [folder for folder in path.parents if not folder.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    if path in _held:
        raise InUseError(f"expected {path.parent} to be free, got one in use by this process")
    with _locked(path) as file:
        _held.add(path)
        try:
            now = datetime.now(timezone.utc).isoformat(timespec="seconds")
            with naming(path):
                file.truncate(0)
                file.write(json.dumps({"process": os.getpid(), "host": socket.gethostname(), "since": now}))
                file.flush()
            yield
        finally:
            _held.discard(path)
            path.unlink(missing_ok=True)
            with suppress(OSError):  # not empty
                for folder in new:
                    folder.rmdir()


def _locked(path: Path) -> IO[str]:
    """The file, opened and locked."""
    while True:
        file = open(path, "a+")  # noqa: SIM115  the caller closes it
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                file.seek(0)
                holder = _describe(file.read())
                file.close()
                raise InUseError(f"expected {path.parent} to be free, got one in use by {holder}") from None
            return file  # a file system without locks
        if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
            return file
        file.close()  # the process that held it has deleted the file meanwhile


def _describe(text: str) -> str:
    try:
        holder = json.loads(text)
        return f"process {holder['process']} on {holder['host']} since {holder['since']}"
    except (ValueError, KeyError, TypeError):  # it is just being written
        return "another process"
