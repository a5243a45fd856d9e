"""The data of depth studies: one graph with node features, labels, masks and a metric."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from gnnlib._utils.indices import as_indices
from gnnlib.benchmarks.metrics import accuracy, r2, roc_auc
from gnnlib.graph import GraphLike
from gnnlib.graph._check import graph_error

__all__ = ["METRICS", "PARTS", "NodeData", "check_data", "node_data"]

PARTS = ("train", "val", "test")


class Metric(NamedTuple):
    """What a study trains for and compares: ``function(outputs, target)`` is in percent, higher is better."""

    title: str
    function: Callable[[Tensor, Tensor], float]
    loss: Callable[[Tensor, Tensor], Tensor] = nn.functional.cross_entropy


METRICS = {
    "accuracy": Metric("accuracy", accuracy),
    "roc_auc": Metric("area under the ROC curve", roc_auc),
    "r2": Metric("explained variance", r2, nn.functional.mse_loss),
}


class NodeData(NamedTuple):
    """A graph of N nodes, features (N, F), a label for each node, and masks for train, val and test.

    Labels are classes (N,), or with the metric "r2" numbers (N, T). Masks are (N,), or (N, S) for S splits. With
    ``per_graph`` the graph is a batch of B graphs, and labels and masks have a row for each graph.
    """

    graph: GraphLike
    feat: Tensor
    label: Tensor
    masks: Mapping[str, Tensor]
    metric: str = "accuracy"
    per_graph: bool = False

    @property
    def out_feats(self) -> int:
        """The number of outputs of a model: classes, or columns of the labels."""
        return self.label.shape[1] if self.label.is_floating_point() else int(self.label.max()) + 1

    @property
    def rows(self) -> int:
        """The number of labels."""
        return self.graph.batch_size if self.per_graph else self.graph.num_nodes()

    def split(self, seed: int) -> "NodeData":
        """The data of a seed: its column of the masks."""
        masks = {part: mask if mask.dim() == 1 else mask[:, seed % mask.shape[1]] for part, mask in self.masks.items()}
        return self._replace(masks=masks)

    def rewired(self, rewiring: Callable[[GraphLike], GraphLike]) -> "NodeData":
        """The data with a rewired graph. New nodes have the features 0, and are in no part."""
        by_node = {} if self.per_graph else {"label": self.label, **self.masks}
        graph = self.graph.local_var()
        graph.ndata.update({"feat": self.feat, **by_node})
        graph = rewiring(graph)
        feat, *rows = (graph.ndata.pop(name) for name in ("feat", *by_node))
        if self.per_graph:
            return self._replace(graph=graph, feat=feat)
        return NodeData(graph, feat, rows[0], dict(zip(self.masks, rows[1:])), self.metric)

    def score(self, outputs: Tensor, target: Tensor) -> float:
        """The metric, in percent."""
        return METRICS[self.metric].function(outputs, target)

    def loss(self, outputs: Tensor, target: Tensor) -> Tensor:
        """The loss of training."""
        return METRICS[self.metric].loss(outputs, target)

    def describe(self) -> dict[str, Any]:
        """The sizes, for the results; the metric if it is not the accuracy."""
        counts = {"nodes": self.graph.num_nodes(), "edges": self.graph.num_edges()}
        counts |= {"graphs": self.graph.batch_size} if self.graph.batch_size > 1 else {}
        outputs = {"targets" if self.label.is_floating_point() else "classes": self.out_feats}
        sizes = {part: int(mask.sum()) for part, mask in self.split(0).masks.items()}
        metric = {} if self.metric == "accuracy" else {"metric": self.metric}
        return {**counts, "features": self.feat.shape[1], **outputs, **sizes, **metric}


def node_data(graph: GraphLike, feat: Any, labels: Any, masks: Mapping[str, Any], metric: str) -> NodeData:
    """From what a user gives: arrays become tensors, features float32, and numbers of nodes masks.

    Raises:
        TypeError: if the graph is none, or a part holds neither integers nor booleans
        ValueError: if a mask has another length
        IndexError: if a number of a node is out of range
    """
    wrong = graph_error("depth_study", graph)
    if wrong is not None:
        raise wrong
    full = {part: _as_mask(part, nodes, graph.num_nodes()) for part, nodes in masks.items()}
    label = torch.as_tensor(labels)
    if metric == "r2":
        label = label.float().view(len(label), -1)
    return NodeData(graph, torch.as_tensor(feat).float(), label, full, metric)


def _as_mask(part: str, nodes: Any, num_nodes: int) -> Tensor:
    """A mask of a part's nodes, given as a mask, masks of several splits, or numbers."""
    if isinstance(nodes, (Tensor, np.ndarray)) and nodes.ndim == 2:
        return torch.as_tensor(nodes)
    rows = as_indices(nodes, num_nodes, f"masks: {part}")
    return torch.zeros(num_nodes, dtype=torch.bool).index_fill(0, rows, True)


def check_data(data: NodeData) -> None:
    """Checks shapes and types.

    Raises:
        ValueError: if the parts do not belong together, or the metric is unknown
    """
    if data.metric not in METRICS:
        raise ValueError(f"metric: expected one of {', '.join(METRICS)}, got {data.metric!r}")
    nodes, rows = data.graph.num_nodes(), data.rows
    if data.feat.dim() != 2 or len(data.feat) != nodes:
        raise ValueError(f"feat: expected shape ({nodes}, F), got {tuple(data.feat.shape)}")
    _check_labels(data)
    if set(data.masks) != set(PARTS):
        raise ValueError(f"masks: expected {', '.join(PARTS)}, got {', '.join(data.masks)}")
    splits = {mask.shape[1:] for mask in data.masks.values()}
    for part, mask in data.masks.items():
        if mask.shape[:1] != (rows,) or mask.dim() > 2 or mask.dtype != torch.bool or not mask.any(0).all():
            got = f"{mask.dtype} {tuple(mask.shape)} with {int(mask.sum())} set"
            raise ValueError(f"masks: expected booleans ({rows},) for {part}, some of them true, got {got}")
    if len(splits) > 1:
        raise ValueError(f"masks: expected as many splits in all parts, got {sorted(map(tuple, splits))}")


def _check_labels(data: NodeData) -> None:
    label, rows = data.label, data.rows
    got = f"got {label.dtype} {tuple(label.shape)}"
    if data.metric == "r2":
        if label.dim() != 2 or len(label) != rows or not label.is_floating_point():
            raise ValueError(f"labels: expected numbers ({rows}, T) for the metric r2, {got}")
    elif label.shape != (rows,) or label.is_floating_point():
        raise ValueError(f"labels: expected {rows} integers, {got}")
    elif data.metric == "roc_auc" and data.out_feats != 2:
        raise ValueError(f"labels: expected two classes for the metric roc_auc, got {data.out_feats}")
