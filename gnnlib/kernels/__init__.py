"""Arrays in, arrays out: the loops under every operation, without autograd and without DGL.

`reference` is plain torch on any device and dtype, and is the definition; `cpu` is numba for
float32 and float64 (and index arrays) on the CPU. Both hold the same functions with the same signatures.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

import torch
from torch import Tensor

from gnnlib.kernels import reference

_FAST = {torch.float32, torch.float64, torch.int32}
_forced: ModuleType | None = None


def choose(like: Tensor) -> ModuleType:
    """The kernels that serve tensors like this one."""
    if _forced is not None:
        return _forced
    if like.device.type == "cpu" and like.dtype in _FAST:
        from gnnlib.kernels import cpu  # imports numba, which takes a while: on first use only

        return cpu
    return reference


@contextmanager
def force(module: ModuleType) -> Iterator[None]:
    """Within this context every operation runs on the kernels of ``module``.

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
