"""What ``python -m benchmarks run`` was asked for, and whether that can be."""

import os
import shlex
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from gnnlib.benchmarks.catalog.layers import choices
from gnnlib.benchmarks.errors import UsageError
from gnnlib.benchmarks.records.logs import check_tensorboard
from gnnlib.benchmarks.tasks import Options, Task
from gnnlib.benchmarks.tasks.base import SCHEDULES
from gnnlib.train.distributed import world_size
from gnnlib.train.loop import PRECISIONS


@dataclass(frozen=True)
class Request:
    """The tasks and how to run them; None takes the task's own value."""

    tasks: Sequence[str]
    layers: Sequence[str] | None = None
    seeds: int | None = None
    out: Path = Path("results")
    fresh: bool = False
    save: bool = False  # the best seed's model
    tensorboard: bool = False
    options: Options = field(default_factory=Options)

    def command(self, task: str) -> str:
        """What to type for one of the tasks; the folders of this machine are left out.

        Where several processes train together, it is that for `torchrun`, or for each host of a graph in parts.

        >>> Request(["cora"], ["gcn", "gat"], options=Options(data=Path("/mine"), epochs=5)).command("cora")
        'python -m benchmarks run cora --layers gcn,gat --epochs 5 --data DIR'
        """
        words, data = _start(task), self.options.data or os.environ.get("GNNLIB_DATA")
        for flag, value in (
            ("--layers", ",".join(self.layers) if self.layers is not None else None),
            ("--seeds", self.seeds),
            ("--epochs", self.options.epochs),
            ("--limit", self.options.limit),
            ("--recipe", self.options.recipe),
            ("--remedy", self.options.remedy),
            ("--mode", self.options.mode),
            ("--labels", self.options.labels),
            ("--clip", self.options.clip),
            ("--precision", self.options.precision),
            ("--schedule", self.options.schedule),
            ("--patience", self.options.patience),
            ("--data", "DIR" if data and "host" not in words else None),
            ("--device", self.options.device if self.options.device != "cpu" else None),
        ):
            words += [flag, str(value)] if value is not None else []
        return shlex.join([*words, *(["--save"] if self.save else [])])


def _start(task: str) -> list[str]:
    """How this process was started."""
    if os.environ.get("DGL_DIST_MODE") == "distributed":
        return ["python", "-m", "benchmarks", "host", "--addresses", "A,B", "DIR"]
    run = ["-m", "benchmarks", "run", task]
    here = int(os.environ.get("LOCAL_WORLD_SIZE", world_size()))
    hosts = ["--nnodes", str(world_size() // here)] if world_size() > here else []
    return ["torchrun", *hosts, "--nproc-per-node", str(here), *run] if world_size() > 1 else ["python", *run]


def check(request: Request, tasks: Sequence[Task]) -> None:
    """Raises UsageError for what can be known to fail before any data are read."""
    options = request.options
    for task in tasks:
        layers = choices(task.own)
        for name in request.layers or ():
            if name not in layers:
                raise UsageError(f"unknown layer {name!r}; expected one of: {', '.join(layers)}")
    for flag, value, least in (
        ("--seeds", request.seeds, 1),
        ("--epochs", options.epochs, 1),
        ("--limit", options.limit, 2),  # one to train on, one held out
        ("--patience", options.patience, 1),
    ):
        if value is not None and value < least:
            raise UsageError(f"{flag}: expected {least} or more, got {value}")
    for task in tasks:
        if task.max_seeds is not None and (request.seeds or 0) > task.max_seeds:
            raise UsageError(f"--seeds: {task.name} has {task.max_seeds} folds, got {request.seeds}")
        if world_size() > 1 and not task.sharded:
            raise UsageError(f"{task.name} trains on everything at once: expected one process, got {world_size()}")
        for flag, given in (
            ("--clip", options.clip),
            ("--precision", options.precision),
            ("--save", request.save or None),
        ):
            if given is not None and not task.one_model:
                raise UsageError(f"{flag}: {task.name} trains otherwise than one network a seed, got {given}")
        if options.limit is not None and not task.limited:
            raise UsageError(f"--limit: {task.name} is always run whole, got {options.limit}")
        if options.patience is not None and not task.validates:
            raise UsageError(f"--patience: {task.name} does not choose its epoch on validation, got {options.patience}")
        if options.schedule is not None and (task.schedule is None or options.schedule not in SCHEDULES):
            some = ", ".join(SCHEDULES) if task.schedule else "none but its own"
            raise UsageError(f"--schedule: {task.name} knows {some}, got {options.schedule!r}")
        if options.remedy is not None and task.remedy is None:
            raise UsageError(f"--remedy: {task.name} has none to choose, got {options.remedy!r}")
        uses = options.labels.split("+") if options.labels is not None else []
        modes = [options.mode] if options.mode is not None else []
        for flag, names, there in (("--mode", modes, task.modes), ("--labels", uses, task.label_uses)):
            for each in names:
                if each not in there:
                    raise UsageError(f"{flag}: {task.name} knows {', '.join(there) or 'none'}, got {each!r}")
        if options.recipe is not None and options.recipe not in task.image_recipes:
            some = ", ".join(task.image_recipes) or "none"
            raise UsageError(f"--recipe: {task.name} knows {some}, got {options.recipe!r}")
    if options.clip is not None and not options.clip > 0:
        raise UsageError(f"--clip: expected a norm above 0, got {options.clip}")
    if options.precision is not None and options.precision not in PRECISIONS:
        raise UsageError(f"--precision: expected {' or '.join(PRECISIONS)}, got {options.precision!r}")
    if request.tensorboard:
        check_tensorboard()
    if options.data is not None and not options.data.is_dir():
        raise UsageError(f"--data: expected a directory, {options.data} is none")
    _check_device(options.device)
    _check_writable(request.out)


def _check_device(device: str) -> None:
    try:
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, ImportError) as error:
        there = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
        reason = str(error).splitlines()[0].split(". ")[0][:80]
        raise UsageError(f"--device: expected one of {', '.join(there)}, got {device!r} ({reason})") from error


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
