"""The Open Graph Benchmark (Hu et al. 2020, arXiv 2005.00687): its readers, splits and metrics.

OGB's readers may rename the files that they read. Here they run in a folder of the cache with links to the files of the
task only: the data directory is read-only. The arrays are cached with a checksum, under a hash of the files. OGB's
loaders, which prompt the user and unpickle files, are not called.
"""

import tempfile
import warnings
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.utils.data import Subset

from gnnlib._platform import dgl as _dgl  # noqa: F401  before ogb imports it
from gnnlib._platform.modules import module_as
from gnnlib._utils.calls import names_checked
from gnnlib.datasets._ogb_links import LinkMetric, check_edge_split, read_edge_split
from gnnlib.datasets.files import Folder, FormatError, cache_dir, cached
from gnnlib.datasets.ogb_arrays import graphs_of, labels_of, read_arrays
from gnnlib.datasets.ogb_files import (
    LINK,
    PAPER,
    Files,
    Row,
    check,
    find_files,
    has_types,
    is_binary,
    master,
    split_ids,
)
from gnnlib.graph import GraphLike

__all__ = ["Metric", "OGBDataset", "ogb_graphs", "ogb_links", "ogb_names", "ogb_nodes"]

PACKAGES = {"ogbg": "graphproppred", "ogbn": "nodeproppred", "ogbl": "linkproppred"}
LABELS = {"ogbg": "graph", "ogbn": "node", "ogbl": LINK}  # what has labels
ARRAYS = "arrays-1.safetensors"  # with the number of the format


@names_checked()
@dataclass(frozen=True)
class OGBDataset:
    """The graphs and labels of a task, with the attributes of OGB's own data sets.

    Of a task on graphs, ``dataset[i]`` is a pair of a graph and its labels, and ``dataset[ids]`` a part. Of a task on
    nodes, ``dataset[0]`` is the pair of the graph and all labels. Of a task on links, it is the graph.

    Args:
        name: of the task
        graphs: all graphs; of a task on nodes or links, one
        labels: a row for each graph or node; with node types, a dict by type; None for links
        meta_info: the task in OGB's table

    Example:
        >>> import torch
        >>> from gnnlib import Graph
        >>> from gnnlib.datasets import OGBDataset
        >>> graphs = [Graph(([0], [1])), Graph(([0, 1], [1, 0]))]
        >>> dataset = OGBDataset("ogbg-pairs", graphs, torch.tensor([[0], [1]]), {"num tasks": "1", "num classes": "2"})
        >>> dataset[1], dataset.num_classes
        ((Graph(num_nodes=2, num_edges=2, ndata=[], edata=[]), tensor([1])), 2)
        >>> len(dataset[torch.tensor([0])])
        1
    """

    name: str
    graphs: list[GraphLike] = field(repr=False)
    labels: Any = field(repr=False)
    meta_info: Row = field(repr=False)

    @property
    def num_tasks(self) -> int:
        """The number of labels of a graph or a node."""
        return int(self.meta_info["num tasks"])

    @property
    def num_classes(self) -> int:
        """The number of classes; below 0 where the labels are numbers."""
        return int(self.meta_info["num classes"])

    @property
    def task_type(self) -> str:
        """As in OGB's table, such as "binary classification"."""
        return self.meta_info["task type"]

    @property
    def eval_metric(self) -> str:
        """As in OGB's table, such as "rocauc"."""
        return self.meta_info["eval metric"]

    @property
    def is_hetero(self) -> bool:
        """Whether the graph has several types of nodes and edges."""
        return has_types(self.meta_info)

    @property
    def binary(self) -> bool:
        """Whether OGB stores the task in NumPy's format."""
        return is_binary(self.meta_info)

    def __len__(self) -> int:
        return len(self.graphs)

    def __getitem__(self, i: Any) -> Any:
        if isinstance(i, Tensor) and i.dim() == 1:
            return Subset(self, i.tolist())  # type: ignore[arg-type]
        graph = self.graphs[int(i)]
        if self.name.startswith("ogbl"):
            return graph
        return graph, self.labels if self.name.startswith("ogbn") else self.labels[int(i)]


Loaded = tuple[OGBDataset, dict[str, Tensor], "Metric"]


