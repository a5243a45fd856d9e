"""Node classification on one large graph: in full batches, sampled, in clusters, or with hops made before."""

import zlib
from abc import abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from gnnlib import GCNConv, Stack
from gnnlib.benchmarks.catalog.layers import Geometry, LayerSpec
from gnnlib.benchmarks.catalog.remedies import Kind, make_plan
from gnnlib.benchmarks.errors import UsageError
from gnnlib.benchmarks.metrics import num_parameters
from gnnlib.benchmarks.peak_memory import peak, reset_peak
from gnnlib.benchmarks.records.results import Outcome
from gnnlib.benchmarks.tasks.base import OnEpoch, Options, Task, curve
from gnnlib.benchmarks.tasks.node_modes import Clusters, Full, Mode, Rows, Sampled
from gnnlib.benchmarks.tasks.training import Training
from gnnlib.datasets.files import cache_dir
from gnnlib.graph import GraphLike, add_self_loop, new_graph
from gnnlib.large.labels import (
    FeaturesWithLabels,
    correct_residuals,
    label_propagation,
    mask_labels,
    mix_soft_labels,
    smooth_predictions,
)
from gnnlib.large.precomputed import PropagatedFeatures, precompute_propagation
from gnnlib.large.sampling import gcn_edge_weights
from gnnlib.large.tables import NpyMatrix
from gnnlib.models import SIGN
from gnnlib.nn.drop import Dropout
from gnnlib.nn.propagation import Hops
from gnnlib.train.distributed import world_size
from gnnlib.train.loop import Batch, decay_groups

OutputsOf = Callable[[Tensor], Tensor]  # from ids of nodes (n,) to (n, C)


class Nodes(NamedTuple):
    """A data set: features (N, F), labels (N, tasks), the ids of each part, and a metric of outputs and labels, at best
    1."""

    graph: GraphLike
    feat: Tensor
    labels: Tensor
    split: dict[str, Tensor]
    metric: Callable[[Tensor, Tensor], float]
    num_outputs: int


class Setting(NamedTuple):
    """How a mode trains; a batch is of nodes, in clusters of clusters."""

    epochs: int
    lr: float = 0.01
    batch_size: int = 0


def _sgc(in_feats: int, hidden: int, out_feats: int, k: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(in_feats, out_feats))


def _gfnn(in_feats: int, hidden: int, out_feats: int, k: int) -> nn.Module:
    ends = nn.Linear(in_feats, hidden), nn.Linear(hidden, out_feats)
    return nn.Sequential(nn.Flatten(), ends[0], nn.ReLU(), Dropout(0.5), ends[1])


def _sign(in_feats: int, hidden: int, out_feats: int, k: int) -> nn.Module:
    return SIGN(in_feats, hidden, out_feats, k).head  # type: ignore[return-value]


