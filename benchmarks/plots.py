"""What a run looks like, as matplotlib figures.

Figures are made directly, without pyplot and in a style of their own: nobody's backend, settings or open figures
change, and the same results give the same bytes whatever those settings are. A layer has one colour and one marker in
all plots of a run. The colours began as those of Okabe and Ito (2008) and Tol (2021) and were then moved by a search
until any two stay apart for colour-blind eyes too: at least 20 units of CIELAB for each of the three kinds.
"""

import io
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

__all__ = [
    "COSTS",
    "CURVES",
    "PALETTE",
    "Style",
    "confusion",
    "draw_curves",
    "draw_scatter",
    "graph_over_image",
    "has_curves",
    "leaderboard_scatter",
    "learning_curves",
    "mean_curve",
    "panel",
    "png",
    "sample",
    "styles",
    "svg",
]

Result = dict[str, Any]
CURVE, SCATTER = (3.7, 2.7), (4.4, 3.1)  # inches
INK, RULE = "#1b1f24", "#dfe3e7"  # text and axes; grid lines
# each colour on a light and on a dark page
PALETTE = (
    ("#3263c6", "#0467a8"),
    ("#b25004", "#dd2506"),
    ("#359954", "#2fad4e"),
    ("#c29fbe", "#a88ab4"),
    ("#dda000", "#f6ae00"),
    ("#14b5ff", "#90e8ff"),
    ("#700069", "#954e57"),
    ("#2e00a1", "#794ee1"),
    ("#463400", "#ebdb9f"),
    ("#626767", "#92b59c"),
)
MARKERS = "osD^vPXp<>d"
DASHES: tuple[Any, ...] = ("-", (0, (4, 1.5)), (0, (1, 1.2)), (0, (5, 1.5, 1, 1.5)))
DIVERGED = 1e30  # values beyond it are not drawn
CURVES = {"loss": "training loss", "validation loss": "validation loss", "train": "train", "validation": "validation"}
COSTS = {"parameters": "parameters", "seconds": "seconds, all seeds"}
SETTINGS: dict[Any, Any] = {
    "font.size": 8.5,
    "axes.titlesize": 9,
    "axes.facecolor": "none",
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "lines.linewidth": 1.4,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "gnnlib",
}


class Style(NamedTuple):
    """How one layer looks: its number among the layers, and what is drawn with it."""

    number: int
    colour: str
    dash: Any
    marker: str


@contextmanager
def _settings() -> Iterator[None]:
    """matplotlib's defaults and ours for a while; the user's own come back afterwards."""
    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # a title may hold any character
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(SETTINGS)
        yield


def styles(results: Sequence[Result]) -> dict[str, Style]:
    """The look of each layer, by its name: layers are numbered in alphabetical order, so the ranking has no say in it.

    >>> styles([{"layer": "sgc"}, {"layer": "gat"}])["sgc"].number
    1
    """
    look = {}
    for i, layer in enumerate(sorted({result["layer"] for result in results})):
        turn, place = divmod(i, len(PALETTE))
        look[layer] = Style(i, PALETTE[place][0], DASHES[turn % len(DASHES)], MARKERS[i % len(MARKERS)])
    return look


@_settings()
def learning_curves(results: Sequence[Result]) -> Figure:
    """Loss, training metric and validation metric by epoch, those that were recorded, with a legend.

    Args:
        results: contents of ``result.json`` files, in the order of the legend.
    """
    kinds = [kind for kind in CURVES if has_curves(results, kind)] or ["loss"]
    figure = Figure((CURVE[0] * len(kinds), CURVE[1] + 0.5), layout="constrained")
    for ax, kind in zip(figure.subplots(1, len(kinds), squeeze=False)[0], kinds):
        draw_curves(ax, results, kind)
    _legend(figure, results, line=True)
    return figure


@_settings()
def leaderboard_scatter(results: Sequence[Result]) -> Figure:
    """The metric against the number of parameters and against the time, one point per layer."""
    figure = Figure((SCATTER[0] * 2, SCATTER[1]), layout="constrained")
    for ax, cost in zip(figure.subplots(1, 2), COSTS):
        draw_scatter(ax, results, cost)
    return figure


