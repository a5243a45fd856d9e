"""The kernels for the CPU: numba, float32 and float64. `gnnlib.kernels.reference` says what each computes.

Every loop below is compiled twice, parallel and serial. The serial twin serves forked children (an OpenMP
pool does not survive a fork), tiny inputs and a torch limited to one thread. Each row is summed by one thread in
the order of edge ids, so both twins, and any number of threads, give the same bits.

Jitted helpers live in this file with their callers: numba's disk cache only notices edits of the caller's file.
"""

import logging
import os
import threading
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from types import FunctionType
from typing import Any

import numba
import numpy as np
import torch
from numba import prange
from numba.core.caching import FunctionCache
from numba.core.compiler_lock import global_compiler_lock
from torch import Tensor

log = logging.getLogger("gnnlib")

# How LLVM may change a sum. Not "nnan": isnan must stay true of NaN. "reassoc", without which a dot product is not
# vectorised, only there: elsewhere it may regroup the sum over a row's edges, and in one twin only.
FASTMATH = {"contract"}
FASTMATH_DOT = {"contract", "reassoc"}
CHUNKS = 64  # pieces of equal work; a fixed number, so that partial sums do not depend on the threads
TINY = 1 << 15  # below this many multiply-adds a parallel launch costs more than it saves

_in_fork = False


def _after_fork() -> None:
    global _in_fork
    _in_fork = True
    global_compiler_lock.release()


# A child forked while another thread compiles would wait for the compiler's lock for ever.
os.register_at_fork(
    before=global_compiler_lock.acquire, after_in_parent=global_compiler_lock.release, after_in_child=_after_fork
)


class _DiskCache(FunctionCache):
    """numba's cache on disk that fails no call: what cannot be read is compiled, what cannot be written is not kept."""

    def load_overload(self, sig, target_context):
        try:
            found = super().load_overload(sig, target_context)
        except Exception as error:  # damaged bytes may raise anything
            log.warning("gnnlib: compiling %s again, its cache is damaged: %r", self._name, error)
            try:
                self.flush()
            except OSError:
                log.debug("gnnlib: the cache cannot be written", exc_info=True)
            return None
        # processes that fill an empty cache at the same time may take each other's file for their own
        return found if found is None or tuple(found.signature.args) == tuple(sig) else None

    def save_overload(self, sig, data) -> None:
        try:
            super().save_overload(sig, data)
        except Exception as error:  # disk full, directory gone
            log.warning("gnnlib: %s cannot be cached and will be compiled in each process: %r", self._name, error)


def _jit(func: Callable, fastmath: set[str] = FASTMATH, **options):
    """numba.njit, cached on disk where a directory can be written, else in memory."""
    compiled: Any = numba.njit(func, nogil=True, fastmath=fastmath, **options)
    try:
        compiled._cache = _DiskCache(func)  # as cache=True does, which takes numba's own and raises at import
    except (RuntimeError, OSError):  # "no locator available": no writable cache directory
        log.debug("gnnlib: no cache directory", exc_info=True)
    return compiled


def _named(func: Callable, name: str) -> FunctionType:
    """A copy under another name: numba's cache tells functions apart by name and code, not by their options."""
    copy = FunctionType(func.__code__, func.__globals__, name)
    copy.__qualname__ = name
    return copy


class _Kernel:
    """A loop compiled on demand, launched on as many threads as torch uses."""

    _lock = threading.Lock()  # workqueue, numba's layer where there is no OpenMP, runs one launch at a time
    _layer_is_safe = False  # known after the first parallel launch

    def __init__(self, func: Callable, fastmath: set[str] = FASTMATH):
        self.parallel = _jit(_named(func, func.__name__ + "_parallel"), fastmath, parallel=True)
        self.serial = _jit(_named(func, func.__name__ + "_serial"), fastmath)

    def __call__(self, work: int, *tensors: Tensor | float | int) -> None:
        """``work``: multiply-adds to do, about. Tensors must be contiguous."""
        arrays = [t.detach().numpy() if isinstance(t, Tensor) else t for t in tensors]
        threads = min(torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS)  # type: ignore[attr-defined]
        if _in_fork or threads == 1 or work < TINY:
            self.serial(*arrays)
            return
        with nullcontext() if _Kernel._layer_is_safe else _Kernel._lock:
            numba.set_num_threads(threads)
            self.parallel(*arrays)
            _Kernel._layer_is_safe = numba.threading_layer() != "workqueue"


