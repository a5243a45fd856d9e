"""Folders of pictures, whose subfolders are classes."""

import os
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gnnlib._utils.calls import names_checked
from gnnlib.images._image import as_array, channels_of, with_channels

__all__ = ["ImageFolder", "image_folder"]

SUFFIXES = frozenset((".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"))
NAMED = 5  # unreadable files in a message


@names_checked()
class ImageFolder(Sequence):
    """The pictures of a folder, as :func:`image_folder` returns them: a sequence of arrays, read when asked for.

    A slice is an ``ImageFolder`` of the same classes.

    Args:
        paths: the files, in order.
        classes: names of the classes.
        labels: (G,) int64, the class of each picture; None without classes.
        channels: of every picture, 1 or 3.
        unreadable: files that were skipped, and why.

    Shapes:
        - item: (H, W) for one channel, (H, W, 3) for three; uint8, or uint16 for grey of 16 bits
    """

    def __init__(
        self,
        paths: Sequence[Path],
        classes: Sequence[str],
        labels: Tensor | None,
        channels: int,
        unreadable: dict[Path, str],
    ):
        self.paths, self.classes, self.labels = list(paths), list(classes), labels
        self.channels, self.unreadable = channels, dict(unreadable)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            labels = None if self.labels is None else self.labels[index]
            return ImageFolder(self.paths[index], self.classes, labels, self.channels, self.unreadable)
        return _read(self.paths[index], self.channels)

    def __repr__(self) -> str:
        return f"ImageFolder({len(self)} pictures, classes={self.classes}, channels={self.channels})"


@names_checked()
def image_folder(
    path: str | os.PathLike[str], *, unreadable: str = "raise", channels: int | None = None
) -> ImageFolder:
    """The pictures below a folder. Each subfolder that has any is a class; without subfolders there are no classes.

    Pictures are files with the suffixes of BMP, GIF, JPEG, PNG, TIFF and WebP, in any number of folders below. Hidden
    files and folders are ignored. Classes are in alphabetic order. Pictures are in the order of their class, then of
    their path.

    One picture at a time is in memory. Each is turned as its EXIF orientation says; alpha is dropped; grey of 16 bits
    is uint16, which the converters divide by 65535; Pillow itself reads colour of 16 bits as 8 bits; of several frames
    the first counts. All files are read once at the start (JPEG at an eighth of its size), to find those that are
    damaged.

    Args:
        path: of the folder.
        unreadable: "raise": files that cannot be read are an error; "skip": they are left out, with a warning.
        channels: 1 or 3: of all pictures, converted where needed; None: 3 if any picture has colour, else 1.

    Returns:
        The pictures, a sequence with ``classes``, ``labels``, ``paths`` and ``unreadable``.

    Raises:
        FileNotFoundError: if there is no such folder, or it has no pictures.
        ValueError: if files cannot be read, with their names, and with "skip" if none can.
        ValueError: if pictures are beside the class folders, or an argument is unknown.
        ImportError: if Pillow is not installed.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from PIL import Image
        >>> from gnnlib.images import image_folder
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for name in ("rose/1.png", "daisy/1.png", "daisy/2.jpg"):
        ...         (Path(folder) / name).parent.mkdir(exist_ok=True)
        ...         Image.new("RGB", (6, 4)).save(Path(folder) / name)
        ...     photos = image_folder(folder)
        ...     photos.classes, photos.labels.tolist(), photos[0].shape
        (['daisy', 'rose'], [0, 0, 1], (4, 6, 3))
    """
    if unreadable not in ("raise", "skip"):
        raise ValueError(f"unreadable: expected 'raise' or 'skip', got {unreadable!r}")
    if channels not in (None, 1, 3):
        raise ValueError(f"channels: expected None, 1 or 3, got {channels!r}")
    folder = Path(path).expanduser()
    paths = sorted(_pictures(folder), key=lambda file: file.relative_to(folder).parts)
    if not paths:
        raise FileNotFoundError(f"{folder}: expected a folder of pictures ({', '.join(sorted(SUFFIXES))}), got none")
    classes = _classes(folder, paths)
    errors, colour = _examine(paths)
    if errors:
        _report(folder, errors, unreadable, len(paths))
    paths = [file for file in paths if file not in errors]
    number = {name: label for label, name in enumerate(classes)}
    labels = torch.tensor([number[file.relative_to(folder).parts[0]] for file in paths]) if classes else None
    return ImageFolder(paths, classes, labels, channels or (3 if colour else 1), errors)


def _pictures(folder: Path) -> Iterator[Path]:
    visited = set()  # links may lead back
    for root, folders, files in os.walk(folder, followlinks=True):
        if (place := os.path.realpath(root)) in visited:
            folders.clear()
            continue
        visited.add(place)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in files:
            if Path(name).suffix.lower() in SUFFIXES and not name.startswith("."):
                yield Path(root) / name


def _classes(folder: Path, paths: Sequence[Path]) -> list[str]:
    parts = [file.relative_to(folder).parts for file in paths]
    beside = [names[0] for names in parts if len(names) == 1]
    if beside and len(beside) < len(parts):
        raise ValueError(
            f"{folder}: expected pictures in the folders of their classes, or none in folders, got {beside[0]} beside "
            f"{next(names[0] for names in parts if len(names) > 1)}/"
        )
    return [] if beside else sorted({names[0] for names in parts})


def _examine(paths: Sequence[Path]) -> tuple[dict[Path, str], bool]:
    """Files that cannot be read, with the reasons; and whether any of the others has colour."""
    errors, colour = {}, False
    for path in paths:
        try:
            colour |= channels_of(path) == 3
        except (ValueError, OSError) as error:
            errors[path] = str(error).rpartition(", got: ")[2]
    return errors, colour


def _report(folder: Path, errors: dict[Path, str], unreadable: str, total: int) -> None:
    """Name unreadable files: an error, or a warning if they are skipped."""
    names = [f"{path.relative_to(folder)} ({reason})" for path, reason in errors.items()]
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    text = f"{folder}: expected readable pictures, got {len(names)} of {total} that are not: {', '.join(names[:NAMED])}"
    if unreadable == "raise" or len(errors) == total:
        raise ValueError(f"{text}{more}; remove them, or write unreadable='skip'")
    warnings.warn(f"{text}{more}; they are skipped", RuntimeWarning, stacklevel=3)


def _read(path: Path, channels: int) -> np.ndarray:
    try:
        return with_channels(as_array(path), channels)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