@names_checked()
@dataclass(frozen=True)
class Metric:
    """``metric(outputs, labels)``: the value of OGB's evaluator (not in percent).

    Shapes:
        - outputs: (n, out_feats), scores or values for each of several tasks, or for each class of one
        - labels: (n, tasks), NaN for missing labels

    Raises:
        ValueError: if a shape is wrong.
        RuntimeError: from OGB, if no task has labels of both classes.
    """

    evaluator: Any
    name: str  # "rocauc", "ap", "acc" or "rmse"
    task_type: str  # "binary classification", "multiclass classification" or "regression"
    num_tasks: int
    out_feats: int

    @classmethod
    def of(cls, dataset: Any, evaluator: Any) -> "Metric":
        tasks, kind = dataset.num_tasks, dataset.task_type
        outputs = int(dataset.num_classes) if kind == "multiclass classification" else tasks
        return cls(evaluator, dataset.eval_metric, kind, tasks, outputs)

    @property
    def higher_is_better(self) -> bool:
        return self.name != "rmse"

    def __call__(self, outputs: Tensor, labels: Tensor) -> float:
        shapes, expected = (tuple(outputs.shape), tuple(labels.shape)), (self.out_feats, self.num_tasks)
        if any(len(s) != 2 for s in shapes) or len(outputs) != len(labels) or (shapes[0][1], shapes[1][1]) != expected:
            raise ValueError(
                f"{self.evaluator.name}: expected outputs (n, {expected[0]}) and labels (n, {expected[1]}), "
                f"got {shapes[0]} and {shapes[1]}"
            )
        if self.task_type == "multiclass classification":
            outputs = outputs.argmax(1, keepdim=True)
        return float(self.evaluator.eval({"y_true": labels.cpu(), "y_pred": outputs.cpu()})[self.name])


@names_checked()
def ogb_names(kind: str) -> list[str]:
    """The supported tasks of kind "ogbg" (on graphs), "ogbn" (on nodes) or "ogbl" (on links), in the order of OGB's
    table; none if ogb is not installed.

    Example:
        >>> from gnnlib.datasets import ogb_names
        >>> ogb_names("ogbn")
        ['ogbn-proteins', 'ogbn-products', 'ogbn-arxiv', 'ogbn-mag', 'ogbn-papers100M']
    """
    return [name for name, row in master(PACKAGES[kind]).items() if _unsupported(row) is None]


@names_checked()
def ogb_graphs(name: str, data: Folder = None) -> Loaded:
    """A task on graphs: ogbg-mol* (molecules) or ogbg-ppa (proteins' neighbourhoods).

    The first call converts the files, half a minute for ogbg-molhiv.

    Args:
        data: a directory with OGB's raw layout in ``ogb/ogbg_molhiv/`` or ``ogbg_molhiv/``, or with ``hiv.zip`` as
            published; else ``GNNLIB_DATA``, else downloaded.

    Returns:
        data set, split and metric

        - dataset: an :class:`OGBDataset`: ``dataset[i]`` is a pair of a graph and its labels (tasks,): int64, or
          float32 if some are NaN. Molecules have ndata ``feat`` (n, 9) and edata ``feat`` (e, 3), int64 codes, each
          bond two edges; ogbg-ppa has edata ``feat`` (e, 7), float32, and nothing on its nodes.
        - split: ids of the graphs in ``"train"``, ``"valid"`` and ``"test"``, int64.
        - metric: of a model's outputs; see :class:`Metric`.

    Raises:
        ImportError: if ogb is not installed.
        ValueError: if the task is unknown or of another kind.
        FileNotFoundError: if the data directory does not exist, or files are missing.
        DownloadError: if the files are not found and the download fails.
        FormatError: if a file is damaged or of another release, the files are inconsistent, or edges, codes or labels
            are out of range.

    Example:
        >>> from gnnlib.datasets import ogb_graphs
        >>> dataset, split, metric = ogb_graphs("ogbg-molhiv")  # doctest: +SKIP
        >>> len(dataset), {part: len(ids) for part, ids in split.items()}  # doctest: +SKIP
        (41127, {'train': 32901, 'valid': 4113, 'test': 4113})
    """
    return _load("ogbg", name, data)


