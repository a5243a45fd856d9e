"""What a run looks like, as matplotlib figures.

Figures are made directly, without pyplot and in a style of their own: nobody's backend, settings or open figures
change, and the same results give the same bytes whatever those settings are. A layer has one colour and one marker in
all plots of a run.
"""

from gnnlib.benchmarks.report.plots.curves import CURVES, curve_panel, learning_curves, mean_curve, recorded
from gnnlib.benchmarks.report.plots.look import PALETTE, png, save, styles, svg
from gnnlib.benchmarks.report.plots.pictures import attributions, confusion, levels, sample
from gnnlib.benchmarks.report.plots.scatter import COSTS, leaderboard_scatter, scatter_panel

__all__ = [
    "COSTS", "CURVES", "PALETTE", "attributions", "confusion", "curve_panel", "leaderboard_scatter",
    "learning_curves", "levels", "mean_curve", "png", "recorded", "sample", "save", "scatter_panel", "styles", "svg",
]  # fmt: skip
