"""What a task is to the runner."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.layers import Geometry, Layer
from benchmarks.results import Outcome

OnEpoch = Callable[[dict[str, float]], None]


@dataclass(frozen=True)
class Options:
    """What the command line says about the data and the training; None takes the task's own value."""

    data: Path | None = None
    epochs: int | None = None
    limit: int | None = None
    device: str = "cpu"
    recipe: str | None = None  # of superpixels


class Task(ABC):
    """One data set with its protocol: `load` once, then `run` for each layer and seed."""

    name: ClassVar[str]
    summary: ClassVar[str]
    metric: ClassVar[str] = "test accuracy"
    layers: ClassVar[tuple[str, ...]]  # run when none are named
    own: ClassVar[tuple[Layer, ...]] = ()  # layers and networks that no other task has
    seeds: ClassVar[int] = 1
    max_seeds: ClassVar[int | None] = None  # where seeds are folds
    epochs: ClassVar[int]
    readout: ClassVar[str | None] = None
    limited: ClassVar[bool] = False  # whether --limit means something here
    image_recipes: ClassVar[tuple[str, ...]] = ()  # what --recipe may name, its own first
    data: str | None = None  # which data were loaded, where that is a choice
    geometry: Geometry = Geometry()
    classes: list[str] | None = None

    @abstractmethod
    def load(self, options: Options) -> None:
        """Read the data; whatever is missing or damaged raises here, before any training."""

    @abstractmethod
    def run(self, layer: Layer, seed: int, options: Options, on_epoch: OnEpoch) -> Outcome:
        """Train and test one model; the same seed gives the same figures."""

    @property
    def setting(self) -> str:
        """The task and its data: figures of one setting belong together."""
        return self.name if self.data is None else f"{self.name}-{self.data}"

    def num_epochs(self, layer: Layer, options: Options) -> int:
        return options.epochs or self.epochs

    def values(self, outcomes: Mapping[int, Outcome]) -> list[float] | None:
        """The figure of each seed where the protocol needs all seeds to tell; None: each seed's own score."""
        return None

    def samples(self) -> dict[str, np.ndarray]:
        """A few inputs for the report: image_0, pos_0, src_0, dst_0, label_0, title_0, image_1, ..."""
        return {}


def accuracy(outputs: Tensor, target: Tensor) -> float:
    """Percent."""
    return 100 * (outputs.argmax(-1) == target).double().mean().item()


def confusion(outputs: Tensor, target: Tensor, num_classes: int) -> list[list[int]]:
    """Rows: the true class; columns: the predicted one."""
    index = target * num_classes + outputs.argmax(-1)
    return torch.bincount(index.cpu(), minlength=num_classes**2).view(num_classes, num_classes).tolist()


def curve(records: list[dict[str, float]]) -> dict[str, list[float]]:
    """A training's records as one list for each figure."""
    return {key: [record[key] for record in records] for key in (records[0] if records else {})}


def count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def shuffled(num: int, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Mini-batches of row numbers in a random order."""
    yield from torch.randperm(num, generator=generator).split(size)
