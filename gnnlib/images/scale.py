"""Conversion of image data sets to graph stores: parallel, resumable and memory-mapped."""

import ast
import hashlib
import importlib.metadata
import inspect
import json
import multiprocessing
import os
import pickle
import re
import shutil
import textwrap
import warnings
import zipfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor

from gnnlib._platform.modules import module_as
from gnnlib._utils.calls import names_checked
from gnnlib._utils.progress import ProgressBar
from gnnlib._utils.workers import start_worker
from gnnlib.data import archive
from gnnlib.data.flat import FlatGraphs
from gnnlib.data.store import GraphStore
from gnnlib.images import maps
from gnnlib.images._image import Image, as_array, import_skimage
from gnnlib.images.folder import image_folder
from gnnlib.images.recipes import Recipe
from gnnlib.images.superpixels import graph_from_arrays

__all__ = ["about_store", "images_to_store"]

PART = 250_000  # about as many pixels per job of a worker, the most that is lost if it is killed
PARTS_PER_WORKER = 10  # at least: a worker takes seconds to start
LAYOUT = {
    "bytes",
    "checksum",
    "checksums",
    "columns",
    "label_maps_checksum",
    "magic",
    "version",
}  # of the header, about the file
Images = Sequence[Image] | np.ndarray | Tensor
Columns = dict[str, tuple]


@names_checked()
def images_to_store(
    images: Images | str | os.PathLike[str],
    recipe: Recipe,
    out: str | os.PathLike[str],
    labels: Tensor | Sequence | None = None,
    workers: int | None = None,
    *,
    label_maps: bool = False,
) -> GraphStore:
    """Convert images to graphs, stored in a folder as a memory-mapped `GraphStore`.

    The images are converted in parallel, with a progress bar on a terminal. A run that was killed resumes where it
    stopped, and a complete store is not converted again. Memory does not depend on the number of images; during the
    conversion the folder takes twice the space of the store.

    A header in the folder records the recipe, scikit-image's version and hashes of the images and labels; another
    conversion into the same folder is an error. The caller's functions in a recipe are compared by name and source,
    without the functions that they call. A damaged store is reported as a RuntimeWarning and rebuilt.
    :meth:`GraphStore.open` opens a store without the images. :func:`about_store` returns what the header says, with the
    number of segments that was requested and the numbers that resulted; the progress bar shows both.

    Args:
        images: (G, H, W) or (G, H, W, C), or any sequence of images of any size, with equal channels, each as for
            :func:`~gnnlib.images.superpixel_graph`, paths among them; or an :func:`~gnnlib.images.image_folder`, or the
            path of one. They are read twice, once to compute their hash.
        recipe: from `gnnlib.images.recipes`, or a custom one.
        out: the folder of the store.
        labels: a value for each image, (G, \\*); None for those of an ``image_folder``, or none.
        workers: number of worker processes; 0: convert in this process; None: one per core, or fewer for small data.
            They are spawned and do not run the caller's script.
        label_maps: whether to keep the map from pixels to nodes of every image, for :func:`label_maps`.

    Returns:
        The store. Its graphs equal ``recipe(image)`` bit for bit, without the ``label_map``.

    Raises:
        ValueError: if there are no images, or the number of labels differs from that of images.
        ValueError: if the folder has a store of another recipe, scikit-image, images or labels.
        ValueError: if an image is not finite, empty, of another number of axes, or of other channels than the first;
            the message has its number.
        TypeError: if ``recipe`` is not a recipe, or it raises one; the message has the image's number.
        TypeError: if the recipe has functions that a worker cannot import, such as those of a script.
        ImportError: if scikit-image is not installed.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> from gnnlib.images import images_to_store, recipes
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     store = images_to_store(np.zeros((5, 28, 28)), recipes.avelar, folder, labels=[3, 1, 4, 1, 5])
        ...     graph, labels = next(iter(store.loader(batch_size=5)))
        >>> graph.batch_num_nodes().tolist(), labels.tolist()
        ([81, 81, 81, 81, 81], [3, 1, 4, 1, 5])
    """
    if not isinstance(recipe, Recipe):
        raise TypeError(f"recipe: expected one such as gnnlib.images.recipes.dwivedi, got {_first_line(recipe)}")
    images = image_folder(images) if isinstance(images, str | os.PathLike) else images
    labels = getattr(images, "labels", None) if labels is None else labels
    labels = None if labels is None else torch.as_tensor(labels).detach().cpu()
    if len(images) == 0:
        raise ValueError("images: expected at least one, got none")
    shape = tuple(getattr(images, "shape", ()))
    if len(shape) == 3 and shape[-1] in (3, 4):
        raise ValueError(f"images: expected (G, H, W) or (G, H, W, C), images[None] for a single one, got {shape}")
    if labels is not None and labels.shape[:1] != (len(images),):
        raise ValueError(f"labels: expected one for each of {len(images)} images, got shape {tuple(labels.shape)}")
    folder = Path(out).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    header = _header(images, recipe, labels) | ({"label_maps": True} if label_maps else {})
    with FileLock(folder / "lock"):
        if not _is_complete(folder, header):
            place = folder / "parts" / _digest(json.dumps([header, PART]))[:16]
            parts = _convert_all(images, recipe, place, workers, label_maps)
            checksum = {"label_maps_checksum": maps.join(folder, parts)} if label_maps else {}
            archive.join(folder, parts, header | checksum | {"segments": _segments(recipe, parts)}, labels)
            shutil.rmtree(folder / "parts")
    return GraphStore.open(folder)


