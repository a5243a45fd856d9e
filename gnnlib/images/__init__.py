"""Images as graphs. Pixel grids, superpixels, meshes and Gaussian adjacencies come as one type of graph: a homogeneous
``DGLGraph`` with ``ndata["pos"]``, for images in pixels, row then column, so one model takes them all. The recipes of
the literature are in `gnnlib.images.recipes`."""

from gnnlib.images._regions import Regions, paint, region_features
from gnnlib.images.affine import random_affine
from gnnlib.images.edges import Edges, Nearest, Strongest, Touching, Within
from gnnlib.images.gaussian import GAUSSIAN, HEAT, KNYAZEV, Decay, gaussian_graph
from gnnlib.images.pixels import pixel_batch, pixel_graph
from gnnlib.images.points import icosphere, mesh_graph, point_graph, sphere_graph
from gnnlib.images.scale import images_to_store
from gnnlib.images.segments import segment
from gnnlib.images.superpixels import (
    graph_from_arrays,
    graph_from_labels,
    label_arrays,
    superpixel_arrays,
    superpixel_graph,
)

__all__ = [
    "GAUSSIAN",
    "HEAT",
    "KNYAZEV",
    "Decay",
    "Edges",
    "Nearest",
    "Regions",
    "Strongest",
    "Touching",
    "Within",
    "gaussian_graph",
    "graph_from_arrays",
    "graph_from_labels",
    "icosphere",
    "images_to_store",
    "label_arrays",
    "mesh_graph",
    "paint",
    "pixel_batch",
    "pixel_graph",
    "point_graph",
    "random_affine",
    "region_features",
    "segment",
    "sphere_graph",
    "superpixel_arrays",
    "superpixel_graph",
]
