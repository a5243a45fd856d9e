"""Trainings that go on where they were killed: everything that the next epoch depends on, in one file."""

import hashlib
import io
import os
import time
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from gnnlib._files import atomic_write

__all__ = ["Checkpoint", "random_state", "set_random_state"]


class Checkpoint:
    """A file that holds the state of a training (`gnnlib.training.fit`), written after each epoch, whole or not at all.

    It begins with its SHA-256 checksum. A file that does not match it, or is of another origin, is named in a warning,
    kept beside under another name, and the training starts anew. Reading makes tensors, numbers and text, and nothing
    else (``torch.load(weights_only=True)``).

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
        content = self.path.read_bytes()
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
        aside = self.path.with_name(f"{self.path.name}.old")
        os.replace(self.path, aside)
        warnings.warn(f"{self.path} is {why}; kept as {aside.name}, starting anew", stacklevel=3)

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)


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
