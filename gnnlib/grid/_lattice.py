"""Lattices: bipartite graphs from the input cells of a sliding window to its output cells."""

import weakref
from collections.abc import Sequence
from functools import lru_cache, reduce
from math import prod
from typing import NamedTuple

import numpy as np
import scipy.sparse
import torch
from torch import Tensor

from gnnlib._utils.calls import names_checked
from gnnlib.graph import GraphLike, edge_endpoints, new_bipartite, reverse, takes_graph
from gnnlib.grid.window import Ints, Padding, Window, positive

__all__ = ["Whole", "adaptive_lattice", "lattice", "matrix", "transposed_lattice", "window_lattice"]


@names_checked()
def lattice(
    size: Ints,
    kernel_size: Ints,
    stride: Ints = 1,
    padding: Padding = 0,
    dilation: Ints = 1,
    ceil_mode: bool = False,
    idtype: torch.dtype = torch.int64,
) -> GraphLike:
    r"""The bipartite graph on which a convolution or pooling is message passing (LeCun et al. 1989, "Backpropagation
    Applied to Handwritten Zip Code Recognition").

    An edge u -> v runs from each input cell u in the window of the output cell v, typed by its tap, so that

    .. math:: \mathrm{conv}(x, w)_v = \sum_{u \to v} w_{\mathrm{tap}(u \to v)} \, x_u

    is ``torch.nn.functional.conv1d``, ``conv2d`` or ``conv3d`` (the window is not flipped). The graph has node types
    "in" and "out", cells in row-major order, and one edge type ("in", "tap", "out"):

    - ``edata["tap"]``: (E,) int64, row-major in the window. Edges are sorted by destination, then by tap.
    - ``srcdata["pos"]``, ``dstdata["pos"]``: (N, d) float32, in pixels of the input in the order of its axes, row then
      column in 2-d; of an output cell, the centre of its window.
    - ``dstdata["area"]``: (N_out,) int64, number of taps inside the padded input.

    The structure, taps and areas are built once per arguments and shared by all callers (the last 64 are cached): do
    not modify them in place. The positions are a copy.

    Args:
        size: length of each axis of the input, say (rows, columns); any number of axes.
        kernel_size, stride, padding, dilation, ceil_mode: as in :meth:`Window.of`.
        idtype: torch.int32 or torch.int64.

    Raises:
        TypeError: as :meth:`Window.of`.
        ValueError: as :meth:`Window.of`.

    Example:
        >>> from gnnlib.grid import lattice
        >>> import dgl
        >>> g = lattice(5, 3)
        >>> [(int(u), int(v), int(t)) for u, v, t in zip(*g.edges(), g.edata["tap"])][:4]
        [(0, 0, 0), (1, 0, 1), (2, 0, 2), (1, 1, 0)]
        >>> lattice((28, 28), 5, padding=2).num_nodes("out"), dgl.reverse(g).canonical_etypes
        (784, [('out', 'tap', 'in')])
    """
    return window_lattice(Window.of(size, kernel_size, stride, padding, dilation, ceil_mode), idtype)


@names_checked()
def transposed_lattice(
    size: Ints,
    kernel_size: Ints,
    stride: Ints = 1,
    padding: Padding = 0,
    output_padding: Ints = 0,
    dilation: Ints = 1,
    idtype: torch.dtype = torch.int64,
) -> GraphLike:
    """The lattice of the transposed, or fractionally strided, convolution: the lattice of the larger grid with reversed
    edges, ("out", "tap", "in"), so that messages pass from the ``size`` cells to the finer ones.

    Args:
        size, kernel_size, stride, padding, dilation, idtype: as in :func:`lattice`
        output_padding: cells added at the end, as in ``torch.nn.ConvTranspose2d``

    Raises:
        TypeError: as :meth:`Window.transposed`.
        ValueError: as :meth:`Window.transposed`.

    Example:
        >>> from gnnlib.grid import transposed_lattice
        >>> g = transposed_lattice((3, 3), 2, stride=2)
        >>> g.canonical_etypes, g.num_src_nodes(), g.num_dst_nodes()
        ([('out', 'tap', 'in')], 9, 36)
    """
    return window_lattice(Window.transposed(size, kernel_size, stride, padding, output_padding, dilation), idtype, True)


@names_checked()
def window_lattice(window: Window, idtype: torch.dtype = torch.int64, transposed: bool = False) -> GraphLike:
    """The lattice of a `Window`, or of its transpose."""
    return _copy(_of_window(window, idtype, transposed))


@names_checked()
def adaptive_lattice(size: Ints, out_size: Ints, idtype: torch.dtype = torch.int64) -> GraphLike:
    """The lattice of adaptive pooling (``torch.nn.AdaptiveAvgPool2d``): the window of output o of n goes
    from floor(o N / n) to ceil((o + 1) N / n). One output cell is global pooling.

    Taps are numbered row-major from the first cell, in a window of the largest size.

    Raises:
        TypeError: if a size is not an integer.
        ValueError: if a size is not positive, or there is not one per axis.

    Example:
        >>> from gnnlib.grid import adaptive_lattice
        >>> g = adaptive_lattice(5, 3)
        >>> g.edges()[0].tolist(), g.edges()[1].tolist()
        ([0, 1, 1, 2, 3, 3, 4], [0, 0, 1, 1, 1, 2, 2])
    """
    axes = positive("size", size, len(size) if isinstance(size, Sequence) else 1)
    return _copy(_adaptive(axes, positive("out_size", out_size, len(axes)), idtype))


