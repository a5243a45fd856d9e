"""Plots of image graphs: regions, the graph over its image, node values, levels of a hierarchy."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from gnnlib._utils.calls import names_checked
from gnnlib.graph import GraphLike, edge_endpoints, is_graph, takes_graph
from gnnlib.images import Hierarchy, paint
from gnnlib.images._image import Image, parse_image
from gnnlib.viz.base import as_array, borders, matplotlib, new_axes, one_axes, show_signed

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["show_graph", "show_levels", "show_regions", "show_values"]

LabelMap: TypeAlias = GraphLike | Tensor | np.ndarray  # a graph with a label map, or the map

EDGE, DOT = "#58b7ec", "#ffb000"


@names_checked()
def show_regions(image: Image, graph: LabelMap, ax: "Axes | None" = None) -> "Axes":
    """Plot an image and the borders of its regions.

    Args:
        image: (rows, columns) or (rows, columns, C): three channels as colours, else their mean in grey
        graph: of its regions; or the label map, if the graph was batched or saved since

    Raises:
        ValueError: if the label map has another shape than the image, or the image is invalid.
        TypeError: if the graph has no label map, or the image another type.
        ImportError: if matplotlib is not installed.

    Example:
        >>> import numpy as np
        >>> from gnnlib.images import superpixel_graph
        >>> from gnnlib.viz import show_regions
        >>> image = np.eye(12)
        >>> ax = show_regions(image, superpixel_graph(image, 9))
        >>> len(ax.images), len(ax.collections)
        (1, 1)
    """
    picture, label_map = _picture(image), _label_map(graph)
    if label_map.shape != picture.shape[:2]:
        raise ValueError(f"graph: expected a label map of the image's shape {picture.shape[:2]}, got {label_map.shape}")
    drawn = one_axes(ax)
    _show_picture(drawn, picture)
    lines = matplotlib("collections").LineCollection(borders(label_map), colors=DOT, linewidths=0.8)
    drawn.add_collection(lines)
    return drawn


@names_checked()
@takes_graph()
def show_graph(
    graph: GraphLike, image: Image | None = None, weight: Tensor | None = None, ax: "Axes | None" = None
) -> "Axes":
    """Plot a graph over its image: nodes as dots, edges as lines. Edges in both directions are one line; self-loops are
    not drawn.

    Args:
        graph: with ``ndata["pos"]``, rows and columns in pixels
        image: as for :func:`show_regions`; None: draw on the axes as they are
        weight: of the edges, at least 0, such as ``edata["weight"]`` or attention: the width of a line is proportional
            to the larger weight of its two directions; None: all widths equal

    Shapes:
        - weight: (E,)

    Raises:
        KeyError: if the graph has no positions.
        ValueError: if the positions are not two-dimensional, or the weights are not one per edge, negative or not
            finite.
        ImportError: if matplotlib is not installed.

    Example:
        >>> import numpy as np
        >>> from gnnlib.images import superpixel_graph
        >>> from gnnlib.viz import show_graph
        >>> image = np.eye(12)
        >>> graph = superpixel_graph(image, 9, k=2)
        >>> ax = show_graph(graph, image, graph.edata["weight"])
        >>> lines, dots = ax.collections
        >>> len(dots.get_offsets()) == graph.num_nodes(), float(max(lines.get_linewidths()))
        (True, 3.0)
    """
    pairs, width = _lines(graph, weight)
    xy = as_array(_positions(graph))[:, ::-1]
    crowd = np.sqrt(max(len(xy), 1))
    size = np.clip((50 / crowd) ** 2, 1.5, 40)
    if weight is None:
        width = np.clip(9 / crowd, 0.3, 1.2)
        alpha = np.clip(4 * crowd / max(len(pairs), 1) ** 0.7, 0.12, 0.8)
    else:
        width, size, alpha = 3 * width / (width.max(initial=0.0) or 1.0), size / 6, 0.8
    drawn = one_axes(ax)
    if image is not None:
        _show_picture(drawn, _picture(image))
    elif not drawn.has_data():
        drawn.invert_yaxis()
        drawn.set(aspect="equal")
    lines = matplotlib("collections").LineCollection(list(xy[pairs]), colors=EDGE, linewidths=width, alpha=alpha)
    drawn.add_collection(lines, autolim=False)
    drawn.scatter(xy[:, 0], xy[:, 1], s=size, c=DOT, edgecolors="none", zorder=3)
    drawn.set_axis_off()
    return drawn


@names_checked()
def show_values(graph: LabelMap, values: Tensor, ax: "Axes | None" = None) -> "Axes":
    """Plot one value per node in the pixels of its region: black at 0 to bright; if some are negative, red above 0 and
    blue below. Pixels without a node are empty.

    Args:
        graph: as for :func:`show_regions`
        values: for example :func:`gnnlib.analysis.attribution.saliency`

    Shapes:
        - values: (n,)

    Raises:
        ValueError: if the values have another shape.
        TypeError: if the graph has no label map.
        ImportError: if matplotlib is not installed.

    Example:
        >>> import torch
        >>> from gnnlib.images import pixel_graph
        >>> from gnnlib.viz import show_values
        >>> ax = show_values(pixel_graph((2, 3)), torch.arange(6.0))
        >>> ax.images[0].get_array().tolist(), ax.images[0].get_clim()
        ([[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]], (0.0, 5.0))
    """
    if values.dim() != 1:
        raise ValueError(f"values: expected shape (n,), one number for each node, got {tuple(values.shape)}")
    painted = as_array(paint(graph, values.detach().double(), outside=np.nan))
    drawn = one_axes(ax)
    if bool((values < 0).any()):
        show_signed(drawn, painted, "")
    else:
        drawn.imshow(painted, cmap="inferno", vmin=0, vmax=float(np.nanmax(painted)) or 1.0, interpolation="nearest")
        drawn.set_axis_off()
    return drawn


@names_checked()
def show_levels(tree: Hierarchy, sizes: Sequence[int], axes: "Sequence[Axes] | None" = None) -> "list[Axes]":
    """Plot a hierarchy of regions level by level: the leaves, then one plot per size, regions in their mean colour.

    Args:
        tree: of :func:`gnnlib.images.hierarchy`, with features "mean"
        sizes: numbers of regions, as for :meth:`gnnlib.images.Hierarchy.levels`
        axes: one more than sizes; None: those of a new figure

    Raises:
        ValueError: if the hierarchy has no such level, the sizes rise, or the number of axes is wrong.
        ImportError: if matplotlib is not installed.

    Example:
        >>> import numpy as np
        >>> from gnnlib.images import hierarchy
        >>> from gnnlib.viz import show_levels
        >>> tree = hierarchy(np.array([[0.0, 0.1, 0.9, 1.0]]), np.array([[0, 1, 2, 3]]))
        >>> [ax.get_title() for ax in show_levels(tree, [2, 1])]
        ['4 regions', '2 regions', '1 region']
    """
    graphs = [tree.graph, *(level.graph for level in tree.levels(sizes))]
    drawn = new_axes(len(graphs), axes)
    for ax, graph in zip(drawn, graphs):
        show_regions(as_array(paint(graph, graph.ndata["feat"])), graph, ax)
        ax.set_title(f"{graph.num_nodes()} region{'s' if graph.num_nodes() > 1 else ''}", fontsize=10)
    return drawn


def _lines(graph: GraphLike, weight: Tensor | None) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of adjacent nodes (L, 2), the smaller number first, and the largest weight of each pair (L,)."""
    if weight is None:
        weight = torch.ones(graph.num_edges())
    if weight.shape != (graph.num_edges(),) or not bool((weight.isfinite() & (weight >= 0)).all()):
        raise ValueError(
            f"weight: expected shape ({graph.num_edges()},), finite and at least 0, got {tuple(weight.shape)}"
            + (f" and values from {weight.min():g} to {weight.max():g}" if weight.numel() else "")
        )
    endpoints = np.sort(torch.stack(edge_endpoints(graph), 1).cpu().numpy(), axis=1)
    no_loop = endpoints[:, 0] != endpoints[:, 1]
    pairs, pair = np.unique(endpoints[no_loop], axis=0, return_inverse=True)
    width = np.zeros(len(pairs))
    np.maximum.at(width, pair.ravel(), as_array(weight)[no_loop])
    return pairs, width


def _positions(graph: GraphLike) -> Tensor:
    if "pos" not in graph.ndata:
        raise KeyError(f'expected a graph with ndata["pos"], got ndata with {sorted(graph.ndata)}')
    pos = graph.ndata["pos"]
    if pos.dim() != 2 or pos.shape[1] != 2:
        raise ValueError(f'ndata["pos"]: expected shape (n, 2), rows and columns, got {tuple(pos.shape)}')
    return pos


def _label_map(graph: LabelMap) -> np.ndarray:
    """The node of each pixel, (rows, columns)."""
    numbers: Any = paint(graph, torch.arange(graph.num_nodes()), outside=-1) if is_graph(graph) else graph
    return as_array(numbers)


def _picture(image: Image) -> np.ndarray:
    """The image to draw: (rows, columns, 3) in colours, or (rows, columns) in grey."""
    values = parse_image(image, axes=2).values
    return values if values.shape[2] == 3 else values.mean(2)


def _show_picture(ax: "Axes", picture: np.ndarray) -> None:
    ax.imshow(picture.clip(0, 1) if picture.ndim == 3 else picture, cmap="gray", interpolation="nearest")
    ax.set_axis_off()
