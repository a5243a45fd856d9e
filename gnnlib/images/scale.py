"""A data set of images as a store of graphs: converted in parallel, resumed where it stopped, memory-mapped."""

import hashlib
import importlib.metadata
import json
import math
import multiprocessing
import os
import pickle
import re
import shutil
import warnings
import zipfile
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor
from tqdm import tqdm  # type: ignore[import-untyped]

from gnnlib._platform.modules import module_as
from gnnlib._utils.workers import start_worker
from gnnlib.data import archive
from gnnlib.data.flat import FlatGraphs
from gnnlib.data.store import GraphStore
from gnnlib.images._image import Image, as_array, import_skimage
from gnnlib.images.recipes import Recipe
from gnnlib.images.superpixels import graph_from_arrays

__all__ = ["images_to_store"]

PART = 250_000  # pixels, about, that a worker converts at a time: what is lost, at most, when it is killed
ENOUGH = 10  # parts for each worker, which takes seconds to start
Images = Sequence[Image] | np.ndarray | Tensor
Columns = dict[str, tuple]


def images_to_store(
    images: Images,
    recipe: Recipe,
    out: str | os.PathLike[str],
    labels: Tensor | Sequence | None = None,
    workers: int | None = None,
) -> GraphStore:
    """The graphs of many images under a recipe, as a `GraphStore` that is kept in a folder and memory-mapped.

    The images are converted in parallel, some at a time, with a progress bar where there is a terminal. A run that was
    killed, at any moment, goes on where it stopped. Of a store that is whole nothing is converted again. Memory does
    not depend on the number of images; while a store is being made, it takes twice its space on the disk.

    A note in the folder has the recipe, scikit-image's version and hashes of the images and labels, and the folder is
    refused for others (functions in a recipe are known by their names). A damaged store is named in a RuntimeWarning
    and made again. :meth:`GraphStore.open` says what is verified, and opens a store without the images.

    Args:
        images: (G, H, W) or (G, H, W, C), or any sequence of images of any size, with equal channels, each as for
            :func:`~gnnlib.images.superpixel_graph`. They are read twice, once to know them.
        recipe: from `gnnlib.images.recipes`, or one's own.
        out: the folder, of this one store.
        labels: a value for each image, (G, \\*).
        workers: processes that convert; 0 for none but this one; None for one a core, or fewer where there is little to
            do. They are spawned, and do not run the caller's script.

    Each graph is that of ``recipe(image)``, bit for bit, without its ``label_map``.

    Raises:
        ValueError: for no images; labels of another number; a folder with a store of another recipe, scikit-image,
            images or labels; and with the image's number, for one that is not finite, empty, of another number of axes
            or of other channels than the first.
        TypeError: as the recipe, with the image's number; and for what is no recipe.
        pickle.PicklingError: for a recipe with functions that a worker cannot import, such as a script's own.
        ImportError: without scikit-image.

    >>> import tempfile
    >>> from gnnlib.images import recipes
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     store = images_to_store(np.zeros((5, 28, 28)), recipes.avelar, folder, labels=[3, 1, 4, 1, 5])
    ...     graph, labels = next(iter(store.loader(batch_size=5)))
    >>> graph.batch_num_nodes().tolist(), labels.tolist()
    ([81, 81, 81, 81, 81], [3, 1, 4, 1, 5])
    """
    if not hasattr(recipe, "arrays"):
        raise TypeError(f"recipe: expected one such as gnnlib.images.recipes.dwivedi, got {recipe!r}")
    labels = None if labels is None else torch.as_tensor(labels).detach().cpu()
    if len(images) == 0:
        raise ValueError("images: expected at least one, got none")
    if labels is not None and labels.shape[:1] != (len(images),):
        raise ValueError(f"labels: expected one for each of {len(images)} images, got shape {tuple(labels.shape)}")
    folder = Path(out).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    about = _about(images, recipe, labels)
    with FileLock(folder / "lock"):
        if not _is_whole(folder, about):
            parts = _convert_all(images, recipe, folder / "parts" / _digest(json.dumps([about, PART]))[:16], workers)
            archive.join(folder, parts, about, labels)
            shutil.rmtree(folder / "parts")
    return GraphStore.open(folder)


