"""Message-passing layers, one a file."""

from gnnlib.nn.conv.base import Conv
from gnnlib.nn.conv.cheb import ChebConv
from gnnlib.nn.conv.ecc import ECConv
from gnnlib.nn.conv.gat import GATConv, GATv2Conv
from gnnlib.nn.conv.gated_gcn import GatedGCNConv
from gnnlib.nn.conv.gcn import GCNConv
from gnnlib.nn.conv.gcne import GCNEConv
from gnnlib.nn.conv.gin import GINConv
from gnnlib.nn.conv.gine import GINEConv
from gnnlib.nn.conv.message import MessageConv
from gnnlib.nn.conv.monet import MoNetConv
from gnnlib.nn.conv.pna import PNAConv
from gnnlib.nn.conv.pred_edge import PredEdgeConv
from gnnlib.nn.conv.rel_graph import RelGraphConv
from gnnlib.nn.conv.sage import SAGEConv
from gnnlib.nn.conv.sgc import SGConv
from gnnlib.nn.conv.spline import SplineConv

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
    "RelGraphConv",
    "SAGEConv",
    "SGConv",
    "SplineConv",
]
