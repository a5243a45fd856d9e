"""Matrices and graphs as pictures."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from benchmarks.report.plots.look import INK, clip, in_our_style
from benchmarks.report.reading import Result

NAMED = 30  # the most classes whose names and counts can be read in the picture of a confusion matrix


@in_our_style()
def confusion(result: Result) -> Figure:
    """The confusion matrix of one result: rows are true classes, columns predictions, shading is the share of the row.

    Raises:
        ValueError: the result has no confusion matrix.
    """
    if not result["confusion"]:
        raise ValueError(f"expected a result with a confusion matrix, received none for layer {result['layer']!r}")
    counts = np.asarray(result["confusion"])
    side = max(3.0, 0.36 * min(len(counts), NAMED) + 1.2)
    figure = Figure((side, side), layout="constrained")
    ax = figure.subplots()
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    ax.imshow(np.sqrt(share), cmap="Blues", vmin=0, vmax=1)  # the square root: single errors stay visible
    ax.grid(False)
    ax.set_title(clip(result["title"]), parse_math=False)
    ax.set_xlabel("predicted class")
    ax.set_ylabel("true class")
    if len(counts) <= NAMED:
        names = [clip(name, 12) for name in result["classes"] or map(str, range(len(counts)))]
        ax.set_xticks(range(len(names)), names, parse_math=False, rotation=90 if max(map(len, names)) > 3 else 0)
        ax.set_yticks(range(len(names)), names, parse_math=False)
        for (row, column), count in np.ndenumerate(counts):
            if count:
                colour = "white" if share[row, column] > 0.4 else INK
                ax.text(column, row, str(count), color=colour, ha="center", va="center", fontsize=7)
    return figure


@in_our_style()
def sample(image: np.ndarray, pos: np.ndarray, src: np.ndarray, dst: np.ndarray) -> Figure:
    """A figure that is :func:`graph_over_image` from edge to edge."""
    figure = Figure((2.4, 2.4 * min(max(image.shape[0] / image.shape[1], 0.25), 4)))
    graph_over_image(figure.add_axes((0, 0, 1, 1)), image, pos, src, dst)
    return figure


def graph_over_image(ax: Axes, image: np.ndarray, pos: np.ndarray, src: np.ndarray, dst: np.ndarray) -> Axes:
    """Draws a graph over its image: edges as thin lines, nodes as dots. Each pair of nodes is drawn once, loops never.

    Args:
        ax: where to draw.
        image: (H, W) or (H, W, 3); colours are turned to grey, so that the graph stands out.
        pos: (n, 2), row and column in pixels.
        src, dst: (e,) node numbers.
    """
    image = np.nan_to_num(np.asarray(image, float))
    if image.ndim == 3:
        image = image[..., :3] @ ([0.299, 0.587, 0.114] if image.shape[2] >= 3 else [1.0])
    ends = np.stack([np.minimum(src, dst), np.maximum(src, dst)], 1)[src != dst].astype(int)
    pairs = np.unique(ends, axis=0)
    xy = np.asarray(pos, float)[:, ::-1]
    crowd = np.sqrt(max(len(xy), 1))
    ax.imshow(image, cmap="gray", interpolation="nearest")
    width, alpha = np.clip(9 / crowd, 0.3, 1.2), np.clip(4 * crowd / max(len(pairs), 1) ** 0.7, 0.12, 0.8)
    ax.add_collection(LineCollection(list(xy[pairs]), colors="#58b7ec", linewidths=width, alpha=alpha))
    ax.scatter(xy[:, 0], xy[:, 1], s=np.clip((50 / crowd) ** 2, 1.5, 40), c="#ffb000", edgecolors="none", zorder=3)
    height, length = image.shape
    ax.set(xlim=(-0.5, length - 0.5), ylim=(height - 0.5, -0.5))
    ax.set_axis_off()
    return ax
