"""Analysis of models: summary, over-smoothing, over-squashing, singular values of weights and Jacobians, attribution of
outputs to nodes, errors of symmetry.

The measures of over-smoothing are in `gnnlib.analysis.smoothing`, those of over-squashing in
`gnnlib.analysis.squashing`.
"""

from gnnlib.analysis import smoothing, squashing
from gnnlib.analysis._summary import LayerSummary, Summary, summary
from gnnlib.analysis.attribution import attention, saliency
from gnnlib.analysis.smoothing import Diagnosis, diagnose
from gnnlib.analysis.spectra import jacobian_singular_values, layer_singular_values, weight_singular_values
from gnnlib.analysis.squashing import Influence, influence
from gnnlib.analysis.symmetry import (
    class_distances,
    deformation_distance,
    permutation_error,
    rotation_error,
    translation_error,
)

__all__ = [
    "Diagnosis",
    "Influence",
    "LayerSummary",
    "Summary",
    "attention",
    "class_distances",
    "deformation_distance",
    "diagnose",
    "influence",
    "jacobian_singular_values",
    "layer_singular_values",
    "permutation_error",
    "rotation_error",
    "saliency",
    "smoothing",
    "squashing",
    "summary",
    "translation_error",
    "weight_singular_values",
]
