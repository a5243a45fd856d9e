"""Link prediction: any encoder, decoder and kind of negatives; neighbourhood scores; graph autoencoders."""

from abc import abstractmethod
from collections.abc import Iterator
from functools import partial
from typing import Any, ClassVar

import torch
from sklearn.metrics import average_precision_score, roc_auc_score
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from gnnlib import GCNConv, Stack, datasets
from gnnlib.benchmarks.catalog.layers import Geometry, LayerSpec
from gnnlib.benchmarks.catalog.remedies import Kind, make_plan
from gnnlib.benchmarks.errors import UsageError
from gnnlib.benchmarks.records.results import Outcome
from gnnlib.benchmarks.tasks.base import OnEpoch, Options, Records
from gnnlib.benchmarks.tasks.link_data import Candidates, LinkData, Pairs, of_link_split
from gnnlib.benchmarks.tasks.link_model import DECODERS, SCORES, LinkPredictor, negatives, pair_features
from gnnlib.benchmarks.tasks.link_modes import FullLinks, LinkMode, NodesAlone, SampledLinks
from gnnlib.benchmarks.tasks.training import Training, TrainingTask
from gnnlib.benchmarks.tasks.unsupervised import Objective
from gnnlib.graph import GraphLike, add_self_loop
from gnnlib.models.autoencoder import GAE, VGAE
from gnnlib.train.distributed import world_size
from gnnlib.train.loop import Batch, decay_groups

EMBEDDING = "embedding"
HEURISTICS = tuple(
    LayerSpec(name, title, lambda _: nn.Identity)
    for name, title in zip(
        SCORES, ("common neighbours", "Adamic-Adar", "resource allocation", "personalised PageRank"), strict=True
    )
)


