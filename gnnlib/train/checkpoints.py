"""Checkpoints of a training: one file with the whole state that the next epoch depends on."""

import copy
import hashlib
import io
import json
import logging
import os
import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gnnlib._utils.calls import names_checked
from gnnlib._utils.files import atomic_write, remove_parts, set_aside
from gnnlib.train import distributed

__all__ = ["Checkpoint", "TrainingState", "random_state", "set_random_state"]

logger = logging.getLogger("gnnlib.train")


@names_checked()
class Checkpoint:
    """A file with the state of a training (`gnnlib.train.fit`), written atomically after each epoch.

    The file begins with its SHA-256 checksum, and holds what is trained and how: the shapes of the parameters, the
    class and settings of optimizer and scheduler, the loss, clipping and precision. A file that is damaged, unreadable,
    of another origin or of another training is renamed with a warning that says what differs, and the training starts
    again. Resuming is reported by the logger "gnnlib.train". More epochs than in the file continue it. Reading yields
    tensors, numbers and text only (``torch.load(weights_only=True)``).

    Args:
        path: of the file
        origin: description of what `fit` does not see (data, arguments, code, versions), a text or a dictionary; a
            file of another origin is not used

    Raises:
        OSError: on writing, if the disk is full; the old file stays

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from gnnlib.train import Checkpoint
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     checkpoint = Checkpoint(Path(folder) / "run.checkpoint", origin="GCN, seed 0")
        ...     checkpoint.read()
        ...     checkpoint.write({"epoch": 3})
        ...     checkpoint.read()
        {'epoch': 3}
    """

    def __init__(self, path: str | os.PathLike[str], *, origin: str | Mapping[str, Any] = ""):
        if not isinstance(path, (str, os.PathLike)):
            raise TypeError(f"Checkpoint: expected the path of a file, 'runs/gcn.checkpoint', got {path!r}")
        if Path(path).is_dir():
            raise ValueError(f"Checkpoint: expected a file, {Path(path) / 'run.checkpoint'}, got the folder {path}")
        self.path, self.origin = Path(path), origin if isinstance(origin, str) else json.dumps(origin, sort_keys=True)
        self._start = time.monotonic()

    def beside(self, name: str) -> "Checkpoint":
        """The checkpoint of another training for the same result, such as a teacher's."""
        return Checkpoint(self.path.with_stem(f"{self.path.stem}-{name}"), origin=self.origin)

    @property
    def seconds(self) -> float:
        """Duration of the training, including the time before an interruption but not the interruption itself."""
        return time.monotonic() - self._start

    def write(self, state: dict[str, Any], settings: Mapping[str, str] | None = None) -> None:
        """Replaces the file.

        Args:
            state: tensors, numbers and text
            settings: what is trained and how
        """
        content = io.BytesIO()
        header = {"origin": self.origin, "settings": dict(settings or {}), "seconds": self.seconds}
        torch.save({**header, "state": state}, content)
        with atomic_write(self.path) as part:
            part.write_bytes(hashlib.sha256(content.getbuffer()).digest() + content.getbuffer())

    def read(self, settings: Mapping[str, str] | None = None) -> dict[str, Any] | None:
        """The last state that was written; None if there is none, or none of this origin and these settings.

        Args:
            settings: what is trained and how
        """
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
        try:
            saved = torch.load(io.BytesIO(content[32:]), map_location="cpu", weights_only=True)
            seconds, state = float(saved["seconds"]), dict(saved["state"])
            changes = _changes(saved["origin"], self.origin) or _differences(saved.get("settings", {}), settings or {})
        except Exception as error:  # of another program; torch raises many types
            self._set_aside(f"of another format ({str(error).partition(chr(10))[0][:200]})")
            return None
        if changes:
            self._set_aside(f"of another training ({changes})")
            return None
        self._start -= seconds
        return state

    def _set_aside(self, reason: str) -> None:
        aside = set_aside(self.path, self.path.with_name(f"{self.path.name}.old"))
        warnings.warn(f"{self.path} is {reason}; kept as {aside.name}, starting again", stacklevel=3)

    def remove(self) -> None:
        """Deletes the file, and the partial files of processes killed while writing it."""
        self.path.unlink(missing_ok=True)
        remove_parts(self.path)


def _changes(saved: str, origin: str) -> str:
    """What differs between two origins: entries, where both are dictionaries in JSON."""
    try:
        pair = json.loads(saved), json.loads(origin)
    except ValueError:
        pair = saved, origin
    if saved == origin or not all(isinstance(value, dict) for value in pair):
        return "" if saved == origin else f"{saved!r}, expected {origin!r}"
    return _differences(*pair)


def _differences(saved: Mapping[str, Any], settings: Mapping[str, Any], limit: int = 3) -> str:
    names = [name for name in {**saved, **settings} if saved.get(name) != settings.get(name)]
    texts = [f"{name} is {saved.get(name)}, expected {settings.get(name)}" for name in names[:limit]]
    return "; ".join(texts + [f"and {len(names) - limit} more"] * (len(names) > limit))


