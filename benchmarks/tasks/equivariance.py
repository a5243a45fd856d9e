"""Symmetry and stability: the same small network with different layers, and what becomes of it when images move."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gnnlib import BatchNorm, GraphStore, Stack, datasets, readout_flat, readout_mean
from gnnlib._platform.dgl import dgl
from gnnlib._utils.model_state import evaluation_mode
from gnnlib.analysis.symmetry import (
    class_distances,
    deformation_distance,
    node_permutation,
    permutation_error,
    relabel,
    translation_error,
)
from gnnlib.benchmarks.catalog.layers import LAYERS, Geometry, LayerSpec
from gnnlib.benchmarks.metrics import accuracy, num_parameters
from gnnlib.benchmarks.records.results import Outcome
from gnnlib.benchmarks.tasks.base import OnEpoch, Options, Task, curve, predict, shuffled, with_fitting_edges
from gnnlib.benchmarks.tasks.training import classify, one_cycle
from gnnlib.grid import GridConv, to_images, to_nodes
from gnnlib.images import pixel_batch, superpixel_graph
from gnnlib.train.loop import Batch, fit

BORDER = 3  # empty pixels around each digit, which no shift measured here pushes out
SIZE = (8 + 2 * BORDER, 8 + 2 * BORDER)
ENLARGED = (28, 28)  # what is cut into superpixels
REGIONS = 75
CLASSES = 10

Cut = Callable[[Tensor], Batch]  # rows of a set of images -> their graphs


class ImageConv(nn.Conv2d):
    """PyTorch's convolution of nodes in the order of their pixels, whatever the graph says."""

    def forward(self, graph: dgl.DGLGraph, x: Tensor) -> Tensor:  # type: ignore[override]
        return to_nodes(super().forward(to_images(x, SIZE)), len(x) // (SIZE[0] * SIZE[1])).squeeze(1)


class FullyConnected(nn.Linear):
    """A hidden layer over all pixels of an image, whatever the graph says: nodes to graphs in one block."""

    def forward(self, graph: dgl.DGLGraph, x: Tensor, *_: Tensor | None) -> Tensor:  # type: ignore[override]
        return super().forward(readout_flat(graph, x)).relu()


def _superpixels(name: str) -> LayerSpec:
    layer = LAYERS[name]
    return LayerSpec(f"superpixel-{name}", f"{layer.title} on regions", layer.make, layer.needs)


class Equivariance(Task):
    """Three layers and a mean over nodes, trained on digits; then images are shifted, deformed and shuffled.

    Figures, of the first test images: relative changes by the measures of `gnnlib.analysis.symmetry`, of nodes (away
    from the
    border) and of features (what the mean gives, before the last linear layer); and distances within classes over those
    between. Of all test images, accuracies: of a linear layer over all nodes, trained again on the features of pixels
    in one other order, with their graph where the network looks at it; and of the whole network trained and tested on
    images whose pixels are shuffled afresh each time.
    """

    name = "equivariance"
    summary = "scikit-learn's digits: what shifts, deformations and shuffled pixels change"
    extra_layers = (
        LayerSpec("connected", "fully connected", lambda _: nn.Linear),
        LayerSpec("image-conv", "dense CNN", lambda _: partial(ImageConv, kernel_size=3, padding=1)),
        LayerSpec("grid-conv", "GridConv", lambda _: partial(GridConv, kernel_size=3)),
        _superpixels("gcn"),
        _superpixels("ecc"),
    )
    layers = ("connected", "image-conv", "grid-conv", "gcn", "superpixel-gcn", "superpixel-ecc")
    epochs = 10
    readout = "mean over nodes; the fully connected net has none"
    limited = True
    depth: ClassVar[int] = 3
    width: ClassVar[int] = 32
    num_measured: ClassVar[int] = 100  # test images
    deformations: ClassVar[tuple[float, ...]] = (0.1, 0.2, 0.4)

    def load(self, options: Options) -> None:
        def part(train: bool) -> tuple[Tensor, Tensor]:
            images, labels = (t[: options.limit].to(options.device) for t in datasets.digits(train))
            return F.pad(images, [BORDER] * 4).unsqueeze(1), labels

        self.train, self.test = part(True), part(False)
        self.geometry = Geometry(edge_feats=2, pos_feats=2, pos_scale=float(max(ENLARGED)))
        self.classes = [str(c) for c in range(CLASSES)]

    def run(self, layer: LayerSpec, seed: int, options: Options, on_epoch: OnEpoch) -> Outcome:
        torch.manual_seed(seed)
        cut = superpixels if layer.name.startswith("superpixel-") else pixels
        epochs = self.num_epochs(layer, options)
        train, test = cut(*self.train), cut(*self.test)
        model = self.build(layer).to(options.device)
        records = train_on(model, train, len(self.train[1]), epochs, seed, on_epoch)
        fields = classify(model, everything(test, len(self.test[1])), CLASSES)
        figures = self.measure(model, cut)
        if cut is pixels and model.readout is not None:
            figures |= self.read_out_again(model, train, test, seed)
        torch.manual_seed(seed)
        again = self.build(layer).to(options.device)
        train_on(again, scattered(train), len(self.train[1]), epochs, seed)
        figures["each image shuffled, %"] = accuracy(*predict(again, everything(scattered(test), len(self.test[1]))))
        return Outcome(parameters=num_parameters(model), curve=curve(records), figures=figures, **fields)

    def build(self, layer: LayerSpec) -> Stack:
        if layer.name == "connected":
            hidden = 4 * self.width
            return Stack([FullyConnected(SIZE[0] * SIZE[1], hidden)], head=nn.Linear(hidden, CLASSES))
        return Stack.build(
            layer.make(self.geometry), 1, self.width, CLASSES, self.depth, norm=BatchNorm, readout=readout_mean
        )

    def measure(self, model: Stack, cut: Callable[[Tensor, Tensor], Cut]) -> dict[str, float]:
        """The figures of one trained network."""
        with evaluation_mode(model):
            return self._figures(model, cut)

    def _figures(self, model: Stack, cut: Callable[[Tensor, Tensor], Cut]) -> dict[str, float]:
        images, labels = (t[: self.num_measured] for t in self.test)
        body = Stack(list(model.blocks))
        pooled = Stack(list(model.blocks), readout=model.readout)

        def features(images: Tensor) -> Tensor:
            return predict(pooled, everything(cut(images, labels), len(images)))[0]

        def nodes(images: Tensor) -> Tensor:
            return to_images(predict(body, everything(cut(images, labels), len(images)))[0], SIZE)

        figures = {}
        for pixel, error in zip((1, 2), translation_error(features, images, (1, 2), margin=0)):
            figures[f"features, {pixel} px shift"] = error.item()
        if cut is pixels and model.readout is not None:
            for pixel, error in zip((1, 2), translation_error(nodes, images, (1, 2), margin=self.depth + 1)):
                figures[f"nodes, {pixel} px shift"] = error.item()
        (batch,) = with_fitting_edges(model, [cut(images, labels)(torch.arange(len(images)))])
        figures["features, nodes relabelled"] = permutation_error(
            lambda graph, x: pooled(graph, x, batch.edge), batch.graph, batch.x, per_node=False
        )
        for size, distance in zip(self.deformations, deformation_distance(features, images, self.deformations)):
            figures[f"features, deformed {size}"] = distance.item()
        figures["within / between classes"] = class_distances(features(images), labels)
        return figures

    def read_out_again(self, model: Stack, train: Cut, test: Cut, seed: int) -> dict[str, float]:
        """Accuracy of a linear layer trained on all nodes' features side by side, in order and in one other order."""
        body = Stack(list(model.blocks), readout=readout_flat)
        order = torch.randperm(SIZE[0] * SIZE[1], generator=torch.Generator().manual_seed(seed))
        figures = {}
        for name, parts in (
            ("flat read-out, %", (train, test)),
            ("flat, pixels permuted once, %", (scattered(train, order), scattered(test, order))),
        ):
            seen, unseen = (
                predict(body, everything(part, len(labels)))
                for part, (_, labels) in zip(parts, (self.train, self.test))
            )
            figures[name] = accuracy_of_linear(seen, unseen, seed)
        return figures


def pixels(images: Tensor, labels: Tensor) -> Cut:
    """Images as batches of pixel graphs."""

    def cut(rows: Tensor) -> Batch:
        return Batch(pixel_batch(SIZE, len(rows)), to_nodes(images[rows], len(rows)).squeeze(1), labels[rows])

    return cut


def superpixels(images: Tensor, labels: Tensor) -> Cut:
    """Images, enlarged, as batches of superpixel graphs: intensities on nodes, relative positions on edges."""
    large = F.interpolate(images, size=ENLARGED, mode="bilinear").squeeze(1).cpu()
    store = GraphStore([superpixel_graph(image, REGIONS) for image in large])

    def cut(rows: Tensor) -> Batch:
        graph = store.batch(rows)
        return Batch(graph, graph.ndata["feat"].to(images), labels[rows], graph.edata["offset"].to(images) / 4)

    return cut


def scattered(cut: Cut, order: Tensor | None = None) -> Cut:
    """The same graphs with their nodes in another order: afresh each time, or the one given for all."""

    def again(rows: Tensor) -> Batch:
        batch = cut(rows)
        if order is None:
            new = node_permutation(batch.graph, int(torch.randint(2**31, ())))
        else:
            new = (order + len(order) * torch.arange(len(rows)).unsqueeze(1)).flatten()
        return batch._replace(graph=relabel(batch.graph, new), x=batch.x[new.to(batch.x.device)])

    return again


def everything(cut: Cut, num: int) -> Iterator[Batch]:
    return (cut(rows) for rows in torch.arange(num).split(100))


def train_on(
    model: Stack, cut: Cut, num: int, epochs: int, seed: int, on_epoch: OnEpoch | None = None
) -> list[dict[str, float]]:
    """The records of a training on ``num`` images."""
    generator = torch.Generator().manual_seed(seed)
    optimizer, scheduler = one_cycle(model, 1e-2, epochs)
    return fit(
        model,
        lambda: with_fitting_edges(model, (cut(rows) for rows in shuffled(num, 64, generator))),
        F.cross_entropy,
        optimizer,
        epochs,
        scheduler=scheduler,
        on_epoch=on_epoch,
    )


def accuracy_of_linear(train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], seed: int, epochs: int = 10) -> float:
    """Of one linear layer, trained and tested on (features, labels)."""
    torch.manual_seed(seed)
    x, labels = train
    mean, std = x.mean(), x.std()
    linear = nn.Linear(x.shape[1], CLASSES).to(x.device)
    optimizer = torch.optim.AdamW(linear.parameters(), lr=1e-3, weight_decay=1e-2)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        for i in shuffled(len(x), 64, generator):
            optimizer.zero_grad()
            F.cross_entropy(linear((x[i] - mean) / std), labels[i]).backward()
            optimizer.step()
    return accuracy(linear((test[0] - mean) / std), test[1])
