"""Graphs joined into a batch, and a batch split into its graphs, as plain nodes and edges."""

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from gnnlib.graph._parts import Edges, EdgeType, Nodes, Parts

__all__ = ["join", "split"]


def join(graphs: Sequence[Parts]) -> Parts:
    """One graph of several, whose nodes and edges follow each other.

    Raises:
        ValueError: if there are none, or they differ in types, columns, type of numbers or device
    """
    if not graphs:
        raise ValueError("expected at least one graph, got none")
    first = graphs[0]
    for i, parts in enumerate(graphs):
        if parts.dst_nodes is not None:
            raise ValueError(f"graph {i}: expected a graph, got a message-flow graph (DGL block)")
        for name, value, other in (
            ("edge types", list(first.edges), list(parts.edges)),
            ("type of node numbers", first.idtype, parts.idtype),
            ("device", _device(first), _device(parts)),
        ):
            if value != other:
                raise ValueError(f"graph {i}: expected the same {name} as in the first, {value}, got {other}")
    nodes = {kind: _join_nodes(kind, [parts.nodes[kind] for parts in graphs]) for kind in first.nodes}
    edges = {kind: _join_edges(kind, graphs) for kind in first.edges}
    return Parts(nodes, edges, idtype=first.idtype)


def _device(parts: Parts) -> torch.device:
    return next(iter(parts.edges.values())).src.device


def _join_nodes(kind: str, rows: list[Nodes]) -> Nodes:
    nums = [nodes.num for nodes in rows]
    columns = _join_columns(f"ndata of {kind}", nums, [nodes.columns for nodes in rows])
    return Nodes(sum(nums), columns, torch.cat([_sizes(nodes, nodes.num) for nodes in rows]))


def _join_edges(kind: EdgeType, graphs: Sequence[Parts]) -> Edges:
    rows = [parts.edges[kind] for parts in graphs]
    nums = [len(edges.src) for edges in rows]
    src, dst = (
        torch.cat([nodes + start for nodes, start in zip(ends, _starts(graphs, end), strict=True)])
        for ends, end in (([edges.src for edges in rows], kind[0]), ([edges.dst for edges in rows], kind[2]))
    )
    columns = _join_columns(f"edata of {kind[1]}", nums, [edges.columns for edges in rows])
    sizes = torch.cat([_sizes(edges, num) for edges, num in zip(rows, nums, strict=True)])
    return Edges(src, dst, columns, sizes)


def _starts(graphs: Sequence[Parts], kind: str) -> list[int]:
    """The first node of each graph in the batch."""
    return [0, *accumulate(parts.nodes[kind].num for parts in graphs)][:-1]


def _sizes(rows: Any, num: int) -> Tensor:
    return torch.tensor([num]) if rows.sizes is None else rows.sizes.cpu()


def _join_columns(name: str, nums: list[int], columns: list[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The columns of all graphs that have rows; a graph without rows may lack them."""
    with_rows = [(i, frame) for i, (num, frame) in enumerate(zip(nums, columns, strict=True)) if num]
    if not with_rows:
        return dict(columns[0])
    expected = list(with_rows[0][1])
    for i, frame in with_rows:
        if set(frame) != set(expected):
            raise ValueError(f"graph {i}: expected {name} with the columns {expected}, got {list(frame)}")
    return {key: torch.cat([frame[key] for _, frame in with_rows]) for key in expected}


def split(parts: Parts) -> list[Parts]:
    """The graphs of a batch, numbered from 0.

    Raises:
        ValueError: if the sizes of nodes and edges are not of the same number of graphs
    """
    counts = {kind: _counts(nodes, nodes.num) for kind, nodes in parts.nodes.items()}
    edge_counts = {kind: _counts(edges, len(edges.src)) for kind, edges in parts.edges.items()}
    lengths = {len(sizes) for sizes in (*counts.values(), *edge_counts.values())}
    if len(lengths) != 1:
        raise ValueError(f"expected batch_num_nodes and batch_num_edges of the same graphs, got {sorted(lengths)}")
    nodes = {kind: _split_nodes(rows, counts[kind]) for kind, rows in parts.nodes.items()}
    edges = {kind: _split_edges(kind, rows, edge_counts[kind], counts) for kind, rows in parts.edges.items()}
    return [
        Parts(
            {kind: rows[i] for kind, rows in nodes.items()},
            {kind: rows[i] for kind, rows in edges.items()},
            idtype=parts.idtype,
        )
        for i in range(lengths.pop())
    ]


def _counts(rows: Any, num: int) -> list[int]:
    return [num] if rows.sizes is None else rows.sizes.tolist()


def _split_nodes(nodes: Nodes, counts: list[int]) -> list[Nodes]:
    return [Nodes(num, columns) for num, columns in zip(counts, _split_columns(nodes.columns, counts), strict=True)]


def _split_edges(kind: EdgeType, edges: Edges, counts: list[int], nodes: Mapping[str, list[int]]) -> list[Edges]:
    src, dst = (
        [numbers - start for numbers, start in zip(ends.split(counts), accumulate([0, *nodes[end]]))]
        for ends, end in ((edges.src, kind[0]), (edges.dst, kind[2]))
    )
    return [Edges(*parts) for parts in zip(src, dst, _split_columns(edges.columns, counts), strict=True)]


def _split_columns(columns: Mapping[str, Tensor], counts: list[int]) -> list[dict[str, Tensor]]:
    pieces = {name: value.split(counts) for name, value in columns.items()}
    return [{name: values[i] for name, values in pieces.items()} for i in range(len(counts))]
