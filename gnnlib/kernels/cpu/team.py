"""Parallel loops over the rows of a graph, on PyTorch's threads.

A second thread pool would compete with PyTorch's for the cores and needs a compilation of its own. A compiled loop is
therefore passed to the OpenMP runtime that PyTorch is linked to (``GOMP_parallel``, which GNU's, LLVM's and Intel's
runtimes offer), on as many threads as PyTorch uses. Without such a runtime, and in forked children, which
inherit no threads, the same loop runs on the calling thread. Rows are scheduled dynamically; each number is computed
by one thread, so the bits do not depend on the schedule.
"""

import ctypes
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core import cgutils
from torch import Tensor

from gnnlib.kernels.cpu.compile import intrinsic, jit, jit_callee, named

FASTMATH = {"contract"}
"""What LLVM may change: a product and a sum become one instruction. Not "nnan": isnan must stay true of NaN."""
CHUNKS = 64
"""Parts that the rows are divided into. The number is fixed, so partial sums do not depend on the threads."""
HUB = 1 << 14
"""The columns of a row with more edges than this are divided among the threads."""
TINY = 1 << 15
"""With fewer multiply-adds a launch on several threads costs more than it saves."""

Array: TypeAlias = Any
"""A tensor where a kernel is called, a numpy array inside the kernel."""


class Row(NamedTuple):
    """A task of a kernel: row v, whose edges are the slots start to stop, in its columns low to high."""

    chunk: int
    v: int
    start: int
    stop: int
    low: int
    high: int


_in_fork = False
compute: Any = None
arguments: Any = None
member: Any = None
"""Global names of `_member` and `_launch`; `Kernel` gives each copy of these functions its values."""


def _after_fork() -> None:
    global _in_fork
    _in_fork = True


os.register_at_fork(after_in_child=_after_fork)


def _runtime() -> int:
    """The address of GOMP_parallel in the OpenMP runtime of PyTorch; 0 without such a runtime."""
    try:
        library = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"))
        return ctypes.cast(library.GOMP_parallel, ctypes.c_void_p).value or 0
    except (OSError, AttributeError):
        return 0


_RUNTIME = _runtime()


@intrinsic
def _next(typingctx, counter, step):
    """Adds step to counter[0] atomically and returns the value before."""

    def codegen(context, builder, signature, args):
        array = context.make_array(signature.args[0])(context, builder, args[0])
        return builder.atomic_rmw("add", array.data, args[1], "monotonic")

    return types.int64(counter, types.int64), codegen


@intrinsic
def _on_team(typingctx, runtime, threads, work, args):
    """Calls work(*args) on each of ``threads`` threads of the OpenMP runtime, and waits for all of them."""
    call = work.get_call_type(typingctx, args.types, {})

    def codegen(context, builder, signature, values):
        runtime, threads, _, packed = values
        compiled = work.dispatcher.overloads[tuple(call.args)]
        context.active_code_library.add_linking_library(compiled.library)
        pointer, int32 = ir.IntType(8).as_pointer(), ir.IntType(32)
        # void member(void *args): the function of each thread
        name = builder.module.get_unique_name("member")
        member = ir.Function(builder.module, ir.FunctionType(ir.VoidType(), [pointer]), name)
        member.linkage = "internal"
        inside = ir.IRBuilder(member.append_basic_block())
        loaded = inside.load(inside.bitcast(member.args[0], packed.type.as_pointer()))
        target = context.declare_function(builder.module, compiled.fndesc)
        unpacked = cgutils.unpack_tuple(inside, loaded)
        context.call_conv.call_function(inside, target, call.return_type, call.args, unpacked)
        inside.ret_void()
        # GOMP_parallel(member, args, threads, flags)
        slot = cgutils.alloca_once_value(builder, packed)
        entry = ir.FunctionType(ir.VoidType(), [member.type, pointer, int32, int32]).as_pointer()
        builder.call(
            builder.inttoptr(runtime, entry),
            [member, builder.bitcast(slot, pointer), builder.trunc(threads, int32), int32(0)],
        )
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, work, args), codegen


def _member(counter, indptr, plan, columns, args):
    """The loop of one thread: takes a few chunks at a time until none remains."""
    hubs, step = len(plan) - CHUNKS - 1, counter[1]
    while True:
        begin = _next(counter, step)
        if begin >= CHUNKS:
            break
        for chunk in range(begin, min(begin + step, CHUNKS)):
            last = plan[chunk + 1]
            for i in range(plan[chunk], last + hubs):
                if i < last:
                    v, low, high = np.int64(i), 0, columns
                else:  # this chunk's part of the columns of a hub
                    v, turn = np.int64(plan[CHUNKS + 1 + i - last]), (chunk + 29 * (i - last)) % CHUNKS
                    low, high = columns * turn // CHUNKS, columns * (turn + 1) // CHUNKS
                start, stop = np.int64(indptr[v]), np.int64(indptr[v + 1])
                if low < high and (i >= last or hubs == 0 or stop - start <= HUB):
                    compute(Row(chunk, v, start, stop, low, high), arguments(*args))  # type: ignore[arg-type]


