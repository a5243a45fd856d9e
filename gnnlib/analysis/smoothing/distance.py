"""Distances between directions: the cosine distance of pairs of nodes, near, remote or all."""

import math

import torch
from torch import Tensor

from gnnlib._platform.dgl import dgl
from gnnlib.analysis.smoothing.base import checked, components, mean_of_group, sum_nodes
from gnnlib.graph import Adjacency, adjacency, node_to_graph
from gnnlib.ops import aggregate

__all__ = ["mad_gap", "mean_average_distance"]

ROWS = 512  # nodes whose neighbourhoods are searched at a time


def mean_average_distance(graph: dgl.DGLGraph, x: Tensor, least: int = 1, most: float | None = None) -> Tensor:
    r"""Mean average distance, MAD (Chen et al. 2020, arXiv 1909.03211, equations 1 to 4): the mean cosine distance
    from a node to others, then the mean over nodes.

    .. math:: \mathrm{mean}_u\, \mathrm{mean}_{v \in P(u)} \Big(1 - \frac{\langle x_u, x_v \rangle}{|x_u|\,|x_v|}\Big)

    P(u) are the other nodes of u's graph from ``least`` to ``most`` hops away, along edges of either direction. None:
    all of them, with a path or without; ``math.inf``: those with a path. These two take O(N F); a search through
    the neighbourhoods, O(N E).

    Differs from the paper: pairs at distance 0 count, so that nodes all alike give 0. A zero vector is taken as a
    direction of its own: distance 0 to another zero, 1 to anything else.

    Shapes: x (N, \*, F); returns (B, \*); nan where there is no such pair.

    Raises: ValueError for a ``least`` below 1 or a ``most`` below ``least``, or x of a wrong shape.

    >>> g = dgl.graph(([0, 1], [1, 2]))
    >>> x = torch.tensor([[1.0, 0.0], [5.0, 0.0], [0.0, 2.0]])
    >>> mean_average_distance(g, x).tolist(), mean_average_distance(g, x, least=2).tolist()
    ([0.6666666666666666], [1.0])
    """
    x = checked(graph, x)
    if least < 1 or (most is not None and most < least):
        raise ValueError(f"expected 1 <= least <= most, got least={least}, most={most}")
    length = x.norm(dim=-1, keepdim=True)
    direction = torch.cat([x / length.where(length > 0, 1.0), (length == 0).to(x)], -1)
    count, total = _within(graph, direction, most)
    nearer, near = _within(graph, direction, least - 1)
    count, total = count - nearer, (total - near).clamp(min=0)
    shape = (-1, *[1] * (total.dim() - 1))
    each = total / count.clamp(min=1).view(shape) * (count > 0).view(shape)
    return sum_nodes(graph, each) / sum_nodes(graph, (count > 0).to(x)).view(shape)


def mad_gap(graph: dgl.DGLGraph, x: Tensor, near: int = 3, remote: int = 8) -> Tensor:
    """MADGap (Chen et al. 2020, arXiv 1909.03211, equation 5): the MAD of remote nodes, ``remote`` or more hops away,
    minus that of nodes up to ``near`` hops away. Large: neighbours are alike and others are not.

    Shapes: x (N, \\*, F); returns (B, \\*); nan in a graph without remote nodes.

    >>> g = dgl.graph((torch.arange(9), torch.arange(1, 10)))
    >>> x = torch.eye(2).repeat_interleave(5, 0)
    >>> mad_gap(g, x).round(decimals=3).tolist()
    [0.793]
    """
    return mean_average_distance(graph, x, least=remote) - mean_average_distance(graph, x, most=near)


def _within(graph: dgl.DGLGraph, direction: Tensor, hops: float | None) -> tuple[Tensor, Tensor]:
    """For each node, how many nodes are at most so many hops away, itself among them, and the sum of the distances
    to them: (N,) and (N, \\*)."""
    if hops == 0:
        return direction.new_ones(len(direction)), direction.new_zeros(direction.shape[:-1])
    if hops is None:
        return _in_group(node_to_graph(graph, direction.device), direction)
    if hops == math.inf:
        return _in_group(components(graph, direction.device), direction)
    return _search(adjacency(graph, direction.device), direction, int(hops))


def _in_group(groups: Adjacency, direction: Tensor) -> tuple[Tensor, Tensor]:
    """1 - cos is half the squared distance of directions; the sum of these is taken about the group's mean."""
    square = (direction - mean_of_group(groups, direction)).square().sum(-1)
    count = groups.in_degrees[groups.dst].to(direction)
    mean = mean_of_group(groups, square.unsqueeze(-1)).squeeze(-1)
    return count, (square + mean) * count.view(-1, *[1] * (square.dim() - 1)) / 2


def _search(adj: Adjacency, direction: Tensor, hops: int) -> tuple[Tensor, Tensor]:
    both = Adjacency.from_edges(torch.cat([adj.src, adj.dst]), torch.cat([adj.dst, adj.src]), adj.num_src, adj.num_src)
    counts, totals = [], []
    for nodes in torch.arange(adj.num_src, device=direction.device).split(ROWS):
        seen = torch.zeros(adj.num_src, len(nodes), device=direction.device)
        seen[nodes, torch.arange(len(nodes), device=direction.device)] = 1
        for _ in range(hops):
            seen = aggregate(both, seen, self_weight=1.0).clamp_(max=1)
        sums = (seen.T.to(direction) @ direction.flatten(1)).view(len(nodes), *direction.shape[1:])
        count = seen.sum(0).to(direction)
        counts.append(count)
        totals.append(count.view(-1, *[1] * (direction.dim() - 2)) - (direction[nodes] * sums).sum(-1))
    return torch.cat(counts), torch.cat(totals)
