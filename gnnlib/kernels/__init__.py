"""Kernels: the loops under all operations, arrays in, arrays out, without autograd and without DGL.

`reference` is plain PyTorch on any device and dtype, and defines the results; `cpu` is numba for float32, float64,
bfloat16 and index arrays on the CPU; `cuda` is Triton for float32, bfloat16 and float16 on NVIDIA cards. All have the
same functions with the same signatures. Where Triton is not installed, or a card is too old for it, `reference` takes
the place of `cuda`, and one message in the log says why.
"""

import importlib
import importlib.util
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from types import ModuleType

import torch
from torch import Tensor

from gnnlib.kernels import reference

log = logging.getLogger("gnnlib")

_FAST = {torch.float32, torch.float64, torch.bfloat16, torch.int32}
_OLDEST = {torch.float32: (7, 0), torch.float16: (7, 0), torch.bfloat16: (8, 0)}  # cards that Triton has them on
_forced: ModuleType | None = None


def choose(like: Tensor) -> ModuleType:
    """The module of kernels for tensors of this device and dtype."""
    if _forced is not None:
        return _forced
    if like.device.type == "cpu" and like.dtype in _FAST:
        return _cpu()
    if like.device.type == "cuda" and like.dtype in _OLDEST:
        return _cuda(like.device, like.dtype)
    return reference


@cache
def _cpu() -> ModuleType:
    """The compiled kernels; `reference` where numba does not compile (NUMBA_DISABLE_JIT=1, for debuggers)."""
    import numba  # slow: on first use only

    if numba.config.DISABLE_JIT:  # type: ignore[attr-defined]
        return reference
    from gnnlib.kernels import cpu

    return cpu


@cache
def _cuda(device: torch.device, dtype: torch.dtype) -> ModuleType:
    """The kernels in Triton; `reference` where they do not run."""
    reason = _why_not_triton(device, dtype)
    if reason:
        _warn(f"gnnlib: {reason}; operations on CUDA tensors run in plain PyTorch, which takes more time and memory")
        return reference
    from gnnlib.kernels import cuda

    return cuda


def _why_not_triton(device: torch.device, dtype: torch.dtype) -> str | None:
    if importlib.util.find_spec("triton") is None:
        return "expected Triton, which is not installed (pip install triton)"
    version = importlib.import_module("triton").__version__
    if tuple(map(int, version.split(".")[:2])) < (3, 3):
        return f"expected Triton 3.3 or newer, as PyTorch 2.7 and newer bring it, got {version}"
    if torch.version.hip is not None:
        return "expected an NVIDIA card, got one of AMD"
    capability, oldest = torch.cuda.get_device_capability(device), _OLDEST[dtype]
    if capability < oldest:
        names = f"{oldest[0]}.{oldest[1]}", f"{torch.cuda.get_device_name(device)} with {capability[0]}.{capability[1]}"
        return f"expected a card of compute capability {names[0]} or newer for {dtype}, got {names[1]}"
    return None


@cache
def _warn(message: str) -> None:
    """Logs each message once."""
    log.warning(message)


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
