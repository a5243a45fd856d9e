"""Regions of regions: the most similar of those that touch are merged, again and again, until one is left."""

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from math import pi, prod, sqrt

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

from gnnlib._platform.dgl import dgl
from gnnlib.coarsening.clusters import Coarsening, coarsen
from gnnlib.images._image import Image
from gnnlib.images._regions import Regions, region_features
from gnnlib.images.edges import Touching
from gnnlib.images.superpixels import graph_from_arrays, region_arrays, with_label_map

__all__ = ["SIMILARITIES", "Hierarchy", "hierarchy"]

COLOUR_BINS, TEXTURE_BINS, SIGMA = 25, 10, 1.0


@dataclass(frozen=True)
class Hierarchy:
    """A tree of regions: n leaves, numbered as the nodes of ``graph``, then each merged region in the order of merging.

    Args:
        graph: of the leaves, those that touch joined; "feat", "pos" and "area" (pixels) as ndata, "border" as edata,
            with a ``label_map``.
        merges: (m, 2) int64, the two regions of each merged region n, n + 1, ..., n + m - 1. m = n - 1, or fewer where
            the mask is in pieces: as many roots are left.
        similarity: (m,), of the two regions.
        area: (n + m,), pixels in each region.
        box: (n + m, 2 d): the first row, column, ..., then those after the last.
    """

    graph: dgl.DGLGraph
    merges: np.ndarray
    similarity: np.ndarray
    area: np.ndarray
    box: np.ndarray

    @property
    def parent(self) -> np.ndarray:
        """(n + m,) int64, the region into which each was merged; -1 for roots."""
        parent = np.full(len(self.area), -1)
        parent[self.merges] = self.graph.num_nodes() + np.arange(len(self.merges))[:, None]
        return parent

    def cut(self, num_regions: int) -> np.ndarray:
        """The regions when so many are left, 0, 1, ... in the order of their first leaves: the region of each leaf.

        Shapes: returns (n,) int64.

        Raises: ValueError for a number of regions that there never were.
        """
        leaves = self.graph.num_nodes()
        if not leaves - len(self.merges) <= num_regions <= leaves:
            raise ValueError(
                f"num_regions: expected {leaves - len(self.merges)} to {leaves} for this hierarchy, got {num_regions}"
            )
        there = leaves + leaves - num_regions  # regions by then
        top = np.arange(there)
        for merged in range(there - 1, leaves - 1, -1):
            top[self.merges[merged - leaves]] = top[merged]
        _, first, region = np.unique(top[:leaves], return_index=True, return_inverse=True)
        return np.unique(first[region], return_inverse=True)[1]

    def levels(self, sizes: Sequence[int]) -> list[Coarsening]:
        """Region graphs of fewer and fewer nodes, each with the edges from and to the level below, the first from and
        to the leaves: `gnnlib.coarsening.clusters.coarsen`.

        Args:
            sizes: numbers of regions, each smaller than the one before, or equal to it.

        Raises: ValueError for numbers that rise, or as :meth:`cut`.
        """
        below, graph, found = np.arange(self.graph.num_nodes()), self.graph, []
        for size in sizes:
            if size > graph.num_nodes():
                raise ValueError(f"sizes: expected no more than the {graph.num_nodes()} of the level below, got {size}")
            cluster, into = self.cut(size), np.zeros(graph.num_nodes(), np.int64)
            into[below] = cluster
            found.append(coarsen(graph, torch.from_numpy(into)))
            below, graph = cluster, found[-1].graph
        return found


