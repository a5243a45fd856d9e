"""Over-smoothing (Li, Han and Wu 2018, arXiv 1801.07606): measures of how similar the features of nodes are, and
`diagnose`, which distinguishes over-smoothing from vanishing or exploding gradients, over-squashing and overfitting.

A measure is ``f(graph, x)`` with x (N, \\*, F). It returns (B, \\*) in float64, a number for each of the B graphs of a
batch and each signal.
"""

from gnnlib.analysis.smoothing._diagnose import Diagnosis, diagnose
from gnnlib.analysis.smoothing._fixed_point import fixed_point, fixed_point_distance
from gnnlib.analysis.smoothing.decay import Decay, exponential_decay
from gnnlib.analysis.smoothing.distance import mad_gap, mean_average_distance
from gnnlib.analysis.smoothing.energy import (
    dead_feature_fraction,
    dirichlet_energy,
    effective_rank,
    feature_correlation,
    numerical_rank,
    rank_one_distance,
    rayleigh_quotient,
)
from gnnlib.analysis.smoothing.groups import group_distance_ratio, instance_information_gain
from gnnlib.analysis.smoothing.probe import LayerStatistics
from gnnlib.analysis.smoothing.verdict import Finding

__all__ = [
    "Decay",
    "Diagnosis",
    "Finding",
    "LayerStatistics",
    "dead_feature_fraction",
    "diagnose",
    "dirichlet_energy",
    "effective_rank",
    "exponential_decay",
    "feature_correlation",
    "fixed_point",
    "fixed_point_distance",
    "group_distance_ratio",
    "instance_information_gain",
    "mad_gap",
    "mean_average_distance",
    "numerical_rank",
    "rank_one_distance",
    "rayleigh_quotient",
]
