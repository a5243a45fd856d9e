"""MNIST as superpixel graphs: each image is segmented, each segment is a node."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

import datasets
from benchmarks.layers import Geometry, Layer
from benchmarks.results import Outcome
from benchmarks.tasks.base import OnEpoch, Options, Task, accuracy, confusion, count, curve, shuffled
from benchmarks.tasks.molecules import collate
from gnnlib import BatchNorm, GraphStore, Residual, Stack, readout_mean
from gnnlib.images import recipes
from gnnlib.training import Batch, fit, predict

SIZE = 28.0  # pixels
FEATS = 3  # intensity, row, column
Part = tuple[GraphStore, Tensor]


class MNISTSuperpixels(Task):
    """First cut: intensity and centroid as features, four layers, mean read-out."""

    name = "mnist-superpixels"
    summary = "MNIST as graphs of about 75 superpixels (--limit N images, --recipe NAME; converted once)"
    layers = ("gcn", "gin", "gat", "ecc")
    epochs = 15
    readout = "mean over nodes"
    limited = True
    width: ClassVar[int] = 64
    batch_size: ClassVar[int] = 64
    held_out: ClassVar[int] = 5000  # of 60000, in proportion
    image_recipes = ("dwivedi", "knyazev", "monti", "avelar")

    def load(self, options: Options) -> None:
        name = options.recipe or self.image_recipes[0]
        self.recipe, self.data = getattr(recipes, name), None if name == self.image_recipes[0] else name
        self.pictures, _ = datasets.mnist(options.data, False)
        num_test = None if options.limit is None else min(options.limit, len(self.pictures))
        self.train = self.part(options.data, True, options.limit)
        self.test = self.part(options.data, False, num_test)
        self.geometry = Geometry(edge_feats=3, pos_feats=2, pos_scale=SIZE, spacing=SIZE / 75**0.5)
        self.classes = [str(c) for c in range(10)]
        self.device = options.device

    def part(self, data: Path | None, train: bool, limit: int | None) -> Part:
        store = datasets.mnist_superpixels(data, train, limit, self.recipe)
        assert store.labels is not None
        return store, store.labels

    def batch(self, part: Part, rows: Tensor) -> Batch:
        """Features: intensity and centroid; along edges: relative position and Gaussian weight, all near 1."""
        graph, features, target, *_ = collate(*part, rows)
        x = torch.cat([features[:, :1], graph.ndata["pos"] / SIZE], 1)
        edge = torch.cat([graph.edata["offset"] / 4, graph.edata["weight"].unsqueeze(1)], 1)
        return Batch(graph, *(t.to(self.device) for t in (x, target, edge)))

    def run(self, layer: Layer, seed: int, options: Options, on_epoch: OnEpoch) -> Outcome:
        torch.manual_seed(seed)
        generator = torch.Generator().manual_seed(seed)
        model = Stack.build(
            layer.make(self.geometry),
            FEATS,
            self.width,
            10,
            num_layers=4,
            norm=BatchNorm,
            skip=Residual,
            encoder=True,
            readout=readout_mean,
        ).to(options.device)
        num_images = len(self.train[1])
        num_held = max(1, num_images * self.held_out // 60000)
        held, kept = torch.arange(num_images).split([num_held, num_images - num_held])

        def everything(part: Part, rows: Tensor) -> Iterator[Batch]:
            return (self.batch(part, some) for some in rows.split(256))

        def measure() -> dict[str, float]:
            outputs, target = predict(model, everything(self.train, held))
            return {
                "validation": accuracy(outputs, target),
                "validation loss": nn.functional.cross_entropy(outputs, target).item(),
            }

        epochs = self.num_epochs(layer, options)
        optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=1e-4)
        records = fit(
            model,
            lambda: (self.batch(self.train, kept[i]) for i in shuffled(len(kept), self.batch_size, generator)),
            nn.functional.cross_entropy,
            optimiser,
            epochs,
            scheduler=torch.optim.lr_scheduler.OneCycleLR(optimiser, 5e-3, total_steps=epochs + 1),
            measure=measure,
            score=lambda record: (record["validation"], -record["validation loss"]),
            on_epoch=on_epoch,
        )
        outputs, target = predict(model, everything(self.test, torch.arange(len(self.test[1]))))
        return Outcome(
            score=accuracy(outputs, target),
            parameters=count(model),
            validation=max(record["validation"] for record in records),
            curve=curve(records),
            confusion=confusion(outputs, target, 10),
        )

    def samples(self) -> dict[str, np.ndarray]:
        found: dict[str, np.ndarray] = {}
        for i, graph in enumerate(islice(self.test[0], 6)):
            src, dst = (end.numpy() for end in graph.edges())
            label = int(self.test[1][i])
            found |= {
                f"image_{i}": self.pictures[i].numpy(),
                f"pos_{i}": graph.ndata["pos"].numpy(),
                f"src_{i}": src,
                f"dst_{i}": dst,
                f"label_{i}": np.array(label),
                f"title_{i}": np.array(f"a {label}: {graph.num_nodes()} superpixels, {len(src)} edges"),
            }
        return found
