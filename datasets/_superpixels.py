"""Images as graphs of superpixels, converted once in parallel and then kept in the user's cache."""

import hashlib
import importlib.metadata
import pickle
from pathlib import Path
from typing import Protocol

from torch import Tensor

from gnnlib import data as data_room
from gnnlib import images as images_room
from gnnlib.data import GraphStore
from gnnlib.datasets.files import Folder, cache_dir, digest
from gnnlib.images import images_to_store, recipes

__all__ = ["superpixels"]


class Load(Protocol):
    """A loader of images and labels."""

    __name__: str

    def __call__(self, data: Folder, train: bool) -> tuple[Tensor, Tensor]: ...


def superpixels(
    load: Load,
    data: Folder = None,
    train: bool = True,
    limit: int | None = None,
    recipe: recipes.Recipe = recipes.dwivedi,
    workers: int | None = None,
) -> GraphStore:
    """A data set of images as superpixel graphs: `gnnlib.images.images_to_store` of its images, made here, so not the
    files that the authors of a recipe published.

    Args:
        load: `mnist`, `fashion`, `cifar10`, or another one that gives images (n, H, W) or (n, C, H, W), and labels.
        data: its directory.
        train: the training images, else the test images.
        limit: convert the first so many images; None for all.
        recipe: how, from `gnnlib.images.recipes`.
        workers: processes that convert; 0 for none but this one; None for one a core, or fewer where there is little to
            do.

    Returns:
        the store of the graphs and their labels (graphs,), int64, in order; ndata and edata are the recipe's.

    Raises:
        ValueError: ``limit`` below 1 or above the number of images.
        ImportError: scikit-image is not installed.
        FileNotFoundError, FormatError: as ``load``.

    >>> store = superpixels(datasets.mnist, limit=1000)  # doctest: +SKIP
    >>> store[0].ndata["pos"].shape  # doctest: +SKIP
    torch.Size([71, 2])
    """
    images, labels = load(data, train)
    count = len(images) if limit is None else limit
    if not 1 <= count <= len(images):
        raise ValueError(f"expected limit from 1 to {len(images)}, the number of images, received {limit}")
    images, labels = images[:count], labels[:count]
    folder = cache_dir() / "superpixels" / f"{load.__name__}-{_key(images, labels, recipe)}"
    pixels = images if images.dim() == 3 else images.movedim(1, -1)
    return images_to_store(pixels.numpy(), recipe, folder, labels, workers)


def _key(images: Tensor, labels: Tensor, recipe: recipes.Recipe) -> str:
    """A name for what the store depends on: the recipe, scikit-image, our own code, the images and the labels."""
    rooms = (images_room, data_room)
    code = [digest(file) for room in rooms for file in sorted(Path(room.__path__[0]).glob("*.py"))]
    what = pickle.dumps([recipe, importlib.metadata.version("scikit-image"), code, images.shape])
    return hashlib.sha256(what + images.numpy().tobytes() + labels.numpy().tobytes()).hexdigest()[:16]
