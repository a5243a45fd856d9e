"""TUDataset (Morris et al., 2020): the graph classification data sets MUTAG and PROTEINS."""

import io
from pathlib import Path

import numpy as np
import torch

from gnnlib._utils.calls import names_checked
from gnnlib.datasets.archives import open_zip
from gnnlib.datasets.files import Folder, FormatError, dataset_name, find
from gnnlib.graph import GraphLike, new_graph

__all__ = ["ten_folds", "tu"]

URL = "https://www.chrsmrrs.com/graphkerneldatasets/"


@names_checked(root="data=", raw_dir="data=")
def tu(name: str, data: Folder = None) -> tuple[list[GraphLike], torch.Tensor]:
    """MUTAG or PROTEINS (Morris et al. 2020, arXiv 2007.08663).

    Node features are those of Xu et al. 2019 (arXiv 1810.00826). Every edge is in both directions, once.

    Args:
        name: ``"MUTAG"`` (188 molecules, 7 kinds of atom) or ``"PROTEINS"`` (1113 proteins, 3 kinds of structure), in
            capital or small letters.
        data: a directory with ``NAME.zip``, in it or in ``tu/``; else ``GNNLIB_DATA``, else downloaded.

    Returns:
        the graphs, each with ndata ``feat`` (n, kinds) float32, the node label one-hot, kinds in ascending order; and
        their classes (graphs,), int64, 0 to C - 1 in ascending order of the published ones.

    Raises:
        ValueError: if the name is unknown.
        FileNotFoundError: if the data directory does not exist.
        DownloadError: if the file is not found and the download fails.
        FormatError: if the zip is damaged, a member is missing, or the tables are inconsistent.

    Example:
        >>> from gnnlib.datasets import tu
        >>> graphs, labels = tu("MUTAG")  # doctest: +SKIP
        >>> len(graphs), graphs[0].ndata["feat"].shape, labels.bincount().tolist()  # doctest: +SKIP
        (188, torch.Size([17, 7]), [63, 125])
    """
    name = dataset_name("tu", name, ("MUTAG", "PROTEINS"))
    path = find(f"tu/{name}.zip", data, f"{URL}{name}.zip")
    tables = _read(path, name, {"A": 2, "graph_indicator": 1, "node_labels": 1, "graph_labels": 1})
    graph_of, num_graphs = tables["graph_indicator"][:, 0] - 1, len(tables["graph_labels"])
    edges = tables["A"] - 1
    _check(path, graph_of, edges, len(tables["node_labels"]), num_graphs)

    order = np.argsort(graph_of, kind="stable")  # nodes by graph
    sizes = np.bincount(graph_of, minlength=num_graphs)
    starts = np.cumsum(sizes) - sizes
    local = np.empty_like(order)
    local[order] = np.arange(len(order)) - starts[graph_of[order]]
    u, v = np.unique(edges, axis=0).T
    by_graph = np.argsort(graph_of[u], kind="stable")
    cuts = np.cumsum(np.bincount(graph_of[u], minlength=num_graphs))[:-1]
    kinds, kind = np.unique(tables["node_labels"], return_inverse=True)
    feats = torch.eye(len(kinds))[torch.from_numpy(kind.reshape(-1)[order])].split(sizes.tolist())
    graphs = []
    for ids, feat in zip(np.split(by_graph, cuts), feats, strict=True):
        graph = new_graph(local[u[ids]], local[v[ids]], len(feat))
        graph.ndata["feat"] = feat.clone()  # own memory, not a view of the data set
        graphs.append(graph)
    labels = np.unique(tables["graph_labels"], return_inverse=True)[1]
    return graphs, torch.from_numpy(labels.reshape(-1))


@names_checked()
def ten_folds(labels: torch.Tensor, seed: int = 0) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """The ten stratified folds of Xu et al. 2019 (arXiv 1810.00826, section 7): scikit-learn's, shuffled with ``seed``.

    Args:
        labels: (n,), a class for each graph.
        seed: of the shuffle; Xu et al. use 0.

    Returns:
        ten pairs (train ids, test ids), int64.

    Raises:
        ValueError: if no class has ten members.

    Example:
        >>> import torch
        >>> from gnnlib.datasets import ten_folds
        >>> folds = ten_folds(torch.arange(40) % 2)
        >>> len(folds), [len(ids) for ids in folds[0]]
        (10, [36, 4])
    """
    from sklearn.model_selection import StratifiedKFold

    folds = StratifiedKFold(n_splits=10, shuffle=True, random_state=seed).split(np.zeros(len(labels)), labels.numpy())
    return [(torch.from_numpy(train), torch.from_numpy(test)) for train, test in folds]


def _read(path: Path, name: str, columns: dict[str, int]) -> dict[str, np.ndarray]:
    """The tables NAME/NAME_TABLE.txt of the zip as int64 arrays with the given numbers of columns."""
    files = {table: f"{name}/{name}_{table}.txt" for table in columns}
    with open_zip(path, f"a zip of {', '.join(files.values())}") as members:
        texts = {file: members.read(file) for file in files.values() if file in members}
    tables = {}
    for table, width in columns.items():
        file = files[table]
        if not texts.get(file, b"").strip():
            raise FormatError(f"{path}: expected a non-empty {file}, got {', '.join(sorted(texts))}")
        try:
            tables[table] = np.loadtxt(io.BytesIO(texts[file]), np.int64, delimiter=",", ndmin=2)
        except ValueError as error:
            raise FormatError(f"{path}: {file}: expected rows of {width} integers ({error})") from error
        if tables[table].shape[1] != width:
            raise FormatError(f"{path}: {file}: expected rows of {width}, got rows of {tables[table].shape[1]}")
    return tables


def _check(path: Path, graph_of: np.ndarray, edges: np.ndarray, num_nodes: int, num_graphs: int) -> None:
    if len(graph_of) != num_nodes:
        raise FormatError(f"{path}: expected as many node labels as nodes, {len(graph_of)}, got {num_nodes}")
    if graph_of.min() < 0 or graph_of.max() != num_graphs - 1:
        raise FormatError(
            f"{path}: expected nodes of graphs 1 to {num_graphs}, as many as graph labels, "
            f"got {graph_of.min() + 1} to {graph_of.max() + 1}"
        )
    if edges.min() < 0 or edges.max() >= num_nodes:
        raise FormatError(
            f"{path}: expected edges between nodes 1 to {num_nodes}, got {edges.min() + 1} to {edges.max() + 1}"
        )
    across = int((graph_of[edges[:, 0]] != graph_of[edges[:, 1]]).sum())
    if across:
        raise FormatError(f"{path}: expected edges within one graph, got {across} between two graphs")