@_settings()
def confusion(result: Result) -> Figure:
    """The confusion matrix of one result: rows are true classes, columns predictions, shading is the share of the row.

    Raises:
        ValueError: the result has no confusion matrix.
    """
    if not result.get("confusion"):
        raise ValueError(f"expected a result with a confusion matrix, received none for layer {result.get('layer')!r}")
    counts = np.asarray(result["confusion"])
    classes = result.get("classes") or [str(i) for i in range(len(counts))]
    side = max(3.0, 0.36 * min(len(counts), 30) + 1.2)
    figure = Figure((side, side), layout="constrained")
    ax = figure.subplots()
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    ax.imshow(np.sqrt(share), cmap="Blues", vmin=0, vmax=1)  # the square root: single errors stay visible
    ax.grid(False)
    ax.set_title(result["title"], parse_math=False)
    ax.set_xlabel("predicted class")
    ax.set_ylabel("true class")
    if len(counts) <= 30:
        ax.set_xticks(range(len(counts)), classes, parse_math=False, rotation=90 if max(map(len, classes)) > 3 else 0)
        ax.set_yticks(range(len(counts)), classes, parse_math=False)
        for (row, column), count in np.ndenumerate(counts):
            if count:
                colour = "white" if share[row, column] > 0.4 else INK
                ax.text(column, row, str(count), color=colour, ha="center", va="center", fontsize=7)
    return figure


def graph_over_image(ax: Axes, image: np.ndarray, pos: np.ndarray, src: np.ndarray, dst: np.ndarray) -> Axes:
    """Draws a graph over its image: edges as thin lines, nodes as dots. Each pair of nodes is drawn once, loops never.

    Args:
        ax: where to draw.
        image: (H, W) or (H, W, 3); colours are turned to grey, so that the graph stands out.
        pos: (n, 2), row and column in pixels.
        src, dst: (e,) node numbers.
    """
    image = np.nan_to_num(np.asarray(image, float))
    if image.ndim == 3:
        image = image[..., :3] @ ([0.299, 0.587, 0.114] if image.shape[2] >= 3 else [1.0])
    ends = np.stack([np.minimum(src, dst), np.maximum(src, dst)], 1)[src != dst].astype(int)
    pairs = np.unique(ends, axis=0)
    xy = np.asarray(pos, float)[:, ::-1]
    crowd = np.sqrt(max(len(xy), 1))
    ax.imshow(image, cmap="gray", interpolation="nearest")
    width, alpha = np.clip(9 / crowd, 0.3, 1.2), np.clip(4 * crowd / max(len(pairs), 1) ** 0.7, 0.12, 0.8)
    ax.add_collection(LineCollection(list(xy[pairs]), colors="#58b7ec", linewidths=width, alpha=alpha))
    ax.scatter(xy[:, 0], xy[:, 1], s=np.clip((50 / crowd) ** 2, 1.5, 40), c="#ffb000", edgecolors="none", zorder=3)
    height, length = image.shape
    ax.set(xlim=(-0.5, length - 0.5), ylim=(height - 0.5, -0.5))
    ax.set_axis_off()
    return ax


@_settings()
def sample(image: np.ndarray, pos: np.ndarray, src: np.ndarray, dst: np.ndarray) -> Figure:
    """A figure that is :func:`graph_over_image` from edge to edge."""
    figure = Figure((2.4, 2.4 * min(max(image.shape[0] / image.shape[1], 0.25), 4)))
    graph_over_image(figure.add_axes((0, 0, 1, 1)), image, pos, src, dst)
    return figure


@_settings()
def panel(results: Sequence[Result], kind: str) -> Figure:
    """One of the plots by itself: a kind of curve or, for "parameters" and "seconds", a scatter."""
    figure = Figure(SCATTER if kind in COSTS else CURVE, layout="constrained")
    (draw_scatter if kind in COSTS else draw_curves)(figure.subplots(), results, kind)
    return figure


def has_curves(results: Sequence[Result], kind: str) -> bool:
    """Whether any result has a curve of this kind, one of `CURVES`."""
    return any(curve.get(kind) for result in results for curve in result.get("curves") or [])


