"""Superpixel graphs: regions of similar pixels, by default joined to their k nearest neighbours."""

from collections.abc import Sequence

import numpy as np
import torch

from gnnlib._utils.calls import names_checked
from gnnlib.graph import GraphLike, new_graph
from gnnlib.images._image import Image, parse_image
from gnnlib.images._regions import Feature, Regions, region_features
from gnnlib.images.edges import EdgeRule, Nearest
from gnnlib.images.points import with_offsets
from gnnlib.images.segments import segment_pixels
from gnnlib.ops.degrees import degree_norm

__all__ = [
    "graph_from_arrays",
    "graph_from_labels",
    "label_arrays",
    "region_arrays",
    "superpixel_arrays",
    "superpixel_graph",
    "with_label_map",
]


@names_checked(n_segments="num_segments=")
def superpixel_graph(
    image: Image,
    num_segments: int = 75,
    k: int = 8,
    compactness: float | None = None,
    sigma: float | None = None,
    *,
    axes: int = 2,
    mask: Image | None = None,
    features: Sequence[Feature] = ("mean",),
    edges: EdgeRule | None = None,
    self_loops: bool = False,
    norm: str = "none",
    channels: int | None = None,
    spacing: Sequence[float] | None = None,
) -> GraphLike:
    """The superpixel graph of an image: :func:`~gnnlib.images.segment`, then :func:`graph_from_labels`.

    Args:
        image: (H, W) or (H, W, C), channels last; uint8, uint16 (scaled to 0..1) or floating point;
            numpy, torch, PIL or a path. Masked entries of numpy's masked arrays are outside the mask.
        num_segments: requested number of superpixels; SLIC returns about as many.
        compactness: as in :func:`~gnnlib.images.segment`.
        axes: 2, or 3 for a volume (D, H, W) or (D, H, W, C).
        mask: (H, W) booleans; pixels outside belong to no node. None for the whole image.
        k, sigma, features, edges, self_loops, norm: as in :func:`graph_from_labels`.
        channels, spacing: as in :func:`~gnnlib.images.segment`. With a spacing, positions are in its unit.

    Shapes:
        - n nodes, about ``num_segments``, and by default n min(k, n - 1) edges
        - ``ndata["feat"]``: (n, C)
        - ``ndata["pos"]``: (n, 2) in pixels: row, column

    Raises:
        ValueError: as :func:`~gnnlib.images.segment` and :func:`graph_from_labels`.
        TypeError: as these functions.
        ImportError: if scikit-image is not installed.

    The same image gives the same graph. A constant image gives a grid of approximate squares, and a single pixel (with
    ``num_segments=1``) one node without edges.

    Example:
        >>> import numpy as np
        >>> from gnnlib.images import superpixel_graph
        >>> image = np.zeros((6, 6))
        >>> image[:, 3:] = 1
        >>> g = superpixel_graph(image, num_segments=4, k=2)
        >>> g.ndata["feat"].flatten().tolist(), g.ndata["pos"].tolist()
        ([0.0, 1.0, 0.0, 1.0], [[1.0, 1.0], [1.0, 4.0], [4.0, 1.0], [4.0, 4.0]])
        >>> g.num_edges(), sorted(g.edata)
        (8, ['distance', 'offset', 'weight'])
    """
    rule = _edge_rule(k, sigma, edges)
    pixels = parse_image(image, axes, mask, channels, spacing)
    regions = Regions.from_pixels(pixels, segment_pixels(pixels, num_segments, compactness))
    return _region_graph(regions, rule, features, self_loops, norm)


