"""Superpixel segmentation: SLIC (Achanta et al., 2012), as scikit-image computes it now and until 2020."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from gnnlib._utils.calls import names_checked
from gnnlib.images._image import Image, Pixels, as_integer, import_skimage, parse_image
from gnnlib.nn._arguments import positive

__all__ = ["SLIC", "MaskSLIC", "segment", "segment_pixels"]


@names_checked(n_segments="num_segments=")
def segment(
    image: Image,
    num_segments: int = 75,
    compactness: float | None = None,
    *,
    axes: int = 2,
    mask: Image | None = None,
    channels: int | None = None,
    spacing: Sequence[float] | None = None,
) -> np.ndarray:
    """Superpixels of an image: SLIC of Achanta et al., 2012, "SLIC Superpixels Compared to State-of-the-art
    Superpixel Methods", as implemented by scikit-image.

    k-means of the pixels, started on a regular grid of S x S squares, under the distance d of equation 3,
    d^2 = (colour distance)^2 + compactness^2 (distance in pixels / S)^2.

    scikit-image first stretches the image's range to 0..1, and converts three channels from RGB to Lab, where
    distances go to about 100. Inside a mask, the seeds are spread by k-means (Irving, 2016, arXiv:1606.09518).

    Every superpixel is connected. Where scikit-image returns one in several pieces, as it may under a mask, each piece
    is a superpixel.

    Args:
        image: (H, W) or (H, W, C), channels last; uint8, uint16 (scaled to 0..1) or floating point;
            numpy, torch, PIL or a path. Masked entries of numpy's masked arrays are outside the mask.
        num_segments: requested number of superpixels, 1 to H W. The seeds form a grid, so the result has about as many.
        compactness: weight of space against colour: large gives squares, small follows edges. None: 10 for
            three channels, else 0.25, as Knyazev et al., 2019, arXiv:1905.02850, set them for CIFAR-10 and MNIST.
        axes: 2, or 3 for a volume (D, H, W) or (D, H, W, C).
        mask: (H, W) booleans; pixels outside get the label -1. None for the whole image.
        channels: C, needed for an image of at most 4 rows and more than 4 channels: without it, such a shape is taken
            for one with channels first, and refused.
        spacing: the distance of neighbouring pixels along each axis, as (5, 1, 1) for slices 5 times as far apart as
            pixels. Distances in space are in this unit, relative to the mean of the axes. None for 1.

    Shapes:
        - output: (H, W)

    Returns:
        int64 labels 0 to n - 1 without gaps, so that ``values[labels]`` paints n values as an image.

    Raises:
        ValueError: if the image has another shape, is empty or not finite, or the mask has another shape or is empty.
        ValueError: if the number of segments is outside 1 to the number of pixels.
        ValueError: if the compactness or the spacing is not positive, or axes is neither 2 nor 3.
        ValueError: if the image has other channels, or seems to have them first.
        TypeError: if the image is neither uint8, uint16 nor floating point, or the mask is not boolean.
        ImportError: if scikit-image is not installed.

    Example:
        >>> import numpy as np
        >>> from gnnlib.images import segment
        >>> segment(np.array([[0.0, 0.0, 1.0, 1.0]] * 2), num_segments=2)
        array([[0, 0, 1, 1],
               [0, 0, 1, 1]])
    """
    return segment_pixels(parse_image(image, axes, mask, channels, spacing), num_segments, compactness)


def segment_pixels(pixels: Pixels, num_segments: int = 75, compactness: float | None = None) -> np.ndarray:
    """:func:`segment` of a validated image."""
    if len(pixels.shape) not in (2, 3):
        raise ValueError(f"axes: expected 2 or 3, got {len(pixels.shape)}")
    num_pixels = pixels.mask.sum()
    if not 1 <= as_integer("num_segments", num_segments) <= num_pixels:
        image = f"{' x '.join(map(str, pixels.shape))} pixels" + ("" if pixels.mask.all() else " under the mask")
        raise ValueError(f"num_segments: expected 1 to {num_pixels} for {image}, got {num_segments}")
    if compactness is None:
        compactness = 10.0 if pixels.values.shape[-1] == 3 else 0.25
    if not 0 < compactness < np.inf:
        raise ValueError(f"compactness: expected a positive number, got {compactness}")
    clusters = import_skimage("segmentation").slic(
        pixels.values,
        n_segments=num_segments,
        compactness=compactness,
        start_label=1,
        channel_axis=-1,
        mask=None if pixels.mask.all() else pixels.mask,
        spacing=np.array(pixels.spacing) / math.prod(pixels.spacing) ** (1 / len(pixels.spacing)),
    )
    clusters = np.where(pixels.mask, clusters, 0)
    pieces = import_skimage("measure").label(clusters, background=0, connectivity=1)
    number = clusters[pixels.mask].astype(np.int64) * (pieces.max() + 1) + pieces[pixels.mask]  # by cluster, by piece
    labels = np.full(pixels.shape, -1)
    labels[pixels.mask] = np.unique(number, return_inverse=True)[1].ravel()
    return labels


@names_checked(n_segments="num_segments=")
@dataclass(frozen=True)
class SLIC:
    """SLIC as scikit-image computed it until 2020, with three channels taken as sRGB and converted to Lab.

    Args:
        num_segments: requested number of superpixels; capped at the number of pixels.
        max_segments: reduce the requested number, one by one, until at most so many result. None: do not.
        compactness: weight of space against colour.
        slic_zero: SLICO, where the compactness adapts to each region.

    Shapes:
        - values: (H, W, C) or (D, H, W, C) float64
        - output: (\\*S,), the labels

    Raises:
        ValueError: if num_segments or max_segments is below 1, or the compactness is not positive.

    Example:
        >>> import numpy as np
        >>> from gnnlib.images.segments import SLIC
        >>> len(np.unique(SLIC(95, max_segments=30, compactness=0.25)(np.zeros((28, 28, 1)))))
        25
    """

    num_segments: int
    max_segments: int | None = None
    compactness: float = 10.0
    slic_zero: bool = False

    def __post_init__(self) -> None:
        if as_integer("num_segments", self.num_segments) < 1:
            raise ValueError(f"num_segments: expected at least 1, got {self.num_segments}")
        if self.max_segments is not None and as_integer("max_segments", self.max_segments) < 1:
            raise ValueError(f"max_segments: expected None or at least 1, got {self.max_segments}")
        positive("SLIC", "compactness", self.compactness)

    def __call__(self, values: np.ndarray) -> np.ndarray:
        from gnnlib.kernels.pieces import connected_pieces  # imports numba: on first use only

        shape = values.shape[:-1]
        pixels = math.prod(shape)
        colour = import_skimage("color").rgb2lab(values) if values.shape[-1] == 3 else values
        seeds = None
        for requested in range(min(self.num_segments, pixels), 0, -1):
            if seeds != (seeds := _seeds(shape, requested)):  # else the same clusters as before
                clusters = self._cluster(colour, requested)
            labels, count = connected_pieces(clusters, pixels // (2 * requested), 3 * pixels // requested)
            if self.max_segments is None or count <= self.max_segments:
                break
        return labels

    def _cluster(self, colour: np.ndarray, num_segments: int) -> np.ndarray:
        return import_skimage("segmentation").slic(
            colour,
            n_segments=num_segments,
            compactness=self.compactness / (float(np.ptp(colour)) or 1.0),
            slic_zero=self.slic_zero,
            convert2lab=False,
            enforce_connectivity=False,
            start_label=0,
            channel_axis=-1,
        )


@lru_cache(maxsize=1 << 12)
def _seeds(shape: tuple[int, ...], num_segments: int) -> tuple[slice, ...]:
    """The grid of pixels at which SLIC starts its clusters; many requested numbers share one grid."""
    return import_skimage("util").regular_grid(shape, num_segments)


@names_checked(n_segments="num_segments=")
@dataclass(frozen=True)
class MaskSLIC:
    """maskSLIC (Irving, 2016, arXiv:1606.09518): seeds by k-means of the pixels' positions, and clusters that are not
    made connected. A cluster is rarely empty or in two pieces.

    Args:
        num_segments: requested number of superpixels; capped at the number of pixels.
        compactness: weight of space against colour.

    Shapes:
        - values: (H, W, C) float64
        - output: (H, W), the labels

    Example:
        >>> import numpy as np
        >>> from gnnlib.images.segments import MaskSLIC
        >>> len(np.unique(MaskSLIC(75, 1.0)(np.random.default_rng(0).random((28, 28, 1)))))
        75
    """

    num_segments: int
    compactness: float

    def __call__(self, values: np.ndarray) -> np.ndarray:
        return import_skimage("segmentation").slic(
            values,
            n_segments=min(self.num_segments, math.prod(values.shape[:-1])),
            compactness=self.compactness,
            mask=np.ones(values.shape[:-1], bool),
            enforce_connectivity=False,
            channel_axis=-1,
        )
