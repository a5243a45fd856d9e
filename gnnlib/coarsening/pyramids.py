"""Laplacian pyramids and Haar wavelets: a signal on a graph as a low resolution and the details of each level.

The signal can be reconstructed from them.

A level is a bipartite graph from fine to coarse: a `gnnlib.grid.lattice`, or the ``pool`` of a
`gnnlib.coarsening.clusters.Coarsening`. Features are (N, \\*, F); all is differentiable.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor

from gnnlib._utils.calls import names_checked
from gnnlib.graph import Adjacency, GraphLike, adjacency, takes_graphs
from gnnlib.ops import aggregate, propagate

__all__ = ["Pyramid", "haar_pyramid", "laplacian_pyramid"]


class Level(Protocol):
    """One level of a pyramid."""

    def split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Features of the fine nodes to those of the coarse nodes and details."""
        ...

    def join(self, low: Tensor, detail: Tensor) -> Tensor:
        """Features of the coarse nodes and details to those of the fine nodes."""
        ...


@names_checked()
@dataclass(frozen=True)
class Pyramid:
    """Levels in a row, the finest first.

    Args:
        levels: each with ``split`` and ``join``

    Example:
        >>> import torch
        >>> from gnnlib import haar_pyramid
        >>> from gnnlib.grid import lattice
        >>> pyramid = haar_pyramid([lattice(4, 2, stride=2), lattice(2, 2, stride=2)])
        >>> low, details = pyramid.split(torch.tensor([[1.0], [3.0], [6.0], [6.0]], dtype=torch.float64))
        >>> low.tolist(), [(detail.flatten().round(decimals=3) + 0).tolist() for detail in details]
        ([[4.0]], [[1.414, 0.0], [4.0]])
        >>> pyramid.join(low, details).flatten().round(decimals=3).tolist()
        [1.0, 3.0, 6.0, 6.0]
    """

    levels: Sequence[Level]

    def split(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Decompose a signal.

        Args:
            x: features, (N, \\*, F)

        Returns:
            The low resolution, and the details of each level, the finest first.
        """
        details = []
        for level in self.levels:
            x, detail = level.split(x)
            details.append(detail)
        return x, details

    def join(self, low: Tensor, details: Sequence[Tensor]) -> Tensor:
        """Reconstruct a signal, up to rounding.

        Args:
            low: the low resolution, (n, \\*, F)
            details: of each level, the finest first

        Returns:
            The signal, (N, \\*, F).

        Raises:
            ValueError: if the number of details is not that of the levels
        """
        if len(details) != len(self.levels):
            raise ValueError(f"details: expected those of {len(self.levels)} levels, got {len(details)}")
        for level, detail in zip(reversed(self.levels), reversed(details)):
            low = level.join(low, detail)
        return low


@dataclass(frozen=True)
class _Laplacian:
    down: Adjacency
    up: Adjacency
    weight: Tensor | None

    def split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        low = _mean(self.down, x, self.weight)
        return low, x - _mean(self.up, low, self.weight)

    def join(self, low: Tensor, detail: Tensor) -> Tensor:
        return _mean(self.up, low, self.weight) + detail


def _mean(graph: Adjacency, x: Tensor, weight: Tensor | None) -> Tensor:
    weight = None if weight is None else weight.to(x)
    return propagate(graph, x, weight, "right", "unweighted" if weight is None else "weighted")


@names_checked()
@takes_graphs
def laplacian_pyramid(graphs: Sequence[GraphLike], weights: Sequence[Tensor | None] | None = None) -> Pyramid:
    r"""Laplacian pyramid (Burt and Adelson 1983, "The Laplacian Pyramid as a Compact Image Code"): the details of a
    level are the difference between its signal and the low resolution, interpolated.

    .. math:: low_v = \frac{\sum_{u \to v} w_{uv} x_u}{\sum_{u \to v} w_{uv}}, \qquad
              detail_u = x_u - \frac{\sum_{u \to v} w_{uv} low_v}{\sum_{u \to v} w_{uv}}

    On ``lattice(size, 5, stride=2, padding=2)`` with the weights [1, 4, 6, 4, 1] / 16 along each axis, by tap, it is
    the paper's. It has a row of details for each fine node, so more numbers than x.

    Differs from the paper: at the border, where the window's weights inside the image are made to add up to 1.

    Args:
        graphs: from fine to coarse, the finest first
        weights: of each one's edges; None: 1

    Shapes:
        - weights: (E,)
        - x: (N, \*, F)
        - low: (n, \*, F)
        - details: of the shape of x at their level

    Returns:
        The pyramid, with ``split`` and ``join``.

    Raises:
        ValueError: if a level does not have as many sources as the one before has destinations
        ValueError: if the number of weights is not that of the levels

    Example:
        >>> import torch
        >>> from gnnlib import laplacian_pyramid
        >>> from gnnlib.grid import lattice
        >>> pyramid = laplacian_pyramid([lattice(4, 2, stride=2)])
        >>> low, (detail,) = pyramid.split(torch.tensor([[1.0], [3.0], [6.0], [6.0]]))
        >>> low.flatten().tolist(), detail.flatten().tolist()
        ([2.0, 6.0], [-1.0, 1.0, 0.0, 0.0])
    """
    _check(graphs)
    weights = [None] * len(graphs) if weights is None else weights
    if len(weights) != len(graphs):
        raise ValueError(f"weights: expected {len(graphs)}, one for each level, got {len(weights)}")
    return Pyramid([_Laplacian(adj, adj.reverse(), w) for adj, w in zip(map(adjacency, graphs), weights)])


@dataclass(frozen=True)
class _Pairs:
    """Nodes two by two, or alone: the mean of each pair, and the difference."""

    down: Adjacency
    high: Adjacency  # from nodes to details
    share: Tensor  # by edge of down: of the node in its pair's area
    coeff: Tensor  # by edge of high
    root: Tensor  # (N, 1), the square root of each node's area

    def split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        low = aggregate(self.down, x, self.share)
        return low, aggregate(self.high, self.root.to(x) * x, self.coeff)

    def join(self, low: Tensor, detail: Tensor) -> Tensor:
        back = aggregate(self.high.reverse(), detail, self.coeff)
        return aggregate(self.down.reverse(), low) + back / self.root.to(detail)


@dataclass(frozen=True)
class _Haar:
    """Clusters, as pairs of pairs of pairs."""

    steps: Pyramid
    sizes: list[int]

    def split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        low, details = self.steps.split(x.flatten(1))
        detail = torch.cat(details)
        return low.view(len(low), *x.shape[1:]), detail.view(len(detail), *x.shape[1:])

    def join(self, low: Tensor, detail: Tensor) -> Tensor:
        if len(detail) != sum(self.sizes):
            raise ValueError(f"details: expected {sum(self.sizes)} rows, got shape {tuple(detail.shape)}")
        x = self.steps.join(low.flatten(1), detail.flatten(1).split(self.sizes))
        return x.view(len(x), *low.shape[1:])


@names_checked()
@takes_graphs
def haar_pyramid(graphs: Sequence[GraphLike], area: Tensor | None = None) -> Pyramid:
    r"""Haar wavelets on clusters of any size and area (Haar 1910; on trees: Gavish, Nadler and Coifman 2010,
    "Multiscale Wavelets on Trees, Graphs and High Dimensional Data", section 3). Within a cluster neighbours in number
    are paired, then the pairs, and so on; each pair of areas a and b gives its mean and one detail:

    .. math:: m = \frac{a x_a + b x_b}{a + b}, \qquad d = \sqrt{\frac{a b}{a + b}} \, (x_b - x_a)

    The low resolution is the mean of each cluster. With the details of all levels there are as many numbers as in
    x, and they are an orthonormal basis:

    .. math:: \sum_u a_u x_u^2 = \sum_v A_v \, low_v^2 + \sum_{levels} \sum_j d_j^2

    so the smallest details may be dropped. Pairs and details are bipartite graphs, whose reverse brings x back.

    Differs from the paper: nothing for clusters of two; for more, the papers leave the basis open.

    Args:
        graphs: from fine to coarse, the finest first, with one out-edge at each node. Windows of a lattice must not
            overlap: ``lattice(size, 2, stride=2, ceil_mode=True)``
        area: of the finest nodes; None: ``srcdata["area"]`` of the first graph, else 1

    Shapes:
        - area: (N,), positive
        - x: (N, \*, F)
        - low: (n, \*, F)
        - details: (N - n, \*, F), those of nodes first, then those of pairs, ..., in the order of the clusters

    Returns:
        The pyramid, with ``split`` and ``join``.

    Raises:
        ValueError: if a level does not have as many sources as the one before has destinations
        ValueError: if a node has no out-edge or several, or a cluster no node
        ValueError: if an area is not positive, or their number is wrong

    Example:
        >>> import torch
        >>> from gnnlib import coarsen, haar_pyramid
        >>> import dgl
        >>> level = coarsen(dgl.graph([], num_nodes=3), torch.tensor([0, 0, 1]))
        >>> low, (detail,) = haar_pyramid([level.pool]).split(torch.tensor([[1.0], [5.0], [4.0]]))
        >>> low.flatten().tolist(), detail.square().round().tolist()
        ([3.0, 4.0], [[8.0]])
    """
    _check(graphs)
    levels = []
    for graph in graphs:
        if area is None:
            area = graph.srcdata.get("area", torch.ones(graph.num_src_nodes(), device=graph.device))
        level, area = _haar(graph, area.double())
        levels.append(level)
    return Pyramid(levels)


def _haar(graph: GraphLike, area: Tensor) -> tuple[_Haar, Tensor]:
    """The level above nodes of these areas, and the areas of its clusters."""
    adj = adjacency(graph, area.device)
    if bool((adj.out_degrees != 1).any()):
        raise ValueError(
            f"expected one out-edge at each of {adj.num_src} nodes, "
            f"got {int(adj.out_degrees.min())} to {int(adj.out_degrees.max())}"
        )
    if area.shape != (adj.num_src,) or not bool((area > 0).all() & area.isfinite().all()):
        raise ValueError(f"area: expected {adj.num_src} positive numbers, got shape {tuple(area.shape)}")
    if bool((adj.in_degrees == 0).any()):
        raise ValueError(f"expected clusters of at least one node, got none in {int(adj.in_degrees.argmin())}")
    node, cluster = adj.csc.indices.long(), torch.repeat_interleave(adj.in_degrees.long())
    steps: list[_Pairs] = []
    while not steps or len(node) > adj.num_dst:
        sizes = torch.bincount(cluster, minlength=adj.num_dst)
        rank = torch.arange(len(cluster), device=area.device) - (sizes.cumsum(0) - sizes)[cluster]
        opens = rank % 2 == 0
        steps.append(_pairs(node, opens.cumsum(0) - 1, area))
        area = _collect(steps[-1].down, area)
        node, cluster = torch.arange(len(area), device=area.device), cluster[opens]
    return _Haar(Pyramid(steps), [step.high.num_dst for step in steps]), area


def _pairs(node: Tensor, pair: Tensor, area: Tensor) -> _Pairs:
    """One step of the transform; nodes of a pair are adjacent in ``node``."""
    down = Adjacency.from_edges(node, pair, len(node), int(pair[-1]) + 1 if len(pair) else 0)
    share = area[node] / _collect(down, area)[pair]
    two = (down.in_degrees == 2)[pair]
    ends = node[two].view(-1, 2)
    detail = torch.arange(len(ends), device=area.device).repeat_interleave(2)
    other = area[ends].flip(1) / area[ends].sum(1, keepdim=True)
    coeff = other.sqrt() * torch.tensor([-1.0, 1.0], device=area.device)
    high = Adjacency.from_edges(ends.flatten(), detail, len(node), len(ends))
    return _Pairs(down, high, share, coeff.flatten(), area.sqrt().view(-1, 1))


def _collect(graph: Adjacency, value: Tensor) -> Tensor:
    return aggregate(graph, value.view(-1, 1)).view(-1)


def _check(graphs: Sequence[GraphLike]) -> None:
    for level, (fine, coarse) in enumerate(pairwise(graphs)):
        if fine.num_dst_nodes() != coarse.num_src_nodes():
            raise ValueError(
                f"expected levels that fit on each other, got {fine.num_dst_nodes()} nodes above level {level} "
                f"and {coarse.num_src_nodes()} below level {level + 1}"
            )
