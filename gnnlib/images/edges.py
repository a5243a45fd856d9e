"""Edge rules of region graphs: nearest neighbours, radius, region adjacency, strongest affinities.

A rule is a callable that takes the regions of an image.
"""

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.spatial import KDTree
from scipy.spatial.distance import cdist

from gnnlib._utils.calls import names_checked
from gnnlib.images._image import as_integer
from gnnlib.images._regions import Regions
from gnnlib.images.gaussian import GAUSSIAN, HEAT, Decay, pairs

__all__ = ["EdgeRule", "Nearest", "Strongest", "Touching", "Within"]


@names_checked()
class EdgeRule(Protocol):
    """A callable from regions to the arrays of a graph: src, dst (E,) int64, weight (E,), and other edge features (E,).
    No region is joined to itself."""

    def __call__(self, regions: Regions) -> dict[str, np.ndarray]: ...


@names_checked()
@dataclass(frozen=True)
class Nearest:
    r"""k nearest neighbours: in-edges of each region v from the k regions with the nearest centroids,

    .. math:: w(u \to v) = \exp\left(-\frac{\|p_u - p_v\|^2}{\sigma_v^2}\right), \qquad
              \sigma_v = \frac{1}{k} \sum_{u \to v} \|p_u - p_v\|

    Sorted by destination, the nearest first (equally near ones in a fixed, unspecified order).

    Args:
        k: number of neighbours, at least 1; all other regions if there are fewer.
        sigma: one width in pixels for every node in place of sigma_v.
        decay: the law, by default the formula above.

    Raises:
        ValueError: if k < 1 or sigma is not positive.
        TypeError: if k is not an integer.

    Example:
        >>> import numpy as np
        >>> from gnnlib.images import Decay, Nearest, Regions
        >>> regions = Regions.from_labels(np.zeros((1, 4)), np.array([[0, 1, 2, 2]]))
        >>> {name: value.tolist() for name, value in Nearest(1, sigma=1.0, decay=Decay(1, 1))(regions).items()}
        {'src': [1, 0, 1], 'dst': [0, 1, 2], 'weight': [0.36787944117144233, 0.36787944117144233, 0.22313016014842982]}
    """

    k: int = 8
    sigma: float | None = None
    decay: Decay = HEAT

    def __post_init__(self) -> None:
        _check_k(self.k)
        _check_positive("sigma", self.sigma)

    def __call__(self, regions: Regions) -> dict[str, np.ndarray]:
        near, distance = _nearest(regions.centroid, self.k)
        width = distance.sum(1, keepdims=True) / max(near.shape[1], 1) if self.sigma is None else self.sigma
        width = np.maximum(width, 1e-12)  # all neighbours share v's centroid: weight 1
        dst = np.repeat(np.arange(len(near)), near.shape[1])
        return {"src": near.ravel(), "dst": dst, "weight": self.decay(distance, width).ravel()}


@names_checked()
@dataclass(frozen=True)
class Within:
    r"""All pairs of regions whose centroids are at most a radius apart; without one, the complete graph.

    .. math:: w(u \to v) = \exp\left(-\frac{\|p_u - p_v\|^2}{2 \sigma^2}\right)

    Args:
        radius: largest distance; infinite for all pairs.
        sigma: width; None for weights of 1.
        decay: the law, by default the formula above.
        relative: divide the positions by the image's lengths first, so that radius and sigma are fractions of the
            image; else they are in pixels.

    Raises:
        ValueError: if the radius or sigma is not positive.

    Example:
        >>> import numpy as np
        >>> from gnnlib.images import Regions, Within
        >>> regions = Regions.from_labels(np.zeros((1, 3)), np.array([[0, 1, 2]]))
        >>> {name: value.tolist() for name, value in Within(radius=1)(regions).items()}
        {'src': [1, 0, 2, 1], 'dst': [0, 1, 1, 2], 'weight': [1.0, 1.0, 1.0, 1.0]}
    """

    radius: float = math.inf
    sigma: float | None = None
    decay: Decay = GAUSSIAN
    relative: bool = False

    def __post_init__(self) -> None:
        if not self.radius > 0:
            raise ValueError(f"radius: expected a positive number, got {self.radius}")
        _check_positive("sigma", self.sigma)

    def __call__(self, regions: Regions) -> dict[str, np.ndarray]:
        pos = regions.centroid / regions.lengths if self.relative else regions.centroid
        src, dst, distance = pairs(pos, None if self.radius == math.inf else self.radius)
        keep = (src != dst) & (distance <= self.radius)
        src, dst, distance = src[keep], dst[keep], distance[keep]
        weight = np.ones(len(src)) if self.sigma is None else self.decay(distance, self.sigma)
        return {"src": src, "dst": dst, "weight": weight}


