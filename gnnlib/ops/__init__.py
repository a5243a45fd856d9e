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

__all__ = [
    "aggregate",
    "attend",
    "convolve",
    "degree_norm",
    "edge_dot",
    "edge_score",
    "edge_softmax",
    "gather_dst",
    "gather_src",
    "propagate",
]
