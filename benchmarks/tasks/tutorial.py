"""Knyazev's tutorial on images as graphs: one graph layer between the pixels and a linear read-out."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from gnnlib import BatchNorm, GCNConv, GNNLayer, PredEdgeConv, Stack, edge_softmax
from gnnlib._platform.dgl import dgl
from gnnlib.benchmarks.catalog.layers import Geometry, LayerSpec, Pointwise
from gnnlib.benchmarks.metrics import accuracy
from gnnlib.benchmarks.tasks.base import Options, Records, attribution_maps, predict, shuffled
from gnnlib.benchmarks.tasks.cnn import ImageTask
from gnnlib.benchmarks.tasks.filters import adjacency, all_pairs
from gnnlib.benchmarks.tasks.pixels import SAMPLES, one_image_each
from gnnlib.benchmarks.tasks.training import Training
from gnnlib.images import GAUSSIAN, pixel_graph
from gnnlib.nn.conv.pred_edge import start_local
from gnnlib.train.loop import Batch

MEAN, STD = 0.1307, 0.3081  # of MNIST's training pixels
PIXEL = 1 / math.sqrt((28**2 - 1) / 12)  # a pixel in coordinates of deviation 1


def fixed() -> list[GNNLayer]:
    """The sum over neighbours with the graph's weights: nothing to learn."""
    return [GNNLayer(GCNConv(1, 1, norm="none", weight=False, bias=False))]


def predicted() -> list[GNNLayer]:
    """The same sum with weights that a network 4-64-1 predicts."""
    return [GNNLayer(PredEdgeConv(1, 1, 2, hidden=64, edge_activation=nn.Tanh(), weight=False, bias=False))]


def local(relations: int = 5, width: int = 8) -> list[GNNLayer]:
    """Predicted edges that learn: a network 4-64-5, a softmax over sources in place of its tanh, that starts as one
    narrow filter and four that lean each to one side; their mixtures pass a ReLU and are mixed to one again."""
    conv = PredEdgeConv(1, width, 2, hidden=64, relations=relations, normalise=edge_softmax)
    angle = 2 * math.pi * torch.arange(relations - 1) / (relations - 1)
    lean = torch.cat([torch.zeros(1, 2), torch.stack([angle.cos(), angle.sin()], 1)])
    start_local(conv, torch.tensor([3.0] + [1.5] * (relations - 1)) / PIXEL, lean / PIXEL)
    return [GNNLayer(conv, norm=BatchNorm(width), activation=nn.ReLU()), GNNLayer(Pointwise(width, 1))]


@dataclass(frozen=True)
class Model:
    """What stands between the pixels and the read-out, on which graph, and how it is trained.

    rate: Adam's at its highest, through one cycle; None: SGD at 0.001
    scored: the epoch that counts, unless --epochs says otherwise; None: the last
    """

    title: str
    blocks: Callable[[], list[GNNLayer]] = list
    graph: Callable[[Sequence[int]], dgl.DGLGraph] = pixel_graph
    rate: float | None = None
    decay: float = 1e-4
    batch_size: int = 64
    epochs: int = 40
    scored: int | None = 10

    def optimizer(self, parameters: Any, epochs: int) -> tuple[torch.optim.Optimizer, Any]:
        """And what moves its rate after each epoch."""
        if self.rate is None:
            return torch.optim.SGD(parameters, 1e-3, weight_decay=self.decay), None
        adam = torch.optim.AdamW(parameters, self.rate, weight_decay=self.decay)
        return adam, torch.optim.lr_scheduler.OneCycleLR(adam, self.rate, total_steps=epochs + 1)


MODELS = {
    "logistic": Model("logistic regression"),
    "fixed": Model("fixed adjacency", fixed, partial(adjacency, less=0.2)),
    "laplace": Model("exp(-d / s^2)", fixed, partial(adjacency, norm="none")),
    "laplace-mean": Model("exp(-d / s^2) / row sum", fixed, partial(adjacency, norm="right")),
    "laplace-kipf": Model("exp(-d / s^2), Kipf's", fixed, adjacency),
    "gaussian": Model("Gaussian", fixed, partial(adjacency, decay=GAUSSIAN, norm="none")),
    "gaussian-mean": Model("Gaussian / row sum", fixed, partial(adjacency, decay=GAUSSIAN, norm="right")),
    "gaussian-kipf": Model("Gaussian, Kipf's", fixed, partial(adjacency, decay=GAUSSIAN)),
    "predicted": Model("predicted edges", predicted, all_pairs),
    "predicted-trained": Model(
        "predicted edges, trained", local, all_pairs, rate=1e-2, batch_size=256, epochs=15, scored=None
    ),
    "cnn": Model("convolution", decay=1e-1),
}


