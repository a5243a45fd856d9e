"""Stores of results: entries by key in one file, which is valid after every addition."""

import json
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Generic, TypeVar

from gnnlib._utils.documents import is_sealed, parse_document, seal
from gnnlib._utils.files import atomic_write, set_aside

__all__ = ["Store", "keep_aside", "parse_sealed", "read_entries"]

Key = TypeVar("Key")
Entry = TypeVar("Entry")
Document = dict[str, Any]


class Store(ABC, Generic[Key, Entry]):
    """Entries by key in a file, under the origin that they share. The file holds a checksum of its content.

    A file that is damaged or of another origin is set aside, and a new one begins.

    Args:
        path: the file; None keeps the entries in memory only
        origin: what all entries have in common
    """

    def __init__(self, path: Path | None, origin: Mapping[str, Any]):
        self.path, self.origin = path, origin
        self.entries: dict[Key, Entry] = {}

    @abstractmethod
    def document(self) -> Document:
        """The origin and the entries, for JSON."""

    @abstractmethod
    def decode(self, document: Document) -> dict[Key, Entry]:
        """The entries of a document: the inverse of `document`.

        Raises:
            KeyError, TypeError, ValueError: if the document is damaged
        """

    def parse(self, text: str) -> Document:
        """The document of a file's text.

        Raises:
            ValueError: if the text is not a document with its checksum
        """
        return parse_sealed(text)

    def format(self, document: Document) -> str:
        """The text of a document: the inverse of `parse`."""
        return json.dumps(seal(document), indent=1) + "\n"

    def read(self) -> None:
        """Continues the file, if there is one."""
        if self.path is not None:
            self.entries = read_entries(self.path, self.origin, self.decode, self.parse, self.set_aside)

    def add(self, key: Key, entry: Entry) -> None:
        """Adds an entry, or replaces the one of the same key, and writes the file."""
        self.entries[key] = entry
        self.write()

    def write(self) -> None:
        """Writes the file, completely or not at all."""
        if self.path is not None:
            with atomic_write(self.path) as part:
                part.write_text(self.format(self.document()))

    def set_aside(self, path: Path, reason: str) -> None:
        """Renames a file that cannot be continued, and prints the reason."""
        keep_aside(path, reason)


def parse_sealed(text: str) -> Document:
    """The document of a text, such as that of ``result.json``, if it holds its checksum.

    Raises:
        ValueError: if it is not such a document

    Example:
        >>> from gnnlib.benchmarks.records.store import parse_sealed
        >>> parse_sealed('{"seeds": [0], "checksum": "5d"}')
        Traceback (most recent call last):
        ValueError: expected the checksum of its content, got '5d'
    """
    document = parse_document(text)
    if not is_sealed(document):
        raise ValueError(f"expected the checksum of its content, got {document.get('checksum')!r:.80}")
    return document


def read_entries(
    path: Path,
    origin: Mapping[str, Any],
    decode: Callable[[Document], dict[Key, Entry]],
    parse: Callable[[str], Document] = parse_sealed,
    refuse: Callable[[Path, str], None] | None = None,
) -> dict[Key, Entry]:
    """The entries of a file; none if there is no file, or if it is damaged or of another origin.

    Args:
        path: the file
        origin: what its document must have
        decode: from the document to entries
        parse: from the text to the document
        refuse: called with the path and the reason for a file that cannot be used; `keep_aside` if None
    """
    if not path.exists():
        return {}
    refuse = refuse or keep_aside
    try:
        document = parse(path.read_text(errors="replace"))
        entries = decode(document)
        different = [name for name, value in origin.items() if document[name] != value]
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        refuse(path, f"is damaged ({error if isinstance(error, ValueError) else repr(error)})")
        return {}
    if different:
        refuse(path, f"has other {', '.join(different)}")
        return {}
    return entries


def keep_aside(path: Path, reason: str, tag: str = "") -> None:
    """Renames a file to a free name beside it, and prints the reason.

    Args:
        path: the file
        reason: why it cannot be continued, as a predicate
        tag: appended to the name, before the number
    """
    aside = set_aside(path, path.with_stem(f"{path.stem}-{tag}") if tag else path)
    print(f"{path} {reason}; kept as {aside.name}, starting again", file=sys.stderr)
