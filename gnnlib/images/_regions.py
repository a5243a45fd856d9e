"""Region properties of a label map, and values of regions painted back into the image."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from gnnlib._utils.calls import names_checked
from gnnlib.graph import GraphLike, is_graph
from gnnlib.images._image import Image, Pixels, as_array, grey, import_skimage, parse_image, to_numpy

__all__ = ["FEATURES", "Feature", "Regions", "paint", "region_features"]

LBP_POINTS, LBP_RADIUS = 8, 1
HOG_BINS, HOG_EPSILON = 9, 1e-5


@names_checked()
@dataclass(frozen=True)
class Regions:
    """The regions of a label map: P pixels in n regions.

    Args:
        label_map: (\\*S,) int64, 0 to n - 1 without gaps, -1 outside the mask.
        values: (P, C), the values of each pixel.
        coords: (P, d), the coordinates of each pixel.
        label: (P,), the region of each pixel.
        area: (n,), the number of pixels in each region.
        centroid: (n, d) in pixels times the spacing, in the order of the label map's axes.
        spacing: (d,), the distance of neighbouring pixels along each axis.
    """

    label_map: np.ndarray
    values: np.ndarray
    coords: np.ndarray
    label: np.ndarray
    area: np.ndarray
    centroid: np.ndarray
    spacing: np.ndarray

    @classmethod
    def from_labels(
        cls, image: Image, labels: Image, mask: Image | None = None, spacing: Sequence[float] | None = None
    ) -> "Regions":
        """The regions of an image under any label map.

        Args:
            image: (\\*S,) or (\\*S, C), channels last; uint8, uint16 (scaled to 0..1) or floating point;
                numpy, torch, PIL or a path.
            labels: (\\*S,) integers from 0; gaps in the numbering are closed. Outside the mask anything.
            mask: (\\*S,) booleans, true for the pixels to use; None for all.
            spacing: the distance of neighbouring pixels along each axis; None for 1.

        Returns:
            The regions, in ascending order of their labels.

        Raises:
            ValueError: if the labels are negative or not of the image's shape.
            ValueError: if the image is empty or not finite, or the mask has another shape or no pixel inside.
            ValueError: if the spacing is not a positive number for each axis.
            TypeError: if the labels are not integers, the image is neither uint8, uint16 nor floating point, or the
                mask is not boolean.

        Example:
            >>> import numpy as np
            >>> from gnnlib.images import Regions
            >>> regions = Regions.from_labels(np.array([[0.0, 1.0, 4.0]]), np.array([[7, 2, 2]]))
            >>> regions.area.tolist(), regions.centroid.tolist(), regions.mean(regions.values).tolist()
            ([2, 1], [[0.0, 1.5], [0.0, 0.0]], [[2.5], [0.0]])
        """
        array = image if isinstance(image, np.ma.MaskedArray) else as_array(image)
        label_map = _integer_labels(labels, array.shape, array.shape[:-1])
        channels = array.shape[-1] if array.ndim > label_map.ndim else None  # the label map says which axis is last
        return cls.from_pixels(parse_image(array, label_map.ndim, mask, channels, spacing), label_map)

    @classmethod
    def from_pixels(cls, pixels: Pixels, labels: Image) -> "Regions":
        """The regions of a validated image, as :meth:`from_labels`."""
        labels = _integer_labels(labels, pixels.shape)[pixels.mask]
        if labels.min() < 0:
            raise ValueError(f"labels: expected integers from 0, got {labels.min()}")
        label, area = np.unique(labels, return_inverse=True, return_counts=True)[1:]
        label_map = np.full(pixels.shape, -1)
        label_map[pixels.mask] = label = label.ravel()
        coords, spacing = np.argwhere(pixels.mask), np.array(pixels.spacing)
        centroid = _mean(coords, label, area) * spacing
        return cls(label_map, pixels.values[pixels.mask], coords, label, area, centroid, spacing)

    @property
    def lengths(self) -> np.ndarray:
        """(d,), the image's lengths in the unit of the centroids."""
        return np.array(self.label_map.shape) * self.spacing

    def mean(self, values: np.ndarray) -> np.ndarray:
        """The mean over each region: (P, F) -> (n, F)."""
        return _mean(values, self.label, self.area)


def _integer_labels(labels: Image, *shapes: tuple[int, ...]) -> np.ndarray:
    """The label map as integers of one of the shapes."""
    array = to_numpy(labels)
    if not np.issubdtype(array.dtype, np.integer):
        raise TypeError(f"labels: expected integers, got {array.dtype}")
    if array.shape not in shapes:
        raise ValueError(
            f"labels: expected the image's shape {shapes[0]}, less the channels if it has any, got {array.shape}"
        )
    return array


def _mean(values: np.ndarray, label: np.ndarray, area: np.ndarray) -> np.ndarray:
    return np.stack([np.bincount(label, column) for column in values.T], axis=1) / area[:, None]


