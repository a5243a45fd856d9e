"""Images as numpy arrays: conversion from numpy, torch, PIL and files, and validation."""

import operator
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
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
    "channels_of",
    "as_spacing",
    "grey",
    "import_pil",
    "import_skimage",
    "is_image",
    "parse_image",
    "read_image",
    "to_numpy",
    "with_channels",
]

Image: TypeAlias = Any  # a numpy array, a tensor, a PIL image or the path of a file

COLOUR_MODES = ("P", "PA", "CMYK", "YCbCr", "HSV", "LAB", "RGBA", "RGBa", "RGBX")
PIL_MODES = {"1": "L", "LA": "L"} | dict.fromkeys(COLOUR_MODES, "RGB")
"""Modes of PIL, and what each is converted to."""

LEVELS = {np.dtype(np.uint8): 255.0, np.dtype(np.uint16): 65535.0}
"""Integer types of images, and the level that becomes 1."""

LUMA = np.array([0.299, 0.587, 0.114])
"""Weights of red, green and blue in grey (ITU-R BT.601), those of PIL's mode L."""


@dataclass(frozen=True)
class Pixels:
    """A validated image. :func:`parse_image` makes it; functions that take it do not validate again.

    Args:
        values: (\\*S, C) float64, finite, 0 outside the mask.
        mask: (\\*S,) booleans, at least one of them true.
        spacing: the distance of neighbouring pixels along each axis.
    """

    values: np.ndarray
    mask: np.ndarray
    spacing: tuple[float, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """S, the length of each axis without the channels."""
        return self.mask.shape


def parse_image(
    image: Image,
    axes: int,
    mask: Image | None = None,
    channels: int | None = None,
    spacing: Sequence[float] | None = None,
) -> Pixels:
    """Convert and validate an image and its mask.

    Args:
        image: (\\*S,) or (\\*S, C), channels last; uint8 or uint16 (scaled to 0..1) or floating point; numpy, torch,
            PIL or the path of a file, as :func:`as_array` takes it. Masked entries of numpy's masked arrays are outside
            the mask.
        axes: number of axes in S: 2 for pictures, 3 for volumes.
        mask: (\\*S,) booleans, true for the pixels to use; None for all. Values outside the mask may be anything.
        channels: C; None infers it, and refuses shapes that look like channels first.
        spacing: the distance of neighbouring pixels along each axis; None for 1.

    Shapes:
        - output: values (\\*S, C), mask (\\*S,)

    Returns:
        The validated image.

    Raises:
        ValueError: if the image has another number of axes or channels, is empty, or is not finite inside the mask.
        ValueError: if the image has at most 4 rows and more than 4 channels, and ``channels`` is None.
        ValueError: if the mask has another shape or no pixel inside, or the spacing is not positive.
        TypeError: if the image is neither uint8, uint16 nor floating point, or the mask is not boolean.

    Example:
        >>> import numpy as np
        >>> from gnnlib.images._image import parse_image
        >>> mask = np.array([[True, True], [True, False]])
        >>> pixels = parse_image(np.array([[0, 51], [255, 7]], np.uint8), 2, mask)
        >>> pixels.values[..., 0].tolist(), int(pixels.mask.sum())
        ([[0.0, 0.2], [1.0, 0.0]], 3)
    """
    inside = None
    if isinstance(image, np.ma.MaskedArray):
        image, inside = image.data, ~np.ma.getmaskarray(image)
    array = as_array(image)
    if array.ndim not in (axes, axes + 1):
        raise ValueError(f"image: expected {axes} axes, or {axes + 1} with channels last, got shape {array.shape}")
    if array.size == 0:
        raise ValueError(f"image: expected at least one pixel and channel, got shape {array.shape}")
    if array.dtype not in LEVELS and not np.issubdtype(array.dtype, np.floating):
        raise TypeError(f"image: expected uint8, uint16 or floating point, got {array.dtype}")
    _check_channels(array.shape, axes, channels)
    values = array / LEVELS[array.dtype] if array.dtype in LEVELS else array.astype(np.float64)
    values = values if array.ndim > axes else values[..., None]
    mask = as_mask(mask, values.shape[:-1])
    if inside is not None:
        mask = as_mask(mask & inside.reshape(values.shape).all(-1), mask.shape)
    if not mask.all():
        values = np.where(mask[..., None], values, 0.0)
    if not np.isfinite(values).all():
        index = tuple(np.argwhere(~np.isfinite(values))[0].tolist())
        raise ValueError(f"image: expected finite values, got {values[index]} at pixel {index[:-1]}")
    return Pixels(values, mask, as_spacing(spacing, axes))


def _check_channels(shape: tuple[int, ...], axes: int, channels: int | None) -> None:
    *lengths, last = shape if len(shape) > axes else (*shape, 1)
    if channels is None:
        if lengths[0] <= 4 < last:
            raise ValueError(
                f"image: expected channels last, got shape {shape}, which looks like channels first; "
                f"move them with np.moveaxis(image, 0, -1), or confirm the shape with channels={last}"
            )
    elif last != as_integer("channels", channels):
        raise ValueError(f"image: expected {channels} channels last, got shape {shape}")


def as_spacing(spacing: Sequence[float] | None, axes: int) -> tuple[float, ...]:
    """The distance of neighbouring pixels along each axis; None gives 1.

    Raises:
        ValueError: if it is not one positive number for each axis.

    Example:
        >>> from gnnlib.images._image import as_spacing
        >>> as_spacing(None, 2), as_spacing([5, 1, 1], 3)
        ((1.0, 1.0), (5.0, 1.0, 1.0))
    """
    steps = np.ones(axes) if spacing is None else np.asarray(spacing)
    if steps.shape != (axes,) or steps.dtype.kind not in "iuf" or not ((steps > 0) & (steps < np.inf)).all():
        raise ValueError(f"spacing: expected a positive number for each of {axes} axes, got {spacing}")
    return tuple(map(float, steps))


def is_image(value: object) -> bool:
    """Whether the value is an array, a tensor, a PIL image or a path.

    Example:
        >>> import numpy as np
        >>> from gnnlib.images._image import is_image
        >>> is_image(np.zeros(3)), is_image((28, 28))
        (True, False)
    """
    return isinstance(value, np.ndarray | Tensor | str | os.PathLike) or hasattr(value, "getbands")


def as_array(image: Image) -> np.ndarray:
    """An image as a numpy array of the same values.

    - A PIL image is turned as its EXIF orientation says. Alpha is dropped, a palette is replaced by its colours, black
      and white becomes grey, and CMYK, YCbCr, HSV and Lab become RGB. Grey of 16 bits is uint16. PIL itself reads
      colour of 16 bits as 8 bits, and the first frame of several.
    - A path is read by PIL.

    Raises:
        ValueError: if a file cannot be read, or the values of PIL's mode I are outside 0 to 65535.
        FileNotFoundError: if there is no file.
        ImportError: if Pillow is not installed.

    Example:
        >>> import torch
        >>> from gnnlib.images._image import as_array
        >>> as_array(torch.zeros(2, 2, dtype=torch.bfloat16)).dtype
        dtype('float64')
    """
    if isinstance(image, str | os.PathLike):
        return read_image(image)
    if isinstance(image, Tensor) and image.is_floating_point():
        image = image.double()  # numpy has no bfloat16
    if hasattr(image, "getbands"):
        return _from_pil(image)
    return to_numpy(image)


def _from_pil(image: Any) -> np.ndarray:
    image = import_pil("ImageOps").exif_transpose(image)
    image = image.convert(PIL_MODES[image.mode]) if image.mode in PIL_MODES else image
    array = np.asarray(image)
    if not image.mode.startswith("I"):
        return array
    if array.min(initial=0) < 0 or array.max(initial=0) > LEVELS[np.dtype(np.uint16)]:
        raise ValueError(f"image: expected values from 0 to 65535, got {array.min()} to {array.max()}")
    return array.astype(np.uint16)


def read_image(path: str | os.PathLike[str]) -> np.ndarray:
    """The picture in a file, as :func:`as_array` takes an image of PIL.

    Raises:
        ValueError: if the file is no picture, or damaged.
        FileNotFoundError: if there is no file.
        ImportError: if Pillow is not installed.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from PIL import Image
        >>> from gnnlib.images._image import read_image
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "grey.png"
        ...     Image.new("LA", (3, 2), (7, 0)).save(path)
        ...     read_image(path)
        array([[7, 7, 7],
               [7, 7, 7]], dtype=uint8)
    """
    with _opened(path) as image:
        return _from_pil(image)


def channels_of(path: str | os.PathLike[str]) -> int:
    """1 or 3: the number of channels of the picture in a file. All of it is read, JPEG at an eighth of its size.

    Raises:
        ValueError: as :func:`read_image`.
        FileNotFoundError: as :func:`read_image`.
        ImportError: as :func:`read_image`.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from PIL import Image
        >>> from gnnlib.images._image import channels_of
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "photo.jpg"
        ...     Image.new("RGB", (300, 200)).save(path)
        ...     channels_of(path)
        3
    """
    with _opened(path) as image:
        image.draft(None, (1, 1))
        array = _from_pil(image)
    return 3 if array.ndim == 3 else 1


@contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[Any]:
    """An image of PIL; its errors get the file's name."""
    path = Path(path).expanduser()
    pil = import_pil("Image")
    if not path.is_file():
        raise FileNotFoundError(f"image: expected a picture's file, got {path}, which does not exist")
    try:
        with pil.open(path) as image:
            yield image
    except Exception as error:  # PIL raises many types for damaged files
        reason = "no picture that Pillow knows" if isinstance(error, pil.UnidentifiedImageError) else error
        raise ValueError(f"image: expected a readable picture in {path}, got: {reason}") from error


def with_channels(array: np.ndarray, channels: int | None) -> np.ndarray:
    """A picture with this number of channels: grey is repeated, colours are weighted to grey.

    Args:
        array: (H, W) or (H, W, C)
        channels: 1, 3, or None for those of the picture

    Shapes:
        - output: (H, W) for one channel, (H, W, 3) for three

    Raises:
        ValueError: if the picture has neither one channel nor three.

    Example:
        >>> import numpy as np
        >>> from gnnlib.images._image import with_channels
        >>> with_channels(np.full((2, 4), 9), 3).shape, with_channels(np.full((1, 1, 3), 9, np.uint8), 1)
        ((2, 4, 3), array([[9]], dtype=uint8))
    """
    if channels is None:
        return array
    if array.ndim not in (2, 3) or array.shape[2:] not in ((), (1,), (3,)):
        raise ValueError(f"image: expected one channel or three, (H, W), (H, W, 1) or (H, W, 3), got {array.shape}")
    colour = array.shape[2:] == (3,)
    if channels == 3:
        return array if colour else np.repeat(array.reshape(*array.shape[:2], 1), 3, axis=2)
    if not colour:
        return array.reshape(array.shape[:2])
    levels = np.rint(grey(array)) if array.dtype in LEVELS else grey(array)
    return levels.astype(array.dtype)


def grey(values: np.ndarray) -> np.ndarray:
    """(\\*, C) to (\\*,): three channels weighted as in PIL's mode L, others averaged.

    Example:
        >>> import numpy as np
        >>> from gnnlib.images._image import grey
        >>> grey(np.array([[1.0, 1.0, 1.0], [0.0, 1.0, 0.0]])).round(3).tolist()
        [1.0, 0.587]
    """
    return values @ LUMA if values.shape[-1] == 3 else values.mean(-1)


def to_numpy(array: Image) -> np.ndarray:
    """An array, a tensor, a PIL image or a file as numpy, without conversion of the PIL mode: for masks and label maps.

    Raises:
        TypeError: if it is a masked array, whose mask would be lost.
    """
    if isinstance(array, str | os.PathLike):
        with _opened(array) as image:
            return np.asarray(image)
    if isinstance(array, np.ma.MaskedArray):
        raise TypeError("expected an array without a mask, got a masked one; pass array.data, and mask=~array.mask")
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


def import_pil(name: str) -> ModuleType:
    """Import a module of Pillow, an optional dependency.

    Raises:
        ImportError: if Pillow is not installed.

    Example:
        >>> from gnnlib.images._image import import_pil
        >>> import_pil("ImageOps").__name__
        'PIL.ImageOps'
    """
    return _import_optional(f"PIL.{name}", "picture files need Pillow")


def import_skimage(name: str) -> ModuleType:
    """Import a subpackage of scikit-image, an optional dependency.

    Raises:
        ImportError: if scikit-image is not installed.

    Example:
        >>> from gnnlib.images._image import import_skimage
        >>> import_skimage("color").__name__
        'skimage.color'
    """
    return _import_optional(f"skimage.{name}", "superpixels need scikit-image")


def _import_optional(module: str, need: str) -> ModuleType:
    try:
        return import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise ImportError(f"{need}: pip install 'gnnlib[images]'", name=package) from error
