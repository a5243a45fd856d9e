"""Heterophilous graphs (Platonov et al., 2023): node classification where neighbours often have other classes."""

from pathlib import Path

import numpy as np
import torch

from gnnlib._utils.calls import names_checked
from gnnlib.datasets.files import Folder, FormatError, dataset_name, find
from gnnlib.graph import GraphLike, new_graph

__all__ = ["HETEROPHILOUS", "heterophilous"]

URL = "https://github.com/yandex-research/heterophilous-graphs/raw/main/data/"
HETEROPHILOUS = ("roman-empire", "amazon-ratings", "minesweeper", "tolokers", "questions", "squirrel-filtered",
                 "chameleon-filtered")  # fmt: skip
PARTS = ("train", "val", "test")
KINDS = {"node_features": "biuf", "node_labels": "iu", "edges": "iu", **{f"{part}_masks": "b" for part in PARTS}}


@names_checked(root="data=", raw_dir="data=")
def heterophilous(name: str, data: Folder = None) -> GraphLike:
    """A graph of Platonov et al. 2023 (arXiv 2302.11640), with ten splits.

    - "roman-empire": 22662 words of an article, 300 features, 18 classes
    - "amazon-ratings": 24492 products, 300 features, 5 classes
    - "minesweeper": a grid of 10000 cells, 7 features, 2 classes
    - "tolokers": 11758 workers, 10 features, 2 classes
    - "questions": 48921 users, 301 features, 2 classes
    - "squirrel-filtered", "chameleon-filtered": 2223 and 890 articles, 2089 and 2325 features, 5 classes

    The metric of the paper is the accuracy, and for two classes the area under the ROC curve. Every edge is in both
    directions, once. There are no self-loops but those of the file.

    Args:
        name: one of these, in any case
        data: a directory with the file, such as ``roman_empire.npz``, in it or in ``heterophilous/``; else
            ``GNNLIB_DATA``, else downloaded

    Returns:
        The graph, with ndata ``feat`` (N, F) float32, ``label`` (N,) int64, and ``train_mask``, ``val_mask`` and
        ``test_mask`` (N, 10) bool, a column for each split.

    Raises:
        ValueError: if the name is unknown
        FileNotFoundError: if the data directory does not exist
        DownloadError: if the file is not found and the download fails
        FormatError: if the file is damaged, an array is missing, or the arrays are inconsistent

    Example:
        >>> from gnnlib.datasets import heterophilous
        >>> graph = heterophilous("minesweeper")  # doctest: +SKIP
        >>> graph.num_nodes(), graph.num_edges(), graph.ndata["train_mask"].shape  # doctest: +SKIP
        (10000, 78804, torch.Size([10000, 10]))
    """
    name = dataset_name("heterophilous", name, HETEROPHILOUS)
    file = f"{name.replace('-', '_')}.npz"
    path = find(f"heterophilous/{file}", data, URL + file)
    arrays = _read(path)
    _check(path, arrays)
    feat, u, v = arrays["node_features"], *arrays["edges"].T.astype(np.int64)
    n = len(feat)
    codes = np.unique(np.concatenate([u * n + v, v * n + u]))
    graph = new_graph(codes // n, codes % n, n)
    graph.ndata["feat"] = torch.from_numpy(feat.astype(np.float32))
    graph.ndata["label"] = torch.from_numpy(arrays["node_labels"].astype(np.int64))
    for part in PARTS:
        graph.ndata[f"{part}_mask"] = torch.from_numpy(np.ascontiguousarray(arrays[f"{part}_masks"].T))
    return graph


def _read(path: Path) -> dict[str, np.ndarray]:
    """The arrays of the file. Objects, which numpy would unpickle, are refused."""
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            return {name: file[name] for name in KINDS}
    except KeyError as error:
        raise FormatError(f"{path}: expected the arrays {', '.join(KINDS)}, got none of the name {error}") from error
    except Exception as error:  # a damaged file can raise nearly any error
        raise FormatError(
            f"{path}: expected arrays of numbers in the format .npz ({type(error).__name__}: {error})"
        ) from error


def _check(path: Path, arrays: dict[str, np.ndarray]) -> None:
    shapes = {name: array.shape for name, array in arrays.items()}
    n, splits = shapes["node_features"][:1], shapes["train_masks"][:1]
    expected = {"node_features": (*n, *shapes["node_features"][1:2]), "node_labels": n}
    expected |= {"edges": (*shapes["edges"][:1], 2), **{f"{part}_masks": (*splits, *n) for part in PARTS}}
    for name, kinds in KINDS.items():
        dims = 1 if name == "node_labels" else 2
        if shapes[name] != expected[name] or len(shapes[name]) != dims or arrays[name].dtype.kind not in kinds:
            shape = "(N,)" if dims == 1 else {"node_features": "(N, F)", "edges": "(E, 2)"}.get(name, "(splits, N)")
            raise FormatError(f"{path}: expected {name} of shape {shape}, got {arrays[name].dtype} {shapes[name]}")
    (num_nodes,), edges, labels = n, arrays["edges"], arrays["node_labels"]
    if not num_nodes or not splits[0]:
        raise FormatError(f"{path}: expected nodes and splits, got {num_nodes} nodes and {splits[0]} splits")
    if edges.size and not 0 <= edges.min() <= edges.max() < num_nodes:
        raise FormatError(
            f"{path}: expected edges between nodes 0 to {num_nodes - 1}, got {edges.min()} to {edges.max()}"
        )
    if labels.min() < 0:
        raise FormatError(f"{path}: expected classes from 0, got {labels.min()}")
    if not np.isfinite(arrays["node_features"]).all():
        raise FormatError(f"{path}: expected finite node_features, got NaN or infinity")
    counts = np.sum([arrays[f"{part}_masks"] for part in PARTS], axis=0)
    if counts.max() > 1:
        split, node = np.argwhere(counts > 1)[0]
        raise FormatError(
            f"{path}: expected a node in one part of a split, got node {node} of split {split} in several"
        )
    for part in PARTS:
        empty = ~arrays[f"{part}_masks"].any(1)
        if empty.any():
            raise FormatError(f"{path}: expected nodes in {part}_masks, got none in split {empty.argmax()}")