def _launch(runtime, threads, counter, indptr, plan, columns, *args):
    if threads == 1:
        member(counter, indptr, plan, columns, args)
    else:
        _on_team(runtime, threads, member, (counter, indptr, plan, columns, args))


class Kernel:
    """A parallel loop over the rows of a graph.

    ``compute(row, args)`` computes one `Row`; the unit of its columns is up to the caller. ``args`` is of the type
    ``arguments``, a NamedTuple. Numba receives its fields one by one, which takes a quarter of the time that a
    NamedTuple takes, and they are put together again in compiled code, which costs nothing. A
    kernel is compiled at its first call, for the types of its arguments.
    """

    def __init__(
        self,
        compute: Callable,
        arguments: type[tuple],
        fastmath: set[str] = FASTMATH,
        cache: bool = True,
    ):
        self.compute, self.arguments = compute, arguments
        # no reference counts, for which threads would wait: the arrays outlive the call
        options: dict = {"fastmath": fastmath, "_nrt": False}
        body, name = jit_callee(compute, **options), compute.__name__
        member = named(_member, name + "_member", compute=body, arguments=arguments)
        launch = named(_launch, name, member=jit_callee(member, **options))
        self.compiled = jit(launch, cache=cache, **options)

    def __call__(self, work: int, indptr: Tensor, columns: int, args: tuple) -> None:
        """Computes all rows.

        Args:
            work: number of multiply-adds, about
            indptr: (N + 1,) first slot of each row
            columns: units of columns that a hub may be divided into
            args: of the type ``arguments``; tensors must be contiguous
        """
        arrays = [_array(t) if isinstance(t, Tensor) else t for t in args]
        threads = torch.get_num_threads() if work >= TINY and _RUNTIME and not _in_fork else 1
        counter = np.array([0, max(1, CHUNKS // (8 * threads))])
        self.compiled(_RUNTIME, threads, counter, _array(indptr), plan(indptr), columns, *arrays)


def _array(tensor: Tensor) -> np.ndarray:
    """The memory of a contiguous tensor as a flat array: uint16 for bfloat16, which numpy does not have.

    An array takes a microsecond. The arrays of int32 tensors, as those of an adjacency, are cached on them.
    """
    cached = getattr(tensor, "_gnnlib_array", None)
    if cached is not None and cached[0] == tensor.data_ptr():  # `share_memory_` moves a tensor
        return cached[1]
    return _new_array(keep_array(tensor) if tensor.dtype == torch.int32 else tensor)


def _new_array(tensor: Tensor) -> np.ndarray:
    if not tensor.is_contiguous():
        raise ValueError(f"kernel: expected contiguous tensors, got strides {tensor.stride()} of {tuple(tensor.shape)}")
    if tensor.requires_grad:
        tensor = tensor.detach()
    array = tensor.view(torch.int16).numpy().view(np.uint16) if tensor.dtype == torch.bfloat16 else tensor.numpy()
    return array if array.ndim == 1 else array.reshape(-1)


def keep_array(tensor: Tensor) -> Tensor:
    """Caches the array of a tensor on it. An array refers to its tensor, so it is that of a detached tensor."""
    tensor._gnnlib_array = tensor.data_ptr(), _new_array(tensor.detach())  # type: ignore[attr-defined]
    return tensor


def kernel(arguments: type[tuple], fastmath: set[str] = FASTMATH) -> Callable[[Callable], Kernel]:
    """Decorator that makes a `Kernel` of ``compute(row, args)``."""
    return partial(Kernel, arguments=arguments, fastmath=fastmath)


# ---------------------------------------------------------------- the schedule


@jit
def _plan(indptr, bounds):
    """Writes the first row of each chunk and returns the number of hubs. Chunks have equal numbers of rows plus edges,
    hubs not counted."""
    rows = len(indptr) - 1
    total, hubs = np.int64(0), 0
    for v in range(rows):
        degree = indptr[v + 1] - indptr[v]
        hubs += degree > HUB
        total += 1 if degree > HUB else 1 + degree
    done, chunk = np.int64(0), 0
    for v in range(rows):
        while chunk <= CHUNKS and done * CHUNKS >= total * chunk:
            bounds[chunk] = v
            chunk += 1
        degree = indptr[v + 1] - indptr[v]
        done += 1 if degree > HUB else 1 + degree
    bounds[chunk:] = rows
    return hubs


def plan(indptr: Tensor) -> np.ndarray:
    """(CHUNKS + 1 + hubs,) the first row of each chunk, then the hubs; cached on ``indptr``."""
    cached = getattr(indptr, "_gnnlib_plan", None)
    if cached is None:
        bounds = np.empty(CHUNKS + 1, np.int32)
        if _plan(indptr.numpy(), bounds):
            bounds = np.concatenate([bounds, (indptr.diff() > HUB).nonzero().flatten().int().numpy()])
        cached = indptr._gnnlib_plan = bounds  # type: ignore[attr-defined]
    return cached


def has_hubs(indptr: Tensor) -> bool:
    """Whether the columns of some rows are divided among the threads."""
    return len(plan(indptr)) > CHUNKS + 1