@names_checked()
def ogb_nodes(name: str, data: Folder = None) -> Loaded:
    """A task on the nodes of one graph: ogbn-arxiv, ogbn-products, ogbn-proteins, ogbn-mag or ogbn-papers100M.

    Arguments and errors are those of :func:`ogb_graphs`, with ``ogbn_arxiv/`` or ``arxiv.zip``.

    Returns:
        data set, split and metric

        - dataset: an :class:`OGBDataset`: ``graph, labels = dataset[0]``. ndata ``feat`` (N, F), float32, but in
          ogbn-proteins, which has edata ``feat`` (E, 8) and ndata ``species``; labels (N, tasks), int64, but in
          ogbn-papers100M float32 and NaN where a node has none. ogbn-mag has four types of nodes; features, labels (as
          ``{"paper": labels}``) and split are of its papers.
        - split: ids of the nodes in ``"train"``, ``"valid"`` and ``"test"``, int64.
        - metric: of a model's outputs; see :class:`Metric`.

    Example:
        >>> from gnnlib.datasets import ogb_nodes
        >>> dataset, split, metric = ogb_nodes("ogbn-arxiv")  # doctest: +SKIP
        >>> graph, labels = dataset[0]  # doctest: +SKIP
        >>> graph.num_nodes(), labels.shape  # doctest: +SKIP
        (169343, torch.Size([169343, 1]))
    """
    return _load("ogbn", name, data)


@names_checked()
def ogb_links(name: str, data: Folder = None) -> tuple[OGBDataset, dict[str, dict[str, Any]], LinkMetric]:
    """A task on links: ogbl-ddi, ogbl-collab, ogbl-ppa, ogbl-citation2, ogbl-vessel, ogbl-wikikg2 or ogbl-biokg.

    Arguments and errors are those of :func:`ogb_graphs`, with ``ogbl_ddi/`` or ``ddi.zip``. The split, which OGB stores
    by pickle, is read without running anything that it names.

    Returns:
        data set, split and metric

        - dataset: an :class:`OGBDataset`: ``graph = dataset[0]``, with the training edges alone. ndata ``feat``, but in
          ogbl-ddi and the knowledge graphs; edata ``weight`` and ``year`` in ogbl-collab, ``reltype`` in the knowledge
          graphs. ogbl-biokg has five types of nodes.
        - split: of ``"train"``, ``"valid"`` and ``"test"``, the tables of OGB's ``get_edge_split`` as tensors: ``edge``
          (n, 2) and ``edge_neg``; in ogbl-citation2 ``source_node``, ``target_node`` and ``target_node_neg``; in
          knowledge graphs ``head``, ``relation``, ``tail``, ``head_neg``, ``tail_neg`` and lists ``head_type`` and
          ``tail_type``.
        - metric: of scores; see :class:`LinkMetric`.

    Raises:
        FormatError: also if two parts have a common edge, or a node is out of range

    Example:
        >>> from gnnlib.datasets import ogb_links
        >>> dataset, split, metric = ogb_links("ogbl-ddi")  # doctest: +SKIP
        >>> split["test"]["edge"].shape, metric.name  # doctest: +SKIP
        (torch.Size([133489, 2]), 'hits@20')
    """
    row = _row("ogbl", name)
    files = find_files(name, row, LINK, data)
    split = read_edge_split(files)

    def check_values(dataset: OGBDataset) -> None:
        check_edge_split(split, dataset[0], row, files.origin)

    return _dataset(name, row, LINK, files, check_values), split, LinkMetric(row["eval metric"])


def _load(kind: str, name: str, data: Folder) -> Loaded:
    row, label = _row(kind, name), LABELS[kind]
    module = _import(PACKAGES[kind])
    files = find_files(name, row, label, data)
    split = split_ids(files)
    dataset = _dataset(name, row, label, files, lambda dataset: _check_values(dataset, split, label, files))
    return dataset, split, Metric.of(dataset, module.Evaluator(name=name))


