"""Images as graphs. Pixel grids, superpixels and Gaussian adjacencies come as one type of graph: a homogeneous
``DGLGraph`` with ``ndata["pos"]`` in pixels, row then column, so one model takes them all."""

from gnnlib.images.gaussian import GAUSSIAN, HEAT, KNYAZEV, Decay, gaussian_graph
from gnnlib.images.pixels import pixel_batch, pixel_graph
from gnnlib.images.store import GraphStore
from gnnlib.images.superpixels import (
    graph_from_arrays,
    graph_from_labels,
    label_arrays,
    segment,
    superpixel_arrays,
    superpixel_graph,
)

__all__ = [
    "GAUSSIAN",
    "HEAT",
    "KNYAZEV",
    "Decay",
    "GraphStore",
    "gaussian_graph",
    "graph_from_arrays",
    "graph_from_labels",
    "label_arrays",
    "pixel_batch",
    "pixel_graph",
    "segment",
    "superpixel_arrays",
    "superpixel_graph",
]
