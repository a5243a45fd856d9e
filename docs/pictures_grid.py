"""Draws docs/images/grid-*, the pictures of docs/grid.md:  .venv/bin/python -m docs.pictures_grid"""

from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from skimage.data import astronaut
from skimage.transform import rescale
from torch import nn

from gnnlib import GATConv, GCNConv, datasets, viz
from gnnlib.grid import GridConv, GridPool, adaptive_lattice, lattice, to_nodes
from gnnlib.grid.field import shift_invariance
from gnnlib.grid.filters import EDGES, LAPLACIAN, MEAN, fixed, gabor, gaussian
from gnnlib.images import graph_from_labels, pixel_graph, segment

IMAGES = Path(__file__).parent / "images"
PHOTO = rescale(astronaut()[:300, 80:380], 0.4, channel_axis=-1)
GREY = torch.from_numpy(PHOTO @ [0.299, 0.587, 0.114]).float()
DIGITS, LABELS = datasets.digits()


def panels(rows: int, columns: int) -> np.ndarray:
    return Figure(figsize=(1.7 * columns, 1.9 * rows), layout="constrained").subplots(rows, columns, squeeze=False)


def save(axes: np.ndarray, name: str) -> None:
    axes.flat[0].figure.savefig(IMAGES / f"grid-{name}.png", dpi=90)


def filters() -> None:
    axes = panels(3, 6)
    kernels = {
        "mean": MEAN,
        "Gaussian": gaussian(2.0),
        "edges": EDGES,
        "Laplacian": LAPLACIAN,
        "Gabor": gabor(13, 6, 0.8, 2.5, 0.7),
        "Gabor, an edge": gabor(13, 10, 0.0, 2.5, 0.7, np.pi / 2),
    }
    for (name, kernel), three in zip(kernels.items(), axes.reshape(6, 3)):
        viz.show_filter(GREY, fixed(kernel), three)
        three[1].set_title(name, fontsize=10)
    save(axes, "filters")


def pooling() -> None:
    axes = Figure(figsize=(9.5, 2.1), layout="constrained").subplots(1, 4, width_ratios=(1, 1, 1, 2.2))
    viz.show_pooling(DIGITS[3], 2, axes[:3])
    images, shifts = nn.functional.pad(DIGITS.unsqueeze(1), (4, 4, 4, 4)), range(5)
    graphs = {"2 x 2": lattice((16, 16), 2, 2), "4 x 4": lattice((16, 16), 4, 4), "all": adaptive_lattice((16, 16), 1)}
    changes = {"the image": shift_invariance(nn.Identity(), images, shifts)}
    for (window, graph), reduce in product(graphs.items(), ("max", "mean")):
        pool = partial(GridPool(reduce), graph)
        changes[f"{reduce}, {window}"] = shift_invariance(lambda x, pool=pool: pool(to_nodes(x)), images, shifts)
    viz.show_shift_invariance(changes, axes[3])
    axes[3].legend(fontsize=7, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    for name, change in changes.items():
        print(f"{name}: {change[1]:.2f}")
    save(axes, "pooling")


def fields() -> None:
    axes = panels(1, 5)[0]
    plain, wide = lattice((15, 15), 3, padding=1), lattice((15, 15), 3, padding=3, dilation=3)
    strided = [lattice((15, 15), 3, stride=2, padding=1), lattice((8, 8), 3, padding=1)]
    labels = segment(PHOTO, num_segments=220)
    superpixels, crossed = graph_from_labels(PHOTO, labels, k=5), pixel_graph((15, 15), connectivity=1)
    rows = {
        "3 x 3": viz.show_receptive_field([plain], 112, ax=axes[0]),
        "3 x 3, dilation 3": viz.show_receptive_field([wide], 112, ax=axes[1]),
        "3 x 3 by 2, then 3 x 3": viz.show_receptive_field(strided, 27, ax=axes[2]),
        "4 hops, 4 neighbours": viz.show_receptive_field([crossed] * 4, 112, ax=axes[3]),
        "2 hops, superpixels": viz.show_receptive_field([superpixels] * 2, 85, labels, axes[4]),
    }
    for name, ax in rows.items():
        ax.set_title(f"{name}\n{ax.get_title()}", fontsize=9)
    save(axes, "fields")


def layers() -> None:
    torch.manual_seed(2)
    window, graph = lattice((8, 8), 3, padding=1), pixel_graph((8, 8))
    one, two, mean, attention = GridConv(1, 4, 3), GridConv(4, 1, 3), GCNConv(1, 1, weight=False), GATConv(1, 1, 1)
    with torch.no_grad():  # attention that goes by ink
        attention.fc.weight.fill_(1.0)
        attention.attn_l.fill_(3.0)
    rows = [
        ("GridConv", one, window),
        ("two of them", lambda graph, x: two(graph, torch.relu(one(graph, x))), window),
        ("GCN", mean, graph),
        ("two of them", lambda graph, x: mean(graph, mean(graph, x)), graph),
        ("attention", attention, graph),
    ]
    axes = panels(1, len(rows))
    for ax, (name, layer, seen) in zip(axes.flat, rows):
        viz.show_filter_at(layer, seen, DIGITS[3].view(-1, 1), 8 * 4 + 4, ax=ax)
        ax.set_title(name, fontsize=10)
    save(axes, "layers")


def learning() -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(1, 8, 5)
    net = nn.Sequential(conv, nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(32, 10))
    optimizer = torch.optim.Adam(net.parameters(), 0.005)
    snapshots = [conv.weight[:, 0].detach().clone()]
    for _ in range(40):
        for batch in torch.randperm(len(DIGITS)).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(DIGITS[batch].unsqueeze(1)), LABELS[batch]).backward()
            optimizer.step()
        snapshots.append(conv.weight[:, 0].detach().clone())
    animation = viz.animate_filters(snapshots, [f"epoch {epoch}" for epoch in range(len(snapshots))])
    animation.save(IMAGES / "grid-learning.gif", writer="pillow", fps=8, dpi=50)


if __name__ == "__main__":
    for draw in (filters, pooling, fields, layers, learning):
        draw()
