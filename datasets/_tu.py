"""The TU collection (Morris et al., 2020): data sets of many small graphs, by name."""

import io
import re
from pathlib import Path

import numpy as np
import torch

from gnnlib._utils.calls import names_checked
from gnnlib.datasets.archives import open_zip
from gnnlib.datasets.files import Folder, FormatError, data_dir, find
from gnnlib.graph import GraphLike, new_graph

__all__ = ["ten_folds", "tu"]

URL = "https://www.chrsmrrs.com/graphkerneldatasets/"
PUBLISHED = ("MUTAG", "PROTEINS", "NCI1", "NCI109", "ENZYMES", "DD", "PTC_MR", "AIDS", "Mutagenicity", "IMDB-BINARY",
             "IMDB-MULTI", "COLLAB", "REDDIT-BINARY", "REDDIT-MULTI-5K")  # fmt: skip
"""Names that are accepted in any case for a download too."""

TABLES = {
    "A": True,
    "graph_indicator": True,
    "graph_labels": True,
    "graph_attributes": False,
    "node_labels": True,
    "node_attributes": False,
    "edge_labels": True,
    "edge_attributes": False,
}
"""The tables of a data set, and whether they hold integers."""


@names_checked(root="data=", raw_dir="data=", use_node_attr="attributes=", use_edge_attr="attributes=")
def tu(name: str, data: Folder = None, *, attributes: bool = False) -> tuple[list[GraphLike], torch.Tensor]:
    """A data set of the TU collection by name (Morris et al. 2020, arXiv 2007.08663), such as MUTAG, PROTEINS, NCI1,
    ENZYMES and IMDB-BINARY.

    Node features are those of Xu et al. 2019 (arXiv 1810.00826): one-hot node labels, or one-hot degrees where there
    are no labels. Every edge is listed once in each of its directions.

    Args:
        name: as in the collection. Any case is accepted for a file in the data directory.
        data: a directory with ``NAME.zip``, in it or in ``tu/``; else ``GNNLIB_DATA``, else downloaded.
        attributes: whether the node and edge attributes come before the labels, where there are any.

    Returns:
        the graphs, each with ndata ``feat`` (n, F) float32; and their labels. Labels are classes (graphs,), int64, 0 to
        C - 1 in ascending order of the published ones. A data set without classes has float32 targets (graphs, T).
        Where edges have labels, or attributes that are asked for, the graphs have edata ``feat`` (e, K) float32. Kinds
        of labels are in ascending order.

    Raises:
        ValueError: if the name contains other characters than letters, digits, ``-``, ``_``, ``+`` and ``.``.
        FileNotFoundError: if the data directory does not exist.
        DownloadError: if the file is not found and the download fails.
        FormatError: if the zip is damaged, a member is missing, or the tables are inconsistent.

    Example:
        >>> from gnnlib.datasets import tu
        >>> graphs, labels = tu("MUTAG")  # doctest: +SKIP
        >>> len(graphs), graphs[0].ndata["feat"].shape, labels.bincount().tolist()  # doctest: +SKIP
        (188, torch.Size([17, 7]), [63, 125])
    """
    path, name = _find(name, data)
    tables = _read(path, name)
    graph_of, labels = _check(path, name, tables)
    edges, first = np.unique(tables["A"] - 1, axis=0, return_index=True)
    num_nodes, num_graphs = len(graph_of), len(labels)
    nodes = _features(tables, "node", attributes)
    if nodes is None:
        nodes = _one_hot(np.bincount(edges[:, 1], minlength=num_nodes))
    kinds = _features(tables, "edge", attributes)

    order = np.argsort(graph_of, kind="stable")  # nodes by graph
    sizes = np.bincount(graph_of, minlength=num_graphs)
    starts = np.cumsum(sizes) - sizes
    local = np.empty_like(order)
    local[order] = np.arange(num_nodes) - starts[graph_of[order]]
    u, v = edges.T
    by_graph = np.argsort(graph_of[u], kind="stable")
    cuts = np.cumsum(np.bincount(graph_of[u], minlength=num_graphs))[:-1]
    graphs = []
    for ids, feat in zip(np.split(by_graph, cuts), nodes[order].split(sizes.tolist()), strict=True):
        graph = new_graph(local[u[ids]], local[v[ids]], len(feat))
        graph.ndata["feat"] = feat.clone()  # own memory, not a view of the data set
        if kinds is not None:
            graph.edata["feat"] = kinds[first[ids]]
        graphs.append(graph)
    return graphs, labels


def _find(name: str, data: Folder) -> tuple[Path, str]:
    """The zip, and the name of the data set as it has it."""
    if not isinstance(name, str) or not re.fullmatch(r"[\w.+-]+", name):
        raise ValueError(f"tu: expected the name of a data set, such as MUTAG, got {name!r}")
    folder = data_dir(data)
    files = [path for place in (folder / "tu", folder) for path in place.glob("*.zip")] if folder else []
    names = {path.stem.lower(): path.stem for path in [*reversed(files), *(Path(f"{n}.zip") for n in PUBLISHED)]}
    name = names.get(name.lower(), name)
    return find(f"tu/{name}.zip", data, f"{URL}{name}.zip"), name


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


