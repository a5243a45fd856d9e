"""The training of many cells: one after the other, or in a pool of processes with one thread each."""

import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any

import torch

from gnnlib._utils.workers import start_worker
from gnnlib.benchmarks.depth.cells import Cell, TrainingSettings, run_cell
from gnnlib.benchmarks.depth.data import NodeData

__all__ = ["one_thread", "train_cells"]

Outcome = dict[str, Any]


def train_cells(
    cells: Sequence[Cell], data: NodeData, settings: TrainingSettings, jobs: int
) -> Iterator[tuple[Cell, Outcome | Exception]]:
    """Yields each cell with its outcome, or with the exception that ended it, as soon as it is done.

    Args:
        cells: what to train
        data: the graph
        settings: how to train
        jobs: number of processes; 1 trains in this process

    Raises:
        OSError: if a process of the pool died
    """
    if jobs == 1 or len(cells) < 2:
        with one_thread():
            for cell in cells:
                yield cell, _train(cell, data, settings)
        return
    with _pool(min(jobs, len(cells)), data, settings) as pool:
        futures = {pool.submit(_train_in_worker, cell): cell for cell in cells}
        for future in as_completed(futures):
            try:
                yield futures[future], future.result()
            except BrokenProcessPool as error:
                raise OSError(
                    "a process died, perhaps for lack of memory; finished cells are saved: run the same command "
                    "again, with fewer --jobs"
                ) from error


def _train(cell: Cell, data: NodeData, settings: TrainingSettings) -> Outcome | Exception:
    try:
        return run_cell(cell, data, settings)
    except Exception as error:  # one cell of thousands must not end the study
        return error


@contextmanager
def one_thread() -> Iterator[None]:
    """Sets PyTorch to one thread inside the block."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def _pool(jobs: int, data: NodeData, settings: TrainingSettings) -> Iterator[ProcessPoolExecutor]:
    """Processes that hold the data and that end with this process, whatever ends it."""
    children = set(multiprocessing.active_children())
    spawn = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(jobs, spawn, initializer=_start_worker, initargs=(data, settings))
    try:
        yield pool
    except BaseException:
        for process in set(multiprocessing.active_children()) - children:
            process.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


_worker_args: tuple[NodeData, TrainingSettings]  # of a process of the pool


def _start_worker(data: NodeData, settings: TrainingSettings) -> None:
    global _worker_args
    _worker_args = data, settings
    start_worker()


def _train_in_worker(cell: Cell) -> Outcome | Exception:
    return _train(cell, *_worker_args)
