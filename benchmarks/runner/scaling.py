"""Speed-up of several processes: a training on one process with one thread, one with several, several with one each."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from rich.console import Console
from rich.table import Table

from gnnlib._utils.files import atomic_write
from gnnlib.benchmarks.errors import UsageError
from gnnlib.benchmarks.options import RESULTS, module
from gnnlib.benchmarks.records.results import commit, machine, versions
from gnnlib.benchmarks.request import Request
from gnnlib.benchmarks.runner.run import find_task


@dataclass(frozen=True)
class ScalingRequest(Request):
    """The options of ``scaling``."""

    COMMAND: ClassVar[str] = "scaling"

    name: str  # of the task
    processes: int = 2
    arguments: Sequence[str] = ()  # of `run`
    out: Path = RESULTS

    @property
    def path(self) -> Path:
        return self.out / f"scaling-{self.name}" / "scaling.json"

    def portable_arguments(self) -> list[str]:
        """The arguments, without the folder of the data on this machine.

        >>> from gnnlib.benchmarks.runner.scaling import ScalingRequest
        >>> ScalingRequest("digits", arguments=["--data", "/home/me/data", "--epochs", "2"]).portable_arguments()
        ['--data', 'DIR', '--epochs', '2']
        """
        pairs = zip(["", *self.arguments], self.arguments)
        return ["DIR" if before == "--data" else word for before, word in pairs]

    def teams(self) -> list[tuple[int, int]]:
        """Processes, and threads of each.

        >>> from gnnlib.benchmarks.runner.scaling import ScalingRequest
        >>> ScalingRequest("digits", processes=4).teams()
        [(1, 1), (1, 4), (4, 1)]
        """
        return [(1, 1), (1, self.processes), (self.processes, 1)]


def run(request: ScalingRequest) -> Path:
    """Trains one seed with each team, shows seconds and speed-ups, and writes ``scaling.json``.

    Raises:
        UsageError: for a task that is unknown or that processes cannot share
        ValueError: if a run fails
    """
    if not find_task(request.name).sharded:
        raise UsageError(f"scaling: expected a task whose batches can be shared, got {request.name}")
    rows: list[dict[str, Any]] = []
    for processes, threads in request.teams():
        result = _train(request, processes, threads)
        rows.append({"processes": processes, "threads": threads, **_figures(result)})
        rows[-1]["speedup"] = rows[0]["seconds"] / rows[-1]["seconds"]
        document = {"task": request.name, "arguments": request.portable_arguments(), "rows": rows}
        with atomic_write(request.path) as part:
            about = {"versions": versions(), "commit": commit(), "machine": machine()}
            part.write_text(json.dumps({**document, **about}, indent=1) + "\n")
    Console().print(table(request.name, rows))
    return request.path


def _train(request: ScalingRequest, processes: int, threads: int) -> dict[str, Any]:
    """The result of ``run``, of its first layer."""
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    with tempfile.TemporaryDirectory() as folder:
        run = ["-m", module(), "run", request.name, "--seeds", "1", "--out", folder, *request.arguments]
        command = [sys.executable, *(torchrun if processes > 1 else []), *run]
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        paths = sorted(Path(folder).glob("*/*/result.json"))
        if done.returncode or not paths:
            last = "\n".join(done.stderr.splitlines()[-5:])
            raise ValueError(
                f"scaling: expected a result of {' '.join(command[1:])}, got status {done.returncode}\n{last}"
            )
        return json.loads(paths[0].read_text())


def _figures(result: dict[str, Any]) -> dict[str, Any]:
    return {"seconds": result["seconds"], "loss": result["curves"][0]["loss"][-1], "score": result["metric"]["mean"]}


def table(task: str, rows: Sequence[dict[str, Any]]) -> Table:
    shown = Table("processes", "threads of each", "seconds", "speed-up", "last loss", "score", title=task)
    for row in rows:
        numbers = f"{row['seconds']:.1f}", f"{row['speedup']:.2f}", f"{row['loss']:.4f}", f"{row['score']:.2f}"
        shown.add_row(str(row["processes"]), str(row["threads"]), *numbers)
    return shown
