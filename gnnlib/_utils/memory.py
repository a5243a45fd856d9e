"""A heap that is kept: large steps in half to two thirds of the time, if you ask for it."""

import ctypes

__all__ = ["retain_freed_memory"]

TRIM_THRESHOLD, TOP_PAD, MMAP_MAX = -1, -2, -4  # glibc's malloc.h


def retain_freed_memory() -> bool:
    """Tells malloc to keep freed memory for the next arrays, whoever makes them, until the process ends.

    Memory fresh from the system is cleared page by page as it is first touched. glibc gives large arrays back as soon
    as they are freed, and a training step, which makes the same arrays again, spends up to half of its time in
    clearing them. Kept, memory is cleared once. The price is memory: the process never shrinks, and what does not fit
    the gaps comes on top, so that a large step may hold twice as much. Nothing in gnnlib calls this: it is for a
    program to say, once, best at its start. Threads other than the main one have heaps of their own, too small for
    large arrays, and gain nothing.

    Returns whether malloc is glibc's and took it; on other systems nothing happens.

    The same from outside: ``MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=1099511627776 MALLOC_TOP_PAD_=268435456``.

    >>> import gnnlib
    >>> gnnlib.retain_freed_memory()  # doctest: +SKIP
    True
    """
    try:
        c = ctypes.CDLL(None)
        c.gnu_get_libc_version  # noqa: B018, others have no mallopt, or one that means something else
        mallopt = c.mallopt
    except (OSError, AttributeError, TypeError):  # TypeError: on Windows None is no library
        return False
    # all of them, whatever the first says: never an array of its own, nothing trimmed, 256 MiB at a time
    return all([mallopt(MMAP_MAX, 0), mallopt(TRIM_THRESHOLD, -1), mallopt(TOP_PAD, 1 << 28)])
