"""Another module under a known name, for a while."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

__all__ = ["module_as"]


@contextmanager
def module_as(name: str, module: ModuleType | None) -> Iterator[None]:
    """In here ``sys.modules[name]`` is ``module``; with None, importing it fails as if it were not installed.

    >>> with module_as("wave", None):
    ...     import wave
    Traceback (most recent call last):
    ModuleNotFoundError: import of wave halted; None in sys.modules
    """
    before = sys.modules.get(name)
    sys.modules[name] = module  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[name]
        if before is not None:
            sys.modules[name] = before
