"""The training of many cells: one after the other, or in a pool of processes with one thread each."""

import multiprocessing
from collections import deque
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

import torch

from gnnlib._utils.workers import start_worker
from gnnlib.benchmarks.depth.cells import TrainingSettings
from gnnlib.benchmarks.depth.data import NodeData

__all__ = ["Task", "one_thread", "run_tasks"]

Outcome = dict[str, Any]


class Task(Protocol):
    """A training of a study: a cell, or a trial of its hyperparameters."""

    def run(self, data: NodeData, settings: TrainingSettings) -> Outcome:
        """The outcome of the training."""


T = TypeVar("T", bound=Task)


def run_tasks(
    tasks: deque[T], data: NodeData, settings: TrainingSettings, jobs: int
) -> Iterator[tuple[T, Outcome | Exception]]:
    """Yields each task with its outcome, or with the exception that ended it, as soon as it is done.

    Args:
        tasks: a queue, from the left. The caller may add tasks to it while it iterates
        data: the graph
        settings: how to train
        jobs: number of processes; 1 trains in this process

    Raises:
        OSError: if a process of the pool died
    """
    if jobs == 1:
        with one_thread():
            while tasks:
                task = tasks.popleft()
                yield task, _run(task, data, settings)
        return
    with _pool(jobs, data, settings) as pool:
        futures: dict[Future[Outcome | Exception], T] = {}
        while tasks or futures:
            while tasks and len(futures) < jobs:
                task = tasks.popleft()
                futures[pool.submit(_run_in_worker, task)] = task
            for future in wait(futures, return_when=FIRST_COMPLETED).done:
                try:
                    yield futures.pop(future), future.result()
                except BrokenProcessPool as error:
                    raise OSError(
                        "a process died, perhaps for lack of memory; finished cells are saved: run the same command "
                        "again, with fewer --jobs"
                    ) from error


def _run(task: Task, data: NodeData, settings: TrainingSettings) -> Outcome | Exception:
    try:
        return task.run(data, settings)
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


def _run_in_worker(task: Task) -> Outcome | Exception:
    return _run(task, *_worker_args)
