"""The data of depth studies by name."""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from gnnlib import datasets
from gnnlib.benchmarks.depth.data import PARTS, NodeData
from gnnlib.benchmarks.depth.generated import PROPERTIES, graph_properties, ring_transfer, tree_transfer
from gnnlib.benchmarks.errors import UsageError
from gnnlib.datasets.files import Folder
from gnnlib.graph import add_self_loop, new_graph

__all__ = ["DATA", "digits_graph", "load", "transfer"]


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


def _heterophilous(name: str, folder: Folder = None) -> NodeData:
    graph = datasets.heterophilous(name, folder)
    masks = {part: graph.ndata.pop(f"{part}_mask") for part in PARTS}
    feat, label = graph.ndata.pop("feat"), graph.ndata.pop("label")
    return NodeData(add_self_loop(graph), feat, label, masks, "roc_auc" if int(label.max()) == 1 else "accuracy")


def _cold(name: str, folder: Folder = None) -> NodeData:
    """Cold start (Zhao and Akoglu 2020, arXiv 1909.12223, section 3.2, there with a share of the nodes): only the
    labelled nodes have features, so that the classes of all others come from afar."""
    data = _planetoid(name, folder)
    return data._replace(feat=data.feat * data.masks["train"].unsqueeze(1))


def _properties(name: str, folder: Folder = None) -> NodeData:
    return graph_properties(name)


CITATIONS = ("cora", "citeseer", "pubmed")
DATA: dict[str, Callable[[Folder], NodeData]] = {
    "digits": lambda folder: digits_graph(),
    **{name: partial(_planetoid, name) for name in CITATIONS},
    **{f"{name}-cold": partial(_cold, name) for name in CITATIONS},
    **{name: partial(_heterophilous, name) for name in datasets.HETEROPHILOUS},
    **{name: partial(_properties, name) for name in PROPERTIES},
}
TRANSFERS = {"ring": (ring_transfer, 1, 512), "tree": (tree_transfer, 1, 10)}
"""Data with a number of hops, such as "ring-32", and the range of the number."""


def load(name: str, folder: Folder = None) -> NodeData:
    """A graph by name.

    Raises:
        UsageError: if the name is unknown
    """
    if name in DATA:
        return DATA[name](folder)
    kind, hops = transfer(name)
    return TRANSFERS[kind][0](hops)


def transfer(name: str) -> tuple[str, int]:
    """The kind and the hops of a name such as "ring-32".

    Raises:
        UsageError: if the name is none of these, or of other data

    Example:
        >>> from gnnlib.benchmarks.depth.loading import transfer
        >>> transfer("ring-32")
        ('ring', 32)
    """
    kind, _, hops = name.partition("-")
    if kind not in TRANSFERS or not hops.isdecimal():
        raise UsageError(f"unknown data {name!r}; expected one of: {', '.join([*DATA, 'ring-HOPS', 'tree-HOPS'])}")
    _, low, high = TRANSFERS[kind]
    if not low <= int(hops) <= high:
        raise UsageError(f"{name}: expected {low} to {high} hops, got {hops}")
    return kind, int(hops)
