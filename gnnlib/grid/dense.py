"""Dense computation on lattices: recognition of lattices, views between nodes and images, PyTorch's kernels."""

from collections.abc import Callable, Sequence
from math import prod

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gnnlib._utils.calls import names_checked
from gnnlib.graph import GraphLike, edge_endpoints, takes_graph
from gnnlib.grid._lattice import Whole, match_cache, window_lattice
from gnnlib.grid.window import Window

__all__ = ["to_images", "to_nodes", "whole"]

CONV = F.conv1d, F.conv2d, F.conv3d
CONV_TRANSPOSE = F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d
MAX_POOL = F.max_pool1d, F.max_pool2d, F.max_pool3d
AVG_POOL = F.avg_pool1d, F.avg_pool2d, F.avg_pool3d


@names_checked()
def to_nodes(images: Tensor, copies: int = 1) -> Tensor:
    """Images as node features: a view, for any strides.

    Args:
        images: one image per signal
        copies: number of grids in the batch

    Shapes:
        - images: (B, C, \\*size), or (copies S, C, \\*size) for a batch of grids with S signals each
        - output: (N, B, C), or (copies N, S, C)

    Example:
        >>> import torch
        >>> from gnnlib.grid import to_images, to_nodes
        >>> images = torch.arange(24.0).view(2, 3, 2, 2)
        >>> x = to_nodes(images)
        >>> x.shape, x.data_ptr() == images.data_ptr(), torch.equal(to_images(x, (2, 2)), images)
        (torch.Size([4, 2, 3]), True, True)
    """
    flat = images.flatten(2) if images.dim() > 2 else images.unsqueeze(2)
    return flat.unflatten(0, (copies, len(images) // copies)).permute(0, 3, 1, 2).flatten(0, 1)


@names_checked()
def to_images(x: Tensor, size: Sequence[int]) -> Tensor:
    """Node features as images: a view for one grid, and for a batch of grids with one signal.

    Args:
        x: node features
        size: length of each axis of the grid

    Shapes:
        - x: (N, B, C), or (B N, C) for a batch of grids
        - output: (B, C, \\*size)

    Raises:
        ValueError: if x does not have one row per cell.
    """
    cells = prod(size)
    if len(x) % cells:
        raise ValueError(f"x: expected a row for each of {cells} cells of {tuple(size)}, or copies, got {len(x)}")
    copies, signals = len(x) // cells, x.shape[1:-1].numel()
    return (
        x.reshape(copies, cells, signals, x.shape[-1]).permute(0, 2, 3, 1).reshape(copies * signals, x.shape[-1], *size)
    )


def on_images(match: Whole, x: Tensor, run: Callable[[Tensor], Tensor]) -> Tensor:
    """Apply ``run`` to x (N, \\*, C) as images, and return node features.

    Images that are neither contiguous nor channels last in memory are copied to channels last, the layout of nodes.
    """
    size = match.window.out_size if match.transposed else match.window.size
    if x.dim() < 2 or len(x) != match.copies * prod(size):
        raise ValueError(f"x: expected shape ({match.copies * prod(size)}, ..., F), got {tuple(x.shape)}")
    images = to_images(x, size)
    if not images.is_contiguous():
        images = images.movedim(1, -1).contiguous().movedim(-1, 1)
    y = to_nodes(run(images), match.copies)
    return y.reshape(len(y), *x.shape[1:-1], y.shape[-1])


@names_checked()
@takes_graph()
def whole(graph: GraphLike, kernel_size: tuple[int, ...] | None = None) -> Whole | None:
    """The window of a graph that is a lattice, a batch of copies of one, or the reverse of these; None for other
    graphs.

    The window is inferred from the positions, then verified: every edge and every tap of every copy is compared with
    the lattice. The result is cached on the graph's structure while the taps stay the same.

    Args:
        graph: any graph
        kernel_size: of the window; None: the smallest that has all edges

    Example:
        >>> from gnnlib.grid import lattice, whole
        >>> import dgl
        >>> batch = dgl.batch([lattice((6, 6), 3, stride=2, padding=1)] * 4)
        >>> whole(batch).copies, whole(batch).window.stride
        (4, (2, 2))
        >>> batch.remove_edges([7])
        >>> whole(batch) is None
        True
    """
    if "tap" not in graph.edata:
        return None
    matches = match_cache(graph)
    if kernel_size not in matches:
        matches[kernel_size] = _match(graph, kernel_size)
    return matches[kernel_size]


@torch.no_grad()
def _match(graph: GraphLike, kernel_size: tuple[int, ...] | None) -> Whole | None:
    transposed = graph.srctypes == ["out"]
    endpoints, frames, tap = edge_endpoints(graph), (graph.srcdata, graph.dstdata), graph.edata["tap"].long().cpu()
    (into, out), frames = (endpoints[::-1], frames[::-1]) if transposed else (endpoints, frames)
    if any("pos" not in data for data in frames) or tap.dim() != 1 or not len(tap) or int(tap.min()) < 0:
        return None
    fine, coarse = (data["pos"].double().cpu().nan_to_num(-1.0, -1.0, -1.0) for data in frames)
    into, out = into.long().cpu(), out.long().cpu()
    for window in _candidates(fine, coarse, fine[into] - coarse[out], tap, kernel_size):
        copies, one = len(fine) // prod(window.size), window_lattice(window)
        pairs = [
            (into, one.edges(order="eid")[0], one.num_nodes("in")),
            (out, one.edges(order="eid")[1], one.num_nodes("out")),
            (tap, one.edata["tap"], 0),
            (frames[1].get("area", one.dstdata["area"].repeat(copies)).cpu(), one.dstdata["area"], 0),
        ]
        if all(torch.equal(tensor, _repeat(first, copies, step)) for tensor, first, step in pairs):
            return Whole(window, copies, transposed)
    return None


def _repeat(first: Tensor, copies: int, step: int) -> Tensor:
    return (first + step * torch.arange(copies).unsqueeze(1)).flatten()


def _candidates(
    fine: Tensor, coarse: Tensor, offset: Tensor, tap: Tensor, kernel_size: tuple[int, ...] | None
) -> list[Window]:
    """The windows that are consistent with these positions, offsets (E, d) from output to input, and taps. The number
    of outputs and the areas distinguish them; equal padding on both sides comes first."""
    size = tuple(int(n) + 1 for n in fine.amax(0))
    copies, rest = divmod(len(fine), max(1, prod(size)))
    if rest or not copies or min(size) < 1 or len(kernel_size or size) != len(size):
        return []
    at = [axis.unique() for axis in coarse[: len(coarse) // copies].T]
    kernel = kernel_size or tuple(map(_reach, offset.T))
    last = int(tap.max())
    if (
        prod(map(len, at)) * copies != len(coarse)
        or last >= prod(kernel)
        or (kernel_size is None and last < max(kernel) - 1)
    ):
        return []
    stride = tuple(int(axis[1] - axis[0]) if len(axis) > 1 else n for axis, n in zip(at, size))
    dilation = tuple(map(_dilation, offset.T, np.unravel_index(tap.numpy(), kernel), kernel))
    before = [int(d * (c - 1) / 2 - float(axis[0])) for axis, c, d in zip(at, kernel, dilation)]
    if min(*stride, *dilation) < 1 or min(before) < 0:
        return []
    window = Window(size, kernel, stride, tuple((p, p) for p in before), dilation, tuple(map(len, at)))
    return [window, window.closed()] if window.ceil_mode is not None else [window.closed()]


def _reach(offset: Tensor) -> int:
    """The number of taps along an axis, from the offsets of edges from the centre of their window."""
    offsets = offset.unique()
    step = float(offsets.diff().min()) if len(offsets) > 1 else 1.0
    return round(2 * float(offsets.abs().max()) / step) + 1


def _dilation(offset: Tensor, tap: np.ndarray, taps: int) -> int:
    """Cells between adjacent taps, from the edge that is most taps from the centre of its window."""
    steps = tap - (taps - 1) / 2
    edge = int(np.abs(steps).argmax())
    return round(float(offset[edge]) / float(steps[edge])) if steps[edge] else 1


def convolve(window: Window, images: Tensor, weight: Tensor, bias: Tensor | None, groups: int) -> Tensor:
    """PyTorch's convolution of (B, C, \\*size) with a window; asymmetric padding is applied first."""
    run = CONV[len(window.size) - 1]
    if window.ceil_mode is False and all(before == after for before, after in window.padding):
        before = tuple(p for p, _ in window.padding)
        return run(images, weight, bias, window.stride, before, window.dilation, groups)
    return run(_pad(images, window.closed().padding), weight, bias, window.stride, 0, window.dilation, groups)


def convolve_transposed(window: Window, images: Tensor, weight: Tensor, bias: Tensor | None, groups: int) -> Tensor:
    """PyTorch's transposed convolution of (B, C, \\*out_size); cropping and padding that it does not support follow."""
    run = CONV_TRANSPOSE[len(window.size) - 1]
    before, steps = tuple(p for p, _ in window.padding), zip(window.stride, window.dilation)
    more = tuple(n + 2 * p - full for n, p, full in zip(window.size, before, window.span))
    if all(0 <= extra < max(pair) for extra, pair in zip(more, steps)):
        return run(images, weight, bias, window.stride, before, more, groups, window.dilation)
    y = run(images, weight, None, window.stride, 0, 0, groups, window.dilation)
    y = _pad(y, [(-p, n + p - full) for n, p, full in zip(window.size, before, window.span)])
    return y if bias is None else y + bias.view(-1, *[1] * len(window.size))


def has_pool(window: Window, reduce: str) -> bool:
    """Whether PyTorch's pooling supports this window: no larger than the input, padding symmetric and at most half the
    window, no dilated mean."""
    axes = zip(window.size, window.extent, window.kernel_size, window.padding)
    return (
        len(window.size) <= 3
        and window.ceil_mode is not None
        and all(reach <= n and before == after and 2 * before <= c for n, reach, c, (before, after) in axes)
        and (reduce == "max" or max(window.dilation) == 1)
    )


def pool(window: Window, images: Tensor, reduce: str, count_include_pad: bool) -> Tensor:
    """PyTorch's pooling of (B, C, \\*size)."""
    axes = len(window.size) - 1
    sides = window.kernel_size, window.stride, tuple(before for before, _ in window.padding)
    if reduce == "max":
        return MAX_POOL[axes](images, *sides, window.dilation, bool(window.ceil_mode))
    return AVG_POOL[axes](images, *sides, bool(window.ceil_mode), count_include_pad)


def _pad(images: Tensor, padding: Sequence[tuple[int, int]]) -> Tensor:
    return F.pad(images, [p for sides in reversed(padding) for p in sides])