@names_checked()
def graph_from_labels(
    image: Image,
    labels: Image,
    k: int = 8,
    sigma: float | None = None,
    *,
    mask: Image | None = None,
    features: Sequence[Feature] = ("mean",),
    edges: EdgeRule | None = None,
    self_loops: bool = False,
    norm: str = "none",
    spacing: Sequence[float] | None = None,
) -> GraphLike:
    r"""The region graph of any label map (SLIC, Felzenszwalb, watershed, quickshift, ...): by default k nearest
    neighbours with Gaussian weights, after Dwivedi et al., 2020, arXiv:2003.00982 (their equation for superpixels), and
    Knyazev et al., 2019, arXiv:1905.02850.

    Every region v is a node, with an in-edge u -> v from each of the k regions u with the nearest centroids. Weights
    are

    .. math:: w(u \to v) = \exp\left(-\frac{\|p_u - p_v\|^2}{\sigma_v^2}\right), \qquad
              \sigma_v = \frac{1}{k} \sum_{u \to v} \|p_u - p_v\|

    - ``ndata["feat"]``: (n, F) float32, mean of each channel over the region, or what ``features`` names.
    - ``ndata["pos"]``: (n, d) float32, centroid in pixels, in the order of the label map's axes: row, column.
    - ``edata["weight"]``: (E,) float32, as above.
    - ``edata["offset"]``: (E, d) float32, p_u - p_v in pixels.
    - ``edata["distance"]``: (E,) float32, its length. ``Touching`` adds ``edata["border"]``.
    - ``label_map``, an attribute of the graph: (\*S,) int64, the node of each pixel, -1 outside the mask: see
      :func:`~gnnlib.images.paint`.

    Nodes are in the order of their labels; edges are sorted by destination, the nearest source first (equally near
    ones in a fixed, unspecified order).

    Differs from the paper, whose edges leave each node (so in-degrees vary), whose weights average w(u -> v) and
    w(v -> u) before the nearest are chosen, and whose sigma is 1e-8 larger: that is `gnnlib.images.recipes.dwivedi`.

    Args:
        image: (\*S,) or (\*S, C), channels last; uint8, uint16 (scaled to 0..1) or floating point;
            numpy, torch, PIL or a path.
        labels: (\*S,) integers from 0, d axes; gaps in the numbering are closed.
        k: number of neighbours, at least 1; all other regions if there are fewer.
        sigma: one width in pixels for every node in place of sigma_v.
        mask: (\*S,) booleans; pixels outside belong to no node, and may have any value. None for the whole image.
        features: names of :func:`gnnlib.images.region_features`, or functions, concatenated in ``feat``.
        edges: another rule of `gnnlib.images.edges` in place of ``Nearest(k, sigma)``.
        self_loops: whether to add an edge of weight 1 from each node to itself, as its first in-edge.
        norm: of the weights, by their sums: "none", "right" (A / row sum), "both" (Kipf's, whose A has self-loops) or
            "left", as in :func:`gnnlib.ops.degrees.degree_norm`.
        spacing: the distance of neighbouring pixels along each axis; positions, offsets, distances and widths are in
            its unit in place of pixels. None for 1.

    Shapes:
        - S the label map's shape, (H, W) for an image; n regions, by default E = n min(k, n - 1) edges

    Raises:
        ValueError: if the image is empty, not finite or not of the labels' shape.
        ValueError: if the mask has another shape or is empty, or a label is negative.
        ValueError: if k < 1, sigma or the spacing is not positive, or a feature or the norm is unknown.
        TypeError: if the image is neither uint8, uint16 nor floating point, the labels are not integers,
            or the mask is not boolean.
        TypeError: if k is not an integer, or ``edges`` is not a rule.

    A single region gives one node without edges.

    Example:
        >>> import numpy as np
        >>> from gnnlib.images import graph_from_labels
        >>> g = graph_from_labels(np.array([[0.0, 0.0, 0.5, 1.0]]), np.array([[0, 0, 1, 2]]), k=1)
        >>> g.ndata["feat"].flatten().tolist(), g.ndata["pos"].tolist()
        ([0.0, 0.5, 1.0], [[0.0, 0.5], [0.0, 2.0], [0.0, 3.0]])
        >>> [(int(u), int(v)) for u, v in zip(*g.edges())], g.edata["offset"][:, 1].tolist()
        ([(1, 0), (2, 1), (1, 2)], [1.5, 1.0, -1.0])
    """
    rule = _edge_rule(k, sigma, edges)
    return _region_graph(Regions.from_labels(image, labels, mask, spacing), rule, features, self_loops, norm)


def _edge_rule(k: int, sigma: float | None, edges: EdgeRule | None) -> EdgeRule:
    rule = Nearest(k, sigma) if edges is None else edges
    if not callable(rule):
        raise TypeError(f"edges: expected None or a rule such as gnnlib.images.Touching(), got {rule!r}")
    return rule


def _region_graph(
    regions: Regions, edges: EdgeRule, features: Sequence[Feature], self_loops: bool, norm: str
) -> GraphLike:
    graph = with_label_map(graph_from_arrays(region_arrays(regions, edges, features, self_loops)), regions)
    graph.edata["weight"] = degree_norm(graph, graph.edata["weight"], norm, degrees="weighted")
    return graph


@names_checked()
def superpixel_arrays(
    image: Image,
    num_segments: int = 75,
    k: int = 8,
    compactness: float | None = None,
    sigma: float | None = None,
) -> dict[str, np.ndarray]:
    """:func:`superpixel_graph` as plain arrays, for worker processes and :func:`graph_from_arrays`.

    Arguments and errors are those of :func:`superpixel_graph`.

    Shapes:
        - src, dst: (E,) int64
        - feat: (n, C)
        - pos: (n, 2)
        - weight: (E,) float32

    Example:
        >>> import numpy as np
        >>> from gnnlib.images import superpixel_arrays
        >>> {name: a.shape for name, a in superpixel_arrays(np.zeros((6, 6)), num_segments=4, k=2).items()}
        {'src': (8,), 'dst': (8,), 'feat': (4, 1), 'pos': (4, 2), 'weight': (8,)}
    """
    pixels = parse_image(image, axes=2)
    regions = Regions.from_pixels(pixels, segment_pixels(pixels, num_segments, compactness))
    return region_arrays(regions, Nearest(k, sigma))


