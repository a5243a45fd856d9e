"""Operations on one row of an array, used by the kernels of `gnnlib.kernels.cpu`.

Feature arrays are flat; a row is identified by the position of its first number, u * stride.
"""

from functools import partial

import numpy as np
import torch
from torch import Tensor

from gnnlib.kernels.cpu.compile import jit_callee
from gnnlib.kernels.cpu.team import FASTMATH, keep_array
from gnnlib.kernels.cpu.vectors import get, lanes, load, load_first, per_line, prefetch, put, scaled, total, zero
from gnnlib.kernels.half import computed

AHEAD = 64  # slots between a prefetch and its use; fewer are too few for rows of 128 in the last-level cache
CACHED = 1 << 22  # bytes: a smaller array stays in the cache

_EMPTY = {dtype: keep_array(torch.empty(0, dtype=dtype)) for dtype in (torch.float32, torch.float64, torch.bfloat16)}

inline = partial(jit_callee, fastmath=FASTMATH, _nrt=False)


def static(number: int) -> tuple[int, ...]:
    """A compile-time constant: a tuple of this length. Each number gives a specialisation of the kernel, in which
    branches that depend on it are resolved. A branch at run time in the loop over edges would move sums and
    positions from registers to the stack."""
    return (0,) * number


def ahead_of(x: Tensor) -> tuple[int, ...]:
    """Whether rows of x are prefetched, `static`, where a prefetch of cached data costs over 5 %."""
    return static(x.nbytes > CACHED)


def scalar(value: float, like: Tensor):
    """A float in the precision of the tensor, float32 for bfloat16: a float64 scalar would turn float32 loops into
    float64 loops."""
    return np.float64(value) if like.dtype == torch.float64 else np.float32(value)


def numbers(x: Tensor) -> Tensor:
    """x in the type in which its numbers are computed: float32 for bfloat16."""
    return x.to(computed(x.dtype))


def empty(like: Tensor) -> Tensor:
    """An argument of a kernel that is not there."""
    return _EMPTY[like.dtype]


def sums(like: Tensor, *shape: int) -> Tensor:
    """An array for sums that a kernel adds to in memory: float32 for bfloat16. The caller rounds it once."""
    return like.new_empty(shape, dtype=computed(like.dtype))


@inline
def clear(y, o, n):
    """y[o : o + n] = 0"""
    for f in range(0, n, lanes(y)):
        put(y, o + f, zero(y), n - f)


@inline
def add(y, o, x, i, c, n):
    """y[o : o + n] += c x[i : i + n]"""
    for f in range(0, n, lanes(y)):
        put(y, o + f, scaled(c, get(x, i + f, n - f), get(y, o + f, n - f)), n - f)


@inline
def dot(x, i, y, o, n):
    """<x[i : i + n], y[o : o + n]>; a branch within the loop, as in `get`, would cost a fifth."""
    step, sum_ = lanes(y), zero(y)
    for f in range(0, n - step + 1, step):
        sum_ = scaled(load(x, i + f), load(y, o + f), sum_)
    rest = n % step
    if rest:
        f = n - rest
        sum_ = scaled(load_first(x, i + f, rest), load_first(y, o + f, rest), sum_)
    return total(sum_)


@inline
def fetch(x, i, n):
    """Prefetches the first lines of x[i : i + n]; the hardware prefetches those that follow."""
    for f in range(0, min(n, 8 * per_line(x)), per_line(x)):
        prefetch(x, i + f)
