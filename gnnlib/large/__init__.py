"""Large graphs: neighbour sampling, clusters, precomputed propagation, layer-wise inference, partitions, and labels as
information about other nodes."""

from gnnlib.large.inference import layerwise_inference
from gnnlib.large.labels import (
    FeaturesWithLabels,
    correct_residuals,
    label_propagation,
    mask_labels,
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
    "FeaturesWithLabels",
    "NpyMatrix",
    "PropagatedFeatures",
    "cluster_batches",
    "clusters",
    "correct_residuals",
    "gcn_edge_weights",
    "label_propagation",
    "layerwise_inference",
    "mask_labels",
    "mix_soft_labels",
    "precompute_propagation",
    "row_batches",
    "sampled_batches",
    "smooth_predictions",
]
