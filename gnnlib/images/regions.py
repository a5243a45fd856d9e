"""Images and their label maps: the pixels that count, and what is known of each region."""

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from gnnlib._platform.dgl import dgl

__all__ = [
    "FEATURES",
    "Image",
    "Regions",
    "as_array",
    "as_integer",
    "as_mask",
    "as_pixels",
    "describe",
    "is_image",
    "paint",
    "regions",
    "skimage",
]

Image: TypeAlias = Any  # a numpy array, a tensor or a PIL image

PIL_MODES = {"1": "L", "P": "RGB", "PA": "RGBA", "CMYK": "RGB", "YCbCr": "RGB", "HSV": "RGB"}  # what they are taken as


def is_image(value: object) -> bool:
    """Whether this is an array, a tensor or a PIL image.

    >>> is_image(np.zeros(3)), is_image((28, 28))
    (True, False)
    """
    return isinstance(value, np.ndarray | Tensor) or hasattr(value, "getbands")


def as_pixels(image: Image, axes: int, mask: Image | None = None) -> tuple[np.ndarray, np.ndarray]:
    """An image as its values and the pixels that count, both checked.

    Args:
        image: (*S,) or (*S, C), channels last; uint8 (taken as 0..1) or floating point; numpy, torch or PIL (a palette
            is looked up, black and white becomes grey, CMYK, YCbCr and HSV become RGB).
        axes: how many axes S has: 2 for pictures, 3 for volumes.
        mask: (*S,) booleans, the pixels that count; None for all. The others may hold anything.

    Shapes: returns (*S, C) float64, 0 outside the mask, and (*S,) booleans.

    Raises: ValueError for an image of another shape, empty or not finite inside the mask, a mask of another shape or
    without a pixel; TypeError for an image that is neither uint8 nor floating point, or a mask that is not boolean.

    >>> values, inside = as_pixels(np.array([[0, 51], [255, 7]], np.uint8), 2, np.array([[True, True], [True, False]]))
    >>> values[..., 0].tolist(), int(inside.sum())
    ([[0.0, 0.2], [1.0, 0.0]], 3)
    """
    pixels = as_array(image)
    if pixels.ndim not in (axes, axes + 1):
        raise ValueError(f"image: expected {axes} axes, or {axes + 1} with channels last, got shape {pixels.shape}")
    if pixels.size == 0:
        raise ValueError(f"image: expected at least one pixel and channel, got shape {pixels.shape}")
    if pixels.dtype != np.uint8 and not np.issubdtype(pixels.dtype, np.floating):
        raise TypeError(f"image: expected uint8 or floating point, got {pixels.dtype}")
    values = pixels / 255.0 if pixels.dtype == np.uint8 else pixels.astype(np.float64)
    values = values if pixels.ndim > axes else values[..., None]
    inside = as_mask(mask, values.shape[:-1])
    if not inside.all():
        values = np.where(inside[..., None], values, 0.0)
    if not np.isfinite(values).all():
        where = tuple(np.argwhere(~np.isfinite(values))[0].tolist())
        raise ValueError(f"image: expected finite values, got {values[where]} at pixel {where[:-1]}")
    return values, inside


def as_array(image: Image) -> np.ndarray:
    """An image as a numpy array of the same values.

    >>> as_array(torch.zeros(2, 2, dtype=torch.bfloat16)).dtype
    dtype('float64')
    """
    if isinstance(image, Tensor) and image.is_floating_point():
        image = image.double()  # numpy has no bfloat16
    if (mode := getattr(image, "mode", None)) in PIL_MODES:
        image = image.convert(PIL_MODES[mode])
    return _numpy(image)


