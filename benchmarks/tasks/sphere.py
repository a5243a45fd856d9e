"""Digits on the sphere: networks on the icosphere, which has no up, and a planar CNN on the map of the same sphere."""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from typing import ClassVar, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from gnnlib import BatchNorm, GNNLayer, Stack, aggregate, datasets
from gnnlib._utils.model_state import evaluation_mode
from gnnlib.analysis.symmetry import rotation_error
from gnnlib.benchmarks.catalog.layers import Geometry, LayerSpec
from gnnlib.benchmarks.metrics import accuracy, num_parameters
from gnnlib.benchmarks.records.results import Outcome
from gnnlib.benchmarks.tasks.base import OnEpoch, Options, Task, curve, predict, shuffled
from gnnlib.benchmarks.tasks.pixels import OnImages
from gnnlib.benchmarks.tasks.training import classify, one_cycle
from gnnlib.benchmarks.tasks.transfer import largest
from gnnlib.datasets.files import data_dir
from gnnlib.grid import GridPool
from gnnlib.images import (
    equirectangular,
    icosahedral_rotations,
    icosphere,
    project,
    random_rotations,
    sphere_graph,
    sphere_interpolation,
    sphere_pooling,
)
from gnnlib.models.vision.blocks import conv_norm_relu
from gnnlib.train.loop import Batch, fit

CLASSES = 10

Turn: TypeAlias = Callable[[Tensor, Tensor], Tensor]


