"""Draws docs/images/tutorial-*, the pictures of docs/tutorial.md:  .venv/bin/python -m docs.pictures_tutorial

The filters are learned from MNIST where GNNLIB_DATA names a folder with it, else from scikit-learn's digits, enlarged.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from gnnlib import viz
from gnnlib._platform.dgl import dgl
from gnnlib.benchmarks.catalog.layers import choices
from gnnlib.benchmarks.tasks import Options
from gnnlib.benchmarks.tasks.base import shuffled
from gnnlib.benchmarks.tasks.filters import adjacency
from gnnlib.benchmarks.tasks.tutorial import MODELS, Tutorial
from gnnlib.images import GAUSSIAN

IMAGES = Path(__file__).parent / "images"
SHAPE = (28, 28)
CENTRE = (14, 14)
PLACES = (CENTRE, (8, 6), (20, 22))
RADIUS = 6  # pixels around the centre of a small filter


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
        viz.show_filters(row[None], [above], [CENTRE])
        above.set_title(f"{name}\nsum {row.sum():.2f}", fontsize=10)
        below.bar(range(28), row[CENTRE[0]], width=1.0, color="#8a8f98")
        below.tick_params(labelsize=7)
    axes[0, 0].figure.savefig(IMAGES / "tutorial-fixed.png", dpi=90)


def over_training(
    name: str, frames: int, steps: int, view: Callable[[nn.Module, dgl.DGLGraph], Tensor]
) -> list[Tensor]:
    """Snapshots of a model by ``view``, before and during training."""
    torch.manual_seed(0)
    task, plan = Tutorial(), MODELS[name]
    task.load(Options())
    model, generator = task.model(choices(task.extra_layers)[name]), torch.Generator().manual_seed(0)
    graph = plan.graph(SHAPE)
    optimizer, scheduler = plan.optimizer(model.parameters(), frames)

    def forever():
        while True:
            yield from task.batches(*task.train, shuffled(len(task.train[1]), plan.batch_size, generator))

    batches, snapshots = forever(), [view(model, graph).detach().clone()]
    for _ in range(frames):
        for _ in range(steps):
            batch = next(batches)
            optimizer.zero_grad()
            cross_entropy(model(graph, batch.x), batch.target).backward()
            optimizer.step()
        if scheduler is not None:
            scheduler.step()
        snapshots.append(view(model, graph).detach().clone())
    return snapshots


def rows_at(places: Sequence[tuple[int, int]]) -> Callable[[nn.Module, dgl.DGLGraph], Tensor]:
    """The rows of the predicted adjacency at some pixels: (places x relations, 28, 28)."""
    nodes = [np.ravel_multi_index(place, SHAPE) for place in places]

    @torch.no_grad()
    def view(model: nn.Module, graph: dgl.DGLGraph) -> Tensor:
        b = model.blocks[0].conv.edges(graph, torch.ones(1)).view(784, 784, -1)
        return b[nodes].movedim(2, 1).reshape(-1, *SHAPE)

    return view


def animate(name: str, snapshots: Sequence[Tensor], steps: int, marks: Sequence[tuple[int, int]]) -> None:
    """Each filter on a scale of its own, the same in all frames."""
    size = torch.stack([*snapshots]).abs().amax((0, 2, 3)).view(-1, 1, 1)
    titles = [f"step {i * steps}" for i in range(len(snapshots))]
    animation = viz.animate_filters([one / size for one in snapshots], titles, marks)
    animation.save(IMAGES / f"tutorial-{name}.gif", writer="pillow", fps=6, dpi=50)


def learned(frames: int = 24, steps: int = 20) -> None:
    rows = over_training("predicted", frames, steps, rows_at(PLACES))
    animate("predicted", rows, steps, PLACES)
    near = slice(CENTRE[0] - RADIUS, CENTRE[0] + RADIUS + 1)
    local = [one[:, near, near] for one in over_training("predicted-trained", frames, steps, rows_at([CENTRE]))]
    animate("predicted-trained", local, steps, [(RADIUS, RADIUS)] * len(local[0]))
    cnn = over_training("cnn", 1, frames * steps, lambda model, _: next(model.parameters())[:, 0])

    figures = Figure(figsize=(9, 4.9), layout="constrained").subfigures(3, 1, height_ratios=(1.25, 1, 0.7))
    shown = {
        "predicted edges: the rows of three pixels": (rows[-1], PLACES),
        "predicted edges, trained: the five rows of one pixel, what is near": (local[-1], [(RADIUS, RADIUS)] * 5),
        "the convolution: how ten filters as large as the image have changed": (cnn[-1] - cnn[0], ()),
    }
    for figure, (title, (filters, marks)) in zip(figures, shown.items()):
        figure.suptitle(title, fontsize=10)
        size = filters.abs().amax((1, 2), keepdim=True)
        viz.show_filters(filters / size, list(figure.subplots(1, len(filters))), marks)
    figures[0].figure.savefig(IMAGES / "tutorial-learned.png", dpi=80)


if __name__ == "__main__":
    fixed()
    learned()
