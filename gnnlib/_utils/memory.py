"""Memory settings of glibc: reuse of freed memory, which shortens large training steps by a third to a half."""

import ctypes

from gnnlib._utils.calls import names_checked

__all__ = ["retain_freed_memory"]

TRIM_THRESHOLD, TOP_PAD, MMAP_MAX = -1, -2, -4  # glibc's malloc.h


@names_checked()
def retain_freed_memory() -> bool:
    """Lets glibc's malloc keep freed memory for later arrays until the process ends.

    New memory from the system is cleared page by page when it is first used. glibc returns large arrays to the system
    when they are freed, so a training step, which allocates the same arrays again, spends up to half of its time on
    clearing them. Retained memory is cleared once. The process never shrinks, and because of fragmentation
    a large step may take twice as much memory. gnnlib does not call this function: a program calls it once, at its
    start. Threads other than the main one have separate heaps, too small for large arrays, and do not benefit.

    The environment variables with the same effect are
    ``MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=1099511627776 MALLOC_TOP_PAD_=268435456``.

    Returns:
        Whether malloc is glibc's and accepts the settings; on other systems nothing happens.

    Example:
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
    # all three in any case: no mmap for single arrays, no trimming, growth by 256 MiB
    return all([mallopt(MMAP_MAX, 0), mallopt(TRIM_THRESHOLD, -1), mallopt(TOP_PAD, 1 << 28)])
