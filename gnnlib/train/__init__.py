"""Training: a loop for graphs and batches, checkpoints, data parallelism, layer-wise training, consistency loss."""

from gnnlib.train.checkpoints import Checkpoint
from gnnlib.train.consistency import ConsistencyLoss, StochasticPasses
from gnnlib.train.layerwise import fit_layerwise
from gnnlib.train.loop import (
    Batch,
    decay_groups,
    fit,
    matmul_precision,
    predict,
)

__all__ = [
    "Batch",
    "Checkpoint",
    "ConsistencyLoss",
    "StochasticPasses",
    "decay_groups",
    "fit",
    "fit_layerwise",
    "matmul_precision",
    "predict",
]
