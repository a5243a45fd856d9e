"""Graph neural networks for PyTorch: layers, networks of any depth, and graphs of images.

Import gnnlib before dgl. DGL then runs on any PyTorch.
"""

import importlib  # noqa: I001  in this order: DGL may not import without the first of gnnlib's
from typing import TYPE_CHECKING, Any

from gnnlib._platform import mkl as _mkl, dgl as _dgl  # noqa: F401
from gnnlib._version import __version__ as __version__
from gnnlib._utils.memory import (
    retain_freed_memory,
)
from gnnlib.analysis import summary
from gnnlib.coarsening import (
    coarsen,
    graclus,
    haar_pyramid,
    laplacian_pyramid,
    voxel,
)
from gnnlib.compat import (
    accelerate,
)
from gnnlib.data import (
    GraphStore,
)
from gnnlib.graph import (
    Adjacency,
    Graph,
    adjacency,
    as_graph,
    prepare,
)
from gnnlib.io import (
    load_model,
    load_recipe,
    predict_images,
    save_model,
)
from gnnlib.nn import (
    APPNP,
    BatchNorm,
    Bilinear,
    ChebConv,
    ComplEx,
    ContraNorm,
    DAGNN,
    DenseConnection,
    DiffGroupNorm,
    DistMult,
    DotProduct,
    DropEdge,
    DropMessage,
    DropNode,
    Dropout,
    ECConv,
    FeedForward,
    GATConv,
    GATv2Conv,
    GCNConv,
    GCNEConv,
    GINConv,
    GINEConv,
    GNNLayer,
    GRUUpdate,
    GatedGCNConv,
    GradientGating,
    GraphNorm,
    HadamardMLP,
    HeteroConv,
    InitialResidual,
    JumpingKnowledge,
    LayerNorm,
    Linear,
    MeanSubtraction,
    MessageConv,
    MoNetConv,
    NodeNorm,
    PNAConv,
    PairNorm,
    PairNormSCS,
    PredEdgeConv,
    RelGraphConv,
    Residual,
    Reversible,
    ReversibleBlock,
    RowBatchNorm,
    SAGEConv,
    SGConv,
    SemanticAttention,
    SkipInit,
    SkipNode,
    SplineConv,
    Stack,
    Standardize,
    SumOfEmbeddings,
    VirtualNode,
    concat_heads,
    laplacian_encoding,
    lsuv_init_,
    mean_heads,
    one_hot,
    random_walk_encoding,
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
from gnnlib.ops import (
    aggregate,
    degree_norm,
    edge_dot,
    edge_softmax,
    propagate,
)
from gnnlib.train import (
    evaluate,
    fit,
    predict,
)

if TYPE_CHECKING:
    from gnnlib.benchmarks.depth import depth_study as depth_study

__all__ = [
    "APPNP",
    "Adjacency",
    "BatchNorm",
    "Bilinear",
    "ChebConv",
    "ComplEx",
    "ContraNorm",
    "DAGNN",
    "DenseConnection",
    "DiffGroupNorm",
    "DistMult",
    "DotProduct",
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
    "Graph",
    "GradientGating",
    "GraphNorm",
    "HeteroConv",
    "GraphStore",
    "HadamardMLP",
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
    "accelerate",
    "adjacency",
    "aggregate",
    "as_graph",
    "coarsen",
    "concat_heads",
    "degree_norm",
    "edge_dot",
    "edge_softmax",
    "evaluate",
    "fit",
    "graclus",
    "haar_pyramid",
    "laplacian_encoding",
    "laplacian_pyramid",
    "load_model",
    "load_recipe",
    "lsuv_init_",
    "mean_heads",
    "one_hot",
    "predict",
    "predict_images",
    "prepare",
    "propagate",
    "random_walk_encoding",
    "readout_flat",
    "readout_max",
    "readout_mean",
    "readout_mean_max",
    "readout_sum",
    "retain_freed_memory",
    "save_model",
    "summary",
    "voxel",
]

_OURS = {
    "APPNPConv": "APPNP",
    "AvgPooling": "MeanReadout",
    "Batch": "train.Batch",
    "Data": "Graph for one graph, GraphStore for many",
    "DataLoader": "GraphStore(graphs, labels).loader(batch_size)",
    "Dataset": "GraphStore",
    "EdgeConv": "MessageConv",
    "GAT": "Stack.build(gnnlib.GATConv, ...)",
    "GCN": "Stack.build(gnnlib.GCNConv, ...)",
    "GIN": "Stack.build(gnnlib.GINConv, ...)",
    "GMMConv": "MoNetConv",
    "GraphConv": "GCNConv",
    "GraphDataLoader": "GraphStore(graphs, labels).loader(batch_size)",
    "GraphSAGE": "Stack.build(gnnlib.SAGEConv, ...)",
    "HeteroGraphConv": "HeteroConv",
    "MaxPooling": "MaxReadout",
    "NNConv": "ECConv",
    "NeighborLoader": "large.sampled_batches",
    "NeighborSampler": "large.sampled_batches",
    "RGCNConv": "RelGraphConv",
    "SumPooling": "SumReadout",
    "dropout_edge": "DropEdge",
    "global_add_pool": "readout_sum",
    "global_max_pool": "readout_max",
    "global_mean_pool": "readout_mean",
    "softmax": "edge_softmax",
    "spmm": "aggregate",
}
"""Names of DGL and PyG, and what is closest here."""

_LAZY = {
    "benchmarks": "gnnlib.benchmarks",
    "datasets": "gnnlib.datasets",
    "depth_study": "gnnlib.benchmarks.depth",
    "large": "gnnlib.large",
    "rewiring": "gnnlib.rewiring",
}


if not TYPE_CHECKING:  # a type checker should report unknown names

    def __getattr__(name: str) -> Any:
        """Imports what stands above the library, or is rarely needed, on first use."""
        if name not in _LAZY:
            hint = f"; use gnnlib.{_OURS[name]}" if name in _OURS else ""
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}{hint}")
        module = importlib.import_module(_LAZY[name])
        return module if _LAZY[name] == f"{__name__}.{name}" else getattr(module, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
