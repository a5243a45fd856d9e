"""What all measures share: their input checked and in float64, and which nodes belong together."""

import torch
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from gnnlib._platform.dgl import dgl
from gnnlib.graph import Adjacency, adjacency
from gnnlib.nn.readout import readout_sum
from gnnlib.ops import aggregate

__all__ = ["adjacency_matrix", "checked", "components", "each_part", "mean_of_group", "sum_nodes", "whole"]


def whole(graph: dgl.DGLGraph) -> None:
    """Raise unless the graph has one set of nodes, which send and receive."""
    if not isinstance(graph, dgl.DGLGraph):
        raise TypeError(f"expected a DGLGraph, got {type(graph).__name__}")
    if graph.is_block or not graph.is_homogeneous:
        kind = "a block" if graph.is_block else f"edge types {graph.canonical_etypes}"
        raise ValueError(f"expected a graph with one node type and one edge type, got {kind}")


def checked(graph: dgl.DGLGraph, x: Tensor, name: str = "x") -> Tensor:
    """x (N, \\*, F) in float64."""
    whole(graph)
    if not isinstance(x, Tensor) or not x.is_floating_point():
        got = x.dtype if isinstance(x, Tensor) else type(x).__name__
        raise TypeError(f"{name}: expected a tensor of floating-point values, got {got}")
    if x.dim() < 2 or len(x) != graph.num_nodes():
        raise ValueError(f"{name}: expected shape ({graph.num_nodes()}, ..., F), got {tuple(x.shape)}")
    return x.double()


def sum_nodes(graph: dgl.DGLGraph, values: Tensor) -> Tensor:
    """(N, \\*) -> (B, \\*)"""
    return readout_sum(graph, values.unsqueeze(-1)).squeeze(-1)


def each_part(graph: dgl.DGLGraph, x: Tensor) -> list[Tensor]:
    """(N, \\*, F) as one (\\*, n, F) for each graph of the batch, which are matrices."""
    return [part.movedim(0, -2) for part in x.split(graph.batch_num_nodes().tolist())]


def adjacency_matrix(graph: dgl.DGLGraph | Adjacency) -> coo_matrix:
    """(N, N) numbers of edges, from row to column."""
    adj = adjacency(graph, "cpu")
    ones = torch.ones(adj.num_edges)
    return coo_matrix((ones.numpy(), (adj.src.numpy(), adj.dst.numpy())), (adj.num_src, adj.num_dst))


def components(graph: dgl.DGLGraph, device: torch.device) -> Adjacency:
    """Every node with one edge to its connected component, whatever the direction of edges."""
    adj = adjacency(graph)

    def find() -> Tensor:
        return torch.from_numpy(connected_components(adjacency_matrix(adj), directed=False)[1]).to(adj.device)

    owner = adj.cached("components", find).to(device)
    each = torch.arange(len(owner), device=device)
    return Adjacency.from_edges(each, owner, len(owner), int(owner.max()) + 1 if len(owner) else 0)


def mean_of_group(groups: Adjacency, x: Tensor) -> Tensor:
    """(N, \\*, F): for each node the mean over the nodes of its group."""
    return aggregate(groups, x, reduce="mean")[groups.dst]
