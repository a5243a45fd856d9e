"""Draws docs/images/pictures-*, the pictures of docs/pictures.md:  .venv/bin/python -m docs.pictures_graphs"""

from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from skimage import data
from skimage.segmentation import felzenszwalb
from skimage.transform import rescale
from torch import nn

from gnnlib import GATConv, GCNConv, Residual, Stack, datasets, readout_flat, viz
from gnnlib._platform.dgl import dgl
from gnnlib.analysis.attribution import attention, saliency
from gnnlib.benchmarks.catalog.layers import LAYERS
from gnnlib.benchmarks.tasks import Options
from gnnlib.benchmarks.tasks.superpixels import SAMPLES, DigitsSuperpixels
from gnnlib.images import graph_from_labels, hierarchy, pixel_graph, segment

IMAGES = Path(__file__).parent / "images"


def panels(rows: int, columns: int, size: float = 2.2) -> np.ndarray:
    figure = Figure(figsize=(size * columns, (size + 0.2) * rows), layout="constrained")
    return figure.subplots(rows, columns, squeeze=False)


def save(axes: np.ndarray, name: str) -> None:
    axes.flat[0].figure.savefig(IMAGES / f"pictures-{name}.png", dpi=80)


def title(ax: Axes, text: str) -> None:
    ax.set_title(text, fontsize=9)


def superpixels() -> None:
    photo = rescale(data.astronaut()[:300, 80:380], 0.7, channel_axis=-1)
    labels = segment(photo, num_segments=120)
    graph = graph_from_labels(photo, labels, k=4)
    axes = panels(1, 4, 2.6)
    viz.show_regions(photo, graph, axes[0, 0])
    viz.show_graph(graph, photo, ax=axes[0, 1])
    viz.show_graph(graph, photo, graph.edata["weight"], axes[0, 2])
    viz.show_values(graph, graph.ndata["feat"].mean(1), axes[0, 3])
    for ax, text in zip(axes[0], ("show_regions", "show_graph", "with weights", "show_values: mean intensity")):
        title(ax, text)
    save(axes, "superpixels")


def levels() -> None:
    image = data.chelsea()[:, 30:400]
    tree = hierarchy(image, felzenszwalb(image, scale=100, sigma=0.8, min_size=100))
    sizes = (60, 30, 15)
    axes = panels(1, 1 + len(sizes), 2.6)
    viz.show_levels(tree, sizes, axes[0])
    save(axes, "levels")


def train(make, images: torch.Tensor, labels: torch.Tensor, epochs: int = 12) -> tuple[nn.Module, object]:
    """Two layers on the pixels of the digits and a linear layer over all of them."""
    torch.manual_seed(0)
    graph = pixel_graph(images.shape[1:])
    model = Stack.build(make, 1, 16, 16, num_layers=2, skip=Residual, readout=lambda g, x: readout_flat(g, x)[0])
    model.head = nn.Linear(16 * graph.num_nodes(), 10)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(epochs):
        for rows in torch.randperm(len(images)).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(graph, nodes(images[rows])), labels[rows]).backward()
            optimizer.step()
    return model.eval(), graph


def nodes(images: torch.Tensor) -> torch.Tensor:
    return images.flatten(1).T.unsqueeze(-1).contiguous()


def attributions() -> None:
    (images, labels), (test, truth) = datasets.digits(), datasets.digits(train=False)
    indices = [int((truth == digit).nonzero()[0]) for digit in (0, 2, 3, 4, 7, 9)]
    x, target = nodes(test[indices]), truth[indices]
    axes = panels(4, len(indices), 1.5)
    kinds = {"GCN": GCNConv, "GAT": lambda i, o: GATConv(i, o // 4, 4)}
    for row, (name, make) in enumerate(kinds.items()):
        model, graph = train(make, images, labels)
        right = (model(graph, nodes(test)).argmax(1) == truth).double().mean().item()
        print(f"{name}: {100 * right:.1f} %")
        counts = saliency(model, graph, x, target)
        for i, ax in enumerate(axes[1 + row]):
            viz.show_values(graph, counts[:, i], ax)
        title(axes[1 + row, 0], f"saliency, {name}")
    weight = attention(model, graph, x)[-1].mean(-1)
    share = weight * graph.in_degrees()[graph.edges()[1]].unsqueeze(1)
    for i, (image, top, bottom) in enumerate(zip(test[indices], axes[0], axes[3])):
        top.imshow(image, cmap="gray")
        top.set_axis_off()
        viz.show_graph(graph, image, share[:, i], bottom)
    title(axes[0, 0], "digits")
    title(axes[3, 0], "attention, GAT")
    save(axes, "attributions")


def superpixel_attributions() -> None:
    """The first test images of the task on superpixels, and the attributions of its GAT."""
    task = DigitsSuperpixels()
    task.load(Options())
    outcome = task.run(LAYERS["gat"], 0, Options(), lambda record: None)
    print(f"GAT on superpixels: {outcome.score:.1f} %")
    arrays = outcome.attributions | task.samples()
    axes = panels(3, SAMPLES, 1.5)
    for i, (top, middle, bottom) in enumerate(axes.T):
        ends = tuple(torch.from_numpy(arrays[f"{end}_{i}"]) for end in ("src", "dst"))
        graph = dgl.graph(ends, num_nodes=len(arrays[f"pos_{i}"]))
        graph.ndata["pos"] = torch.from_numpy(arrays[f"pos_{i}"])
        viz.show_regions(arrays[f"image_{i}"], arrays[f"label_map_{i}"], top)
        viz.show_values(arrays[f"label_map_{i}"], torch.from_numpy(arrays[f"saliency_{i}"]), middle)
        viz.show_graph(graph, arrays[f"image_{i}"], torch.from_numpy(arrays[f"attention_{i}"]), bottom)
    for ax, text in zip(axes[:, 0], ("superpixels", "saliency, GAT", "attention, GAT")):
        title(ax, text)
    save(axes, "superpixel-attributions")


if __name__ == "__main__":
    for draw in (superpixels, levels, attributions, superpixel_attributions):
        draw()
