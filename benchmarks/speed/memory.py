"""``python -m benchmarks memory``: what a training step holds and takes at each depth, plain, checkpointed, reversible.

Each figure comes from a process of its own, ``python -m gnnlib.benchmarks.speed.memory TASK``, which leaves no memory
behind."""

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
from gnnlib.benchmarks.depth.data import load
from gnnlib.benchmarks.errors import UsageError
from gnnlib.benchmarks.options import RESULTS
from gnnlib.benchmarks.records.results import CHECKOUT, machine, versions
from gnnlib.benchmarks.request import Request
from gnnlib.benchmarks.speed.figures import Figures
from gnnlib.benchmarks.speed.measure import slope, watched
from gnnlib.train.loop import Batch, fit

__all__ = ["WAYS", "MemoryRequest", "run"]

INITIAL = {"encoder": True, "skip": partial(InitialResidual, lam=None)}
# Reversible layers add to what comes in, and must start as the identity to be deep.
WAYS: dict[str, dict[str, Any]] = {
    "plain": INITIAL,
    "checkpointed": {**INITIAL, "checkpoint": True},
    "reversible": {"reversible": 2, "norm": SkipInit},
}
# What glibc reads when a process starts: what is freed goes back to the system, in pieces from 64 KiB on.
GIVE_BACK = {"MALLOC_MMAP_THRESHOLD_": "65536"}
STEPS = 5  # of training, to show that the loss falls


@dataclass(frozen=True)
class MemoryJob:
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
        return self.out / f"memory-{self.name}" / "memory.json"

    def tasks(self) -> list[MemoryJob]:
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
    """Measures all that was asked for, shows it, and adds it to ``memory.json``."""
    rows, console = [], Console(width=None if sys.stdout.isatty() else 110)
    tasks = request.tasks()
    load(request.name, request.data)  # bad input is told before anything starts
    shared = {"data": request.name, "width": request.width, "versions": versions(), "machine": machine()}
    figures = Figures(request.path, shared, ["way", "depth"])
    for row in _measured(tasks, Console(stderr=True)):
        rows.append(row)
        figures.add(row)
    console.print(_table(request, rows))
    return request.path


def _measured(tasks: Sequence[MemoryJob], console: Console) -> Iterator[dict[str, Any]]:
    environment = {**os.environ, **GIVE_BACK}
    environment["PYTHONPATH"] = os.pathsep.join([str(CHECKOUT), *filter(None, [os.environ.get("PYTHONPATH")])])
    for done, task in enumerate(tasks):
        title = f"{task.way}, {task.depth} layers"
        with console.status(f"{title} ({done + 1} of {len(tasks)})"):
            words = [sys.executable, "-m", "gnnlib.benchmarks.speed.memory", json.dumps(asdict(task))]
            found = subprocess.run(words, env=environment, stdout=subprocess.PIPE, text=True)
        if found.returncode:
            why = "; out of memory, perhaps" if found.returncode < 0 else ""
            console.print(f"{title}: the process ended with status {found.returncode}{why}")
            continue
        if not console.is_terminal:
            console.print(f"measured {title}", highlight=False)
        yield json.loads(found.stdout)


def _table(request: MemoryRequest, rows: Sequence[dict[str, Any]]) -> Table:
    """A row for each way, a column for each depth, and the power of depth with which memory grows."""
    shown = Table("", box=box.SIMPLE_HEAD, title=f"A training step on {request.name}, GCN {request.width} wide: MB, s")
    for depth in request.depths:
        shown.add_column(f"{depth} layers", justify="right")
    shown.add_column("grows as depth to the", justify="right")
    for way in request.ways or WAYS:
        found = {row["depth"]: row for row in rows if row["way"] == way}
        cells = [
            f"{row['bytes'] / 1e6:,.0f}, {row['seconds']:.2f}" if row else "" for row in map(found.get, request.depths)
        ]
        points = [(depth, row["bytes"]) for depth, row in found.items() if row["bytes"]]
        shown.add_row(way, *cells, f"{slope(points[-2:]):.2f}" if len(points) > 1 else "")
    return shown


def measure(task: MemoryJob) -> dict[str, Any]:
    """Bytes by which a training step raises the memory of this process at its highest, seconds
    on one thread, and the first and last loss."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    data = load(task.data, task.folder)
    model = Stack.build(GCNConv, data.feat.shape[1], task.width, data.num_classes, task.depth, **WAYS[task.way])
    rows = data.masks["train"]
    batch = Batch(data.graph, data.feat, data.label[rows], rows=rows)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    train = partial(fit, model, lambda: [batch], nn.functional.cross_entropy, optimizer)
    first = train(1)[0]["loss"]  # compiles, makes the gradients and what Adam keeps
    _, peak = watched(partial(train, 1), True)
    start = time.perf_counter()
    losses = [record["loss"] for record in train(STEPS)]
    seconds = (time.perf_counter() - start) / STEPS
    return {**asdict(task), "folder": None, "bytes": peak, "seconds": seconds, "losses": [first, losses[-1]]}


if __name__ == "__main__":
    print(json.dumps(measure(MemoryJob(**json.loads(sys.argv[1])))))