def _read(path: Path, name: str) -> dict[str, np.ndarray]:
    """The tables NAME/NAME_TABLE.txt of the zip."""
    with open_zip(path, f"a zip of {name}/{name}_A.txt, {name}/{name}_graph_indicator.txt and other tables") as members:
        files = {table: _member(name, table) for table in TABLES}
        texts = {table: members.read(file) for table, file in files.items() if file in members}
    tables = {}
    for table, text in texts.items():
        kind = np.int64 if TABLES[table] else np.float64
        try:
            values = np.loadtxt(io.BytesIO(text), kind, delimiter=",", ndmin=2) if text.strip() else np.empty((0, 0))
        except ValueError as error:
            what = "integers" if TABLES[table] else "numbers"
            raise FormatError(f"{path}: {_member(name, table)}: expected rows of {what} ({error})") from error
        tables[table] = values
    missing = [table for table in ("A", "graph_indicator") if table not in tables]
    if missing or not tables.keys() & {"graph_labels", "graph_attributes"}:
        table = missing[0] if missing else "graph_labels"
        raise FormatError(f"{path}: expected {_member(name, table)}, got {', '.join(sorted(tables)) or 'no table'}")
    return tables


def _member(name: str, table: str) -> str:
    return f"{name}/{name}_{table}.txt"


def _check(path: Path, name: str, tables: dict[str, np.ndarray]) -> tuple[np.ndarray, torch.Tensor]:
    """The graph of each node, from 0, and the labels of the graphs."""
    for table, width in (("A", 2), ("graph_indicator", 1)):
        rows = tables[table]
        if table == "A" and not rows.size:
            tables[table] = rows = np.empty((0, 2), np.int64)
        if rows.shape[1] != width or (table == "graph_indicator" and not len(rows)):
            got = f"rows of {rows.shape[1]}" if len(rows) else "none"
            raise FormatError(f"{path}: {_member(name, table)}: expected rows of {width} integers, got {got}")
    graph_of, edges = tables["graph_indicator"][:, 0], tables["A"] - 1
    for kind, count in (("node", len(graph_of)), ("edge", len(edges))):
        for table in (f"{kind}_labels", f"{kind}_attributes"):
            if table in tables and len(tables[table]) != count:
                got = f"expected as many rows as {kind}s, {count}, got {len(tables[table])}"
                raise FormatError(f"{path}: {_member(name, table)}: {got}")
    graph_of, labels = _graphs(path, name, graph_of, tables)
    num_nodes = len(graph_of)
    if edges.size and not 0 <= edges.min() <= edges.max() < num_nodes:
        raise FormatError(
            f"{path}: expected edges between nodes 1 to {num_nodes}, got {edges.min() + 1} to {edges.max() + 1}"
        )
    across = int((graph_of[edges[:, 0]] != graph_of[edges[:, 1]]).sum())
    if across:
        raise FormatError(f"{path}: expected edges within one graph, got {across} between two graphs")
    return graph_of, labels


def _graphs(
    path: Path, name: str, graph_of: np.ndarray, tables: dict[str, np.ndarray]
) -> tuple[np.ndarray, torch.Tensor]:
    """The graph of each node, from 0, and the labels. Graphs may be numbered with gaps: a number without nodes is a
    graph without nodes if it has a label."""
    classes = "graph_labels" in tables
    values = tables["graph_labels" if classes else "graph_attributes"]
    numbers, compressed = np.unique(graph_of, return_inverse=True)
    if numbers[0] < 1 or len(values) < len(numbers) or (len(values) < numbers[-1] and len(values) != len(numbers)):
        raise FormatError(
            f"{path}: expected nodes of graphs 1 to {len(values)}, as many as graph labels, "
            f"got {numbers[0]} to {numbers[-1]}"
        )
    graph_of = graph_of - 1 if len(values) >= numbers[-1] else compressed.reshape(-1)
    if not classes:
        return graph_of, torch.from_numpy(values.astype(np.float32))
    if values.shape[1] != 1:
        member = _member(name, "graph_labels")
        raise FormatError(f"{path}: {member}: expected rows of 1 integer, got rows of {values.shape[1]}")
    return graph_of, torch.from_numpy(np.unique(values, return_inverse=True)[1].reshape(-1))


def _features(tables: dict[str, np.ndarray], kind: str, attributes: bool) -> torch.Tensor | None:
    """The attributes, if asked for, and the one-hot labels of nodes or edges; None where there are neither."""
    parts = []
    if attributes and f"{kind}_attributes" in tables:
        parts.append(torch.from_numpy(tables[f"{kind}_attributes"]).float())
    if f"{kind}_labels" in tables:
        parts += [_one_hot(column) for column in tables[f"{kind}_labels"].T]
    return torch.cat(parts, 1) if parts else None


def _one_hot(values: np.ndarray) -> torch.Tensor:
    kinds, kind = np.unique(values, return_inverse=True)
    return torch.eye(len(kinds))[torch.from_numpy(kind.reshape(-1))]
