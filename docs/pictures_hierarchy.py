"""Draws docs/images/hierarchy-*, the pictures of docs/hierarchy.md, and prints its tables:
.venv/bin/python -m docs.pictures_hierarchy"""

from itertools import product
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from skimage import data
from skimage.color import rgb2hsv, rgb2lab
from skimage.segmentation import felzenszwalb

from gnnlib._platform.dgl import dgl
from gnnlib.coarsening.clusters import coarsen
from gnnlib.coarsening.pyramids import Pyramid, haar_pyramid
from gnnlib.grid import lattice
from gnnlib.images import Hierarchy, best_overlap, hierarchy, proposals
from gnnlib.viz import show_levels

IMAGES = Path(__file__).parent / "images"

# Drawn by hand before any measurement: first row, first column, row and column after the last.
OBJECTS = {
    "astronaut": {
        "person": (15, 18, 512, 362),
        "head": (15, 153, 188, 302),
        "collar": (148, 113, 298, 305),
        "badge": (347, 133, 423, 208),
        "name tag": (338, 277, 377, 329),
        "helmet": (343, 276, 512, 510),
        "shuttle": (0, 352, 288, 461),
        "flag": (0, 0, 512, 105),
    },
    "coffee": {
        "saucer": (68, 76, 389, 479),
        "cup": (18, 172, 308, 412),
        "coffee": (94, 204, 196, 370),
        "spoon": (66, 325, 325, 424),
        "handle": (230, 195, 309, 262),
    },
    "cat": {
        "cat": (0, 0, 300, 365),
        "left eye": (85, 134, 150, 206),
        "right eye": (108, 295, 165, 343),
        "nose": (225, 228, 266, 292),
    },
    "rocket": {
        "rocket": (126, 308, 406, 337),
        "left mast": (122, 168, 427, 206),
        "right mast": (122, 438, 427, 480),
        "left tower": (0, 0, 427, 88),
        "right tower": (0, 560, 427, 640),
        "platform": (406, 267, 427, 398),
    },
}
ALL = ("colour", "texture", "size", "fill")


def photograph(name: str) -> np.ndarray:
    return getattr(data, name)()


def cut(image: np.ndarray, scale: float) -> np.ndarray:
    return felzenszwalb(image, scale=scale, sigma=0.8, min_size=int(scale))


def one(image: np.ndarray) -> list[Hierarchy]:
    return [hierarchy(image, cut(image, 100), ALL)]


def eight(image: np.ndarray) -> list[Hierarchy]:
    """Two colour spaces, two sets of similarities, two first cuts, as in the paper's fast setting."""
    spaces, names = (rgb2hsv(image), rgb2lab(image)), (ALL, ALL[1:])
    return [hierarchy(space, cut(image, scale), some) for space, some, scale in product(spaces, names, (50, 100))]


def random_boxes(image: np.ndarray, number: int, seed: int) -> torch.Tensor:
    """Boxes with random corners."""
    rng = np.random.default_rng(seed)
    corners = np.sort([rng.integers(0, side + 1, (number, 2)) for side in image.shape[:2]], axis=2)
    return torch.from_numpy(corners.transpose(1, 2, 0).reshape(number, 4))


def overlaps(setting) -> tuple[dict[str, torch.Tensor], torch.Tensor, torch.Tensor]:
    """The proposals of each photograph, and how well they and random boxes (20 draws) fit the objects."""
    boxes = {name: proposals(setting(photograph(name)), min_side=10) for name in OBJECTS}
    truth = {name: torch.tensor(list(objects.values())) for name, objects in OBJECTS.items()}
    fit = [best_overlap(boxes[name], truth[name]) for name in OBJECTS]
    chance = [
        best_overlap(random_boxes(photograph(name), len(boxes[name]), seed), truth[name])
        for name, seed in product(OBJECTS, range(20))
    ]
    return boxes, torch.cat(fit), torch.cat(chance)


