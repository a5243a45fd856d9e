"""Draws docs/images/superpixels-recipes.png and makes the tables of docs/superpixels.md:
.venv/bin/python -m docs.pictures_superpixels

The digit is MNIST's where GNNLIB_DATA names a folder with it, else one of scikit-learn's, enlarged. Prints the page's
counts of nodes and edges, but for those of all 70000 images.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from skimage import data
from skimage.segmentation import slic
from skimage.transform import resize
from sklearn.datasets import load_sample_images

from docs.tables import fill_tables
from gnnlib import datasets, viz
from gnnlib.benchmarks.catalog.layers import LAYERS
from gnnlib.benchmarks.catalog.published import ELSEWHERE, PUBLISHED, Published
from gnnlib.benchmarks.tasks.superpixels import MNISTSuperpixels, enlarged_digits
from gnnlib.datasets.files import data_dir
from gnnlib.images import recipes

ROOT = Path(__file__).parents[1]
PAGE, IMAGES = ROOT / "docs" / "superpixels.md", ROOT / "docs" / "images"
FIGURES = ("network", "published", "gnnlib", "seeds", "parameters", "published by")


def draw() -> None:
    load = enlarged_digits if data_dir(None) is None else datasets.mnist
    image = load(None, False)[0][0]
    names = MNISTSuperpixels.image_recipes
    above, below = Figure(figsize=(9, 4.8), layout="constrained").subplots(2, len(names))
    for name, top, bottom in zip(names, above, below):
        graph = getattr(recipes, name)(image)
        viz.show_regions(image, graph, top)
        viz.show_graph(graph, image, graph.edata["weight"], bottom)
        top.set_title(f"{name}: {graph.num_nodes()} nodes", fontsize=9)
        bottom.set_title(f"{graph.num_edges()} edges", fontsize=9)
    above[0].figure.savefig(IMAGES / "superpixels-recipes.png", dpi=90)


def thumbnails(number: int = 100) -> Iterator[np.ndarray]:
    """Photographs that come inside scikit-image and scikit-learn as CIFAR-10 has them, 32 x 32: squares of a third of
    the shorter side or more, drawn at random."""
    rng = np.random.default_rng(0)
    for photo in (data.astronaut(), data.chelsea(), data.coffee(), data.rocket(), *load_sample_images().images):
        for _ in range(number):
            side = rng.integers(min(photo.shape[:2]) // 3, min(photo.shape[:2]) + 1)
            row, column = (rng.integers(0, length - side + 1) for length in photo.shape[:2])
            square = resize(photo[row : row + side, column : column + side], (32, 32), anti_aliasing=True)
            yield (255 * square).round().astype(np.uint8)


def plain(values: np.ndarray) -> np.ndarray:
    """The segments of `recipes.dwivedi` by scikit-image alone: from 95 down until at most 75 come out."""
    for num_segments in range(95, 0, -1):
        labels = slic(values[..., 0], num_segments, compactness=0.25, channel_axis=None, start_label=0)
        if labels.max() < 75:
            break
    return labels


def count() -> None:
    """Prints the nodes and edges of what is at hand: photographs; digits of MNIST where GNNLIB_DATA has it."""
    show_count("600 thumbnails, dwivedi_cifar", recipes.dwivedi_cifar, list(thumbnails()))
    if data_dir(None) is not None:
        digits = datasets.mnist(None, False)[0][:500]
        for name in ("dwivedi", "monti", "avelar"):
            show_count(f"500 digits, {name}", getattr(recipes, name), digits)
        show_count("500 digits, dwivedi cut by plain scikit-image", replace(recipes.dwivedi, cut=plain), digits)


def show_count(title: str, recipe: recipes.Recipe, images: Sequence[recipes.Image]) -> None:
    sizes = [(graph.num_nodes(), graph.num_edges()) for graph in map(recipe, images)]
    nodes, edges = np.mean(sizes, 0)
    print(f"{title}: {nodes:.2f} nodes, {edges:.1f} edges")


def results(task: str) -> dict[str, dict[str, Any]]:
    """The committed results of a task, by layer."""
    documents = [json.loads(path.read_text()) for path in (ROOT / "benchmarks" / "results").glob("*/*/result.json")]
    return {result["layer"]: result for result in documents if result["task"] == task}


def table(*tasks: str) -> str:
    """A line for each network, published ones from worst to best, then those that are ours alone."""
    lines = []
    for task in tasks:
        by_layer = results(task)
        published = {layer: figure for (name, layer), figure in PUBLISHED.items() if name == task}
        awaited = MNISTSuperpixels.layers if task == MNISTSuperpixels.name else ()
        for layer in {**published, **by_layer}:
            ours = _ours(by_layer[layer]) if layer in by_layer else ["to be run" if layer in awaited else "", "", ""]
            lines.append(_line(LAYERS[layer].title, published.get(layer), ours))
        lines += [_line(name, figure, ["", "", ""]) for name, figure in ELSEWHERE.get(task, {}).items()]
    rows = [list(FIGURES), ["---"] * len(FIGURES), *(cells for _, cells in sorted(lines))]
    return "\n".join("|" + "".join(f" {cell} |" if cell else " |" for cell in cells) for cells in rows)


def _line(title: str, published: Published | None, ours: list[str]) -> tuple[float, list[str]]:
    """And the figure to sort by."""
    if published is None:
        return 100.0, [f"**{title}**", "", f"**{ours[0]}**", *ours[1:], ""]
    source = ", ".join(published.source.split(", ")[:2])
    graphs = "" if "100000 parameters" in published.setting else f"; {published.setting}"
    return published.value, [title, _figure(published.value, published.std), *ours, source + graphs]


def _ours(result: dict[str, Any]) -> list[str]:
    mean, std = result["metric"]["mean"], result["metric"]["std"]
    return [_figure(mean, std), str(len(result["seeds"])), f"{result['parameters']:,}"]


def _figure(mean: float, std: float | None) -> str:
    return f"{mean:.2f}" + (f" ± {std:.2f}" if std is not None else "")


TABLES = {"mnist": ("mnist-superpixels",), "monti": ("mnist-superpixels-monti", "mnist-superpixels-avelar")}


def with_tables(page: str) -> str:
    return fill_tables(page, {name: partial(table, *tasks) for name, tasks in TABLES.items()})


if __name__ == "__main__":
    draw()
    count()
    PAGE.write_text(with_tables(PAGE.read_text("utf-8")), "utf-8")
