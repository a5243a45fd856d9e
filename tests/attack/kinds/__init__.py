"""The kinds of files that are attacked: how they are made, mutated and read."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["Kind", "Mutation"]


class Mutation(NamedTuple):
    """What was done to files.

    Args:
        what: in a word
        forged: whether they have valid checksums, or none is promised: then other numbers may come out
        late: called after the files are opened and before they are read
    """

    what: str
    forged: bool = False
    late: Callable[[], object] = lambda: None


class Kind:
    """Files of one kind."""

    errors: tuple[type[Exception], ...] = (ValueError,)
    names: tuple[str, ...] = ()  # of files, one of which an error names
    variants: tuple[str, ...] = ("",)

    def make(self, variant: str, folder: Path) -> None:
        """Writes intact files."""
        raise NotImplementedError

    def mutate(self, variant: str, folder: Path, draw: random.Random) -> Mutation:
        """Changes the files."""
        raise NotImplementedError

    def read(self, variant: str, folder: Path, mutation: Mutation) -> Any:
        """Reads everything in the files, for comparison with the intact ones."""
        raise NotImplementedError
