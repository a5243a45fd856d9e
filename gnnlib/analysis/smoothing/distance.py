"""Mean average distance and MADGap (Chen et al. 2020, arXiv 1909.03211): cosine distances between nodes."""

import math
import warnings

import torch
from torch import Tensor

from gnnlib._utils.calls import names_checked
from gnnlib.analysis.smoothing.base import check_features, components, group_mean, sum_by_graph
from gnnlib.graph import Adjacency, GraphLike, adjacency, node_to_graph, takes_graph
from gnnlib.ops import aggregate

__all__ = ["mad_gap", "mean_average_distance"]

ROWS = 512  # nodes per block of the neighbourhood search


@names_checked()
@takes_graph()
def mean_average_distance(graph: GraphLike, x: Tensor, *, min_hops: int = 1, max_hops: float | None = None) -> Tensor:
    r"""Mean average distance, MAD (Chen et al. 2020, arXiv 1909.03211, equations 1 to 4): the mean cosine distance
    from a node to others, averaged over nodes.

    .. math:: \mathrm{mean}_u\, \mathrm{mean}_{v \in P(u)} \Big(1 - \frac{\langle x_u, x_v \rangle}{|x_u|\,|x_v|}\Big)

    P(u) are the other nodes of u's graph from ``min_hops`` to ``max_hops`` away, along edges of either direction.

    Differs from the paper: pairs at distance 0 count, so that equal nodes give 0. A zero vector has its own direction:
    its distance is 0 to another zero vector and 1 to all others. A single feature has only the distances 0, 1 and 2:
    a warning is given.

    Args:
        graph: a whole graph or a batch
        x: features
        min_hops: at least 1
        max_hops: None: all nodes of the graph, connected or not; ``math.inf``: all connected ones. These two take
            O(N F), other numbers a search through neighbourhoods, O(N E)

    Shapes:
        - x: (N, \*, F)
        - output: (B, \*); nan where there is no such pair

    Returns:
        the mean distance of each graph

    Raises:
        TypeError: for features that are not floating-point
        ValueError: for ``min_hops`` below 1 or above ``max_hops``, or x of another shape

    Example:
        >>> import torch
        >>> from gnnlib.analysis.smoothing import mean_average_distance
        >>> import dgl
        >>> g = dgl.graph(([0, 1], [1, 2]))
        >>> x = torch.tensor([[1.0, 0.0], [5.0, 0.0], [0.0, 2.0]])
        >>> mean_average_distance(g, x).tolist(), mean_average_distance(g, x, min_hops=2).tolist()
        ([0.6666666666666666], [1.0])
    """
    x = check_features(graph, x)
    if x.shape[-1] == 1:
        warnings.warn(
            "mean_average_distance: expected several features, got one, whose cosine distances are 0, 1 or 2: "
            "rayleigh_quotient measures its differences",
            stacklevel=2,
        )
    return mad(graph, x, min_hops, max_hops)


def mad(graph: GraphLike, x: Tensor, min_hops: int = 1, max_hops: float | None = None) -> Tensor:
    """`mean_average_distance` of any number of features, (N, \\*, F) in float64."""
    if min_hops < 1 or (max_hops is not None and max_hops < min_hops):
        raise ValueError(f"expected 1 <= min_hops <= max_hops, got min_hops={min_hops}, max_hops={max_hops}")
    length = x.norm(dim=-1, keepdim=True)
    direction = torch.cat([x / length.where(length > 0, 1.0), (length == 0).to(x)], -1)
    count, total = _within(graph, direction, max_hops)
    near_count, near_total = _within(graph, direction, min_hops - 1)
    count, total = count - near_count, (total - near_total).clamp(min=0)
    shape = (-1, *[1] * (total.dim() - 1))
    distance = total / count.clamp(min=1).view(shape) * (count > 0).view(shape)
    return sum_by_graph(graph, distance) / sum_by_graph(graph, (count > 0).to(x)).view(shape)


@names_checked()
@takes_graph()
def mad_gap(graph: GraphLike, x: Tensor, *, near: int = 3, remote: int = 8) -> Tensor:
    """MADGap (Chen et al. 2020, arXiv 1909.03211, equation 5): the MAD of remote nodes, ``remote`` or more hops away,
    minus that of nodes up to ``near`` hops away. It is large if neighbours are similar and remote nodes are not.

    Args:
        graph: a whole graph or a batch
        x: features
        near: maximum number of hops of near nodes
        remote: minimum number of hops of remote nodes

    Shapes:
        - x: (N, \\*, F)
        - output: (B, \\*); nan for a graph without remote nodes

    Returns:
        the difference of each graph

    Example:
        >>> import torch
        >>> from gnnlib.analysis.smoothing import mad_gap
        >>> import dgl
        >>> g = dgl.graph((torch.arange(9), torch.arange(1, 10)))
        >>> x = torch.eye(2).repeat_interleave(5, 0)
        >>> mad_gap(g, x).round(decimals=3).tolist()
        [0.793]
    """
    return mean_average_distance(graph, x, min_hops=remote) - mean_average_distance(graph, x, max_hops=near)


def _within(graph: GraphLike, direction: Tensor, hops: float | None) -> tuple[Tensor, Tensor]:
    """For each node, the number of nodes within so many hops, including itself, and the sum of the distances to them:
    (N,) and (N, \\*)."""
    if hops == 0:
        return direction.new_ones(len(direction)), direction.new_zeros(direction.shape[:-1])
    if hops is None:
        return _in_group(node_to_graph(graph, direction.device), direction)
    if hops == math.inf:
        return _in_group(components(graph, direction.device), direction)
    return _search(adjacency(graph, direction.device), direction, int(hops))


def _in_group(groups: Adjacency, direction: Tensor) -> tuple[Tensor, Tensor]:
    """As `_within`, for all nodes of a group: 1 - cos is half the squared distance of directions, and the sum of these
    follows from the squared distances to the group's mean."""
    square = (direction - group_mean(groups, direction)).square().sum(-1)
    count = groups.in_degrees[groups.dst].to(direction)
    mean = group_mean(groups, square.unsqueeze(-1)).squeeze(-1)
    return count, (square + mean) * count.view(-1, *[1] * (square.dim() - 1)) / 2


def _search(adj: Adjacency, direction: Tensor, hops: int) -> tuple[Tensor, Tensor]:
    """As `_within`, by a breadth-first search from each node."""
    undirected = Adjacency.from_edges(
        torch.cat([adj.src, adj.dst]), torch.cat([adj.dst, adj.src]), adj.num_src, adj.num_src
    )
    counts, totals = [], []
    for nodes in torch.arange(adj.num_src, device=direction.device).split(ROWS):
        seen = torch.zeros(adj.num_src, len(nodes), device=direction.device)
        seen[nodes, torch.arange(len(nodes), device=direction.device)] = 1
        for _ in range(hops):
            seen = aggregate(undirected, seen, self_weight=1.0).clamp_(max=1)
        sums = (seen.T.to(direction) @ direction.flatten(1)).view(len(nodes), *direction.shape[1:])
        count = seen.sum(0).to(direction)
        counts.append(count)
        totals.append(count.view(-1, *[1] * (direction.dim() - 2)) - (direction[nodes] * sums).sum(-1))
    return torch.cat(counts), torch.cat(totals)
