"""The request of ``run``, and its checks."""

import os
import shlex
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from gnnlib.benchmarks.catalog.layers import choices
from gnnlib.benchmarks.errors import UsageError
from gnnlib.benchmarks.options import RESULTS, module, options_of, program
from gnnlib.benchmarks.records.logs import check_tensorboard
from gnnlib.benchmarks.request import Request, check_device
from gnnlib.benchmarks.tasks import Options, Task
from gnnlib.benchmarks.tasks.base import SCHEDULES
from gnnlib.train.distributed import world_size
from gnnlib.train.loop import PRECISIONS


@dataclass(frozen=True, kw_only=True)
class RunRequest(Options, Request):
    """The tasks of ``run`` and how they are run."""

    COMMAND: ClassVar[str] = "run"

    tasks: Sequence[str]
    layers: Sequence[str] | None = None
    seeds: int | None = None
    out: Path = RESULTS
    fresh: bool = False
    save: bool = False  # the best seed's model
    tensorboard: bool = False

    def command_of(self, task: str) -> str:
        """The command line for one task: with several processes for ``torchrun``, or for each host of a graph in parts.

        >>> from pathlib import Path
        >>> from gnnlib.benchmarks.runner.request import RunRequest
        >>> RunRequest(tasks=["cora"], layers=["gcn", "gat"], data=Path("/mine"), epochs=5).command_of("cora")
        'python -m benchmarks run cora --layers gcn,gat --epochs 5 --data DIR'
        """
        if os.environ.get("DGL_DIST_MODE") == "distributed":
            return shlex.join(
                [*program().split(), "host", "--addresses", "A,B", "DIR", *self.words(tasks=[], data=None)]
            )
        start = program().split()
        if world_size() > 1:
            here = int(os.environ.get("LOCAL_WORLD_SIZE", world_size()))
            hosts = ["--nnodes", str(world_size() // here)] if world_size() > here else []
            start = ["torchrun", *hosts, "--nproc-per-node", str(here), "-m", module()]
        return shlex.join([*start, self.COMMAND, *self.words(tasks=[task])])


def check(request: RunRequest, tasks: Sequence[Task]) -> None:
    """Checks what can be checked before any data are read.

    Raises:
        UsageError: for options that are invalid, or that a task does not take
    """
    for task in tasks:
        layers = choices(task.extra_layers)
        for name in request.layers or ():
            if name not in layers:
                raise UsageError(f"unknown layer {name!r}; expected one of: {', '.join(layers)}")
    for option in options_of("run"):
        value = getattr(request, option.field, None)
        if option.minimum is not None and value is not None and value < option.minimum:
            raise UsageError(f"{option.flag}: expected {option.minimum} or more, got {value}")
    for task in tasks:
        _check_task(request, task)
    if request.clip is not None and not request.clip > 0:
        raise UsageError(f"--clip: expected a norm above 0, got {request.clip}")
    if request.precision is not None and request.precision not in PRECISIONS:
        raise UsageError(f"--precision: expected {' or '.join(PRECISIONS)}, got {request.precision!r}")
    if request.tensorboard:
        check_tensorboard()
    if request.data is not None and not request.data.is_dir():
        raise UsageError(f"--data: expected a directory, {request.data} is none")
    check_device(request.device)
    _check_writable(request.out)


def _check_task(request: RunRequest, task: Task) -> None:
    """Whether the task takes the options."""
    if task.max_seeds is not None and (request.seeds or 0) > task.max_seeds:
        raise UsageError(f"--seeds: {task.name} has {task.max_seeds} folds, got {request.seeds}")
    if world_size() > 1 and not task.sharded:
        raise UsageError(f"{task.name} trains on everything at once: expected one process, got {world_size()}")
    for name, supported, reason in (
        ("clip", task.one_model, "trains otherwise than one network a seed"),
        ("precision", task.one_model, "trains otherwise than one network a seed"),
        ("save", task.one_model, "trains otherwise than one network a seed"),
        ("limit", task.limited, "is always run whole"),
        ("patience", task.validates, "does not choose its epoch on validation"),
    ):
        value = getattr(request, name)
        if value not in (None, False) and not supported:
            raise UsageError(f"--{name}: {task.name} {reason}, got {value}")
    if request.remedy is not None and task.remedy is None:
        raise UsageError(f"--remedy: {task.name} has none to choose, got {request.remedy!r}")
    for name, values in (
        ("schedule", tuple(SCHEDULES) if task.schedule else ()),
        ("mode", task.modes),
        ("labels", task.label_uses),
        ("decoder", task.decoders),
        ("negatives", task.negatives),
        ("scores", task.pair_scores),
        ("recipe", task.image_recipes),
    ):
        value = getattr(request, name)
        for part in [] if value is None else value.split("+") if name in ("labels", "scores") else [value]:
            if part not in values:
                expected = f"one of {', '.join(values)}" if values else "none"
                raise UsageError(f"--{name}: expected {expected} for {task.name}, got {part!r}")


def _check_writable(out: Path) -> None:
    """Tries the nearest folder that is there, so that bad input leaves no new one behind."""
    nearest = next(path for path in (out, *out.absolute().parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=nearest):
            pass
    except OSError as error:
        raise UsageError(
            f"--out: expected a folder that can be written, got {out} ({nearest}: {error.strerror})"
        ) from error
