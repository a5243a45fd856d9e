"""Images as numpy arrays: conversion from numpy, torch and PIL, and validation."""

import operator
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import Any, TypeAlias

import numpy as np
from torch import Tensor

__all__ = [
    "Image",
    "Pixels",
    "as_array",
    "as_integer",
    "as_mask",
    "import_skimage",
    "is_image",
    "parse_image",
    "to_numpy",
]

Image: TypeAlias = Any  # a numpy array, a tensor or a PIL image

PIL_MODES = {"1": "L", "P": "RGB", "PA": "RGBA", "CMYK": "RGB", "YCbCr": "RGB", "HSV": "RGB"}  # mode: converted to


@dataclass(frozen=True)
class Pixels:
    """A validated image. :func:`parse_image` makes it; functions that take it do not validate again.

    Args:
        values: (\\*S, C) float64, finite, 0 outside the mask.
        mask: (\\*S,) booleans, at least one of them true.
    """

    values: np.ndarray
    mask: np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        """S, the length of each axis without the channels."""
        return self.mask.shape


def parse_image(image: Image, axes: int, mask: Image | None = None) -> Pixels:
    """Convert and validate an image and its mask.

    Args:
        image: (\\*S,) or (\\*S, C), channels last; uint8 (scaled to 0..1) or floating point; numpy, torch or PIL (a
            palette is replaced by its colours, black and white becomes grey, CMYK, YCbCr and HSV become RGB).
        axes: number of axes in S: 2 for pictures, 3 for volumes.
        mask: (\\*S,) booleans, true for the pixels to use; None for all. Values outside the mask may be anything.

    Shapes:
        - output: values (\\*S, C), mask (\\*S,)

    Returns:
        The validated image.

    Raises:
        ValueError: if the image has another number of axes, is empty, or is not finite inside the mask.
        ValueError: if the mask has another shape or no pixel inside.
        TypeError: if the image is neither uint8 nor floating point, or the mask is not boolean.

    Example:
        >>> import numpy as np
        >>> from gnnlib.images._image import parse_image
        >>> mask = np.array([[True, True], [True, False]])
        >>> pixels = parse_image(np.array([[0, 51], [255, 7]], np.uint8), 2, mask)
        >>> pixels.values[..., 0].tolist(), int(pixels.mask.sum())
        ([[0.0, 0.2], [1.0, 0.0]], 3)
    """
    array = as_array(image)
    if array.ndim not in (axes, axes + 1):
        raise ValueError(f"image: expected {axes} axes, or {axes + 1} with channels last, got shape {array.shape}")
    if array.size == 0:
        raise ValueError(f"image: expected at least one pixel and channel, got shape {array.shape}")
    if array.dtype != np.uint8 and not np.issubdtype(array.dtype, np.floating):
        raise TypeError(f"image: expected uint8 or floating point, got {array.dtype}")
    values = array / 255.0 if array.dtype == np.uint8 else array.astype(np.float64)
    values = values if array.ndim > axes else values[..., None]
    mask = as_mask(mask, values.shape[:-1])
    if not mask.all():
        values = np.where(mask[..., None], values, 0.0)
    if not np.isfinite(values).all():
        index = tuple(np.argwhere(~np.isfinite(values))[0].tolist())
        raise ValueError(f"image: expected finite values, got {values[index]} at pixel {index[:-1]}")
    return Pixels(values, mask)


def is_image(value: object) -> bool:
    """Whether the value is an array, a tensor or a PIL image.

    Example:
        >>> import numpy as np
        >>> from gnnlib.images._image import is_image
        >>> is_image(np.zeros(3)), is_image((28, 28))
        (True, False)
    """
    return isinstance(value, np.ndarray | Tensor) or hasattr(value, "getbands")


def as_array(image: Image) -> np.ndarray:
    """An image as a numpy array of the same values.

    Example:
        >>> import torch
        >>> from gnnlib.images._image import as_array
        >>> as_array(torch.zeros(2, 2, dtype=torch.bfloat16)).dtype
        dtype('float64')
    """
    if isinstance(image, Tensor) and image.is_floating_point():
        image = image.double()  # numpy has no bfloat16
    if (mode := getattr(image, "mode", None)) in PIL_MODES:
        image = image.convert(PIL_MODES[mode])
    return to_numpy(image)


def to_numpy(array: Image) -> np.ndarray:
    """An array, a tensor or a PIL image as numpy, without conversion of the PIL mode: for masks and label maps."""
    return array.detach().cpu().numpy() if isinstance(array, Tensor) else np.asarray(array)


def as_mask(mask: Image | None, shape: tuple[int, ...]) -> np.ndarray:
    """A validated mask, (\\*S,) booleans; None gives a mask that is true everywhere.

    Raises:
        ValueError: if the mask has another shape or no pixel inside.
        TypeError: if the mask is not boolean.

    Example:
        >>> from gnnlib.images._image import as_mask
        >>> as_mask(None, (1, 2))
        array([[ True,  True]])
    """
    array = np.ones(shape, bool) if mask is None else np.array(to_numpy(mask))  # a copy: PIL's is read-only
    if array.dtype != bool:
        raise TypeError(f"mask: expected booleans, got {array.dtype}")
    if array.shape != shape:
        raise ValueError(f"mask: expected the image's shape {shape}, got {array.shape}")
    if not array.any():
        raise ValueError(f"mask: expected at least one pixel inside, got none of {array.size}")
    return array


def as_integer(name: str, value: int) -> int:
    """An integer, also from numpy and other libraries.

    Raises:
        TypeError: if the value is not an integer.

    Example:
        >>> import numpy as np
        >>> from gnnlib.images._image import as_integer
        >>> as_integer("k", np.int32(8))
        8
    """
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{name}: expected an integer, got {value!r}") from None


def import_skimage(name: str) -> ModuleType:
    """Import a subpackage of scikit-image, an optional dependency.

    Raises:
        ImportError: if scikit-image is not installed.

    Example:
        >>> from gnnlib.images._image import import_skimage
        >>> import_skimage("color").__name__
        'skimage.color'
    """
    try:
        return import_module(f"skimage.{name}")
    except ImportError as error:
        raise ImportError("superpixels need scikit-image: pip install 'gnnlib[images]'", name="skimage") from error
