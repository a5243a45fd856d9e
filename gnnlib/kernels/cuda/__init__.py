"""Kernels for CUDA in Triton: float32, bfloat16 and float16, with sums in float32. `gnnlib.kernels.reference` defines
what each computes, and also computes float64.

A program computes a tile of rows and columns; `gnnlib.kernels.cuda.plan` divides rows into tiles, and hubs into pieces.
Each number is summed by one program in a fixed order, without atomic additions, so a card gives the same bits twice.
Sorting edges (`group`) is PyTorch's, on the card.

The kernels are tested in Triton's interpreter and compiled ahead for sm_80 and sm_90. They have not run on a card yet.
"""
# ruff: noqa: F401, re-exports

from gnnlib.kernels.cuda.attention import attend, attend_ends_grad, attend_grad
from gnnlib.kernels.cuda.edges import (
    dropped_dot,
    edge_dot,
    edge_score,
    edge_score_att_grad,
    edge_score_grad,
    edge_softmax,
    edge_softmax_grad,
)
from gnnlib.kernels.cuda.gates import gate_grad, gated_sum, rectified_grad
from gnnlib.kernels.cuda.maxima import neighbour_max
from gnnlib.kernels.cuda.mean_max import rectified_mean_max, rectified_mean_max_grad
from gnnlib.kernels.cuda.sums import (
    dropped_sum,
    edge_sum,
    max_grad,
    neighbour_sum,
    rectified_sum,
    scaled_sum,
    tap_sum,
)
from gnnlib.kernels.reference import group
