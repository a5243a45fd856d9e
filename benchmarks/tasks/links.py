"""Link prediction on citation graphs with graph autoencoders."""

from functools import partial
from typing import ClassVar

import torch
from sklearn.metrics import average_precision_score, roc_auc_score
from torch import Tensor

from gnnlib import GCNConv, Stack, datasets
from gnnlib.benchmarks.catalog.layers import Geometry, LayerSpec
from gnnlib.benchmarks.metrics import num_parameters
from gnnlib.benchmarks.records.results import Outcome
from gnnlib.benchmarks.tasks.base import OnEpoch, Options, Task, curve
from gnnlib.benchmarks.tasks.unsupervised import learn
from gnnlib.graph import add_self_loop
from gnnlib.models.autoencoder import GAE, VGAE, link_scores


def ranking(z: Tensor, links: datasets.Links) -> tuple[float, float]:
    """Area under the ROC curve and average precision, percent, of links scored by their embeddings."""
    score = link_scores(z.cpu(), links.u, links.v)
    return 100 * roc_auc_score(links.linked, score), 100 * average_precision_score(links.linked, score)


class LinkPrediction(Task):
    """Kipf and Welling's protocol: 10 % of the links and as many non-links for the test, 5 % for validation.

    The network sees the features and the other 85 % of the links: two layers, 32 and 16 wide, without biases, 200
    epochs of Adam at 0.01, features as published. "gae" and "vgae" are the paper's; any other layer is put in the place
    of the former's GCN. Each seed draws a split and the weights, where the paper has one split for all.
    """

    metric = "test AUC"
    layers = ("gae", "vgae")
    extra_layers = (
        LayerSpec("gae", "GAE", lambda _: partial(GCNConv, bias=False)),
        LayerSpec("vgae", "VGAE", lambda _: partial(GCNConv, bias=False)),
    )
    seeds = 10
    epochs = 200
    lr: ClassVar[float] = 0.01
    num_pairs: ClassVar[int | None] = None  # in each epoch's loss; None: all

    def load(self, options: Options) -> None:
        self.graph = datasets.planetoid(self.name.removeprefix("links-"), options.data)
        self.feat = self.graph.ndata["feat"].to(options.device)
        self.geometry = Geometry()

    def model(self, layer: LayerSpec) -> GAE:
        kind, width = (VGAE, 2 * 16) if layer.name == "vgae" else (GAE, 16)
        make = layer.make(self.geometry)
        return kind(Stack.build(make, self.feat.shape[1], 32, width, num_layers=2), num_pairs=self.num_pairs)

    def run(self, layer: LayerSpec, seed: int, options: Options, on_epoch: OnEpoch) -> Outcome:
        torch.manual_seed(seed)
        split = datasets.link_split(self.graph, seed)
        graph, model = add_self_loop(split.graph), self.model(layer).to(options.device)

        @torch.no_grad()
        def measure(links: datasets.Links) -> tuple[float, float]:
            return ranking(model(graph, self.feat), links)

        records = learn(
            model,
            graph,
            self.feat,
            self.lr,
            self.num_epochs(layer, options),
            measure=lambda: {"validation": measure(split.val)[0]},
            on_epoch=on_epoch,
        )
        auc, precision = measure(split.test)
        return Outcome(
            score=auc,
            parameters=num_parameters(model),
            validation=records[-1]["validation"],
            curve=curve(records),
            figures={"average precision, %": precision},
        )


class LinksCora(LinkPrediction):
    name = "links-cora"
    summary = "Cora, 5278 links: link prediction, 10 % held out"


class LinksPubMed(LinkPrediction):
    name = "links-pubmed"
    summary = "PubMed, 44324 links: link prediction, 10 % held out"
    epochs = 300  # the variational form is still learning at 200
    num_pairs = 2**18  # of 19717^2
