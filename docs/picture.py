"""Draws docs/images/graphs.png, the README's picture:  .venv/bin/python -m docs.picture"""

from pathlib import Path

from matplotlib.figure import Figure
from skimage.data import astronaut
from skimage.transform import rescale

from gnnlib import datasets
from gnnlib.images import graph_from_labels, pixel_graph, segment
from gnnlib.viz import show_graph, show_regions


def main() -> None:
    photo = rescale(astronaut()[:300, 80:380], 0.7, channel_axis=-1)
    labels = segment(photo, num_segments=220)
    superpixels = graph_from_labels(photo, labels, k=5)
    digit = datasets.digits(train=False)[0][3]
    pixels = pixel_graph(digit.shape)

    axes = Figure(figsize=(10, 3.6), layout="constrained").subplots(1, 3)
    titles = {
        f"segment: {labels.max() + 1} superpixels": show_regions(photo, labels, axes[0]),
        f"superpixel_graph: {superpixels.num_edges()} edges": show_graph(superpixels, photo, ax=axes[1]),
        f"pixel_graph: {pixels.num_nodes()} pixels, {pixels.num_edges()} edges": show_graph(pixels, digit, ax=axes[2]),
    }
    for title, ax in titles.items():
        ax.set_title(title, fontsize=10)
    axes[0].figure.savefig(Path(__file__).parent / "images" / "graphs.png", dpi=90)


if __name__ == "__main__":
    main()
