"""Kernels: the loops under all operations, arrays in, arrays out, without autograd and without DGL.

`reference` is plain PyTorch on any device and dtype, and defines the results; `cpu` is numba for float32, float64,
bfloat16 and index arrays on the CPU. Both have the same functions with the same signatures.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from types import ModuleType

import torch
from torch import Tensor

from gnnlib.kernels import reference

_FAST = {torch.float32, torch.float64, torch.bfloat16, torch.int32}
_forced: ModuleType | None = None


def choose(like: Tensor) -> ModuleType:
    """The module of kernels for tensors of this device and dtype."""
    if _forced is not None:
        return _forced
    if like.device.type == "cpu" and like.dtype in _FAST:
        return _cpu()
    return reference


@cache
def _cpu() -> ModuleType:
    """The compiled kernels; `reference` where numba does not compile (NUMBA_DISABLE_JIT=1, for debuggers)."""
    import numba  # slow: on first use only

    if numba.config.DISABLE_JIT:  # type: ignore[attr-defined]
        return reference
    from gnnlib.kernels import cpu

    return cpu


@contextmanager
def force(module: ModuleType) -> Iterator[None]:
    """Context in which all operations run on the kernels of ``module``.

    Example:
        >>> import torch
        >>> from gnnlib.kernels import choose, force, reference
        >>> with force(reference):
        ...     choose(torch.zeros(1)).__name__
        'gnnlib.kernels.reference'
    """
    global _forced
    before, _forced = _forced, module
    try:
        yield
    finally:
        _forced = before
