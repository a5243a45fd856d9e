"""Neighbourhood scores of pairs of nodes: heuristics of link prediction (Liben-Nowell and Kleinberg 2007)."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from gnnlib._utils.calls import names_checked
from gnnlib._utils.indices import as_indices
from gnnlib.graph import GraphLike, edge_endpoints, keep_edges, takes_graph, to_bidirected
from gnnlib.graph._check import check_one_node_set
from gnnlib.ops.message_passing import propagate

__all__ = ["adamic_adar", "common_neighbors", "personalized_pagerank", "resource_allocation"]

MAX_ENTRIES = 1 << 22  # neighbours of pairs, or entries of the matrix of walks, at a time


@names_checked(source="u=", target="v=", src="u=", dst="v=")
@takes_graph()
def common_neighbors(graph: GraphLike, u: Tensor, v: Tensor) -> Tensor:
    r"""Number of common neighbours of pairs of nodes (Newman 2001; Liben-Nowell and Kleinberg 2007).

    .. math:: s_{uv} = |N(u) \cap N(v)|

    The link between u and v does not change the score. Multi-edges count once, and self-loops not at all. Edges count
    in both directions. The time is that of reading the neighbours of the endpoint with the fewer of them.

    Args:
        graph: homogeneous
        u: numbers of the first nodes
        v: numbers of the second nodes

    Shapes:
        - u, v: (n,)
        - output: (n,) float32

    Returns:
        The scores.

    Raises:
        ValueError: if u and v have different lengths, or the graph has two node sets
        IndexError: if a node is out of range

    Example:
        >>> from gnnlib.ops import common_neighbors
        >>> import dgl
        >>> common_neighbors(dgl.graph(([0, 1, 0, 3], [1, 2, 3, 2])), [0, 0], [2, 1]).tolist()
        [2.0, 0.0]
    """
    return _over_common_neighbors("common_neighbors", graph, u, v, torch.ones_like)


@names_checked(source="u=", target="v=", src="u=", dst="v=")
@takes_graph()
def adamic_adar(graph: GraphLike, u: Tensor, v: Tensor) -> Tensor:
    r"""Adamic-Adar index of pairs of nodes: common neighbours, those with few neighbours weighing more (Adamic and Adar
    2003; Liben-Nowell and Kleinberg 2007).

    .. math:: s_{uv} = \sum_{w \in N(u) \cap N(v)} \frac{1}{\log |N(w)|}

    Args:
        graph: homogeneous, as for `common_neighbors`
        u: numbers of the first nodes
        v: numbers of the second nodes

    Shapes:
        - u, v: (n,)
        - output: (n,) float32

    Returns:
        The scores.

    Raises:
        ValueError: if u and v have different lengths, or the graph has two node sets
        IndexError: if a node is out of range

    Example:
        >>> from gnnlib.ops import adamic_adar
        >>> import dgl
        >>> adamic_adar(dgl.graph(([0, 1, 0, 3], [1, 2, 3, 2])), [0], [2]).item()  # 2 / log 2
        2.885390043258667
    """

    def weight(degree: Tensor) -> Tensor:  # one neighbour, where u is v: weight 0
        return degree.clamp(2).log().reciprocal().where(degree > 1, 0)

    return _over_common_neighbors("adamic_adar", graph, u, v, weight)


@names_checked(source="u=", target="v=", src="u=", dst="v=")
@takes_graph()
def resource_allocation(graph: GraphLike, u: Tensor, v: Tensor) -> Tensor:
    r"""Resource allocation index of pairs of nodes (Zhou et al. 2009, arXiv 0901.0553, equation 3).

    .. math:: s_{uv} = \sum_{w \in N(u) \cap N(v)} \frac{1}{|N(w)|}

    Args:
        graph: homogeneous, as for `common_neighbors`
        u: numbers of the first nodes
        v: numbers of the second nodes

    Shapes:
        - u, v: (n,)
        - output: (n,) float32

    Returns:
        The scores.

    Raises:
        ValueError: if u and v have different lengths, or the graph has two node sets
        IndexError: if a node is out of range

    Example:
        >>> from gnnlib.ops import resource_allocation
        >>> import dgl
        >>> resource_allocation(dgl.graph(([0, 1, 0, 3], [1, 2, 3, 2])), [0], [2]).item()
        1.0
    """
    return _over_common_neighbors("resource_allocation", graph, u, v, lambda degree: degree.clamp(1).reciprocal())


@names_checked(source="u=", target="v=", src="u=", dst="v=", restart_prob="alpha=", num_steps="k=")
@takes_graph()
def personalized_pagerank(graph: GraphLike, u: Tensor, v: Tensor, *, alpha: float = 0.15, k: int = 30) -> Tensor:
    r"""Personalised PageRank of pairs of nodes, in both directions (rooted PageRank: Liben-Nowell and Kleinberg 2007;
    the sum of both directions: Zhang and Chen 2018, arXiv 1802.09691, appendix A).

    .. math:: s_{uv} = \pi_u(v) + \pi_v(u), \qquad \pi_u = \alpha \sum_{i=0}^{k} (1 - \alpha)^i (P^T)^i e_u

    P are the steps of a random walk, which ends at a node without neighbours. The link between u and v changes the
    score: remove it first where it is to be predicted (`gnnlib.graph.remove_links`). The time is that of k products of
    the adjacency with a column for each different node of the pairs. Differs from the papers: k steps in place of all.

    Args:
        graph: homogeneous, as for `common_neighbors`
        u: numbers of the first nodes
        v: numbers of the second nodes
        alpha: probability to return to the start
        k: number of steps

    Shapes:
        - u, v: (n,)
        - output: (n,) float32

    Returns:
        The scores.

    Raises:
        ValueError: if u and v have different lengths, the graph has two node sets, alpha is not between 0 and 1, or k
            is below 1
        IndexError: if a node is out of range

    Example:
        >>> from gnnlib.ops import personalized_pagerank
        >>> import dgl
        >>> round(personalized_pagerank(dgl.graph(([0], [1])), [0], [1], alpha=0.5).item(), 4)
        0.6667
    """
    u, v = _pairs("personalized_pagerank", graph, u, v)
    alpha = float(alpha)
    if not 0 < alpha < 1:
        raise ValueError(f"personalized_pagerank: expected alpha between 0 and 1, got {alpha}")
    if k < 1:
        raise ValueError(f"personalized_pagerank: expected k >= 1, got {k}")
    links = _links(graph)
    nodes, row = torch.cat([u, v]).unique(return_inverse=True)
    end, score = torch.cat([v, u]), torch.zeros(2 * len(u))
    size = max(1, MAX_ENTRIES // max(1, graph.num_nodes()))
    for first in range(0, len(nodes), size):
        part = nodes[first : first + size]
        walk = torch.zeros(graph.num_nodes(), len(part))
        walk[part, torch.arange(len(part))] = alpha
        rank = walk.clone()
        for _ in range(k):
            walk = (1 - alpha) * propagate(links, walk, norm="left")
            rank += walk
        inside = (row >= first) & (row < first + size)
        score[inside] = rank[end[inside], row[inside] - first]
    return score.view(2, -1).sum(0)


def _over_common_neighbors(
    owner: str, graph: GraphLike, u: Tensor, v: Tensor, weight: Callable[[Tensor], Tensor]
) -> Tensor:
    """The sum, over the common neighbours of each pair, of a weight of their number of neighbours."""
    u, v = _pairs(owner, graph, u, v)
    num_nodes, (src, dst) = graph.num_nodes(), (end.long().cpu() for end in edge_endpoints(_links(graph)))
    link, degree = src * num_nodes + dst, torch.bincount(src, minlength=num_nodes)
    start, weights = degree.cumsum(0) - degree, weight(degree.double())
    small, large = torch.where(degree[u] <= degree[v], u, v), torch.where(degree[u] <= degree[v], v, u)
    score = torch.zeros(len(u), dtype=torch.float64)
    for rows in _chunks(degree[small]):
        sizes = degree[small[rows]]
        pair = torch.repeat_interleave(torch.arange(len(sizes)), sizes)
        slot = torch.arange(len(pair)) + (start[small[rows]] - sizes.cumsum(0) + sizes)[pair]
        neighbor = dst[slot]
        code = large[rows][pair] * num_nodes + neighbor
        place = torch.searchsorted(link, code).clamp(max=max(0, len(link) - 1))
        common = (link[place] == code).double() * weights[neighbor]
        score[rows] = torch.bincount(pair, common, minlength=len(sizes))
    return score.float()


def _pairs(owner: str, graph: GraphLike, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """The nodes of pairs, after checks."""
    check_one_node_set(owner, graph)
    u, v = (as_indices(nodes, graph.num_nodes(), f"{owner}: {name}") for name, nodes in (("u", u), ("v", v)))
    if len(u) != len(v):
        raise ValueError(f"{owner}: expected u and v of one length, got {len(u)} and {len(v)}")
    return u, v


def _links(graph: GraphLike) -> GraphLike:
    """The graph with each link once in both directions, without self-loops, sorted by source and destination."""
    links = to_bidirected(graph)
    src, dst = links.edges()
    loops = src == dst
    return keep_edges(links, ~loops) if bool(loops.any()) else links


def _chunks(sizes: Tensor) -> Iterator[slice]:
    """Slices of rows whose sizes sum to about `MAX_ENTRIES`, one row or more."""
    part = sizes.cumsum(0) // MAX_ENTRIES
    ends = torch.cat([part.diff().nonzero().flatten() + 1, torch.tensor([len(sizes)])]).tolist()
    yield from map(slice, [0, *ends[:-1]], ends)
