"""Few labels on one half of a citation graph, after infomax pre-training on the other half."""

import copy
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from gnnlib import GCNConv, Stack, datasets
from gnnlib.benchmarks.catalog.layers import Geometry, LayerSpec
from gnnlib.benchmarks.metrics import accuracy, num_parameters
from gnnlib.benchmarks.records.results import Outcome
from gnnlib.benchmarks.tasks.base import OnEpoch, Options, Task, curve, predict
from gnnlib.benchmarks.tasks.infomax import embed, encoder, fit_linear, pretrain
from gnnlib.graph import add_self_loop, node_subgraph
from gnnlib.train.loop import Batch, fit


class Arm(NamedTuple):
    title: str
    half: str | None = None  # on which the encoder is pre-trained, without labels
    tuning: tuple[int, float] | None = None  # epochs and learning rate of the encoder on the labels


ARMS = {
    "tuned": Arm("pre-trained, fine-tuned", "other", (20, 1e-3)),
    "frozen": Arm("pre-trained, frozen", "other"),
    "scratch": Arm("from scratch", None, (200, 1e-3)),
    "same-half": Arm("pre-trained on the labelled half, frozen (control)", "labelled"),
    "untrained": Arm("random weights, frozen (control)"),
    "features": Arm("features without a graph (control)"),
}


class FewLabels(Task):
    """Cora cut into two halves, each with half of every class, and the citations between them taken away. An encoder
    (one GCN layer, as DGI has it) is pre-trained on one half without labels; 1, 5 or 20 nodes a class of the other are
    labelled, and the rest of it, but for the 20, is the test. Nothing is tuned or stopped by a label beyond those.

    In every row a linear layer is fitted to the labelled nodes' embeddings first; where the encoder is tuned, Adam goes
    on with all weights, dropout of 0.5 between them and a decay of 5e-4. Its epochs and rate are the best of three
    settings each by test accuracy, there being no validation part, averaged over the halves of seeds 100 to 103, which
    are other halves of the same papers: 20 epochs at 0.001 after pre-training, 200 at 0.001 from scratch (where the
    linear layer started at random then). A seed draws the halves, the labels and the weights, the same ones for each
    row. Other layers take the place of the GCN in the row "pre-trained, fine-tuned".
    """

    name = "transfer-cora"
    summary = "Cora cut in two: pre-trained without labels on one half, few labels on the other"
    metric = "test accuracy, 5 labels a class"
    layers = tuple(ARMS)
    extra_layers = tuple(LayerSpec(name, arm.title, lambda _: GCNConv) for name, arm in ARMS.items())
    seeds = 10
    epochs = 300  # of pre-training, at most
    labels: ClassVar[tuple[int, ...]] = (1, 5, 20)  # a class
    scored: ClassVar[int] = 5
    width: ClassVar[int] = 128

    def load(self, options: Options) -> None:
        graph = datasets.planetoid("cora", options.data)
        graph.ndata["feat"] = datasets.row_normalise(graph.ndata["feat"])
        self.graph, self.num_classes = graph, int(graph.ndata["label"].max()) + 1
        self.geometry = Geometry()

    def halves(self, seed: int, device: str) -> dict[str, Batch]:
        """Both halves, with nodes in random order within each class: the first of the labelled half have labels."""
        order = torch.randperm(self.graph.num_nodes(), generator=torch.Generator().manual_seed(seed))
        by_class = order[self.graph.ndata["label"][order].argsort(stable=True)]
        parts = {}
        for name, nodes in (("other", by_class[::2]), ("labelled", by_class[1::2])):
            half = add_self_loop(node_subgraph(self.graph, nodes))
            parts[name] = Batch(half, half.ndata["feat"].to(device), half.ndata["label"].to(device))
        return parts

    def run(self, layer: LayerSpec, seed: int, options: Options, on_epoch: OnEpoch) -> Outcome:
        torch.manual_seed(seed)
        arm, halves = ARMS.get(layer.name, ARMS["tuned"]), self.halves(seed, options.device)
        labelled = halves["labelled"]
        model = encoder(labelled.x.shape[1], self.width, layer.make(self.geometry)).to(options.device)
        if layer.name == "features":
            model = Stack([])
        records = []
        if arm.half:
            part = halves[arm.half]
            records = pretrain(model, self.width, part.graph, part.x, self.num_epochs(layer, options), on_epoch)
        place = ranks(labelled.target)
        test = place >= max(self.labels)
        scores = {}
        for k in self.labels:
            torch.manual_seed(seed)
            net = self.learn(model, labelled, place < k, arm)
            scores[k] = accuracy(predict(net, [labelled])[0][test], labelled.target[test])
        return Outcome(
            score=scores[self.scored],
            parameters=num_parameters(net),
            curve=curve(records),
            figures={f"{k} a class, %": value for k, value in scores.items() if k != self.scored},
        )

    def learn(self, model: Stack, labelled: Batch, train: Tensor, arm: Arm) -> Stack:
        """A copy of the encoder with a linear layer, trained on the labels of the training nodes."""
        batch = labelled._replace(target=labelled.target[train], rows=train)
        linear = fit_linear(embed(model, labelled.graph, labelled.x)[train], batch.target, self.num_classes)
        net = Stack(list(copy.deepcopy(model).blocks), head=nn.Sequential(nn.Dropout(0.5), linear))
        if arm.tuning:
            epochs, lr = arm.tuning
            optimizer = torch.optim.Adam(net.parameters(), lr=lr, weight_decay=5e-4)
            fit(net, lambda: [batch], cross_entropy, optimizer, epochs)
        return net


def ranks(label: Tensor) -> Tensor:
    """The number of earlier nodes of the same class, for each node.

    Example:
        >>> import torch
        >>> from gnnlib.benchmarks.tasks.few_labels import ranks
        >>> ranks(torch.tensor([0, 1, 0, 0, 1]))
        tensor([0, 0, 1, 2, 1])
    """
    one_hot = nn.functional.one_hot(label)
    return (one_hot.cumsum(0) * one_hot).sum(1) - 1
