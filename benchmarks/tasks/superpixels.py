"""Images as superpixel graphs: each image is segmented, each segment is a node."""

from collections.abc import Callable, Iterator
from itertools import count as counted
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from gnnlib import GraphStore, MeanMaxReadout, Stack, datasets
from gnnlib._platform.dgl import dgl
from gnnlib.benchmarks.catalog.layers import Geometry, LayerSpec
from gnnlib.benchmarks.catalog.remedies import Kind, Plan, make_plan
from gnnlib.benchmarks.metrics import num_parameters
from gnnlib.benchmarks.tasks.base import Options, Records, attribution_maps, shuffled
from gnnlib.benchmarks.tasks.cnn import enlarged
from gnnlib.benchmarks.tasks.molecules import collate
from gnnlib.benchmarks.tasks.training import Training, TrainingTask, classify, validate
from gnnlib.graph import graph_index, keep_nodes
from gnnlib.images import random_affine, recipes
from gnnlib.train.loop import Batch, decay_groups

SAMPLES = 6  # test images in the report
SMOOTHING = 0.1  # of labels
LOST = 0.3  # at most, of a training graph's nodes
DECAY, RATE = 1e-4, 5e-3
Part = tuple[GraphStore, Tensor]


def widest(build: Callable[[int], nn.Module], budget: int) -> int:
    """The width, a multiple of 4, of the largest network within so many parameters.

    >>> from torch import nn
    >>> from gnnlib.benchmarks.tasks.superpixels import widest
    >>> widest(lambda width: nn.Linear(width, width), 100)
    8
    """
    return next(width for width in counted(4, 4) if num_parameters(build(width + 4)) > budget)


class Superpixels(TrainingTask):
    """Four layers with batch norm and residuals, as wide as 100000 parameters allow; mean and maximum over the nodes,
    then a linear layer. Colours and centroids as features, relative positions and Gaussian weights along the edges.

    AdamW, one cycle; labels are smoothed. Each training graph is turned, sheared, enlarged and shifted at random a
    little, and loses a share of its nodes, drawn from 0 to 0.3. The first 5000 training images choose the epoch."""

    layers: ClassVar[tuple[str, ...]] = ("gcn", "gin", "gat", "sage", "gated-gcn", "message")
    seeds = 3
    epochs = 20
    readout = "mean and maximum over nodes"
    limited = True
    sharded = True
    one_model = validates = True
    inputs = (
        "x: mean colours, pos / side of the image; edge, for layers with edge features: offset / spacing, weight "
        "(benchmarks/tasks/superpixels.py)"
    )
    remedy = "batchnorm+residual"
    budget: ClassVar[int] = 100_000  # parameters
    batch_size: ClassVar[int] = 128
    validation_share: ClassVar[float]  # share of the training images
    size: ClassVar[float]  # pixels of a side
    segments: ClassVar[int]  # about so many
    colours: ClassVar[int] = 1
    flip: ClassVar[float] = 0.0  # probability that a training graph is mirrored
    names: ClassVar[tuple[str, ...]]  # of the classes
    images: ClassVar[Any]  # a loader, as `gnnlib.datasets.superpixels` takes it

    def load(self, options: Options) -> None:
        name = options.recipe or self.image_recipes[0]
        self.recipe, self.data = getattr(recipes, name), None if name == self.image_recipes[0] else name
        self.pictures, _ = self.images(options.data, False)
        num_test = None if options.limit is None else min(options.limit, len(self.pictures))
        self.spacing = self.size / self.segments**0.5
        self.geometry = Geometry(edge_feats=3, pos_feats=2, pos_scale=self.size, spacing=self.spacing)
        self.classes = list(self.names)
        self.remedies, self.device = options.remedy or self.remedy, options.device
        self.plan(LayerSpec("mlp", "", lambda _: nn.Linear), 8).check_task(self.name, self.remedies)
        self.train = self.part(options.data, True, options.limit)
        self.test = self.part(options.data, False, num_test)

    def part(self, data: Path | None, train: bool, limit: int | None) -> Part:
        store = datasets.superpixels(self.images, data, train, limit, self.recipe)
        assert store.labels is not None
        return store, store.labels

    def plan(self, layer: LayerSpec, width: int) -> Plan:
        widths = self.colours + 2, width, 10
        plan = make_plan(Kind(layer.title, layer.make(self.geometry)), self.remedies, 4, widths, 0.1, DECAY)
        plan.set(encoder=True, head=True, readout=MeanMaxReadout)
        return plan

    def build(self, layer: LayerSpec, seed: int) -> tuple[Stack, Plan]:
        first = self.batch(self.train, torch.arange(min(SAMPLES, len(self.train[1]))))
        width = widest(lambda width: self.plan(layer, width).build(first.graph, first.x), self.budget)
        torch.manual_seed(seed)
        plan = self.plan(layer, width)
        return plan.build(first.graph, first.x).to(self.device), plan

    def batch(self, part: Part, rows: Tensor, move: Callable[[dgl.DGLGraph], dgl.DGLGraph] = lambda g: g) -> Batch:
        """All features are near 1."""
        graph, _, target, *_ = collate(*part, rows)
        graph = move(graph)
        x = torch.cat([graph.ndata["feat"][:, : self.colours], graph.ndata["pos"] / self.size], 1)
        edge = torch.cat([graph.edata["offset"] / self.spacing, graph.edata["weight"].unsqueeze(1)], 1)
        return Batch(graph, *(t.to(self.device) for t in (x, target, edge)))

    def training(self, layer: LayerSpec, seed: int, generator: torch.Generator, options: Options) -> Training:
        model, plan = self.build(layer, seed)
        num_images = len(self.train[1])
        num_validation = max(1, round(num_images * self.validation_share))
        validation, train = torch.arange(num_images).tensor_split([num_validation])

        def augment(graph: dgl.DGLGraph) -> dgl.DGLGraph:
            share = LOST * torch.rand(graph.batch_size, generator=generator)
            share = share[graph_index(graph, graph.batch_num_nodes())]
            graph = keep_nodes(graph, torch.rand(graph.num_nodes(), generator=generator) >= share)
            return random_affine(graph, 10.0, self.size / 14, (0.9, 1.1), 0.1, generator, flip=self.flip)

        def batches() -> Iterator[Batch]:
            for rows in shuffled(len(train), self.batch_size, generator):
                yield self.batch(self.train, train[rows], augment)

        def everything(part: Part, rows: Tensor) -> Iterator[Batch]:
            return (self.batch(part, some) for some in rows.split(256))

        def test(records: Records) -> dict[str, Any]:
            num_test = len(self.test[1])
            samples = self.batch(self.test, torch.arange(min(SAMPLES, num_test)))
            return {
                **classify(model, everything(self.test, torch.arange(num_test)), 10),
                "validation": max(record["validation"] for record in records),
                "attributions": attribution_maps(model, samples),
            }

        optimizer = torch.optim.AdamW(decay_groups(model, {"*": DECAY, **plan.decay}), lr=RATE)
        steps = self.num_epochs(layer, options) + 1
        return Training(
            model,
            batches,
            nn.CrossEntropyLoss(label_smoothing=SMOOTHING),
            optimizer,
            test,
            scheduler=torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps),
            measure=lambda: validate(model, everything(self.train, validation)),
            score=lambda record: (record["validation"], -record["validation loss"]),
        )

    def samples(self) -> dict[str, np.ndarray]:
        samples: dict[str, np.ndarray] = {}
        for i in range(min(SAMPLES, len(self.test[1]))):
            picture = self.pictures[i] if self.pictures.dim() == 3 else self.pictures[i].movedim(0, -1)
            graph = self.recipe(picture)  # which, unlike the store's, has its label map
            src, dst = (end.numpy() for end in graph.edges())
            label = int(self.test[1][i])
            samples |= {
                f"image_{i}": picture.numpy(),
                f"label_map_{i}": graph.label_map.numpy(),
                f"pos_{i}": graph.ndata["pos"].numpy(),
                f"src_{i}": src,
                f"dst_{i}": dst,
                f"label_{i}": np.array(label),
                f"title_{i}": np.array(f"a {label}: {graph.num_nodes()} superpixels, {len(src)} edges"),
            }
        return samples