def hierarchy(
    image: Image,
    labels: Image,
    similarity: Sequence[str] = ("colour", "texture", "size", "fill"),
    *,
    mask: Image | None = None,
    features: Sequence[str] = ("mean",),
) -> Hierarchy:
    r"""The grouping step of selective search (Uijlings et al. 2013, "Selective Search for Object Recognition", section
    3): the two most similar regions that touch become one, until none touch.

    The similarity of two regions a and b, of |a| and |b| pixels in an image of |I|, is the sum of those named:

    .. math:: s_{colour} = \sum_k \min(c_a^k, c_b^k), \qquad s_{texture} = \sum_k \min(t_a^k, t_b^k), \\
              s_{size} = 1 - \frac{|a| + |b|}{|I|}, \qquad s_{fill} = 1 - \frac{|box(a \cup b)| - |a| - |b|}{|I|}

    - c: a histogram of 25 bins for each channel, over the image's range of values;
    - t: one of 10 bins for each channel and direction, of the positive regions of Gaussian derivatives (sigma = 1
      pixel) in the directions to all adjacent pixels (8 of them in 2-d), over 0 to 1 / sqrt(2 pi) of that range,
      the most that a step can give;
    - both add up to 1; those of a merged region are the means of its regions' by area. Outside a mask the image is 0.

    Equal pairs are merged in the order of their numbers.

    Differs from the paper: the histograms' ranges, which it does not state; the image is taken in the colours it
    comes in (the paper varies colour spaces for diversity); all sizes are pixels of the image, inside a mask or not.

    Args:
        image: (*S,) or (*S, C), channels last; uint8 (taken as 0..1) or floating point; numpy, torch or PIL.
        labels: (*S,) integers from 0, gaps are closed: the first regions. The paper takes
            ``skimage.segmentation.felzenszwalb``; superpixels do as well.
        similarity: one or more of "colour", "texture", "size" and "fill".
        mask: (*S,) booleans; pixels outside belong to no region. None for the whole image.
        features: of the leaves' graph, as for :func:`~gnnlib.images.superpixels.graph_from_labels`; coarser levels
            average them.

    Raises: ValueError, TypeError: as :func:`~gnnlib.images.superpixels.graph_from_labels`, and ValueError for an
    unknown similarity or none.

    >>> image = np.array([[0.0, 0.1, 0.9, 1.0]])
    >>> tree = hierarchy(image, np.array([[0, 1, 2, 3]]), ["colour", "size"])
    >>> tree.merges.tolist(), tree.parent.tolist(), tree.cut(2).tolist()
    ([[0, 1], [2, 3], [4, 5]], [4, 4, 5, 5, 6, 6, -1], [0, 0, 1, 1])
    >>> [level.graph.num_nodes() for level in tree.levels([3, 1])]
    [3, 1]
    """
    if isinstance(similarity, str) or not similarity or not set(similarity) <= set(SIMILARITIES):
        raise ValueError(
            f"similarity: expected one or more of {', '.join(SIMILARITIES)}, in a list, got {similarity!r}"
        )
    regions = Regions.from_labels(image, labels, mask)
    graph = with_label_map(graph_from_arrays(region_arrays(regions, Touching(), features)), regions)
    graph.ndata["area"] = torch.from_numpy(regions.area.astype(np.float32))
    known = _Known(regions, similarity)
    merges, similar = _merge(known, *(end.numpy() for end in graph.edges()))
    there = len(regions.area) + len(merges)
    return Hierarchy(graph, merges, similar, known.area[:there], np.hstack([known.low, known.high])[:there])


class _Known:
    """What is known of each region, merged ones included: rows of arrays, filled as the regions arise."""

    def __init__(self, regions: Regions, names: Sequence[str]):
        self.names, self.total, self.leaves = names, prod(regions.label_map.shape), len(regions.area)
        box = region_features(regions, ["box"]).astype(np.int64)
        axes = box.shape[1] // 2
        self.area = self._room(regions.area)
        self.low, self.high = self._room(box[:, :axes]), self._room(box[:, axes:])
        self.histogram = {name: self._room(make(regions)) for name, make in HISTOGRAMS.items() if name in names}

    def _room(self, rows: np.ndarray) -> np.ndarray:
        return np.concatenate([rows, np.zeros((max(self.leaves - 1, 0), *rows.shape[1:]), rows.dtype)])

    def merge(self, a: int, b: int, new: int) -> None:
        self.area[new] = self.area[a] + self.area[b]
        self.low[new], self.high[new] = np.minimum(self.low[a], self.low[b]), np.maximum(self.high[a], self.high[b])
        for rows in self.histogram.values():
            rows[new] = (self.area[a] * rows[a] + self.area[b] * rows[b]) / self.area[new]

    def similarity(self, region: int, others: np.ndarray) -> np.ndarray:
        return np.sum([SIMILARITIES[name](self, region, others) for name in self.names], axis=0)


