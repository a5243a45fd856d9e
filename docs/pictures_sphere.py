"""Draws docs/images/sphere-digits.png, the picture of docs/sphere.md, and prints its table of errors:
.venv/bin/python -m docs.pictures_sphere"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from gnnlib import aggregate, datasets, propagate
from gnnlib.analysis.symmetry import rotation_error
from gnnlib.images import (
    equirectangular,
    icosahedral_rotations,
    icosphere,
    project,
    random_rotations,
    sphere_graph,
    sphere_interpolation,
)

IMAGES = Path(__file__).parent / "images"
DIGITS = datasets.digits(train=False)[0].double().unsqueeze(1)


def nodes(level: int) -> Tensor:
    return torch.from_numpy(icosphere(level)[0])


def sphere(ax: Axes, values: Tensor, points: Tensor) -> None:
    """The half of the sphere that faces (1, 0, 0)."""
    front = points[:, 0] > 0
    _, right, up = points[front].T.numpy()
    ax.scatter(right, up, c=values.flatten()[front].numpy(), s=7, cmap="gray", vmin=0, vmax=1)
    ax.set(aspect="equal", facecolor="#30343a", xticks=[], yticks=[])


def draw() -> None:
    turns = {"upright": torch.eye(3).double()}
    rotations = random_rotations(20, torch.Generator().manual_seed(0))
    facing = [turn for turn in rotations if turn[0, 0] > 0.4]  # the digit is on this side
    turns |= {f"rotation {i}": turn for i, turn in enumerate(facing[:3], 1)}
    axes = Figure(figsize=(9, 3.6), layout="constrained").subplots(2, len(turns), height_ratios=(2, 1))
    points, cells = nodes(4), equirectangular((36, 72))
    for (name, turn), (above, below) in zip(turns.items(), axes.T):
        sphere(above, project(DIGITS[3:4], points, turn), points)
        above.set_title(name, fontsize=9)
        below.imshow(project(DIGITS[3:4], cells, turn).view(36, 72).numpy(), cmap="gray", vmin=0, vmax=1)
        below.set_axis_off()
    axes[0, 0].figure.savefig(IMAGES / "sphere-digits.png", dpi=80)


def errors(level: int, rotations: Tensor) -> list[float]:
    """Of the signal; then, with the neighbours along sides and with those within a reach of 3.2, of the average over
    neighbours and of the difference from it. Means over the rotations."""
    points = nodes(level)

    def turn(y: Tensor, rotation: Tensor) -> Tensor:
        there = sphere_interpolation(level, points @ rotation)
        return aggregate(there, y, there.edata["weight"])

    def error(make: Callable[[Tensor], Tensor]) -> float:
        return (
            rotation_error(make, lambda R: project(DIGITS[:20], points, R), rotations, rotate_output=turn).mean().item()
        )

    results = [error(lambda x: x)]
    for reach in (None, 3.2):
        average = partial(propagate, sphere_graph(level, reach), degrees="in")
        results += [error(average), error(lambda x, average=average: x - average(x))]
    return results


def table() -> None:
    kinds = {
        "icosahedral": icosahedral_rotations()[1::12],
        "random": random_rotations(5, torch.Generator().manual_seed(0)),
    }
    for name, rotations in kinds.items():
        for level in range(1, 6):
            cells = (f"{error:.3f}" if error > 1e-6 else f"{error:.0e}" for error in errors(level, rotations))
            print(f"| {name} | {level} | {len(nodes(level))} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    draw()
    table()
