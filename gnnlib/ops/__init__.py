"""Differentiable message passing: sums, maxima, attention, dot products and softmax along the edges of a graph."""

from gnnlib.ops.degrees import degree_norm
from gnnlib.ops.message_passing import (
    aggregate,
    attend,
    convolve,
    edge_dot,
    edge_score,
    edge_softmax,
    gather_dst,
    gather_src,
    propagate,
)
from gnnlib.ops.pair_scores import adamic_adar, common_neighbors, personalized_pagerank, resource_allocation

__all__ = [
    "adamic_adar",
    "aggregate",
    "attend",
    "common_neighbors",
    "convolve",
    "degree_norm",
    "edge_dot",
    "edge_score",
    "edge_softmax",
    "gather_dst",
    "gather_src",
    "personalized_pagerank",
    "propagate",
    "resource_allocation",
]
