"""Helpers of the plots: lazy import of matplotlib, axes, and node values as images."""

from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from torch import Tensor

from gnnlib.graph import GraphLike

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Image: TypeAlias = Tensor | np.ndarray

FIELD, LINE, NODE = "#ffb000", "#8a8f98", "#d81b60"


def matplotlib(part: str) -> Any:
    try:
        return import_module(f"matplotlib.{part}")
    except ImportError as error:
        raise ImportError("pictures need matplotlib: pip install 'gnnlib[bench]'", name="matplotlib") from error


def new_axes(count: int, axes: "Sequence[Axes] | None") -> "list[Axes]":
    if axes is None:
        side = min(3.0, 12 / count)
        figure = matplotlib("figure").Figure(figsize=(side * count, side + 0.4), layout="constrained")
        axes = figure.subplots(1, count, squeeze=False)[0]
    if len(axes) != count:
        raise ValueError(f"axes: expected {count}, got {len(axes)}")
    return list(axes)


def one_axes(ax: "Axes | None") -> "Axes":
    return new_axes(1, None if ax is None else [ax])[0]


def as_array(values: Image) -> np.ndarray:
    return np.asarray(values.detach().cpu() if isinstance(values, Tensor) else values, dtype=float)


def node_at_pixels(graph: GraphLike, labels: Image | None) -> np.ndarray:
    """The source node at each pixel, (rows, columns); -1 for pixels without one."""
    if labels is not None:
        label_map, last = as_array(labels).astype(int), graph.num_src_nodes() - 1
        if label_map.ndim != 2 or label_map.min() < 0 or label_map.max() > last:
            raise ValueError(
                f"labels: expected (rows, columns) of numbers from 0 to {last}, "
                f"got shape {label_map.shape} and {label_map.min()} to {label_map.max()}"
            )
        return label_map
    if "pos" not in graph.srcdata:
        raise KeyError(f'expected a graph with srcdata["pos"], got srcdata with {sorted(graph.srcdata)}')
    exact = graph.srcdata["pos"].cpu()
    pos = exact.long()
    if pos.shape[1] != 2 or bool((pos != exact).any() | (pos < 0).any()) or len(pos.unique(dim=0)) < len(pos):
        raise ValueError(
            "expected nodes at different pixels of one image, got other positions; superpixels need labels"
        )
    label_map = np.full(tuple(pos.amax(0) + 1), -1)
    label_map[tuple(pos.T)] = np.arange(len(pos))
    return label_map


def painted(values: Tensor, label_map: np.ndarray) -> np.ndarray:
    """One value per source node as an image; NaN for pixels without one."""
    return np.append(as_array(values), np.nan)[label_map]


def borders(label_map: np.ndarray) -> np.ndarray:
    """Line segments (L, 2, 2), from x, y to x, y, between pixels of different nodes."""
    rows, columns = np.argwhere(np.diff(label_map, axis=0)), np.argwhere(np.diff(label_map, axis=1))
    across = rows[:, None, ::-1] + [[-0.5, 0.5], [0.5, 0.5]]
    down = columns[:, None, ::-1] + [[0.5, -0.5], [0.5, 0.5]]
    return np.concatenate([across, down])


def show_grey(ax: "Axes", image: Tensor, title: str) -> None:
    ax.imshow(as_array(image), cmap="gray", interpolation="nearest")
    ax.set_title(title, fontsize=10)
    ax.set_axis_off()


def show_signed(ax: "Axes", image: Image, title: str, size: float | None = None) -> None:
    """Draw an image in white at 0, red above and blue below."""
    values = as_array(image)
    limit = (float(np.nanmax(np.abs(values))) if size is None else size) or 1.0
    ax.imshow(values, cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest")
    ax.set_title(title, fontsize=10)
    ax.set_axis_off()
