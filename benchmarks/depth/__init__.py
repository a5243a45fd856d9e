"""Depth studies: the accuracy of deep graph networks by convolution, remedy and depth."""

from gnnlib.benchmarks.catalog.remedies import CONVS, REMEDIES
from gnnlib.benchmarks.depth.cells import Cell, TrainingSettings
from gnnlib.benchmarks.depth.study import Study, depth_study

__all__ = ["CONVS", "REMEDIES", "Cell", "Study", "TrainingSettings", "depth_study"]