def as_mask(mask: Image | None, shape: tuple[int, ...]) -> np.ndarray:
    """A mask as booleans (*S,), checked; None as a mask of all.

    Raises: ValueError for another shape or no pixel inside; TypeError for what is not boolean.

    >>> as_mask(None, (1, 2))
    array([[ True,  True]])
    """
    inside = np.ones(shape, bool) if mask is None else np.array(_numpy(mask))  # a copy: PIL's cannot be written to
    if inside.dtype != bool:
        raise TypeError(f"mask: expected booleans, got {inside.dtype}")
    if inside.shape != shape:
        raise ValueError(f"mask: expected the image's shape {shape}, got {inside.shape}")
    if not inside.any():
        raise ValueError(f"mask: expected at least one pixel inside, got none of {inside.size}")
    return inside


def as_integer(name: str, value: int) -> int:
    """A whole number, numpy's and others' too.

    Raises: TypeError for anything else.

    >>> as_integer("k", np.int32(8))
    8
    """
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{name}: expected an integer, got {value!r}") from None


@dataclass(frozen=True)
class Regions:
    """The regions of a label map: P pixels in n regions.

    Args:
        label_map: (*S,) int64, 0 to n - 1 without gaps, -1 outside the mask.
        values: (P, C), the image.
        where: (P, d), the coordinates of each pixel.
        region: (P,), the region of each.
        area: (n,), pixels in each.
        centroid: (n, d) in pixels, in the order of the label map's axes.
    """

    label_map: np.ndarray
    values: np.ndarray
    where: np.ndarray
    region: np.ndarray
    area: np.ndarray
    centroid: np.ndarray

    def mean(self, values: np.ndarray) -> np.ndarray:
        """The mean over each region: (P, F) -> (n, F)."""
        return _mean(values, self.region, self.area)


def regions(image: Image, labels: Image, mask: Image | None = None) -> Regions:
    """The regions of an image under any label map.

    Args:
        image: (*S,) or (*S, C), as in :func:`as_pixels`.
        labels: (*S,) integers from 0, gaps are closed; outside the mask anything.
        mask: (*S,) booleans; None for the whole image.

    Raises: ValueError, TypeError: as :func:`as_pixels`, and for labels that are negative or not of the image's shape,
    or not integers.

    >>> parts = regions(np.array([[0.0, 1.0, 4.0]]), np.array([[7, 2, 2]]))
    >>> parts.area.tolist(), parts.centroid.tolist(), parts.mean(parts.values).tolist()
    ([2, 1], [[0.0, 1.5], [0.0, 0.0]], [[2.5], [0.0]])
    """
    numbers = _numpy(labels)
    if not np.issubdtype(numbers.dtype, np.integer):
        raise TypeError(f"labels: expected integers, got {numbers.dtype}")
    pixels = as_array(image)
    if numbers.shape not in (pixels.shape, pixels.shape[:-1]):
        raise ValueError(
            f"labels: expected the image's shape {pixels.shape}, less the channels if it has any, got {numbers.shape}"
        )
    values, inside = as_pixels(pixels, numbers.ndim, mask)
    if numbers[inside].min() < 0:
        raise ValueError(f"labels: expected integers from 0, got {numbers[inside].min()}")
    region, area = np.unique(numbers[inside], return_inverse=True, return_counts=True)[1:]
    label_map = np.full(inside.shape, -1)
    label_map[inside] = region = region.ravel()
    where = np.argwhere(inside)
    return Regions(label_map, values[inside], where, region, area, _mean(where, region, area))


def _mean(values: np.ndarray, region: np.ndarray, area: np.ndarray) -> np.ndarray:
    return np.stack([np.bincount(region, column) for column in values.T], axis=1) / area[:, None]


def _std(parts: Regions) -> np.ndarray:
    return np.sqrt(parts.mean(np.square(parts.values - parts.mean(parts.values)[parts.region])))


def _box(parts: Regions) -> np.ndarray:
    low = np.full(parts.centroid.shape, np.iinfo(np.int64).max)
    high = np.zeros(parts.centroid.shape, np.int64)
    np.minimum.at(low, parts.region, parts.where)
    np.maximum.at(high, parts.region, parts.where + 1)
    return np.concatenate([low, high], axis=1)


def _lab(parts: Regions) -> np.ndarray:
    if parts.values.shape[1] != 3:
        raise ValueError(f"lab: expected three channels, red, green and blue, got {parts.values.shape[1]}")
    return parts.mean(skimage("color").rgb2lab(parts.values[None])[0])


