"""New graphs: DGLGraphs where DGL is installed, else `Graph`; or of the same kind as another graph."""

from typing import Any

import torch

from gnnlib._platform.dgl import HAS_DGL, dgl
from gnnlib._utils.calls import names_checked
from gnnlib.graph._graph import Graph
from gnnlib.graph._parts import HOMOGENEOUS, Edges, EdgeType, Nodes, Parts, as_node_numbers
from gnnlib.graph._structure import GraphLike

__all__ = ["makes_dgl", "new_bipartite", "new_block", "new_graph"]


@names_checked()
def makes_dgl(like: Any = None) -> bool:
    """Whether a new graph like this one is a DGLGraph; without one, whether DGL is installed."""
    return HAS_DGL if like is None else not isinstance(like, Graph)


@names_checked()
def new_graph(
    src: Any, dst: Any, num_nodes: int | None = None, *, idtype: torch.dtype | None = None, like: Any = None
) -> GraphLike:
    """A homogeneous graph with edges in this order.

    Args:
        src, dst: endpoints of the edges, (E,): tensors, arrays or lists
        num_nodes: number of nodes; None: the largest number plus one
        idtype: of the node numbers; None: that of ``src``, or of ``like``
        like: a graph whose kind, device and idtype the new graph has; None: a DGLGraph where DGL is installed, else a
            `Graph`

    Returns:
        the graph

    Example:
        >>> from gnnlib.graph import new_graph
        >>> new_graph([0, 1], [1, 2]).num_nodes()
        3
    """
    src, dst = as_node_numbers(src), as_node_numbers(dst)
    if num_nodes is None:
        num_nodes = 1 + max((int(nodes.max()) for nodes in (src, dst) if len(nodes)), default=-1)
    idtype, device = _types(src, idtype, like)
    if makes_dgl(like):
        return dgl.graph((src, dst), num_nodes=num_nodes, idtype=idtype, device=device)
    return _graph(Parts({HOMOGENEOUS[0]: Nodes(num_nodes)}, {HOMOGENEOUS: Edges(src, dst)}, idtype=idtype), device)


@names_checked()
def new_bipartite(
    etype: EdgeType,
    src: Any,
    dst: Any,
    num_src: int,
    num_dst: int,
    *,
    idtype: torch.dtype | None = None,
    like: Any = None,
) -> GraphLike:
    """A graph of one edge type between two node types; arguments as of `new_graph`.

    Example:
        >>> from gnnlib.graph import new_bipartite
        >>> new_bipartite(("in", "pool", "out"), [0], [1], 3, 2).dsttypes
        ['out']
    """
    src, dst = as_node_numbers(src), as_node_numbers(dst)
    idtype, device = _types(src, idtype, like)
    source, _, destination = etype
    if makes_dgl(like):
        sizes = {source: num_src, destination: num_dst}
        return dgl.heterograph({etype: (src, dst)}, sizes, idtype=idtype, device=device)
    nodes = {source: Nodes(num_src), destination: Nodes(num_dst)}
    return _graph(Parts(nodes, {etype: Edges(src, dst)}, idtype=idtype), device)


@names_checked()
def new_block(
    src: Any, dst: Any, num_src: int, num_dst: int, *, idtype: torch.dtype | None = None, like: Any = None
) -> GraphLike:
    """A message-flow graph (DGL block); arguments as of `new_graph`.

    Example:
        >>> from gnnlib.graph import new_block
        >>> new_block([0], [1], 3, 2).is_block
        True
    """
    src, dst = as_node_numbers(src), as_node_numbers(dst)
    idtype, device = _types(src, idtype, like)
    if makes_dgl(like):
        return dgl.create_block((src, dst), num_src, num_dst, idtype=idtype, device=device)
    nodes, dst_nodes = {HOMOGENEOUS[0]: Nodes(num_src)}, {HOMOGENEOUS[2]: Nodes(num_dst)}
    return _graph(Parts(nodes, {HOMOGENEOUS: Edges(src, dst)}, dst_nodes, idtype), device)


def _types(src: torch.Tensor, idtype: torch.dtype | None, like: Any) -> tuple[torch.dtype, torch.device]:
    if like is not None:
        return idtype or like.idtype, like.device
    return idtype or (torch.int32 if src.dtype == torch.int32 else torch.int64), src.device


def _graph(parts: Parts, device: torch.device) -> Graph:
    return Graph._from_parts(parts).to(device)
