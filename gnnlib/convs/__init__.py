"""Message-passing layers, one a file."""

from gnnlib.convs.base import Conv
from gnnlib.convs.cheb import ChebConv
from gnnlib.convs.ecc import ECConv
from gnnlib.convs.gat import GATConv, GATv2Conv
from gnnlib.convs.gated_gcn import GatedGCNConv
from gnnlib.convs.gcn import GCNConv
from gnnlib.convs.gcne import GCNEConv
from gnnlib.convs.gin import GINConv
from gnnlib.convs.gine import GINEConv
from gnnlib.convs.message import MessageConv
from gnnlib.convs.monet import MoNetConv
from gnnlib.convs.pna import PNAConv
from gnnlib.convs.pred_edge import PredEdgeConv
from gnnlib.convs.sage import SAGEConv
from gnnlib.convs.sgc import SGConv
from gnnlib.convs.spline import SplineConv

__all__ = [
    "ChebConv",
    "Conv",
    "ECConv",
    "GATConv",
    "GATv2Conv",
    "GCNConv",
    "GCNEConv",
    "GINConv",
    "GINEConv",
    "GatedGCNConv",
    "MessageConv",
    "MoNetConv",
    "PNAConv",
    "PredEdgeConv",
    "SAGEConv",
    "SGConv",
    "SplineConv",
]
