"""Pixel grids as graphs: the window of a convolution as edges that carry the index of their tap."""

import operator
from collections.abc import Sequence
from functools import lru_cache
from math import prod

import numpy as np
import torch

from gnnlib._utils.calls import names_checked
from gnnlib.graph import GraphLike, keep_nodes, new_graph
from gnnlib.images._image import Image, as_mask, as_spacing, is_image, parse_image
from gnnlib.images.points import with_offsets

__all__ = ["pixel_batch", "pixel_graph"]


@names_checked()
def pixel_graph(
    shape: int | Sequence[int] | Image,
    kernel_size: int | Sequence[int] = 3,
    connectivity: int | None = None,
    self_loops: bool = True,
    idtype: torch.dtype = torch.int64,
    *,
    axes: int = 2,
    mask: Image | None = None,
    channels: int | None = None,
    spacing: Sequence[float] | None = None,
) -> GraphLike:
    r"""The graph on which a convolution is message passing: LeCun et al., 1989, "Backpropagation Applied to
    Handwritten Zip Code Recognition", in the notation of Gilmer et al., 2017, arXiv:1704.01212.

    Nodes are the cells of an image in row-major order. Into each cell v runs an edge from every cell u that the
    window centred at v covers, typed by the tap it passes through, so that with zero padding of kernel_size // 2

    .. math:: \mathrm{conv}(x, w)_v = \sum_{u \to v} w_{\mathrm{tap}(u \to v)} \, x_u

    is ``torch.nn.functional.conv2d`` (a cross-correlation: the window is not flipped).

    - ``edata["tap"]``: (E,) int64, row-major index in the window, the order of the convolution's weight. Tap 0 of a
      3 x 3 window has offset (-1, -1), tap 4 is the cell itself. The numbers of omitted taps are unused.
    - ``ndata["pos"]``: (N, d) float32, coordinates in pixels in the order of the image's axes: row, column in 2-d.
    - ``label_map``, an attribute of the graph: (\*S,) int64, the node of each pixel, -1 outside the mask: see
      :func:`~gnnlib.images.paint`.

    With an image instead of a shape also, as in superpixel graphs:

    - ``ndata["feat"]``: (N, C) float32, its values;
    - ``edata["offset"]``: (E, d) float32, pos of the source less pos of the destination; ``edata["distance"]``: (E,).

    Edges are sorted by destination, then by tap. The structure and the taps are built once per arguments and
    shared by all callers (the last 16 are cached): do not modify the taps in place. Frames are the caller's own, and
    the positions are a copy.

    Args:
        shape: length of each axis of the image, say (rows, columns); any number of axes. Or the image: (\*S,) or
            (\*S, C), channels last; uint8, uint16 (scaled to 0..1) or floating point; numpy, torch, PIL or a path.
        kernel_size: number of cells of the window along each axis, odd.
        connectivity: as in scikit-image, keep the taps that differ from the centre along at most this many axes
            (1 in 2-d: the 4-neighbour grid, 2: the 8-neighbour one); None: the whole window.
        self_loops: whether to keep the tap of the cell itself.
        idtype: torch.int32 or torch.int64.
        axes: number of axes of an image without its channels: 2, or 3 for a volume.
        mask: (\*S,) booleans; pixels outside are removed. None for the whole image.
        channels: as in :func:`~gnnlib.images.segment`.
        spacing: the distance of neighbouring pixels along each axis: positions, offsets and distances are in its unit
            in place of pixels. None for 1.

    Shapes:
        - N = prod(shape) nodes, less those outside the mask; with K = prod(kernel_size) taps, at most N K edges, fewer
          at the border

    Raises:
        ValueError: if a length is not positive, the window is not odd, the number of either is wrong, or the
            connectivity is outside 1 to d.
        ValueError: if the image is empty, not finite or of another number of axes or channels, or seems to have
            channels first.
        ValueError: if the mask is empty or of another shape, or the spacing is not positive.
        TypeError: if a size is not an integer, the image is neither uint8, uint16 nor floating point, or the mask is
            not boolean.

    Example:
        >>> import numpy as np
        >>> from gnnlib.images import pixel_graph
        >>> g = pixel_graph((2, 2))
        >>> [(int(u), int(v), int(t)) for u, v, t in zip(*g.edges(), g.edata["tap"])][:4]
        [(0, 0, 4), (1, 0, 5), (2, 0, 7), (3, 0, 8)]
        >>> pixel_graph((28, 28), connectivity=1, self_loops=False).in_degrees().bincount().tolist()
        [0, 0, 4, 104, 676]
        >>> image = np.array([[0.0, 0.5], [1.0, np.nan]])
        >>> g = pixel_graph(image, mask=np.isfinite(image))
        >>> g.ndata["feat"].flatten().tolist(), g.num_edges(), g.label_map.tolist()
        ([0.0, 0.5, 1.0], 9, [[0, 1], [2, -1]])
    """
    pixels = parse_image(shape, axes, mask, channels, spacing) if is_image(shape) else None
    graph = pixel_batch(shape if pixels is None else pixels.shape, 1, kernel_size, connectivity, self_loops, idtype)
    size = tuple(graph.label_map.shape)
    inside = as_mask(mask, size) if pixels is None else pixels.mask
    graph.ndata["pos"] *= torch.tensor(as_spacing(spacing, len(size)))
    if not inside.all():
        graph = keep_nodes(graph, torch.from_numpy(inside.ravel()))
        graph.label_map = torch.from_numpy(np.where(inside, np.cumsum(inside).reshape(inside.shape) - 1, -1))
    if pixels is not None:
        graph.ndata["feat"] = torch.from_numpy(pixels.values[inside].astype(np.float32))
        graph = with_offsets(graph)
    return graph