class MNISTSuperpixels(Superpixels):
    name = "mnist-superpixels"
    summary = "MNIST as graphs of about 70 superpixels (--limit N images, --recipe NAME, --remedy A+B; converted once)"
    image_recipes = ("dwivedi", "knyazev", "monti", "avelar")
    names = tuple("0123456789")
    validation_share, size, segments = 5000 / 60000, 28.0, 75
    images: ClassVar[Any] = staticmethod(datasets.mnist)


def enlarged_digits(data: Path | None, train: bool) -> tuple[Tensor, Tensor]:
    """scikit-learn's, as large as MNIST's."""
    images, labels = datasets.digits(train)
    return enlarged(images), labels


class DigitsSuperpixels(MNISTSuperpixels):
    name = "digits-superpixels"
    summary = "the digits, enlarged, the same way, in a small form: a minute, no download"
    layers = ("gat", "sage", "message")
    seeds = 1
    epochs = 30
    budget, batch_size = 25_000, 32
    images = staticmethod(enlarged_digits)


class FashionSuperpixels(MNISTSuperpixels):
    name = "fashion-superpixels"
    summary = "Fashion-MNIST the same way: clothes"
    names = datasets.FASHION
    images = staticmethod(datasets.fashion)


class CIFARSuperpixels(Superpixels):
    name = "cifar-superpixels"
    summary = "CIFAR-10 as graphs of about 118 superpixels, with their mean colours"
    image_recipes = ("dwivedi_cifar",)
    names = datasets.CIFAR10
    flip = 0.5
    validation_share, size, segments, colours = 5000 / 50000, 32.0, 150, 3
    images = staticmethod(datasets.cifar10)
