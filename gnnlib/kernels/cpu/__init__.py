"""The kernels for the CPU: numba, float32 and float64. `gnnlib.kernels.reference` says what each computes.

Each is what to do for one row of the graph; `gnnlib.kernels.cpu.team` runs it over all rows, on PyTorch's threads. A
row is summed by one thread in the order of edge ids, so any number of threads gives the same bits.
"""
# ruff: noqa: F401, what is imported is offered

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
from gnnlib.kernels.cpu.messages import messages, messages_grad
from gnnlib.kernels.cpu.rectified import rectified_grad, rectified_sum
from gnnlib.kernels.cpu.sums import edge_sum, max_grad, neighbour_max, neighbour_sum, scaled_sum, tap_sum
