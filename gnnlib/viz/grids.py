"""Pictures of what convolutions do: filters, poolings, receptive fields."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from gnnlib._platform.dgl import dgl
from gnnlib.grid import lattice
from gnnlib.grid.conv import GridConv
from gnnlib.grid.dense import to_images
from gnnlib.grid.field import filter_at, receptive_field
from gnnlib.grid.pool import GridPool
from gnnlib.viz.base import (
    LINE,
    NODE,
    SEEN,
    Image,
    as_array,
    borders,
    matplotlib,
    new_axes,
    node_at_pixels,
    one_axes,
    painted,
    show_grey,
    show_signed,
)

if TYPE_CHECKING:
    from matplotlib.animation import FuncAnimation
    from matplotlib.axes import Axes

__all__ = [
    "animate_filters",
    "show_filter",
    "show_filter_at",
    "show_filters",
    "show_pooling",
    "show_receptive_field",
    "show_shift_invariance",
]


def show_filter(image: Image, conv: GridConv, axes: "Sequence[Axes] | None" = None) -> "list[Axes]":
    """An image, a filter and what it makes of the image, side by side.

    Args:
        image: (rows, columns)
        conv: of one channel, say :func:`gnnlib.grid.filters.fixed`; it runs on the lattice with padding "same"
        axes: three; None: of a new figure

    Raises: ValueError for an image that is not (rows, columns), a layer of more channels, or another number of axes;
        ImportError without matplotlib.

    >>> from gnnlib.grid.filters import LAPLACIAN, fixed
    >>> [ax.get_title() for ax in show_filter(torch.eye(8), fixed(LAPLACIAN))]
    ['input', 'filter', 'output']
    """
    if (conv.in_feats, conv.out_feats, len(conv.kernel_size)) != (1, 1, 2):
        raise ValueError(f"conv: expected one channel on two axes, got GridConv({conv.extra_repr()})")
    x = _image(image).to(conv.weight)
    with torch.no_grad():
        y = conv(lattice(tuple(x.shape), conv.kernel_size, padding="same"), x.reshape(-1, 1)).view(x.shape)
    drawn = new_axes(3, axes)
    show_grey(drawn[0], x, "input")
    show_signed(drawn[1], conv.weight[0, 0], "filter")
    show_grey(drawn[2], y, "output")
    return drawn


def show_pooling(image: Image, kernel_size: int = 2, axes: "Sequence[Axes] | None" = None) -> "list[Axes]":
    """An image, and the maximum and the mean of each of its windows, side by side.

    Args:
        image: (rows, columns)
        kernel_size: of the windows, which lie side by side
        axes: three; None: of a new figure

    Raises: ValueError for an image that is not (rows, columns), a window larger than it, or another number of axes;
        ImportError without matplotlib.

    >>> [ax.images[0].get_array().shape for ax in show_pooling(torch.eye(8), 4)]
    [(8, 8), (2, 2), (2, 2)]
    """
    x = _image(image)
    graph = lattice(tuple(x.shape), kernel_size, stride=kernel_size)
    size = tuple(side // kernel_size for side in x.shape)
    drawn = new_axes(3, axes)
    show_grey(drawn[0], x, "input")
    for ax, reduce in zip(drawn[1:], ("max", "mean")):
        show_grey(ax, to_images(GridPool(reduce)(graph, x.reshape(-1, 1)), size)[0, 0], reduce)
    return drawn


def show_shift_invariance(changes: Mapping[str, Tensor], ax: "Axes | None" = None) -> "Axes":
    """Curves of :func:`gnnlib.grid.field.shift_invariance`, for shifts of 0, 1, 2, ... pixels.

    Args:
        changes: of each network or pooling, by name

    Raises: ImportError without matplotlib.

    >>> show_shift_invariance({"max": torch.tensor([0.0, 0.4, 0.8])}).get_xlabel()
    'shift in pixels'
    """
    drawn = one_axes(ax)
    for name, change in changes.items():
        drawn.plot(range(len(change)), change.numpy(), marker="o", markersize=4, label=name)
    drawn.set(xlabel="shift in pixels", ylabel="relative change", ylim=(0, None))
    drawn.legend(frameon=False)
    return drawn


def show_receptive_field(
    graphs: Sequence[dgl.DGLGraph], node: int, labels: Image | None = None, ax: "Axes | None" = None
) -> "Axes":
    """What an output node sees of the input, :func:`gnnlib.grid.field.receptive_field`, drawn on the grid.

    Args:
        graphs, node: as there
        labels: (rows, columns), the input node of each pixel, for superpixels; None: the positions of the nodes are
            the pixels, those of the first graph's ``srcdata["pos"]``

    Raises: as :func:`gnnlib.grid.field.receptive_field`; KeyError for a graph without positions; ValueError where those
        are not pixels of an image; ImportError without matplotlib.

    >>> ax = show_receptive_field([lattice((7, 7), 3, dilation=2)], 4)
    >>> int(ax.images[0].get_array().sum()), ax.get_title()
    (9, '9 of 49 cells')
    """
    seen = receptive_field(graphs, node)
    node_at = node_at_pixels(graphs[0], labels)
    drawn = one_axes(ax)
    colours = matplotlib("colors").ListedColormap(["white", SEEN])
    drawn.imshow(painted(seen, node_at), cmap=colours, vmin=0, vmax=1, interpolation="nearest")
    drawn.add_collection(matplotlib("collections").LineCollection(borders(node_at), colors=LINE, linewidths=0.4))
    drawn.set_title(f"{int(seen.sum())} of {len(seen)} cells", fontsize=10)
    drawn.set_axis_off()
    return drawn


def show_filter_at(
    layer: Callable[[dgl.DGLGraph, Tensor], Tensor],
    graph: dgl.DGLGraph,
    x: Tensor,
    node: int,
    channel: tuple[int, int] = (0, 0),
    labels: Image | None = None,
    radius: float | None = None,
    ax: "Axes | None" = None,
) -> "Axes":
    """The filter that any layer applies at one node, :func:`gnnlib.grid.field.filter_at`, as an image: red raises the
    output, blue lowers it.

    Args:
        layer, graph, x, node: as there
        channel: of the output and of the input
        labels: as in :func:`show_receptive_field`
        radius: how many pixels around the node are shown; None: all

    Raises: as :func:`gnnlib.grid.field.filter_at` and :func:`show_receptive_field`.

    >>> from gnnlib import GCNConv
    >>> from gnnlib.images import pixel_graph
    >>> ax = show_filter_at(GCNConv(1, 4), pixel_graph((5, 5)), torch.zeros(25, 1), 12)
    >>> int(np.count_nonzero(ax.images[0].get_array()))
    9
    """
    into, out = channel
    row = filter_at(layer, graph, x, node)[into, :, out]
    picture = painted(row, node_at_pixels(graph, labels))
    drawn = one_axes(ax)
    show_signed(drawn, picture, f"output {into}, input {out}")
    down, right = graph.dstdata["pos"][node].tolist()
    drawn.plot(right, down, marker="+", color=NODE)
    if radius is not None:
        drawn.set(xlim=(right - radius - 0.5, right + radius + 0.5), ylim=(down + radius + 0.5, down - radius - 0.5))
    return drawn


def show_filters(
    filters: Image, axes: "Sequence[Axes] | None" = None, marks: Sequence[tuple[float, float]] = ()
) -> "list[Axes]":
    """Filters as images side by side, on one scale.

    Args:
        filters: (F, rows, columns), say ``conv.weight[:, 0]``, or rows of an adjacency matrix as images
        axes: F of them; None: of a new figure
        marks: row and column of a pixel to mark in each, say that whose row it is; none: no marks

    Raises: ValueError for filters of another shape or another number of axes or marks; ImportError without matplotlib.

    >>> len(show_filters(torch.randn(6, 5, 5)))
    6
    """
    if filters.ndim != 3:
        raise ValueError(f"filters: expected shape (F, rows, columns), got {tuple(filters.shape)}")
    if len(marks) not in (0, len(filters)):
        raise ValueError(f"marks: expected none or {len(filters)}, one for each filter, got {len(marks)}")
    values, drawn = as_array(filters), new_axes(len(filters), axes)
    for ax, one in zip(drawn, values):
        show_signed(ax, one, "", float(np.abs(values).max()))
    for ax, (down, right) in zip(drawn, marks):
        ax.plot(right, down, marker="+", color=NODE)
    return drawn


def animate_filters(
    snapshots: Sequence[Image], titles: Sequence[str] | None = None, marks: Sequence[tuple[float, float]] = ()
) -> "FuncAnimation":
    """Filters over training, one frame for each snapshot, all on one scale.

    ``animation.save("filters.gif", writer="pillow", fps=10)`` writes it; matplotlib warns of one that is never drawn.

    Args:
        snapshots: each (F, rows, columns), say ``conv.weight[:, 0].detach().clone()`` after each epoch
        titles: of the frames; None: their numbers
        marks: as in :func:`show_filters`

    Raises: ValueError for no snapshots, such as differ in shape, or another number of titles or marks; ImportError
        without matplotlib.
    """
    shapes = sorted({tuple(one.shape) for one in snapshots})
    if len(shapes) != 1:
        raise ValueError(f"snapshots: expected some, of one shape, got {shapes}")
    names = list(map(str, range(len(snapshots)))) if titles is None else list(titles)
    if len(names) != len(snapshots):
        raise ValueError(f"titles: expected {len(snapshots)}, one for each snapshot, got {len(names)}")
    frames = [as_array(one) for one in snapshots]
    drawn, size = show_filters(frames[0], marks=marks), max(float(np.abs(frame).max()) for frame in frames) or 1.0
    figure: Any = drawn[0].figure
    pictures = [ax.images[0] for ax in drawn]
    title = figure.suptitle(names[0], fontsize=10)

    def draw(frame: int) -> list[Any]:
        for picture, one in zip(pictures, frames[frame]):
            picture.set_data(one)
            picture.set_clim(-size, size)
        title.set_text(names[frame])
        return [*pictures, title]

    return matplotlib("animation").FuncAnimation(figure, draw, frames=len(frames))


def _image(image: Image) -> Tensor:
    x = torch.as_tensor(image).detach().to("cpu", torch.float64)
    if x.dim() != 2:
        raise ValueError(f"image: expected shape (rows, columns), got {tuple(x.shape)}")
    return x