def _shared(name: str, known: _Known, region: int, others: np.ndarray) -> np.ndarray:
    rows = known.histogram[name]
    return np.minimum(rows[region], rows[others]).sum(1)


def _size(known: _Known, region: int, others: np.ndarray) -> np.ndarray:
    return 1 - (known.area[region] + known.area[others]) / known.total


def _fill(known: _Known, region: int, others: np.ndarray) -> np.ndarray:
    sides = np.maximum(known.high[region], known.high[others]) - np.minimum(known.low[region], known.low[others])
    return 1 - (sides.prod(1) - known.area[region] - known.area[others]) / known.total


SIMILARITIES: dict[str, Callable[[_Known, int, np.ndarray], np.ndarray]] = {
    "colour": partial(_shared, "colour"),
    "texture": partial(_shared, "texture"),
    "size": _size,
    "fill": _fill,
}


def _merge(known: _Known, src: np.ndarray, dst: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pairs in the order of merging, (m, 2), and their similarities, from the edges of the regions that touch."""
    touching: dict[int, set[int]] = {region: set() for region in range(known.leaves)}
    for u, v in zip(src.tolist(), dst.tolist()):
        touching[v].add(u)
    queue = [pair for region in touching for pair in _pairs(known, region, {u for u in touching[region] if u < region})]
    heapq.heapify(queue)
    merges: list[tuple[int, int]] = []
    similar: list[float] = []
    while queue:
        cost, a, b = heapq.heappop(queue)
        if a not in touching or b not in touching:
            continue  # merged since
        new = known.leaves + len(merges)
        merges.append((a, b))
        similar.append(-cost)
        known.merge(a, b, new)
        touching[new] = (touching.pop(a) | touching.pop(b)) - {a, b}
        for other in touching[new]:
            touching[other] -= {a, b}
            touching[other].add(new)
        for pair in _pairs(known, new, touching[new]):
            heapq.heappush(queue, pair)
    return np.array(merges, np.int64).reshape(-1, 2), np.array(similar)


def _pairs(known: _Known, region: int, others: set[int]) -> list[tuple[float, int, int]]:
    """What to queue: the most similar first, then the smallest numbers."""
    first = np.array(sorted(others), np.int64)
    return [(-s, u, region) for s, u in zip(known.similarity(region, first).tolist(), first.tolist())]


def _colour(regions: Regions) -> np.ndarray:
    low, range_ = regions.values.min(), np.ptp(regions.values) or 1.0
    return _histograms(regions, (regions.values - low) / range_, COLOUR_BINS)


def _texture(regions: Regions) -> np.ndarray:
    """Derivatives of the image, 0 outside the mask, in the directions to all adjacent pixels."""
    image = np.zeros((*regions.label_map.shape, regions.values.shape[1]))
    image[regions.label_map >= 0] = regions.values
    axes = regions.label_map.ndim
    slopes = []
    for axis in range(axes):
        order, sigma = [int(i == axis) for i in range(axes)] + [0], [SIGMA] * axes + [0.0]
        slopes.append(gaussian_filter(image, sigma, order)[regions.label_map >= 0])
    steps = [np.array(step) / sqrt(sum(map(abs, step))) for step in product((-1, 0, 1), repeat=axes) if any(step)]
    along = np.concatenate([np.tensordot(step, slopes, 1) for step in steps], axis=1)
    return _histograms(regions, along * (SIGMA * sqrt(2 * pi) / (np.ptp(regions.values) or 1.0)), TEXTURE_BINS)


def _histograms(regions: Regions, values: np.ndarray, bins: int) -> np.ndarray:
    """For each region and column of values (P, F) a histogram over 0 to 1, what lies outside in the outermost bins;
    (n, F bins), rows that add up to 1."""
    into = np.clip((values * bins).astype(np.int64), 0, bins - 1)
    num_regions, columns = len(regions.area), values.shape[1]
    count = np.empty((num_regions, columns, bins))
    for column in range(columns):
        flat = np.bincount(regions.label * bins + into[:, column], minlength=num_regions * bins)
        count[:, column] = flat.reshape(num_regions, bins)
    return count.reshape(num_regions, -1) / (regions.area[:, None] * columns)


HISTOGRAMS = {"colour": _colour, "texture": _texture}
