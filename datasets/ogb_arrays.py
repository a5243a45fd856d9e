"""The arrays of an OGB task: read by OGB's readers, which know no graph library, and made graphs.

A table of tensors by name: ``sizes`` and features of nodes and edges by type, numbered from 0 in each graph, and the
labels. It is stored in the format of safetensors, so nothing is unpickled.
"""

from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gnnlib.datasets.ogb_files import LINK, Row, has_types, is_binary
from gnnlib.graph import Graph, GraphLike, makes_dgl, new_graph

__all__ = ["graphs_of", "labels_of", "read_arrays"]

HOMOGENEOUS = ("_N", "_E", "_N")
Arrays = dict[str, Tensor]


def read_arrays(folder: Path, row: Row, label: str) -> Arrays:
    """The arrays of the files in OGB's layout; ``label`` is "graph", "node" or "link".

    Raises:
        ValueError: if an edge is out of range, or a file is no table of numbers
    """
    reader, binary, types = import_module("ogb.io.read_graph_raw"), is_binary(row), has_types(row)
    inverse = row["add_inverse_edge"] == "True"
    extra = {end: _names(row[f"additional {end} files"]) for end in ("node", "edge")}
    more = {} if binary else {f"additional_{end}_files": names for end, names in extra.items()}
    read = getattr(reader, f"read_{'binary' if binary else 'csv'}_{'heterograph' if types else 'graph'}_raw")
    graphs = read(str(folder / "raw"), inverse, **more)
    arrays = _nodes_and_edges(graphs if types else map(_as_typed, graphs), extra)
    for kind, values in _labels(reader, folder / "raw", row, label).items():
        tensor = _tensor(values)
        integers = "classification" in row["task type"] and not bool(tensor.isnan().any())
        arrays[f"labels/{kind}"] = tensor.long() if integers else tensor.float()
    return {name: tensor.contiguous() for name, tensor in arrays.items()}


def _names(names: str) -> list[str]:
    return [] if names == "None" else names.split(",")


def _as_typed(graph: dict[str, Any]) -> dict[str, Any]:
    """A graph without types in the form of one with types."""
    node, edge = HOMOGENEOUS[0], HOMOGENEOUS
    typed = {key: {node if key[:4] == "node" else edge: value} for key, value in graph.items() if value is not None}
    return {
        "num_nodes_dict": {node: graph["num_nodes"]},
        "edge_index_dict": {edge: graph["edge_index"]},
        "node_feat_dict": typed.pop("node_feat", {}),
        "edge_feat_dict": typed.pop("edge_feat", {}),
        **typed,
    }


def _nodes_and_edges(graphs: Iterable[dict[str, Any]], extra: dict[str, list[str]]) -> Arrays:
    parts: dict[str, list[np.ndarray]] = {}

    def add(name: str, values: Any) -> None:
        parts.setdefault(name, []).append(values)

    for graph in graphs:
        counts = graph["num_nodes_dict"]
        for kind, num in counts.items():
            add(f"sizes/{kind}", np.array([num], np.int64))
        for kind, pairs in graph["edge_index_dict"].items():
            _check_range(kind, pairs, counts)
            add(f"sizes/{'/'.join(kind)}", np.array([pairs.shape[1]], np.int64))
            add(f"edge_index/{'/'.join(kind)}", pairs.T)
        for end, names in extra.items():
            for name, columns in (("feat", f"{end}_feat_dict"), *((name[5:], name) for name in names)):
                for kind, values in (graph.get(columns) or {}).items():
                    add(f"{end}/{name}/{kind if end == 'node' else '/'.join(kind)}", values)
    return {name: _tensor(rows[0] if len(rows) == 1 else np.concatenate(rows)) for name, rows in parts.items()}


def _tensor(values: np.ndarray) -> Tensor:
    """Arrays of pandas 3 are not writable; these are copied."""
    return torch.from_numpy(np.require(values, requirements="W"))


def _check_range(kind: Any, pairs: np.ndarray, counts: dict[str, int]) -> None:
    for end, nodes in zip((kind[0], kind[2]), pairs, strict=True):
        if len(nodes) and not 0 <= nodes.min() <= nodes.max() < counts[end]:
            raise ValueError(f"expected edges of nodes 0 to {counts[end] - 1}, got {nodes.min()} to {nodes.max()}")


def _labels(reader: Any, raw: Path, row: Row, label: str) -> dict[str, np.ndarray]:
    if label == LINK:
        return {}
    if is_binary(row):
        with np.load(raw / f"{label}-label.npz") as archive:
            return {"": archive[f"{label}_label"]}
    if has_types(row):
        return reader.read_node_label_hetero(str(raw))
    return {"": reader.pd.read_csv(raw / f"{label}-label.csv.gz", compression="gzip", header=None).values}


def labels_of(arrays: Arrays) -> Any:
    """The labels, or those of each node type; None without labels."""
    labels = {name.removeprefix("labels/"): values for name, values in arrays.items() if name.startswith("labels/")}
    return labels.get("", labels) if labels else None


def graphs_of(arrays: Arrays) -> list[GraphLike]:
    """DGLGraphs where DGL is installed, else Graphs."""
    kinds = [tuple(name.split("/")[1:]) for name in arrays if name.startswith("edge_index/")]
    if kinds != [HOMOGENEOUS]:
        return [_typed_graph(arrays, kinds)]
    node, edge = HOMOGENEOUS[0], "/".join(HOMOGENEOUS)
    num_nodes, num_edges = arrays[f"sizes/{node}"].tolist(), arrays[f"sizes/{edge}"].tolist()
    ends = arrays[f"edge_index/{edge}"].split(num_edges)
    graphs = [new_graph(pairs[:, 0], pairs[:, 1], num) for pairs, num in zip(ends, num_nodes, strict=True)]
    for end, kind, sizes in (("node", node, num_nodes), ("edge", edge, num_edges)):
        for name, values in _columns(arrays, end, kind).items():
            for graph, rows in zip(graphs, values.split(sizes), strict=True):
                (graph.ndata if end == "node" else graph.edata)[name] = rows
    return graphs


def _typed_graph(arrays: Arrays, kinds: list[Any]) -> GraphLike:
    pairs = {kind: arrays[f"edge_index/{'/'.join(kind)}"].unbind(1) for kind in kinds}
    counts = {name[6:]: int(arrays[name]) for name in arrays if name.startswith("sizes/") and name.count("/") == 1}
    graph = Graph(pairs, counts)
    for node in counts:
        graph.nodes[node].data.update(_columns(arrays, "node", node))
    for kind in kinds:
        graph.edges[kind].data.update(_columns(arrays, "edge", "/".join(kind)))
    return graph.to_dgl() if makes_dgl() else graph


def _columns(arrays: Arrays, end: str, kind: str) -> Arrays:
    names = (name.split("/", 2) for name in arrays)
    return {
        key: arrays[f"{end}/{key}/{of}"] for first, key, *rest in names for of in rest if (first, of) == (end, kind)
    }
