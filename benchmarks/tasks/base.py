"""The base of all tasks, and the options that they take."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from gnnlib._utils.model_state import evaluation_mode
from gnnlib.analysis.attribution import attention, saliency
from gnnlib.benchmarks.catalog.layers import Geometry, LayerSpec
from gnnlib.benchmarks.records.results import Outcome
from gnnlib.graph import edge_endpoints
from gnnlib.nn import GNNLayer
from gnnlib.train.checkpoints import Checkpoint
from gnnlib.train.distributed import shard
from gnnlib.train.loop import Batch, outputs_and_targets

OnEpoch = Callable[[dict[str, float]], None]
Records = list[dict[str, float]]  # one per epoch


def _warmup(optimizer: torch.optim.Optimizer, epochs: int) -> torch.optim.lr_scheduler.LRScheduler:
    """Linear warm-up for a tenth of the epochs, then a cosine down to 0 (Goyal et al. 2017, arXiv 1706.02677, section
    2.2; Loshchilov and Hutter 2017, arXiv 1608.03983, equation 5)."""
    rising = max(1, epochs // 10)

    def factor(epoch: int) -> float:
        falling = (epoch - rising) / max(1, epochs - rising)
        return (epoch + 1) / (rising + 1) if epoch < rising else (1 + math.cos(math.pi * falling)) / 2

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


# Schedules of the learning rate: from an optimizer and a number of epochs to a scheduler.
SCHEDULES: dict[str, Callable[[torch.optim.Optimizer, int], Any]] = {
    "constant": lambda optimizer, epochs: None,
    "cosine": torch.optim.lr_scheduler.CosineAnnealingLR,
    "warmup": _warmup,
}


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of the data and the training; None takes the task's default."""

    data: Path | None = None
    epochs: int | None = None
    limit: int | None = None
    device: str = "cpu"
    recipe: str | None = None  # of superpixels
    remedy: str | None = None  # or several joined by +, in place of the task's own
    clip: float | None = None  # the largest norm of a step's gradients
    precision: str | None = None  # of matrix products in training
    schedule: str | None = None  # of the learning rate, of `SCHEDULES`
    patience: int | None = None  # epochs without a better validation, after which training ends
    mode: str | None = None  # how much of a large graph is in a step
    labels: str | None = None  # what known labels are used for besides, or several uses joined by +
    decoder: str | None = None  # of links
    negatives: str | None = None  # the kind of pairs without a link in training
    scores: str | None = None  # neighbourhood scores as features of pairs, joined by +
    checkpoint: Checkpoint | None = None  # of the seed that runs, for `gnnlib.train.loop.fit`

    @property
    def fitting(self) -> dict[str, Any]:
        """The options of `gnnlib.train.loop.fit`."""
        precision = self.precision or "float32"
        return {"clip": self.clip, "precision": precision, "patience": self.patience, "checkpoint": self.checkpoint}


