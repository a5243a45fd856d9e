"""Positional encodings of nodes, to be concatenated with their features: x = torch.cat([x, encoding], 1)."""

import numpy as np
import torch
from scipy.linalg import eigh
from scipy.sparse import csc_array, csr_array
from scipy.sparse.csgraph import laplacian
from scipy.sparse.linalg import ArpackNoConvergence, eigsh
from torch import Tensor

from gnnlib._utils.calls import names_checked
from gnnlib.graph import GraphLike, adjacency, edge_endpoints, takes_graph
from gnnlib.graph._check import check_one_node_set
from gnnlib.nn._arguments import integer
from gnnlib.ops import propagate

__all__ = ["laplacian_encoding", "random_walk_encoding"]

MAX_ENTRIES = 1 << 24  # of the matrix of walks at a time
RESTARTS = 60  # of Lanczos' method, after which the matrix is factorised
DENSE = 1000  # nodes of a graph up to which its Laplacian is a dense matrix


@names_checked(walk_length="k=")
@takes_graph()
def random_walk_encoding(graph: GraphLike, k: int, weight: Tensor | None = None) -> Tensor:
    r"""Random-walk encoding: return probabilities after 1, 2, ..., k steps (RWPE: Dwivedi et al. 2022, arXiv
    2110.07875).

    .. math:: p_v = \big[(D^{-1} A)_{vv},\ (D^{-1} A)^2_{vv},\ \dots,\ (D^{-1} A)^k_{vv}\big]

    A walk takes each out-edge with equal probability, or in proportion to the weights; it ends at a node without
    out-edges. The walks of different graphs of a batch share columns: the cost is k products of the adjacency with a
    matrix as wide as the largest graph.

    Differs from the paper: nothing. Equals ``dgl.random_walk_pe``, and takes batches.

    Args:
        graph: a graph with one node set, or a batch
        k: number of steps, at least 1
        weight: of the edges, at least 0

    Shapes:
        - weight: (E,) or None
        - output: (N, k) float32

    Returns:
        The return probabilities.

    Raises:
        ValueError: if k is below 1
        ValueError: if the graph has two node sets
        ValueError: if weight has another shape, or a negative entry

    Example:
        >>> from gnnlib import random_walk_encoding
        >>> import dgl
        >>> random_walk_encoding(dgl.graph(([0, 1, 1, 2], [1, 0, 2, 1])), 4).tolist()
        [[0.0, 0.5, 0.0, 0.5], [0.0, 1.0, 0.0, 1.0], [0.0, 0.5, 0.0, 0.5]]
    """
    _check("random_walk_encoding", graph, k, weight)
    adj, number = adjacency(graph), _number(graph)
    weight = None if weight is None else weight.double()
    degrees = "unweighted" if weight is None else "weighted"
    encoding = torch.zeros(graph.num_nodes(), k, dtype=torch.float64, device=graph.device)
    step = max(1, MAX_ENTRIES // max(1, graph.num_nodes()))
    for first in range(0, int(number.max()) + 1 if len(number) else 0, step):
        column = number - first
        (walker,) = ((column >= 0) & (column < step)).nonzero(as_tuple=True)
        at = walker, column[walker]
        place = encoding.new_zeros(len(number), min(step, int(column.max()) + 1))
        place[at] = 1
        for i in range(k):
            place = propagate(adj, place, weight, "left", degrees)
            encoding[walker, i] = place[at]
    return encoding.float()


def _number(graph: GraphLike) -> Tensor:
    """The number of each node within its graph: (N,)."""
    sizes = graph.batch_num_nodes().to(graph.device)
    return torch.arange(graph.num_nodes(), device=graph.device) - (sizes.cumsum(0) - sizes).repeat_interleave(sizes)


@names_checked(num_eigenvectors="k=")
@takes_graph()
def laplacian_encoding(graph: GraphLike, k: int, weight: Tensor | None = None) -> Tensor:
    r"""Laplacian encoding: eigenvectors of the normalised Laplacian for the k smallest eigenvalues after the first
    (Belkin and Niyogi 2003; Dwivedi et al. 2020, arXiv 2003.00982, section on positional encodings).

    .. math:: L = I - D^{-1/2} A D^{-1/2} = U \Lambda U^T, \qquad p_v = [U_{v1}, \dots, U_{vk}]

    Each has length 1 and the sign that makes the first of its largest entries positive; the paper draws random signs
    at each training step: ``p * torch.randint(2, (k,)).mul(2).sub(1)``. Eigenvectors to the same eigenvalue are one
    orthonormal basis of many. A graph of n <= k nodes has n - 1 such columns, and 0 in the others.

    Differs from the paper: on a directed graph, A is made symmetric, as A + A^T; self-loops do not count. Equals
    ``dgl.lap_pe`` up to signs on graphs without self-loops or isolated nodes, and takes batches.

    Args:
        graph: a graph with one node set, or a batch, whose graphs have separate eigenvectors
        k: number of eigenvectors, at least 1
        weight: of the edges, at least 0

    Shapes:
        - weight: (E,) or None
        - output: (N, k) float32

    Returns:
        The eigenvectors.

    Raises:
        ValueError: if k is below 1
        ValueError: if the graph has two node sets
        ValueError: if weight has another shape, or a negative entry

    Example:
        >>> from gnnlib import laplacian_encoding
        >>> import dgl
        >>> path = dgl.graph(([0, 1, 1, 2], [1, 0, 2, 1]))
        >>> laplacian_encoding(path, 2).square().round(decimals=3).tolist()
        [[0.5, 0.25], [0.0, 0.5], [0.5, 0.25]]
    """
    _check("laplacian_encoding", graph, k, weight)
    src, dst = (end.cpu().numpy() for end in edge_endpoints(graph))
    value = np.ones(len(src)) if weight is None else weight.detach().double().cpu().numpy()
    encoding, start = np.zeros((graph.num_nodes(), k)), 0
    adjacency = csr_array((value, (dst, src)), shape=(len(encoding), len(encoding)))
    for size in graph.batch_num_nodes().tolist():
        nodes = slice(start, start + size)
        if size > 1:
            vectors = _smallest(laplacian(adjacency[nodes, nodes], normed=True, symmetrized=True), min(k, size - 1))
            encoding[nodes, : vectors.shape[1]] = vectors
        start += size
    return torch.from_numpy(encoding).float().to(graph.device)


def _smallest(matrix: csr_array, k: int) -> np.ndarray:
    """The eigenvectors to the k smallest eigenvalues after the first, (n, k), signs fixed."""
    n = matrix.shape[0]
    if not matrix.count_nonzero():  # no edges: any basis
        vectors = np.eye(n, k, -1)
    elif n <= DENSE or k + 1 >= n:
        vectors = eigh(matrix.toarray(), subset_by_index=[1, k])[1]
    else:
        values, vectors = _lanczos(matrix, k + 1)
        vectors = vectors[:, np.argsort(values, kind="stable")[1:]]
    size = np.abs(vectors)
    large = (size > size.max(0) * (1 - 1e-6)).argmax(0)
    return vectors * np.sign(vectors[large, np.arange(k)])


def _lanczos(matrix: csr_array, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k smallest eigenvalues and their eigenvectors.

    Lanczos' method converges in a few restarts unless the eigenvalues lie close together, as on rings, paths and other
    long thin graphs. Their sparse factorisations are cheap, and the inverse separates the eigenvalues.
    """
    start = np.random.default_rng(0).standard_normal(matrix.shape[0])
    try:
        return eigsh(matrix, k, which="SA", v0=start, maxiter=RESTARTS)
    except ArpackNoConvergence:
        return eigsh(csc_array(matrix), k, sigma=-1e-3, which="LM", v0=start)


def _check(name: str, graph: GraphLike, k: int, weight: Tensor | None) -> None:
    integer(name, "k", k)
    check_one_node_set(name, graph)
    if weight is not None and (weight.shape != (graph.num_edges(),) or bool((weight < 0).any())):
        low = float(weight.min()) if weight.numel() else 0.0
        raise ValueError(
            f"{name}: expected weights of shape ({graph.num_edges()},), at least 0, "
            f"got shape {tuple(weight.shape)} and the smallest {low:g}"
        )
