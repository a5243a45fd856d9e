"""Kernels on bfloat16 and float16, computed in float32 and rounded once: sums of many numbers keep their digits."""

from collections.abc import Callable
from functools import partial, wraps
from typing import Any

import torch
from torch import Tensor

HALF = torch.bfloat16, torch.float16


def computed(dtype: torch.dtype) -> torch.dtype:
    """The type in which numbers of ``dtype`` are computed.

    Example:
        >>> import torch
        >>> from gnnlib.kernels.half import computed
        >>> computed(torch.bfloat16), computed(torch.float64)
        (torch.float32, torch.float64)
    """
    return torch.float32 if dtype in HALF else dtype


def widened(function: Callable | None = None, *, results: int = 1) -> Callable:
    """Decorator of a kernel: it receives tensors of half precision as float32, and its first ``results`` are rounded to
    the type of the first such tensor. Further results, which are saved for the backward pass, stay float32.
    """
    if function is None:
        return partial(widened, results=results)

    @wraps(function)
    def call(*args: Any, **options: Any) -> Any:
        dtype = next((t.dtype for t in args if isinstance(t, Tensor) and t.dtype in HALF), None)
        if dtype is None:
            return function(*args, **options)
        result = function(*(t.float() if isinstance(t, Tensor) and t.dtype in HALF else t for t in args), **options)
        if isinstance(result, Tensor):
            return result.to(dtype)
        return *(t.to(dtype) for t in result[:results]), *result[results:]

    return call