def recall() -> None:
    for setting in (one, eight):
        boxes, fit, chance = overlaps(setting)
        print(f"{setting.__name__}: {sum(map(len, boxes.values())) / len(boxes):.0f} boxes a photograph")
        for kind, values in (("regions", fit), ("random", chance)):
            shares = ", ".join(f"{(values >= least).double().mean():.2f} at {least}" for least in (0.5, 0.7))
            print(f"    {kind}: recall {shares}; average best overlap {values.mean():.2f}")
    names = [f"{name} {thing}" for name, things in OBJECTS.items() for thing in things]
    print(", ".join(f"{name} {value:.2f}" for name, value in zip(names, fit.tolist())))
    draw_boxes(boxes)


def draw_boxes(boxes: dict[str, torch.Tensor]) -> None:
    axes = Figure(figsize=(11, 3.1), layout="constrained").subplots(1, 4)
    for ax, (name, things) in zip(axes, OBJECTS.items()):
        show(ax, photograph(name))
        for box in things.values():
            frame(ax, box, "white", 2.4)
            best = best_box(boxes[name], box)
            frame(ax, best, "#d81b60", 1.2)
    save(axes[0], "boxes")


def best_box(boxes: torch.Tensor, box: tuple[int, ...]) -> tuple[int, ...]:
    return max(
        map(tuple, boxes.tolist()), key=lambda other: best_overlap(torch.tensor([other]), torch.tensor([box])).item()
    )


def frame(ax: Axes, box: tuple[int, ...], colour: str, width: float) -> None:
    row, column, end_row, end_column = box
    ax.add_patch(
        Rectangle((column, row), end_column - column, end_row - row, fill=False, edgecolor=colour, linewidth=width)
    )


def levels() -> None:
    image, sizes = photograph("coffee"), (100, 30, 10, 4)
    tree = hierarchy(image, cut(image, 100))
    axes = Figure(figsize=(11, 1.9), layout="constrained").subplots(1, 1 + len(sizes))
    show_levels(tree, sizes, axes)
    save(axes[0], "levels")


def compressed(pyramid: Pyramid, x: torch.Tensor, number: int) -> torch.Tensor:
    """x from its low resolution and the largest details, ``number`` rows in total."""
    low, details = pyramid.split(x)
    sizes = torch.cat([detail.norm(dim=1) for detail in details])
    least = sizes.sort(descending=True).values[number - len(low) - 1]
    return pyramid.join(low, [detail * (detail.norm(dim=1, keepdim=True) >= least) for detail in details])


def pyramids() -> None:
    image = photograph("coffee")[:384, :576]
    tree = hierarchy(image, cut(image, 20))
    pixels = coarsen(dgl.graph([], num_nodes=384 * 576), tree.graph.label_map.flatten()).pool
    sizes = [n for n in (1000, 300, 100, 30, 10, 3, 1) if n < tree.graph.num_nodes()]
    regions = haar_pyramid([pixels, *(level.pool for level in tree.levels(sizes))])
    grids, size = [], (384, 576)
    while max(size) > 1:
        grids.append(lattice(size, 2, stride=2, ceil_mode=True))
        size = tuple(-(-side // 2) for side in size)
    x = torch.from_numpy(image).double().flatten(0, 1) / 255
    axes = Figure(figsize=(9, 4.4), layout="constrained").subplots(2, 3)
    for row, (name, pyramid) in zip(axes, {"grid": haar_pyramid(grids), "regions": regions}.items()):
        print(
            f"{name}: {len(pyramid.levels)} levels, error {(pyramid.join(*pyramid.split(x)) - x).abs().max():.0e}",
            end="",
        )
        for ax, share in zip(row, (0.002, 0.01, 0.05)):
            back = compressed(pyramid, x, int(share * len(x)))
            quality = -10 * (back - x).square().mean().log10()
            print(f"; {quality:.1f} dB with {100 * share:g} %", end="")
            show(ax, back.view(384, 576, 3).clamp(0, 1).numpy())
            ax.set_title(f"{name}, {100 * share:g} % of the numbers, {quality:.1f} dB", fontsize=9)
        print()
    save(axes[0, 0], "pyramids")


def show(ax: Axes, image: np.ndarray) -> None:
    ax.imshow(image)
    ax.set_axis_off()


def save(ax: Axes, name: str) -> None:
    ax.figure.savefig(IMAGES / f"hierarchy-{name}.png", dpi=80)


if __name__ == "__main__":
    for draw in (levels, recall, pyramids):
        draw()
