"""MNIST as graphs of superpixels, converted once in parallel and then kept in the user's cache."""

import hashlib
import importlib.metadata
import multiprocessing
import os
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

from gnnlib import images as converter
from gnnlib._dgl import dgl
from gnnlib._modules import module_as

from .files import Folder, cache_dir, cached, digest, track
from .mnist import mnist

__all__ = ["mnist_superpixels"]

CHUNK = 250  # images a worker takes at a time
ARRAYS = ("src", "dst", "feat", "pos", "weight")
Arrays = dict[str, Any]  # of numpy arrays


def mnist_superpixels(
    data: Folder = None,
    train: bool = True,
    limit: int | None = None,
    num_segments: int = 75,
    k: int = 8,
    workers: int | None = None,
) -> tuple[list[dgl.DGLGraph], torch.Tensor]:
    """MNIST as superpixel graphs: `gnnlib.images.superpixel_graph` of each image.

    After Monti et al. 2017 (arXiv 1611.08402), who have 75 superpixels, and Dwivedi et al. 2020 (arXiv 2003.00982), who
    join each to its 8 nearest; made here from the images, so not the files that either published.

    Args:
        data: MNIST's directory, as for `mnist`.
        train: the training images, else the test images.
        limit: convert the first so many images; None for all.
        num_segments: superpixels to ask for in each image.
        k: neighbours of each superpixel.
        workers: processes that convert; 0 for none but this one; None for one a core, or 0 where there is little to do.

    Returns:
        the graphs, with ndata ``feat`` (n, 1), mean intensity from 0 to 1, and ``pos`` (n, 2), centroid in pixels (row,
        column), and edata ``weight`` (e,) and ``offset`` (e, 2); and the labels (graphs,), int64.

    Raises:
        ValueError: ``limit`` below 1 or above the number of images.
        ImportError: scikit-image is not installed.
        FileNotFoundError, FormatError: as `mnist`.

    >>> graphs, labels = mnist_superpixels(limit=1000)  # doctest: +SKIP
    >>> graphs[0].ndata["pos"].shape  # doctest: +SKIP
    torch.Size([71, 2])
    """
    images, labels = mnist(data, train)
    count = len(images) if limit is None else limit
    if not 1 <= count <= len(images):
        raise ValueError(f"expected limit from 1 to {len(images)}, the number of images, received {limit}")
    pixels = images[:count].numpy()
    path = cache_dir() / "superpixels" / f"mnist-{_key(pixels, num_segments, k)}.npz"

    def convert(part: Path) -> None:
        np.savez(part, **_convert_all(pixels, num_segments, k, workers))

    with np.load(cached(path, convert), allow_pickle=False) as arrays:
        return _graphs(arrays), labels[:count]


def _key(pixels: np.ndarray, num_segments: int, k: int) -> str:
    """A name for what the conversion depends on: the arguments, scikit-image, our own code, and the images."""
    code = [digest(file) for file in sorted(Path(converter.__path__[0]).glob("*.py"))]
    recipe = [num_segments, k, importlib.metadata.version("scikit-image"), code, pixels.shape]
    return hashlib.sha256(repr(recipe).encode() + pixels.tobytes()).hexdigest()[:16]


def _convert_all(pixels: np.ndarray, num_segments: int, k: int, workers: int | None) -> Arrays:
    if workers is None:
        workers = min(len(os.sched_getaffinity(0)), len(pixels) // (10 * CHUNK))  # a worker takes seconds to start
    chunks = np.array_split(pixels, -(-len(pixels) // CHUNK))
    what = f"{len(pixels)} images into superpixels"
    if workers == 0:
        return _concatenate([_convert(chunk, num_segments, k) for chunk in track(chunks, what)])
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        with module_as("__main__", ModuleType("__main__")):  # else each worker would run the caller's script again
            parts = pool.map(_convert, chunks, [num_segments] * len(chunks), [k] * len(chunks))
        return _concatenate(list(track(parts, what, len(chunks))))


def _convert(pixels: np.ndarray, num_segments: int, k: int) -> Arrays:
    """The graphs of some images as flat arrays, which pass between processes where a DGLGraph is better not sent."""
    parts = []
    for image in pixels:
        part = converter.superpixel_arrays(image, num_segments, k)
        sizes = {"num_nodes": np.array([len(part["feat"])]), "num_edges": np.array([len(part["src"])])}
        parts.append({name: a.astype(np.int32) if a.dtype == np.int64 else a for name, a in (part | sizes).items()})
    return _concatenate(parts)


def _concatenate(parts: list[Arrays]) -> Arrays:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _graphs(arrays: Mapping[str, Any]) -> list[dgl.DGLGraph]:
    """One graph after the other out of the flat arrays, each with memory of its own: a view pickles the whole set."""
    sizes = {name: "num_edges" if name in ("src", "dst", "weight") else "num_nodes" for name in ARRAYS}
    pieces = [np.split(arrays[name], arrays[sizes[name]].cumsum()[:-1]) for name in ARRAYS]
    graphs = []
    for parts in track(zip(*pieces, strict=True), "superpixel graphs", len(pieces[0])):
        parts = [np.array(p, np.int64 if p.dtype == np.int32 else p.dtype) for p in parts]
        graphs.append(converter.graph_from_arrays(dict(zip(ARRAYS, parts, strict=True))))
    return graphs