class LargeNodes(Task):
    """Layers of one width with batch normalisation and dropout of 0.5, as in the baselines of Hu et al. 2020 (arXiv
    2005.00687, section 4), on links in both directions and self-loops; Adam; the epoch that is best on validation.

    ``--mode`` says what a step of training sees: everything ("full"); some nodes with sampled neighbours, and theirs
    ("sampled"); a few of METIS' clusters ("clusters"); or rows of features that made their hops before, on the disk
    ("propagated": SGC, GfNN, SIGN). The networks are the same, and validated and tested on the whole graph.

    ``--labels`` gives training labels as input, half of them in each epoch, the other half being the targets ("input");
    trains a second network on the mean of labels and the first one's probabilities ("distil"); corrects and smooths the
    outputs ("correct-smooth"). The layer "labels" is label propagation, without features or training.

    The figure of memory is what the process took for data and training, above what it had before the data."""

    extra_layers: ClassVar[tuple[LayerSpec, ...]] = (
        LayerSpec("gcn", "GCN", lambda _: partial(GCNConv, norm="right")),  # on `gcn_edge_weights`
        LayerSpec("sgc", "SGC", lambda _: _sgc, needs="hops"),
        LayerSpec("gfnn", "GfNN", lambda _: _gfnn, needs="hops"),
        LayerSpec("sign", "SIGN", lambda _: _sign, needs="hops"),
        LayerSpec("labels", "labels alone", lambda _: nn.Identity),
    )
    layers: ClassVar[tuple[str, ...]] = ("mlp", "gcn", "sage", "sgc", "gfnn", "sign")  # where the mode serves them
    seeds = 10
    remedy = "batchnorm+dropout"
    modes = ("full", "sampled", "clusters", "propagated")
    label_uses: ClassVar[tuple[str, ...]] = ("input", "distil", "correct-smooth")
    one_model = validates = True
    schedule = "constant"
    inputs = "a graph with its features, (N, F); hops of features, (n, hops, F), where they were made before"
    sharded = True
    width: ClassVar[int] = 256
    num_layers: ClassVar[int] = 3
    hops: ClassVar[int] = 3
    fanouts: ClassVar[tuple[int, ...]] = (10, 10, 10)
    cluster_size: ClassVar[int] = 340  # nodes
    settings: ClassVar[dict[str, Setting]] = {
        "full": Setting(500),
        "sampled": Setting(20, 0.003, 512),
        "clusters": Setting(50, 0.003, 20),
        "propagated": Setting(50, 0.003, 2048),
    }

    @abstractmethod
    def read(self, options: Options) -> Nodes:
        """Loads the data set."""

    def load(self, options: Options) -> None:
        self.mode, self.uses = options.mode or self.modes[0], (options.labels or "").split("+")
        self.remedies, self.device = options.remedy or self.remedy or "none", options.device
        self._check()
        hops = self.mode in ("full", "propagated") and "input" not in self.uses
        self.geometry = Geometry(graph=self.mode != "propagated", hops=hops)
        Hops(1)(new_graph([0], [0]), torch.ones(1, 1))  # kernels are there now, and not counted
        self.before = reset_peak()
        graph, feat, self.labels, self.split, self.metric_of, self.num_outputs = self.read(options)
        self.graph, self.in_feats = add_self_loop(graph.int()), feat.shape[1]
        self.feat: Tensor | NpyMatrix = feat if self.mode == "full" else self._on_disk(feat)
        self.target = self.labels.squeeze(1).nan_to_num(-1).long() if self.labels.shape[1] == 1 else self.labels.float()
        del graph, feat
        if self.mode == "propagated":
            start = self.folder / "hop-0.npy"
            self.files = precompute_propagation(self.graph, start, self.folder, self.hops, memory=2**26)
            if "correct-smooth" not in self.uses:  # nothing else sees edges
                self.graph = new_graph([], [], len(self.feat))
        self.loaded = peak()

    def _check(self) -> None:
        """Checks the options.

        Raises:
            UsageError: for options that cannot be combined, or an unknown remedy
        """
        if "input" in self.uses and self.mode == "propagated":
            raise UsageError("--labels input: expected another --mode than propagated, whose hops are made once")
        if self.mode == "full" and world_size() > 1:
            raise UsageError(f"--mode full trains on everything at once: expected one process, got {world_size()}")
        make_plan("gcn", self.remedies, self.num_layers, (8, 8, 8)).check_task(self.name, self.remedies)

    def _on_disk(self, feat: Tensor) -> NpyMatrix:
        """The features as a file in the user's cache, in a folder named by their checksum."""
        content = np.ascontiguousarray(feat.numpy())
        self.folder = cache_dir() / "nodes" / f"{self.name}-{len(content)}-{zlib.crc32(content.data):08x}"
        table = NpyMatrix(self.folder / "hop-0.npy", content.shape, content.dtype)
        if not table.path.exists():
            table.write([content])
        return NpyMatrix.open(table.path)

    def partitionable(self) -> tuple[GraphLike, dict[str, Tensor]]:
        """The loaded graph for `partition_graph`, with ndata ``feat`` and ``label``, and the node ids of each part."""
        graph: Any = self.graph.long()
        graph.ndata["feat"], graph.ndata["label"] = self.feat, self.target
        return graph, self.split

    def num_epochs(self, layer: LayerSpec, options: Options) -> int:
        return options.epochs or self._setting(layer).epochs

    def _setting(self, layer: LayerSpec) -> Setting:
        return self.settings[self.mode]

    def run(self, layer: LayerSpec, seed: int, options: Options, on_epoch: OnEpoch) -> Outcome:
        reset_peak()
        torch.manual_seed(seed)
        train, everything = self.split["train"], torch.arange(self.graph.num_nodes())
        model: nn.Module = nn.Identity()
        records: list[dict[str, float]] = []
        if layer.name == "labels":
            labels = mask_labels(self.target, train)
            outputs: OutputsOf = label_propagation(self.graph, labels, self.num_outputs).__getitem__
        else:
            outputs, model, records = self._learn(layer, seed, options, on_epoch)
        score, figures = self._score(outputs, "test"), {}
        if "correct-smooth" in self.uses:
            figures["before correct-smooth, %"] = score
            labels, prob = mask_labels(self.target, train), outputs(everything).softmax(1)
            outputs = smooth_predictions(self.graph, correct_residuals(self.graph, prob, labels), labels).__getitem__
            score = self._score(outputs, "test")
        if self.before is not None:
            figures["peak memory, MiB"] = (max(self.loaded, peak()) - self.before) / 2**20
        return Outcome(
            score=score,
            parameters=num_parameters(model),
            validation=self._score(outputs, "valid"),
            curve=curve(records),
            figures=figures,
            model=model,
        )

    def _score(self, outputs: OutputsOf, part: str) -> float:
        return 100 * self.metric_of(outputs(self.split[part]), self.labels[self.split[part]])

    def _learn(
        self, layer: LayerSpec, seed: int, options: Options, on_epoch: OnEpoch
    ) -> tuple[OutputsOf, nn.Module, list[dict[str, float]]]:
        """One network; with "distil" a second one, trained on the outputs of the first."""
        mode, x = self._mode(layer), self._features(layer)
        generator = torch.Generator().manual_seed(seed)
        if "distil" not in self.uses:
            return self._train(layer, mode, x, self.target, generator, options, on_epoch)
        checkpoint = options.checkpoint and options.checkpoint.beside("teacher")
        teaching = replace(options, checkpoint=checkpoint)
        teacher, *_ = self._train(layer, mode, x, self.target, generator, teaching, lambda record: None)
        train = self.split["train"]
        target = torch.zeros(len(self.target), self.num_outputs)
        target[train] = mix_soft_labels(self.target[train], teacher(train).softmax(1))
        student = self._train(layer, mode, x, target, generator, options, on_epoch)
        if checkpoint:
            checkpoint.remove()
        return student

    def _mode(self, layer: LayerSpec) -> Mode:
        setting = self._setting(layer)
        if layer.needs == "hops":
            return Rows(self.device, setting.batch_size or self.graph.num_nodes())
        edge = gcn_edge_weights(self.graph) if layer.name == "gcn" else None
        if self.mode == "full":
            return Full(self.graph, edge, self.device)
        common = self.graph, edge, self.device, self.fanouts, setting.batch_size, self.folder
        if self.mode == "sampled":
            return Sampled(*common)
        return Clusters(*common, number=max(1, self.graph.num_nodes() // self.cluster_size))

    def _features(self, layer: LayerSpec) -> Any:
        """The features by node id, with the hops that the layer takes."""
        if layer.needs != "hops":
            return self.feat
        hops = slice(None) if layer.name == "sign" else slice(-1, None)
        if self.mode == "propagated":
            return PropagatedFeatures(self.files[hops])
        return Hops(self.hops)(self.graph, self.feat)[:, hops]

    def _train(
        self,
        layer: LayerSpec,
        mode: Mode,
        x: Any,
        target: Tensor,
        generator: torch.Generator,
        options: Options,
        on_epoch: OnEpoch,
    ) -> tuple[OutputsOf, nn.Module, list[dict[str, float]]]:
        train, masked = self.split["train"], "input" in self.uses

        def with_labels(shown: Tensor) -> FeaturesWithLabels:
            return FeaturesWithLabels(x, mask_labels(self.target, shown), self.num_outputs)

        def batches() -> Iterator[Batch]:
            if not masked:
                return mode.batches(x, target, train, generator)
            shown, hidden = train[torch.randperm(len(train), generator=generator)].tensor_split(2)
            return mode.batches(with_labels(shown), target, hidden, generator)

        model, decay = self._build(layer, self.in_feats + masked * self.num_outputs)
        outputs = partial(mode.outputs, model, with_labels(train) if masked else x)
        optimizer = torch.optim.Adam(decay_groups(model, decay), lr=self._setting(layer).lr)
        epochs = self.num_epochs(layer, options)
        training = Training(
            model,
            batches,
            cross_entropy if self.labels.shape[1] == 1 else binary_cross_entropy_with_logits,
            optimizer,
            scheduler=self.scheduler(optimizer, epochs, options),
            measure=lambda: {"validation": self._score(outputs, "valid")},
            score=lambda record: record["validation"],
        )
        return outputs, model, training.fit(epochs, options, generator, on_epoch)

    def _build(self, layer: LayerSpec, in_feats: int) -> tuple[nn.Module, dict[str, float]]:
        make = layer.make(self.geometry)
        if layer.needs == "hops":
            return Stack([], head=make(in_feats, self.width, self.num_outputs, self.hops)).to(self.device), {}
        widths = in_feats, self.width, self.num_outputs
        plan = make_plan(Kind(layer.title, make), self.remedies, self.num_layers, widths)
        feat = self.feat[torch.arange(len(self.feat) if "variance" in self.remedies else 1)]  # LSUV needs all features
        return plan.build(self.graph, feat).to(self.device), plan.decay
