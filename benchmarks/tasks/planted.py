"""Communities planted in a graph as large as ogbn-arxiv: a large graph that is there on every machine."""

from typing import ClassVar

from torch import Tensor

from gnnlib import datasets
from gnnlib.benchmarks.metrics import accuracy
from gnnlib.benchmarks.tasks.base import Options
from gnnlib.benchmarks.tasks.large_nodes import LargeNodes, Nodes, Setting


class Planted(LargeNodes):
    """`gnnlib.datasets.planted`, on two layers."""

    name = "planted"
    summary = "a power-law graph with 40 planted communities, 169343 nodes (--limit N of them, --mode M, --labels A+B)"
    layers = ("mlp", "gcn", "sage", "sgc", "gfnn", "sign", "labels")
    seeds = 3
    limited = True
    num_layers = 2
    fanouts = (10, 10)
    settings: ClassVar[dict[str, Setting]] = {
        "full": Setting(60),
        "sampled": Setting(5, 0.003, 512),
        "clusters": Setting(10, 0.003, 20),
        "propagated": Setting(10, 0.003, 2048),
    }

    def read(self, options: Options) -> Nodes:
        graph, split = datasets.planted(options.limit or 169_343)
        feat, label = graph.ndata.pop("feat"), graph.ndata.pop("label")
        return Nodes(graph, feat, label.unsqueeze(1), split, _share_right, int(label.max()) + 1)


def _share_right(outputs: Tensor, labels: Tensor) -> float:
    return accuracy(outputs, labels.squeeze(1)) / 100
