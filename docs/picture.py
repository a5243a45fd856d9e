"""Draws docs/images/graphs.png, the README's picture:  .venv/bin/python -m docs.picture"""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from skimage.data import astronaut
from skimage.segmentation import mark_boundaries
from skimage.transform import rescale

import datasets
from gnnlib.images import graph_from_labels, pixel_graph, segment

LINE, NODE = "#ffb000", "#d81b60"


def draw(ax: Axes, graph, image: np.ndarray, title: str, width: float, size: float) -> None:
    """The graph over its image: nodes at ``ndata["pos"]`` (row, column), lines for edges."""
    pos = graph.ndata["pos"].numpy()[:, ::-1]
    src, dst = (end.numpy() for end in graph.edges())
    ax.imshow(image, cmap="gray")
    ax.add_collection(LineCollection(np.stack([pos[src], pos[dst]], 1), colors=LINE, linewidths=width))
    ax.scatter(*pos.T, s=size, color=NODE, zorder=2)
    ax.set_title(title, fontsize=10)
    ax.set_axis_off()


def main() -> None:
    photo = rescale(astronaut()[:300, 80:380], 0.7, channel_axis=-1)
    labels = segment(photo, num_segments=220)
    superpixels = graph_from_labels(photo, labels, k=5)
    digit = datasets.digits(train=False)[0][3].numpy()
    pixels = pixel_graph(digit.shape)

    figure = Figure(figsize=(10, 3.6), layout="constrained")
    axes = figure.subplots(1, 3)
    axes[0].imshow(mark_boundaries(photo, labels, color=(1, 0.69, 0)))
    axes[0].set_title(f"segment: {labels.max() + 1} superpixels", fontsize=10)
    axes[0].set_axis_off()
    title = f"superpixel_graph: {superpixels.num_edges()} edges"
    draw(axes[1], superpixels, photo, title, width=0.6, size=6)
    draw(axes[2], pixels, digit, f"pixel_graph: {pixels.num_nodes()} pixels, {pixels.num_edges()} edges", 0.8, 14)
    figure.savefig(Path(__file__).parent / "images" / "graphs.png", dpi=90)


if __name__ == "__main__":
    main()