class Links(TrainingTask):
    """The protocol of the Open Graph Benchmark (Hu et al. 2020, arXiv 2005.00687, section 4.4): layers of one width on
    the training links in both directions and self-loops, a decoder of the embeddings of both ends, binary cross-entropy
    with as many pairs without a link; Adam; the epoch that is best on validation, on the metric of the test.

    ``--decoder`` is the decoder, ``--negatives`` what the pairs without a link are: two nodes ("uniform"), a source and
    another target ("source"), or those of the data set ("given"). ``--scores`` gives neighbourhood scores to the
    decoder "hadamard" as features of a pair. ``--mode`` says what a step sees: all nodes and links ("full"), or sampled
    neighbours of the ends of some links ("sampled"). ``--labels validation`` uses the links of the validation part in
    the test, where the rules of the data set allow it.

    Differs from OGB's baselines: the targets of a step are not among its messages, at most an eighth of the links a
    step. The layer "embedding" is a learned vector for each node, without messages. The layers with the names of
    neighbourhood scores are these scores, without training."""

    extra_layers: ClassVar[tuple[LayerSpec, ...]] = (
        LayerSpec(EMBEDDING, "embeddings alone", lambda _: nn.Identity),
        *HEURISTICS,
    )
    layers: ClassVar[tuple[str, ...]] = ("common-neighbors", "gcn", "sage")
    seeds = 10
    epochs = 20
    validates = sharded = True
    remedy = "none"
    modes: ClassVar[tuple[str, ...]] = ("full", "sampled")
    decoders: ClassVar[tuple[str, ...]] = ("hadamard", "dot", "bilinear")
    negatives: ClassVar[tuple[str, ...]] = ("uniform", "source")
    pair_scores: ClassVar[tuple[str, ...]] = tuple(SCORES)
    lr: ClassVar[float] = 0.005
    width: ClassVar[int] = 64
    num_layers: ClassVar[int] = 2
    batch_size: ClassVar[int] = 65536
    num_negatives: ClassVar[int] = 1  # for each link

    @abstractmethod
    def data_of(self, seed: int) -> LinkData:
        """The data of a seed."""

    def load(self, options: Options) -> None:
        self.mode, self.device = options.mode or self.modes[0], options.device
        self.decoder = options.decoder or self.decoders[0]
        self.kind = options.negatives or self.negatives[0]
        self.scores = options.scores.split("+") if options.scores else []
        self.remedies = options.remedy or self.remedy or "none"
        self.geometry = Geometry()
        if self.scores and self.decoder != "hadamard":
            raise UsageError(f"--scores: expected --decoder hadamard, which takes them, got {self.decoder}")
        make_plan("gcn", self.remedies, self.num_layers, (8, 8, 8)).check_task(self.name, self.remedies)

    def run(self, layer: LayerSpec, seed: int, options: Options, on_epoch: OnEpoch) -> Outcome:
        if layer not in HEURISTICS:
            return super().run(layer, seed, options, on_epoch)
        data = self.data_of(seed)

        def scores(graph: GraphLike, pairs: Pairs) -> Tensor:
            ends = torch.broadcast_tensors(pairs.src, pairs.dst)
            return SCORES[layer.name](graph, *(end.reshape(-1) for end in ends)).view(ends[0].shape)

        parts = []
        for graph, candidates in ((data.graph, data.valid), (data.test_graph, data.test)):
            parts.append([(scores(graph, c.links), scores(graph, c.pairs())) for c in candidates])
        valid, test = (100 * _metric(data, part) for part in parts)
        return Outcome(score=test, parameters=0, validation=valid, figures=self.figures(parts[1]))

    def figures(self, scores: list[tuple[Tensor, Tensor]]) -> dict[str, float]:
        """Further figures of the scores of the test."""
        return {}

    def predictor(self, layer: LayerSpec, data: LinkData) -> tuple[LinkPredictor, dict[str, float]]:
        """A network at its start, and its weight decay."""
        make = layer.make(self.geometry)
        if layer.name == "gcn" and self.mode == "sampled":
            make = partial(GCNConv, norm="right")  # on `gcn_edge_weights`
        decoder = DECODERS[self.decoder](self.width, len(self.scores), data.num_relations)
        table = None
        if layer.name == EMBEDDING or data.feat is None:
            table = nn.Embedding(data.graph.num_nodes(), self.width)
            nn.init.xavier_uniform_(table.weight)
        feat = data.feat if table is None else table.weight.detach()
        assert feat is not None
        widths = feat.shape[1], self.width, self.width
        plan = make_plan(Kind(layer.title, make), self.remedies, self.num_layers, widths)
        encoder = None if layer.name == EMBEDDING else plan.build(data.graph, feat)
        return LinkPredictor(encoder, decoder, table).to(self.device), plan.decay

    def mode_of(self, layer: LayerSpec, data: LinkData) -> LinkMode:
        data = data._replace(feat=None) if layer.name == EMBEDDING else data
        kind = NodesAlone if layer.name == EMBEDDING else FullLinks
        full = kind(data, self.scores, self.batch_size, self.device)
        if self.mode == "full" or layer.name == EMBEDDING:
            return full
        return SampledLinks(full, (15, 10, 5)[: self.num_layers], layer.name == "gcn")

    def training(self, layer: LayerSpec, seed: int, generator: torch.Generator, options: Options) -> Training:
        data = self.data_of(seed)
        if self.kind == "given" and data.train_negatives is None:
            raise UsageError(f"--negatives: {self.name} has none for the training, got 'given'")
        model, decay = self.predictor(layer, data)
        mode = self.mode_of(layer, data)
        test_features: dict[int, Any] = {}

        def scores(graph: GraphLike, candidates: list[Candidates]) -> list[tuple[Tensor, Tensor]]:
            z, parts = mode.embed(model, graph), []
            with torch.no_grad():
                for c in candidates:
                    pairs = c.links, c.pairs()
                    if id(c) not in test_features:  # they do not change
                        test_features[id(c)] = [pair_features(self.scores, graph, p.src, p.dst) for p in pairs]
                    parts.append([model.scores(z, p, f) for p, f in zip(pairs, test_features[id(c)], strict=True)])
            return [(links, negatives) for links, negatives in parts]

        def test(records: Records) -> dict[str, Any]:
            parts = scores(data.test_graph, data.test)
            best = max(record["validation"] for record in records)
            return {"score": 100 * _metric(data, parts), "validation": best, "figures": self.figures(parts)}

        optimizer = torch.optim.Adam(decay_groups(model, decay), lr=self.lr)

        def batches() -> Iterator[Batch]:
            draw = partial(self._negatives, data=data, generator=generator)
            return mode.batches(draw, generator)

        return Training(
            model,
            batches,
            binary_cross_entropy_with_logits,
            optimizer,
            test,
            scheduler=self.scheduler(optimizer, self.num_epochs(layer, options), options),
            measure=lambda: {"validation": 100 * _metric(data, scores(data.graph, data.valid))},
            score=lambda record: record["validation"],
        )

    def _negatives(self, links: Pairs, data: LinkData, generator: torch.Generator) -> Pairs:
        return negatives(self.kind, links, data, self.num_negatives, generator)


def _metric(data: LinkData, parts: list[tuple[Tensor, Tensor]]) -> float:
    """The metric of the scores of all candidates."""
    positive, negative = (torch.cat(scores) for scores in zip(*parts, strict=True))
    return data.metric(positive, negative)