def _std(regions: Regions) -> np.ndarray:
    return np.sqrt(regions.mean(np.square(regions.values - regions.mean(regions.values)[regions.label])))


def _box(regions: Regions) -> np.ndarray:
    low = np.full(regions.centroid.shape, np.iinfo(np.int64).max)
    high = np.zeros(regions.centroid.shape, np.int64)
    np.minimum.at(low, regions.label, regions.coords)
    np.maximum.at(high, regions.label, regions.coords + 1)
    return np.concatenate([low, high], axis=1)


def _lab(regions: Regions) -> np.ndarray:
    if regions.values.shape[1] != 3:
        raise ValueError(f"lab: expected three channels, red, green and blue, got {regions.values.shape[1]}")
    return regions.mean(import_skimage("color").rgb2lab(regions.values[None])[0])


def _image(regions: Regions, name: str) -> np.ndarray:
    """(H, W, C): the values, 0 outside the mask."""
    if regions.label_map.ndim != 2:
        raise ValueError(f"{name}: expected a picture of two axes, got {regions.label_map.ndim}")
    image = np.zeros((*regions.label_map.shape, regions.values.shape[1]))
    image[regions.label_map >= 0] = regions.values
    return image


def _shape(name: str, regions: Regions) -> np.ndarray:
    """A property of ``regionprops``, in the order of the regions."""
    _image(regions, name)
    spacing = tuple(regions.spacing.tolist())
    table = import_skimage("measure").regionprops_table(regions.label_map + 1, properties=(name,), spacing=spacing)
    return table[name][:, None]


def _sums(values: np.ndarray, bins: np.ndarray, regions: Regions, num_bins: int) -> np.ndarray:
    """(n, num_bins): of each region, the sum of the values (P,) in each bin."""
    cells = regions.label * num_bins + bins
    return np.bincount(cells, values, len(regions.area) * num_bins).reshape(-1, num_bins)


def _lbp(regions: Regions) -> np.ndarray:
    levels = grey(_image(regions, "lbp"))
    if levels.min() < 0 or levels.max() > 1:
        levels = (levels - levels.min()) / (np.ptp(levels) or 1.0)
    pattern = import_skimage("feature").local_binary_pattern(
        np.rint(255 * levels).astype(np.uint8), LBP_POINTS, LBP_RADIUS, method="uniform"
    )
    inside = pattern[regions.label_map >= 0].astype(int)
    return _sums(np.ones(len(inside)), inside, regions, LBP_POINTS + 2) / regions.area[:, None]


def _hog(regions: Regions) -> np.ndarray:
    image = _image(regions, "hog")
    slopes = np.zeros((2, *image.shape))
    slopes[0, 1:-1] = image[2:] - image[:-2]
    slopes[1, :, 1:-1] = image[:, 2:] - image[:, :-2]
    down, right = slopes[:, regions.label_map >= 0]  # (P, C) each
    steepest = np.arange(len(down)), np.hypot(down, right).argmax(1)
    down, right = down[steepest], right[steepest]
    angle = np.rad2deg(np.arctan2(down, right)) % 180
    bins = np.minimum(angle * HOG_BINS / 180, HOG_BINS - 1).astype(int)
    mean = _sums(np.hypot(down, right), bins, regions, HOG_BINS) / regions.area[:, None]
    return mean / np.sqrt(np.square(mean).sum(1, keepdims=True) + HOG_EPSILON**2)


Feature: TypeAlias = str | Callable[[Regions], np.ndarray]

FEATURES: dict[str, Callable[[Regions], np.ndarray]] = {
    "mean": lambda regions: regions.mean(regions.values),
    "std": _std,
    "lab": _lab,
    "area": lambda regions: regions.area[:, None],
    "box": _box,
    "centroid": lambda regions: regions.centroid,
    "place": lambda regions: regions.centroid / regions.lengths,
    "eccentricity": partial(_shape, "eccentricity"),
    "solidity": partial(_shape, "solidity"),
    "orientation": partial(_shape, "orientation"),
    "lbp": _lbp,
    "hog": _hog,
}