@numba.njit(inline="always")
def _first_row(indptr, chunk):
    """First row of a chunk: chunks hold about equally many rows and edges together."""
    rows = len(indptr) - 1
    target = chunk * (np.int64(indptr[rows]) + rows) // CHUNKS
    low, high = 0, rows
    while low < high:
        middle = (low + high) // 2
        if indptr[middle] + middle < target:
            low = middle + 1
        else:
            high = middle
    return low


# ---------------------------------------------------------------- grouping


@_jit
def _group(key, indptr, order):
    for e in range(len(key)):
        indptr[key[e] + 1] += 1
    for v in range(len(indptr) - 1):
        indptr[v + 1] += indptr[v]
    place = indptr[:-1].copy()
    for e in range(len(key)):
        order[place[key[e]]] = e
        place[key[e]] += 1


def group(key: Tensor, num_groups: int) -> tuple[Tensor, Tensor]:
    indptr = torch.zeros(num_groups + 1, dtype=torch.int32)
    order = torch.empty(len(key), dtype=torch.int32)
    _group(key.contiguous().numpy(), indptr.numpy(), order.numpy())
    return indptr, order


# ---------------------------------------------------------------- sums
# Four neighbours at a time: a quarter of the traffic on y, and four rows of x on their way from memory at once.


@_Kernel
def _sum_plain(indptr, indices, x, y):
    width = x.shape[1]
    for chunk in prange(CHUNKS):
        for v in range(_first_row(indptr, chunk), _first_row(indptr, chunk + 1)):
            for f in range(width):
                y[v, f] = 0
            start, stop = np.int64(indptr[v]), np.int64(indptr[v + 1])
            fours = start + (stop - start) // 4 * 4
            for s in range(start, fours, 4):
                u0, u1, u2, u3 = indices[s], indices[s + 1], indices[s + 2], indices[s + 3]
                for f in range(width):
                    y[v, f] = y[v, f] + x[u0, f] + x[u1, f] + x[u2, f] + x[u3, f]
            for s in range(fours, stop):
                u0 = indices[s]
                for f in range(width):
                    y[v, f] += x[u0, f]


@_Kernel
def _sum_weighted(indptr, indices, eid, x, coeff, y):
    heads, width = coeff.shape[1], x.shape[2]
    x_step, y_step = min(x.shape[1] - 1, 1), min(y.shape[1] - 1, 1)
    for chunk in prange(CHUNKS):
        for v in range(_first_row(indptr, chunk), _first_row(indptr, chunk + 1)):
            for h in range(y.shape[1]):
                for f in range(width):
                    y[v, h, f] = 0
            start, stop = np.int64(indptr[v]), np.int64(indptr[v + 1])
            fours = start + (stop - start) // 4 * 4
            for s in range(start, fours, 4):
                u0, u1, u2, u3 = indices[s], indices[s + 1], indices[s + 2], indices[s + 3]
                e0, e1, e2, e3 = eid[s], eid[s + 1], eid[s + 2], eid[s + 3]
                for h in range(heads):
                    c0, c1, c2, c3 = coeff[e0, h], coeff[e1, h], coeff[e2, h], coeff[e3, h]
                    g, k = h * x_step, h * y_step
                    for f in range(width):
                        y[v, k, f] = (
                            y[v, k, f] + c0 * x[u0, g, f] + c1 * x[u1, g, f] + c2 * x[u2, g, f] + c3 * x[u3, g, f]
                        )
            for s in range(fours, stop):
                u0, e0 = indices[s], eid[s]
                for h in range(heads):
                    c0, g, k = coeff[e0, h], h * x_step, h * y_step
                    for f in range(width):
                        y[v, k, f] += c0 * x[u0, g, f]


