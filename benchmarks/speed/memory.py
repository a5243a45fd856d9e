"""``python -m benchmarks memory``: memory and time of a training step by depth, plain, checkpointed and reversible.

Each figure is measured in a new process, ``python -m gnnlib.benchmarks.speed.memory JOB``.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, ClassVar

import torch
from rich import box
from rich.console import Console
from rich.table import Table
from torch import nn

from gnnlib import GCNConv, InitialResidual, SkipInit, Stack
from gnnlib.benchmarks.depth.loading import load
from gnnlib.benchmarks.errors import UsageError
from gnnlib.benchmarks.options import RESULTS
from gnnlib.benchmarks.records.folders import exclusive_folder
from gnnlib.benchmarks.records.results import CHECKOUT, machine, versions
from gnnlib.benchmarks.request import Request
from gnnlib.benchmarks.speed.figures import Figures
from gnnlib.benchmarks.speed.measure import measure_step, slope
from gnnlib.train.loop import Batch, fit

__all__ = ["WAYS", "MemoryRequest", "run"]

INITIAL = {"encoder": True, "skip": partial(InitialResidual, lam=None)}
# Reversible layers add to their input; deep ones must start as the identity.
WAYS: dict[str, dict[str, Any]] = {
    "plain": INITIAL,
    "checkpointed": {**INITIAL, "checkpoint": True},
    "reversible": {"reversible": 2, "norm": SkipInit},
}
# Variables that glibc reads when a process starts: freed pieces of 64 KiB and more go back to the system.
MALLOC = {"MALLOC_MMAP_THRESHOLD_": "65536"}
STEPS = 5  # of the training whose first and last losses are recorded


@dataclass(frozen=True)
class MemoryJob:
    """One training step: the data set, its folder, and the network."""

    data: str
    folder: str | None
    way: str
    depth: int
    width: int


@dataclass(frozen=True)
class MemoryRequest(Request):
    """The options of ``memory``; without ways all of them."""

    COMMAND: ClassVar[str] = "memory"

    name: str = "digits"  # of the data set
    depths: Sequence[int] = (10, 100, 1000)
    ways: Sequence[str] | None = None
    width: int = 64
    data: Path | None = None
    out: Path = RESULTS

    @property
    def path(self) -> Path:
        """The file of the figures."""
        return self.out / f"memory-{self.name}" / "memory.json"

    def jobs(self) -> list[MemoryJob]:
        """A job for each figure.

        Raises:
            UsageError: for unknown ways
        """
        ways = self.ways or tuple(WAYS)
        for way in ways:
            if way not in WAYS:
                raise UsageError(f"--ways: expected some of {', '.join(WAYS)}, got {way!r}")
        folder = None if self.data is None else str(self.data.absolute())
        return [MemoryJob(self.name, folder, way, depth, self.width) for way, depth in product(ways, self.depths)]


def run(request: MemoryRequest) -> Path:
    """Measures all jobs, prints the figures, and adds them to ``memory.json``.

    Raises:
        UsageError: if another run is writing to the folder
    """
    rows, console = [], Console(width=None if sys.stdout.isatty() else 110)
    jobs = request.jobs()
    load(request.name, request.data)  # raises before any process starts
    shared = {"data": request.name, "width": request.width, "versions": versions(), "machine": machine()}
    with exclusive_folder(request.path.parent):
        figures = Figures(request.path, shared, ["way", "depth"])
        for row in _measured(jobs, Console(stderr=True)):
            rows.append(row)
            figures.add_row(row)
    console.print(_table(request, rows))
    return request.path


def _measured(jobs: Sequence[MemoryJob], console: Console) -> Iterator[dict[str, Any]]:
    """A row for each job whose process ended well."""
    environment = {**os.environ, **MALLOC}
    environment["PYTHONPATH"] = os.pathsep.join([str(CHECKOUT), *filter(None, [os.environ.get("PYTHONPATH")])])
    for done, job in enumerate(jobs):
        title = f"{job.way}, {job.depth} layers"
        with console.status(f"{title} ({done + 1} of {len(jobs)})"):
            words = [sys.executable, "-m", "gnnlib.benchmarks.speed.memory", json.dumps(asdict(job))]
            process = subprocess.run(words, env=environment, stdout=subprocess.PIPE, text=True)
        if process.returncode:
            reason = "; out of memory, perhaps" if process.returncode < 0 else ""
            console.print(f"{title}: the process ended with status {process.returncode}{reason}")
            continue
        if not console.is_terminal:
            console.print(f"measured {title}", highlight=False)
        yield json.loads(process.stdout)


def _table(request: MemoryRequest, rows: Sequence[dict[str, Any]]) -> Table:
    """A row for each way, a column for each depth, and the exponent of the growth of memory with depth."""
    table = Table("", box=box.SIMPLE_HEAD, title=f"A training step on {request.name}, GCN {request.width} wide: MB, s")
    for depth in request.depths:
        table.add_column(f"{depth} layers", justify="right")
    table.add_column("exponent", justify="right")
    for way in request.ways or WAYS:
        by_depth = {row["depth"]: row for row in rows if row["way"] == way}
        cells = [
            f"{row['bytes'] / 1e6:,.0f}, {row['seconds']:.2f}" if row else ""
            for row in map(by_depth.get, request.depths)
        ]
        points = [(depth, row["bytes"]) for depth, row in by_depth.items() if row["bytes"]]
        table.add_row(way, *cells, f"{slope(points[-2:]):.2f}" if len(points) > 1 else "")
    return table


def measure(job: MemoryJob) -> dict[str, Any]:
    """The bytes by which a training step raises the peak memory of this process, the seconds of a step on one thread,
    and the first and last loss."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    data = load(job.data, job.folder)
    model = Stack.build(GCNConv, data.feat.shape[1], job.width, data.out_feats, job.depth, **WAYS[job.way])
    rows = data.masks["train"]
    batch = Batch(data.graph, data.feat, data.label[rows], rows=rows)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    train = partial(fit, model, lambda: [batch], nn.functional.cross_entropy, optimizer)
    first = train(1)[0]["loss"]  # compiles kernels, and allocates gradients and the state of Adam
    _, peak = measure_step(partial(train, 1), True)
    start = time.perf_counter()
    losses = [record["loss"] for record in train(STEPS)]
    seconds = (time.perf_counter() - start) / STEPS
    return {**asdict(job), "folder": None, "bytes": peak, "seconds": seconds, "losses": [first, losses[-1]]}


if __name__ == "__main__":
    print(json.dumps(measure(MemoryJob(**json.loads(sys.argv[1])))))