class CitationLinks(Links):
    """Kipf and Welling's protocol (2016, arXiv 1611.07308): 10 % of the links and as many non-links for the test, 5 %
    for validation.

    By default, ``--negatives all``, the network is their graph autoencoder, whose loss is over all pairs of nodes, with
    an inner product: two layers, 32 and 16 wide, without biases, 200 epochs of Adam at 0.01, features as published, the
    last weights. "gae" and "vgae" are the paper's; any other layer is put in the place of the former's GCN. Each seed
    draws a split and the weights, where the paper has one split for all. The targets are among the messages, as in the
    paper. With other negatives, the protocol is that of `Links`.
    """

    metric = "test AUC"
    layers = ("gae", "vgae")
    extra_layers = (
        LayerSpec("gae", "GAE", lambda _: partial(GCNConv, bias=False)),
        LayerSpec("vgae", "VGAE", lambda _: partial(GCNConv, bias=False)),
        *Links.extra_layers,
    )
    epochs = 200
    lr = 0.01
    decoders = ("dot", "hadamard", "bilinear")
    negatives = ("all", "uniform", "source")
    batch_size = 2048
    num_pairs: ClassVar[int | None] = None  # in each epoch's loss; None: all

    def load(self, options: Options) -> None:
        super().load(options)
        if self.kind == "all" and (self.decoder, self.mode, self.remedies) != ("dot", "full", "none"):
            raise UsageError(
                "--negatives all: expected --decoder dot, --mode full and no remedy, as in the paper; for others, "
                "--negatives uniform"
            )
        if self.kind == "all" and world_size() > 1:
            raise UsageError(f"--negatives all trains on everything at once: expected one process, got {world_size()}")
        self.graph = datasets.planetoid(self.name.removeprefix("links-"), options.data)

    def data_of(self, seed: int) -> LinkData:
        return of_link_split(self.graph, seed, "rocauc")

    def figures(self, scores: list[tuple[Tensor, Tensor]]) -> dict[str, float]:
        return {"average precision, %": ranking(*scores[0])[1]}

    def autoencoder(self, layer: LayerSpec) -> GAE:
        """The paper's network, or another layer in it."""
        kind, width = (VGAE, 2 * 16) if layer.name == "vgae" else (GAE, 16)
        make, in_feats = layer.make(self.geometry), self.graph.ndata["feat"].shape[1]
        return kind(Stack.build(make, in_feats, 32, width, num_layers=2), num_pairs=self.num_pairs)

    def predictor(self, layer: LayerSpec, data: LinkData) -> tuple[LinkPredictor, dict[str, float]]:
        if self.kind != "all":
            return super().predictor(layer, data)
        return LinkPredictor(self.autoencoder(layer), DECODERS["dot"](0, 0, 0)).to(self.device), {}

    def training(self, layer: LayerSpec, seed: int, generator: torch.Generator, options: Options) -> Training:
        if self.kind == "all" and layer.name == EMBEDDING:
            raise UsageError(f"--layers {EMBEDDING}: expected --negatives uniform or source, got all")
        training = super().training(layer, seed, generator, options)
        if self.kind != "all":
            return training
        data = self.data_of(seed)
        graph, feat = add_self_loop(data.graph), self.graph.ndata["feat"].to(self.device)
        training.learner = Objective(training.model.encoder)  # type: ignore[arg-type]
        training.batches = lambda: [Batch(graph, feat, feat[:1])]
        training.loss = lambda loss, _: loss
        training.score, test = None, training.test
        training.test = lambda records: {**test(records), "validation": records[-1]["validation"]}
        return training


def ranking(positive: Tensor, negative: Tensor) -> tuple[float, float]:
    """Area under the ROC curve and average precision, percent, of the scores of links and of pairs without a link."""
    linked = torch.cat([torch.ones(len(positive)), torch.zeros(len(negative))])
    score = torch.cat([positive, negative])
    return 100 * roc_auc_score(linked, score), 100 * average_precision_score(linked, score)


class LinksCora(CitationLinks):
    name = "links-cora"
    summary = "Cora, 5278 links: link prediction, 10 % held out (--decoder D, --negatives N, --scores A+B)"


class LinksPubMed(CitationLinks):
    name = "links-pubmed"
    summary = "PubMed, 44324 links: link prediction, 10 % held out (--decoder D, --negatives N, --scores A+B)"
    epochs = 300  # the variational form is still learning at 200
    num_pairs = 2**18  # of 19717^2


class LinksPlanted(Links):
    """The links of `gnnlib.datasets.planted`, split as by Kipf and Welling: Hits@100 among as many pairs without a link
    as there are links in the test."""

    name = "links-planted"
    summary = "10000 nodes in 40 planted communities: link prediction, Hits@100 (--limit N of them, --mode M)"
    metric = "test Hits@100"
    limited = True
    seeds = 3
    batch_size = 8192

    def load(self, options: Options) -> None:
        super().load(options)
        self.graph, _ = datasets.planted(options.limit or 10_000)
        del self.graph.ndata["label"]

    def data_of(self, seed: int) -> LinkData:
        return of_link_split(self.graph, seed, "hits@100")

    def figures(self, scores: list[tuple[Tensor, Tensor]]) -> dict[str, float]:
        return {"AUC, %": ranking(*scores[0])[0]}
