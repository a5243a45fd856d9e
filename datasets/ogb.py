"""The Open Graph Benchmark, by name: its own loaders, splits and evaluators (Hu et al. 2020, arXiv 2005.00687).

OGB writes beside the files it reads, asks questions and loads any pickle that lies there. Here its loader runs in a
folder of the user's cache, named by the files' content, which has links to the files that the task needs and to no
others: the directory given is only read. What the loader writes there, in DGL's own format, is kept under a seal. A
``split_dict.pt`` is not among the files, so nothing is ever unpickled.
"""

import os
import tempfile
import warnings
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from gnnlib._platform.dgl import dgl  # before ogb imports it
from gnnlib._platform.modules import module_as
from gnnlib.datasets.files import Folder, FormatError, cache_dir, cached
from gnnlib.datasets.ogb_files import PAPER, Files, Row, check, find_files, has_types, master

__all__ = ["Metric", "ogb_graphs", "ogb_names", "ogb_nodes"]

PACKAGES = {"ogbg": "graphproppred", "ogbn": "nodeproppred"}
LABELS = {"ogbg": "graph", "ogbn": "node"}  # what has labels
PROCESSED = Path("processed/dgl_data_processed")
Loaded = tuple[Any, dict[str, Tensor], "Metric"]


@dataclass(frozen=True)
class Metric:
    """``metric(outputs, labels)``: what OGB's evaluator says of a model's outputs, as it says it (no percent).

    Shapes: outputs (n, out_feats): scores, or a value, for each of several tasks, or for each class of one; labels
    (n, tasks), NaN where a graph has none.

    Raises: ValueError, with both shapes, where they do not fit; RuntimeError of OGB where no task has labels of both
    kinds.
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


def ogb_names(kind: str) -> list[str]:
    """The tasks served here, of kind "ogbg" (on graphs) or "ogbn" (on nodes), as ogb's own table lists them; none where
    ogb is not installed.

    >>> ogb_names("ogbn")
    ['ogbn-proteins', 'ogbn-products', 'ogbn-arxiv', 'ogbn-mag', 'ogbn-papers100M']
    """
    return [name for name, row in master(PACKAGES[kind]).items() if _unserved(row) is None]


def ogb_graphs(name: str, data: Folder = None) -> Loaded:
    """A task on graphs: ogbg-mol* (molecules) or ogbg-ppa (proteins' neighbourhoods).

    The first call converts the files, half a minute for ogbg-molhiv.

    Args:
        data: a directory with OGB's raw layout in ``ogb/ogbg_molhiv/`` or ``ogbg_molhiv/``, or with ``hiv.zip`` as
            published; else ``GNNLIB_DATA``, else downloaded.

    Returns:
        dataset: OGB's own: ``dataset[i]`` is a pair of a graph and its labels (tasks,): int64, or float32 where some
            are NaN. Molecules have ndata ``feat`` (n, 9) and edata ``feat`` (e, 3), int64 codes, each bond two edges;
            ogbg-ppa has edata ``feat`` (e, 7), float32, and nothing on its nodes.
        split: ids of the graphs in ``"train"``, ``"valid"`` and ``"test"``, int64.
        metric: of a model's outputs; see `Metric`.

    Raises:
        ImportError: ogb is not installed.
        ValueError: no such task, or one of another kind.
        FileNotFoundError: no such directory, or some of the files are missing; DownloadError if a download failed, too.
        FormatError: a damaged file, another release, files that do not belong together, edges, codes or labels out of
            range.

    >>> dataset, split, metric = ogb_graphs("ogbg-molhiv")  # doctest: +SKIP
    >>> len(dataset), {part: len(ids) for part, ids in split.items()}  # doctest: +SKIP
    (41127, {'train': 32901, 'valid': 4113, 'test': 4113})
    """
    return _load("ogbg", name, data)


def ogb_nodes(name: str, data: Folder = None) -> Loaded:
    """A task on the nodes of one graph: ogbn-arxiv, ogbn-products, ogbn-proteins, ogbn-mag or ogbn-papers100M.

    Args and Raises: as of `ogb_graphs`, with ``ogbn_arxiv/`` or ``arxiv.zip``.

    Returns:
        dataset: OGB's own: ``graph, labels = dataset[0]``. ndata ``feat`` (N, F), float32, but in ogbn-proteins, which
            has edata ``feat`` (E, 8) and ndata ``species``; labels (N, tasks), int64, but in ogbn-papers100M float32
            and NaN where a node has none. ogbn-mag has four types of nodes; features, labels (as ``{"paper": labels}``)
            and split are of its papers.
        split: ids of the nodes in ``"train"``, ``"valid"`` and ``"test"``, int64.
        metric: of a model's outputs; see `Metric`.

    >>> dataset, split, metric = ogb_nodes("ogbn-arxiv")  # doctest: +SKIP
    >>> graph, labels = dataset[0]  # doctest: +SKIP
    >>> graph.num_nodes(), labels.shape  # doctest: +SKIP
    (169343, torch.Size([169343, 1]))
    """
    return _load("ogbn", name, data)


def _load(kind: str, name: str, data: Folder) -> Loaded:
    row, label = _row(kind, name), LABELS[kind]
    module = _import(PACKAGES[kind])
    files = find_files(name, row, label, data)
    root, folder = cache_dir() / "ogb" / files.key(), name.replace("-", "_")

    def official(where: Path) -> tuple[Any, dict[str, Tensor]]:
        files.link(where / folder, row)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable", category=UserWarning)
            dataset = getattr(module, f"Dgl{label.title()}PropPredDataset")(name=name, root=str(where))
            split = dataset.get_idx_split()
            return dataset, {part: ids[PAPER] for part, ids in split.items()} if has_types(row) else split

    def convert(part: Path) -> None:
        check(files, row, label)
        with tempfile.TemporaryDirectory(dir=part.parent) as scratch:
            try:
                dataset, split = official(Path(scratch))
            except (dgl.DGLError, ValueError, TypeError, IndexError, EOFError, zipfile.BadZipFile, zlib.error) as error:
                raise FormatError(f"{files.origin}: OGB's loader cannot read it ({error})") from error
            _check_values(dataset, split, label, files)
            os.replace(Path(scratch) / folder / PROCESSED, part)

    cached(root / folder / PROCESSED, convert)
    dataset, split = official(root)
    return dataset, split, Metric.of(dataset, module.Evaluator(name=name))


def _row(kind: str, name: str) -> Row:
    """What OGB's table says of a task, or an error that says what would do."""
    table = {name: row for package in PACKAGES.values() for name, row in master(package).items()}
    if not table:
        raise ImportError(f"{name} needs ogb: pip install ogb", name="ogb")
    if name in (known := ogb_names(kind)):
        return table[name]
    reason = ""
    if name in table:
        other = {"ogbg": "a task on graphs", "ogbn": "a task on nodes"}[name[:4]]
        reason = f": {_unserved(table[name]) or other}"
    raise ValueError(f"expected one of {', '.join(known)}, got {name!r}{reason}")


def _unserved(row: Row) -> str | None:
    """Why a task is not served, if so."""
    if row["task type"] == "subtoken prediction":
        return "its labels are sequences of words"
    return None


def _check_values(dataset: Any, split: dict[str, Tensor], label: str, files: Files) -> None:
    """Raises FormatError for labels or codes that no model of the task could take."""
    labels, classes, where = dataset.labels, int(dataset.num_classes), f"{files.origin}: labels:"
    types = isinstance(labels, dict)
    rows = len(dataset) if label == "graph" else dataset[0][0].num_nodes(PAPER if types else None)
    labels = labels[PAPER] if types else labels
    if labels.shape != (expected := (rows, dataset.num_tasks)):
        raise FormatError(f"{where} expected shape {expected}, received {tuple(labels.shape)}")
    known = labels[~labels.isnan()]
    if classes > 0 and not bool(((known >= 0) & (known < classes)).all()):
        received = f"{known.min().item()} to {known.max().item()}"
        raise FormatError(f"{where} expected 0 to {classes - 1}, received {received}")
    ids = torch.cat(list(split.values()))
    if dataset.num_tasks == 1 and (absent := int(labels[ids].isnan().sum())):
        raise FormatError(f"{where} expected one for each of {len(ids)} in the split, {absent} have none")
    if dataset.meta_info.get("data type") == "mol":
        _check_codes(dataset.graphs, files)


def _check_codes(graphs: Sequence[dgl.DGLGraph], files: Files) -> None:
    from ogb.utils.features import get_atom_feature_dims, get_bond_feature_dims

    for what, codes, sizes in (
        ("node-feat", [graph.ndata["feat"] for graph in graphs], get_atom_feature_dims()),
        ("edge-feat", [graph.edata["feat"] for graph in graphs if graph.num_edges()], get_bond_feature_dims()),
    ):
        table = torch.cat(codes) if codes else torch.zeros(0, len(sizes), dtype=torch.int64)
        if table.shape[1] != len(sizes) or table.dtype != torch.int64:
            raise FormatError(
                f"{files.origin}: {what}: expected codes (n, {len(sizes)}), received {tuple(table.shape)} {table.dtype}"
            )
        for column, (values, size) in enumerate(zip(table.unbind(1), sizes, strict=True)):
            if len(values) and (int(values.min()) < 0 or int(values.max()) >= size):
                raise FormatError(
                    f"{files.origin}: {what}: expected codes 0 to {size - 1} in column {column}, "
                    f"received {int(values.min())} to {int(values.max())}"
                )


def _import(package: str) -> ModuleType:
    """``ogb.graphproppred`` or ``ogb.nodeproppred``, imported without ogb's question to the package index.

    Where ``outdated`` can be imported, ogb and outdated start threads that ask for the newest version, and the
    interpreter waits for them at its end; without it, ogb does not ask.
    """
    with module_as("outdated", None), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`torch.jit.script` is deprecated", category=DeprecationWarning)
        return import_module(f"ogb.{package}")
