"""A process that times in one regime: ``python -m gnnlib.benchmarks.speed.worker TASK`` writes a line of JSON for each
row.

A process of its own, because the allocator is set and OpenMP reads the environment once, when a process starts.
"""

import gc
import json
import sys
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch

import gnnlib
from gnnlib.benchmarks.speed.bound import copy_bandwidth
from gnnlib.benchmarks.speed.measure import Effort, Row, differences, times
from gnnlib.benchmarks.speed.workloads import choose


@dataclass(frozen=True)
class TimingJob:
    names: list[str]
    shrink: int = 1  # how many times smaller graphs are
    repeats: int = 5
    budget: float = 30.0  # as in `Effort`
    allocator: str = "default"
    threads: int | None = None  # None: torch's own number

    def to_json(self) -> str:
        return json.dumps(asdict(self))


def rows(task: TimingJob) -> Iterator[Row]:
    """Checks and times one workload after the other."""
    effort = Effort(task.repeats, task.budget, memory=task.allocator == "default")
    for workload in choose(task.names):
        case = workload.make(task.shrink)
        apart = differences(workload.title, case.outputs)
        seconds, peak = times(case, effort)
        row = Row(
            workload.name,
            workload.title,
            workload.group,
            task.allocator,
            torch.get_num_threads(),
            seconds,
            peak,
            apart,
            workload.targets,
            case.sweeps,
            case.moved,
            case.factors,
        )
        del case  # gigabytes, perhaps
        yield row


def main(task: TimingJob) -> None:
    out, sys.stdout = sys.stdout, sys.stderr  # what libraries print is not a row

    def say(**message: Any) -> None:
        print(json.dumps(message), file=out, flush=True)

    warnings.filterwarnings("ignore", message="Dataloader CPU affinity opt is not enabled")
    if task.allocator == "keep" and not gnnlib.retain_freed_memory():
        return say(error="--allocators keep: expected glibc's malloc, which this system hasn't got")
    if task.threads:
        torch.set_num_threads(task.threads)
    say(copy_bandwidth=copy_bandwidth())
    gc.collect()
    gc.freeze()  # what was imported need not be gone through before every step
    try:
        for row in rows(task):
            gc.collect()
            say(row=row.document())
    except ValueError as error:
        say(error=str(error))


if __name__ == "__main__":
    try:
        main(TimingJob(**json.loads(sys.argv[1])))
    except KeyboardInterrupt:  # the command, which got it too, says what there is to say
        sys.exit(130)
