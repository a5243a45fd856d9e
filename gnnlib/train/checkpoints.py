"""Trainings that go on where they were killed: everything that the next epoch depends on, in one file."""

import copy
import hashlib
import io
import os
import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from gnnlib._utils.files import atomic_write, remove_parts, set_aside
from gnnlib.train import distributed

__all__ = ["Checkpoint", "History", "random_state", "set_random_state"]


class Checkpoint:
    """A file that holds the state of a training (`gnnlib.train.loop.fit`), written after each epoch, whole or not at
    all.

    It begins with its SHA-256 checksum. A file that does not match it, is of another origin or cannot be read is named
    in a warning, kept beside under another name, and the training starts anew. Reading makes tensors, numbers and text,
    and nothing else (``torch.load(weights_only=True)``). Where the disk is full, writing raises OSError and the file
    stays as it was.

    Args:
        path: of the file
        origin: what the training is: its arguments, code, versions; a file of another one does not count

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     checkpoint = Checkpoint(Path(folder) / "run.checkpoint", origin="GCN, seed 0")
    ...     checkpoint.read()
    ...     checkpoint.write({"epoch": 3})
    ...     checkpoint.read()
    {'epoch': 3}
    """

    def __init__(self, path: str | os.PathLike[str], origin: str = ""):
        self.path, self.origin = Path(path), origin
        self._began = time.monotonic()

    def beside(self, name: str) -> "Checkpoint":
        """That of another training for the same result: of a teacher, say."""
        return Checkpoint(self.path.with_stem(f"{self.path.stem}-{name}"), self.origin)

    @property
    def seconds(self) -> float:
        """That the training has taken, before its breaks too; what a break cost it counts as nothing."""
        return time.monotonic() - self._began

    def write(self, state: dict[str, Any]) -> None:
        content = io.BytesIO()
        torch.save({"origin": self.origin, "seconds": self.seconds, "state": state}, content)
        with atomic_write(self.path) as part:
            part.write_bytes(hashlib.sha256(content.getbuffer()).digest() + content.getbuffer())

    def read(self) -> dict[str, Any] | None:
        """The state that was last written; None where there is none, or none of this origin."""
        if not self.path.exists():
            return None
        try:
            content = self.path.read_bytes()
        except OSError as error:
            self._set_aside(f"unreadable ({error.strerror})")
            return None
        if hashlib.sha256(content[32:]).digest() != content[:32]:
            self._set_aside("damaged")
            return None
        found = torch.load(io.BytesIO(content[32:]), map_location="cpu", weights_only=True)
        if found["origin"] != self.origin:
            self._set_aside(f"of another training ({found['origin']!r}, expected {self.origin!r})")
            return None
        self._began -= found["seconds"]
        return found["state"]

    def _set_aside(self, why: str) -> None:
        aside = set_aside(self.path, self.path.with_name(f"{self.path.name}.old"))
        warnings.warn(f"{self.path} is {why}; kept as {aside.name}, starting anew", stacklevel=3)

    def remove(self) -> None:
        """With what a process that was killed while it wrote has left."""
        self.path.unlink(missing_ok=True)
        remove_parts(self.path)


class History:
    """What a training has come to: the records of its epochs, the weights of the best, and, in a checkpoint, all that
    the next epoch depends on. One that is there already is gone on from: ``parts`` and random numbers become as they
    were.

    Of several processes (`gnnlib.train.distributed`) the first alone reads and writes.

    Args:
        model: whose weights are kept
        parts: what else has a state: optimizer, scheduler; None is left out
        checkpoint: written by each `add`
        generators: as `gnnlib.train.loop.fit` takes them

    Raises: RuntimeError or ValueError for the checkpoint of another model or optimizer.

    >>> model = nn.Linear(1, 1)
    >>> history = History(model)
    >>> for epoch, score in enumerate([3.0, 5.0, 4.0], 1):
    ...     history.add({"epoch": epoch}, score)
    >>> len(history.records), history.epochs_since_best
    (3, 1)
    """

    def __init__(
        self,
        model: nn.Module,
        parts: Mapping[str, Any] | None = None,
        checkpoint: Checkpoint | None = None,
        generators: Sequence[torch.Generator] = (),
    ):
        self.model, self.generators = model, generators
        self.checkpoint = checkpoint if distributed.rank() == 0 else None
        self.parts = {"model": model, **{name: part for name, part in (parts or {}).items() if part is not None}}
        self.records: list[dict[str, float]] = []
        self.best: tuple[Any, int, dict[str, Any]] | None = None  # the score, the epoch, the weights
        kept = distributed.broadcast_object(None if self.checkpoint is None else self.checkpoint.read())
        if kept is not None:
            for name, part in self.parts.items():
                part.load_state_dict(kept[name])
            set_random_state(kept["random"], generators)
            self.records, self.best = kept["records"], kept["best"]

    @property
    def epochs_since_best(self) -> int:
        """0 where no epoch has a score."""
        return 0 if self.best is None else len(self.records) - self.best[1]

    def add(self, record: dict[str, float], score: Any = None) -> None:
        """An epoch more; with a score above the best one, its weights are the best."""
        self.records.append(record)
        if score is not None and (self.best is None or score > self.best[0]):
            self.best = score, len(self.records), copy.deepcopy(self.model.state_dict())
        if self.checkpoint is not None:
            states = {name: part.state_dict() for name, part in self.parts.items()}
            random = random_state(self.generators)
            self.checkpoint.write({**states, "random": random, "records": self.records, "best": self.best})

    def restore_best(self) -> None:
        """The best weights are put back; the last ones stay where no epoch has a score."""
        if self.best is not None:
            self.model.load_state_dict(self.best[2])


def random_state(generators: Iterable[torch.Generator] = ()) -> dict[str, Any]:
    """Where PyTorch's random numbers are, on the CPU, on all GPUs in use, and of further generators.

    >>> state = random_state()
    >>> first = torch.rand(1)
    >>> set_random_state(state)
    >>> bool(first == torch.rand(1))
    True
    """
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    return {"cpu": torch.get_rng_state(), "cuda": cuda, "others": [g.get_state() for g in generators]}


def set_random_state(state: dict[str, Any], generators: Iterable[torch.Generator] = ()) -> None:
    """Raises: ValueError for another number of generators."""
    torch.set_rng_state(state["cpu"])
    if state["cuda"]:
        torch.cuda.set_rng_state_all(state["cuda"])
    for generator, one in zip(generators, state["others"], strict=True):
        generator.set_state(one)