@_settings()
def draw_curves(ax: Axes, results: Sequence[Result], kind: str) -> Axes:
    """One kind of curve for all layers: the mean over seeds, and a band of one standard deviation each way.

    Args:
        ax: where to draw.
        results: contents of ``result.json`` files; the first lies on top.
        kind: one of `CURVES`: "loss", "validation loss", "train" or "validation".
    """
    look = styles(results)
    means = []
    for depth, result in enumerate(results):
        epoch, mean, std = mean_curve(result.get("curves") or [], kind)
        if not len(epoch):
            continue
        thin = slice(None, None, -(-len(epoch) // 500))  # more points than a screen shows
        epoch, mean, std = epoch[thin], mean[thin], None if std is None else std[thin]
        style, order = look[result["layer"]], 3 + len(results) - depth
        (line,) = ax.plot(epoch, mean, color=style.colour, linestyle=style.dash, zorder=order)
        line.set_gid(f"series{style.number}")
        if len(epoch) == 1:
            line.set_marker(style.marker)
        if std is not None:
            low = np.maximum(mean - std, mean / 2) if "loss" in kind else mean - std  # the axis may be logarithmic
            band = ax.fill_between(epoch, low, mean + std, color=style.colour, alpha=0.13, linewidth=0, zorder=order)
            band.set_gid(f"series{style.number}")
        means.append(mean)
    ax.set_xlabel("epoch")
    ax.margins(x=0.02)
    if not means:
        return ax
    together = np.concatenate(means)
    if "loss" in kind:
        ax.set_title(CURVES[kind], loc="left")
        if together.min() > 0 and together.max() > 10 * together.min():
            ax.set_yscale("log")
            ax.yaxis.set_minor_formatter(NullFormatter())
            ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        return ax
    ax.set_title(_label(results, CURVES[kind]), loc="left", parse_math=False)
    # most epochs are spent near the end's value: the axis leaves out the steep start
    low, high = np.quantile(together, 0.04), np.quantile(together, 0.96)
    if results[0]["metric"]["higher_is_better"] and together.min() < low < together.max():
        ax.set_ylim(bottom=low)
    elif not results[0]["metric"]["higher_is_better"] and together.min() < high < together.max():
        ax.set_ylim(top=high)
    return ax


@_settings()
def draw_scatter(ax: Axes, results: Sequence[Result], cost: str) -> Axes:
    """The metric, with one standard deviation each way, against "parameters" or "seconds" on a logarithmic axis."""
    look = styles(results)
    floor = 0.01 if cost == "seconds" else 1
    points = [(max(result[cost], floor), result["metric"]["mean"]) for result in results]
    for result, (x, y) in zip(results, points):
        style = look[result["layer"]]
        bars = ax.errorbar(x, y, result["metric"].get("std") or 0, fmt=style.marker, color=style.colour, elinewidth=1)
        bars[0].set(markersize=6, markeredgecolor="none")
        for artist in (bars[0], *bars[2]):
            artist.set(gid=f"series{style.number}", zorder=3)
    ax.set_xscale("log")
    ax.margins(x=0.14, y=0.12)
    low, high = ax.get_xlim()
    if high / low < 12:  # so that two ticks or more have a label
        ax.set_xlim(low / 1.6, high * 1.6)
    ax.xaxis.set_major_locator(LogLocator(subs=(1.0,) if high / low > 300 else (1.0, 2.0, 5.0)))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))
    ax.set_xlabel(COSTS[cost])
    ax.set_title(_label(results), loc="left", parse_math=False)
    _name_points(ax, results, points)
    return ax


def mean_curve(curves: Sequence[dict[str, Any]], kind: str) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Epochs, mean over seeds, and unbiased standard deviation (None for one seed) of the curves of one kind.

    An epoch counts when at least half of the seeds reached it; missing, non-finite and absurd values are left out.

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
    kept = ~np.ma.getmaskarray(values).all(0)
    values, epochs = values[:, kept], np.array(reached)[kept]
    mean = np.ma.filled(values.mean(0), np.nan)
    std = np.ma.filled(values.std(0, ddof=1), 0.0) if len(seeds) > 1 else None
    return epochs, mean, std


