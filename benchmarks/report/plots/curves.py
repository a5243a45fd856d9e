"""Learning curves: the mean over the seeds of each layer, in a band of one standard deviation."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from gnnlib.benchmarks.report.plots.style import clip, label_powers, metric_label, report_style, styles
from gnnlib.benchmarks.report.reading import Result

CURVES = {"loss": "training loss", "validation loss": "validation loss", "train": "train", "validation": "validation"}
SIZE = (3.7, 2.7)  # inches
DIVERGED = 1e30  # values beyond it are not drawn
POINTS = 500  # more than a screen shows


@report_style()
def learning_curves(results: Sequence[Result]) -> Figure:
    """The recorded ones of loss, training metric and validation metric by epoch, with a legend.

    Args:
        results: contents of ``result.json`` files, in the order of the legend
    """
    kinds = recorded(results) or ["loss"]
    style_of = styles(results)
    figure = Figure((SIZE[0] * len(kinds), SIZE[1] + 0.5), layout="constrained")
    for ax, kind in zip(figure.subplots(1, len(kinds), squeeze=False)[0], kinds):
        _draw(ax, results, kind)
    shown = [style_of[result["layer"]] for result in results]
    handles = [Line2D([], [], color=style.colour, linestyle=style.dash) for style in shown]
    titles = [clip(result["title"]) for result in results]
    for text in figure.legend(handles, titles, loc="outside lower center", ncols=min(len(results), 8)).get_texts():
        text.set_parse_math(False)
    return figure


def recorded(results: Sequence[Result]) -> list[str]:
    """The kinds of curves, keys of `CURVES`, that any result has."""
    curves = [curve for result in results for curve in result["curves"] or []]
    return [kind for kind in CURVES if any(curve.get(kind) for curve in curves)]


@report_style()
def curve_panel(results: Sequence[Result], kind: str) -> Figure:
    """One kind of curve, without a legend."""
    figure = Figure(SIZE, layout="constrained")
    _draw(figure.subplots(), results, kind)
    return figure


def mean_curve(curves: Sequence[dict[str, Any]], kind: str) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Epochs, mean over seeds, and unbiased standard deviation (None for one seed) of the curves of one kind.

    An epoch counts when at least half of the seeds reached it; missing, non-finite and diverged values are left out.

    Example:
        >>> from gnnlib.benchmarks.report.plots import mean_curve
        >>> curves = [{"epoch": [1, 2], "loss": [4.0, 2.0]}, {"epoch": [1, 2], "loss": [2.0, 2.0]}]
        >>> epoch, mean, std = mean_curve(curves, "loss")
        >>> epoch.tolist(), mean.tolist(), std.round(2).tolist()
        ([1, 2], [3.0, 2.0], [1.41, 0.0])
    """
    seeds = [
        dict(zip(curve.get("epoch") or range(1, len(curve[kind]) + 1), curve[kind]))
        for curve in curves
        if curve.get(kind)
    ]
    reached = sorted({e for seed in seeds for e in seed if 2 * sum(e in s for s in seeds) >= len(seeds)})
    table = np.array([[seed.get(epoch) for epoch in reached] for seed in seeds], dtype=float)
    values = np.ma.masked_invalid(table.reshape(len(seeds), len(reached)))
    values = np.ma.masked_where(abs(values) > DIVERGED, values)
    finite = ~np.ma.getmaskarray(values).all(0)
    values, epochs = values[:, finite], np.array(reached)[finite]
    mean = np.ma.filled(values.mean(0), np.nan)
    std = np.ma.filled(values.std(0, ddof=1), 0.0) if len(seeds) > 1 else None
    return epochs, mean, std


def _draw(ax: Axes, results: Sequence[Result], kind: str) -> None:
    """One kind of curve, a key of `CURVES`, for all layers; the first lies on top."""
    style_of = styles(results)
    drawn = []
    for depth, result in enumerate(results):
        epoch, mean, std = mean_curve(result["curves"] or [], kind)
        if not len(epoch):
            continue
        thin = slice(None, None, -(-len(epoch) // POINTS))
        style, order = style_of[result["layer"]], 3 + len(results) - depth
        marker = style.marker if len(epoch) == 1 else None
        (line,) = ax.plot(epoch[thin], mean[thin], color=style.colour, linestyle=style.dash, marker=marker)
        line.set(zorder=order, gid=style.tag)
        if std is not None:
            low = np.maximum(mean - std, mean / 2) if "loss" in kind else mean - std  # the axis may be logarithmic
            band = ax.fill_between(epoch[thin], low[thin], (mean + std)[thin], color=style.colour, alpha=0.13)
            band.set(linewidth=0, zorder=order, gid=style.tag)
        drawn.append(mean[thin])
    ax.set_xlabel("epoch")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.margins(x=0.02)
    title = CURVES[kind] if "loss" in kind else metric_label(results, CURVES[kind])
    ax.set_title(title, loc="left", parse_math=False)
    if drawn:
        _scale(ax, np.concatenate(drawn), kind, results[0]["metric"]["higher_is_better"])


def _scale(ax: Axes, values: np.ndarray, kind: str, higher_is_better: bool) -> None:
    """Makes the axis of a loss with a wide range logarithmic; cuts the steep start of a metric."""
    low, high = values.min(), values.max()
    if "loss" in kind:
        if low > 0 and high > 10 * low:
            ax.set_yscale("log")
            label_powers(ax.yaxis, high / low)
        return
    limit = np.quantile(values, 0.04 if higher_is_better else 0.96)
    if low < limit < high:
        ax.set_ylim(**{"bottom" if higher_is_better else "top": limit})
