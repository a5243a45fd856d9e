"""The command ``speed``: a worker for each allocator and number of threads; a row is on disk before the next begins."""

import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from rich.console import Console
from rich.progress import Progress

from gnnlib._platform.dgl import check_dgl
from gnnlib._utils.progress import columns
from gnnlib.benchmarks.errors import UsageError
from gnnlib.benchmarks.options import RESULTS
from gnnlib.benchmarks.records.folders import exclusive_folder
from gnnlib.benchmarks.records.results import CHECKOUT, machine, versions
from gnnlib.benchmarks.request import Request, check_device
from gnnlib.benchmarks.speed import show
from gnnlib.benchmarks.speed.figures import Figures
from gnnlib.benchmarks.speed.measure import REQUIRED, Row
from gnnlib.benchmarks.speed.plot import plot
from gnnlib.benchmarks.speed.worker import TimingJob
from gnnlib.benchmarks.speed.workloads import choose

# Variables that PyTorch reads when a process starts; for "keep" the worker calls `gnnlib.retain_freed_memory`.
ALLOCATORS: dict[str, dict[str, str]] = {"default": {}, "keep": {}, "huge": {"THP_MEM_ALLOC_ENABLE": "1"}}
DEFAULT_ALLOCATORS = ["default", "keep"]
KEY = ["workload", "allocator", "threads"]
WIDTH = 110  # of the tables where there is no terminal


@dataclass(frozen=True)
class SpeedRequest(Request):
    """The options of ``speed``; None takes the value that `quick` decides."""

    COMMAND: ClassVar[str] = "speed"

    only: Sequence[str] | None = None
    quick: bool = False
    repeats: int | None = None
    shrink: int | None = None
    allocators: Sequence[str] | None = None
    threads: Sequence[int] | None = None
    device: str = "cpu"
    out: Path = RESULTS

    @property
    def path(self) -> Path:
        """The file of the figures."""
        return (self.out if self.device == "cpu" else self.out / "speed-gpu") / "speed.json"

    def jobs(self) -> list[TimingJob]:
        """A job for each allocator and number of threads.

        Raises:
            UsageError: if a name is unknown

        Example:
            >>> from gnnlib.benchmarks.speed.command import SpeedRequest
            >>> [(job.allocator, job.threads, job.shrink) for job in SpeedRequest(quick=True, threads=[1, 2]).jobs()]
            [('default', 1, 8), ('default', 2, 8)]
        """
        names = [workload.name for workload in choose(self.only, self.device)]
        if self.device != "cpu":
            return [
                TimingJob(names, self.shrink or (8 if self.quick else 1), self.repeats or 5, 2.0, device=self.device)
            ]
        glibc = platform.libc_ver()[0] == "glibc"
        allocators = self.allocators or (["default"] if self.quick or not glibc else DEFAULT_ALLOCATORS)
        for allocator in allocators:
            if allocator not in ALLOCATORS:
                raise UsageError(f"--allocators: expected some of {', '.join(ALLOCATORS)}, got {allocator!r}")
        threads: Sequence[int | None] = self.threads or [None]
        return [
            TimingJob(
                names=names,
                shrink=self.shrink or (8 if self.quick else 1),
                repeats=self.repeats or (3 if self.quick else 5),
                budget=2.0 if self.quick else 30.0,
                allocator=allocator,
                threads=count,
            )
            for allocator in allocators
            for count in threads
        ]


def run(request: SpeedRequest) -> Path:
    """Times the workloads, prints the figures, and adds them to ``speed.json`` and ``speed.png``.

    Raises:
        ImportError: if DGL is not installed
        UsageError: if another run is writing to the folder
        ValueError: if outputs disagree or a worker dies; the rows before are written and printed
    """
    if request.device == "cpu":
        check_dgl("speed")
    else:
        check_device(request.device)
    with exclusive_folder(request.path.parent):
        return _run(request)


def _run(request: SpeedRequest) -> Path:
    jobs, rows = request.jobs(), []
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    shared = {
        "shrink": jobs[0].shrink,
        "versions": {**versions(), "torch_geometric": _version("torch-geometric")},
        "machine": machine(request.device),
    }
    figures, bandwidths = Figures(request.path, shared, KEY, REQUIRED), []
    try:
        for message in _progress(jobs, Console(stderr=True)):
            if "row" in message:
                rows.append(Row.from_document(message["row"]))
                figures.add_row(rows[-1].document())
            else:
                bandwidths.append(message["copy_bandwidth"])
                figures.extra = {"copy_bandwidth": bandwidths}
    finally:
        if rows:
            console.print(*show.tables(rows))
            console.print(
                *show.notes({**shared, "copy_bandwidth": bandwidths}), sep="\n", markup=False, highlight=False
            )
            plot([Row.from_document(row) for row in figures.rows], request.path.with_suffix(".png"))
    return request.path


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _progress(jobs: Sequence[TimingJob], console: Console) -> Iterator[dict[str, Any]]:
    """The messages of all workers, with a progress bar; without a terminal, a line for each row."""
    with Progress(*columns(), console=console, transient=True, disable=not console.is_terminal) as bars:
        bar = bars.add_task("", total=sum(len(job.names) for job in jobs))
        for job in jobs:
            titles = iter([workload.title for workload in choose(job.names, job.device)])
            for message in _messages(job):
                bars.update(bar, description=next(titles, ""), advance="row" in message)
                if bars.disable and "row" in message:
                    console.print(f"timed {message['row']['title']}", highlight=False)
                yield message


def _messages(job: TimingJob) -> Iterator[dict[str, Any]]:
    """The messages of a worker, each as soon as it comes."""
    environment = {**os.environ, **ALLOCATORS[job.allocator]}
    environment["PYTHONPATH"] = os.pathsep.join([str(CHECKOUT), *filter(None, [os.environ.get("PYTHONPATH")])])
    if job.threads:
        environment["OMP_NUM_THREADS"] = str(job.threads)  # torch's number does not reach every library
    command = [sys.executable, "-m", "gnnlib.benchmarks.speed.worker", job.to_json()]
    done = 0
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            for line in process.stdout or ():
                message = json.loads(line)
                if "error" in message:
                    raise ValueError(message["error"])
                done += "row" in message
                yield message
        finally:
            process.kill()
    if done < len(job.names):
        raise ValueError(
            f"expected {len(job.names)} rows, received {done}: the worker ended with status {process.returncode} "
            f"while timing {job.names[done]}"
        )
