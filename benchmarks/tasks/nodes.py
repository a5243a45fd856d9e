"""Node classification on citation graphs, each model by its paper's recipe."""

from collections.abc import Mapping
from typing import Any, ClassVar, cast

import torch
from torch import nn

from gnnlib import datasets, propagate
from gnnlib.benchmarks.catalog.layers import Geometry, LayerSpec
from gnnlib.benchmarks.metrics import accuracy
from gnnlib.benchmarks.records.results import Outcome
from gnnlib.benchmarks.tasks import infomax
from gnnlib.benchmarks.tasks.base import OnEpoch, Options, Records, predict
from gnnlib.benchmarks.tasks.recipes import PUBMED, RECIPES, PublishedTraining, two_layers
from gnnlib.benchmarks.tasks.training import Training, TrainingTask, validate
from gnnlib.benchmarks.tasks.words import on_words, words
from gnnlib.graph import add_self_loop, node_subgraph
from gnnlib.models import GCNII, APPNPNet, DAGNNNet, GfNN, JKNet
from gnnlib.train.consistency import ConsistencyLoss, StochasticPasses
from gnnlib.train.loop import Batch, decay_groups


class Planetoid(TrainingTask):
    """The public split of Yang et al. 2016 (arXiv 1603.08861): 20 labels a class, 500 validation, 1000 test nodes."""

    layers = ("gcn", "gat", "sgc", "gfnn", "appnp", "dagnn", "jknet")
    extra_layers = (
        LayerSpec("gfnn", "GfNN", lambda _: GfNN),
        LayerSpec("appnp", "APPNP", lambda _: APPNPNet),
        LayerSpec("dagnn", "DAGNN", lambda _: DAGNNNet),
        LayerSpec("dagnn-64", "DAGNN, 64 hops", lambda _: DAGNNNet),
        LayerSpec("dagnn-64-consistent", "DAGNN, 64 hops, consistent", lambda _: DAGNNNet),
        LayerSpec("jknet", "JKNet", lambda _: JKNet),
        LayerSpec("gcnii", "GCNII", lambda _: GCNII),
        LayerSpec("gcnii-consistent", "GCNII, consistent", lambda _: GCNII),
        infomax.LAYER,
    )
    seeds = 10
    epochs = 200
    recipes: ClassVar[Mapping[str, PublishedTraining]] = RECIPES  # of other layers: `two_layers`

    def load(self, options: Options) -> None:
        graph = datasets.planetoid(self.name, options.data)
        feat = datasets.row_normalise(graph.ndata["feat"])
        self.graph = add_self_loop(graph)  # stays on the CPU: the index arrays follow the features
        self.feat, self.label = feat.to(options.device), graph.ndata["label"].to(options.device)
        self.masks = {part: graph.ndata[f"{part}_mask"].to(options.device) for part in ("train", "val", "test")}
        self.num_classes = int(self.label.max()) + 1
        self.geometry = Geometry()

    def recipe(self, layer: LayerSpec) -> PublishedTraining:
        return self.recipes.get(layer.name) or two_layers(layer.make(self.geometry))

    def batches(self, recipe: PublishedTraining) -> dict[str, Batch]:
        """Of each part's nodes, with features as the recipe takes them."""
        x = self.feat
        for _ in range(recipe.hops):
            x = propagate(self.graph, x)
        if recipe.hops:  # what is left of the model looks at single nodes
            alone = {part: node_subgraph(self.graph, rows.cpu()) for part, rows in self.masks.items()}
            return {part: Batch(alone[part], x[rows], self.label[rows]) for part, rows in self.masks.items()}
        features: Any = words(x) if recipe.words else x
        return {part: Batch(self.graph, features, self.label[rows], rows=rows) for part, rows in self.masks.items()}

    def run(self, layer: LayerSpec, seed: int, options: Options, on_epoch: OnEpoch) -> Outcome:
        if layer is infomax.LAYER:
            return infomax.run(self, seed, options, on_epoch)
        return super().run(layer, seed, options, on_epoch)

    def training(self, layer: LayerSpec, seed: int, generator: torch.Generator, options: Options) -> Training:
        recipe = self.recipe(layer)
        model = recipe.build(self.feat.shape[1], self.num_classes).to(options.device)
        model = on_words(model) if recipe.words else model
        batches = self.batches(recipe)
        train, learner, loss = batches["train"], cast(nn.Module, model), nn.functional.cross_entropy
        if recipe.draws > 1:  # the consistency loss compares the outputs of all nodes
            train = train._replace(target=self.label.where(self.masks["train"], -100), rows=None)
            learner, loss = StochasticPasses(model, recipe.draws), ConsistencyLoss()

        def test(records: Records) -> dict[str, Any]:
            best = max(records, key=recipe.score)["validation"]
            return {"score": accuracy(*predict(model, [batches["test"]])), "validation": best}

        return Training(
            model,
            lambda: [train],
            loss,
            torch.optim.Adam(decay_groups(model, recipe.decay), lr=recipe.lr),
            test,
            measure=lambda: validate(model, [batches["val"]]),
            score=recipe.score,
            learner=learner,
            patience=recipe.patience,
        )

    def num_epochs(self, layer: LayerSpec, options: Options) -> int:
        return options.epochs or (infomax.EPOCHS if layer is infomax.LAYER else self.recipe(layer).epochs)


class Cora(Planetoid):
    name = "cora"
    summary = "Cora, 2708 papers, 7 classes: node classification on the public split (also: --layers gcnii,dgi,mlp)"


class CiteSeer(Planetoid):
    name = "citeseer"
    summary = "CiteSeer, 3327 papers, 6 classes: node classification on the public split (also: --layers gcnii,dgi,mlp)"


class PubMed(Planetoid):
    name = "pubmed"
    summary = "PubMed, 19717 papers, 3 classes: node classification on the public split (also: --layers gcnii,dgi,mlp)"
    recipes = PUBMED
