"""What all pictures share: matplotlib when it is needed, axes, and values of nodes as images."""

from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from torch import Tensor

from gnnlib._platform.dgl import dgl

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Image: TypeAlias = Tensor | np.ndarray

SEEN, LINE, NODE = "#ffb000", "#8a8f98", "#d81b60"


def matplotlib(part: str) -> Any:
    try:
        return import_module(f"matplotlib.{part}")
    except ImportError as error:
        raise ImportError("pictures need matplotlib: pip install 'gnnlib[bench]'", name="matplotlib") from error


def new_axes(count: int, given: "Sequence[Axes] | None") -> "list[Axes]":
    if given is None:
        side = min(3.0, 12 / count)
        figure = matplotlib("figure").Figure(figsize=(side * count, side + 0.4), layout="constrained")
        given = figure.subplots(1, count, squeeze=False)[0]
    if len(given) != count:
        raise ValueError(f"axes: expected {count}, got {len(given)}")
    return list(given)


def one_axes(given: "Axes | None") -> "Axes":
    return new_axes(1, None if given is None else [given])[0]


def as_array(values: Image) -> np.ndarray:
    return np.asarray(values.detach().cpu() if isinstance(values, Tensor) else values, dtype=float)


def node_at_pixels(graph: dgl.DGLGraph, labels: Image | None) -> np.ndarray:
    """The source at each pixel, (rows, columns); -1 where there is none."""
    if labels is not None:
        node_at, last = as_array(labels).astype(int), graph.num_src_nodes() - 1
        if node_at.ndim != 2 or node_at.min() < 0 or node_at.max() > last:
            raise ValueError(
                f"labels: expected (rows, columns) of numbers from 0 to {last}, "
                f"got shape {node_at.shape} and {node_at.min()} to {node_at.max()}"
            )
        return node_at
    if "pos" not in graph.srcdata:
        raise KeyError(f'expected a graph with srcdata["pos"], got srcdata with {sorted(graph.srcdata)}')
    exact = graph.srcdata["pos"].cpu()
    pos = exact.long()
    if pos.shape[1] != 2 or bool((pos != exact).any() | (pos < 0).any()) or len(pos.unique(dim=0)) < len(pos):
        raise ValueError("expected nodes at the pixels of one image, each at its own; superpixels need labels")
    node_at = np.full(tuple(pos.amax(0) + 1), -1)
    node_at[tuple(pos.T)] = np.arange(len(pos))
    return node_at


def painted(values: Tensor, node_at: np.ndarray) -> np.ndarray:
    """A value for each source as an image; NaN where there is none."""
    return np.append(as_array(values), np.nan)[node_at]


def borders(node_at: np.ndarray) -> np.ndarray:
    """Lines (L, 2, 2) from x, y to x, y between pixels of different nodes."""
    above, left = np.argwhere(np.diff(node_at, axis=0)), np.argwhere(np.diff(node_at, axis=1))
    across = above[:, None, ::-1] + [[-0.5, 0.5], [0.5, 0.5]]
    down = left[:, None, ::-1] + [[0.5, -0.5], [0.5, 0.5]]
    return np.concatenate([across, down])


def show_grey(ax: "Axes", image: Tensor, title: str) -> None:
    ax.imshow(as_array(image), cmap="gray", interpolation="nearest")
    ax.set_title(title, fontsize=10)
    ax.set_axis_off()


def show_signed(ax: "Axes", image: Image, title: str, size: float | None = None) -> None:
    """White at 0, red above, blue below."""
    values = as_array(image)
    limit = (float(np.nanmax(np.abs(values))) if size is None else size) or 1.0
    ax.imshow(values, cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest")
    ax.set_title(title, fontsize=10)
    ax.set_axis_off()
