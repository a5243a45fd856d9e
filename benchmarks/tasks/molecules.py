"""Graph classification: molecules and proteins."""

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

import datasets
from benchmarks.layers import Geometry, Layer
from benchmarks.results import Outcome
from benchmarks.tasks.base import OnEpoch, Options, Task, accuracy, confusion, count, curve, shuffled
from gnnlib import BatchNorm, GINConv, GraphStore, JumpingKnowledge, Stack, readout_mean, readout_sum
from gnnlib.training import Batch, fit, predict


def collate(graphs: GraphStore, labels: Tensor, rows: Tensor) -> Batch:
    """The graphs of these row numbers as one batch, with their ``ndata["feat"]``."""
    graph = graphs.batch(rows)
    return Batch(graph, graph.ndata["feat"], labels[rows])


class TU(Task):
    """GIN under the protocol of Xu et al. 2019 (arXiv 1810.00826, section 7): ten folds; the epoch whose test accuracy,
    averaged over the folds, is best; 50 mini-batches an epoch; the rate halved every 50 epochs.

    A seed is a fold. The protocol chooses the epoch on the test folds, so its figure flatters: it is kept because
    the published one was made that way."""

    layers = ("gin",)
    seeds = 10
    max_seeds = 10
    epochs = 350
    metric = "10-fold accuracy"
    readout = "sum over nodes, of all layers"
    hidden: ClassVar[int] = 32
    batch_size: ClassVar[int] = 32
    steps: ClassVar[int] = 50  # an epoch

    def load(self, options: Options) -> None:
        graphs, self.labels = datasets.tu(self.name.upper(), options.data)
        self.graphs = GraphStore(graphs)
        self.folds = datasets.ten_folds(self.labels)
        self.classes = [str(c) for c in range(int(self.labels.max()) + 1)]
        self.device = options.device

    def batch(self, rows: Tensor) -> Batch:
        batch = collate(self.graphs, self.labels, rows)
        return Batch(batch.graph, batch.x.to(self.device), batch.target.to(self.device))

    def run(self, layer: Layer, seed: int, options: Options, on_epoch: OnEpoch) -> Outcome:
        torch.manual_seed(seed)
        generator = torch.Generator().manual_seed(seed)
        train, test = self.folds[seed]
        width = self.graphs[0].ndata["feat"].shape[1]
        make = _gin_of_xu if layer.name == "gin" else layer.make(self.geometry)
        model = Stack.build(
            make,
            width,
            self.hidden,
            len(self.classes or ()),
            num_layers=4,
            norm=BatchNorm,
            jump=JumpingKnowledge.cat,
            readout=readout_sum,
        ).to(options.device)

        def batches() -> Iterator[Batch]:
            for _ in range(self.steps):
                yield self.batch(train[torch.randperm(len(train), generator=generator)[: self.batch_size]])

        fold = [self.batch(test)]

        def measure() -> dict[str, float]:
            return {"test": accuracy(*predict(model, fold))}

        optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
        scheduler = torch.optim.lr_scheduler.StepLR(optimiser, 50, 0.5)
        records = fit(
            model,
            batches,
            nn.functional.cross_entropy,
            optimiser,
            self.num_epochs(layer, options),
            scheduler=scheduler,
            measure=measure,
            on_epoch=on_epoch,
            checkpoint=options.checkpoint,
            generators=[generator],
        )
        outputs, target = predict(model, fold)
        return Outcome(
            score=accuracy(outputs, target),
            parameters=count(model),
            curve=curve(records),
            confusion=confusion(outputs, target, len(self.classes or ())),
        )

    def values(self, outcomes: Mapping[int, Outcome]) -> list[float]:
        folds = torch.tensor([outcome.curve["test"] for _, outcome in sorted(outcomes.items())])
        return folds[:, folds.mean(0).argmax()].tolist()


def _gin_of_xu(in_feats: int, out_feats: int) -> nn.Module:
    """The paper's layer: an MLP of two layers with batch normalisation inside, epsilon fixed at 0."""
    return GINConv(
        in_feats,
        out_feats,
        nn.Sequential(
            nn.Linear(in_feats, out_feats), nn.BatchNorm1d(out_feats), nn.ReLU(), nn.Linear(out_feats, out_feats)
        ),
    )


