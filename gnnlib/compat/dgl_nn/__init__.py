"""DGL's layers on gnnlib's kernels: a script of DGL changes one import.

``import gnnlib.compat.dgl_nn as dglnn`` takes the place of ``import dgl.nn as dglnn``. The layers below have the names,
arguments, values, gradients, errors and state dicts of ``dgl.nn``, from whose classes they derive. All other names of
``dgl.nn`` are DGL's own.

Example:
    >>> import gnnlib.compat.dgl_nn as dglnn
    >>> import dgl
    >>> conv = dglnn.GraphConv(8, 16)
    >>> isinstance(conv, dgl.nn.GraphConv), dglnn.HGTConv is dgl.nn.HGTConv
    (True, True)
"""

from typing import Any

from gnnlib._platform.dgl import dgl
from gnnlib.compat.dgl_nn._attention import AGNNConv, DotGatConv, GATConv, GATv2Conv, edge_softmax
from gnnlib.compat.dgl_nn._edges import GMMConv, NNConv
from gnnlib.compat.dgl_nn._isomorphism import GINConv, GINEConv
from gnnlib.compat.dgl_nn._pna import PNAConv
from gnnlib.compat.dgl_nn._pooling import AvgPooling, GlobalAttentionPooling, MaxPooling, SumPooling, WeightAndSum
from gnnlib.compat.dgl_nn._propagation import (
    APPNPConv,
    ChebConv,
    EdgeWeightNorm,
    GCN2Conv,
    GraphConv,
    SGConv,
    TAGConv,
)
from gnnlib.compat.dgl_nn._sage import SAGEConv
from gnnlib.compat.dgl_nn._typed import HeteroGraphConv, RelGraphConv

__all__ = [
    "AGNNConv",
    "APPNPConv",
    "AvgPooling",
    "ChebConv",
    "DotGatConv",
    "EdgeWeightNorm",
    "GATConv",
    "GATv2Conv",
    "GCN2Conv",
    "GINConv",
    "GINEConv",
    "GMMConv",
    "GlobalAttentionPooling",
    "GraphConv",
    "HeteroGraphConv",
    "MaxPooling",
    "NNConv",
    "PNAConv",
    "RelGraphConv",
    "SAGEConv",
    "SGConv",
    "SumPooling",
    "TAGConv",
    "WeightAndSum",
    "edge_softmax",
]


if hasattr(dgl.nn, "GatedGCNConv"):  # from DGL 2.0 on
    from gnnlib.compat.dgl_nn._edges import GatedGCNConv

    __all__ += ["GatedGCNConv"]


def __getattr__(name: str) -> Any:
    if name.startswith("_") or not hasattr(dgl.nn, name):
        raise AttributeError(f"gnnlib.compat.dgl_nn: expected a name of dgl.nn, got {name!r}")
    return getattr(dgl.nn, name)


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in dir(dgl.nn) if not name.startswith("_"))})
