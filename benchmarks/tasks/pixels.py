"""Images as pixel graphs: one lattice serves a whole batch, x is (pixels, images, channels)."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from gnnlib import BatchNorm, Residual, Stack, datasets, readout_flat
from gnnlib._platform.dgl import dgl
from gnnlib.benchmarks.catalog.layers import Geometry, LayerSpec
from gnnlib.benchmarks.tasks.base import Options, Records, attribution_maps, shuffled
from gnnlib.benchmarks.tasks.training import Training, TrainingTask, classify, one_cycle, validate
from gnnlib.grid import to_images
from gnnlib.images import pixel_graph
from gnnlib.models.vision.blocks import conv_norm_relu
from gnnlib.train.loop import Batch


def one_image_each(graph: dgl.DGLGraph, x: Tensor) -> Tensor:
    """`readout_flat` of signals on one lattice: (pixels, images, F) -> (images, pixels F)."""
    return readout_flat(graph, x)[0]


class OnImages(nn.Module):
    """A network on images, called as those on graphs are: x (pixels, images, channels)."""

    def __init__(self, network: nn.Module, size: Sequence[int]):
        super().__init__()
        self.network, self.size = network, tuple(size)

    def forward(self, graph: dgl.DGLGraph, x: Tensor, edge: Tensor | None = None) -> Tensor:
        return self.network(to_images(x, self.size).contiguous())


SAMPLES = 6  # test images in the report


class PixelTask(TrainingTask):
    """Three layers on the pixel grid, then a linear layer over all pixels, which keeps positions."""

    layers: ClassVar[tuple[str, ...]] = (
        "mlp",
        "gcn",
        "gin",
        "sage",
        "gat",
        "gatv2",
        "sgc",
        "ecc",
        "pred-edge",
        "cnn",
        "cnn-graph",
    )
    readout: str | None = "flat: a linear layer over all pixels"
    width: ClassVar[int] = 32
    batch_size: ClassVar[int] = 64
    lr: ClassVar[float] = 5e-3  # at its highest
    validation_share: ClassVar[float] = 0.1  # of the training images, to show how training goes; the last epoch counts
    limited = True
    sharded = True
    one_model = True
    inputs = (
        "`pixel_graph(size)`; x (pixels, images, 1), grey in 0..1; edge, for layers with edge features: "
        "`one_hot(graph.edata['tap'], 9)`, float32"
    )

    @abstractmethod
    def images(self, options: Options, train: bool) -> tuple[Tensor, Tensor]:
        """float (n, rows, columns) in 0..1 and labels (n,)."""

    def load(self, options: Options) -> None:
        self.train, self.test = self.images(options, True), self.images(options, False)
        shape = self.train[0].shape[1:]
        self.graph = pixel_graph(shape)  # stays on the CPU: the index arrays follow the features
        self.edge = nn.functional.one_hot(self.graph.edata["tap"], 9).float().to(options.device)
        self.geometry = Geometry(edge_feats=9, pos_feats=2, pos_scale=float(max(shape)), image=(1, *shape))
        self.classes = [str(c) for c in range(10)]
        self.device = options.device

    def batches(self, images: Tensor, labels: Tensor, rows: Iterator[Tensor]) -> Iterator[Batch]:
        for i in rows:
            x = images[i].flatten(1).T.unsqueeze(-1).contiguous().to(self.device)
            yield Batch(self.graph, x, labels[i].to(self.device), self.edge)

    def everything(self, images: Tensor, labels: Tensor) -> Iterator[Batch]:
        return self.batches(images, labels, iter(torch.arange(len(images)).split(500)))

    def head(self) -> list[nn.Module]:
        pixels = self.train[0].shape[1:].numel()
        return [nn.Dropout(0.5), nn.Linear(pixels * self.width, 10)]

    def network(self) -> nn.Module:
        """The network on images: the same depth, width and read-out as with layers on graphs."""
        maps = pairwise([1, *[self.width] * 3])
        return nn.Sequential(*(conv_norm_relu(*pair, 3) for pair in maps), nn.Flatten(), *self.head())

    def model(self, layer: LayerSpec) -> nn.Module:
        make = layer.make(self.geometry)
        if layer.needs == "image":
            return OnImages(make(self.network()), self.geometry.image[1:])
        model = Stack.build(
            make,
            1,
            self.width,
            10,
            num_layers=3,
            norm=BatchNorm,
            skip=Residual,
            dropout=0.1,
            readout=one_image_each,
        )
        model.head = nn.Sequential(*self.head())
        return model

    def training(self, layer: LayerSpec, seed: int, generator: torch.Generator, options: Options) -> Training:
        model = self.model(layer).to(options.device)
        images, labels = self.train
        num_validation = max(1, int(self.validation_share * len(images)))
        validation, train = torch.randperm(len(images), generator=generator).tensor_split([num_validation])
        optimizer, scheduler = one_cycle(model, self.lr, self.num_epochs(layer, options))

        def test(records: Records) -> dict[str, Any]:
            fields = classify(model, self.everything(*self.test), 10)
            return {**fields, "validation": records[-1]["validation"], "attributions": self.attributions(model)}

        return Training(
            model,
            lambda: self.batches(images[train], labels[train], shuffled(len(train), self.batch_size, generator)),
            nn.functional.cross_entropy,
            optimizer,
            test,
            scheduler=scheduler,
            measure=lambda: validate(model, self.everything(images[validation], labels[validation])),
        )

    def attributions(self, model: nn.Module) -> dict[str, np.ndarray]:
        return attribution_maps(model, next(self.everything(*(part[:SAMPLES] for part in self.test))))

    def samples(self) -> dict[str, np.ndarray]:
        images, labels = self.test
        src, dst = (end.numpy() for end in self.graph.edges())
        samples: dict[str, np.ndarray] = {}
        for i in range(min(SAMPLES, len(images))):
            samples |= {
                f"image_{i}": images[i].numpy(),
                f"label_map_{i}": self.graph.label_map.numpy(),
                f"pos_{i}": self.graph.ndata["pos"].numpy(),
                f"src_{i}": src,
                f"dst_{i}": dst,
                f"label_{i}": labels[i].numpy(),
                f"title_{i}": np.array(f"a {int(labels[i])}: {len(images[i].flatten())} pixels, {len(src)} edges"),
            }
        return samples


class Digits(PixelTask):
    name = "digits"
    summary = "scikit-learn's 1797 handwritten digits, 8 x 8 pixels as a grid graph (no download)"
    epochs = 25
    seeds = 1

    def images(self, options: Options, train: bool) -> tuple[Tensor, Tensor]:
        images, labels = datasets.digits(train)
        return images[: options.limit], labels[: options.limit]


class MNIST(PixelTask):
    name = "mnist"
    summary = "MNIST, 70000 handwritten digits, 28 x 28 pixels as a grid graph (--limit N images)"
    epochs = 5
    width = 16
    batch_size = 128
    lr = 1e-3  # the last layer sees 12544 numbers

    def images(self, options: Options, train: bool) -> tuple[Tensor, Tensor]:
        images, labels = datasets.mnist(options.data, train)
        return images[: options.limit].float() / 255, labels[: options.limit]
