"""The process that times workloads: ``python -m gnnlib.benchmarks.speed.worker JOB`` prints a line of JSON per row.

The allocator and OpenMP read the environment when a process starts, so that each job needs a process.
"""

import gc
import json
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

import gnnlib
from gnnlib._platform.dgl import check_dgl
from gnnlib.benchmarks.speed.bound import copy_bandwidth
from gnnlib.benchmarks.speed.measure import CPU_CLOCK, Clock, CUDAClock, Effort, Row, Workload, differences, times
from gnnlib.benchmarks.speed.workloads import choose


@dataclass(frozen=True)
class TimingJob:
    """Workloads with one allocator and number of threads."""

    names: list[str]
    shrink: int = 1  # factor by which graphs are smaller
    repeats: int = 5
    budget: float = 30.0  # as in `Effort`
    allocator: str = "default"
    threads: int | None = None  # None: PyTorch's number
    device: str = "cpu"

    def to_json(self) -> str:
        """The job as an argument of the worker's command line."""
        return json.dumps(asdict(self))


def rows(job: TimingJob) -> Iterator[Row]:
    """Checks and times the workloads of a job.

    Raises:
        ImportError: if DGL is not installed, which is a peer on the CPU
        ValueError: if the outputs of the libraries disagree
    """
    if job.device == "cpu":
        check_dgl("speed")
        return measure_rows(choose(job.names), job)
    device = torch.device(job.device)
    return measure_rows(choose(job.names, job.device), job, CUDAClock(device))


def measure_rows(workloads: Sequence[Workload], job: TimingJob, clock: Clock = CPU_CLOCK) -> Iterator[Row]:
    """The figures of workloads. On a card, contenders that need too much memory are noted, and the bound of the memory
    is that of a copy."""
    effort = Effort(job.repeats, job.budget, memory=job.allocator == "default")
    bandwidth = copy_bandwidth(device=torch.device(job.device), clock=clock) if job.device != "cpu" else None
    for workload in workloads:
        case = workload.make(job.shrink)
        failures: dict[str, str] | None = None if job.device == "cpu" else {}
        errors = differences(workload.title, case.outputs, case.tolerance, failures)
        seconds, peak = times(case, effort, clock, failures)
        if bandwidth and case.sweeps:
            seconds["gather"] = [case.moved / bandwidth] * job.repeats
        row = Row(
            workload.name,
            workload.title,
            workload.group,
            job.allocator,
            torch.get_num_threads(),
            seconds,
            peak,
            errors,
            workload.targets,
            case.sweeps,
            case.moved,
            case.factors,
            job.device,
            failures or {},
        )
        del case  # gigabytes, perhaps
        yield row


def main(job: TimingJob) -> None:
    """Prints the bandwidth of copies, then each row, as JSON; or an error."""
    out, sys.stdout = sys.stdout, sys.stderr  # the output of libraries must not mix with the rows

    def send(**message: Any) -> None:
        print(json.dumps(message), file=out, flush=True)

    warnings.filterwarnings("ignore", message="Dataloader CPU affinity opt is not enabled")
    if job.allocator == "keep" and not gnnlib.retain_freed_memory():
        return send(error="--allocators keep: expected glibc's malloc, which this system lacks")
    if job.threads:
        torch.set_num_threads(job.threads)
    device = torch.device(job.device)
    send(copy_bandwidth=copy_bandwidth(device=device, clock=CPU_CLOCK if job.device == "cpu" else CUDAClock(device)))
    gc.collect()
    gc.freeze()  # collections before each step skip the imported modules
    try:
        for row in rows(job):
            gc.collect()
            send(row=row.document())
    except ValueError as error:
        send(error=str(error))


if __name__ == "__main__":
    try:
        main(TimingJob(**json.loads(sys.argv[1])))
    except KeyboardInterrupt:  # the command gets it too, and prints the message
        sys.exit(130)
