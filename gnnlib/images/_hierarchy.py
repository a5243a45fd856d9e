"""Hierarchical grouping of image regions (selective search; Uijlings et al., 2013)."""

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from math import pi, prod, sqrt

import numpy as np
import torch

from gnnlib._utils.calls import names_checked
from gnnlib.coarsening.clusters import Coarsening, coarsen
from gnnlib.graph import GraphLike
from gnnlib.images._image import Image
from gnnlib.images._regions import Regions, region_features
from gnnlib.images.edges import Touching
from gnnlib.images.superpixels import graph_from_arrays, region_arrays, with_label_map

__all__ = ["SIMILARITIES", "Hierarchy", "hierarchy"]

COLOUR_BINS, TEXTURE_BINS, SIGMA = 25, 10, 1.0


@names_checked()
@dataclass(frozen=True)
class Hierarchy:
    """A tree of regions: n leaves, numbered as the nodes of ``graph``, then the merged regions in the order of merging.

    Args:
        graph: the region adjacency graph of the leaves; "feat", "pos" and "area" (pixels) as ndata, "border" as edata,
            with a ``label_map``.
        merges: (m, 2) int64, the two children of each merged region n, n + 1, ..., n + m - 1. m = n - 1, or less if
            the mask is not connected: then there are several roots.
        similarity: (m,), of the two children.
        area: (n + m,), the number of pixels in each region.
        box: (n + m, 2 d): the first row, column, ..., then those after the last.
    """

    graph: GraphLike
    merges: np.ndarray
    similarity: np.ndarray
    area: np.ndarray
    box: np.ndarray

    @property
    def parent(self) -> np.ndarray:
        """(n + m,) int64, the parent of each region; -1 for roots."""
        parent = np.full(len(self.area), -1)
        parent[self.merges] = self.graph.num_nodes() + np.arange(len(self.merges))[:, None]
        return parent

    def cut(self, num_regions: int) -> np.ndarray:
        """The clustering of the leaves into a number of regions.

        Args:
            num_regions: from the number of roots to n.

        Shapes:
            - output: (n,)

        Returns:
            int64, the region of each leaf: 0, 1, ... in the order of the regions' first leaves.

        Raises:
            ValueError: if the hierarchy has no such level.
        """
        leaves = self.graph.num_nodes()
        if not leaves - len(self.merges) <= num_regions <= leaves:
            raise ValueError(
                f"num_regions: expected {leaves - len(self.merges)} to {leaves} for this hierarchy, got {num_regions}"
            )
        total = leaves + leaves - num_regions  # leaves and merged regions at this level
        top = np.arange(total)
        for merged in range(total - 1, leaves - 1, -1):
            top[self.merges[merged - leaves]] = top[merged]
        _, first, region = np.unique(top[:leaves], return_index=True, return_inverse=True)
        return np.unique(first[region], return_inverse=True)[1]

    def levels(self, sizes: Sequence[int]) -> list[Coarsening]:
        """Region graphs of decreasing size, as :func:`gnnlib.coarsen` returns them: each with the edges from and to
        the level below, the first from and to the leaves.

        Args:
            sizes: numbers of regions, none larger than the one before.

        Returns:
            One coarsening per size.

        Raises:
            ValueError: if the sizes rise, or the hierarchy has no such level.
        """
        below, graph, levels = np.arange(self.graph.num_nodes()), self.graph, []
        for size in sizes:
            if size > graph.num_nodes():
                raise ValueError(f"sizes: expected no more than the {graph.num_nodes()} of the level below, got {size}")
            cluster, clustering = self.cut(size), np.zeros(graph.num_nodes(), np.int64)
            clustering[below] = cluster
            levels.append(coarsen(graph, torch.from_numpy(clustering)))
            below, graph = cluster, levels[-1].graph
        return levels


