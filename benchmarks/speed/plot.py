"""A figure of the speed-ups and of the growth of time."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gnnlib.benchmarks.report.plots.style import INK, PALETTE, label_powers, report_style, save
from gnnlib.benchmarks.speed.measure import Row
from gnnlib.benchmarks.speed.show import regime_name

NAMES = {"dgl": "dgl.nn", "pyg": "PyG", "csr": "PyG, CSR"}


@report_style()
def plot(rows: Sequence[Row], path: Path) -> None:
    """Draws the speed-up over each peer and the growth along each axis, of the first row's allocator and threads."""
    first = [row for row in rows if regime_name(row) == regime_name(rows[0])]
    compared = [row for row in first if any(row.ratio(peer) for peer in NAMES)][::-1]
    grown: dict[str, list[Row]] = {"edges": [], "width": []}
    for row in first:
        if row.factors:
            grown[row.workload.split("-")[0]].append(row)
    panels = [partial(_bars, rows=compared)] if compared else []
    panels += [partial(_lines, rows=group, along=along) for along, group in grown.items() if group]
    if not panels:
        return
    widths = [5.2 if panel.func is _bars else 3.4 for panel in panels]
    figure = Figure((sum(widths), max(3.6, 1.0 + 0.4 * len(compared))), layout="constrained")
    for panel, ax in zip(panels, figure.subplots(1, len(panels), squeeze=False, width_ratios=widths)[0]):
        panel(ax)
    figure.suptitle(regime_name(rows[0]), x=0.01, ha="left", size=9)
    save(figure, path)


def _bars(ax: Axes, rows: Sequence[Row]) -> None:
    """A bar for each row and peer, with its target."""
    for i, peer in enumerate(NAMES):
        places = [(y + 0.27 * (1 - i), row) for y, row in enumerate(rows) if row.ratio(peer)]
        if not places:
            continue
        height = [y for y, _ in places]
        width = [(row.ratio(peer) or 1.0) - 1 for _, row in places]
        ax.barh(height, width, 0.25, left=1, color=PALETTE[i][0], label=f"than {NAMES[peer]}")
        targets = [(row.targets[peer], y) for y, row in places if peer in row.targets]
        if targets:
            ax.plot(*zip(*targets), "|", color=INK, ms=7, mew=1.6)
    ax.plot([], [], "|", color=INK, ms=7, mew=1.6, label="target")
    ax.set_xscale("log")
    ax.axvline(1, color=INK, lw=0.8)
    ax.set_yticks(range(len(rows)), [row.title for row in rows])
    ax.set_ylim(-0.6, len(rows) - 0.4)
    ax.grid(axis="y", visible=False)
    low, high = ax.get_xlim()
    label_powers(ax.xaxis, high / low)
    ax.set_xlabel("times faster")
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2)


def _lines(ax: Axes, rows: Sequence[Row], along: str) -> None:
    """A line for each row, with its exponent in the legend; dashed, proportional growth."""
    largest = max(max(row.factors.values()) for row in rows)
    ax.plot([1, largest], [1, largest], "--", color=INK, lw=0.8)
    for i, row in enumerate(rows):
        names = list(row.factors)
        times = [(row.median(name) or 0.0) / (row.median(names[0]) or 1.0) for name in names]
        label = f"{row.title.split(',')[0]}: exponent {row.exponent:.2f}"
        ax.plot([row.factors[name] for name in names], times, "o-", ms=4, color=PALETTE[i][0], label=label)
    ax.set_xscale("log")
    ax.set_yscale("log")
    for axis in (ax.xaxis, ax.yaxis):
        label_powers(axis, largest)
    ax.set_xlabel("times as many edges between the same nodes" if along == "edges" else "times as wide")
    ax.set_ylabel("times as long")
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1))