def neighbour_sum(adj, x: Tensor, coeff: Tensor | None, heads: int) -> Tensor:
    y = x.new_empty(len(adj.indptr) - 1, heads, x.shape[2])
    if coeff is None:
        assert heads == x.shape[1]
        work = len(adj.eid) * x[:1].numel()
        _sum_plain(work, adj.indptr, adj.indices, x.flatten(1), y.flatten(1))
    else:
        _sum_weighted(coeff.numel() * x.shape[2], adj.indptr, adj.indices, adj.eid, x, coeff, y)
    return y


@_Kernel
def _sum_scaled(indptr, indices, scale_u, scale_v, x, y):
    width = x.shape[1]
    for chunk in prange(CHUNKS):
        for v in range(_first_row(indptr, chunk), _first_row(indptr, chunk + 1)):
            for f in range(width):
                y[v, f] = 0
            start, stop = np.int64(indptr[v]), np.int64(indptr[v + 1])
            fours = start + (stop - start) // 4 * 4
            t = scale_v[v]
            for s in range(start, fours, 4):
                u0, u1, u2, u3 = indices[s], indices[s + 1], indices[s + 2], indices[s + 3]
                c0, c1, c2, c3 = t * scale_u[u0], t * scale_u[u1], t * scale_u[u2], t * scale_u[u3]
                for f in range(width):
                    y[v, f] = y[v, f] + c0 * x[u0, f] + c1 * x[u1, f] + c2 * x[u2, f] + c3 * x[u3, f]
            for s in range(fours, stop):
                u0 = indices[s]
                c0 = t * scale_u[u0]
                for f in range(width):
                    y[v, f] += c0 * x[u0, f]


def scaled_sum(adj, x: Tensor, scale_u: Tensor, scale_v: Tensor) -> Tensor:
    y = x.new_empty(len(adj.indptr) - 1, x.shape[1])
    _sum_scaled(len(adj.eid) * x[:1].numel(), adj.indptr, adj.indices, scale_u, scale_v, x, y)
    return y


# ---------------------------------------------------------------- maxima


@_Kernel
def _max(indptr, indices, eid, x, coeff, y, arg):
    heads, width, weighted = x.shape[1], x.shape[2], coeff.shape[1] > 0
    for chunk in prange(CHUNKS):
        for v in range(_first_row(indptr, chunk), _first_row(indptr, chunk + 1)):
            for h in range(heads):
                for f in range(width):
                    y[v, h, f] = 0
                    arg[v, h, f] = -1
                start = indptr[v]
                for s in range(start, indptr[v + 1]):
                    u, e = indices[s], eid[s]
                    c = coeff[e, h] if weighted else x.dtype.type(1)
                    for f in range(width):
                        m = c * x[u, h, f]
                        best = y[v, h, f]
                        if s == start or m > best or (m != m and best == best):
                            y[v, h, f] = m
                            arg[v, h, f] = e


@_Kernel
def _max_grad(indptr, indices, eid, grad, arg, coeff, dx):
    heads, width, weighted = dx.shape[1], dx.shape[2], coeff.shape[1] > 0
    for chunk in prange(CHUNKS):
        for u in range(_first_row(indptr, chunk), _first_row(indptr, chunk + 1)):
            for h in range(heads):
                for f in range(width):
                    dx[u, h, f] = 0
                for s in range(indptr[u], indptr[u + 1]):
                    v, e = indices[s], eid[s]
                    c = coeff[e, h] if weighted else dx.dtype.type(1)
                    for f in range(width):
                        dx[u, h, f] += c * grad[v, h, f] if arg[v, h, f] == e else dx.dtype.type(0)


