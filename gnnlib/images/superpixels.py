"""Images as small graphs: regions of similar pixels, each joined to the regions nearest to it."""

import operator

import numpy as np
import torch
from scipy.spatial import KDTree
from torch import Tensor

from gnnlib._dgl import dgl
from gnnlib.images.gaussian import HEAT

__all__ = [
    "graph_from_arrays",
    "graph_from_labels",
    "label_arrays",
    "segment",
    "superpixel_arrays",
    "superpixel_graph",
]

Image = Tensor | np.ndarray


def superpixel_graph(
    image: Image,
    num_segments: int = 75,
    k: int = 8,
    compactness: float | None = None,
    sigma: float | None = None,
) -> dgl.DGLGraph:
    """An image as the graph of its superpixels: :func:`segment`, then :func:`graph_from_labels`.

    Args:
        image: (H, W) or (H, W, C), channels last; uint8 (taken as 0..1) or floating point; numpy or torch.
        num_segments: superpixels to ask for; SLIC returns about as many.
        k: how many nearest superpixels each one hears.
        compactness: as in :func:`segment`.
        sigma: as in :func:`graph_from_labels`.

    Shapes: n nodes, about ``num_segments``, and n min(k, n - 1) edges; ``ndata["feat"]`` (n, C),
    ``ndata["pos"]`` (n, 2) in pixels: row, column.

    Raises:
        ValueError, TypeError: as the two functions.
        ImportError: without scikit-image.

    The same image gives the same graph. A constant image gives a grid of rough squares, a single pixel one node without
    edges.

    >>> image = np.zeros((6, 6))
    >>> image[:, 3:] = 1
    >>> g = superpixel_graph(image, num_segments=4, k=2)
    >>> g.ndata["feat"].flatten().tolist(), g.ndata["pos"].tolist()
    ([0.0, 1.0, 0.0, 1.0], [[1.0, 1.0], [1.0, 4.0], [4.0, 1.0], [4.0, 4.0]])
    >>> g.num_edges(), sorted(g.edata)
    (8, ['offset', 'weight'])
    """
    return graph_from_arrays(superpixel_arrays(image, num_segments, k, compactness, sigma))


def graph_from_labels(image: Image, labels: Image, k: int = 8, sigma: float | None = None) -> dgl.DGLGraph:
    r"""The graph of the regions of any label map: k nearest neighbours with Gaussian weights, after Dwivedi et al.,
    2020, arXiv:2003.00982 (their equation for superpixels), and Knyazev et al., 2019, arXiv:1905.02850.

    Each region v is a node. From each of the k regions u with the nearest centroids runs an edge u -> v, so every
    node receives k messages, weighted

    .. math:: w(u \to v) = \exp\left(-\frac{\|p_u - p_v\|^2}{\sigma_v^2}\right), \qquad
              \sigma_v = \frac{1}{k} \sum_{u \to v} \|p_u - p_v\|

    - ``ndata["feat"]``: (n, C) float32, mean of each channel over the region.
    - ``ndata["pos"]``: (n, d) float32, centroid in pixels, in the order of the label map's axes: row, column.
    - ``edata["weight"]``: (E,) float32, as above.
    - ``edata["offset"]``: (E, d) float32, p_u - p_v in pixels: where the message comes from.

    Nodes are in the order of their labels; edges are sorted by destination, the nearest source first (equally near
    ones in a fixed, unspecified order).

    Differs from the paper, whose edges leave each node (so in-degrees vary), whose weights average w(u -> v) and
    w(v -> u) before the nearest are chosen, and whose sigma is 1e-8 larger.

    Args:
        image: (*S,) or (*S, C), channels last; uint8 (taken as 0..1) or floating point.
        labels: (*S,) integers from 0, d axes; gaps in the numbering are closed.
        k: number of neighbours, at least 1; all others where there are fewer.
        sigma: one width in pixels for every node in place of sigma_v.

    Shapes: S the label map's shape, (H, W) for an image; n regions, E = n min(k, n - 1) edges.

    Raises:
        ValueError: for an image that is empty, not finite or not of the labels' shape, negative labels, k < 1, or sigma
            that is not positive.
        TypeError: for an image that is neither uint8 nor floating point, or labels that are not integers.

    A single region gives one node without edges.

    >>> g = graph_from_labels(np.array([[0.0, 0.0, 0.5, 1.0]]), np.array([[0, 0, 1, 2]]), k=1)
    >>> g.ndata["feat"].flatten().tolist(), g.ndata["pos"].tolist()
    ([0.0, 0.5, 1.0], [[0.0, 0.5], [0.0, 2.0], [0.0, 3.0]])
    >>> [(int(u), int(v)) for u, v in zip(*g.edges())], g.edata["offset"][:, 1].tolist()
    ([(1, 0), (2, 1), (1, 2)], [1.5, 1.0, -1.0])
    """
    return graph_from_arrays(label_arrays(image, labels, k, sigma))