@names_checked()
def hierarchy(
    image: Image,
    labels: Image,
    similarity: Sequence[str] = ("colour", "texture", "size", "fill"),
    *,
    mask: Image | None = None,
    features: Sequence[str] = ("mean",),
) -> Hierarchy:
    r"""Hierarchical grouping, the first step of selective search (Uijlings et al. 2013, "Selective Search for Object
    Recognition", section 3): the two most similar adjacent regions are merged, until no regions are adjacent.

    The similarity of two regions a and b, of \|a\| and \|b\| pixels in an image of \|I\|, is the sum of those named:

    .. math:: s_{colour} = \sum_k \min(c_a^k, c_b^k), \qquad s_{texture} = \sum_k \min(t_a^k, t_b^k), \\
              s_{size} = 1 - \frac{|a| + |b|}{|I|}, \qquad s_{fill} = 1 - \frac{|box(a \cup b)| - |a| - |b|}{|I|}

    - c: a histogram of 25 bins per channel, over the image's range of values;
    - t: a histogram of 10 bins per channel and direction, of the positive parts of Gaussian derivatives (sigma = 1
      pixel) in the directions to all adjacent pixels (8 of them in 2-d), over 0 to 1 / sqrt(2 pi) of that range,
      the largest derivative of a step;
    - both add up to 1; the histogram of a merged region is the mean of its children's, weighted by area. Outside a
      mask the image is 0.

    Pairs of equal similarity are merged in the order of their numbers.

    Differs from the paper: the histograms' ranges, which it does not state; the colour space is that of the image
    (the paper varies colour spaces for diversity); all sizes are in pixels of the image, inside a mask or not.

    Args:
        image: (\*S,) or (\*S, C), channels last; uint8, uint16 (scaled to 0..1) or floating point;
            numpy, torch, PIL or a path.
        labels: (\*S,) integers from 0, the initial regions; gaps in the numbering are closed. The paper uses
            ``skimage.segmentation.felzenszwalb``; superpixels do as well.
        similarity: one or more of "colour", "texture", "size" and "fill".
        mask: (\*S,) booleans; pixels outside belong to no region. None for the whole image.
        features: features of the leaves' graph, as for :func:`~gnnlib.images.graph_from_labels`; coarser levels
            average them.

    Returns:
        The tree of regions.

    Raises:
        ValueError: if a similarity is unknown, or there is none.
        ValueError: if the image, labels, mask or features are invalid, as for
            :func:`~gnnlib.images.graph_from_labels`.
        TypeError: if the image, labels or mask have another type, as there.

    Example:
        >>> import numpy as np
        >>> from gnnlib.images import hierarchy
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
    table = _RegionTable(regions, similarity)
    merges, similarities = _merge(table, *(end.numpy() for end in graph.edges()))
    total = len(regions.area) + len(merges)
    return Hierarchy(graph, merges, similarities, table.area[:total], np.hstack([table.low, table.high])[:total])


class _RegionTable:
    """Properties of leaves and merged regions, one row per region; rows of merged regions are filled by `merge`."""

    def __init__(self, regions: Regions, names: Sequence[str]):
        self.names, self.total, self.leaves = names, prod(regions.label_map.shape), len(regions.area)
        box = region_features(regions, ["box"]).astype(np.int64)
        axes = box.shape[1] // 2
        self.area = self._extended(regions.area)
        self.low, self.high = self._extended(box[:, :axes]), self._extended(box[:, axes:])
        self.histogram = {name: self._extended(HISTOGRAMS[name](regions)) for name in HISTOGRAMS if name in names}

    def _extended(self, rows: np.ndarray) -> np.ndarray:
        return np.concatenate([rows, np.zeros((max(self.leaves - 1, 0), *rows.shape[1:]), rows.dtype)])

    def merge(self, a: int, b: int, new: int) -> None:
        self.area[new] = self.area[a] + self.area[b]
        self.low[new], self.high[new] = np.minimum(self.low[a], self.low[b]), np.maximum(self.high[a], self.high[b])
        for rows in self.histogram.values():
            rows[new] = (self.area[a] * rows[a] + self.area[b] * rows[b]) / self.area[new]

    def similarity(self, region: int, neighbors: np.ndarray) -> np.ndarray:
        return np.sum([SIMILARITIES[name](self, region, neighbors) for name in self.names], axis=0)


def _histogram_intersection(name: str, table: _RegionTable, region: int, neighbors: np.ndarray) -> np.ndarray:
    rows = table.histogram[name]
    return np.minimum(rows[region], rows[neighbors]).sum(1)


def _size(table: _RegionTable, region: int, neighbors: np.ndarray) -> np.ndarray:
    return 1 - (table.area[region] + table.area[neighbors]) / table.total


def _fill(table: _RegionTable, region: int, neighbors: np.ndarray) -> np.ndarray:
    sides = np.maximum(table.high[region], table.high[neighbors]) - np.minimum(table.low[region], table.low[neighbors])
    return 1 - (sides.prod(1) - table.area[region] - table.area[neighbors]) / table.total


SIMILARITIES: dict[str, Callable[[_RegionTable, int, np.ndarray], np.ndarray]] = {
    "colour": partial(_histogram_intersection, "colour"),
    "texture": partial(_histogram_intersection, "texture"),
    "size": _size,
    "fill": _fill,
}


def _merge(table: _RegionTable, src: np.ndarray, dst: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pairs in the order of merging, (m, 2), and their similarities, from the edges between adjacent regions."""
    adjacent: dict[int, set[int]] = {region: set() for region in range(table.leaves)}
    for u, v in zip(src.tolist(), dst.tolist()):
        adjacent[v].add(u)
    queue = [
        pair for region in adjacent for pair in _candidates(table, region, {u for u in adjacent[region] if u < region})
    ]
    heapq.heapify(queue)
    merges: list[tuple[int, int]] = []
    similarities: list[float] = []
    while queue:
        cost, a, b = heapq.heappop(queue)
        if a not in adjacent or b not in adjacent:
            continue  # one of them has been merged
        new = table.leaves + len(merges)
        merges.append((a, b))
        similarities.append(-cost)
        table.merge(a, b, new)
        adjacent[new] = (adjacent.pop(a) | adjacent.pop(b)) - {a, b}
        for other in adjacent[new]:
            adjacent[other] -= {a, b}
            adjacent[other].add(new)
        for pair in _candidates(table, new, adjacent[new]):
            heapq.heappush(queue, pair)
    return np.array(merges, np.int64).reshape(-1, 2), np.array(similarities)


