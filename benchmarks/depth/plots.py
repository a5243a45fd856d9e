"""Plots of a depth study with matplotlib, on new axes or on those of the caller."""

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gnnlib.benchmarks.depth.ranking import Ranking, groups
from gnnlib.benchmarks.depth.summary import Row, core_seconds, deepest, mean, metric_title
from gnnlib.benchmarks.report.plots.style import INK, PALETTE, RULE, label_powers, plain, report_style

__all__ = [
    "BY_LAYER",
    "accuracy_by_depth",
    "budget_by_depth",
    "chosen",
    "colour",
    "critical_difference_diagram",
    "heat_map",
    "measure_by_layer",
    "outputs_in_2d",
    "places",
]

BY_LAYER = {
    "distance": "mean average distance",
    "energy": "Dirichlet energy",
    "effective_rank": "effective rank",
    "gradient": "gradient norm",
}
LINES = 6  # in one plot
TINY = 1e-12  # smaller values are drawn as this one on a logarithmic axis
Document = dict[str, Any]


def chosen(document: Document, conv: str) -> list[str]:
    """The remedies in plots: the first of the study, then the best at the largest depth."""
    rows = document["rows"]
    first = next(row["remedy"] for row in rows if row["conv"] == conv)
    return list(dict.fromkeys([first, *(row["remedy"] for row in deepest(rows, conv))]))[:LINES]


def places(document: Document) -> dict[str, int | None]:
    """The place in the palette of each remedy that is drawn, the same in all plots; that of the study's first remedy is
    None, and it is black. Remedies of one plot have different colours."""
    groups = [chosen(document, conv) for conv in dict.fromkeys(row["conv"] for row in document["rows"])]
    first, *remedies = dict.fromkeys(remedy for group in groups for remedy in group)
    assigned: dict[str, int | None] = {first: None}
    for remedy in remedies:
        beside = [assigned.get(other) for group in groups if remedy in group for other in group]
        uses = [*assigned.values()]
        assigned[remedy] = min(range(len(PALETTE)), key=lambda place: (place in beside, uses.count(place)))
    return assigned


def colour(document: Document, remedy: str) -> str:
    """The colour of a remedy in the plots."""
    place = places(document)[remedy]
    return INK if place is None else PALETTE[place][0]


def _on_axes(draw: Callable[..., None]) -> Callable[..., Axes]:
    """A function with the keywords ``ax`` and ``size`` from ``draw(ax, ...)``; it returns the axes."""

    @report_style()
    @wraps(draw)
    def plot(*args: Any, ax: Axes | None = None, size: tuple[float, float] = (3.7, 2.7), **options: Any) -> Axes:
        ax = Figure(size, layout="constrained").subplots() if ax is None else ax
        draw(ax, *args, **options)
        return ax

    return plot


def _rows(document: Document, conv: str, remedy: str) -> list[Row]:
    rows = [row for row in document["rows"] if (row["conv"], row["remedy"]) == (conv, remedy)]
    return sorted(rows, key=lambda row: row["depth"])


@_on_axes
def accuracy_by_depth(ax: Axes, document: Document, conv: str) -> None:
    """Mean test metric by depth, in a band of one standard deviation."""
    for remedy in chosen(document, conv):
        rows = _rows(document, conv, remedy)
        depths = [row["depth"] for row in rows]
        centre = np.array([mean(row) for row in rows])
        spread = np.array([np.std(row["test"], ddof=1) if len(row["test"]) > 1 else 0.0 for row in rows])
        ax.plot(depths, centre, marker="o", ms=3, color=colour(document, remedy), label=plain(remedy))
        ax.fill_between(
            depths, centre - spread, centre + spread, color=colour(document, remedy), alpha=0.13, linewidth=0
        )
    _depth_axis(ax, document, conv)
    ax.set_title(f"test {metric_title(document)}, %", loc="left")


@_on_axes
def budget_by_depth(ax: Axes, document: Document, conv: str) -> None:
    """The processor time of a cell with all seeds and, if it was tuned, all trials."""
    for remedy in chosen(document, conv):
        rows = _rows(document, conv, remedy)
        seconds = [max(core_seconds(row), 0.01) for row in rows]
        depths = [row["depth"] for row in rows]
        ax.plot(depths, seconds, marker="o", ms=3, color=colour(document, remedy), label=plain(remedy))
    _depth_axis(ax, document, conv)
    ax.set_yscale("log")
    label_powers(ax.yaxis, ax.get_ylim()[1] / ax.get_ylim()[0])
    ax.set_title("core-seconds, tuning and training", loc="left")


def _depth_axis(ax: Axes, document: Document, conv: str) -> None:
    ax.set_xscale("log", base=2)
    depths = sorted({row["depth"] for row in document["rows"] if row["conv"] == conv})
    ax.set_xticks(depths, [str(depth) for depth in depths])
    ax.minorticks_off()
    ax.set_xlabel("depth")


