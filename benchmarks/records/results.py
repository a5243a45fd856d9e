"""The result of one layer in one run, ``result.json``, and its provenance: versions, commit, machine."""

import hashlib
import json
import os
import platform
import subprocess
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from gnnlib._utils.files import atomic_write, remove_parts, set_aside
from gnnlib.benchmarks.metrics import mean_std
from gnnlib.benchmarks.records.store import Store, keep_aside
from gnnlib.train.checkpoints import Checkpoint


@dataclass
class Outcome:
    """The outcome of one seed."""

    score: float
    parameters: int
    validation: float | None = None
    curve: dict[str, list[float]] = field(default_factory=dict)
    confusion: list[list[int]] | None = None
    seconds: float = 0.0
    figures: dict[str, float] = field(default_factory=dict)  # further measurements, by name
    attributions: dict[str, np.ndarray] = field(default_factory=dict, compare=False)  # of the task's samples
    model: nn.Module | None = field(default=None, compare=False)  # the trained model, if the task trains one


class ResultStore(Store[int, Outcome]):
    """The outcomes of one layer in one run, by seed, in ``result.json``.

    A seed is done if it was run with the same arguments, code and versions. A result of another origin is set aside
    under the name of its commit, with its model and its log.

    Args:
        folder: of the layer's results
        header: task, layer, arguments, versions, commit, metric, published, command, ...
    """

    ORIGIN = ("task", "layer", "arguments", "versions", "commit")

    def __init__(self, folder: Path, header: dict[str, Any]):
        super().__init__(folder / "result.json", {name: header[name] for name in self.ORIGIN})
        self.path: Path = folder / "result.json"
        self.folder, self.header = folder, header
        self.scores: list[float] | None = None

    @property
    def model(self) -> Path:
        """The folder of the saved model."""
        return self.folder / "model"

    def open(self, fresh: bool = False) -> None:
        """Continues the results of the folder; with ``fresh`` sets them aside."""
        for checkpoint in self.folder.glob("seed-*.checkpoint") if fresh else ():
            checkpoint.unlink()
        self.read()
        if fresh and self.path.exists():
            self.set_aside(self.path, "is replaced (--fresh)")
            self.entries = {}

    def set_aside(self, path: Path, reason: str) -> None:
        (self.folder / "attributions.npz").unlink(missing_ok=True)
        tag = "damaged" if reason.startswith("is damaged") else str(json.loads(path.read_text())["commit"])
        tag = "".join(c for c in tag if c.isalnum() or c in "-_")
        for companion in (self.folder / "log.jsonl", self.model):
            if companion.exists():
                set_aside(companion, companion.with_stem(f"{companion.stem}-{tag}"))
        keep_aside(path, reason, tag)

    def checkpoint(self, seed: int) -> Checkpoint:
        """The checkpoint of a seed's training, which is valid under the same conditions as its result."""
        return Checkpoint(self.folder / f"seed-{seed}.checkpoint", origin=json.dumps(self.origin))

    def add(self, seed: int, outcome: Outcome, scores: list[float] | None = None) -> None:
        """Adds a seed; the attributions of the first seed go into ``attributions.npz``.

        Args:
            seed: number of the seed
            outcome: its outcome, whose model is dropped afterwards
            scores: of all seeds, where the protocol chooses an epoch for all of them together
        """
        self.scores = scores
        if outcome.attributions and seed == min({seed, *self.entries}):
            with atomic_write(self.folder / "attributions.npz") as part:
                np.savez_compressed(part, **outcome.attributions)  # type: ignore[arg-type]
        super().add(seed, outcome)
        self.checkpoint(seed).remove()
        for path in (self.path, self.folder / "log.jsonl"):
            remove_parts(path)
        outcome.model = None  # makes room for the next

    def document(self) -> dict[str, Any]:
        seeds = sorted(self.entries)
        outcomes = [self.entries[s] for s in seeds]
        scores = self.scores if self.scores is not None else [o.score for o in outcomes]
        validation = [o.validation for o in outcomes]
        matrices = [o.confusion for o in outcomes if o.confusion is not None]
        mean, std = mean_std(scores)
        return {
            **self.header,
            "seeds": seeds,
            "metric": {**self.header["metric"], "values": scores, "mean": mean, "std": std},
            "validation": None if None in validation else {"values": validation},
            "parameters": outcomes[0].parameters,
            "seconds": sum(o.seconds for o in outcomes),
            "when": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "curves": [o.curve for o in outcomes],
            "confusion": [[sum(c) for c in zip(*rows, strict=True)] for rows in zip(*matrices, strict=True)] or None,
            "figures": _figures(outcomes),
            "outcomes": {str(s): _encode(self.entries[s]) for s in seeds},
        }

    def decode(self, document: dict[str, Any]) -> dict[int, Outcome]:
        pairs = zip(document["outcomes"].items(), document["curves"], strict=True)
        outcomes = {int(seed): Outcome(**{**fields, "curve": curve}) for (seed, fields), curve in pairs}
        for seed, outcome in outcomes.items():
            numbers = outcome.score, outcome.parameters, outcome.seconds, *outcome.figures.values()
            if not all(isinstance(number, (int, float)) for number in numbers) or not isinstance(outcome.curve, dict):
                raise ValueError(f"seed {seed}: expected numbers and a curve, got {numbers}")
        return outcomes


def _encode(outcome: Outcome) -> dict[str, Any]:
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
    from gnnlib._platform.dgl import HAS_DGL, dgl

    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "dgl": dgl.__version__ if HAS_DGL else "none",
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