def _candidates(table: _RegionTable, region: int, neighbors: set[int]) -> list[tuple[float, int, int]]:
    """Entries of the queue, in whose order the most similar pair comes first, then the smallest numbers."""
    ids = np.array(sorted(neighbors), np.int64)
    return [(-s, u, region) for s, u in zip(table.similarity(region, ids).tolist(), ids.tolist())]


def _colour(regions: Regions) -> np.ndarray:
    low, range_ = regions.values.min(), np.ptp(regions.values) or 1.0
    return _histograms(regions, (regions.values - low) / range_, COLOUR_BINS)


def _texture(regions: Regions) -> np.ndarray:
    """Histograms of the derivatives of the image, 0 outside the mask, in the directions to all adjacent pixels."""
    from scipy.ndimage import gaussian_filter  # takes a tenth of a second to import: on first use only

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
    """(n, F bins): histograms over 0 to 1 of each region and column of values (P, F); values outside count in the
    outermost bins, and rows add up to 1."""
    bin_index = np.clip((values * bins).astype(np.int64), 0, bins - 1)
    num_regions, columns = len(regions.area), values.shape[1]
    count = np.empty((num_regions, columns, bins))
    for column in range(columns):
        flat = np.bincount(regions.label * bins + bin_index[:, column], minlength=num_regions * bins)
        count[:, column] = flat.reshape(num_regions, bins)
    return count.reshape(num_regions, -1) / (regions.area[:, None] * columns)


HISTOGRAMS = {"colour": _colour, "texture": _texture}