def neighbour_max(adj, x: Tensor, coeff: Tensor | None) -> tuple[Tensor, Tensor]:
    y = x.new_empty(len(adj.indptr) - 1, *x.shape[1:])
    arg = torch.empty(y.shape, dtype=torch.int32)
    weight = coeff if coeff is not None else x.new_empty(0, 0)
    _max(len(adj.eid) * x[:1].numel(), adj.indptr, adj.indices, adj.eid, x, weight, y, arg)
    return y, arg


def max_grad(adj, grad: Tensor, arg: Tensor, coeff: Tensor | None) -> Tensor:
    dx = grad.new_empty(len(adj.indptr) - 1, *grad.shape[1:])
    weight = coeff if coeff is not None else grad.new_empty(0, 0)
    _max_grad(len(adj.eid) * grad[:1].numel(), adj.indptr, adj.indices, adj.eid, grad, arg, weight, dx)
    return dx


# ---------------------------------------------------------------- along edges


@partial(_Kernel, fastmath=FASTMATH_DOT)
def _edge_dot(indptr, indices, eid, x, y, out):
    heads, width = out.shape[1], x.shape[2]
    x_step, y_step = min(x.shape[1] - 1, 1), min(y.shape[1] - 1, 1)
    for chunk in prange(CHUNKS):
        for v in range(_first_row(indptr, chunk), _first_row(indptr, chunk + 1)):
            for s in range(indptr[v], indptr[v + 1]):
                u, e = indices[s], eid[s]
                for h in range(heads):
                    total = x.dtype.type(0)
                    for f in range(width):
                        total += x[u, h * x_step, f] * y[v, h * y_step, f]
                    out[e, h] = total


def edge_dot(adj, x: Tensor, y: Tensor) -> Tensor:
    out = x.new_empty(len(adj.eid), x.shape[1] if y.shape[1] == 1 else y.shape[1])
    _edge_dot(out.numel() * x.shape[2], adj.indptr, adj.indices, adj.eid, x, y, out)
    return out


@_Kernel
def _edge_softmax(indptr, eid, score, prob):
    heads = score.shape[1]
    for chunk in prange(CHUNKS):
        top, total = np.empty(heads, score.dtype), np.empty(heads, score.dtype)
        for v in range(_first_row(indptr, chunk), _first_row(indptr, chunk + 1)):
            top[:] = -np.inf
            total[:] = 0
            for s in range(indptr[v], indptr[v + 1]):
                for h in range(heads):
                    top[h] = max(top[h], score[eid[s], h])
            for s in range(indptr[v], indptr[v + 1]):
                e = eid[s]
                for h in range(heads):
                    prob[e, h] = np.exp(score[e, h] - top[h])
                    total[h] += prob[e, h]
            for s in range(indptr[v], indptr[v + 1]):
                for h in range(heads):
                    prob[eid[s], h] /= total[h]


@_Kernel
def _edge_softmax_grad(indptr, eid, prob, grad, out):
    heads = prob.shape[1]
    for chunk in prange(CHUNKS):
        mean = np.empty(heads, prob.dtype)
        for v in range(_first_row(indptr, chunk), _first_row(indptr, chunk + 1)):
            mean[:] = 0
            for s in range(indptr[v], indptr[v + 1]):
                for h in range(heads):
                    mean[h] += prob[eid[s], h] * grad[eid[s], h]
            for s in range(indptr[v], indptr[v + 1]):
                e = eid[s]
                for h in range(heads):
                    out[e, h] = prob[e, h] * (grad[e, h] - mean[h])


def edge_softmax(adj, score: Tensor) -> Tensor:
    prob = torch.empty_like(score)
    _edge_softmax(8 * score.numel(), adj.indptr, adj.eid, score, prob)
    return prob


