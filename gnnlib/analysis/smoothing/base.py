"""Functions that the measures share: checks of their input, sums per graph, connected components."""

import numpy as np
import torch
from scipy.sparse import coo_matrix, csr_matrix
from scipy.sparse.csgraph import connected_components, shortest_path
from torch import Tensor

from gnnlib.graph import Adjacency, GraphLike, adjacency, is_graph, takes_graph
from gnnlib.graph._check import graph_error, kind_of
from gnnlib.nn.readout import readout_sum
from gnnlib.ops import aggregate

__all__ = [
    "adjacency_matrix",
    "check_features",
    "check_graph",
    "components",
    "group_mean",
    "hop_distances",
    "simple_adjacency",
    "split_by_graph",
    "sum_by_graph",
]


def check_graph(graph: GraphLike) -> None:
    """Checks that the graph has one set of nodes.

    Raises:
        TypeError: for another object than a graph
        ValueError: for a block, or several node or edge types
    """
    wrong = None if is_graph(graph) else graph_error("graph", graph)
    if wrong is not None:
        raise wrong
    if graph.is_block or not graph.is_homogeneous:
        kind = "a block" if graph.is_block else f"edge types {graph.canonical_etypes}"
        raise ValueError(f"graph: expected one node type and one edge type, dgl.to_homogeneous(graph), got {kind}")


def check_features(graph: GraphLike, x: Tensor, name: str = "x") -> Tensor:
    """Node features (N, \\*, F), checked and in float64.

    Raises:
        TypeError: for another object than a graph, or values that are not floating-point
        ValueError: for a graph with several sets of nodes, or x of another shape
    """
    check_graph(graph)
    if not isinstance(x, Tensor):
        raise TypeError(f"{name}: expected a tensor, torch.from_numpy(x) of an array, got {kind_of(x)}")
    if not x.is_floating_point():
        raise TypeError(f"{name}: expected a tensor of floating-point values, x.float(), got {x.dtype}")
    if x.dim() < 2 or len(x) != graph.num_nodes():
        raise ValueError(f"{name}: expected shape ({graph.num_nodes()}, ..., F), got {tuple(x.shape)}")
    return x.double()


def sum_by_graph(graph: GraphLike, values: Tensor) -> Tensor:
    """(N, \\*) -> (B, \\*)"""
    return readout_sum(graph, values.unsqueeze(-1)).squeeze(-1)


def split_by_graph(graph: GraphLike, x: Tensor) -> list[Tensor]:
    """(N, \\*, F) -> (\\*, n, F) for each graph of the batch."""
    return [part.movedim(0, -2) for part in x.split(graph.batch_num_nodes().tolist())]


@takes_graph()
def adjacency_matrix(graph: GraphLike | Adjacency) -> coo_matrix:
    """The number of edges from row to column, (N, N)."""
    adj = adjacency(graph, "cpu")
    ones = torch.ones(adj.num_edges)
    return coo_matrix((ones.numpy(), (adj.src.numpy(), adj.dst.numpy())), (adj.num_src, adj.num_dst))


@takes_graph()
def simple_adjacency(graph: GraphLike | Adjacency) -> csr_matrix:
    """The adjacency matrix of the simple graph: without directions, self-loops and parallel edges."""
    matrix = adjacency_matrix(graph).tocsr()
    matrix = (matrix + matrix.T).tocsr()
    matrix.setdiag(0)
    matrix.eliminate_zeros()
    matrix.data[:] = 1
    return matrix


@takes_graph()
def hop_distances(graph: GraphLike | Adjacency, nodes: Tensor) -> np.ndarray:
    """(nodes, N): the number of edges from each node to some nodes; infinity where there is no path."""
    matrix = adjacency_matrix(graph).tocsr().T.tocsr()
    return shortest_path(matrix, method="D", unweighted=True, indices=nodes.numpy())


def components(graph: GraphLike, device: torch.device) -> Adjacency:
    """The weakly connected components, as an edge from each node to its component."""
    adj = adjacency(graph)

    def find() -> Tensor:
        return torch.from_numpy(connected_components(adjacency_matrix(adj), directed=False)[1]).to(adj.device)

    component = adj.cached("components", find).to(device)
    nodes = torch.arange(len(component), device=device)
    num_components = int(component.max()) + 1 if len(component) else 0
    return Adjacency.from_edges(nodes, component, len(component), num_components)


def group_mean(groups: Adjacency, x: Tensor) -> Tensor:
    """(N, \\*, F) -> (N, \\*, F): for each node the mean over the nodes of its group."""
    return aggregate(groups, x, reduce="mean")[groups.dst]
