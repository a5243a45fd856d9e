"""The spectral gap of a graph."""

import math
from itertools import pairwise

import numpy as np
import torch
from scipy.sparse import csr_matrix, diags
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import eigsh
from torch import Tensor

from gnnlib._utils.calls import names_checked
from gnnlib.analysis.smoothing.base import check_graph, simple_adjacency
from gnnlib.graph import GraphLike, takes_graph

__all__ = ["spectral_gap"]

DENSE = 400  # nodes up to which all eigenvalues are computed


@names_checked()
@takes_graph()
def spectral_gap(graph: GraphLike) -> Tensor:
    r"""The spectral gap: the second smallest eigenvalue of the normalised Laplacian (Chung 1997, chapter 1),

    .. math:: \lambda_2\big(I - D^{-1/2} A D^{-1/2}\big)

    It is 0 for a graph that is not connected, small for a graph with a bottleneck (Cheeger's inequality), and n / (n -
    1) for a complete graph. Directions, self-loops and parallel edges do not count.

    Args:
        graph: a whole graph or a batch

    Shapes:
        - output: (B,), float64; nan for a graph of fewer than two nodes

    Returns:
        the gap of each graph

    Raises:
        ValueError: for a graph with two node sets

    Example:
        >>> from gnnlib.analysis.squashing import spectral_gap
        >>> import dgl
        >>> square = dgl.to_bidirected(dgl.graph(([0, 1, 2, 3], [1, 2, 3, 0])))
        >>> round(spectral_gap(square).item(), 6)
        1.0
    """
    check_graph(graph)
    matrix = simple_adjacency(graph)
    bounds = [0, *np.cumsum(graph.batch_num_nodes().tolist()).tolist()]
    return torch.tensor([_gap(matrix[a:b, a:b]) for a, b in pairwise(bounds)], dtype=torch.float64)


def _gap(matrix: csr_matrix) -> float:
    n = matrix.shape[0]
    if n < 2:
        return math.nan
    if connected_components(matrix, directed=False)[0] > 1:
        return 0.0
    root = diags(1 / np.sqrt(np.asarray(matrix.sum(1), np.float64).ravel()))
    normalised = root @ matrix @ root
    if n <= DENSE:
        return 1 - float(np.linalg.eigvalsh(normalised.toarray())[-2])
    start = np.random.default_rng(0).standard_normal(n)
    return 1 - float(eigsh(normalised, 2, which="LA", v0=start, return_eigenvectors=False).min())
