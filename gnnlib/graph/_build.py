"""New graphs: DGLGraphs where DGL is installed, else `Graph`; or of the same kind as another graph."""

from typing import Any

import torch
from torch import Tensor

from gnnlib._platform.dgl import HAS_DGL, dgl
from gnnlib.graph._graph import Graph
from gnnlib.graph._parts import Edges, EdgeType, Nodes, Parts
from gnnlib.graph._structure import GraphLike

__all__ = ["new_bipartite", "new_block", "new_graph"]


def _is_dgl(like: Any) -> bool:
    return HAS_DGL if like is None else not isinstance(like, Graph)


def new_graph(src: Tensor, dst: Tensor, num_nodes: int, *, idtype: Any = None, like: Any = None) -> GraphLike:
    """A homogeneous graph with edges in this order.

    Args:
        src, dst: endpoints of the edges, (E,)
        num_nodes: number of nodes
        idtype: of the node numbers; None: that of ``src``, or of ``like``
        like: a graph whose kind, device and idtype the new graph has; None: DGL's kind where DGL is installed

    Example:
        >>> import torch
        >>> from gnnlib.graph._build import new_graph
        >>> new_graph(torch.tensor([0]), torch.tensor([1]), 3).num_nodes()
        3
    """
    idtype, device = _types(src, idtype, like)
    if _is_dgl(like):
        return dgl.graph((src, dst), num_nodes=num_nodes, idtype=idtype, device=device)
    return _graph(Parts({"_N": Nodes(num_nodes)}, {("_N", "_E", "_N"): Edges(src, dst)}, idtype=idtype), device)


def new_bipartite(
    etype: EdgeType, src: Tensor, dst: Tensor, num_src: int, num_dst: int, *, idtype: Any = None, like: Any = None
) -> GraphLike:
    """A graph of one edge type between two node types; arguments as of `new_graph`.

    Example:
        >>> import torch
        >>> from gnnlib.graph._build import new_bipartite
        >>> new_bipartite(("in", "pool", "out"), torch.tensor([0]), torch.tensor([1]), 3, 2).dsttypes
        ['out']
    """
    idtype, device = _types(src, idtype, like)
    source, _, destination = etype
    if _is_dgl(like):
        sizes = {source: num_src, destination: num_dst}
        return dgl.heterograph({etype: (src, dst)}, sizes, idtype=idtype, device=device)
    nodes = {source: Nodes(num_src), destination: Nodes(num_dst)}
    return _graph(Parts(nodes, {etype: Edges(src, dst)}, idtype=idtype), device)


def new_block(
    src: Tensor, dst: Tensor, num_src: int, num_dst: int, *, idtype: Any = None, like: Any = None
) -> GraphLike:
    """A message-flow graph; arguments as of `new_graph`.

    Example:
        >>> import torch
        >>> from gnnlib.graph._build import new_block
        >>> new_block(torch.tensor([0]), torch.tensor([1]), 3, 2).is_block
        True
    """
    idtype, device = _types(src, idtype, like)
    if _is_dgl(like):
        return dgl.create_block((src, dst), num_src, num_dst, idtype=idtype, device=device)
    edges = {("_N", "_E", "_N"): Edges(src, dst)}
    return _graph(Parts({"_N": Nodes(num_src)}, edges, {"_N": Nodes(num_dst)}, idtype), device)


def _types(src: Tensor, idtype: Any, like: Any) -> tuple[torch.dtype, torch.device]:
    if like is not None:
        return idtype or like.idtype, like.device
    return idtype or (torch.int32 if src.dtype == torch.int32 else torch.int64), src.device


def _graph(parts: Parts, device: torch.device) -> Graph:
    return Graph._from_parts(parts).to(device)
