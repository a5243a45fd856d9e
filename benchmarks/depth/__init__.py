"""What depth does to a graph network, and what helps: any convolution x remedy x depth x seed on one graph."""

from gnnlib.benchmarks.catalog.remedies import CONVS, REMEDIES
from gnnlib.benchmarks.depth.cells import Cell, TrainingSettings
from gnnlib.benchmarks.depth.study import depth_study

__all__ = ["CONVS", "REMEDIES", "Cell", "TrainingSettings", "depth_study"]