def superpixel_arrays(
    image: Image,
    num_segments: int = 75,
    k: int = 8,
    compactness: float | None = None,
    sigma: float | None = None,
) -> dict[str, np.ndarray]:
    """:func:`superpixel_graph` as plain arrays, for converting many images in worker processes.

    :func:`graph_from_arrays` makes the graph of them.

    Args, Raises: as :func:`superpixel_graph`.

    Shapes: src, dst (E,) int64; feat (n, C), pos (n, 2), weight (E,) float32.

    >>> {name: a.shape for name, a in superpixel_arrays(np.zeros((6, 6)), num_segments=4, k=2).items()}
    {'src': (8,), 'dst': (8,), 'feat': (4, 1), 'pos': (4, 2), 'weight': (8,)}
    """
    pixels = _pixels(image, axes=2)
    return label_arrays(pixels, segment(pixels, num_segments, compactness), k, sigma)


def segment(image: Image, num_segments: int = 75, compactness: float | None = None) -> np.ndarray:
    """Superpixels of an image: SLIC of Achanta et al., 2012, "SLIC Superpixels Compared to State-of-the-art
    Superpixel Methods", as scikit-image has it.

    k-means of the pixels, started on a regular grid of S x S squares, under the distance d of equation 3,
    d^2 = (colour distance)^2 + compactness^2 (distance in pixels / S)^2.

    Two things happen inside scikit-image: the image's range is first stretched to 0..1, and three channels are taken
    as RGB and converted to Lab, where distances go to about 100.

    Args:
        image: (H, W) or (H, W, C), channels last; uint8 (taken as 0..1) or floating point.
        num_segments: superpixels to ask for, 1 to H W. They start as a grid, so the number found differs somewhat.
        compactness: how much space counts against colour: large gives squares, small follows edges. None: 10 for
            three channels, else 0.25, as Knyazev et al., 2019, arXiv:1905.02850, set them for CIFAR-10 and MNIST.

    Shapes: returns (H, W) int64, labels 0..n-1 without gaps, so ``values[labels]`` paints n values as an image.

    Raises:
        ValueError: for an image of another shape, empty or not finite, a number of segments outside 1 to H W, or a
            compactness that is not positive.
        TypeError: for an image that is neither uint8 nor floating point.
        ImportError: without scikit-image.

    >>> segment(np.array([[0.0, 0.0, 1.0, 1.0]] * 2), num_segments=2)
    array([[0, 0, 1, 1],
           [0, 0, 1, 1]])
    """
    pixels = _pixels(image, axes=2)
    rows, columns, channels = pixels.shape
    if not 1 <= operator.index(num_segments) <= rows * columns:
        raise ValueError(
            f"num_segments: expected 1 to {rows * columns} for {rows} x {columns} pixels, got {num_segments}"
        )
    if compactness is None:
        compactness = 10.0 if channels == 3 else 0.25
    if not 0 < compactness < np.inf:
        raise ValueError(f"compactness: expected a positive number, got {compactness}")
    try:
        from skimage.segmentation import slic
    except ImportError as error:
        raise ImportError("superpixels need scikit-image: pip install 'gnnlib[images]'", name="skimage") from error
    labels = slic(pixels, n_segments=num_segments, compactness=compactness, start_label=0, channel_axis=-1)
    return np.unique(labels, return_inverse=True)[1].reshape(labels.shape)


