"""Training: a loop for graphs, stores and loaders, metrics, checkpoints, data parallelism, layer-wise training."""

from gnnlib.train.batch import Batch
from gnnlib.train.checkpoints import Checkpoint
from gnnlib.train.consistency import ConsistencyLoss, StochasticPasses
from gnnlib.train.evaluation import evaluate, predict
from gnnlib.train.history import History, TensorBoard
from gnnlib.train.layerwise import fit_layerwise
from gnnlib.train.loop import (
    decay_groups,
    fit,
    matmul_precision,
)
from gnnlib.train.metrics import Evaluation
from gnnlib.train.ranking import hits_at_k, mean_reciprocal_rank

__all__ = [
    "Batch",
    "Checkpoint",
    "ConsistencyLoss",
    "Evaluation",
    "History",
    "StochasticPasses",
    "TensorBoard",
    "decay_groups",
    "evaluate",
    "fit",
    "fit_layerwise",
    "hits_at_k",
    "matmul_precision",
    "mean_reciprocal_rank",
    "predict",
]
