"""The training that most tasks share: seed, fit, test, outcome."""

from abc import abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from gnnlib.benchmarks.catalog.layers import LayerSpec
from gnnlib.benchmarks.metrics import accuracy, confusion_matrix, num_parameters
from gnnlib.benchmarks.records.results import Outcome
from gnnlib.benchmarks.tasks.base import OnEpoch, Options, Records, Task, curve, predict, with_fitting_edges
from gnnlib.train.loop import Batch, fit


@dataclass
class Training:
    """A model with what `gnnlib.train.loop.fit` takes, and the test of the trained model.

    Args:
        model: the model that is tested, and saved
        batches: as `fit` takes them, like loss, optimizer, scheduler, step_per_batch, measure and score
        test: from the records to fields of the outcome, ``score`` among them
        learner: the module that is trained, if it is not the model itself
        patience: the published one; None takes the option's
    """

    model: nn.Module
    batches: Callable[[], Iterable[Batch]]
    loss: Callable[[Tensor, Tensor], Tensor]
    optimizer: torch.optim.Optimizer
    test: Callable[[Records], dict[str, Any]] = lambda records: {}
    scheduler: Any = None
    step_per_batch: bool = False
    measure: Callable[[], dict[str, float]] | None = None
    score: Callable[[dict[str, float]], Any] | None = None
    learner: nn.Module | None = None
    patience: int | None = None

    def fit(self, epochs: int, options: Options, generator: torch.Generator, on_epoch: OnEpoch) -> Records:
        """Trains the model in place; the records of its epochs."""
        return fit(
            self.model if self.learner is None else self.learner,
            lambda: with_fitting_edges(self.model, self.batches()),
            self.loss,
            self.optimizer,
            epochs,
            scheduler=self.scheduler,
            step_per_batch=self.step_per_batch,
            measure=self.measure,
            score=self.score,
            on_epoch=on_epoch,
            generators=[generator],
            **{**options.fitting, "patience": self.patience or options.patience},
        )


class TrainingTask(Task):
    """A task that trains one network per seed."""

    @abstractmethod
    def training(self, layer: LayerSpec, seed: int, generator: torch.Generator, options: Options) -> Training:
        """The training of one seed, whose random numbers are PyTorch's and the generator's."""

    def run(self, layer: LayerSpec, seed: int, options: Options, on_epoch: OnEpoch) -> Outcome:
        torch.manual_seed(seed)
        generator = torch.Generator().manual_seed(seed)
        training = self.training(layer, seed, generator, options)
        records = training.fit(self.num_epochs(layer, options), options, generator, on_epoch)
        fields = training.test(records)
        return Outcome(parameters=num_parameters(training.model), curve=curve(records), model=training.model, **fields)


def one_cycle(model: nn.Module, lr: float, epochs: int) -> tuple[torch.optim.Optimizer, Any]:
    """AdamW with one cycle of rates over the epochs, ``lr`` at its highest (Smith and Topin 2017, arXiv 1708.07120)."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=1e-2)
    return optimizer, torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=epochs + 1)


def validate(model: nn.Module, batches: Iterable[Batch]) -> dict[str, float]:
    """Accuracy and cross-entropy on the validation part, as entries of a record."""
    outputs, target = predict(model, batches)
    return {"validation": accuracy(outputs, target), "validation loss": cross_entropy(outputs, target).item()}


def classify(model: nn.Module, batches: Iterable[Batch], num_classes: int) -> dict[str, Any]:
    """Accuracy and confusion matrix on the test part, as fields of an outcome."""
    outputs, target = predict(model, batches)
    return {"score": accuracy(outputs, target), "confusion": confusion_matrix(outputs, target, num_classes)}
