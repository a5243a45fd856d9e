"""Graphs larger than one training step or than memory: sampling, clusters, precomputed propagation, layer-wise
inference."""

from gnnlib.large.inference import layerwise_inference
from gnnlib.large.labels import (
    WithLabels,
    correct_residuals,
    label_features,
    label_propagation,
    mix_soft_labels,
    smooth_predictions,
)
from gnnlib.large.precomputed import PropagatedFeatures, precompute_propagation, row_batches
from gnnlib.large.sampling import (
    cluster_batches,
    clusters,
    gcn_edge_weights,
    sampled_batches,
)
from gnnlib.large.tables import NpyMatrix

__all__ = [
    "NpyMatrix",
    "PropagatedFeatures",
    "WithLabels",
    "cluster_batches",
    "clusters",
    "correct_residuals",
    "gcn_edge_weights",
    "label_features",
    "label_propagation",
    "layerwise_inference",
    "mix_soft_labels",
    "precompute_propagation",
    "row_batches",
    "sampled_batches",
    "smooth_predictions",
]
