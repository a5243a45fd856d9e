"""Superpixel graphs of image data sets, converted in parallel and cached."""

import hashlib
import importlib.metadata
import pickle
from pathlib import Path
from typing import Protocol

from torch import Tensor

from gnnlib import data as data_package
from gnnlib import images as images_package
from gnnlib._utils.calls import names_checked
from gnnlib.data import GraphStore
from gnnlib.datasets.files import Folder, cache_dir, digest
from gnnlib.images import images_to_store, recipes

__all__ = ["superpixels"]


class Load(Protocol):
    """A loader of images and labels."""

    __name__: str

    def __call__(self, data: Folder, train: bool) -> tuple[Tensor, Tensor]: ...


@names_checked()
def superpixels(
    load: Load,
    data: Folder = None,
    train: bool = True,
    limit: int | None = None,
    recipe: recipes.Recipe = recipes.dwivedi,
    workers: int | None = None,
) -> GraphStore:
    """Superpixel graphs of an image data set, by `gnnlib.images.images_to_store`. (They are not the files that the
    authors of a recipe published.)

    Args:
        load: `mnist`, `fashion`, `cifar10`, or another function that returns images (n, H, W) or (n, C, H, W), and
            labels.
        data: the data directory of ``load``.
        train: the training images, else the test images.
        limit: number of images to convert, from the first; None: all.
        recipe: from `gnnlib.images.recipes`.
        workers: number of worker processes; 0: convert in this process; None: one per core, or fewer for small data.

    Returns:
        the store of the graphs and their labels (graphs,), int64, in order; ndata and edata are the recipe's.

    Raises:
        ValueError: if ``limit`` is below 1 or above the number of images.
        ImportError: if scikit-image is not installed.
        FileNotFoundError: as ``load``.
        FormatError: as ``load``.

    Example:
        >>> from gnnlib.datasets import mnist, superpixels
        >>> store = superpixels(mnist, limit=1000)  # doctest: +SKIP
        >>> store[0].ndata["pos"].shape  # doctest: +SKIP
        torch.Size([71, 2])
    """
    images, labels = load(data, train)
    count = len(images) if limit is None else limit
    if not 1 <= count <= len(images):
        raise ValueError(f"expected limit from 1 to {len(images)}, the number of images, got {limit}")
    images, labels = images[:count], labels[:count]
    folder = cache_dir() / "superpixels" / f"{load.__name__}-{_key(images, labels, recipe)}"
    pixels = images if images.dim() == 3 else images.movedim(1, -1)
    return images_to_store(pixels.numpy(), recipe, folder, labels, workers)


def _key(images: Tensor, labels: Tensor, recipe: recipes.Recipe) -> str:
    """A hash of what the store depends on: the recipe, scikit-image, this library's code, the images and the labels."""
    packages = (images_package, data_package)
    code = [digest(file) for package in packages for file in sorted(Path(package.__path__[0]).glob("*.py"))]
    settings = pickle.dumps([recipe, importlib.metadata.version("scikit-image"), code, images.shape])
    return hashlib.sha256(settings + images.numpy().tobytes() + labels.numpy().tobytes()).hexdigest()[:16]
