"""Neural network modules on graphs: layers, normalisations, residual connections, dropout, readouts, and `Stack`."""

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
    RelGraphConv,
    SAGEConv,
    SGConv,
    SplineConv,
)
from gnnlib.nn.drop import (
    DropEdge,
    DropMessage,
    DropNode,
    Dropout,
)
from gnnlib.nn.embedding import SumOfEmbeddings, one_hot
from gnnlib.nn.encoding import laplacian_encoding, random_walk_encoding
from gnnlib.nn.feed_forward import FeedForward
from gnnlib.nn.gradient_gating import GradientGating
from gnnlib.nn.hetero import HeteroConv, SemanticAttention
from gnnlib.nn.init import SkipInit, lsuv_init_
from gnnlib.nn.layer import GNNLayer, concat_heads, mean_heads
from gnnlib.nn.norm import (
    BatchNorm,
    ContraNorm,
    DiffGroupNorm,
    GraphNorm,
    LayerNorm,
    MeanSubtraction,
    NodeNorm,
    PairNorm,
    PairNormSCS,
    RowBatchNorm,
)
from gnnlib.nn.propagation import APPNP, DAGNN, Hops
from gnnlib.nn.readout import (
    FlatReadout,
    MaxReadout,
    MeanMaxReadout,
    MeanReadout,
    SumReadout,
    readout_flat,
    readout_max,
    readout_mean,
    readout_mean_max,
    readout_sum,
)
from gnnlib.nn.residual import (
    DenseConnection,
    GRUUpdate,
    InitialResidual,
    JumpingKnowledge,
    Residual,
    SkipNode,
)
from gnnlib.nn.reversible import Reversible, ReversibleBlock
from gnnlib.nn.stack import Stack
from gnnlib.nn.standardize import Standardize
from gnnlib.nn.virtual_node import VirtualNode
from gnnlib.ops.linear import Linear

__all__ = [
    "APPNP",
    "BatchNorm",
    "ChebConv",
    "ContraNorm",
    "DAGNN",
    "DenseConnection",
    "DiffGroupNorm",
    "DropEdge",
    "DropMessage",
    "DropNode",
    "Dropout",
    "ECConv",
    "FeedForward",
    "FlatReadout",
    "GATConv",
    "GATv2Conv",
    "GCNConv",
    "GCNEConv",
    "GINConv",
    "GINEConv",
    "GNNLayer",
    "GRUUpdate",
    "GatedGCNConv",
    "GradientGating",
    "GraphNorm",
    "HeteroConv",
    "Hops",
    "InitialResidual",
    "JumpingKnowledge",
    "LayerNorm",
    "Linear",
    "MaxReadout",
    "MeanMaxReadout",
    "MeanReadout",
    "MeanSubtraction",
    "MessageConv",
    "MoNetConv",
    "NodeNorm",
    "PNAConv",
    "PairNorm",
    "PairNormSCS",
    "PredEdgeConv",
    "RelGraphConv",
    "Residual",
    "Reversible",
    "ReversibleBlock",
    "RowBatchNorm",
    "SAGEConv",
    "SGConv",
    "SemanticAttention",
    "SkipInit",
    "SkipNode",
    "SplineConv",
    "Stack",
    "Standardize",
    "SumOfEmbeddings",
    "SumReadout",
    "VirtualNode",
    "concat_heads",
    "laplacian_encoding",
    "lsuv_init_",
    "mean_heads",
    "one_hot",
    "random_walk_encoding",
    "readout_flat",
    "readout_max",
    "readout_mean",
    "readout_mean_max",
    "readout_sum",
]
