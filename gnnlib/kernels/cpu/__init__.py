"""Kernels for the CPU in numba: float32, float64 and bfloat16. `gnnlib.kernels.reference` defines what each computes.

A kernel computes one row of a graph; `gnnlib.kernels.cpu.team` runs it over all rows, on PyTorch's threads. A row is
summed by one thread in the order of edge ids, so any number of threads gives the same bits.
"""
# ruff: noqa: F401, re-exports

from gnnlib.kernels.cpu.attention import attend, attend_ends_grad, attend_grad
from gnnlib.kernels.cpu.dropped import dropped_dot, dropped_sum
from gnnlib.kernels.cpu.edges import (
    edge_dot,
    edge_score,
    edge_score_att_grad,
    edge_score_grad,
    edge_softmax,
    edge_softmax_grad,
)
from gnnlib.kernels.cpu.gates import gate_grad, gated_sum
from gnnlib.kernels.cpu.grouping import group
from gnnlib.kernels.cpu.mean_max import rectified_mean_max, rectified_mean_max_grad
from gnnlib.kernels.cpu.rectified import rectified_grad, rectified_sum
from gnnlib.kernels.cpu.sums import edge_sum, max_grad, neighbour_max, neighbour_sum, scaled_sum, tap_sum
