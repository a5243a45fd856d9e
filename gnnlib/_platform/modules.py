"""Temporary replacement of a module in ``sys.modules``."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

__all__ = ["module_as"]


@contextmanager
def module_as(name: str, module: ModuleType | None) -> Iterator[None]:
    """Context in which ``sys.modules[name]`` is ``module``. With None, importing it fails as if it were not installed.

    Example:
        >>> from gnnlib._platform.modules import module_as
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
