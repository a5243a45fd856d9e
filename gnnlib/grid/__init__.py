"""Grids as graphs: convolution, pooling and image networks as message passing on lattices."""

from gnnlib.grid._from_torch import GridNetwork, connections, from_torch
from gnnlib.grid._lattice import Whole, adaptive_lattice, lattice, matrix, transposed_lattice, window_lattice
from gnnlib.grid.conv import GridConv, GridConvTranspose, grid_conv
from gnnlib.grid.dense import to_images, to_nodes, whole
from gnnlib.grid.field import extent, filter_at, influence, receptive_field, shift_invariance
from gnnlib.grid.filters import fixed
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
    "extent",
    "filter_at",
    "fixed",
    "from_torch",
    "grid_conv",
    "influence",
    "lattice",
    "matrix",
    "parameters",
    "receptive_field",
    "shift_invariance",
    "to_images",
    "to_nodes",
    "transposed_lattice",
    "whole",
    "window_lattice",
]
