"""Loops over the rows of a graph, shared out among the threads that PyTorch already has.

A second pool of threads beside PyTorch's would fight it for the cores, and needs a compilation of its own. So there is
none: a compiled loop is handed to the OpenMP runtime that PyTorch is linked to (``GOMP_parallel``, which GNU's, LLVM's
and Intel's runtimes offer), on as many threads as PyTorch uses. Where there is no such runtime, and in forked children,
which inherit no threads, the same loop runs on the calling thread. Which thread runs which rows is settled as they
go; each number is computed by one thread, so the bits do not depend on it.
"""

import ctypes
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core import cgutils
from torch import Tensor

from gnnlib.kernels.cpu.compile import intrinsic, jit, named

FASTMATH = {"contract"}
"""How LLVM may change a sum: multiply and add in one instruction. Not "nnan": isnan must stay true of NaN."""
CHUNKS = 64
"""Pieces that the rows are cut into; a fixed number, so that partial sums do not depend on the threads."""
HUB = 1 << 14
"""A row with more edges than this is not left to one thread: its columns are shared out."""
TINY = 1 << 15
"""Below this many multiply-adds a launch on several threads costs more than it saves."""

_in_fork = False
row: Any = None
member: Any = None
"""What `_member` and `_launch` call: `Kernel` gives each copy of them its own."""


def _after_fork() -> None:
    global _in_fork
    _in_fork = True


os.register_at_fork(after_in_child=_after_fork)


def _runtime() -> int:
    """The address of GOMP_parallel in the OpenMP runtime of PyTorch, 0 where there is none."""
    try:
        library = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"))
        return ctypes.cast(library.GOMP_parallel, ctypes.c_void_p).value or 0
    except (OSError, AttributeError):
        return 0


_RUNTIME = _runtime()


@intrinsic
def _next(typingctx, counter, step):
    """Adds step to counter[0] in one piece, whatever other threads do, and returns what it was."""

    def codegen(context, builder, signature, args):
        array = context.make_array(signature.args[0])(context, builder, args[0])
        return builder.atomic_rmw("add", array.data, args[1], "monotonic")

    return types.int64(counter, types.int64), codegen


@intrinsic
def _on_team(typingctx, runtime, threads, work, args):
    """work(*args) on that many threads of the OpenMP runtime at once; returns when all have."""
    call = work.get_call_type(typingctx, args.types, {})

    def codegen(context, builder, signature, values):
        runtime, threads, _, packed = values
        compiled = work.dispatcher.overloads[tuple(call.args)]
        context.active_code_library.add_linking_library(compiled.library)
        pointer, int32 = ir.IntType(8).as_pointer(), ir.IntType(32)
        # void member(void *args): what each thread of the team runs
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
    """One thread's part: chunk after chunk, a few at a time, until all are taken."""
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
                else:  # this chunk's share of the columns of a hub
                    v, turn = np.int64(plan[CHUNKS + 1 + i - last]), (chunk + 29 * (i - last)) % CHUNKS
                    low, high = columns * turn // CHUNKS, columns * (turn + 1) // CHUNKS
                start, stop = np.int64(indptr[v]), np.int64(indptr[v + 1])
                if low < high and (i >= last or hubs == 0 or stop - start <= HUB):
                    row(chunk, v, start, stop, low, high, *args)


def _launch(runtime, threads, counter, indptr, plan, columns, *args):
    if threads == 1:
        member(counter, indptr, plan, columns, args)
    else:
        _on_team(runtime, threads, member, (counter, indptr, plan, columns, args))


class Kernel:
    """A loop over the rows of a graph, given what to do for one row.

    ``row(chunk, v, start, stop, low, high, *args)`` computes row v from the slots start to stop, in its columns low to
    high, in whatever unit of columns the caller counts. It is compiled at its first call, for the types it is called
    with.
    """

    def __init__(self, row: Callable, fastmath: set[str] = FASTMATH, cache: bool = True):
        self.row = row
        # no counting of references, which would have the threads wait for each other: the arrays outlive the call
        options: dict = {"fastmath": fastmath, "_nrt": False}
        body = jit(row, cache=False, **options)
        member = jit(named(_member, row.__name__ + "_member", row=body), cache=False, **options)
        self.compiled = jit(named(_launch, row.__name__, member=member), cache=cache, **options)

    def __call__(self, work: int, indptr: Tensor, columns: int, *args: Tensor | float | int | tuple) -> None:
        """``work``: multiply-adds to do, about. ``columns``: units of columns that a hub may be cut into.
        Tensors must be contiguous."""
        arrays = [t.detach().numpy() if isinstance(t, Tensor) else t for t in args]
        threads = torch.get_num_threads() if work >= TINY and _RUNTIME and not _in_fork else 1
        counter = np.array([0, max(1, CHUNKS // (8 * threads))])
        self.compiled(_RUNTIME, threads, counter, indptr.numpy(), plan(indptr), columns, *arrays)


# ---------------------------------------------------------------- who does what


@jit
def _plan(indptr, bounds):
    """The first row of each chunk, such that all have equally many rows and edges together, hubs not counted;
    returns the number of hubs."""
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
    """(CHUNKS + 1 + hubs,) the chunks' first rows, then the hubs; made once and kept with ``indptr``."""
    found = getattr(indptr, "_gnnlib_plan", None)
    if found is None:
        bounds = np.empty(CHUNKS + 1, np.int32)
        if _plan(indptr.numpy(), bounds):
            bounds = np.concatenate([bounds, (indptr.diff() > HUB).nonzero().flatten().int().numpy()])
        found = indptr._gnnlib_plan = bounds  # type: ignore[attr-defined]
    return found


def has_hubs(indptr: Tensor) -> bool:
    """Whether some rows are shared out by their columns."""
    return len(plan(indptr)) > CHUNKS + 1
