"""Graph neural networks on DGL graphs that stay accurate when they get deep, and images as graphs.

Import gnnlib before dgl: it makes DGL run on any PyTorch.
"""

from gnnlib._platform import mkl, dgl as _dgl  # noqa: F401, I001  first: DGL may not import without it
from gnnlib._version import __version__ as __version__
from gnnlib.nn.conv import (
    ChebConv,
    ECConv,
    GATConv,
    GatedGCNConv,
    GATv2Conv,
    GCNConv,
    GCNEConv,
    GINConv,
    GINEConv,
    MessageConv,
    MoNetConv,
    PNAConv,
    PredEdgeConv,
    SAGEConv,
    SGConv,
    SplineConv,
)
from gnnlib.ops.degrees import degree_norm
from gnnlib.nn.drop import DropEdge, DropMessage, DropNode
from gnnlib.nn.embedding import SumOfEmbeddings, one_hot
from gnnlib.nn.encoding import laplacian_encoding, random_walk_encoding
from gnnlib._utils.memory import keep_heap
from gnnlib.data.store import GraphStore
from gnnlib.nn.init import SkipInit, hold_variance
from gnnlib.graph.adjacency import Neighbors, neighbors
from gnnlib.nn.norm import (
    BatchNorm,
    DiffGroupNorm,
    GraphNorm,
    LayerNorm,
    MeanSubtraction,
    NodeNorm,
    PairNorm,
    PairNormSCS,
)
from gnnlib.ops import aggregate, edge_dot, edge_softmax, propagate
from gnnlib.coarsening.clusters import coarsen, graclus, voxel
from gnnlib.nn.propagation import APPNP, DAGNN
from gnnlib.coarsening.pyramids import haar_pyramid, laplacian_pyramid
from gnnlib.nn.readout import readout_flat, readout_max, readout_mean, readout_mean_max, readout_sum
from gnnlib.nn.reversible import Reversible, ReversibleBlock
from gnnlib.io.save import load_model, predict, save_model
from gnnlib.nn.reparametrize import channel_conv, grouped, identity_mapping, low_rank, share
from gnnlib.nn.residual import DenseConnection, GRUUpdate, InitialResidual, JumpingKnowledge, Residual
from gnnlib.nn.stack import Block, Stack, concat_heads, mean_heads
from gnnlib.nn.virtual_node import VirtualNode

__all__ = [
    "APPNP",
    "BatchNorm",
    "Block",
    "ChebConv",
    "DAGNN",
    "DenseConnection",
    "DiffGroupNorm",
    "DropEdge",
    "DropMessage",
    "DropNode",
    "ECConv",
    "GATConv",
    "GATv2Conv",
    "GCNConv",
    "GCNEConv",
    "GINConv",
    "GINEConv",
    "GRUUpdate",
    "GatedGCNConv",
    "GraphNorm",
    "GraphStore",
    "InitialResidual",
    "JumpingKnowledge",
    "LayerNorm",
    "MeanSubtraction",
    "MessageConv",
    "MoNetConv",
    "Neighbors",
    "NodeNorm",
    "PNAConv",
    "PairNorm",
    "PairNormSCS",
    "PredEdgeConv",
    "Residual",
    "Reversible",
    "ReversibleBlock",
    "SAGEConv",
    "SGConv",
    "SkipInit",
    "SplineConv",
    "Stack",
    "SumOfEmbeddings",
    "VirtualNode",
    "aggregate",
    "channel_conv",
    "coarsen",
    "concat_heads",
    "degree_norm",
    "edge_dot",
    "edge_softmax",
    "graclus",
    "grouped",
    "haar_pyramid",
    "hold_variance",
    "identity_mapping",
    "keep_heap",
    "laplacian_encoding",
    "laplacian_pyramid",
    "load_model",
    "low_rank",
    "mean_heads",
    "neighbors",
    "one_hot",
    "predict",
    "propagate",
    "random_walk_encoding",
    "readout_flat",
    "readout_max",
    "readout_mean",
    "readout_mean_max",
    "readout_sum",
    "save_model",
    "share",
    "voxel",
]
