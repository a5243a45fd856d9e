"""Scatter plots of the metric against the cost: a point for each layer, with its name."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gnnlib.benchmarks.report.plots.style import clip, label_powers, metric_label, report_style, styles
from gnnlib.benchmarks.report.reading import Result

SIZE = (4.4, 3.1)  # inches
COSTS = {"parameters": "parameters", "seconds": "seconds, all seeds"}
LEAST = {"parameters": 1, "seconds": 0.01}  # a logarithmic axis has no zero
PLACES = ((7, 0), (-7, 0), (0, 9), (0, -9), (6, 7), (6, -7), (-6, 7), (-6, -7), (0, 18), (0, -18))  # of a name
Box = tuple[float, float, float, float]  # left, bottom, right, top, in points of type


@report_style()
def leaderboard_scatter(results: Sequence[Result]) -> Figure:
    """The metric against the number of parameters and against the time."""
    figure = Figure((SIZE[0] * 2, SIZE[1]), layout="constrained")
    for ax, cost in zip(figure.subplots(1, 2), COSTS):
        _draw(ax, results, cost)
    return figure


@report_style()
def scatter_panel(results: Sequence[Result], cost: str) -> Figure:
    """The metric against one cost."""
    figure = Figure(SIZE, layout="constrained")
    _draw(figure.subplots(), results, cost)
    return figure


def _draw(ax: Axes, results: Sequence[Result], cost: str) -> None:
    """The metric, with one standard deviation each way, against a key of `COSTS` on a logarithmic axis."""
    style_of = styles(results)
    points = [(max(result[cost], LEAST[cost]), result["metric"]["mean"]) for result in results]
    for result, (x, y) in zip(results, points):
        style = style_of[result["layer"]]
        bars = ax.errorbar(x, y, result["metric"].get("std") or 0, fmt=style.marker, color=style.colour, elinewidth=1)
        bars[0].set(markersize=6, markeredgecolor="none")
        for artist in (bars[0], *bars[2]):
            artist.set(gid=style.tag, zorder=3)
    ax.set_xscale("log")
    ax.margins(x=0.14, y=0.12)
    low, high = ax.get_xlim()
    if high / low < 12:  # so that two ticks or more have a label
        ax.set_xlim(low / 1.6, high * 1.6)
    label_powers(ax.xaxis, high / low)
    ax.set_xlabel(COSTS[cost])
    ax.set_title(metric_label(results), loc="left", parse_math=False)
    _name_points(ax, results, points)


def _name_points(ax: Axes, results: Sequence[Result], points: Sequence[tuple[float, float]]) -> None:
    """Writes the title of each layer beside its point, at the place with the least overlap."""
    style_of = styles(results)
    right, top = 72 / ax.figure.dpi * np.array([ax.bbox.width, ax.bbox.height])  # the axes in points of type
    at = (ax.transScale + ax.transLimits).transform(points) * (right, top)
    boxes: list[Box] = [(x - 4, y - 4, x + 4, y + 4) for x, y in at]

    def cost(box: Box) -> float:
        outside = box[0] < 0 or box[1] < 0 or box[2] > right or box[3] > top
        return sum(_overlap(box, other) for other in boxes) + 1000 * outside

    for result, (x, y), point in zip(results, at, points):
        title = clip(result["title"])
        place = min(PLACES, key=lambda place: cost(_box(title, x, y, place)))
        boxes.append(_box(title, x, y, place))
        side = ("center", "left", "right")[np.sign(place[0])]
        text = ax.annotate(title, point, place, textcoords="offset points", ha=side, va="center", fontsize=8)
        text.set(parse_math=False, gid=style_of[result["layer"]].tag, zorder=4)


def _box(title: str, x: float, y: float, place: tuple[int, int]) -> Box:
    """The box of a title at a distance from (x, y)."""
    wide = 4.6 * len(title)
    start = x + place[0] - (wide / 2, 0, wide)[np.sign(place[0])]
    return start, y + place[1] - 4, start + wide, y + place[1] + 4


def _overlap(a: Box, b: Box) -> float:
    wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    return max(wide, 0.0) * max(high, 0.0)
