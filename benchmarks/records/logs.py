"""A training's epochs as they happen: lines of JSON, and curves in TensorBoard."""

import json
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from gnnlib._utils.files import atomic_write, naming
from gnnlib.benchmarks.errors import UsageError


class Log:
    """``log.jsonl`` beside a layer's result: a line for each epoch of each seed, ``{"seed": 0, "epoch": 1, "loss": ...,
    "when": ...}``, written when the epoch is over.

    A training that goes on gives the epochs before its break again: their lines stay, and each epoch has one. Those of
    a training that starts anew are taken out.

    Args:
        folder: of the layer's results
        seed: whose epochs follow
        curves: a TensorBoard event file of the same figures too, below ``folder/tensorboard/seed-N``
    """

    def __init__(self, folder: Path, seed: int, curves: bool = False):
        self.path, self.seed = folder / "log.jsonl", seed
        lines = [line for line in map(_read, _lines(self.path)) if line is not None]
        self.before = {line["epoch"]: line for line in lines if line["seed"] == seed}
        with atomic_write(self.path) as part:
            part.write_text("".join(_text(line) for line in lines if line["seed"] != seed))
        self.writer = _writer(folder / "tensorboard" / f"seed-{seed}") if curves else None

    def __call__(self, record: dict[str, float]) -> None:
        line = {"seed": self.seed, **record}
        old = self.before.get(record["epoch"], {})
        if old != {**line, "when": old.get("when")}:
            old = {**line, "when": datetime.now(timezone.utc).isoformat(timespec="seconds")}
        with naming(self.path), self.path.open("a") as file:
            file.write(_text(old))
        if self.writer is not None:
            for name, value in record.items():
                self.writer.add_scalar(name, value, record["epoch"])
            self.writer.flush()


def _lines(path: Path) -> list[str]:
    return path.read_text(errors="replace").splitlines() if path.exists() else []


def _read(text: str) -> dict[str, Any] | None:
    """None for a line that was broken off."""
    try:
        line = json.loads(text)
    except ValueError:
        return None
    return line if isinstance(line, dict) and {"seed", "epoch"} <= line.keys() else None


def _text(line: dict[str, Any]) -> str:
    return json.dumps(line) + "\n"


def check_tensorboard() -> None:
    """Raises: UsageError where TensorBoard is not installed."""
    try:
        import torch.utils.tensorboard  # noqa: F401
    except ImportError as error:
        raise UsageError(f"--tensorboard: expected tensorboard to be installed ({error})") from error


def _writer(folder: Path) -> Any:
    """What was there is of the same epochs."""
    from torch.utils.tensorboard import SummaryWriter

    for path in folder.glob("events.*"):
        path.unlink()
    return SummaryWriter(str(folder))
