"""Plots of a run, as matplotlib figures.

Figures are made without pyplot and in a fixed style: they change no backend, settings or open figures, and the same
results give the same bytes with any settings. A layer has one colour and one marker in all plots of a run.
"""

from gnnlib.benchmarks.report.plots.curves import CURVES, curve_panel, learning_curves, mean_curve, recorded
from gnnlib.benchmarks.report.plots.pictures import attributions, confusion, levels, sample
from gnnlib.benchmarks.report.plots.scatter import COSTS, leaderboard_scatter, scatter_panel
from gnnlib.benchmarks.report.plots.style import PALETTE, data_uri, file_name, png, save, styles, svg

__all__ = [
    "COSTS", "CURVES", "PALETTE", "attributions", "confusion", "curve_panel", "data_uri", "file_name",
    "leaderboard_scatter", "learning_curves", "levels", "mean_curve", "png", "recorded", "sample", "save",
    "scatter_panel", "styles", "svg",
]  # fmt: skip