FEATURES: dict[str, Callable[[Regions], np.ndarray]] = {
    "mean": lambda parts: parts.mean(parts.values),
    "std": _std,
    "lab": _lab,
    "area": lambda parts: parts.area[:, None],
    "box": _box,
    "centroid": lambda parts: parts.centroid,
    "place": lambda parts: parts.centroid / parts.label_map.shape,
}


def describe(parts: Regions, names: Sequence[str]) -> np.ndarray:
    """What is known of each region, side by side in the order asked for.

    - ``"mean"``, ``"std"`` (C): mean and standard deviation of each channel over the region;
    - ``"lab"`` (3): mean colour in CIE Lab (D65), for three channels taken as sRGB;
    - ``"area"`` (1): in pixels;
    - ``"box"`` (2 d): the first row, column, ..., then those after the last, in pixels;
    - ``"centroid"`` (d): in pixels;
    - ``"place"`` (d): centroid / length of each axis.

    Shapes: returns (n, F).

    Raises: ValueError for an unknown name or none, and for ``"lab"`` of an image that has not three channels.

    >>> parts = regions(np.array([[0.0, 1.0, 4.0]]), np.array([[7, 2, 2]]))
    >>> describe(parts, ["std", "area", "box"]).tolist()
    [[1.5, 2.0, 0.0, 1.0, 1.0, 3.0], [0.0, 1.0, 0.0, 0.0, 1.0, 1.0]]
    """
    if isinstance(names, str) or not names or not set(names) <= set(FEATURES):
        raise ValueError(f"features: expected one or more of {', '.join(FEATURES)}, in a list, got {names!r}")
    return np.concatenate([FEATURES[name](parts) for name in names], axis=1)


def paint(graph: dgl.DGLGraph | Tensor | np.ndarray, values: Tensor, outside: float = 0.0) -> Tensor:
    """Values of the nodes as an image: each pixel gets what its node has.

    Args:
        graph: a pixel graph or superpixel graph of this package; or its ``label_map``, where the graph was batched
            or saved since, which drops it.
        values: (n, \\*), one row a node.
        outside: what pixels without a node get: those outside the mask.

    Shapes: returns (*S, \\*); (B, *S, \\*) for a batch of pixel graphs.

    Raises: TypeError for a graph without a label map; ValueError for a wrong number of rows.

    >>> from gnnlib.images import graph_from_labels
    >>> graph = graph_from_labels(np.array([[0.0, 0.5, 1.0]]), np.array([[1, 0, 1]]))
    >>> paint(graph, graph.ndata["feat"])[..., 0].tolist()
    [[0.5, 0.5, 0.5]]
    >>> paint(graph, torch.tensor([3, 4])).tolist()
    [[4, 3, 4]]
    """
    label_map = getattr(graph, "label_map", None) if isinstance(graph, dgl.DGLGraph) else graph
    if label_map is None:
        raise TypeError("graph: expected one with a label map, got one that lost it; give the label map in its place")
    label_map = torch.as_tensor(label_map, device=values.device)
    nodes = graph.num_nodes() if isinstance(graph, dgl.DGLGraph) else int(label_map.max()) + 1
    if len(values) != nodes:
        raise ValueError(f"values: expected {nodes} rows, one for each node, got shape {tuple(values.shape)}")
    painted = values[label_map.clamp(min=0)]
    painted[label_map < 0] = outside
    return painted


def skimage(name: str) -> ModuleType:
    """A part of scikit-image, which is an extra of this library.

    >>> skimage("color").__name__
    'skimage.color'
    """
    try:
        return import_module(f"skimage.{name}")
    except ImportError as error:
        raise ImportError("superpixels need scikit-image: pip install 'gnnlib[images]'", name="skimage") from error


def _numpy(array: Image) -> np.ndarray:
    return array.detach().cpu().numpy() if isinstance(array, Tensor) else np.asarray(array)
