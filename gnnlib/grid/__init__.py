"""Image networks as the special case of a graph that is a grid."""

from gnnlib.grid.conv import GridConv, GridConvTranspose, grid_conv
from gnnlib.grid.dense import to_images, to_nodes, whole
from gnnlib.grid.from_torch import GridNetwork, connections, from_torch
from gnnlib.grid.lattice import Whole, adaptive_lattice, lattice, matrix, transposed_lattice, window_lattice
from gnnlib.grid.local import LocalConv, parameters
from gnnlib.grid.pool import GridPool
from gnnlib.grid.window import Window

__all__ = [
    "GridConv",
    "GridConvTranspose",
    "GridNetwork",
    "GridPool",
    "LocalConv",
    "Whole",
    "Window",
    "adaptive_lattice",
    "connections",
    "from_torch",
    "grid_conv",
    "lattice",
    "matrix",
    "parameters",
    "to_images",
    "to_nodes",
    "transposed_lattice",
    "whole",
    "window_lattice",
]
