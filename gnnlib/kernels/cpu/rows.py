"""Pieces of rows, from which the kernels of `gnnlib.kernels.cpu` are made.

Feature arrays are flat there, and a row of them is named by where it starts: u_i * stride.
"""

from functools import partial

from torch import Tensor

from gnnlib.kernels.cpu.compile import jit, static
from gnnlib.kernels.cpu.team import FASTMATH
from gnnlib.kernels.cpu.vectors import get, lanes, load, load_first, prefetch, put, scaled, total, zero

AHEAD = 64  # slots; with fewer, rows of 128 in the last-level cache are asked for too late
CACHED = 1 << 22  # bytes: rows of a smaller array come from the cache, soon enough

inline = partial(jit, cache=False, fastmath=FASTMATH, _nrt=False)


def ahead_of(x: Tensor) -> tuple[int, ...]:
    """Whether rows of x are to be asked for, `static`."""
    return static(x.nbytes > CACHED)


def scalar(value: float, like: Tensor):
    """A float of the tensors' own precision: float64 would drag float32 loops along."""
    return like.detach().numpy().dtype.type(value)


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
    """<x[i : i + n], y[o : o + n]>; here a choice within the loop, as `get` makes it, costs a fifth."""
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
    """Asks for x[i : i + n], its first lines; what follows streams in by itself."""
    for f in range(0, min(n, 8 * lanes(x)), lanes(x)):
        prefetch(x, i + f)
