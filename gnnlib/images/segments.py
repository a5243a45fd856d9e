"""Superpixels: regions of similar pixels, as SLIC cuts them, now and in 2018."""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from gnnlib.images.regions import Image, as_integer, as_pixels, skimage

__all__ = ["SLIC", "MaskSLIC", "segment"]


def segment(
    image: Image,
    num_segments: int = 75,
    compactness: float | None = None,
    *,
    axes: int = 2,
    mask: Image | None = None,
) -> np.ndarray:
    """Superpixels of an image: SLIC of Achanta et al., 2012, "SLIC Superpixels Compared to State-of-the-art
    Superpixel Methods", as scikit-image has it.

    k-means of the pixels, started on a regular grid of S x S squares, under the distance d of equation 3,
    d^2 = (colour distance)^2 + compactness^2 (distance in pixels / S)^2.

    Two things happen inside scikit-image: the image's range is first stretched to 0..1, and three channels are taken
    as RGB and converted to Lab, where distances go to about 100. Inside a mask, the seeds are spread by k-means
    (Irving, 2016, arXiv:1606.09518).

    Args:
        image: (H, W) or (H, W, C), channels last; uint8 (taken as 0..1) or floating point; numpy, torch or PIL.
        num_segments: superpixels to ask for, 1 to H W. They start as a grid, so the number found differs somewhat.
        compactness: how much space counts against colour: large gives squares, small follows edges. None: 10 for
            three channels, else 0.25, as Knyazev et al., 2019, arXiv:1905.02850, set them for CIFAR-10 and MNIST.
        axes: 2, or 3 for a volume (D, H, W) or (D, H, W, C).
        mask: (H, W) booleans; pixels outside get the label -1. None for the whole image.

    Shapes: returns (H, W) int64, labels 0..n-1 without gaps, so ``values[labels]`` paints n values as an image.

    Raises:
        ValueError: for an image of another shape, empty or not finite, a mask of another shape or empty, a number of
            segments outside 1 to the number of pixels, a compactness that is not positive, or axes but 2 and 3.
        TypeError: for an image that is neither uint8 nor floating point, or a mask that is not boolean.
        ImportError: without scikit-image.

    >>> segment(np.array([[0.0, 0.0, 1.0, 1.0]] * 2), num_segments=2)
    array([[0, 0, 1, 1],
           [0, 0, 1, 1]])
    """
    if axes not in (2, 3):
        raise ValueError(f"axes: expected 2 or 3, got {axes}")
    values, inside = as_pixels(image, axes, mask)
    if not 1 <= as_integer("num_segments", num_segments) <= inside.sum():
        lengths = " x ".join(map(str, inside.shape))
        which = f"{lengths} pixels" + ("" if inside.all() else " under the mask")
        raise ValueError(f"num_segments: expected 1 to {inside.sum()} for {which}, got {num_segments}")
    if compactness is None:
        compactness = 10.0 if values.shape[-1] == 3 else 0.25
    if not 0 < compactness < np.inf:
        raise ValueError(f"compactness: expected a positive number, got {compactness}")
    labels = skimage("segmentation").slic(
        values,
        n_segments=num_segments,
        compactness=compactness,
        start_label=1,
        channel_axis=-1,
        mask=None if inside.all() else inside,
    )
    found = np.full(inside.shape, -1)
    found[inside] = np.unique(labels[inside], return_inverse=True)[1].ravel()
    return found


@dataclass(frozen=True)
class SLIC:
    """Superpixels as scikit-image cut them until 2020, with three channels taken as sRGB and converted to Lab.

    Args:
        segments: how many to ask for first; no more than there are pixels.
        most: ask for one fewer until at most so many come out; None: ask once.
        compactness: how much space counts against colour.
        zero: SLICO, where the compactness adapts to each region.

    Shapes: values (H, W, C) or (D, H, W, C) float64; returns labels (*S,).

    Raises: ValueError for segments or most below 1, or a compactness that is not positive.

    >>> len(np.unique(SLIC(95, most=30, compactness=0.25)(np.zeros((28, 28, 1)))))
    25
    """

    segments: int
    most: int | None = None
    compactness: float = 10.0
    zero: bool = False

    def __post_init__(self) -> None:
        if min(self.segments, self.segments if self.most is None else self.most) < 1:
            raise ValueError(f"expected segments and most of at least 1, got {self.segments} and {self.most}")
        if not 0 < self.compactness < np.inf:
            raise ValueError(f"compactness: expected a positive number, got {self.compactness}")

    def __call__(self, values: np.ndarray) -> np.ndarray:
        from gnnlib.kernels.pieces import connected_pieces  # imports numba: on first use only

        shape = values.shape[:-1]
        pixels = math.prod(shape)
        colour = skimage("color").rgb2lab(values) if values.shape[-1] == 3 else values
        seeds = None
        for asked in range(min(self.segments, pixels), 0, -1):
            if seeds != (seeds := _seeds(shape, asked)):  # else the same clusters as before
                clusters = self._cluster(colour, asked)
            labels, found = connected_pieces(clusters, pixels // (2 * asked), 3 * pixels // asked)
            if self.most is None or found <= self.most:
                break
        return labels

    def _cluster(self, colour: np.ndarray, asked: int) -> np.ndarray:
        return skimage("segmentation").slic(
            colour,
            n_segments=asked,
            compactness=self.compactness / (float(np.ptp(colour)) or 1.0),
            slic_zero=self.zero,
            convert2lab=False,
            enforce_connectivity=False,
            start_label=0,
            channel_axis=-1,
        )


@lru_cache(maxsize=1 << 12)
def _seeds(shape: tuple[int, ...], asked: int) -> tuple[slice, ...]:
    """Where SLIC starts its clusters: many numbers asked for start them at the same pixels."""
    return skimage("util").regular_grid(shape, asked)


@dataclass(frozen=True)
class MaskSLIC:
    """About ``segments`` superpixels, seeded by k-means of the pixels' places (Irving, 2016, arXiv:1606.09518) and left
    as the clusters they are: seldom one ends empty, or in two pieces.

    Shapes: values (H, W, C) float64; returns labels (H, W).

    >>> len(np.unique(MaskSLIC(75, 1.0)(np.random.default_rng(0).random((28, 28, 1)))))
    75
    """

    segments: int
    compactness: float

    def __call__(self, values: np.ndarray) -> np.ndarray:
        return skimage("segmentation").slic(
            values,
            n_segments=min(self.segments, math.prod(values.shape[:-1])),
            compactness=self.compactness,
            mask=np.ones(values.shape[:-1], bool),
            enforce_connectivity=False,
            channel_axis=-1,
        )
