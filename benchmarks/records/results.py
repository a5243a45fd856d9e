"""Results on disk: one ``result.json`` for each layer of a run, written whole or not at all."""

import hashlib
import json
import os
import platform
import subprocess
import sys
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from gnnlib._utils.files import atomic_write, remove_parts, set_aside
from gnnlib.benchmarks.metrics import mean_std
from gnnlib.train.checkpoints import Checkpoint


@dataclass
class Outcome:
    """What one seed gave."""

    score: float
    parameters: int
    validation: float | None = None
    curve: dict[str, list[float]] = field(default_factory=dict)
    confusion: list[list[int]] | None = None
    seconds: float = 0.0
    figures: dict[str, float] = field(default_factory=dict)  # what else was measured, by name
    attributions: dict[str, np.ndarray] = field(
        default_factory=dict, compare=False
    )  # at the task's samples: `attribution_maps`
    model: nn.Module | None = field(default=None, compare=False)  # as trained, where the task is `Task.one_model`


@dataclass
class Store:
    """The results of one layer in one run: read what is there, add a seed, write it back.

    A seed counts as done when it was run with the same arguments, code and versions. A result of other
    origin is kept beside the new one under the name of its commit.
    """

    folder: Path
    header: dict[str, Any]  # task, layer, arguments, versions, commit, metric, published, command, ...
    outcomes: dict[int, Outcome] = field(default_factory=dict)

    ORIGIN = ("task", "layer", "arguments", "versions", "commit")

    @property
    def path(self) -> Path:
        return self.folder / "result.json"

    @property
    def model(self) -> Path:
        return self.folder / "model"

    def open(self, fresh: bool = False) -> None:
        for path in self.folder.glob("seed-*.checkpoint") if fresh else ():
            path.unlink()
        if not self.path.exists():
            return
        try:
            old = json.loads(self.path.read_text())
            other = [key for key in self.ORIGIN if old[key] != self.header[key]]
            pairs = zip(old["outcomes"].items(), old["curves"], strict=True)
            done = {int(seed): Outcome(**{**o, "curve": curve}) for (seed, o), curve in pairs}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            aside = self._set_aside("damaged")
            print(f"{self.path} is damaged ({error}); kept as {aside.name}, starting anew", file=sys.stderr)
            return
        if not other and not fresh:
            self.outcomes = done
            return
        aside = self._set_aside(str(old["commit"]))
        why = f"other {', '.join(other)}" if other else "--fresh"
        print(f"{self.path} ({why}) is kept as {aside.name}, starting anew", file=sys.stderr)

    def _set_aside(self, why: str) -> Path:
        (self.folder / "attributions.npz").unlink(missing_ok=True)
        tag = "".join(c for c in why if c.isalnum() or c in "-_")
        for path in (self.folder / "log.jsonl", self.model):
            if path.exists():
                set_aside(path, path.with_stem(f"{path.stem}-{tag}"))
        return set_aside(self.path, self.path.with_stem(f"{self.path.stem}-{tag}"))

    def checkpoint(self, seed: int) -> Checkpoint:
        """Where a seed's training is kept until its result is: it counts on the same terms."""
        origin = json.dumps({key: self.header[key] for key in self.ORIGIN})
        return Checkpoint(self.folder / f"seed-{seed}.checkpoint", origin=origin)

    def add(self, seed: int, outcome: Outcome, values: list[float] | None = None) -> None:
        """The result with one seed more; the attributions of the first seed goes into ``attributions.npz``."""
        self.outcomes[seed] = outcome
        if outcome.attributions and seed == min(self.outcomes):
            with atomic_write(self.folder / "attributions.npz") as partial:
                np.savez_compressed(partial, **outcome.attributions)  # type: ignore[arg-type]
        with atomic_write(self.path) as partial:
            partial.write_text(json.dumps(self.document(values), indent=1) + "\n")
        self.checkpoint(seed).remove()
        for path in (self.path, self.folder / "log.jsonl"):
            remove_parts(path)
        outcome.model = None  # makes room for the next

    def document(self, values: list[float] | None = None) -> dict[str, Any]:
        """``values`` replaces the seeds' own scores where the protocol chooses an epoch for all of them together."""
        seeds = sorted(self.outcomes)
        outcomes = [self.outcomes[s] for s in seeds]
        values = values if values is not None else [o.score for o in outcomes]
        validation = [o.validation for o in outcomes]
        matrices = [o.confusion for o in outcomes if o.confusion is not None]
        mean, std = mean_std(values)
        return {
            **self.header,
            "seeds": seeds,
            "metric": {**self.header["metric"], "values": values, "mean": mean, "std": std},
            "validation": None if None in validation else {"values": validation},
            "parameters": outcomes[0].parameters,
            "seconds": sum(o.seconds for o in outcomes),
            "when": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "curves": [o.curve for o in outcomes],
            "confusion": [[sum(c) for c in zip(*rows, strict=True)] for rows in zip(*matrices, strict=True)] or None,
            "figures": _figures(outcomes),
            "outcomes": {str(s): _written(self.outcomes[s]) for s in seeds},
        }


