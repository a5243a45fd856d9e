"""The Open Graph Benchmark's tasks on links: the splits of edges and triples, and the metrics of candidates."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gnnlib._utils.calls import names_checked
from gnnlib.datasets.files import FormatError
from gnnlib.datasets.ogb_files import PARTS, Files, Row
from gnnlib.datasets.torch_files import read_torch_file
from gnnlib.graph import GraphLike
from gnnlib.train.ranking import hits_at_k, mean_reciprocal_rank

__all__ = ["LinkMetric", "check_edge_split", "node_numbers", "read_edge_split"]

ENDS = (("edge", "edge"), ("source_node", "target_node"), ("head", "tail"))
SplitPart = dict[str, Any]  # names of OGB to tensors, or in ogbl-biokg lists of types


@names_checked()
@dataclass(frozen=True)
class LinkMetric:
    """``metric(positive, negative)``: the value of OGB's evaluator of links (not in percent).

    Args:
        name: "hits@20" or with another number, "mrr" or "rocauc"

    Shapes:
        - positive: scores of links, (n,)
        - negative: scores of pairs without a link, (m,); for "mrr" those of each link, (n, m)

    Raises:
        ValueError: if a shape is wrong, or K is larger than the number of negatives

    Example:
        >>> import torch
        >>> from gnnlib.datasets import LinkMetric
        >>> LinkMetric("rocauc")(torch.tensor([0.9, 0.5]), torch.tensor([0.6, 0.1]))
        0.75
    """

    name: str

    def __post_init__(self) -> None:
        if self.name not in ("mrr", "rocauc") and not (self.name[:5] == "hits@" and self.name[5:].isdigit()):
            raise ValueError(f"LinkMetric: expected 'hits@K', 'mrr' or 'rocauc', got {self.name!r}")

    def __call__(self, positive: Tensor, negative: Tensor) -> float:
        if self.name == "mrr":
            return mean_reciprocal_rank(positive, negative)
        if self.name == "rocauc":
            from sklearn.metrics import roc_auc_score  # takes a second

            linked = np.repeat([1, 0], [len(positive), len(negative)])
            return float(roc_auc_score(linked, torch.cat([positive, negative]).cpu().numpy()))
        return hits_at_k(positive, negative, int(self.name[5:]))


def read_edge_split(files: Files) -> dict[str, SplitPart]:
    """The edges or triples of each part, with OGB's names: arrays and lists of numbers are tensors.

    Raises:
        FormatError: if a file is damaged, or is no dictionary of tables
    """
    paths = [path for name, path in files.paths.items() if name.endswith(".pt")]
    parts = [read_torch_file(path) for path in paths]
    split = parts[0] if len(parts) == 1 else dict(zip(PARTS, parts))
    if not isinstance(split, Mapping) or set(PARTS) - split.keys():
        raise FormatError(f"{paths[0]}: expected the parts {', '.join(PARTS)}, got {type(split).__name__}")
    return {part: _tables(split[part], part, files) for part in PARTS}


def _tables(part: Any, name: str, files: Files) -> SplitPart:
    if not isinstance(part, Mapping) or not any(set(ends) <= part.keys() for ends in ENDS):
        got = f"columns {', '.join(map(str, part))}" if isinstance(part, Mapping) else type(part).__name__
        raise FormatError(f"{files.origin}: {name}: expected edges, sources and targets, or heads and tails, got {got}")
    tables: SplitPart = {}
    for key, table in part.items():
        if isinstance(table, list) and all(isinstance(entry, str) for entry in table):
            tables[key] = table
            continue
        try:
            tables[key] = torch.as_tensor(np.asarray(table) if isinstance(table, list) else table)
        except (TypeError, ValueError, RuntimeError) as error:
            raise FormatError(f"{files.origin}: {name}: expected numbers in {key}, got {error}") from error
    return tables


def check_edge_split(split: Mapping[str, SplitPart], graph: GraphLike, row: Row, origin: Any) -> None:
    """Whether the parts have nodes of the graph and tables of one length, and no edge is in two of them.

    An edge of another year is another edge. Without a direction of the edges, (u, v) is (v, u).

    Raises:
        FormatError: if not
    """
    rows = {}
    for part, tables in split.items():
        where = f"{origin}: {part}:"
        lengths = {key: len(table) for key, table in tables.items() if key != "edge_neg"}
        if len(set(lengths.values())) != 1:
            raise FormatError(f"{where} expected tables of one length, got {lengths}")
        for key, table in tables.items():
            _check_table(table, key, where)
        rows[part] = _edges(tables, graph, row["add_inverse_edge"] == "True", where)
    for first, second in (("train", "valid"), ("train", "test"), ("valid", "test")):
        earlier, later = _codes([rows[first], rows[second]])
        if common := int(np.isin(later, earlier).sum()):
            raise FormatError(
                f"{origin}: expected parts of the split without a common edge, got {common} of {second} in {first}"
            )


def _check_table(table: Tensor | list[str], key: str, where: str) -> None:
    if isinstance(table, list) or key in ("weight", "year"):
        return
    shape = tuple(table.shape)
    expected = 2 if key.endswith("_neg") or key == "edge" else 1
    if table.dtype != torch.int64 or len(shape) != expected or (key in ("edge", "edge_neg") and shape[1] != 2):
        raise FormatError(f"{where} {key}: expected numbers of int64 in {expected} axes, got {shape} of {table.dtype}")


def node_numbers(graph: GraphLike, nodes: Tensor, types: list[str] | None) -> Tensor:
    """The numbers of nodes among those of all types, in the order of the types.

    Args:
        graph: with one type of nodes or several
        nodes: numbers among those of their type, (n,) or (n, m)
        types: of each row; None in a graph with one type

    Raises:
        FormatError: if a type is unknown, or a number is out of range
    """
    if types is None:
        size, first = torch.tensor(graph.num_nodes()), torch.tensor(0)
    else:
        names, kind = np.unique(np.array(types, dtype=str), return_inverse=True)
        if unknown := set(names.tolist()) - set(graph.ntypes):
            raise FormatError(f"expected types {', '.join(graph.ntypes)}, got {', '.join(sorted(unknown))}")
        sizes = torch.tensor([graph.num_nodes(name) for name in graph.ntypes])
        index = torch.tensor([graph.ntypes.index(name) for name in names.tolist()])[torch.from_numpy(kind)]
        index = index.view(-1, *[1] * (nodes.dim() - 1))
        size, first = sizes[index], (sizes.cumsum(0) - sizes)[index]
    if nodes.numel() and not bool(((nodes >= 0) & (nodes < size)).all()):
        raise FormatError(
            f"expected nodes from 0 to {int(size.max()) - 1}, got {int(nodes.min())} to {int(nodes.max())}"
        )
    return nodes + first


def _edges(tables: SplitPart, graph: GraphLike, undirected: bool, where: str) -> np.ndarray:
    """The columns of numbers in which two edges differ, (n, 2 or 3); the nodes of all columns are checked."""

    def numbers(key: str, end: str = "") -> Tensor:
        try:
            return node_numbers(graph, tables[key], tables.get(f"{end}_type"))
        except FormatError as error:
            raise FormatError(f"{where} {key}: {error}") from None

    for key in tables:
        if key.endswith("_neg"):
            numbers(key, key.removesuffix("_neg"))
    ends = next(ends for ends in ENDS if set(ends) <= tables.keys())
    pairs = numbers("edge") if ends[0] == "edge" else torch.stack([numbers(key, key) for key in ends], 1)
    pairs = pairs.sort(1).values if undirected else pairs
    columns = [tables[key].reshape(-1, 1) for key in ("year", "relation") if key in tables]
    return torch.cat([pairs, *(column.long() for column in columns)], 1).numpy()


def _codes(tables: list[np.ndarray]) -> list[np.ndarray]:
    """One number for each row of tables, the same for equal rows."""
    rows = np.concatenate([np.zeros((1, tables[0].shape[1]), np.int64), *tables])
    low, size = rows.min(0), np.ptp(rows, 0) + 1
    codes = [np.zeros(len(table), np.int64) for table in tables]
    for column, (first, number) in enumerate(zip(low, size, strict=True)):
        codes = [code * number + table[:, column] - first for code, table in zip(codes, tables, strict=True)]
    return codes