@names_checked()
@dataclass(frozen=True)
class Touching:
    """The region adjacency graph: regions that share a border, in both directions. Weights are 1; ``border`` is the
    length of the shared border, in sides of pixels (faces of voxels).

    Example:
        >>> import numpy as np
        >>> from gnnlib.images import Regions, Touching
        >>> regions = Regions.from_labels(np.zeros((2, 3)), np.array([[0, 0, 1], [0, 2, 2]]))
        >>> {name: value.tolist() for name, value in Touching()(regions).items()}["border"]
        [1.0, 2.0, 1.0, 1.0, 2.0, 1.0]
    """

    def __call__(self, regions: Regions) -> dict[str, np.ndarray]:
        label_map, nodes = regions.label_map, len(regions.area)
        sides = []
        for axis in range(label_map.ndim):
            ahead = np.moveaxis(label_map, axis, 0)
            a, b = ahead[:-1].ravel(), ahead[1:].ravel()
            differ = (a != b) & (a >= 0) & (b >= 0)
            sides += [a[differ] * nodes + b[differ], b[differ] * nodes + a[differ]]
        pair, length = np.unique(np.concatenate(sides), return_counts=True)
        border = length.astype(np.float64)
        return {"src": pair % nodes, "dst": pair // nodes, "weight": np.ones(len(pair)), "border": border}


@names_checked()
@dataclass(frozen=True)
class Strongest:
    r"""From each region v run edges to the k with the largest entries of a symmetric A, as in Dwivedi et al., 2020,
    arXiv:2003.00982, appendix on superpixels, without the term of the features:

    .. math:: A = \tfrac12 (S + S^T), \qquad S_{vu} = \exp\left(-\frac{\|p_v - p_u\|^2}{\sigma_v^2}\right),

    sigma_v the mean distance to the k nearest. Every node has out-degree k; in-degrees vary. (The authors' code takes 8
    of the strongest 9, depending on a partial sort; this takes the 8 strongest.)

    Raises:
        ValueError: if k < 1.
        TypeError: if k is not an integer.

    Example:
        >>> import numpy as np
        >>> from gnnlib.images import Regions, Strongest
        >>> regions = Regions.from_labels(np.zeros((1, 5)), np.array([[0, 1, 2, 3, 3]]))
        >>> {name: value.tolist() for name, value in Strongest(1)(regions).items() if name != "weight"}
        {'src': [0, 1, 2, 3], 'dst': [1, 0, 1, 2]}
    """

    k: int = 8

    def __post_init__(self) -> None:
        _check_k(self.k)

    def __call__(self, regions: Regions) -> dict[str, np.ndarray]:
        distance = cdist(regions.centroid, regions.centroid)
        k = min(self.k, len(distance) - 1)
        sigma = np.sort(distance, axis=1)[:, 1 : k + 1].sum(1, keepdims=True) / max(k, 1) + 1e-8
        similar = HEAT(distance, sigma)
        similar = (similar + similar.T) / 2
        np.fill_diagonal(similar, -1)
        chosen = np.argsort(-similar, axis=1, kind="stable")[:, :k]
        src = np.repeat(np.arange(len(chosen)), k)
        return {"src": src, "dst": chosen.ravel(), "weight": np.take_along_axis(similar, chosen, 1).ravel()}


def _check_k(k: int) -> None:
    if as_integer("k", k) < 1:
        raise ValueError(f"k: expected at least 1, got {k}")


def _check_positive(name: str, value: float | None) -> None:
    if value is not None and not 0 < value < np.inf:
        raise ValueError(f"{name}: expected None or a positive number, got {value}")


def _nearest(points: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest other points of every point and their distances, both (n, min(k, n - 1)), nearest first."""
    k = min(k, len(points) - 1)
    distance, index = KDTree(points).query(points, np.arange(1, k + 2))
    itself = index == np.arange(len(points))[:, None]
    order = np.argsort(itself, axis=1, kind="stable")[:, :k]  # itself last, if it is among the k + 1 at all
    return np.take_along_axis(index, order, 1), np.take_along_axis(distance, order, 1)