@names_checked()
@takes_graph()
def matrix(graph: GraphLike, kernel: Tensor | np.ndarray) -> scipy.sparse.csr_matrix:
    """The matrix (N_out, N_in) of a convolution of one channel: the entries of the kernel at the tap of each edge.

    In one dimension it is a Toeplitz matrix. Of a reversed lattice it is the transpose.

    Args:
        graph: any graph with ``edata["tap"]``
        kernel: the taps' values, shaped like the window or flat

    Raises:
        KeyError: if the graph has no taps.
        ValueError: if a tap is outside the kernel.

    Example:
        >>> import numpy as np
        >>> from gnnlib.grid import lattice, matrix
        >>> matrix(lattice(5, 3), np.array([1, 2, 3])).toarray().tolist()
        [[1, 2, 3, 0, 0], [0, 1, 2, 3, 0], [0, 0, 1, 2, 3]]
    """
    values = np.asarray(kernel.detach().cpu() if isinstance(kernel, Tensor) else kernel).ravel()
    tap = taps(graph).cpu().numpy()
    if len(tap) and not 0 <= tap.min() <= tap.max() < len(values):
        raise ValueError(f"taps: expected numbers from 0 to {len(values) - 1}, got {tap.min()} to {tap.max()}")
    src, dst = (nodes.cpu().numpy() for nodes in edge_endpoints(graph))
    return scipy.sparse.csr_matrix((values[tap], (dst, src)), shape=(graph.num_dst_nodes(), graph.num_src_nodes()))


@names_checked()
class Whole(NamedTuple):
    """A batch of copies of the lattice of a window, with reversed edges if transposed."""

    window: Window
    copies: int
    transposed: bool


def match_cache(graph: GraphLike) -> dict[tuple[int, ...] | None, Whole | None]:
    """The results of `match_lattice` by kernel size, cached on the graph's structure while its taps stay the same."""
    tap = graph.edata["tap"]
    version = None if tap.is_inference() else tap._version
    cached_tap, cached_version, matches = getattr(graph._graph, "_gnnlib_lattice", (lambda: None, None, {}))
    if cached_tap() is not tap or cached_version != version:
        matches = {}
        graph._graph._gnnlib_lattice = weakref.ref(tap), version, matches
    return matches


def taps(graph: GraphLike) -> Tensor:
    """The tap of every edge."""
    if "tap" not in graph.edata:
        raise KeyError(f'expected a graph with edata["tap"], got edata with {sorted(graph.edata)}')
    return graph.edata["tap"]


def _copy(graph: GraphLike) -> GraphLike:
    graph = graph.local_var()
    for data in (graph.srcdata, graph.dstdata):
        data["pos"] = data["pos"].clone()  # users scale positions in place
    return graph


@lru_cache(maxsize=64)
def _of_window(window: Window, idtype: torch.dtype, transposed: bool) -> GraphLike:
    if transposed:
        with torch.inference_mode(False):
            graph = reverse(_of_window(window, idtype, False))
    else:
        cells = window.cells()
        middle = [(axis[:, 0] + axis[:, -1]) / 2 for axis in cells]
        area = [(axis < n + after).sum(1) for axis, n, (_, after) in zip(cells, window.size, window.padding)]
        graph = _graph(window.size, cells, middle, area, idtype)
    match_cache(graph).update(dict.fromkeys((None, window.kernel_size), Whole(window, 1, transposed)))
    return graph


@lru_cache(maxsize=64)
def _adaptive(size: tuple[int, ...], out_size: tuple[int, ...], idtype: torch.dtype) -> GraphLike:
    cells, middle, area = [], [], []
    for n, out in zip(size, out_size):
        first = np.arange(out) * n // out
        last = -(-(np.arange(out) + 1) * n // out) - 1
        window = first[:, None] + np.arange((last - first).max() + 1)
        cells.append(np.where(window <= last[:, None], window, -1))
        middle.append((first + last) / 2)
        area.append(last - first + 1)
    return _graph(size, cells, middle, area, idtype)


def _graph(
    size: tuple[int, ...],
    cells: list[np.ndarray],
    middle: list[np.ndarray],
    area: list[np.ndarray],
    idtype: torch.dtype,
) -> GraphLike:
    """From the input cell at each tap of each output cell along each axis, (out, c); edges only where it is inside."""
    source, inside = np.zeros((1, 1), np.int64), np.ones((1, 1), bool)  # (cells, taps), grown axis by axis
    for n, axis in zip(size, cells):
        shape = (len(source) * len(axis), source.shape[1] * axis.shape[1])
        source = (source[:, None, :, None] * n + axis[:, None]).reshape(shape)
        inside = (inside[:, None, :, None] & ((axis >= 0) & (axis < n))[:, None]).reshape(shape)
    dst, tap = np.nonzero(inside)
    with torch.inference_mode(False):  # cached tensors must work under autograd later
        edges = torch.from_numpy(source[dst, tap]), torch.from_numpy(dst)
        graph = new_bipartite(("in", "tap", "out"), *edges, prod(size), len(source), idtype=idtype)
        graph.edata["tap"] = torch.from_numpy(tap)
        graph.srcdata["pos"] = _points([np.arange(n) for n in size])
        graph.dstdata["pos"] = _points(middle)
        graph.dstdata["area"] = torch.from_numpy(reduce(np.multiply.outer, area).ravel())
    return graph


def _points(axes: list[np.ndarray]) -> Tensor:
    """(N, d): the Cartesian product of the coordinates of all axes, row-major."""
    return torch.from_numpy(np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, len(axes)).astype(np.float32))
