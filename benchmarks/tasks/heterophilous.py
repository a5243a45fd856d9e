"""Node classification on heterophilous graphs, with the deep networks of Luo et al. 2024 (arXiv 2406.08993)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from gnnlib import BatchNorm, GATConv, LayerNorm, Residual, Stack, datasets
from gnnlib.benchmarks.catalog.layers import Geometry, LayerSpec
from gnnlib.benchmarks.metrics import accuracy, roc_auc
from gnnlib.benchmarks.tasks.base import Options, Records, predict
from gnnlib.benchmarks.tasks.training import Training, TrainingTask
from gnnlib.graph import add_self_loop
from gnnlib.nn.drop import Dropout
from gnnlib.ops.linear import Linear
from gnnlib.train.loop import Batch, decay_groups

NORMS: dict[str | None, Callable[[int], nn.Module] | None] = {"batch": BatchNorm, "layer": LayerNorm, None: None}


@dataclass(frozen=True)
class DeepNet:
    """A network of Luo et al. 2024, table 6, with the arguments of their code: relu(norm(conv(x) + x W)), dropout after
    each activation, and a linear layer at the end.

    encoder: whether a linear layer comes first
    """

    num_layers: int
    width: int = 64
    dropout: float = 0.2
    norm: str | None = "batch"
    residual: bool = True
    encoder: bool = False
    lr: float = 0.01
    decay: float = 0.0
    epochs: int = 2000

    def build(self, make: Callable[[int, int], nn.Module], in_feats: int, out_feats: int) -> Stack:
        """The network of a layer."""
        first = nn.Sequential(Linear(in_feats, self.width), Dropout(self.dropout))
        return Stack.build(
            make,
            in_feats,
            self.width,
            out_feats,
            self.num_layers,
            norm=NORMS[self.norm],
            skip=partial(Residual, linear=True) if self.residual else None,
            norm_after_skip=True,
            activation=lambda: nn.Sequential(nn.ReLU(), Dropout(self.dropout)),
            encoder=first if self.encoder else False,
            head=True,
        )


class Heterophilous(TrainingTask):
    """The ten splits of Platonov et al. 2023 (arXiv 2302.11640); a seed is a split. Validation chooses the epoch."""

    layers = ("gcn", "sage", "gat")
    seeds = 10
    max_seeds = 10
    nets: ClassVar[Mapping[str, DeepNet]]  # of each layer; other layers take that of "gcn"

    def load(self, options: Options) -> None:
        graph = datasets.heterophilous(self.name, options.data)
        self.graph = add_self_loop(graph)  # stays on the CPU: the index arrays follow the features
        self.feat, self.label = (graph.ndata[name].to(options.device) for name in ("feat", "label"))
        self.masks = {part: graph.ndata[f"{part}_mask"].to(options.device) for part in ("train", "val", "test")}
        self.num_classes = int(self.label.max()) + 1
        self.geometry = Geometry()

    def score(self, outputs: Tensor, target: Tensor) -> float:
        """The metric, in percent."""
        return accuracy(outputs, target)

    def net(self, layer: LayerSpec) -> DeepNet:
        """The network in which a layer is trained."""
        return self.nets.get(layer.name, self.nets["gcn"])

    def num_epochs(self, layer: LayerSpec, options: Options) -> int:
        return options.epochs or self.net(layer).epochs

    def training(self, layer: LayerSpec, seed: int, generator: torch.Generator, options: Options) -> Training:
        net = self.net(layer)
        make = _gat if layer.name == "gat" else layer.make(self.geometry)
        model = net.build(make, self.feat.shape[1], self.num_classes).to(options.device)
        rows = {part: mask[:, seed] for part, mask in self.masks.items()}
        batches = {part: Batch(self.graph, self.feat, self.label[mask], rows=mask) for part, mask in rows.items()}

        def measure() -> dict[str, float]:
            return {"validation": self.score(*predict(model, [batches["val"]]))}

        def test(records: Records) -> dict[str, Any]:
            best = max(record["validation"] for record in records)
            return {"score": self.score(*predict(model, [batches["test"]])), "validation": best}

        return Training(
            model,
            lambda: [batches["train"]],
            nn.functional.cross_entropy,
            torch.optim.Adam(decay_groups(model, {"*": net.decay}), lr=net.lr, fused=True),
            test,
            measure=measure,
            score=lambda record: record["validation"],
        )


def _gat(in_feats: int, out_feats: int) -> nn.Module:
    return GATConv(in_feats, out_feats, 1, bias=False)


class _Binary(Heterophilous):
    metric = "test area under the ROC curve"

    def score(self, outputs: Tensor, target: Tensor) -> float:
        return roc_auc(outputs, target)


class Minesweeper(_Binary):
    name = "minesweeper"
    summary = "Minesweeper, a grid of 10000 cells: which ones are mines (a seed is a split); needs 12 layers"
    nets: ClassVar = {"gcn": DeepNet(12), "sage": DeepNet(15), "gat": DeepNet(15)}


class Tolokers(_Binary):
    """Luo et al. have no figures of it; the network is that of Minesweeper."""

    name = "tolokers"
    summary = "Tolokers, 11758 workers: who was banned (a seed is a split)"
    nets: ClassVar = Minesweeper.nets


class Questions(_Binary):
    name = "questions"
    summary = "Questions, 48921 users of a site: who remained active (a seed is a split)"
    _wide = partial(DeepNet, width=512, encoder=True, lr=3e-5, epochs=1500)
    nets: ClassVar = {
        "gcn": _wide(10, dropout=0.3, norm=None),
        "sage": _wide(6, norm="layer", residual=False),
        "gat": _wide(3, norm="layer"),
    }


class RomanEmpire(Heterophilous):
    name = "roman-empire"
    summary = "Roman-Empire, 22662 words of an article, 18 classes: their syntactic role (a seed is a split)"
    _wide = partial(DeepNet, encoder=True, lr=1e-3, epochs=2500)
    nets: ClassVar = {
        "gcn": _wide(9, width=512, dropout=0.5),
        "sage": _wide(9, width=256, dropout=0.3, residual=False),
        "gat": _wide(10, width=512, dropout=0.3),
    }


class AmazonRatings(Heterophilous):
    name = "amazon-ratings"
    summary = "Amazon-Ratings, 24492 products bought together, 5 classes: their rating (a seed is a split)"
    _wide = partial(DeepNet, width=512, dropout=0.5, lr=1e-3, epochs=2500)
    nets: ClassVar = {"gcn": _wide(4), "sage": _wide(9), "gat": _wide(4)}


class SquirrelFiltered(Heterophilous):
    name = "squirrel-filtered"
    summary = "Squirrel, 2223 articles of Wikipedia, 5 classes of traffic, without duplicates (a seed is a split)"
    _decayed = partial(DeepNet, width=256, dropout=0.7, decay=5e-4, epochs=500)
    nets: ClassVar = {"gcn": _decayed(4), "sage": _decayed(3), "gat": _decayed(7, width=512, dropout=0.5, lr=0.005)}


class ChameleonFiltered(Heterophilous):
    name = "chameleon-filtered"
    summary = "Chameleon, 890 articles of Wikipedia, 5 classes of traffic, without duplicates (a seed is a split)"
    _decayed = partial(DeepNet, width=256, dropout=0.7, decay=1e-3, epochs=200)
    nets: ClassVar = {
        "gcn": _decayed(5, width=512, dropout=0.2, norm=None, residual=False, lr=0.005),
        "sage": _decayed(4),
        "gat": _decayed(2),
    }


HETEROPHILOUS: list[type[Heterophilous]] = [
    Minesweeper,
    RomanEmpire,
    AmazonRatings,
    Tolokers,
    Questions,
    SquirrelFiltered,
    ChameleonFiltered,
]