def _about(images: Images, recipe: Recipe, labels: Tensor | None) -> dict[str, Any]:
    """What a store is made of."""
    import_skimage("segmentation")
    whole = hashlib.sha256()
    for i in range(len(images)):
        pixels = np.ascontiguousarray(as_array(images[i]))
        whole.update(f"{pixels.dtype.str} {pixels.shape}".encode())
        whole.update(pixels.data)
    return {
        "recipe": re.sub(" at 0x[0-9a-f]+", "", repr(recipe)),
        "scikit-image": importlib.metadata.version("scikit-image"),
        "graphs": len(images),
        "images": whole.hexdigest(),
        "labels": None if labels is None else _digest(f"{labels.dtype} {labels.tolist()}"),
    }


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _is_whole(folder: Path, about: dict[str, Any]) -> bool:
    """Raises: ValueError for the store of something else."""
    if not (folder / "store.json").exists():
        return False
    if wrong := archive.damage(folder):
        warnings.warn(f"damaged store {folder}: {wrong}; making it again", RuntimeWarning, stacklevel=3)
        return False
    found = archive.note(folder)
    for name, expected in about.items():
        if found.get(name) != expected:
            raise ValueError(
                f"{folder}: expected the store of {name} {expected}, got {found.get(name)}; "
                "name another folder, or remove this one"
            )
    return True


def _convert_all(images: Images, recipe: Recipe, folder: Path, workers: int | None) -> list[Path]:
    """A file for each part of the images; those that are there are not made again."""
    folder.mkdir(parents=True, exist_ok=True)
    like, pixels = _columns(_arrays(recipe, images[0], 0)), math.prod(as_array(images[0]).shape[:2])
    starts = range(0, len(images), max(1, PART // pixels))
    parts = {folder / f"{first:09}.npz": range(len(images))[first : first + starts.step] for first in starts}
    missing = [path for path in parts if not _is_intact(path)]
    if workers is None:
        workers = min(len(os.sched_getaffinity(0)), len(missing) // ENOUGH)
    jobs = ((recipe, [as_array(images[i]) for i in parts[path]], parts[path].start, like, path) for path in missing)
    with tqdm(total=len(images), desc="images to graphs", unit="image", disable=None) as bar:
        bar.update(len(images) - sum(len(parts[path]) for path in missing))
        for done in _in_parallel(jobs, workers) if workers else (_convert(*job) for job in jobs):
            bar.update(done)
    return list(parts)


def _is_intact(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as file:
            return file.testzip() is None
    except (OSError, zipfile.BadZipFile):
        return False


def _in_parallel(jobs: Iterator[tuple], workers: int) -> Iterator[int]:
    """What `_convert` returns for each job, in order. A few jobs for each worker are in memory at a time."""
    ahead: deque = deque()
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), start_worker)
    try:
        for job in jobs:
            with module_as("__main__", ModuleType("__main__")):  # else each worker would run the caller's script again
                pickle.dumps(job[0])  # says here what a worker would not find
                ahead.append(pool.submit(_convert, *job))
            if len(ahead) > 2 * workers:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _convert(recipe: Recipe, images: list[np.ndarray], first: int, like: Columns, path: Path) -> int:
    """Writes the graphs of some images, the first of which has this number."""
    found = [_arrays(recipe, image, number) for number, image in enumerate(images, first)]
    for number, arrays in enumerate(found, first):
        if _columns(arrays) != like:
            raise ValueError(f"image {number}: expected columns as of image 0, {like}, got {_columns(arrays)}")
    nodes, edges = (torch.tensor([len(arrays[name]) for arrays in found]) for name in ("pos", "src"))
    together = {name: np.concatenate([arrays[name] for arrays in found]) for name in like}
    before = torch.repeat_interleave(nodes.cumsum(0) - nodes, edges).numpy()
    graph = graph_from_arrays(together | {end: together[end] + before for end in ("src", "dst")})
    graph.set_batch_num_nodes(nodes)
    graph.set_batch_num_edges(edges)
    archive.save_part(path, FlatGraphs.of_batch(graph, by=["csr"]))  # edges are sorted by destination
    return len(images)


def _arrays(recipe: Recipe, image: Image, number: int) -> dict[str, np.ndarray]:
    try:
        return recipe.arrays(image)
    except (ValueError, TypeError) as error:
        raise type(error)(f"image {number}: {str(error).removeprefix('image: ')}") from error


def _columns(arrays: dict[str, np.ndarray]) -> Columns:
    return {name: array.shape[1:] for name, array in arrays.items()}
