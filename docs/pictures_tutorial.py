"""Draws docs/images/tutorial-*, the pictures of docs/tutorial.md:  .venv/bin/python -m docs.pictures_tutorial

The filters are learned from MNIST where GNNLIB_DATA names a folder with it, else from scikit-learn's digits, enlarged.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn.functional import cross_entropy

from benchmarks.layers import known
from benchmarks.tasks import Options
from benchmarks.tasks.base import shuffled
from benchmarks.tasks.filters import adjacency
from benchmarks.tasks.tutorial import MODELS, Tutorial
from gnnlib import pictures
from gnnlib.images.gaussian import GAUSSIAN

IMAGES = Path(__file__).parent / "images"
SHAPE = (28, 28)
CENTRE = (14, 14)
PLACES = (CENTRE, (8, 6), (20, 22))


def fixed() -> None:
    """The row of the marked pixel, in the image and along the line through the pixel."""
    graphs = {
        "the tutorial's": adjacency(SHAPE, less=0.2),
        "exp(-d / s^2), Kipf's": adjacency(SHAPE),
        "Gaussian, Kipf's": adjacency(SHAPE, GAUSSIAN),
    }
    axes = Figure(figsize=(7, 4.2), layout="constrained").subplots(2, 3, height_ratios=(2, 1))
    for (name, graph), (above, below) in zip(graphs.items(), axes.T):
        src, _, edge = graph.in_edges(np.ravel_multi_index(CENTRE, SHAPE), form="all")
        row = torch.zeros(SHAPE).flatten().index_put((src,), graph.edata["weight"][edge].float()).view(SHAPE)
        pictures.show_filters(row[None], [above], [CENTRE])
        above.set_title(f"{name}\nsum {row.sum():.2f}", fontsize=10)
        below.bar(range(28), row[CENTRE[0]], width=1.0, color="#8a8f98")
        below.tick_params(labelsize=7)
    axes[0, 0].figure.savefig(IMAGES / "tutorial-fixed.png", dpi=90)


def rows_over_training(name: str, frames: int, steps: int, places: Sequence[tuple[int, int]]) -> list[Tensor]:
    """The rows of the predicted adjacency at some pixels, before and during training: (places x relations, 28, 28)."""
    torch.manual_seed(0)
    task, plan = Tutorial(), MODELS[name]
    task.load(Options())
    model, graph, generator = task.model(known(task.own)[name]), plan.graph(SHAPE), torch.Generator().manual_seed(0)
    optimiser, scheduler = plan.optimiser(model.parameters(), frames)
    nodes = [np.ravel_multi_index(place, SHAPE) for place in places]

    @torch.no_grad()
    def rows() -> Tensor:
        b = model.blocks[0].conv.edges(graph, torch.ones(1)).view(784, 784, -1)
        return b[nodes].movedim(2, 1).reshape(-1, *SHAPE).clone()

    def forever():
        while True:
            yield from task.batches(*task.train, shuffled(len(task.train[1]), plan.batch_size, generator))

    batches, found = forever(), [rows()]
    for _ in range(frames):
        for _ in range(steps):
            batch = next(batches)
            optimiser.zero_grad()
            cross_entropy(model(graph, batch.x), batch.target).backward()
            optimiser.step()
        if scheduler is not None:
            scheduler.step()
        found.append(rows())
    return found


def learned(
    name: str, frames: int, steps: int, places: Sequence[tuple[int, int]], relations: int = 1, radius: int = 28
) -> None:
    """Of what lies within ``radius`` pixels of the first place."""
    down, right = (slice(max(0, at - radius), at + radius + 1) for at in places[0])
    snapshots = [rows[:, down, right] for rows in rows_over_training(name, frames, steps, places)]
    titles = [f"step {i * steps}" for i in range(len(snapshots))]
    marks = [(row - down.start, column - right.start) for row, column in places for _ in range(relations)]
    animation = pictures.animate_filters(snapshots, titles, marks)
    animation.save(IMAGES / f"tutorial-{name}.gif", writer="pillow", fps=6, dpi=32)


if __name__ == "__main__":
    fixed()
    learned("predicted", 24, 20, PLACES)
    learned("predicted-trained", 20, 6, [CENTRE], relations=5, radius=6)
