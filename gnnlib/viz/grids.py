"""Plots of convolutions: filters, poolings, receptive fields."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from gnnlib._utils.calls import names_checked
from gnnlib.graph import GraphLike, takes_graph, takes_graphs
from gnnlib.grid import lattice
from gnnlib.grid.conv import GridConv
from gnnlib.grid.dense import to_images
from gnnlib.grid.field import filter_at, receptive_field
from gnnlib.grid.pool import GridPool
from gnnlib.viz.base import (
    FIELD,
    LINE,
    NODE,
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


@names_checked()
def show_filter(image: Image, conv: GridConv, axes: "Sequence[Axes] | None" = None) -> "list[Axes]":
    """Plot an image, a filter and the filtered image.

    Args:
        image: (rows, columns)
        conv: with one channel, for example :func:`gnnlib.grid.fixed`; it runs on the lattice with padding "same"
        axes: three; None: those of a new figure

    Raises:
        ValueError: if the image is not (rows, columns), the layer has several channels, or the number of axes is wrong.
        ImportError: if matplotlib is not installed.

    Example:
        >>> import torch
        >>> from gnnlib.grid.filters import LAPLACIAN, fixed
        >>> from gnnlib.viz import show_filter
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


@names_checked()
def show_pooling(image: Image, kernel_size: int = 2, axes: "Sequence[Axes] | None" = None) -> "list[Axes]":
    """Plot an image, and the maximum and the mean of each of its windows.

    Args:
        image: (rows, columns)
        kernel_size: of the windows, which do not overlap
        axes: three; None: those of a new figure

    Raises:
        ValueError: if the image is not (rows, columns), the window is larger, or the number of axes is wrong.
        ImportError: if matplotlib is not installed.

    Example:
        >>> import torch
        >>> from gnnlib.viz import show_pooling
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


@names_checked()
def show_shift_invariance(changes: Mapping[str, Tensor], ax: "Axes | None" = None) -> "Axes":
    """Plot :func:`gnnlib.grid.shift_invariance` for shifts of 0, 1, 2, ... pixels.

    Args:
        changes: one curve per network or pooling, by name

    Raises:
        ImportError: if matplotlib is not installed.

    Example:
        >>> import torch
        >>> from gnnlib.viz import show_shift_invariance
        >>> show_shift_invariance({"max": torch.tensor([0.0, 0.4, 0.8])}).get_xlabel()
        'shift in pixels'
    """
    drawn = one_axes(ax)
    for name, change in changes.items():
        drawn.plot(range(len(change)), change.numpy(), marker="o", markersize=4, label=name)
    drawn.set(xlabel="shift in pixels", ylabel="relative change", ylim=(0, None))
    drawn.legend(frameon=False)
    return drawn


@names_checked()
@takes_graphs
def show_receptive_field(
    graphs: Sequence[GraphLike], node: int, labels: Image | None = None, ax: "Axes | None" = None
) -> "Axes":
    """Plot the receptive field of an output node, :func:`gnnlib.grid.receptive_field`, on the input grid.

    Args:
        graphs, node: as for :func:`gnnlib.grid.receptive_field`
        labels: (rows, columns), the input node of each pixel, for superpixels; None: the nodes are pixels, at the
            positions of the first graph's ``srcdata["pos"]``

    Raises:
        ValueError: as :func:`gnnlib.grid.receptive_field`, and if the positions are not pixels of an image.
        KeyError: if the graph has no positions.
        ImportError: if matplotlib is not installed.

    Example:
        >>> from gnnlib.grid import lattice
        >>> from gnnlib.viz import show_receptive_field
        >>> ax = show_receptive_field([lattice((7, 7), 3, dilation=2)], 4)
        >>> int(ax.images[0].get_array().sum()), ax.get_title()
        (9, '9 of 49 cells')
    """
    field = receptive_field(graphs, node)
    label_map = node_at_pixels(graphs[0], labels)
    drawn = one_axes(ax)
    colours = matplotlib("colors").ListedColormap(["white", FIELD])
    drawn.imshow(painted(field, label_map), cmap=colours, vmin=0, vmax=1, interpolation="nearest")
    drawn.add_collection(matplotlib("collections").LineCollection(borders(label_map), colors=LINE, linewidths=0.4))
    drawn.set_title(f"{int(field.sum())} of {len(field)} cells", fontsize=10)
    drawn.set_axis_off()
    return drawn


@names_checked()
@takes_graph()
def show_filter_at(
    layer: Callable[[GraphLike, Tensor], Tensor],
    graph: GraphLike,
    x: Tensor,
    node: int,
    channel: tuple[int, int] = (0, 0),
    labels: Image | None = None,
    radius: float | None = None,
    ax: "Axes | None" = None,
) -> "Axes":
    """Plot the filter of any layer at one node, :func:`gnnlib.grid.filter_at`, as an image: red raises the output, blue
    lowers it.

    Args:
        layer, graph, x, node: as for :func:`gnnlib.grid.filter_at`
        channel: the indices of the output and the input channel
        labels: as in :func:`show_receptive_field`
        radius: number of pixels shown around the node; None: all

    Raises:
        ValueError: as :func:`gnnlib.grid.filter_at` and :func:`show_receptive_field`.
        KeyError: if the graph has no positions.
        ImportError: if matplotlib is not installed.

    Example:
        >>> import numpy as np
        >>> import torch
        >>> from gnnlib import GCNConv
        >>> from gnnlib.images import pixel_graph
        >>> from gnnlib.viz import show_filter_at
        >>> ax = show_filter_at(GCNConv(1, 4), pixel_graph((5, 5)), torch.zeros(25, 1), 12)
        >>> int(np.count_nonzero(ax.images[0].get_array()))
        9
    """
    output, input_ = channel
    row = filter_at(layer, graph, x, node)[output, :, input_]
    picture = painted(row, node_at_pixels(graph, labels))
    drawn = one_axes(ax)
    show_signed(drawn, picture, f"output {output}, input {input_}")
    down, right = graph.dstdata["pos"][node].tolist()
    drawn.plot(right, down, marker="+", color=NODE)
    if radius is not None:
        drawn.set(xlim=(right - radius - 0.5, right + radius + 0.5), ylim=(down + radius + 0.5, down - radius - 0.5))
    return drawn


@names_checked()
def show_filters(
    filters: Image, axes: "Sequence[Axes] | None" = None, marks: Sequence[tuple[float, float]] = ()
) -> "list[Axes]":
    """Plot filters as images on one scale.

    Args:
        filters: (F, rows, columns), for example ``conv.weight[:, 0]``, or rows of an adjacency matrix as images
        axes: F of them; None: those of a new figure
        marks: row and column of a pixel to mark in each image; none: no marks

    Raises:
        ValueError: if the filters have another shape, or the number of axes or marks is wrong.
        ImportError: if matplotlib is not installed.

    Example:
        >>> import torch
        >>> from gnnlib.viz import show_filters
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


@names_checked()
def animate_filters(
    snapshots: Sequence[Image], titles: Sequence[str] | None = None, marks: Sequence[tuple[float, float]] = ()
) -> "FuncAnimation":
    """Animate filters over training, one frame per snapshot, all on one scale.

    ``animation.save("filters.gif", writer="pillow", fps=10)`` writes a file. matplotlib warns if an animation is never
    drawn.

    Args:
        snapshots: each (F, rows, columns), for example ``conv.weight[:, 0].detach().clone()`` after each epoch
        titles: of the frames; None: their numbers
        marks: as in :func:`show_filters`

    Raises:
        ValueError: if there are no snapshots, their shapes differ, or the number of titles or marks is wrong.
        ImportError: if matplotlib is not installed.
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
