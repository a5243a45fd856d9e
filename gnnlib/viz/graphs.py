"""Pictures of images as graphs: regions, the graph over its image, values painted back, levels of a hierarchy."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch
from torch import Tensor

from gnnlib._platform.dgl import dgl
from gnnlib.graph import edge_endpoints
from gnnlib.images import Hierarchy
from gnnlib.images._image import Image, parse_image
from gnnlib.images._regions import paint
from gnnlib.viz.base import as_array, borders, matplotlib, new_axes, one_axes, show_signed

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["show_graph", "show_levels", "show_regions", "show_values"]

Regions: TypeAlias = dgl.DGLGraph | Tensor | np.ndarray  # a graph with a label map, or the map

EDGE, DOT = "#58b7ec", "#ffb000"


def show_regions(image: Image, graph: Regions, ax: "Axes | None" = None) -> "Axes":
    """An image and the borders of its superpixels.

    Args:
        image: (rows, columns) or (rows, columns, C): of three channels in colours, else the mean of them in grey
        graph: of its regions; or the label map, which batches and saved graphs have lost

    Raises: ValueError for a map of another shape than the image; TypeError for a graph without one; as
        :func:`gnnlib.images.segment` for what is no image; ImportError without matplotlib.

    >>> from gnnlib.images import superpixel_graph
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


def show_graph(
    graph: dgl.DGLGraph, image: Image | None = None, weight: Tensor | None = None, ax: "Axes | None" = None
) -> "Axes":
    """A graph over its image: nodes are dots, edges lines. Two nodes have one line, whichever way edges run between
    them; an edge from a node to itself has none.

    Args:
        graph: with ``ndata["pos"]``, rows and columns in pixels
        image: as for :func:`show_regions`; None: over what is there
        weight: of the edges, at least 0, say ``edata["weight"]`` or attention: lines are as wide as the larger
            of both ways, the largest of all the widest; None: all alike

    Shapes: weight (E,).

    Raises: KeyError for a graph without positions; ValueError for positions on other than two axes, or weights that are
        not one for each edge, negative or not finite; ImportError without matplotlib.

    >>> from gnnlib.images import superpixel_graph
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


def show_values(graph: Regions, values: Tensor, ax: "Axes | None" = None) -> "Axes":
    """A number for each node painted back into the image: from black at 0 to bright; where some are negative, red
    above 0 and blue below. Pixels without a node stay empty.

    Args:
        graph: as for :func:`show_regions`
        values: say :func:`gnnlib.analysis.attribution.saliency`

    Shapes: values (n,).

    Raises: ValueError for values of another shape; TypeError for a graph without a label map; ImportError without
        matplotlib.

    >>> from gnnlib.images import pixel_graph
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


def show_levels(tree: Hierarchy, sizes: Sequence[int], axes: "Sequence[Axes] | None" = None) -> "list[Axes]":
    """A hierarchy of regions level by level: the leaves, then so many regions, each in its mean colour.

    Args:
        tree: of :func:`gnnlib.images.hierarchy`, with features "mean"
        sizes: as for its ``levels``
        axes: one more than sizes; None: of a new figure

    Raises: ValueError for sizes that there never were or that rise, or another number of axes; ImportError without
        matplotlib.

    >>> from gnnlib.images import hierarchy
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


def _lines(graph: dgl.DGLGraph, weight: Tensor | None) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of different nodes with an edge, (L, 2), the smaller number first, and the largest weight of each (L,)."""
    if weight is None:
        weight = torch.ones(graph.num_edges())
    if weight.shape != (graph.num_edges(),) or not bool((weight.isfinite() & (weight >= 0)).all()):
        raise ValueError(
            f"weight: expected shape ({graph.num_edges()},), finite and at least 0, got {tuple(weight.shape)}"
            + (f" and values from {weight.min():g} to {weight.max():g}" if weight.numel() else "")
        )
    ends = np.sort(torch.stack(edge_endpoints(graph), 1).cpu().numpy(), axis=1)
    apart = ends[:, 0] != ends[:, 1]
    pairs, pair = np.unique(ends[apart], axis=0, return_inverse=True)
    width = np.zeros(len(pairs))
    np.maximum.at(width, pair.ravel(), as_array(weight)[apart])
    return pairs, width


def _positions(graph: dgl.DGLGraph) -> Tensor:
    if "pos" not in graph.ndata:
        raise KeyError(f'expected a graph with ndata["pos"], got ndata with {sorted(graph.ndata)}')
    pos = graph.ndata["pos"]
    if pos.dim() != 2 or pos.shape[1] != 2:
        raise ValueError(f'ndata["pos"]: expected shape (n, 2), rows and columns, got {tuple(pos.shape)}')
    return pos


def _label_map(graph: Regions) -> np.ndarray:
    """The node of each pixel, (rows, columns)."""
    if isinstance(graph, dgl.DGLGraph):
        graph = paint(graph, torch.arange(graph.num_nodes()), outside=-1)
    return as_array(graph)


def _picture(image: Image) -> np.ndarray:
    """(rows, columns, 3) in colours, or (rows, columns) in grey."""
    values = parse_image(image, axes=2).values
    return values if values.shape[2] == 3 else values.mean(2)


def _show_picture(ax: "Axes", picture: np.ndarray) -> None:
    ax.imshow(picture.clip(0, 1) if picture.ndim == 3 else picture, cmap="gray", interpolation="nearest")
    ax.set_axis_off()