class MUTAG(TU):
    name = "mutag"
    summary = "MUTAG, 188 molecules, 2 classes: GIN's 10-fold protocol (a seed is a fold)"


class PROTEINS(TU):
    name = "proteins"
    summary = "PROTEINS, 1113 proteins, 2 classes: GIN's 10-fold protocol (a seed is a fold)"


class MolHIV(Task):
    """ogbg-molhiv with OGB's own loader, scaffold split and evaluator. First cut: atoms only, without bond features
    but in the edge-conditioned layer; the official five layers of 300 are a setting of their own."""

    name = "ogbg-molhiv"
    summary = "ogbg-molhiv, 41127 molecules: ROC-AUC with OGB's loader, split and evaluator (--limit N graphs)"
    metric = "test ROC-AUC"
    layers = ("gin", "gcn")
    epochs = 20
    readout = "mean over nodes"
    limited = True
    width: ClassVar[int] = 64
    num_layers: ClassVar[int] = 4
    batch_size: ClassVar[int] = 256

    def load(self, options: Options) -> None:
        dataset, split, self.evaluator = datasets.molhiv(options.data)
        from ogb.utils.features import get_atom_feature_dims, get_bond_feature_dims

        self.atoms, self.bonds = get_atom_feature_dims(), get_bond_feature_dims()
        self.split = {part: rows[: options.limit] for part, rows in split.items()}
        self.graphs, self.labels = GraphStore(dataset.graphs), dataset.labels.float()
        for part in ("valid", "test"):
            active, num = int(self.labels[self.split[part]].sum()), len(self.split[part])
            if not 0 < active < num:
                raise ValueError(
                    f"{part}: expected molecules of both classes, as ROC-AUC needs, got {active} active ones among "
                    f"{num}; a larger --limit would hold both"
                )
        self.geometry = Geometry(edge_feats=sum(self.bonds))
        self.device = options.device

    def batch(self, rows: Tensor) -> Batch:
        batch = collate(self.graphs, self.labels, rows)
        codes = batch.graph.edata["feat"].unbind(1)
        edge = torch.cat([nn.functional.one_hot(c, n) for c, n in zip(codes, self.bonds, strict=True)], 1).float()
        return Batch(batch.graph, *(t.to(self.device) for t in (batch.x, batch.target, edge)))

    def run(self, layer: Layer, seed: int, options: Options, on_epoch: OnEpoch) -> Outcome:
        torch.manual_seed(seed)
        generator = torch.Generator().manual_seed(seed)
        model = Stack.build(
            layer.make(self.geometry),
            self.width,
            self.width,
            1,
            self.num_layers,
            norm=BatchNorm,
            dropout=0.2,
            readout=readout_mean,
        )
        model.encoder = SumOfEmbeddings(self.atoms, self.width)
        model.to(options.device)

        def rocauc(part: str) -> float:
            outputs, target = predict(model, (self.batch(rows) for rows in self.split[part].split(1024)))
            return 100 * self.evaluator.eval({"y_true": target.cpu(), "y_pred": outputs.cpu()})["rocauc"]

        train = self.split["train"]
        records = fit(
            model,
            lambda: (self.batch(train[rows]) for rows in shuffled(len(train), self.batch_size, generator)),
            nn.functional.binary_cross_entropy_with_logits,
            torch.optim.Adam(model.parameters(), lr=1e-3),
            self.num_epochs(layer, options),
            measure=lambda: {"validation": rocauc("valid")},
            score=lambda record: record["validation"],
            on_epoch=on_epoch,
            checkpoint=options.checkpoint,
            generators=[generator],
        )
        return Outcome(
            score=rocauc("test"),
            parameters=count(model),
            validation=max(record["validation"] for record in records),
            curve=curve(records),
        )


class SumOfEmbeddings(nn.Module):
    """Categorical columns (N, C), int64, to (N, width): an embedding for each column, summed (OGB's atom encoder)."""

    def __init__(self, sizes: Sequence[int], width: int):
        super().__init__()
        self.embeddings = nn.ModuleList(nn.Embedding(size, width) for size in sizes)
        for embedding in self.embeddings:
            nn.init.xavier_uniform_(embedding.weight)  # type: ignore[arg-type]

    def forward(self, codes: Tensor) -> Tensor:
        columns = codes.unbind(1)
        return torch.stack([e(c) for e, c in zip(self.embeddings, columns, strict=True)]).sum(0)
