"""Graph neural networks on DGL graphs that stay accurate when they get deep, and images as graphs.

Import gnnlib before dgl: it makes DGL run on any PyTorch.
"""

from gnnlib import _dgl  # noqa: F401  first: DGL may not import without it
from gnnlib.convs import ECConv, GATConv, GATv2Conv, GCNConv, GINConv, PredEdgeConv, SAGEConv, SGConv
from gnnlib.drops import DropEdge
from gnnlib.images.store import GraphStore
from gnnlib.neighbors import Neighbors, neighbors
from gnnlib.norms import BatchNorm, LayerNorm, PairNorm
from gnnlib.ops import aggregate, degree_norm, edge_dot, edge_softmax, propagate
from gnnlib.readouts import readout_flat, readout_max, readout_mean, readout_sum
from gnnlib.skips import InitialResidual, JumpingKnowledge, Residual
from gnnlib.stack import Block, Stack, concat_heads, mean_heads

__all__ = [
    "BatchNorm",
    "Block",
    "DropEdge",
    "ECConv",
    "GATConv",
    "GATv2Conv",
    "GCNConv",
    "GINConv",
    "GraphStore",
    "InitialResidual",
    "JumpingKnowledge",
    "LayerNorm",
    "Neighbors",
    "PairNorm",
    "PredEdgeConv",
    "Residual",
    "SAGEConv",
    "SGConv",
    "Stack",
    "aggregate",
    "concat_heads",
    "degree_norm",
    "edge_dot",
    "edge_softmax",
    "mean_heads",
    "neighbors",
    "propagate",
    "readout_flat",
    "readout_max",
    "readout_mean",
    "readout_sum",
]

__version__ = "0.1.0"