@names_checked()
def label_arrays(image: Image, labels: Image, k: int = 8, sigma: float | None = None) -> dict[str, np.ndarray]:
    """:func:`graph_from_labels` as plain arrays.

    Arguments and errors are those of :func:`graph_from_labels`.

    Shapes:
        - src, dst: (E,) int64
        - feat: (n, C)
        - pos: (n, d)
        - weight: (E,) float32

    Example:
        >>> import numpy as np
        >>> from gnnlib.images import label_arrays
        >>> label_arrays(np.array([[0.0, 1.0]]), np.array([[7, 7]]))["pos"]
        array([[0. , 0.5]], dtype=float32)
    """
    return region_arrays(Regions.from_labels(image, labels), Nearest(k, sigma))


def region_arrays(
    regions: Regions, edges: EdgeRule, features: Sequence[Feature] = ("mean",), self_loops: bool = False
) -> dict[str, np.ndarray]:
    """The region graph as plain arrays, for :func:`graph_from_arrays`.

    Arguments and errors are those of :func:`graph_from_labels`.

    Shapes:
        - src, dst: (E,) int64
        - feat: (n, F)
        - pos: (n, d)
        - weight: (E,) and other columns of the rule, float32

    Example:
        >>> import numpy as np
        >>> from gnnlib.images import Regions, Touching
        >>> from gnnlib.images.superpixels import region_arrays
        >>> regions = Regions.from_labels(np.array([[0.0, 1.0]]), np.array([[0, 1]]))
        >>> arrays = region_arrays(regions, Touching(), self_loops=True)
        >>> [arrays[name].tolist() for name in ("src", "dst", "border")]
        [[0, 1, 1, 0], [0, 0, 1, 1], [0.0, 1.0, 0.0, 1.0]]
    """
    feat = region_features(regions, features)
    columns = edges(regions)
    if self_loops:
        nodes = np.arange(len(regions.area))
        loops = {name: nodes if name in ("src", "dst") else np.full(len(nodes), name == "weight") for name in columns}
        columns = {name: np.concatenate([loops[name], columns[name]]) for name in columns}
    order = np.argsort(columns["dst"], kind="stable")
    src, dst = (columns.pop(name)[order] for name in ("src", "dst"))
    numbers = {"feat": feat, "pos": regions.centroid} | {name: value[order] for name, value in columns.items()}
    return {"src": src, "dst": dst} | {name: a.astype(np.float32) for name, a in numbers.items()}


@names_checked()
def graph_from_arrays(arrays: dict[str, np.ndarray]) -> GraphLike:
    """The graph of the arrays that :func:`superpixel_arrays` or :func:`label_arrays` returned, also in another process.

    Args:
        arrays: src, dst (E,); feat (n, C), pos (n, d), weight (E,); any others (E,) become edata too.

    Shapes:
        - n nodes with ``ndata["feat"]`` and ``ndata["pos"]``, E edges with ``edata["weight"]``
        - ``edata["offset"]``: (E, d) = pos[src] - pos[dst] and ``edata["distance"]`` (E,)

    Raises:
        KeyError: if an array is missing.

    Example:
        >>> import numpy as np
        >>> from gnnlib.images import graph_from_arrays, superpixel_arrays
        >>> graph_from_arrays(superpixel_arrays(np.zeros((6, 6)), num_segments=4, k=2)).in_degrees().tolist()
        [2, 2, 2, 2]
    """
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    src, dst, feat, pos, weight = (tensors.pop(name) for name in ("src", "dst", "feat", "pos", "weight"))
    graph = new_graph(src, dst, len(pos))
    graph.ndata["feat"], graph.ndata["pos"], graph.edata["weight"] = feat, pos, weight
    graph.edata.update(tensors)
    return with_offsets(graph)


def with_label_map(graph: GraphLike, regions: Regions) -> GraphLike:
    """Attach the map from pixels to nodes to the graph, for :func:`~gnnlib.images.paint`.

    Example:
        >>> import numpy as np
        >>> from gnnlib.images import Regions
        >>> from gnnlib.images.superpixels import with_label_map
        >>> import dgl
        >>> regions = Regions.from_labels(np.zeros((1, 2)), np.array([[3, 5]]))
        >>> with_label_map(dgl.graph([], num_nodes=2), regions).label_map.tolist()
        [[0, 1]]
    """
    graph.label_map = torch.from_numpy(regions.label_map)
    return graph
