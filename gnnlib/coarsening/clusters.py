"""Graph pooling: clusters of nodes, the coarse graph of the clusters, and bipartite graphs for pooling and unpooling.

A clustering is a number for each node, (N,). `graclus` and `voxel` compute one, as do the functions of
`gnnlib.images`; any other serves too. `coarsen` makes the coarse graph, and two graphs of node types "in" and "out", as
a lattice has them:

    up = aggregate(level.pool, x, reduce="max")                # or "sum", "mean"
    up = aggregate(level.pool, x, level.pool.edata["weight"])  # the mean by area
    down = aggregate(level.unpool, up)                         # each node gets the features of its cluster
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from scipy.sparse import coo_array, triu
from torch import Tensor

from gnnlib._utils.calls import names_checked
from gnnlib.graph import (
    Adjacency,
    GraphLike,
    edge_endpoints,
    new_bipartite,
    new_graph,
    node_to_graph,
    reverse,
    takes_graph,
)
from gnnlib.graph._check import check_one_node_set
from gnnlib.ops import aggregate

__all__ = ["Coarsening", "coarsen", "graclus", "voxel"]


@names_checked()
class Coarsening(NamedTuple):
    """One level up: the coarse graph, and the edges between both levels."""

    graph: GraphLike
    pool: GraphLike  # ("in", "pool", "out"): from each node to its cluster
    unpool: GraphLike  # ("out", "pool", "in"): the same edges reversed


@names_checked()
@takes_graph("cluster")
def coarsen(graph: GraphLike, cluster: Tensor) -> Coarsening:
    r"""Coarsen a graph by clusters. With S (N, n) the one-hot matrix of the clustering, the coarse adjacency is

    .. math:: A' = S^T A S

    without the diagonal (Dhillon et al. 2007, "Weighted Graph Cuts without Eigenvectors", section 4.1). Of a graph of
    regions that touch it is the graph of the merged regions: areas and borders add, colours and centroids average.

    - ``ndata``: "area" is added up (1 for each node where there is none); all other floating-point features are
      averaged by area; integers are left out.
    - ``edata``: floating-point features are added up, but for "offset" and "distance", which follow "pos".
    - ``label_map``, where the graph has one: of the clusters.
    - ``pool``: the nodes' "pos" and "area" as srcdata, the clusters' "pos" as dstdata; ``edata["weight"]``, the share
      of each node in its cluster's area. Edge u comes from node u.

    Edges are sorted by destination, then by source; those inside a cluster are removed. The batch size is kept.

    Args:
        graph: a graph with one node set, or a batch
        cluster: a number for each node. Clusters are renumbered without gaps in the order of the numbers. Equal
            numbers in different graphs of a batch are different clusters

    Shapes:
        - cluster: (N,) integers, n different ones

    Returns:
        The coarse graph of n nodes, and the graphs for pooling and unpooling.

    Raises:
        ValueError: if the graph has two node sets
        ValueError: if cluster has a wrong number of rows
        ValueError: if an area is not positive
        TypeError: if the clusters are not integers

    Example:
        >>> import torch
        >>> from gnnlib import aggregate, coarsen
        >>> import dgl
        >>> path = dgl.graph(([0, 1, 2, 3], [1, 2, 3, 4]))
        >>> level = coarsen(path, torch.tensor([0, 0, 0, 1, 1]))
        >>> level.graph.edges(), level.graph.ndata["area"].tolist()
        ((tensor([0]), tensor([1])), [3.0, 2.0])
        >>> up = aggregate(level.pool, torch.arange(5.0).view(5, 1), reduce="max")
        >>> up.flatten().tolist(), aggregate(level.unpool, up).flatten().tolist()
        ([2.0, 4.0], [2.0, 2.0, 2.0, 4.0, 4.0])
    """
    number, sizes = _number(graph, cluster)
    area = graph.ndata.get("area", torch.ones(graph.num_nodes(), device=graph.device))
    if not bool((area > 0).all()):
        raise ValueError(f"area: expected positive numbers, got {area[~(area > 0)][0]}")
    area = area if area.is_floating_point() else area.float()
    pool = _pool(graph, number, sizes)
    total = _collect(pool, area)
    pool.srcdata["area"], pool.edata["weight"] = area, area / total[number]
    coarse = _coarse(graph, number, sizes)
    coarse.ndata["area"] = total
    for name, value in graph.ndata.items():
        if name != "area" and value.is_floating_point():
            coarse.ndata[name] = _collect(pool, value, pool.edata["weight"])
    if "pos" in graph.ndata:
        pool.srcdata["pos"], pool.dstdata["pos"] = graph.ndata["pos"], coarse.ndata["pos"]
        src, dst = coarse.edges()
        coarse.edata["offset"] = coarse.ndata["pos"][src.long()] - coarse.ndata["pos"][dst.long()]
        coarse.edata["distance"] = coarse.edata["offset"].norm(dim=1)
    if hasattr(graph, "label_map"):
        coarse.label_map = torch.cat([number.cpu(), torch.tensor([-1])])[graph.label_map]
    return Coarsening(coarse, pool, reverse(pool))


def _number(graph: GraphLike, cluster: Tensor) -> tuple[Tensor, Tensor]:
    """Clusters numbered through the batch, (N,), and how many each graph has, (B,)."""
    check_one_node_set("coarsen", graph)
    if not isinstance(cluster, Tensor) or cluster.is_floating_point() or cluster.dtype == torch.bool:
        raise TypeError(f"cluster: expected a tensor of integers, got {getattr(cluster, 'dtype', type(cluster))}")
    if tuple(cluster.shape) != (graph.num_nodes(),):
        raise ValueError(f"cluster: expected shape ({graph.num_nodes()},), got {tuple(cluster.shape)}")
    owner = node_to_graph(graph, graph.device).dst.long()
    number = _rows(owner, cluster.to(owner))
    home = owner.new_zeros(int(number.max()) + 1 if len(number) else 0).scatter_(0, number, owner)
    return number, torch.bincount(home, minlength=graph.batch_size)


def _rows(*columns: Tensor) -> Tensor:
    """The rank of each row of integers among the different rows, in lexicographic order."""
    number = torch.zeros_like(columns[0])
    for column in columns:
        values, index = torch.unique(column, return_inverse=True)
        number = torch.unique(number * len(values) + index, return_inverse=True)[1]
    return number


def _pool(graph: GraphLike, number: Tensor, sizes: Tensor) -> GraphLike:
    nodes = torch.arange(len(number), device=number.device)
    pool = new_bipartite(("in", "pool", "out"), nodes, number, len(number), int(sizes.sum()), like=graph)
    batch = graph.batch_num_nodes()
    pool.set_batch_num_nodes({"in": batch, "out": sizes.to(batch)})
    pool.set_batch_num_edges({("in", "pool", "out"): batch})
    return pool


def _coarse(graph: GraphLike, number: Tensor, sizes: Tensor) -> GraphLike:
    n = int(sizes.sum())
    src, dst = (number[end.long()] for end in edge_endpoints(graph))
    between = src != dst
    pair, into = torch.unique(dst[between] * n + src[between], return_inverse=True)
    src, dst = pair % max(n, 1), pair // max(n, 1)
    coarse = new_graph(src, dst, n, like=graph)
    parallel = Adjacency.from_edges(torch.arange(len(into), device=into.device), into, len(into), len(pair))
    for name, value in graph.edata.items():
        if value.is_floating_point() and name not in ("offset", "distance"):
            coarse.edata[name] = _collect(parallel, value[between])
    owner = torch.repeat_interleave(torch.arange(len(sizes), device=sizes.device), sizes)
    nodes = graph.batch_num_nodes()
    coarse.set_batch_num_nodes(sizes.to(nodes))
    coarse.set_batch_num_edges(torch.bincount(owner[dst], minlength=len(sizes)).to(nodes))
    return coarse


def _collect(graph: GraphLike | Adjacency, value: Tensor, coeff: Tensor | None = None) -> Tensor:
    """`aggregate` of values of any shape: (N, *) -> (n, *)."""
    y = aggregate(graph, value.reshape(len(value), value.shape[1:].numel()), coeff)
    return y.view(len(y), *value.shape[1:])


@names_checked()
@takes_graph()
def graclus(graph: GraphLike, weight: Tensor | None = None) -> Tensor:
    r"""Pairs of nodes by greedy matching, the coarsening step of Graclus (Dhillon et al. 2007, "Weighted Graph Cuts
    without Eigenvectors", section 4.1, with the weights of its normalised cut; for pooling: Defferrard et al. 2016,
    arXiv 1606.09375).

    The edge with the largest

    .. math:: w_{uv} \left(\frac{1}{d_u} + \frac{1}{d_v}\right), \qquad d_v = \sum_u w_{uv}

    joins its nodes, then the largest of those whose nodes are both free, and so on. A node that stays free is a cluster
    alone. The sum of this matching is at least half the largest of all matchings.

    Differs from the paper: it visits the nodes in random order and joins each to its best free neighbour; here the
    edges are visited, the best first, equal ones by their ends, so the same graph gives the same pairs.

    Args:
        graph: a graph with one node set, or a batch. The direction of edges does not count, self-loops do not count
        weight: of the edges, at least 0, where 0 is no edge; None: 1 each

    Shapes:
        - weight: (E,) or None
        - output: (N,) int64, clusters numbered by their first node

    Returns:
        The number of each node's cluster.

    Raises:
        ValueError: if a weight is negative or not finite, or their number is wrong
        ValueError: if the graph has two node sets

    Example:
        >>> import torch
        >>> from gnnlib import graclus
        >>> import dgl
        >>> path = dgl.graph(([0, 1, 2], [1, 2, 3]))
        >>> graclus(path).tolist(), graclus(path, torch.tensor([1.0, 9.0, 1.0])).tolist()
        ([0, 0, 1, 1], [0, 1, 1, 2])
    """
    check_one_node_set("graclus", graph)
    nodes, edges = graph.num_nodes(), graph.num_edges()
    values = np.ones(edges) if weight is None else weight.detach().double().cpu().numpy()
    if values.shape != (edges,) or not (np.isfinite(values) & (values >= 0)).all():
        worst = f" from {values.min()} to {values.max()}" if values.size else ""
        raise ValueError(f"weight: expected {edges} finite numbers of at least 0, got shape {values.shape}{worst}")
    src, dst = (end.cpu().numpy() for end in edge_endpoints(graph))
    adjacency = coo_array((values, (dst, src)), shape=(nodes, nodes)).tocsr()
    pairs = triu(adjacency + adjacency.T, k=1).tocoo()
    row, column = pairs.coords
    degree = np.bincount(row, pairs.data, nodes) + np.bincount(column, pairs.data, nodes)
    best = np.argsort(-pairs.data * (1 / degree[row] + 1 / degree[column]), kind="stable")
    first, free = list(range(nodes)), [True] * nodes
    for u, v in zip(row[best].tolist(), column[best].tolist()):
        if free[u] and free[v]:
            free[u] = free[v] = False
            first[v] = u
    return torch.from_numpy(np.unique(first, return_inverse=True)[1].astype(np.int64)).to(graph.device)


@names_checked()
@takes_graph()
def voxel(graph: GraphLike, size: float | Sequence[float]) -> Tensor:
    r"""Voxel grid clustering: nodes by the cell of a regular grid that contains them (Simonovsky and Komodakis 2017,
    arXiv 1704.02901, section 3.4): node v is in the cell floor(p_v / size), where p_v is ``ndata["pos"]``.

    On a pixel graph the clusters are windows of ``size``, in row-major order: pooling over them is that of
    ``lattice(shape, size, stride=size, ceil_mode=True)``.

    Args:
        graph: a graph with one node set, or a batch
        size: of a cell, in the units of "pos"; one number, or one for each axis

    Shapes:
        - output: (N,) int64, cells numbered row-major, graph after graph

    Returns:
        The number of each node's cell.

    Raises:
        KeyError: if the graph has no positions
        ValueError: if a size is not positive, or their number is not that of the axes
        ValueError: if a position is not finite

    Example:
        >>> from gnnlib import voxel
        >>> from gnnlib.images import pixel_graph
        >>> voxel(pixel_graph((2, 4)), 2).tolist()
        [0, 0, 1, 1, 0, 0, 1, 1]
    """
    if "pos" not in graph.ndata:
        raise KeyError(f'expected a graph with ndata["pos"], got ndata with {sorted(graph.ndata)}')
    pos = graph.ndata["pos"].flatten(1).double()
    sides = torch.as_tensor(size, dtype=torch.float64, device=pos.device)
    if sides.numel() not in (1, pos.shape[1]) or not bool((sides > 0).all() & sides.isfinite().all()):
        raise ValueError(f"size: expected a positive number, or one for each of {pos.shape[1]} axes, got {size}")
    if not bool(pos.isfinite().all()):
        raise ValueError(f"pos: expected finite positions, got {pos[~pos.isfinite()][0]}")
    owner = node_to_graph(graph, pos.device).dst.long()
    return _rows(owner, *(pos / sides).floor().long().T)