def edge_softmax_grad(adj, prob: Tensor, grad: Tensor) -> Tensor:
    out = torch.empty_like(prob)
    _edge_softmax_grad(4 * prob.numel(), adj.indptr, adj.eid, prob, grad, out)
    return out


@partial(_Kernel, fastmath=FASTMATH_DOT)
def _edge_score(indptr, indices, eid, a, b, att, slope, out):
    heads, width = att.shape
    a_step, b_step = min(a.shape[1] - 1, 1), min(b.shape[1] - 1, 1)
    for chunk in prange(CHUNKS):
        for v in range(_first_row(indptr, chunk), _first_row(indptr, chunk + 1)):
            for s in range(indptr[v], indptr[v + 1]):
                u, e = indices[s], eid[s]
                for h in range(heads):
                    total = a.dtype.type(0)
                    for j in range(width):
                        z = a[u, h * a_step, j] + b[v, h * b_step, j]
                        total += att[h, j] * (z if z > 0 else z * slope)
                    out[e, h] = total


@_Kernel
def _edge_score_grad(indptr, indices, eid, own, other, att, slope, grad, out):
    heads, width = att.shape
    own_step, other_step = min(own.shape[1] - 1, 1), min(other.shape[1] - 1, 1)
    for chunk in prange(CHUNKS):
        for v in range(_first_row(indptr, chunk), _first_row(indptr, chunk + 1)):
            for h in range(out.shape[1]):
                for j in range(width):
                    out[v, h, j] = 0
            for s in range(indptr[v], indptr[v + 1]):
                u, e = indices[s], eid[s]
                for h in range(heads):
                    g = grad[e, h]
                    for j in range(width):
                        z = own[v, h * own_step, j] + other[u, h * other_step, j]
                        d = g * att[h, j]
                        out[v, h * own_step, j] += d if z > 0 else d * slope


@_Kernel
def _edge_score_att_grad(indptr, indices, eid, a, b, slope, grad, out):
    heads, width = out.shape[1:]
    a_step, b_step = min(a.shape[1] - 1, 1), min(b.shape[1] - 1, 1)
    for chunk in prange(CHUNKS):
        for v in range(_first_row(indptr, chunk), _first_row(indptr, chunk + 1)):
            for s in range(indptr[v], indptr[v + 1]):
                u, e = indices[s], eid[s]
                for h in range(heads):
                    g = grad[e, h]
                    for j in range(width):
                        z = a[u, h * a_step, j] + b[v, h * b_step, j]
                        out[chunk, h, j] += g * (z if z > 0 else z * slope)


def _scalar(value: float, like: Tensor):
    """A float of the tensors' own precision: float64 would drag float32 loops along."""
    return like.detach().numpy().dtype.type(value)


def edge_score(adj, a: Tensor, b: Tensor, att: Tensor, slope: float) -> Tensor:
    out = a.new_empty(len(adj.eid), len(att))
    work = len(adj.eid) * att.numel()
    _edge_score(work, adj.indptr, adj.indices, adj.eid, a, b, att, _scalar(slope, a), out)
    return out


def edge_score_grad(adj, own: Tensor, other: Tensor, att: Tensor, slope: float, grad: Tensor) -> Tensor:
    out = torch.empty_like(own)
    work = len(adj.eid) * att.numel()
    _edge_score_grad(work, adj.indptr, adj.indices, adj.eid, own, other, att, _scalar(slope, own), grad, out)
    return out


def edge_score_att_grad(adj, a: Tensor, b: Tensor, slope: float, grad: Tensor) -> Tensor:
    partial = a.new_zeros(CHUNKS, grad.shape[1], a.shape[2])
    work = len(adj.eid) * partial[0].numel()
    _edge_score_att_grad(work, adj.indptr, adj.indices, adj.eid, a, b, _scalar(slope, a), grad, partial)
    return partial.sum(0)
