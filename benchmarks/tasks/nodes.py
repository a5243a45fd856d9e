"""Node classification on citation graphs: the classic two-layer settings of each paper."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
from torch import nn

import datasets
from benchmarks.layers import Geometry, Layer
from benchmarks.results import Outcome
from benchmarks.tasks.base import OnEpoch, Options, Task, accuracy, count, curve
from gnnlib import Block, GATConv, SGConv, Stack, mean_heads
from gnnlib.training import Batch, fit, predict
from gnnlib.transforms import add_self_loop

Build = Callable[[int, int], Stack]  # from the number of features and of classes
Record = dict[str, float]  # of an epoch


def lowest_loss(record: Record) -> float:
    """Kipf and Welling stop on the validation loss."""
    return -record["validation loss"]


def best_accuracy(record: Record) -> tuple[float, float]:
    """Velickovic et al. stop on the validation accuracy and loss."""
    return record["validation"], -record["validation loss"]


def last(record: Record) -> float:
    """Wu et al. train a fixed number of epochs."""
    return record["epoch"]


@dataclass(frozen=True)
class Recipe:
    """How a paper trains: Adam, weight decay on all weights or the first layer's, and which epoch's weights count."""

    build: Build
    lr: float = 0.01
    weight_decay: float = 5e-4
    first_only: bool = False
    epochs: int = 200
    patience: int | None = None
    score: Callable[[Record], Any] = lowest_loss


def _two_layers(make: Callable[[int, int], nn.Module], hidden: int, in_feats: int, out_feats: int) -> Stack:
    return Stack.build(make, in_feats, hidden, out_feats, num_layers=2, dropout=0.5)


def _gat(out_heads: int, in_feats: int, out_feats: int) -> Stack:
    return Stack(
        [
            Block(GATConv(in_feats, 8, 8, attn_drop=0.6), activation=nn.ELU(), dropout=nn.Dropout(0.6)),
            Block(GATConv(64, out_feats, out_heads, attn_drop=0.6), dropout=nn.Dropout(0.6), merge=mean_heads),
        ]
    )


def _sgc(in_feats: int, out_feats: int) -> Stack:
    """The paper tunes the weight decay; the values below are the best mean validation accuracy of three seeds among
    1e-6, 5e-6, 1.3e-5, 2e-5, 5e-5, 1e-4 and 2e-4 (CiteSeer takes Cora's)."""
    return Stack([Block(SGConv(in_feats, out_feats, k=2))])


class Planetoid(Task):
    """The public split of Yang et al. 2016 (arXiv 1603.08861): 20 labels a class, 500 validation, 1000 test nodes."""

    layers = ("gcn", "gat", "sgc")
    seeds = 10
    epochs = 200
    gat: ClassVar[Recipe] = Recipe(partial(_gat, 1), 0.005, epochs=1000, patience=100, score=best_accuracy)
    sgc: ClassVar[Recipe] = Recipe(_sgc, lr=0.2, weight_decay=1.3e-5, epochs=100, score=last)

    def load(self, options: Options) -> None:
        graph = datasets.planetoid(self.name, options.data)
        feat = datasets.row_normalise(graph.ndata["feat"])
        self.graph = add_self_loop(graph)  # stays on the CPU: the index arrays follow the features
        self.feat, self.label = feat.to(options.device), graph.ndata["label"].to(options.device)
        self.masks = {part: graph.ndata[f"{part}_mask"].to(options.device) for part in ("train", "val", "test")}
        self.num_classes = int(self.label.max()) + 1
        self.geometry = Geometry()

    def recipe(self, layer: Layer) -> Recipe:
        if layer.name in ("gat", "sgc"):
            return getattr(self, layer.name)
        return Recipe(partial(_two_layers, layer.make(self.geometry), 16), first_only=True)

    def batch(self, part: str) -> Batch:
        rows = self.masks[part]
        return Batch(self.graph, self.feat, self.label[rows], rows=rows)

    def run(self, layer: Layer, seed: int, options: Options, on_epoch: OnEpoch) -> Outcome:
        torch.manual_seed(seed)
        recipe = self.recipe(layer)
        model = recipe.build(self.feat.shape[1], self.num_classes).to(options.device)
        decay = [0.0 if recipe.first_only and layer else recipe.weight_decay for layer in range(len(model.blocks))]
        groups = [{"params": b.parameters(), "weight_decay": d} for b, d in zip(model.blocks, decay, strict=True)]
        optimiser = torch.optim.Adam(groups, lr=recipe.lr)
        everything = [self.batch("train")._replace(rows=None)]

        def measure() -> dict[str, float]:
            outputs, _ = predict(model, everything)
            val = self.masks["val"]
            return {
                "validation": accuracy(outputs[val], self.label[val]),
                "validation loss": nn.functional.cross_entropy(outputs[val], self.label[val]).item(),
            }

        records = fit(
            model,
            lambda: [self.batch("train")],
            nn.functional.cross_entropy,
            optimiser,
            self.num_epochs(layer, options),
            measure=measure,
            score=recipe.score,
            patience=recipe.patience,
            on_epoch=on_epoch,
        )
        outputs, target = predict(model, [self.batch("test")])
        return Outcome(
            score=accuracy(outputs, target),
            parameters=count(model),
            validation=max(records, key=recipe.score)["validation"],
            curve=curve(records),
        )

    def num_epochs(self, layer: Layer, options: Options) -> int:
        return options.epochs or self.recipe(layer).epochs


class Cora(Planetoid):
    name = "cora"
    summary = "Cora, 2708 papers, 7 classes: node classification on the public split"


class CiteSeer(Planetoid):
    name = "citeseer"
    summary = "CiteSeer, 3327 papers, 6 classes: node classification on the public split"


class PubMed(Planetoid):
    name = "pubmed"
    summary = "PubMed, 19717 papers, 3 classes: node classification on the public split"
    gat = Recipe(partial(_gat, 8), 0.01, 1e-3, epochs=1000, patience=100, score=best_accuracy)
    sgc = Recipe(_sgc, lr=0.2, weight_decay=1e-4, epochs=100, score=last)
