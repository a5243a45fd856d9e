"""numba.njit with a cache on disk whose failures are no errors, and a log message when it compiles."""

import hashlib
import logging
import os
from collections.abc import Callable
from pathlib import Path
from types import FunctionType
from typing import Any

import numba
from filelock import FileLock
from numba.core.caching import FunctionCache
from numba.core.compiler_lock import global_compiler_lock
from numba.extending import intrinsic as _intrinsic

log = logging.getLogger("gnnlib")
intrinsic: Any = _intrinsic  # an intrinsic is called without its first argument, which mypy does not know

# A child forked while another thread compiles would wait for the compiler's lock forever.
os.register_at_fork(
    before=global_compiler_lock.acquire,
    after_in_parent=global_compiler_lock.release,
    after_in_child=global_compiler_lock.release,
)


def _digest() -> bytes:
    """A hash of all sources of the kernels: numba checks the file of a function, but not those of its callees."""
    sources = sorted(Path(__file__).parents[1].rglob("*.py"))
    return hashlib.sha256(b"\0".join(source.read_bytes() for source in sources)).digest()


class _DiskCache(FunctionCache):
    """numba's cache on disk without its errors: an unreadable entry is compiled again, an unwritable one is skipped.

    Of several processes that need the same kernel, one compiles it, and the others wait and load its file.
    """

    stamp = _digest()
    announced = False  # whether the message that kernels are compiled was logged

    def __init__(self, function: Callable):
        super().__init__(function)
        self._cache_file._source_stamp = self._cache_file._source_stamp, self.stamp
        self._lock: FileLock | None = None

    def load_overload(self, sig, target_context):
        kernel = self._load(sig, target_context)
        if kernel is not None:
            return kernel
        self._acquire()
        kernel = self._load(sig, target_context)  # another process may have compiled it
        if kernel is not None:
            self._release()
        else:
            self._announce()
        return kernel

    def _acquire(self) -> None:
        """Takes a new lock, as one that was made before a fork is of no use after it."""
        # The timeout is for a process that is stopped, or whose compilation failed: it keeps its lock while it lives.
        self._lock = FileLock(f"{self._cache_file._index_path}.lock", timeout=60, thread_local=False)
        try:
            self._lock.acquire()
        except OSError:  # a timeout, or a file system without locks
            log.debug("gnnlib: no lock on %s", self._name, exc_info=True)

    def _release(self) -> None:
        if self._lock is not None:
            self._lock.release(force=True)
            self._lock = None

    def _announce(self) -> None:
        if not _DiskCache.announced:
            _DiskCache.announced = True
            log.warning(
                "gnnlib: compiling kernels for this machine, once, a second or two each; kept in %s", self._cache_path
            )

    def _load(self, sig, target_context):
        try:
            kernel = super().load_overload(sig, target_context)
        except Exception as error:  # damaged bytes may raise anything
            log.warning("gnnlib: compiling %s again, its cache is damaged: %r", self._name, error)
            try:
                self.flush()
            except OSError:
                log.debug("gnnlib: the cache cannot be written", exc_info=True)
            return None
        # Without locks, processes that fill an empty cache at the same time may take each other's files.
        return kernel if kernel is not None and tuple(kernel.signature.args) == tuple(sig) else None

    def save_overload(self, sig, data) -> None:
        try:
            super().save_overload(sig, data)
        except Exception as error:  # disk full, directory gone
            log.warning("gnnlib: %s cannot be cached and will be compiled in each process: %r", self._name, error)
        finally:
            self._release()


def jit(func: Callable, *, cache: bool = True, **options):
    """numba.njit without the interpreter's lock, cached on disk if a directory is writable, else in memory.

    No entry point for C is compiled, which takes a tenth of the time.
    """
    options = {"no_cfunc_wrapper": True} | options
    compiled: Any = numba.njit(func, nogil=True, error_model="numpy", **options)
    if cache and not numba.config.DISABLE_JIT:  # type: ignore[attr-defined]
        try:
            compiled._cache = _DiskCache(func)  # as cache=True does, which takes numba's own and raises at import
        except (RuntimeError, OSError):  # "no locator available": no writable cache directory
            log.debug("gnnlib: no cache directory", exc_info=True)
    return compiled


def jit_callee(func: Callable, **options):
    """`jit` of a function that only compiled code calls, without an entry point for Python: less to compile."""
    return jit(func, cache=False, no_cpython_wrapper=True, **options)


def named(func: Callable, name: str, **names: object) -> FunctionType:
    """A copy under another name, with other globals: numba's cache identifies functions by name and code."""
    assert isinstance(func, FunctionType)
    copy = FunctionType(func.__code__, func.__globals__ | names, name)
    copy.__qualname__ = name
    return copy
