"""``dgl.batch`` with fewer calls of DGL's library: a few per batch, in place of a few per graph."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from gnnlib._platform.dgl import HAS_DGL, dgl

__all__ = ["batch"]

ALL = dgl.base.ALL if HAS_DGL else None


def batch(graphs: Any, ndata: Any = ALL, edata: Any = ALL) -> Any:
    """The batch that ``dgl.batch`` makes, or None where DGL has to explain what is wrong.

    Example:
        >>> import dgl
        >>> from gnnlib.compat._batch import batch
        >>> batch([dgl.graph(([0], [1])), dgl.graph(([0], [2]))]).batch_num_nodes().tolist()
        [2, 3]
    """
    if not isinstance(graphs, (list, tuple)) or not all(isinstance(graph, dgl.DGLGraph) for graph in graphs):
        return None
    if not graphs or any(graph.is_block for graph in graphs):
        return None
    ntypes, relations = graphs[0].ntypes, graphs[0].canonical_etypes
    if any(graph.ntypes != ntypes or graph.canonical_etypes != relations for graph in graphs):
        return None
    nodes = _frames([graph._node_frames for graph in graphs], ndata)
    edges = _frames([graph._edge_frames for graph in graphs], edata)
    if nodes is None or edges is None:
        return None
    metagraph = graphs[0]._graph.metagraph
    structure = dgl.heterograph_index.disjoint_union(metagraph, [graph._graph for graph in graphs])
    result = dgl.DGLGraph(structure, ntypes, [etype for _, etype, _ in relations], nodes, edges)
    result.set_batch_num_nodes(_sizes(graphs, ntypes, "_node_frames", "batch_num_nodes"))
    result.set_batch_num_edges(_sizes(graphs, relations, "_edge_frames", "batch_num_edges"))
    return result


def _frames(frames: list[list[Any]], names: Any) -> list[Any] | None:
    """The frame of each type; None if the columns of a type differ."""
    if not (names is None or isinstance(names, list) or dgl.base.is_all(names)):
        return None
    result = []
    for of_type in zip(*frames):
        columns = _columns(of_type, names)
        if columns is None:
            return None
        result.append(dgl.frame.Frame(columns, sum(frame.num_rows for frame in of_type)))
    return result


def _columns(frames: Sequence[Any], names: Any) -> dict[str, Tensor] | None:
    """The concatenated columns of one type. As in DGL, a graph without rows may lack columns, unless all are such."""
    if names is None:
        return {}
    frames = [frame for frame in frames if frame.num_rows] or frames
    schemes = [frame.schemes for frame in frames]
    if not dgl.base.is_all(names):
        schemes = [{name: scheme.get(name) for name in names} for scheme in schemes]
    if None in schemes[0].values() or any(scheme != schemes[0] for scheme in schemes):
        return None
    return {name: torch.cat([frame[name] for frame in frames]) for name in schemes[0]}


def _sizes(graphs: Sequence[Any], types: list[Any], frames: str, sizes: str) -> dict[Any, Tensor]:
    """The number of nodes (edges) of each graph by type. DGL computes them for a single graph at the first request, as
    int64 in DGL 1 and in the graph's integer type in DGL 2."""
    first, *rest = graphs
    if any(getattr(graph, f"_{sizes}") is not None for graph in rest):
        return {kind: torch.cat([getattr(graph, sizes)(kind) for graph in graphs]) for kind in types}
    rows = [[frame.num_rows for frame in getattr(graph, frames)] for graph in rest]
    result = {}
    for i, kind in enumerate(types):
        size = getattr(first, sizes)(kind)
        result[kind] = torch.cat([size, size.new_tensor([counts[i] for counts in rows])])
    return result
