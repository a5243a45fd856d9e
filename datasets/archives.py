"""Members of zip files: by their exact names, and of no more bytes than the table of the zip says."""

import gzip
import posixpath
import shutil
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from gnnlib.datasets.files import FormatError

__all__ = ["BROKEN", "RATIO", "ZipMembers", "open_zip"]

BROKEN = (
    *(EOFError, KeyError, OverflowError, RuntimeError, ValueError),
    *(gzip.BadGzipFile, struct.error, zipfile.BadZipFile, zlib.error),
)
"""What zipfile, gzip and numpy raise for damaged files, for encrypted ones and for unknown compression."""

RATIO = 1032
"""The most bytes that deflate makes of one."""

CHUNK = 2**16  # bytes that are inflated at a time
KINDS = {zipfile.ZIP_STORED: "stored", zipfile.ZIP_DEFLATED: "deflated"}


class ZipMembers:
    """The members of a zip file, by name; ``a//b`` and ``./a/b`` are ``a/b``."""

    def __init__(self, archive: zipfile.ZipFile):
        self.archive = archive
        self.infos: dict[str, list[zipfile.ZipInfo]] = {}
        for info in archive.infolist():
            self.infos.setdefault(posixpath.normpath(info.filename), []).append(info)

    def __contains__(self, name: str) -> bool:
        return name in self.infos

    def read(self, name: str) -> bytes:
        """The content of a member.

        Raises:
            KeyError: if there is none of this name
            ValueError: if there are several, or if it is encrypted, compressed in another way or too large for its size
        """
        with self._open(name) as stream:
            return b"".join(iter(lambda: stream.read(CHUNK), b""))

    def extract(self, name: str, path: Path) -> None:
        """Writes a member to a file; the errors are those of `read`."""
        with self._open(name) as stream, open(path, "wb") as file:
            shutil.copyfileobj(stream, file, CHUNK)

    def _open(self, name: str) -> IO[bytes]:
        info, *duplicates = self.infos[name]
        if duplicates:
            raise ValueError(f"{name}: expected one member, got {1 + len(duplicates)}")
        if info.flag_bits & 1:
            raise ValueError(f"{name}: expected a member without encryption, got an encrypted one")
        if info.compress_type not in KINDS:
            kinds = " or ".join(KINDS.values())
            raise ValueError(f"{name}: expected a member that is {kinds}, got method {info.compress_type}")
        if info.file_size > RATIO * (info.compress_size + 1):
            raise ValueError(f"{name}: expected at most {RATIO * (info.compress_size + 1)} bytes, got {info.file_size}")
        try:
            return self.archive.open(info)
        except OSError as error:  # a place outside the file
            raise ValueError(f"{name}: expected a member within the zip, got another place ({error})") from error


@contextmanager
def open_zip(path: Path, expected: str) -> Iterator[ZipMembers]:
    """Context with the members of a zip file.

    Args:
        path: of the file
        expected: what it should be, for errors

    Raises:
        FormatError: with the file's name, if it is no zip, or for a member that is missing or cannot be read
    """
    try:
        with zipfile.ZipFile(path) as archive:
            yield ZipMembers(archive)
    except FormatError:
        raise
    except BROKEN as error:
        raise FormatError(f"{path}: expected {expected}, got a truncated or damaged zip ({error})") from error