def _dataset(name: str, row: Row, label: str, files: Files, check_values: Callable[[OGBDataset], None]) -> OGBDataset:
    """The graphs and labels in the files, converted and checked at the first call, and then from the cache."""

    def convert(part: Path) -> None:
        check(files, row, label)
        with tempfile.TemporaryDirectory(dir=part.parent) as scratch:
            files.link(Path(scratch))
            try:
                arrays = read_arrays(Path(scratch), row, label)
            except (ValueError, TypeError, IndexError, EOFError, zipfile.BadZipFile, zlib.error) as error:
                raise FormatError(f"{files.origin}: OGB's reader cannot read it ({error})") from error
        check_values(OGBDataset(name, graphs_of(arrays), labels_of(arrays), row))
        save_file(arrays, part)

    arrays = load_file(cached(cache_dir() / "ogb" / files.key() / name.replace("-", "_") / ARRAYS, convert))
    return OGBDataset(name, graphs_of(arrays), labels_of(arrays), row)


def _row(kind: str, name: str) -> Row:
    """The row of a task in OGB's table."""
    table = {name: row for package in PACKAGES.values() for name, row in master(package).items()}
    if not table:
        raise ImportError(f"{name} needs ogb: pip install ogb", name="ogb")
    if name in (names := ogb_names(kind)):
        return table[name]
    reason = ""
    if name in table:
        other = f"a task on {LABELS[name[:4]]}s"
        reason = f": {_unsupported(table[name]) or other}"
    raise ValueError(f"expected one of {', '.join(names)}, got {name!r}{reason}")


def _unsupported(row: Row) -> str | None:
    """The reason why a task is not supported, or None."""
    if row["task type"] == "subtoken prediction":
        return "its labels are sequences of words"
    return None


def _check_values(dataset: OGBDataset, split: dict[str, Tensor], label: str, files: Files) -> None:
    """Raise FormatError for labels or codes out of range."""
    labels, classes, where = dataset.labels, int(dataset.num_classes), f"{files.origin}: labels:"
    types = isinstance(labels, dict)
    rows = len(dataset) if label == "graph" else dataset[0][0].num_nodes(PAPER if types else None)
    labels = labels[PAPER] if types else labels
    if labels.shape != (expected := (rows, dataset.num_tasks)):
        raise FormatError(f"{where} expected shape {expected}, got {tuple(labels.shape)}")
    finite = labels[~labels.isnan()]
    if classes > 0 and not bool(((finite >= 0) & (finite < classes)).all()):
        bounds = f"{finite.min().item()} to {finite.max().item()}"
        raise FormatError(f"{where} expected 0 to {classes - 1}, got {bounds}")
    ids = torch.cat(list(split.values()))
    if dataset.num_tasks == 1 and (absent := int(labels[ids].isnan().sum())):
        raise FormatError(f"{where} expected one for each of {len(ids)} in the split, {absent} have none")
    if dataset.meta_info.get("data type") == "mol":  # a column that tasks on nodes lack
        _check_codes(dataset.graphs, files)


def _check_codes(graphs: Sequence[GraphLike], files: Files) -> None:
    from ogb.utils.features import get_atom_feature_dims, get_bond_feature_dims

    for name, codes, sizes in (
        ("node-feat", [graph.ndata["feat"] for graph in graphs], get_atom_feature_dims()),
        ("edge-feat", [graph.edata["feat"] for graph in graphs if graph.num_edges()], get_bond_feature_dims()),
    ):
        table = torch.cat(codes) if codes else torch.zeros(0, len(sizes), dtype=torch.int64)
        if table.shape[1] != len(sizes) or table.dtype != torch.int64:
            raise FormatError(
                f"{files.origin}: {name}: expected codes (n, {len(sizes)}), got {tuple(table.shape)} {table.dtype}"
            )
        for column, (values, size) in enumerate(zip(table.unbind(1), sizes, strict=True)):
            if len(values) and (int(values.min()) < 0 or int(values.max()) >= size):
                raise FormatError(
                    f"{files.origin}: {name}: expected codes 0 to {size - 1} in column {column}, "
                    f"got {int(values.min())} to {int(values.max())}"
                )


def _import(package: str) -> ModuleType:
    """``ogb.graphproppred`` or ``ogb.nodeproppred``, imported without a request to the package index.

    If ``outdated`` can be imported, ogb and outdated start threads that query the newest version, and the interpreter
    waits for them at exit. Without it, ogb sends no request.
    """
    with module_as("outdated", None), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`torch.jit.script` is deprecated", category=DeprecationWarning)
        return import_module(f"ogb.{package}")
