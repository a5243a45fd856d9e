"""What depth does to a graph network, and what helps: any convolution x remedy x depth x seed on one graph."""

from benchmarks.depth.cells import Cell, Recipe
from benchmarks.depth.study import depth_study
from benchmarks.remedies import CONVS, REMEDIES

__all__ = ["CONVS", "REMEDIES", "Cell", "Recipe", "depth_study"]
