"""Graph coarsening: clusters of nodes, and pyramids of a signal over coarser and coarser graphs."""

from gnnlib.coarsening.clusters import (
    Coarsening,
    coarsen,
    graclus,
    voxel,
)
from gnnlib.coarsening.pyramids import Pyramid, haar_pyramid, laplacian_pyramid

__all__ = [
    "Coarsening",
    "Pyramid",
    "coarsen",
    "graclus",
    "haar_pyramid",
    "laplacian_pyramid",
    "voxel",
]