class Task(ABC):
    """One data set with its protocol: `load` once, then `run` for each layer and seed."""

    name: ClassVar[str]
    summary: ClassVar[str]
    metric: ClassVar[str] = "test accuracy"
    unit: ClassVar[str] = "%"
    higher_is_better: ClassVar[bool] = True
    layers: ClassVar[tuple[str, ...]]  # the default ones, if they fit the data
    extra_layers: ClassVar[tuple[LayerSpec, ...]] = ()  # layers and networks of this task only
    seeds: ClassVar[int] = 1
    max_seeds: ClassVar[int | None] = None  # where seeds are folds
    epochs: ClassVar[int]
    readout: str | None = None
    limited: ClassVar[bool] = False  # whether it takes --limit
    one_model: ClassVar[bool] = False  # whether it takes --clip, --precision, --save
    inputs: ClassVar[str | None] = None  # the model's inputs, for its card
    sharded: ClassVar[bool] = False  # whether several processes can train together, each on a shard of a batch
    remedy: ClassVar[str | None] = None  # the default of --remedy; None if it takes none
    schedule: ClassVar[str | None] = None  # the default of --schedule; None if it takes none
    validates: ClassVar[bool] = False  # whether it takes --patience: validation chooses the epoch
    modes: ClassVar[tuple[str, ...]] = ()  # values of --mode, the default first
    label_uses: ClassVar[tuple[str, ...]] = ()  # values of --labels
    decoders: ClassVar[tuple[str, ...]] = ()  # values of --decoder, the default first
    negatives: ClassVar[tuple[str, ...]] = ()  # values of --negatives, the default first
    pair_scores: ClassVar[tuple[str, ...]] = ()  # values of --scores
    image_recipes: ClassVar[tuple[str, ...]] = ()  # values of --recipe, the default first
    data: str | None = None  # the loaded data, if there is a choice
    geometry: Geometry = Geometry()
    classes: list[str] | None = None

    @abstractmethod
    def load(self, options: Options) -> None:
        """Reads the data. Errors of missing or damaged data are raised here, before any training."""

    @abstractmethod
    def run(self, layer: LayerSpec, seed: int, options: Options, on_epoch: OnEpoch) -> Outcome:
        """Trains and tests one model; the same seed gives the same figures."""

    @property
    def setting(self) -> str:
        """The task and its data: only figures of one setting are compared."""
        return self.name if self.data is None else f"{self.name}-{self.data}"

    def num_epochs(self, layer: LayerSpec, options: Options) -> int:
        return options.epochs or self.epochs

    def scheduler(self, optimizer: torch.optim.Optimizer, epochs: int, options: Options) -> Any:
        """The scheduler of the learning rate for `gnnlib.train.loop.fit`; None for a constant rate."""
        return SCHEDULES[options.schedule or self.schedule or "constant"](optimizer, epochs)

    def values(self, outcomes: Mapping[int, Outcome]) -> list[float] | None:
        """The score of each seed, where the protocol computes it from all seeds; None for the seeds' scores."""
        return None

    def samples(self) -> dict[str, np.ndarray]:
        """Inputs for the report: image_0, label_map_0, pos_0, src_0, dst_0, label_0, title_0, image_1, ..."""
        return {}


def curve(records: Records) -> dict[str, list[float]]:
    """A training's records as one list per entry."""
    return {key: [record[key] for record in records] for key in (records[0] if records else {})}


def with_fitting_edges(model: nn.Module, batches: Iterable[Batch]) -> Iterator[Batch]:
    """The batches, with edge values only where they are of the kind that the layers take: a task serves all layers."""
    modules = list(model.modules())
    convs = [module.conv for module in modules if isinstance(module, GNNLayer)] or modules
    kinds = {getattr(conv, "takes_edge", None) for conv in convs}

    def fitting(batch: Batch) -> Batch:
        first = batch.edge[0] if isinstance(batch.edge, list) else batch.edge
        if first is None or ("weight" if first.dim() == 1 else "feature") in kinds:
            return batch
        return batch._replace(edge=None)

    return map(fitting, batches)


def predict(model: nn.Module, batches: Iterable[Batch]) -> tuple[Tensor, Tensor]:
    """Outputs and targets of all batches, in evaluation mode; see `with_fitting_edges`."""
    return outputs_and_targets(model, with_fitting_edges(model, batches))


def attribution_maps(model: nn.Module, batch: Batch) -> dict[str, np.ndarray]:
    """Attributions of a trained model, for the report.

    Args:
        model: the trained model
        batch: graphs, or signals on one graph

    Returns:
        saliency_0 (n,) for the true class; attention_0 (E,) of the last layer with attention, the mean over heads,
        relative to uniform attention; saliency_1, ...
    """
    ((graph, x, target, edge, _),) = with_fitting_edges(model, [batch])
    with evaluation_mode(model):
        maps = {"saliency": (saliency(model, graph, x, target, edge=edge), graph.batch_num_nodes())}
        weights = attention(model, graph, x, edge=edge)
    for last in weights[-1:]:
        share = last.mean(-1)
        even = 1 / graph.in_degrees()[edge_endpoints(graph)[1].long()].to(share)
        maps["attention"] = share / even.view(-1, *[1] * (share.dim() - 1)), graph.batch_num_edges()
    return {
        f"{name}_{i}": one.cpu().numpy()
        for name, (values, sizes) in maps.items()
        for i, one in enumerate(values.T if values.dim() == 2 else values.split(sizes.tolist()))
    }


def shuffled(num: int, size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Mini-batches of row numbers in random order; with several processes, this process's shard of each."""
    yield from map(shard, torch.randperm(num, generator=generator).split(size))