def keep_aside(path: Path, why: str) -> None:
    """Renames a file of which no use can be made, and says so."""
    aside = set_aside(path, path)
    print(f"{path} {why}; kept as {aside.name}, starting anew", file=sys.stderr)


def _written(outcome: Outcome) -> dict[str, Any]:
    return {name: value for name, value in vars(outcome).items() if name not in ("curve", "attributions", "model")}


def _figures(outcomes: list[Outcome]) -> dict[str, dict[str, Any]] | None:
    """Values, mean and deviation of each figure that all seeds have."""
    names = [name for name in outcomes[0].figures if all(name in o.figures for o in outcomes)]
    values = {name: [o.figures[name] for o in outcomes] for name in names}
    return {name: {"values": v, **dict(zip(("mean", "std"), mean_std(v)))} for name, v in values.items()} or None


def versions() -> dict[str, str]:
    import numba
    import torch

    import gnnlib
    from gnnlib._platform.dgl import dgl

    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "dgl": dgl.__version__,
        "numba": numba.__version__,
        "gnnlib": gnnlib.__version__,
    }


CHECKOUT = Path(__file__).parents[3]  # of gnnlib/benchmarks/records/results.py; site-packages where it is installed


def commit(top: Path = CHECKOUT) -> str | None:
    """The checkout's commit; where files differ from it, with "-dirty-" and a digest of the code. None outside git."""
    if not (top / ".git").exists():  # installed, perhaps inside a repository of the user
        return None

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=top, capture_output=True, text=True, check=True).stdout.strip()

    try:
        head, changed = git("rev-parse", "--short=12", "HEAD"), git("status", "--porcelain", "-uno")
    except (OSError, subprocess.CalledProcessError):
        return None
    return f"{head}-dirty-{_code(top)}" if changed else head


def _code(top: Path) -> str:
    """A short digest of all code that a figure may depend on."""
    files = sorted(file for name in ("benchmarks", "datasets", "gnnlib") for file in (top / name).rglob("*.py"))
    parts = [f"{file.relative_to(top)}\0".encode() + file.read_bytes() for file in files]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:8]


def machine(device: str = "cpu") -> str:
    """What a figure was made on: processor, memory, threads, and the GPU where there is one in use."""
    import torch

    gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    parts = [f"{os.cpu_count()} cores ({_processor()})", f"{gib:.0f} GiB", f"{torch.get_num_threads()} threads"]
    if device.startswith("cuda"):
        parts.append(torch.cuda.get_device_name(device))
    return ", ".join([*parts, platform.system()])


def _processor() -> str:
    """Its name as Linux tells it, else the kind of processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return next(filter(None, [*names, platform.processor(), platform.machine()]))
