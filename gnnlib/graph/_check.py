"""What to write in place of an argument that is not a graph."""

from typing import Any

from torch import Tensor

from gnnlib._platform.dgl import dgl

__all__ = ["graph_error"]

CONVERSIONS = {
    "torch": "dgl.graph((edge_index[0], edge_index[1]))",
    "numpy": "dgl.graph((edges[0], edges[1]))",
    "scipy": "dgl.from_scipy(matrix)",
    "networkx": "dgl.from_networkx(graph)",
    "torch_geometric": "dgl.graph((data.edge_index[0], data.edge_index[1]), num_nodes=data.num_nodes)",
}
"""By the package of the object."""


def graph_error(owner: str, graph: Any) -> TypeError | None:
    """The error for an argument that is no graph of one edge type; None if it is one."""
    kind = type(graph)
    if isinstance(graph, dgl.DGLGraph):
        if len(graph.canonical_etypes) == 1:
            return None
        return TypeError(f"{owner}: expected a graph with one edge type, graph[etype], got the types {graph.etypes}")
    if isinstance(graph, (list, tuple)):
        return TypeError(
            f"{owner}: expected one graph, dgl.batch(graphs), or a Stack for one message-flow graph (DGL block) per "
            f"layer, got a {kind.__name__} of {len(graph)}"
        )
    if isinstance(graph, Tensor):
        came = f"a tensor of shape {tuple(graph.shape)}"
        return TypeError(f"{owner}: expected a DGL graph first, {CONVERSIONS['torch']}, and then x, got {came}")
    conversion = CONVERSIONS.get(kind.__module__.partition(".")[0], "dgl.graph((src, dst))")
    return TypeError(f"{owner}: expected a DGL graph, {conversion}, got {kind.__module__}.{kind.__name__}")
