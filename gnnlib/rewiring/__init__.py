"""Graph rewiring: other edges, so that messages of distant nodes are squashed less (Alon and Yahav 2021, arXiv
2006.05205), and what the change does to degrees, curvature and the spectral gap.

All functions return a new graph with the features and batch sizes of the old one. They work on each graph of a batch.
"""

from gnnlib.rewiring._effect import GraphStatistics, RewiringEffect, graph_statistics, rewiring_effect
from gnnlib.rewiring._fosr import fosr
from gnnlib.rewiring._gtr import gtr
from gnnlib.rewiring._sdrf import sdrf
from gnnlib.rewiring._shortcuts import add_k_hop_edges, add_virtual_node

__all__ = [
    "GraphStatistics",
    "RewiringEffect",
    "add_k_hop_edges",
    "add_virtual_node",
    "fosr",
    "graph_statistics",
    "gtr",
    "rewiring_effect",
    "sdrf",
]