@names_checked()
def about_store(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """What :func:`images_to_store` recorded beside the graphs.

    Args:
        folder: of the store.

    Returns:
        Among others ``recipe``, ``scikit-image`` (its version), ``graphs`` (their number) and ``segments``: the
        ``requested`` number, None if the recipe has none, and the ``mean``, ``min`` and ``max`` of those that resulted.

    Raises:
        ValueError: if the folder has no store, or its header is damaged.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> from gnnlib.images import about_store, images_to_store, recipes
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = images_to_store(np.zeros((5, 28, 28)), recipes.avelar, folder)
        ...     about_store(folder)["segments"]
        {'requested': 75, 'mean': 81.0, 'min': 81, 'max': 81}
    """
    try:
        header = archive.read_header(Path(folder).expanduser())
    except ValueError as error:
        raise ValueError(f"{folder}: expected an intact store of graphs; {error}") from error
    return {name: value for name, value in header.items() if name not in LAYOUT}


def _header(images: Images, recipe: Recipe, labels: Tensor | None) -> dict[str, Any]:
    """What the store depends on."""
    import_skimage("segmentation")  # raises if it is not installed
    checksum = hashlib.sha256()
    for i in range(len(images)):
        pixels = np.ascontiguousarray(as_array(images[i]))
        checksum.update(f"{pixels.dtype.str} {pixels.shape}".encode())
        checksum.update(pixels.data)
    functions = {f"{one.__module__}.{one.__qualname__}": _source(one) for one in recipe.functions()}
    functions = {name: source for name, source in functions.items() if not name.startswith("gnnlib.")}
    return {
        "recipe": re.sub(" at 0x[0-9a-f]+", "", repr(recipe)),
        **({} if recipe.channels is None else {"channels": recipe.channels}),
        **({"functions": functions} if functions else {}),
        "scikit-image": importlib.metadata.version("scikit-image"),
        "graphs": len(images),
        "images": checksum.hexdigest(),
        "labels": None if labels is None else _digest(f"{labels.dtype} {labels.tolist()}"),
    }


def _source(function: Callable) -> str:
    """A hash of the source without comments; empty where there is none."""
    try:
        return _digest(ast.dump(ast.parse(textwrap.dedent(inspect.getsource(function)))))[:16]
    except (OSError, SyntaxError):
        return ""


def _segments(recipe: Recipe, parts: Sequence[Path]) -> dict[str, Any]:
    """The requested number of segments, and the numbers that resulted."""
    sizes = np.concatenate([np.diff(np.load(part)["nodes"]) for part in parts])
    mean, low, high = round(float(sizes.mean()), 2), int(sizes.min()), int(sizes.max())
    return {"requested": _requested(recipe), "mean": mean, "min": low, "max": high}


def _requested(recipe: Recipe) -> int | None:
    segmentation = recipe.segment
    arguments = segmentation.keywords if isinstance(segmentation, partial) else vars(segmentation)
    return arguments.get("num_segments")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _is_complete(folder: Path, header: dict[str, Any]) -> bool:
    """Whether the folder has this store.

    Raises:
        ValueError: if it has a store with another header.
    """
    if not (folder / "store.json").exists():
        return False
    if damage := archive.damage(folder) or ("label_maps" in header and maps.damage(folder)):
        warnings.warn(f"damaged store {folder}: {damage}; rebuilding it", RuntimeWarning, stacklevel=3)
        return False
    stored = archive.read_header(folder)
    for name, expected in header.items():
        if stored.get(name) != expected:
            raise ValueError(
                f"{folder}: expected the store of {name} {expected}, got {stored.get(name)}; "
                "name another folder, or remove this one"
            )
    return True


def _first_line(value: object) -> str:
    return f"{value!r:.60}".partition("\n")[0]


def _convert_all(images: Images, recipe: Recipe, folder: Path, workers: int | None, label_maps: bool) -> list[Path]:
    """One file per part of the images; intact files are reused."""
    folder.mkdir(parents=True, exist_ok=True)
    arrays, label_map = _graph(recipe, images[0], 0)
    columns, pixels = _columns(arrays), label_map.size
    starts = range(0, len(images), max(1, PART // pixels))
    parts = {folder / f"{first:09}.npz": range(len(images))[first : first + starts.step] for first in starts}
    files = {path: [path, maps.beside(path)] if label_maps else [path] for path in parts}
    missing = [path for path in parts if not all(map(_is_intact, files[path]))]
    if workers is None:
        workers = min(len(os.sched_getaffinity(0)), len(missing) // PARTS_PER_WORKER)
    jobs = (
        (recipe, [_for_worker(images[i]) for i in parts[path]], parts[path].start, columns, path, label_maps)
        for path in missing
    )
    num_images = num_nodes = 0
    done = len(images) - sum(len(parts[path]) for path in missing)
    with ProgressBar("images to graphs", len(images), done=done) as bar:
        for count, nodes in _in_parallel(jobs, workers) if workers else (_convert(*job) for job in jobs):
            num_images, num_nodes = num_images + count, num_nodes + nodes
            bar.advance(count, f"{num_nodes / num_images:.1f} segments, {_requested(recipe)} requested")
    return list(parts)


def _for_worker(image: Image) -> Image:
    """An array; a path remains one, which the worker reads."""
    return image if isinstance(image, str | os.PathLike) else as_array(image)


def _is_intact(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as file:
            return file.testzip() is None
    except (OSError, zipfile.BadZipFile):
        return False


def _in_parallel(jobs: Iterator[tuple], workers: int) -> Iterator[tuple[int, int]]:
    """The results of `_convert` in the order of the jobs. A few jobs per worker are in memory at a time."""
    futures: deque = deque()
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), start_worker)
    try:
        for job in jobs:
            with module_as("__main__", ModuleType("__main__")):  # else every worker would run the caller's script
                _check_importable(job[0])
                futures.append(pool.submit(_convert, *job))
            if len(futures) > 2 * workers:
                yield futures.popleft().result()
        while futures:
            yield futures.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _check_importable(recipe: Recipe) -> None:
    try:
        pickle.dumps(recipe)
    except (pickle.PicklingError, AttributeError) as error:
        raise TypeError(
            f"recipe: expected functions that a worker process can import, got {error}; define them in a module and "
            "import it, or write workers=0"
        ) from error


def _convert(
    recipe: Recipe, images: list[Image], first: int, columns: Columns, path: Path, label_maps: bool
) -> tuple[int, int]:
    """Write the graphs of some images, the first of which has the number ``first``; return the numbers of images and
    nodes."""
    graphs, pixel_maps = zip(*(_graph(recipe, image, number) for number, image in enumerate(images, first)))
    for number, arrays in enumerate(graphs, first):
        if _columns(arrays) != columns:
            raise ValueError(f"image {number}: expected columns as of image 0, {columns}, got {_columns(arrays)}")
    nodes, edges = (torch.tensor([len(arrays[name]) for arrays in graphs]) for name in ("pos", "src"))
    batch = {name: np.concatenate([arrays[name] for arrays in graphs]) for name in columns}
    first_node = torch.repeat_interleave(nodes.cumsum(0) - nodes, edges).numpy()
    graph = graph_from_arrays(batch | {name: batch[name] + first_node for name in ("src", "dst")})
    graph.set_batch_num_nodes(nodes)
    graph.set_batch_num_edges(edges)
    if label_maps:
        maps.save_part(path, pixel_maps)
    archive.save_part(path, FlatGraphs.of_batch(graph, by=["csr"]))  # edges are sorted by destination
    return len(images), int(nodes.sum())


def _graph(recipe: Recipe, image: Image, number: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The arrays of the graph and the map from pixels to nodes."""
    try:
        regions = recipe.regions(image)
        return recipe.region_arrays(regions), regions.label_map
    except (ValueError, TypeError) as error:
        raise type(error)(f"image {number}: {str(error).removeprefix('image: ')}") from error


def _columns(arrays: dict[str, np.ndarray]) -> Columns:
    return {name: array.shape[1:] for name, array in arrays.items()}
