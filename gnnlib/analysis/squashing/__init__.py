"""Over-squashing (Alon and Yahav 2021, arXiv 2006.05205): measures of how little a node depends on distant nodes,
for a model (`influence`) and for a graph alone (effective resistance, commute time, curvature, spectral gap).
"""

from gnnlib.analysis.squashing._influence import Influence, influence
from gnnlib.analysis.squashing.curvature import balanced_forman_curvature, ollivier_curvature
from gnnlib.analysis.squashing.gap import spectral_gap
from gnnlib.analysis.squashing.resistance import commute_time, effective_resistance

__all__ = [
    "Influence",
    "balanced_forman_curvature",
    "commute_time",
    "effective_resistance",
    "influence",
    "ollivier_curvature",
    "spectral_gap",
]