@_on_axes
def critical_difference_diagram(ax: Axes, ranking: Ranking) -> None:
    """The mean ranks, the best on top, with a bar of the critical difference (Demsar 2006, figure 1). The remedies of a
    vertical line do not differ significantly."""
    places = np.arange(len(ranking.names))
    ax.hlines(places, 1, ranking.ranks, color=RULE)
    ax.plot(ranking.ranks, places, "o", color=INK, ms=4)
    right = max(ranking.ranks)
    for i, (first, last) in enumerate(groups(ranking), 1):
        ax.plot([right + 0.15 * i] * 2, [first - 0.15, last + 0.15], color=PALETTE[0][0], linewidth=2.5)
    ax.plot([1, 1 + ranking.critical_difference], [len(places) - 0.2] * 2, color=PALETTE[1][0], linewidth=2.5)
    ax.set_yticks([*places, len(places) - 0.2], [*(plain(name, 30) for name in ranking.names), "critical difference"])
    ax.set_ylim(len(places) + 0.2, -0.5)
    ax.grid(False)
    ax.set_title("mean rank", loc="left")


@_on_axes
def measure_by_layer(ax: Axes, document: Document, conv: str, name: str, depth: int | None = None) -> None:
    """A measure of `BY_LAYER` in the deepest networks, or in those of one depth, after training and (dotted) before."""
    for remedy in chosen(document, conv):
        rows = [row for row in _rows(document, conv, remedy) if row["statistics"] and depth in (None, row["depth"])]
        if not rows:
            continue
        lines = zip(rows[-1]["statistics"], (":", "-"), (0.9, 1.4), ("_", plain(remedy)), strict=True)
        for statistics, dash, width, label in lines:
            values = [np.nan if value is None else max(value, TINY) for value in statistics[name]]
            ax.plot(statistics["layer"], values, dash, linewidth=width, color=colour(document, remedy), label=label)
    if name != "effective_rank":
        ax.set_yscale("log")
    ax.set_xlabel("layer")
    ax.set_title(BY_LAYER[name], loc="left")


@_on_axes
def heat_map(ax: Axes, document: Document, conv: str) -> None:
    """Mean test metric, a row for each remedy, the best at the largest depth on top."""
    rows = [row for row in document["rows"] if row["conv"] == conv]
    depths = sorted({row["depth"] for row in rows})
    remedies = ranked(document, conv)
    table = np.full((len(remedies), len(depths)), np.nan)
    for row in rows:
        table[remedies.index(row["remedy"]), depths.index(row["depth"])] = mean(row)
    image = ax.imshow(table, cmap="viridis", aspect="auto")
    middle = np.nanmean([np.nanmin(table), np.nanmax(table)])
    for (i, j), value in np.ndenumerate(table):
        if not np.isnan(value):
            ax.text(j, i, f"{value:.1f}", ha="center", va="center", color="white" if value < middle else "black")
    ax.set_xticks(range(len(depths)), [str(depth) for depth in depths])
    ax.set_yticks(range(len(remedies)), [plain(remedy, 30) for remedy in remedies])
    ax.grid(False)
    ax.set_xlabel("depth")
    ax.set_title(f"{plain(conv)}: test {metric_title(document)}, %", loc="left")
    ax.figure.colorbar(image, ax=ax)


def ranked(document: Document, conv: str) -> list[str]:
    """All remedies of a convolution, the best at the largest depth first."""
    rows = document["rows"]
    remedies = [row["remedy"] for row in rows if row["conv"] == conv]
    return list(dict.fromkeys([row["remedy"] for row in deepest(rows, conv)] + remedies))


@_on_axes
def outputs_in_2d(ax: Axes, document: Document, picture: Document) -> None:
    """One of ``document["pictures"]``: the outputs of some nodes on two principal axes, a colour for each class. The
    scale is the outputs' root mean square norm; equal outputs are one point."""
    points = np.array(picture["points"]) / 100
    labels = document["picture_labels"]
    colours = [PALETTE[label % len(PALETTE)][0] for label in labels]
    ax.scatter(points[:, 0], points[:, 1], s=4, c=colours, linewidths=0)
    ax.set(xlim=(-2, 2), ylim=(-2, 2), xticks=[], yticks=[], aspect="equal")
    ax.grid(False)
    ax.set_title(f"{plain(picture['remedy'], 22)}, {picture['depth']}", loc="left")


@report_style()
def all_outputs(document: Document, pictures: Sequence[Document]) -> Figure:
    """One row of axes for each remedy."""
    remedies = list(dict.fromkeys(picture["remedy"] for picture in pictures))
    columns = max(sum(picture["remedy"] == remedy for picture in pictures) for remedy in remedies)
    figure = Figure((2.1 * columns, 2.3 * len(remedies)), layout="constrained")
    grid = figure.subplots(len(remedies), columns, squeeze=False)
    for remedy, axes in zip(remedies, grid, strict=True):
        row = [picture for picture in pictures if picture["remedy"] == remedy]
        for picture, ax in zip(row, axes):
            outputs_in_2d(document, picture, ax=ax)
        for ax in axes[len(row) :]:
            ax.set_axis_off()
    return figure