def label_arrays(image: Image, labels: Image, k: int = 8, sigma: float | None = None) -> dict[str, np.ndarray]:
    """:func:`graph_from_labels` as plain arrays.

    Args, Raises: as :func:`graph_from_labels`.

    Shapes: src, dst (E,) int64; feat (n, C), pos (n, d), weight (E,) float32.

    >>> label_arrays(np.array([[0.0, 1.0]]), np.array([[7, 7]]))["pos"]
    array([[0. , 0.5]], dtype=float32)
    """
    regions = _numpy(labels)
    if not np.issubdtype(regions.dtype, np.integer):
        raise TypeError(f"labels: expected integers, got {regions.dtype}")
    pixels = _pixels(image, axes=regions.ndim)
    if pixels.shape[:-1] != regions.shape:
        raise ValueError(f"labels: expected the image's shape {pixels.shape[:-1]}, got {regions.shape}")
    if regions.min() < 0:
        raise ValueError(f"labels: expected integers from 0, got {regions.min()}")
    if operator.index(k) < 1:
        raise ValueError(f"k: expected at least 1, got {k}")
    if sigma is not None and not 0 < sigma < np.inf:
        raise ValueError(f"sigma: expected None or a positive number, got {sigma}")
    region, size = np.unique(regions.ravel(), return_inverse=True, return_counts=True)[1:]

    def mean(values: np.ndarray) -> np.ndarray:  # (pixels, F) -> (n, F)
        return np.stack([np.bincount(region, column) for column in values.T], axis=1) / size[:, None]

    feat = mean(pixels.reshape(region.size, -1))
    pos = mean(np.indices(regions.shape).reshape(regions.ndim, -1).T)
    near, distance = _nearest(pos, k)
    width = distance.sum(1, keepdims=True) / max(near.shape[1], 1) if sigma is None else sigma
    width = np.maximum(width, 1e-12)  # neighbours that all share v's centroid: weight 1
    arrays = {"feat": feat, "pos": pos, "weight": HEAT(distance, width).ravel()}
    dst = np.repeat(np.arange(len(near)), near.shape[1])
    return {"src": near.ravel(), "dst": dst} | {name: a.astype(np.float32) for name, a in arrays.items()}


def graph_from_arrays(arrays: dict[str, np.ndarray]) -> dgl.DGLGraph:
    """The graph of what :func:`superpixel_arrays` or :func:`label_arrays` returned, say in another process.

    Args:
        arrays: src, dst (E,); feat (n, C), pos (n, d), weight (E,).

    Shapes: n nodes with ``ndata["feat"]`` and ``ndata["pos"]``, E edges with ``edata["weight"]`` and
    ``edata["offset"]`` (E, d) = pos[src] - pos[dst].

    Raises:
        KeyError: where an array is missing.

    >>> graph_from_arrays(superpixel_arrays(np.zeros((6, 6)), num_segments=4, k=2)).in_degrees().tolist()
    [2, 2, 2, 2]
    """
    src, dst, feat, pos, weight = (torch.from_numpy(arrays[name]) for name in ("src", "dst", "feat", "pos", "weight"))
    graph = dgl.graph((src, dst), num_nodes=len(feat))
    graph.ndata["feat"], graph.ndata["pos"] = feat, pos
    graph.edata["weight"], graph.edata["offset"] = weight, pos[src] - pos[dst]
    return graph


def _nearest(points: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest others of every point and their distances, both (n, min(k, n - 1)), nearest first."""
    k = min(k, len(points) - 1)
    distance, index = KDTree(points).query(points, np.arange(1, k + 2))
    itself = index == np.arange(len(points))[:, None]
    others = np.argsort(itself, axis=1, kind="stable")[:, :k]  # a point goes last; among twins it may not be there
    return np.take_along_axis(index, others, 1), np.take_along_axis(distance, others, 1)


def _numpy(array: Image) -> np.ndarray:
    return array.detach().cpu().numpy() if isinstance(array, Tensor) else np.asarray(array)


def _pixels(image: Image, axes: int) -> np.ndarray:
    """An image as (*S, C) float64, checked."""
    if isinstance(image, Tensor) and image.is_floating_point():
        image = image.double()  # numpy has no bfloat16
    pixels = _numpy(image)
    if pixels.ndim not in (axes, axes + 1):
        raise ValueError(f"image: expected {axes} axes, or {axes + 1} with channels last, got shape {pixels.shape}")
    if pixels.size == 0:
        raise ValueError(f"image: expected at least one pixel and channel, got shape {pixels.shape}")
    if pixels.dtype != np.uint8 and not np.issubdtype(pixels.dtype, np.floating):
        raise TypeError(f"image: expected uint8 or floating point, got {pixels.dtype}")
    if not np.isfinite(pixels).all():
        raise ValueError(f"image: expected finite values, got {pixels[~np.isfinite(pixels)][0]}")
    scaled = pixels / 255.0 if pixels.dtype == np.uint8 else pixels.astype(np.float64)
    return scaled if pixels.ndim > axes else scaled[..., None]