@names_checked()
def region_features(regions: Regions, names: Sequence[Feature]) -> np.ndarray:
    """Features of each region, concatenated in the order of their names.

    - ``"mean"``, ``"std"`` (C): mean and standard deviation of each channel over the region;
    - ``"lab"`` (3): mean colour in CIE Lab (D65), for three channels taken as sRGB;
    - ``"area"`` (1): in pixels;
    - ``"box"`` (2 d): the first row, column, ..., then those after the last, in pixels;
    - ``"centroid"`` (d): in pixels times the spacing;
    - ``"place"`` (d): the centroid divided by the length of each axis.

    Of shape, for pictures of two axes, as ``skimage.measure.regionprops`` computes them with the spacing:

    - ``"eccentricity"`` (1): of the ellipse with the same second moments, 0 for a circle, below 1;
    - ``"solidity"`` (1): the area divided by that of the convex hull;
    - ``"orientation"`` (1): the angle between the first axis and the ellipse's major axis, from -pi / 2 to pi / 2.

    Of texture, for pictures of two axes; outside the mask the picture is 0:

    - ``"lbp"`` (10): a histogram of uniform local binary patterns of 8 points at radius 1 (Ojala et al., 2002,
      "Multiresolution Gray-Scale and Rotation Invariant Texture Classification with Local Binary Patterns"), of
      ``skimage.feature.local_binary_pattern`` on the grey picture in 256 levels. It adds up to 1. The range of the
      picture is 0 to 1, or that of its values if they exceed it;
    - ``"hog"`` (9): a histogram of oriented gradients (Dalal and Triggs, 2005, "Histograms of Oriented Gradients for
      Human Detection"): 9 bins over 180 degrees, weighted by the gradient's magnitude, of the channel where it is
      largest, divided by their Euclidean length. For a single region it is that of ``skimage.feature.hog`` with one
      cell.

    Patterns and gradients at a border depend on pixels of the neighbouring regions.

    Args:
        regions: the regions of a label map, n of them.
        names: one or more of the names above, or functions that take the regions and return (n,) or (n, F).

    Shapes:
        - output: (n, F)

    Returns:
        The features, float64 or int64.

    Raises:
        ValueError: if a name is unknown, or there is none.
        ValueError: if ``"lab"`` is computed of an image without three channels, or a shape or texture of a volume.
        ValueError: if a function returns another shape, or numbers that are not finite.
        ImportError: if scikit-image is not installed.

    Example:
        >>> import numpy as np
        >>> from gnnlib.images import Regions, region_features
        >>> regions = Regions.from_labels(np.array([[0.0, 1.0, 4.0]]), np.array([[7, 2, 2]]))
        >>> region_features(regions, ["std", "area", "box"]).tolist()
        [[1.5, 2.0, 0.0, 1.0, 1.0, 3.0], [0.0, 1.0, 0.0, 0.0, 1.0, 1.0]]
    """
    if isinstance(names, str) or not names or not all(callable(name) or name in FEATURES for name in names):
        raise ValueError(
            f"features: expected one or more of {', '.join(FEATURES)}, or functions, in a list, got {names!r}"
        )
    columns = [_call(name, regions) if callable(name) else FEATURES[name](regions) for name in names]
    return np.concatenate(columns, axis=1)


def _call(function: Callable[[Regions], np.ndarray], regions: Regions) -> np.ndarray:
    """The features that a function of the caller's returns, (n, F)."""
    n, name = len(regions.area), getattr(function, "__name__", repr(function))
    values = np.asarray(function(regions))
    if values.ndim not in (1, 2) or len(values) != n or values.dtype.kind not in "biuf":
        raise ValueError(
            f"features: expected {name} to return numbers of shape ({n},) or ({n}, F), got {values.dtype} of "
            f"{values.shape}"
        )
    if not np.isfinite(values).all():
        raise ValueError(f"features: expected finite numbers of {name}, got {values[~np.isfinite(values)][0]}")
    return values.reshape(n, -1)


@names_checked()
def paint(graph: GraphLike | Tensor | np.ndarray, values: Tensor, outside: float = 0.0) -> Tensor:
    """Values of the nodes as an image: every pixel gets the value of its node.

    Args:
        graph: a pixel graph or superpixel graph of this package; or its ``label_map``, if the graph was batched or
            saved since, which drops it.
        values: (n, \\*), one row per node.
        outside: the value of pixels without a node, those outside the mask.

    Shapes:
        - values: (n, \\*)
        - output: (\\*S, \\*), or (B, \\*S, \\*) for a batch of pixel graphs

    Returns:
        The image, of the dtype and on the device of ``values``.

    Raises:
        TypeError: if the graph has no label map.
        ValueError: if the number of rows is not the number of nodes.

    Example:
        >>> import numpy as np, torch
        >>> from gnnlib.images import graph_from_labels, paint
        >>> graph = graph_from_labels(np.array([[0.0, 0.5, 1.0]]), np.array([[1, 0, 1]]))
        >>> paint(graph, graph.ndata["feat"])[..., 0].tolist()
        [[0.5, 0.5, 0.5]]
        >>> paint(graph, torch.tensor([3, 4])).tolist()
        [[4, 3, 4]]
    """
    label_map = getattr(graph, "label_map", None) if is_graph(graph) else graph
    if label_map is None:
        raise TypeError("graph: expected one with a label map, got one that lost it; pass the label map instead")
    label_map = torch.as_tensor(label_map, device=values.device)
    nodes = graph.num_nodes() if is_graph(graph) else int(label_map.max()) + 1
    if len(values) != nodes:
        raise ValueError(f"values: expected {nodes} rows, one for each node, got shape {tuple(values.shape)}")
    painted = values[label_map.clamp(min=0)]
    painted[label_map < 0] = outside
    return painted
