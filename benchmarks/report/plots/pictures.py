"""Pictures of confusion matrices, sample graphs, attributions and superpixels."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from gnnlib.benchmarks.report.plots.style import INK, clip, report_style
from gnnlib.benchmarks.report.reading import Result
from gnnlib.graph import GraphLike, new_graph
from gnnlib.images import hierarchy
from gnnlib.viz import show_graph, show_levels, show_regions, show_values

NAMED = 30  # largest number of classes with names and counts in the picture of a confusion matrix


@report_style()
def confusion(result: Result) -> Figure:
    """The confusion matrix of one result: rows are true classes, columns predictions, shading is the share of the row.

    Raises:
        ValueError: if the result has no confusion matrix
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


@report_style()
def sample(image: np.ndarray, pos: np.ndarray, src: np.ndarray, dst: np.ndarray) -> Figure:
    """A graph over its image, which fills the figure; colours are turned to grey.

    Args:
        image: (H, W) or (H, W, 3), any numbers
        pos: (n, 2), row and column in pixels
        src, dst: (e,) node numbers
    """
    image = np.nan_to_num(np.asarray(image, float))
    if image.ndim == 3:
        image = image[..., :3] @ ([0.299, 0.587, 0.114] if image.shape[2] >= 3 else [1.0])
    figure = Figure((2.4, 2.4 * min(max(image.shape[0] / image.shape[1], 0.25), 4)))
    ax = show_graph(_graph(pos, src, dst), image, ax=figure.add_axes((0, 0, 1, 1)))
    height, length = image.shape
    ax.set(xlim=(-0.5, length - 0.5), ylim=(height - 0.5, -0.5), aspect="auto")
    return figure


@report_style()
def attributions(
    samples: Sequence[dict[str, Any]], maps: Sequence[dict[str, np.ndarray]], width: float = 1.6
) -> Figure:
    """A row of pictures with the saliency of each sample's nodes; with attention, a second row of lines over the image.

    Args:
        samples: each with image and label_map (H, W), pos (n, 2), src and dst (e,)
        maps: for each, saliency (n,) and perhaps attention (e,)
        width: of one picture, in inches
    """
    rows = 2 if "attention" in maps[0] else 1
    figure = Figure((width * len(samples), width * rows), layout="constrained")
    for axes, sample, values in zip(figure.subplots(rows, len(samples), squeeze=False).T, samples, maps):
        show_values(sample["label_map"], torch.from_numpy(values["saliency"]), axes[0])
        if rows == 2:
            graph = _graph(sample["pos"], sample["src"], sample["dst"])
            show_graph(graph, sample["image"], torch.from_numpy(values["attention"]), axes[1])
    return figure


@report_style()
def levels(samples: Sequence[dict[str, Any]]) -> Figure:
    """A row of pictures for each sample: the image with the borders of its superpixels, their mean colours, and a half,
    a quarter and an eighth of them after the most similar neighbours are merged.

    Args:
        samples: each with image (H, W) or (H, W, 3) and label_map (H, W)
    """
    figure = Figure((1.6 * 5, 1.8 * len(samples)), layout="constrained")
    for axes, sample in zip(figure.subplots(len(samples), 5, squeeze=False), samples):
        image = sample["image"] if sample["image"].dtype == np.uint8 else np.nan_to_num(sample["image"].astype(float))
        tree = hierarchy(image, sample["label_map"], mask=sample["label_map"] >= 0)
        leaves = tree.graph.num_nodes()
        show_regions(image, sample["label_map"], axes[0])
        sizes = [max(leaves // part, leaves - len(tree.merges)) for part in (2, 4, 8)]
        for ax in show_levels(tree, sizes, axes[1:]):
            ax.title.set_color("white")  # the page shows pictures on black
    return figure


def _graph(pos: np.ndarray, src: np.ndarray, dst: np.ndarray) -> GraphLike:
    graph = new_graph(np.asarray(src, np.int64), np.asarray(dst, np.int64), len(pos))
    graph.ndata["pos"] = torch.from_numpy(np.asarray(pos, float))
    return graph
