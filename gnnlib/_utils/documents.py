"""JSON documents: bounded when they are read, and sealed by a checksum of their content.

The checksum detects accidental changes. It does not authenticate an author, who can seal anything.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["MAX_BYTES", "checksum", "is_sealed", "parse_document", "read_document", "seal"]

MAX_BYTES = 2**26
"""Limit on the length of a document."""

Document = dict[str, Any]


def read_document(path: Path, max_bytes: int = MAX_BYTES) -> Document:
    """The JSON object in a file.

    Raises:
        FileNotFoundError: if the path is not a regular file
        ValueError: with the file's name, if it is longer than ``max_bytes``, or not an object in JSON
    """
    if not path.is_file():
        raise FileNotFoundError(f"expected a file {path}, got none")
    if path.stat().st_size > max_bytes:
        raise ValueError(f"{path}: expected at most {max_bytes} bytes, got {path.stat().st_size}")
    try:
        return parse_document(path.read_text("utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error})") from error


def parse_document(text: str) -> Document:
    """The object of a JSON text.

    Raises:
        ValueError: if the text is not JSON, is nested too deeply, or is not an object

    Example:
        >>> from gnnlib._utils.documents import parse_document
        >>> parse_document('{"a": 1}')
        {'a': 1}
    """
    try:
        document = json.loads(text)
    except RecursionError:
        raise ValueError("expected JSON of less nesting") from None
    if not isinstance(document, dict):
        raise ValueError(f"expected an object, got {type(document).__name__}")
    return document


def checksum(document: Mapping[str, Any]) -> str:
    """The SHA-256 of a document without its key ``checksum``, whatever its white space and the order of its keys."""
    content = {name: value for name, value in document.items() if name != "checksum"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def seal(document: Mapping[str, Any]) -> Document:
    """The document with its checksum, as JSON reads it: tuples are lists, and keys are text.

    Raises:
        ValueError: for a value that JSON cannot hold, such as a list that contains itself

    Example:
        >>> from gnnlib._utils.documents import is_sealed, seal
        >>> document = seal({"score": 97.5})
        >>> is_sealed(document), is_sealed({**document, "score": 98.5}), is_sealed({"score": 97.5})
        (True, False, False)
    """
    try:
        content = json.loads(json.dumps(document))
        return {**content, "checksum": checksum(content)}
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"expected values that JSON can hold, got others ({error})") from error


def is_sealed(document: Mapping[str, Any]) -> bool:
    """Whether a document holds its checksum."""
    try:
        return document.get("checksum") == checksum(document)
    except RecursionError:
        return False
