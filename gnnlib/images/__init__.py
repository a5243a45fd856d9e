"""Images as graphs: pixel grids, superpixels, meshes and Gaussian adjacencies.

Every function returns a homogeneous ``DGLGraph`` with ``ndata["pos"]`` (in pixels for images, row then column), so one
model takes them all. `gnnlib.images.recipes` has the superpixel graphs of the literature.
"""

from gnnlib.images._hierarchy import Hierarchy, hierarchy
from gnnlib.images._regions import Regions, paint, region_features
from gnnlib.images.affine import random_affine
from gnnlib.images.boxes import best_overlap, box_area, box_iou, nms, proposals
from gnnlib.images.edges import EdgeRule, Nearest, Strongest, Touching, Within
from gnnlib.images.folder import ImageFolder, image_folder
from gnnlib.images.gaussian import GAUSSIAN, HEAT, KNYAZEV, Decay, gaussian_graph
from gnnlib.images.maps import LabelMaps, label_maps
from gnnlib.images.pixels import pixel_batch, pixel_graph
from gnnlib.images.points import icosphere, mesh_graph, point_graph, sphere_graph
from gnnlib.images.scale import about_store, images_to_store
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
    "EdgeRule",
    "Hierarchy",
    "ImageFolder",
    "LabelMaps",
    "MaskSLIC",
    "Nearest",
    "Regions",
    "Strongest",
    "Touching",
    "Within",
    "about_store",
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
    "image_folder",
    "images_to_store",
    "label_arrays",
    "label_maps",
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