def _before(blocks: Callable[[], list[GNNLayer]], _: Geometry) -> Callable[[nn.Module], nn.Module]:
    return lambda head: Stack(blocks(), readout=one_image_each, head=head)


class Tutorial(ImageTask):
    """Knyazev 2019: an image x of 784 pixels is multiplied by an adjacency matrix, then by a linear layer without bias.

    SGD at 0.001 on batches of 64, weight decay 1e-4 (1e-1 for the convolution), pixels of mean 0 and deviation 1. The
    rate is constant, so one training of 40 epochs tells of 10 too: the score is the test accuracy after 10, as
    published, and that after 40 stands beside. With --epochs N the score is that after N.

    The three adjacencies by exp(-d / s^2) and the three Gaussian ones have nothing taken off. "predicted-trained" is
    ours: the network that predicts edges starts local (`gnnlib.nn.conv.pred_edge.start_local`), its five relations are
    mixed to eight maps, which pass a ReLU and become one again, before the same read-out; Adam through one cycle of
    rates up to 0.01 on batches of 256 for 15 epochs. Chosen on 3000 training images held out.
    """

    name = "tutorial"
    summary = "one graph layer, then a linear one: MNIST with --data DIR, else the digits enlarged (--limit N images)"
    extra_layers = tuple(
        LayerSpec(name, model.title, partial(_before, model.blocks), needs="image")
        for name, model in MODELS.items()
        if name != "cnn"
    )
    layers = tuple(MODELS)
    epochs = 40
    readout = "flat: one linear layer over all pixels, without bias"
    inputs = "x (pixels, images, 1), less 0.1307, over 0.3081; graph and weights as in benchmarks/tasks/tutorial.py"

    def images(self, options: Options, train: bool) -> tuple[Tensor, Tensor]:
        images, labels = super().images(options, train)
        return (images - MEAN) / STD, labels

    def network(self) -> nn.Module:
        """One filter a class, as large as the image: 29 x 29 outputs, 4 x 4 after pooling."""
        last = nn.Linear(160, 10, bias=False)
        return nn.Sequential(nn.Conv2d(1, 10, 28, padding=14), nn.ReLU(), nn.MaxPool2d(7), nn.Flatten(), last)

    def model(self, layer: LayerSpec) -> nn.Module:
        if layer not in self.extra_layers:
            return super().model(layer)
        pixels = self.train[0].shape[1:].numel()
        return layer.make(self.geometry)(nn.Linear(pixels, 10, bias=False))

    def plan(self, layer: LayerSpec) -> Model:
        return MODELS[layer.name if layer in self.extra_layers else "cnn"]

    def num_epochs(self, layer: LayerSpec, options: Options) -> int:
        return options.epochs or self.plan(layer).epochs

    def training(self, layer: LayerSpec, seed: int, generator: torch.Generator, options: Options) -> Training:
        plan, model, epochs = self.plan(layer), self.model(layer).to(options.device), self.num_epochs(layer, options)
        graph = plan.graph(self.geometry.image[1:])
        weight = graph.edata["weight"].float().to(options.device) if "weight" in graph.edata else None

        def with_graph(batches: Iterator[Batch]) -> Iterator[Batch]:
            return (batch._replace(graph=graph, edge=weight) for batch in batches)

        def test(records: Records) -> dict[str, Any]:
            epoch = epochs if options.epochs or plan.scored is None else plan.scored
            samples = next(with_graph(self.everything(*(part[:SAMPLES] for part in self.test))))
            return {
                "score": records[epoch - 1]["test"],
                "figures": {f"after {epochs} epochs, %": records[-1]["test"]} if epoch < epochs else {},
                "attributions": attribution_maps(model, samples),
            }

        optimizer, scheduler = plan.optimizer(model.parameters(), epochs)
        rows = partial(shuffled, len(self.train[1]), plan.batch_size, generator)
        return Training(
            model,
            lambda: with_graph(self.batches(*self.train, rows())),
            cross_entropy,
            optimizer,
            test,
            scheduler=scheduler,
            measure=lambda: {"test": accuracy(*predict(model, with_graph(self.everything(*self.test))))},
        )