class TrainingState:
    """The records of a training, the weights of its best epoch, and, in a checkpoint, the whole state for resuming it.

    If the checkpoint has epochs already, their state is loaded: into ``model``, ``parts`` and the random number
    generators. With several processes (`gnnlib.train.distributed`) only the first one reads and writes.

    Args:
        model: whose best weights are stored
        parts: other objects with a state, such as optimizer and scheduler; None values are ignored
        checkpoint: written by each `add`
        generators: as for `gnnlib.train.fit`
        settings: what is trained and how; a checkpoint of other settings is not used

    Raises:
        ValueError: for a checkpoint with other parts

    Example:
        >>> from torch import nn
        >>> from gnnlib.train.checkpoints import TrainingState
        >>> state = TrainingState(nn.Linear(1, 1))
        >>> for epoch, score in enumerate([3.0, 5.0, 4.0], 1):
        ...     state.add({"epoch": epoch}, score)
        >>> len(state.records), state.epochs_since_best
        (3, 1)
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        parts: Mapping[str, Any] | None = None,
        checkpoint: Checkpoint | None = None,
        generators: Sequence[torch.Generator] = (),
        settings: Mapping[str, str] | None = None,
    ):
        self.model, self.generators, self.settings = model, generators, settings
        self.checkpoint = checkpoint if distributed.rank() == 0 else None
        self.parts = {"model": model, **{name: part for name, part in (parts or {}).items() if part is not None}}
        self.records: list[dict[str, float]] = []
        self.best: tuple[Any, int, dict[str, Any]] | None = None  # the score, the epoch, the weights
        state = distributed.broadcast_object(None if self.checkpoint is None else self.checkpoint.read(settings))
        if state is not None:
            if missing := sorted({*self.parts, "random", "records", "best"} - state.keys()):
                got = ", ".join(sorted(state))
                raise ValueError(f"{checkpoint and checkpoint.path}: expected {', '.join(missing)}, got {got}")
            if self.checkpoint is not None:
                logger.warning("%s: resuming after epoch %d", self.checkpoint.path, len(state["records"]))
            for name, part in self.parts.items():
                part.load_state_dict(state[name])
            set_random_state(state["random"], generators)
            self.records, self.best = state["records"], state["best"]

    @property
    def best_epoch(self) -> int | None:
        """The epoch of the best score; None if no epoch has a score."""
        return None if self.best is None else self.best[1]

    @property
    def epochs_since_best(self) -> int:
        """Number of epochs after the best one; 0 if no epoch has a score."""
        return 0 if self.best is None else len(self.records) - self.best[1]

    def add(self, record: dict[str, float], score: Any = None) -> None:
        """Appends an epoch, and stores the weights if its score is the best so far.

        Args:
            record: of the epoch
            score: higher is better; None: the epoch has none
        """
        record, score = _plain(record), _plain(score)
        self.records.append(record)
        if score is not None and (self.best is None or score > self.best[0]):
            self.best = score, len(self.records), copy.deepcopy(self.model.state_dict())
        if self.checkpoint is not None:
            states = {name: part.state_dict() for name, part in self.parts.items()}
            random = random_state(self.generators)
            content = {**states, "random": random, "records": self.records, "best": self.best}
            self.checkpoint.write(content, self.settings)

    def restore_best(self) -> None:
        """Loads the weights of the best epoch; the last ones stay if no epoch has a score."""
        if self.best is not None:
            self.model.load_state_dict(self.best[2])


def _plain(value: Any) -> Any:
    """Numbers of NumPy and PyTorch as Python's, which a checkpoint can hold, in dictionaries, lists and tuples too."""
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map(_plain, value))
    return value.item() if isinstance(value, np.generic | Tensor) and value.ndim == 0 else value


def random_state(generators: Iterable[torch.Generator] = ()) -> dict[str, Any]:
    """States of PyTorch's random number generators, on the CPU, on all GPUs in use, and of further generators.

    Example:
        >>> import torch
        >>> from gnnlib.train.checkpoints import random_state, set_random_state
        >>> state = random_state()
        >>> first = torch.rand(1)
        >>> set_random_state(state)
        >>> bool(first == torch.rand(1))
        True
    """
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    return {"cpu": torch.get_rng_state(), "cuda": cuda, "generators": [g.get_state() for g in generators]}


def set_random_state(state: dict[str, Any], generators: Iterable[torch.Generator] = ()) -> None:
    """Restores the states of `random_state`.

    Raises:
        ValueError: for another number of generators
    """
    torch.set_rng_state(state["cpu"])
    if state["cuda"]:
        torch.cuda.set_rng_state_all(state["cuda"])
    for generator, generator_state in zip(generators, state["generators"], strict=True):
        generator.set_state(generator_state)
