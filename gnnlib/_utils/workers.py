"""Worker processes."""

import multiprocessing
import os
import signal
import threading

import torch

__all__ = ["start_worker"]


def start_worker() -> None:
    """Initialises a worker process: one thread; an interrupt is ignored, since the parent process stops submitting
    work; and the worker exits when its parent is killed."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
