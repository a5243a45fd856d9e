"""Analysis of models: summary, over-smoothing, attribution of outputs to nodes, errors of symmetry.

The measures of over-smoothing are in `gnnlib.analysis.smoothing`.
"""

from gnnlib.analysis import smoothing
from gnnlib.analysis._summary import LayerSummary, Summary, summary
from gnnlib.analysis.attribution import attention, saliency
from gnnlib.analysis.smoothing import Diagnosis, diagnose
from gnnlib.analysis.symmetry import (
    class_distances,
    deformation_distance,
    permutation_error,
    rotation_error,
    translation_error,
)

__all__ = [
    "Diagnosis",
    "LayerSummary",
    "Summary",
    "attention",
    "class_distances",
    "deformation_distance",
    "diagnose",
    "permutation_error",
    "rotation_error",
    "saliency",
    "smoothing",
    "summary",
    "translation_error",
]