class Sphere(Task):
    """Two layers on the icosphere, with about 36 neighbours to each node, one on the next coarser one, and the
    largest value over nodes; beside them a planar CNN of as many layers and about as many parameters, on the map of
    latitude and longitude.

    An image is in the middle of the map, where that is least distorted (`gnnlib.images.project`). Two networks
    are trained: on upright images, and on images rotated at random, afresh each epoch. Rotated test images are each
    turned ``turns`` times, by the same rotations for all networks. The score is of the first network on them.

    Digits: level 3, 642 nodes, and a map of 18 x 36 cells; MNIST: level 4, 2562 nodes, and 36 x 72.
    """

    name = "sphere"
    summary = "on the sphere, upright and rotated at random: MNIST with --data DIR, else the digits (--limit N images)"
    metric = "test accuracy, trained upright, tested rotated"
    layers = ("cheb", "gcn", "cnn")
    epochs = 20  # for each of the two networks; MNIST: 4
    readout = "largest over nodes"
    limited = True
    widths: ClassVar[tuple[int, int, int]] = (16, 32, 64)
    planar_widths: ClassVar[tuple[int, int, int]] = (12, 22, 28)
    reach: ClassVar[float | None] = 3.2  # in sides of a triangle: on flat ground all 36 up to 3 of them
    batch_size: ClassVar[int] = 64
    lr: ClassVar[float] = 1e-2  # at its highest
    turns: ClassVar[int] = 4
    num_measured: ClassVar[int] = 50  # test images, for the rotation errors

    def load(self, options: Options) -> None:
        self.data, self.level = ("digits", 3) if data_dir(options.data) is None else ("mnist", 4)
        self.map = (9 * 2 ** (self.level - 2), 18 * 2 ** (self.level - 2))
        self.train, self.test = (self.part(options, train) for train in (True, False))
        fine, coarse = (sphere_graph(level, self.reach) for level in (self.level, self.level - 1))
        self.graphs = [fine, fine, sphere_pooling(self.level), coarse]
        self.geometry = Geometry(image=(1, *self.map))
        self.classes = [str(c) for c in range(CLASSES)]

    def part(self, options: Options, train: bool) -> tuple[Tensor, Tensor]:
        images, labels = datasets.digits(train) if self.data == "digits" else datasets.mnist(options.data, train)
        images = images[: options.limit]
        images = images if images.is_floating_point() else images.float() / 255
        return images.unsqueeze(1).to(options.device), labels[: options.limit].to(options.device)

    def num_epochs(self, layer: LayerSpec, options: Options) -> int:
        return 2 * (options.epochs or (self.epochs if self.data == "digits" else 4))

    def points(self, layer: LayerSpec) -> Tensor:
        return equirectangular(self.map) if layer.needs == "image" else self.graphs[0].ndata["pos"]

    def model(self, layer: LayerSpec) -> nn.Module:
        make = layer.make(self.geometry)
        if layer.needs == "image":
            return OnImages(make(self.planar()), self.map)
        widths = (1, *self.widths)
        first, second, third = (
            GNNLayer(make(*pair), norm=BatchNorm(pair[1]), activation=nn.ReLU()) for pair in pairwise(widths)
        )
        blocks = [first, second, GNNLayer(GridPool("mean")), third]
        return Stack(blocks, readout=largest, head=nn.Linear(widths[-1], CLASSES))

    def planar(self) -> nn.Module:
        first, second, third = self.planar_widths
        return nn.Sequential(
            conv_norm_relu(1, first, 3),
            conv_norm_relu(first, second, 3),
            nn.MaxPool2d(2),
            conv_norm_relu(second, third, 3),
            nn.AdaptiveMaxPool2d(1),
            nn.Flatten(),
            nn.Linear(third, CLASSES),
        )

    def batch(self, points: Tensor, part: tuple[Tensor, Tensor], rows: Tensor, rotation: Tensor | None = None) -> Batch:
        images, labels = part
        return Batch(self.graphs, project(images[rows], points, rotation), labels[rows])

    def everything(self, points: Tensor, rotated: bool) -> Iterator[Batch]:
        """The test images, once upright, or ``turns`` times rotated."""
        generator, rows = torch.Generator().manual_seed(0), torch.arange(len(self.test[1]))
        for some in rows.repeat(self.turns if rotated else 1).split(250):
            yield self.batch(points, self.test, some, random_rotations(len(some), generator) if rotated else None)

    def run(self, layer: LayerSpec, seed: int, options: Options, on_epoch: OnEpoch) -> Outcome:
        torch.manual_seed(seed)
        points, epochs = self.points(layer), self.num_epochs(layer, options) // 2
        upright, turned = (self.model(layer).to(options.device) for _ in range(2))

        def learn(model: nn.Module, rotated: bool) -> list[dict[str, float]]:
            generator = torch.Generator().manual_seed(seed)

            def batches() -> Iterator[Batch]:
                for rows in shuffled(len(self.train[1]), self.batch_size, generator):
                    turn = random_rotations(len(rows), generator) if rotated else None
                    yield self.batch(points, self.train, rows, turn)

            optimizer, scheduler = one_cycle(model, self.lr, epochs)
            return fit(
                model,
                batches,
                cross_entropy,
                optimizer,
                epochs,
                scheduler=scheduler,
                on_epoch=lambda record: on_epoch({**record, "epoch": record["epoch"] + rotated * epochs}),
            )

        records = learn(upright, False)
        learn(turned, True)
        fields = classify(upright, self.everything(points, True), CLASSES)
        figures = {
            "trained and tested upright, %": accuracy(*predict(upright, self.everything(points, False))),
            "trained and tested rotated, %": accuracy(*predict(turned, self.everything(points, True))),
        }
        with evaluation_mode(upright):
            figures |= self.errors(upright, points)
        return Outcome(parameters=num_parameters(upright), curve=curve(records), figures=figures, **fields)

    def errors(self, model: nn.Module, points: Tensor) -> dict[str, float]:
        """How far scores, and features of nodes, are from following the rotations; means over some rotations."""
        images = self.test[0][: self.num_measured]
        some = {
            "icosahedral": icosahedral_rotations()[1::12],
            "random": random_rotations(5, torch.Generator().manual_seed(0)),
        }

        def mean(parts: nn.Module, turns: Tensor, turn: Turn | None = None) -> float:
            follow = partial(parts, self.graphs)
            return rotation_error(follow, lambda R: project(images, points, R), turns, rotate_output=turn).mean().item()

        figures = {f"scores, {kind} rotations": mean(model, turns) for kind, turns in some.items()}
        if isinstance(model, Stack):
            nodes = Stack(list(model.blocks))
            figures |= {f"nodes, {kind} rotations": mean(nodes, turns, self.turn) for kind, turns in some.items()}
        return figures

    def turn(self, y: Tensor, rotation: Tensor) -> Tensor:
        """Features of the nodes of the coarser sphere, rotated: linear between nodes."""
        points = torch.from_numpy(icosphere(self.level - 1)[0])
        graph = sphere_interpolation(self.level - 1, points @ rotation)
        return aggregate(graph, y, graph.edata["weight"])