@_settings()
def png(figure: Figure, dpi: int = 144, background: str = "white") -> bytes:
    """The figure as a PNG file, without a date or a version inside."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, facecolor=background, metadata={"Software": None})
    return buffer.getvalue()


@_settings()
def svg(figure: Figure, name: str, label: str) -> str:
    """The figure as an <svg> element to put into a page, which owns its colours and its font.

    Text and axes are ``var(--ink)``, grid lines ``var(--rule)``, the layers ``var(--c0)`` to ``var(--c9)``; what
    belongs to the layer of number i has the class ``s<i>``.

    Args:
        figure: what to draw.
        name: letters and digits, different for each figure of the page: keeps their inner references apart.
        label: what a reader who cannot see the figure is told, already escaped.
    """
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", facecolor="none", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    box = re.search(r'viewBox="([^"]*)"', text)
    assert box is not None  # matplotlib always writes one
    inside = text[text.index(">") + 1 :].replace("xlink:href", "href")
    used = set(re.findall(r'(?:url\(|href=")#([^")]+)', inside))

    def rename(match: re.Match[str]) -> str:
        if match[1].startswith("series"):
            return f' class="s{match[1].removeprefix("series")}"'
        return f' id="{name}-{match[1]}"' if match[1] in used else ""

    inside = re.sub(r' id="([^"]*)"', rename, inside)
    inside = re.sub(r'(url\(|href=")#', rf"\1#{name}-", inside)
    inside = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font-size: \1", inside)
    variables = {INK: "--ink", RULE: "--rule"} | {light: f"--c{i}" for i, (light, _) in enumerate(PALETTE)}
    for colour, variable in variables.items():
        inside = inside.replace(colour, f"var({variable})")
    return f'<svg role="img" aria-label="{label}" viewBox="{box[1]}">{inside}'


def _label(results: Sequence[Result], prefix: str = "") -> str:
    """The metric with its unit, say "validation accuracy, %"; a prefix takes the place of the word "test"."""
    metric = results[0]["metric"]
    name = metric["name"].removeprefix("test ") if prefix else metric["name"]
    return " ".join(filter(None, [prefix, name])) + (f", {metric['unit']}" if metric.get("unit") else "")


def _short(value: float) -> str:
    for limit, letter in ((1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:g}{letter}"
    return f"{value:g}"


def _legend(figure: Figure, results: Sequence[Result], line: bool) -> None:
    look = styles(results)
    handles = [
        Line2D([], [], color=s.colour, linestyle=s.dash if line else "none", marker="" if line else s.marker)
        for s in (look[result["layer"]] for result in results)
    ]
    titles = [result["title"] for result in results]
    legend = figure.legend(handles, titles, loc="outside lower center", ncols=min(len(results), 8))
    for text in legend.get_texts():
        text.set_parse_math(False)


def _name_points(ax: Axes, results: Sequence[Result], points: list[tuple[float, float]]) -> None:
    """Writes each layer's title beside its point, where it covers the fewest points and other titles."""
    look = styles(results)
    scale = 72 / ax.figure.dpi * np.array([ax.bbox.width, ax.bbox.height])  # the axes in points of type
    at = (ax.transScale + ax.transLimits).transform(points) * scale
    taken = [(x - 4, y - 4, x + 4, y + 4) for x, y in at]
    for result, (x, y), point in zip(results, at, points):
        wide, best = 4.6 * len(result["title"]), None
        for dx, dy in ((7, 0), (-7, 0), (0, 9), (0, -9), (6, 7), (6, -7), (-6, 7), (-6, -7), (0, 18), (0, -18)):
            left = x + dx - (wide if dx < 0 else wide / 2 if dx == 0 else 0)
            box = (left, y + dy - 4, left + wide, y + dy + 4)
            cost = sum(_overlap(box, other) for other in taken)
            cost += 1000 * (box[0] < 0 or box[1] < 0 or box[2] > scale[0] or box[3] > scale[1])
            if best is None or cost < best[0]:
                best = cost, (dx, dy), box
        assert best is not None
        taken.append(best[2])
        ax.annotate(
            result["title"],
            point,
            best[1],
            textcoords="offset points",
            ha={-1: "right", 0: "center", 1: "left"}[int(np.sign(best[1][0]))],
            va="center",
            fontsize=8,
            parse_math=False,
            gid=f"series{look[result['layer']].number}",
            zorder=4,
        )


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    return max(wide, 0.0) * max(high, 0.0)
