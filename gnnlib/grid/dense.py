"""Whole lattices as images: which graphs are one, the views between nodes and images, torch's own convolutions."""

from collections.abc import Callable, Sequence
from math import prod

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gnnlib._platform.dgl import dgl
from gnnlib.graph import edge_endpoints
from gnnlib.grid._lattice import Whole, answers, window_lattice
from gnnlib.grid.window import Window

__all__ = ["to_images", "to_nodes", "whole"]

CONV = F.conv1d, F.conv2d, F.conv3d
CONV_TRANSPOSE = F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d
MAX_POOL = F.max_pool1d, F.max_pool2d, F.max_pool3d
AVG_POOL = F.avg_pool1d, F.avg_pool2d, F.avg_pool3d


def to_nodes(images: Tensor, copies: int = 1) -> Tensor:
    """Images as node features: a view, whatever their order in memory.

    Shapes: images (B, C, \\*size) -> (N, B, C), all images as signals on one grid. With
    ``copies`` > 1, for a batch of so many grids with S signals each, (copies S, C, \\*size) -> (copies N, S, C).

    >>> images = torch.arange(24.0).view(2, 3, 2, 2)
    >>> x = to_nodes(images)
    >>> x.shape, x.data_ptr() == images.data_ptr(), torch.equal(to_images(x, (2, 2)), images)
    (torch.Size([4, 2, 3]), True, True)
    """
    flat = images.flatten(2) if images.dim() > 2 else images.unsqueeze(2)
    return flat.unflatten(0, (copies, len(images) // copies)).permute(0, 3, 1, 2).flatten(0, 1)


def to_images(x: Tensor, size: Sequence[int]) -> Tensor:
    """Node features as images: a view for one grid, and for a batch of grids with one signal.

    Shapes: x (N, B, C) -> (B, C, \\*size); a batch of grids, (B N, C) -> (B, C, \\*size).

    Raises: ValueError where x does not have a row for each cell.
    """
    cells = prod(size)
    if len(x) % cells:
        raise ValueError(f"x: expected a row for each of {cells} cells of {tuple(size)}, or copies, got {len(x)}")
    copies, signals = len(x) // cells, x.shape[1:-1].numel()
    return (
        x.reshape(copies, cells, signals, x.shape[-1]).permute(0, 2, 3, 1).reshape(copies * signals, x.shape[-1], *size)
    )


def on_images(found: Whole, x: Tensor, run: Callable[[Tensor], Tensor]) -> Tensor:
    """``run`` on the images that x (N, \\*, C) is, as node features again.

    What lies in memory neither as (B, C, \\*size) nor channels last is copied to channels last, as nodes are.
    """
    size = found.window.out_size if found.transposed else found.window.size
    if x.dim() < 2 or len(x) != found.copies * prod(size):
        raise ValueError(f"x: expected shape ({found.copies * prod(size)}, ..., F), got {tuple(x.shape)}")
    images = to_images(x, size)
    if not images.is_contiguous():
        images = images.movedim(1, -1).contiguous().movedim(-1, 1)
    y = to_nodes(run(images), found.copies)
    return y.reshape(len(y), *x.shape[1:-1], y.shape[-1])


def whole(graph: dgl.DGLGraph, kernel_size: tuple[int, ...] | None = None) -> Whole | None:
    """The window whose lattice ``graph`` is, or copies of it in a batch, or their reverse; None if it is none.

    The window is read from the positions, then proven: every edge and every tap of every copy is compared with the
    lattice. The answer is kept with the graph's structure for as long as the taps are the same.

    Args:
        kernel_size: of the window; None: what the edges reach.

    >>> from gnnlib.grid._lattice import lattice
    >>> batch = dgl.batch([lattice((6, 6), 3, stride=2, padding=1)] * 4)
    >>> whole(batch).copies, whole(batch).window.stride
    (4, (2, 2))
    >>> batch.remove_edges([7])
    >>> whole(batch) is None
    True
    """
    if "tap" not in graph.edata:
        return None
    known = answers(graph)
    if kernel_size not in known:
        known[kernel_size] = _recognise(graph, kernel_size)
    return known[kernel_size]


@torch.no_grad()
def _recognise(graph: dgl.DGLGraph, kernel_size: tuple[int, ...] | None) -> Whole | None:
    transposed = graph.srctypes == ["out"]
    ends, sides, tap = edge_endpoints(graph), (graph.srcdata, graph.dstdata), graph.edata["tap"].long().cpu()
    (into, out), sides = (ends[::-1], sides[::-1]) if transposed else (ends, sides)
    if any("pos" not in data for data in sides) or tap.dim() != 1 or not len(tap) or int(tap.min()) < 0:
        return None
    fine, coarse = (data["pos"].double().cpu().nan_to_num(-1.0, -1.0, -1.0) for data in sides)
    into, out = into.long().cpu(), out.long().cpu()
    for window in _read(fine, coarse, fine[into] - coarse[out], tap, kernel_size):
        copies, one = len(fine) // prod(window.size), window_lattice(window)
        pairs = [
            (into, one.edges(order="eid")[0], one.num_nodes("in")),
            (out, one.edges(order="eid")[1], one.num_nodes("out")),
            (tap, one.edata["tap"], 0),
            (sides[1].get("area", one.dstdata["area"].repeat(copies)).cpu(), one.dstdata["area"], 0),
        ]
        if all(torch.equal(found, _repeat(first, copies, step)) for found, first, step in pairs):
            return Whole(window, copies, transposed)
    return None


def _repeat(first: Tensor, copies: int, step: int) -> Tensor:
    return (first + step * torch.arange(copies).unsqueeze(1)).flatten()


def _read(
    fine: Tensor, coarse: Tensor, offset: Tensor, tap: Tensor, kernel_size: tuple[int, ...] | None
) -> list[Window]:
    """The windows that these positions, offsets (E, d) from output to input, and taps can be of: as far as they are
    told apart by the number of outputs, or by the areas, with equal padding on both sides first."""
    size = tuple(int(n) + 1 for n in fine.amax(0))
    copies, rest = divmod(len(fine), max(1, prod(size)))
    if rest or not copies or min(size) < 1 or len(kernel_size or size) != len(size):
        return []
    at = [axis.unique() for axis in coarse[: len(coarse) // copies].T]
    found = kernel_size or tuple(map(_reach, offset.T))
    last = int(tap.max())
    if (
        prod(map(len, at)) * copies != len(coarse)
        or last >= prod(found)
        or (kernel_size is None and last < max(found) - 1)
    ):
        return []
    stride = tuple(int(axis[1] - axis[0]) if len(axis) > 1 else n for axis, n in zip(at, size))
    dilation = tuple(map(_dilation, offset.T, np.unravel_index(tap.numpy(), found), found))
    before = [int(d * (c - 1) / 2 - float(axis[0])) for axis, c, d in zip(at, found, dilation)]
    if min(*stride, *dilation) < 1 or min(before) < 0:
        return []
    window = Window(size, found, stride, tuple((p, p) for p in before), dilation, tuple(map(len, at)))
    return [window, window.closed()] if window.ceil_mode is not None else [window.closed()]


def _reach(offset: Tensor) -> int:
    """Taps along an axis, where each edge is ``offset`` from the middle of its window."""
    seen = offset.unique()
    step = float(seen.diff().min()) if len(seen) > 1 else 1.0
    return round(2 * float(seen.abs().max()) / step) + 1


def _dilation(offset: Tensor, tap: np.ndarray, taps: int) -> int:
    """Cells from tap to tap, by the edge that is most taps from the middle of its window."""
    steps = tap - (taps - 1) / 2
    edge = int(np.abs(steps).argmax())
    return round(float(offset[edge]) / float(steps[edge])) if steps[edge] else 1


def convolve(window: Window, images: Tensor, weight: Tensor, bias: Tensor | None, groups: int) -> Tensor:
    """PyTorch's convolution of (B, C, \\*size) by a window; sides that differ are padded first."""
    run = CONV[len(window.size) - 1]
    if window.ceil_mode is False and all(before == after for before, after in window.padding):
        before = tuple(p for p, _ in window.padding)
        return run(images, weight, bias, window.stride, before, window.dilation, groups)
    return run(_pad(images, window.closed().padding), weight, bias, window.stride, 0, window.dilation, groups)


def convolve_transposed(window: Window, images: Tensor, weight: Tensor, bias: Tensor | None, groups: int) -> Tensor:
    """PyTorch's transposed convolution of (B, C, \\*out_size); what it cannot cut off or add is cut or added after."""
    run = CONV_TRANSPOSE[len(window.size) - 1]
    before, steps = tuple(p for p, _ in window.padding), zip(window.stride, window.dilation)
    more = tuple(n + 2 * p - full for n, p, full in zip(window.size, before, window.span))
    if all(0 <= extra < max(pair) for extra, pair in zip(more, steps)):
        return run(images, weight, bias, window.stride, before, more, groups, window.dilation)
    y = run(images, weight, None, window.stride, 0, 0, groups, window.dilation)
    y = _pad(y, [(-p, n + p - full) for n, p, full in zip(window.size, before, window.span)])
    return y if bias is None else y + bias.view(-1, *[1] * len(window.size))


def has_pool(window: Window, reduce: str) -> bool:
    """Whether PyTorch pools by this window: no larger than the input, sides padded alike and by half the window at
    most, no dilated mean."""
    each = zip(window.size, window.extent, window.kernel_size, window.padding)
    return (
        len(window.size) <= 3
        and window.ceil_mode is not None
        and all(reach <= n and before == after and 2 * before <= c for n, reach, c, (before, after) in each)
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
