"""Images as graphs. Pixel grids, superpixels, meshes and Gaussian adjacencies come as one type of graph: a homogeneous
``DGLGraph`` with ``ndata["pos"]``, for images in pixels, row then column, so one model takes them all. The recipes of
the literature are in `gnnlib.images.recipes`."""

from gnnlib.images._hierarchy import Hierarchy, hierarchy
from gnnlib.images._regions import Regions, paint, region_features
from gnnlib.images.affine import random_affine
from gnnlib.images.boxes import best_overlap, box_area, box_iou, nms, proposals
from gnnlib.images.edges import Edges, Nearest, Strongest, Touching, Within
from gnnlib.images.gaussian import GAUSSIAN, HEAT, KNYAZEV, Decay, gaussian_graph
from gnnlib.images.pixels import pixel_batch, pixel_graph
from gnnlib.images.points import icosphere, mesh_graph, point_graph, sphere_graph
from gnnlib.images.scale import images_to_store
from gnnlib.images.segments import SLIC, MaskSLIC, segment
from gnnlib.images.sphere import (
    equirectangular,
    icosahedral_rotations,
    project,
    random_rotations,
    sphere_interpolation,
    sphere_pooling,
)
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
    "SLIC",
    "Decay",
    "Edges",
    "Hierarchy",
    "MaskSLIC",
    "Nearest",
    "Regions",
    "Strongest",
    "Touching",
    "Within",
    "best_overlap",
    "box_area",
    "box_iou",
    "equirectangular",
    "gaussian_graph",
    "graph_from_arrays",
    "graph_from_labels",
    "hierarchy",
    "icosahedral_rotations",
    "icosphere",
    "images_to_store",
    "label_arrays",
    "mesh_graph",
    "nms",
    "paint",
    "pixel_batch",
    "pixel_graph",
    "point_graph",
    "project",
    "proposals",
    "random_affine",
    "random_rotations",
    "region_features",
    "segment",
    "sphere_graph",
    "sphere_interpolation",
    "sphere_pooling",
    "superpixel_arrays",
    "superpixel_graph",
]