@names_checked()
def pixel_batch(
    shape: int | Sequence[int],
    batch_size: int,
    kernel_size: int | Sequence[int] = 3,
    connectivity: int | None = None,
    self_loops: bool = True,
    idtype: torch.dtype = torch.int64,
) -> GraphLike:
    """``batch_size`` copies of one :func:`pixel_graph` as a batched graph, equal to ``dgl.batch`` of them.

    Args:
        batch_size: number of images, at least 1.
        shape, kernel_size, connectivity, self_loops, idtype: as in :func:`pixel_graph`.

    Shapes:
        - B N nodes and B E edges, image after image: features of images (B, rows, columns, F) are ``x.flatten(0, 2)``.
          ``ndata["pos"]`` is (B N, d), in pixels of the node's own image; ``label_map`` is (B, \\*S), and for one image
          (\\*S,)

    Raises:
        ValueError: as :func:`pixel_graph`, and if the batch size is below 1.
        TypeError: as :func:`pixel_graph`.

    Example:
        >>> from gnnlib.images import pixel_batch
        >>> g = pixel_batch((28, 28), 64)
        >>> g.batch_size, g.num_nodes(), g.num_edges()
        (64, 50176, 430336)
        >>> g._graph is pixel_batch((28, 28), 64)._graph
        True
    """
    lengths = _integers("shape", shape)
    axes = len(lengths)
    if axes == 0 or min(lengths) < 1:
        raise ValueError(f"shape: expected one positive length per axis, got {lengths}")
    window = _integers("kernel_size", kernel_size)
    if isinstance(kernel_size, Sequence) and len(window) != axes:
        raise ValueError(f"kernel_size: expected {axes} sizes for shape {lengths}, got {window}")
    if min(window) < 1 or not all(size % 2 for size in window):
        raise ValueError(f"kernel_size: expected positive odd sizes, got {kernel_size}")
    (reach,) = _integers("connectivity", (axes if connectivity is None else connectivity,))
    if not 1 <= reach <= axes:
        raise ValueError(f"connectivity: expected None or 1 to {axes} for shape {lengths}, got {connectivity}")
    (copies,) = _integers("batch_size", (batch_size,))
    if copies < 1:
        raise ValueError(f"batch_size: expected at least 1, got {copies}")
    window = window if len(window) == axes else window * axes
    graph = _batch(lengths, copies, window, reach, bool(self_loops), idtype).local_var()
    graph.ndata["pos"] = graph.ndata["pos"].clone()  # users scale positions in place
    graph.set_batch_num_nodes(graph.batch_num_nodes())  # DGL edits the table of sizes in place, and it is shared
    graph.set_batch_num_edges(graph.batch_num_edges())
    return graph


@lru_cache(maxsize=16)
def _batch(
    shape: tuple[int, ...], copies: int, window: tuple[int, ...], connectivity: int, loops: bool, idtype: torch.dtype
) -> GraphLike:
    src, dst, tap = _edges(shape, window, connectivity, loops)
    first = prod(shape) * np.arange(copies)[:, None]
    pos = np.indices(shape, dtype=np.float32).reshape(len(shape), -1).T
    with torch.inference_mode(False):  # cached tensors must work under autograd later
        src, dst = ((first + nodes).ravel() for nodes in (src, dst))
        graph = new_graph(src, dst, copies * prod(shape), idtype=idtype)
        graph.ndata["pos"] = torch.from_numpy(np.tile(pos, (copies, 1)))
        graph.edata["tap"] = torch.from_numpy(np.tile(tap, copies))
        graph.set_batch_num_nodes(torch.from_numpy(np.full(copies, prod(shape))).to(idtype))
        graph.set_batch_num_edges(torch.from_numpy(np.full(copies, len(tap))).to(idtype))
        graph.label_map = torch.arange(graph.num_nodes()).reshape(shape if copies == 1 else (copies, *shape))
    return graph


def _edges(
    shape: tuple[int, ...], window: tuple[int, ...], connectivity: int, loops: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Source, destination and tap of every edge, by sliding the window over the image of cell numbers."""
    cells = np.arange(prod(shape)).reshape(shape)
    padded = np.pad(cells, [(size // 2, size // 2) for size in window], constant_values=-1)
    sources = np.lib.stride_tricks.sliding_window_view(padded, window).reshape(prod(shape), prod(window))
    offset = np.indices(window).reshape(len(window), -1).T - np.array(window) // 2
    num_axes = (offset != 0).sum(1)  # along which the tap differs from the centre
    taps = np.flatnonzero((num_axes <= connectivity) & (loops | (num_axes > 0)))
    dst, column = np.nonzero(sources[:, taps] >= 0)
    return sources[dst, taps[column]], dst, taps[column]


def _integers(name: str, value: int | Sequence[int]) -> tuple[int, ...]:
    try:
        return tuple(map(operator.index, value if isinstance(value, Sequence) else (value,)))
    except TypeError:
        raise TypeError(f"{name}: expected an integer or a sequence of integers, got {value!r}") from None
