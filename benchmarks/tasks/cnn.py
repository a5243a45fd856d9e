"""Whole networks on images, each written once and run by PyTorch's kernels and as messages on grids."""

from abc import abstractmethod
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, interpolate, pad

from gnnlib import datasets
from gnnlib.benchmarks.catalog.layers import LayerSpec
from gnnlib.benchmarks.metrics import accuracy
from gnnlib.benchmarks.tasks.base import Options, predict, shuffled
from gnnlib.benchmarks.tasks.pixels import PixelTask
from gnnlib.benchmarks.tasks.training import Training, classify
from gnnlib.datasets.files import data_dir
from gnnlib.models import LeNet5, SmallCNN, lenet_input, rbf_loss


def enlarged(images: Tensor) -> Tensor:
    """Digits of 8 x 8 as MNIST has its own: 20 x 20 pixels (between which it is linear) in a field of 28 x 28.

    >>> import torch
    >>> from gnnlib.benchmarks.tasks.cnn import enlarged
    >>> enlarged(torch.ones(2, 8, 8)).sum((1, 2)).tolist()
    [400.0, 400.0]
    """
    return pad(interpolate(images.unsqueeze(1), (20, 20), mode="bilinear"), (4, 4, 4, 4)).squeeze(1)


class ImageTask(PixelTask):
    """A network by its own recipe, with Adam: all training images, the weights after the last epoch.

    With a data directory, the public data; without one, scikit-learn's digits, enlarged. The setting says which.
    """

    layers: ClassVar[tuple[str, ...]] = ("cnn", "cnn-graph")
    readout: str | None = None
    lr: ClassVar[float]  # at its highest: each step's rises, then falls to 0 (Smith and Topin 2017, arXiv 1708.07120)

    @abstractmethod
    def network(self) -> nn.Module: ...

    def public(self, data: Path | None, train: bool) -> tuple[Tensor, Tensor]:
        return datasets.mnist(data, train)

    def load(self, options: Options) -> None:
        self.data = "digits" if data_dir(options.data) is None else "mnist"
        super().load(options)
        self.geometry = replace(self.geometry, graph=False, edge_feats=0, pos_feats=0)

    def images(self, options: Options, train: bool) -> tuple[Tensor, Tensor]:
        if self.data == "digits":
            images, labels = datasets.digits(train)
            return enlarged(images[: options.limit]), labels[: options.limit]
        images, labels = self.public(options.data, train)
        return images[: options.limit].float() / 255, labels[: options.limit]

    def loss(self, outputs: Tensor, target: Tensor) -> Tensor:
        return cross_entropy(outputs, target)

    def training(self, layer: LayerSpec, seed: int, generator: torch.Generator, options: Options) -> Training:
        model, num = self.model(layer).to(options.device), len(self.train[1])
        optimizer = torch.optim.Adam(model.parameters(), self.lr)
        steps = self.num_epochs(layer, options) * -(-num // self.batch_size)
        return Training(
            model,
            lambda: self.batches(*self.train, shuffled(num, self.batch_size, generator)),
            self.loss,
            optimizer,
            lambda records: {
                **classify(model, self.everything(*self.test), 10),
                "attributions": self.attributions(model),
            },
            scheduler=torch.optim.lr_scheduler.OneCycleLR(
                optimizer, self.lr, total_steps=steps + 1, cycle_momentum=False
            ),
            step_per_batch=True,
            measure=lambda: {"test": accuracy(*predict(model, self.everything(*self.test)))},
        )


class LeNet(ImageTask):
    """LeNet-5, its loss and its 20 epochs as published. Differs from the paper: Adam on batches of 32 with one cycle of
    rates, where the paper has a stochastic diagonal Levenberg-Marquardt method, one image a step."""

    name = "lenet"
    summary = "LeNet-5 on MNIST with --data DIR, else on the digits enlarged (--limit N images)"
    epochs = 20
    batch_size = 32
    lr = 3e-3

    def network(self) -> nn.Module:
        return LeNet5()

    def images(self, options: Options, train: bool) -> tuple[Tensor, Tensor]:
        images, labels = super().images(options, train)
        return lenet_input(images.unsqueeze(1)).squeeze(1), labels

    def loss(self, outputs: Tensor, target: Tensor) -> Tensor:
        return rbf_loss(outputs, target)


class CNN(ImageTask):
    """Chollet 2018, "Deep learning with Python", section 5.1: Adam for 5 epochs on batches of 32. Differs: one cycle of
    rates up to 0.002 in place of 0.001 throughout."""

    name = "cnn"
    summary = "a CNN of the Keras tutorials on MNIST with --data DIR, else on the digits enlarged (--limit N images)"
    epochs = 5
    batch_size = 32
    lr = 2e-3

    def network(self) -> nn.Module:
        return SmallCNN()


class Fashion(CNN):
    name = "fashion"
    summary = "the same CNN on Fashion-MNIST with --data DIR, else on the digits enlarged (--limit N images)"

    def load(self, options: Options) -> None:
        super().load(options)
        if self.data != "digits":
            self.classes = list(datasets.FASHION)

    def public(self, data: Path | None, train: bool) -> tuple[Tensor, Tensor]:
        return datasets.fashion(data, train)
