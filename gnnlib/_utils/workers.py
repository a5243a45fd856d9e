"""Processes that work for another one."""

import multiprocessing
import os
import signal
import threading

import torch

__all__ = ["start_worker"]


def start_worker() -> None:
    """What a worker does first: it takes one thread, finishes what it is at upon an interrupt (the process that
    started it stops giving it work), and ends when that process was killed."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
