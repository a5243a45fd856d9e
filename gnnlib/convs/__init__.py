"""Message-passing layers, one a file."""

from gnnlib.convs.base import Conv
from gnnlib.convs.ecc import ECConv
from gnnlib.convs.gat import GATConv, GATv2Conv
from gnnlib.convs.gcn import GCNConv
from gnnlib.convs.gin import GINConv
from gnnlib.convs.pred_edge import PredEdgeConv
from gnnlib.convs.sage import SAGEConv
from gnnlib.convs.sgc import SGConv
from gnnlib.convs.spline import SplineConv

__all__ = [
    "Conv",
    "ECConv",
    "GATConv",
    "GATv2Conv",
    "GCNConv",
    "GINConv",
    "PredEdgeConv",
    "SAGEConv",
    "SGConv",
    "SplineConv",
]
