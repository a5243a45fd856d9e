"""The graphs of depth studies: one graph with node features, labels and masks."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from gnnlib import datasets
from gnnlib._utils.indices import as_indices
from gnnlib.benchmarks.errors import UsageError
from gnnlib.datasets.files import Folder
from gnnlib.graph import GraphLike, add_self_loop, new_graph
from gnnlib.graph._check import graph_error

__all__ = ["DATA", "NodeData", "check_data", "digits_graph", "load", "node_data"]

PARTS = ("train", "val", "test")


class NodeData(NamedTuple):
    """A graph of N nodes, features (N, F), a class for each node (N,), and masks (N,) for train, val and test."""

    graph: GraphLike
    feat: Tensor
    label: Tensor
    masks: Mapping[str, Tensor]

    @property
    def num_classes(self) -> int:
        """One more than the largest label."""
        return int(self.label.max()) + 1

    def describe(self) -> dict[str, int]:
        """The sizes, for the results."""
        sizes = {part: int(self.masks[part].sum()) for part in PARTS}
        counts = {"nodes": self.graph.num_nodes(), "edges": self.graph.num_edges()}
        return {**counts, "features": self.feat.shape[1], "classes": self.num_classes, **sizes}


def node_data(graph: GraphLike, feat: Any, labels: Any, masks: Mapping[str, Any]) -> NodeData:
    """From what a user gives: arrays become tensors, features float32, and numbers of nodes masks.

    Raises:
        TypeError: if the graph is none, or a part holds neither integers nor booleans
        ValueError: if a mask has another length
        IndexError: if a number of a node is out of range
    """
    wrong = graph_error("depth_study", graph)
    if wrong is not None:
        raise wrong
    rows = {part: as_indices(nodes, graph.num_nodes(), f"masks: {part}") for part, nodes in masks.items()}
    empty = torch.zeros(graph.num_nodes(), dtype=torch.bool)
    full = {part: empty.index_fill(0, numbers, True) for part, numbers in rows.items()}
    return NodeData(graph, torch.as_tensor(feat).float(), torch.as_tensor(labels), full)


def check_data(data: NodeData) -> None:
    """Checks shapes and types.

    Raises:
        ValueError: if the parts do not belong together
    """
    nodes = data.graph.num_nodes()
    if data.feat.dim() != 2 or len(data.feat) != nodes:
        raise ValueError(f"feat: expected shape ({nodes}, F), got {tuple(data.feat.shape)}")
    if data.label.shape != (nodes,) or data.label.is_floating_point():
        raise ValueError(f"labels: expected {nodes} integers, got {data.label.dtype} {tuple(data.label.shape)}")
    if set(data.masks) != set(PARTS):
        raise ValueError(f"masks: expected {', '.join(PARTS)}, got {', '.join(data.masks)}")
    for part, mask in data.masks.items():
        if mask.shape != (nodes,) or mask.dtype != torch.bool or not mask.any():
            got = f"{mask.dtype} {tuple(mask.shape)} with {int(mask.sum())} set"
            raise ValueError(f"masks: expected booleans ({nodes},) for {part}, some of them true, got {got}")


def digits_graph(neighbours: int = 6, labelled: int = 20, validation: int = 500) -> NodeData:
    """The nearest-neighbour graph of scikit-learn's 1797 digits, with self-loops.

    Args:
        neighbours: number of nearest digits, by pixels, that each digit is joined with; edges go both ways
        labelled: number of training digits of each class
        validation: number of validation digits; the remaining ones are the test digits
    """
    from sklearn.neighbors import kneighbors_graph

    splits = [datasets.digits(train) for train in (True, False)]
    images, label = (torch.cat(tensors) for tensors in zip(*splits, strict=True))
    feat = images.flatten(1)
    nearest = kneighbors_graph(feat.numpy(), neighbours)
    src, dst = (torch.from_numpy(ends).long() for ends in (nearest + nearest.T).nonzero())
    order = torch.from_numpy(np.random.RandomState(0).permutation(len(label)))
    indices = torch.cat([order[label[order] == c][:labelled] for c in range(10)])
    train = torch.zeros(len(label), dtype=torch.bool).index_fill_(0, indices, True)
    rest = order[~train[order]]
    val = torch.zeros_like(train).index_fill_(0, rest[:validation], True)
    graph = add_self_loop(new_graph(src, dst, len(label)))
    return NodeData(graph, feat, label, {"train": train, "val": val, "test": ~(train | val)})


def _planetoid(name: str, folder: Folder = None) -> NodeData:
    graph = datasets.planetoid(name, folder)
    masks = {part: graph.ndata.pop(f"{part}_mask") for part in PARTS}
    feat, label = datasets.row_normalise(graph.ndata.pop("feat")), graph.ndata.pop("label")
    return NodeData(add_self_loop(graph), feat, label, masks)


DATA: dict[str, Callable[[Folder], NodeData]] = {
    "digits": lambda folder: digits_graph(),
    "cora": partial(_planetoid, "cora"),
    "citeseer": partial(_planetoid, "citeseer"),
    "pubmed": partial(_planetoid, "pubmed"),
}


def load(name: str, folder: Folder = None) -> NodeData:
    """A graph by name.

    Raises:
        UsageError: if the name is unknown
    """
    if name not in DATA:
        raise UsageError(f"unknown data {name!r}; expected one of: {', '.join(DATA)}")
    return DATA[name](folder)
