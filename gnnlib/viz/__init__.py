"""Plots of filters, receptive fields, and images with their graphs. Needs matplotlib.

Every function draws on the axes passed to it, or on a new ``matplotlib.figure.Figure``, whose ``savefig`` writes a
file. It does not use pyplot.
"""

from gnnlib.viz.graphs import show_graph, show_levels, show_regions, show_values
from gnnlib.viz.grids import (
    animate_filters,
    show_filter,
    show_filter_at,
    show_filters,
    show_pooling,
    show_receptive_field,
    show_shift_invariance,
)

__all__ = [
    "animate_filters",
    "show_filter",
    "show_filter_at",
    "show_filters",
    "show_graph",
    "show_levels",
    "show_pooling",
    "show_receptive_field",
    "show_regions",
    "show_shift_invariance",
    "show_values",
]
