"""Weights trained on pixels, used on superpixels: layers that see positions alone do not care which they are."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import count as numbers
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, cross_entropy, interpolate

from gnnlib import BatchNorm, GraphStore, Residual, Stack, datasets, readout_max
from gnnlib._platform.dgl import dgl
from gnnlib.benchmarks.catalog.layers import Geometry, LayerSpec
from gnnlib.benchmarks.metrics import accuracy, num_parameters
from gnnlib.benchmarks.records.results import Outcome
from gnnlib.benchmarks.tasks.base import OnEpoch, Options, Task, curve, predict, shuffled
from gnnlib.benchmarks.tasks.training import classify, one_cycle
from gnnlib.datasets.files import data_dir
from gnnlib.graph import add_self_loop
from gnnlib.images import Nearest, pixel_graph, segment, superpixel_graph
from gnnlib.images.recipes import Recipe
from gnnlib.train.loop import Batch, fit

REGIONS = Recipe(partial(segment, num_segments=81), Nearest(8), ("mean",))  # as `superpixel_graph` has them
Draw = Callable[[Tensor], Batch]  # the images with these numbers, as graphs


def largest(graph: dgl.DGLGraph, x: Tensor) -> Tensor:
    """The largest value over the nodes of each image, be it a graph of a batch or one of the signals on a lattice."""
    return readout_max(graph, x).flatten(0, -2)


def in_spacings(graph: dgl.DGLGraph, area: int) -> dgl.DGLGraph:
    """A superpixel graph as a pixel graph is: nodes about 1 apart, each its own neighbour, and nothing but positions.

    n superpixels of an image of ``area`` pixels are sqrt(area / n) pixels apart.

    >>> import torch
    >>> from gnnlib.benchmarks.tasks.transfer import in_spacings
    >>> from gnnlib.images import graph_from_labels
    >>> squares = torch.tensor([[0, 1], [2, 3]]).repeat_interleave(4, 0).repeat_interleave(4, 1)
    >>> graph = in_spacings(graph_from_labels(torch.rand(8, 8), squares), 8 * 8)
    >>> graph.ndata["pos"].tolist(), graph.in_degrees().tolist()
    ([[0.375, 0.375], [0.375, 1.375], [1.375, 0.375], [1.375, 1.375]], [4, 4, 4, 4])
    """
    graph.edata.clear()
    graph.ndata["pos"] *= (graph.num_nodes() / area) ** 0.5
    return add_self_loop(graph)


class Part(NamedTuple):
    """The training or the test images, both ways."""

    images: Tensor  # (n, side, side)
    regions: GraphStore  # of the same images, larger, cut into about side^2 superpixels
    labels: Tensor

    @classmethod
    def of(cls, images: Tensor, regions: Iterable[dgl.DGLGraph], labels: Tensor, area: int) -> "Part":
        return cls(images, GraphStore(in_spacings(graph, area) for graph in regions), labels)

    def pixels(self, rows: Tensor) -> Batch:
        x = self.images[rows].flatten(1).T.unsqueeze(-1).contiguous()
        return Batch(pixel_graph(self.images.shape[1:]), x, self.labels[rows])

    def superpixels(self, rows: Tensor) -> Batch:
        graph = self.regions.batch(rows.cpu())
        return Batch(graph, graph.ndata["feat"].to(self.images), self.labels[rows])

    def everything(self, draw: Draw) -> Iterator[Batch]:
        return (draw(rows) for rows in torch.arange(len(self.labels)).split(500))


class Transfer(Task):
    """Three layers and the largest value over all nodes. A network is trained on pixels, tried on superpixels as it is
    ("carried over") and trained on them for a few epochs, which is the score; beside it one that starts "from scratch"
    and has as many epochs on superpixels, but none on pixels.

    A superpixel is about as large as a pixel. Digits: 8 x 8 pixels, and about 64 superpixels of the image enlarged to
    32 x 32, between whose pixels it is linear. MNIST: the mean over 9 x 9 squares, and about 81 superpixels of the
    28 x 28 pixels. Intensity is the only feature; positions reach the layers through their edges.
    """

    name = "transfer"
    summary = "pixel weights carried over to superpixels: MNIST with --data DIR, else the digits (--limit N images)"
    metric = "test accuracy, fine-tuned"
    layers = ("spline", "gcn")
    epochs = 5  # on superpixels
    readout = "largest over nodes"
    limited = True
    pixel_epochs: ClassVar[int] = 3  # for each on superpixels
    width: ClassVar[int] = 32
    batch_size: ClassVar[int] = 64
    lr: ClassVar[float] = 1e-2  # at its highest
    tuning_lr: ClassVar[float] = 2e-3

    def load(self, options: Options) -> None:
        self.data = "digits" if data_dir(options.data) is None else "mnist"
        part = _digits if self.data == "digits" else _mnist
        self.train, self.test = (part(options, train) for train in (True, False))
        self.geometry = Geometry(pos_feats=2, pos_scale=float(self.train.images.shape[1]))
        self.classes = [str(c) for c in range(10)]

    def num_epochs(self, layer: LayerSpec, options: Options) -> int:
        return (self.pixel_epochs + 2) * (options.epochs or self.epochs)

    def model(self, layer: LayerSpec) -> Stack:
        make = layer.make(self.geometry)
        return Stack.build(make, 1, self.width, 10, num_layers=3, norm=BatchNorm, skip=Residual, readout=largest)

    def run(self, layer: LayerSpec, seed: int, options: Options, on_epoch: OnEpoch) -> Outcome:
        torch.manual_seed(seed)
        generator = torch.Generator().manual_seed(seed)
        model, other = (self.model(layer).to(options.device) for _ in range(2))
        epochs, epoch = options.epochs or self.epochs, numbers(1)

        def learn(model: nn.Module, draw: Draw, test: Draw, epochs: int, lr: float) -> list[dict[str, float]]:
            optimizer, scheduler = one_cycle(model, lr, epochs)
            return fit(
                model,
                lambda: (draw(rows) for rows in shuffled(len(self.train.labels), self.batch_size, generator)),
                cross_entropy,
                optimizer,
                epochs,
                scheduler=scheduler,
                measure=lambda: {"test": accuracy(*predict(model, self.test.everything(test)))},
                on_epoch=lambda record: on_epoch({**record, "epoch": next(epoch)}),
            )

        on_pixels = self.train.pixels, self.test.pixels
        on_superpixels = self.train.superpixels, self.test.superpixels
        figures = {
            "pixels, %": learn(model, *on_pixels, self.pixel_epochs * epochs, self.lr)[-1]["test"],
            "carried over, %": accuracy(*predict(model, self.test.everything(self.test.superpixels))),
            "from scratch, %": learn(other, *on_superpixels, epochs, self.lr)[-1]["test"],
        }
        records = learn(model, *on_superpixels, epochs, self.tuning_lr)
        fields = classify(model, self.test.everything(self.test.superpixels), 10)
        return Outcome(parameters=num_parameters(model), curve=curve(records), figures=figures, **fields)


def _digits(options: Options, train: bool) -> Part:
    images, labels = (t[: options.limit] for t in datasets.digits(train))
    large = interpolate(images.unsqueeze(1), scale_factor=4, mode="bilinear").squeeze(1)
    regions = (superpixel_graph(image, num_segments=64) for image in large)
    return Part.of(images.to(options.device), regions, labels.to(options.device), area=32 * 32)


def _mnist(options: Options, train: bool) -> Part:
    images, labels = datasets.mnist(options.data, train)
    limit = None if options.limit is None else min(options.limit, len(labels))
    regions = datasets.superpixels(datasets.mnist, options.data, train, limit, REGIONS)
    small = adaptive_avg_pool2d(images[:limit].float() / 255, 9)
    return Part.of(small.to(options.device), regions, labels[:limit].to(options.device), area=28 * 28)
