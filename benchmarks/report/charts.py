"""The page's curves and scatters, under one legend whose boxes show and hide layers in all of them."""

from collections.abc import Sequence
from html import escape
from pathlib import Path

from gnnlib.benchmarks.report import plots
from gnnlib.benchmarks.report.reading import Result


def curves(folder: Path, results: Sequence[Result]) -> str:
    """The section of learning curves, empty where nobody recorded any."""
    drawn = ""
    kinds = plots.recorded(results)
    for i, kind in enumerate(kinds):
        ends = []
        for result in results:
            _, mean, _ = plots.mean_curve(result["curves"] or [], kind)
            ends += [f"{result['title']} {mean[-1]:.4g}"] if len(mean) else []
        label = f"{plots.CURVES[kind]} by epoch; at the last epoch: {', '.join(ends)}"
        drawn += plots.svg(plots.curve_panel(results, kind), f"curve{i}", escape(label))
    if not kinds:
        return ""
    plots.save(plots.learning_curves(results), folder / "learning-curves.png")
    band = "The line is the mean over seeds, the band one standard deviation each way."
    return f"""<section><h2>Learning curves</h2>
<p>{band if _spread(results) else "One seed each."}</p>
{_keys(results)}
<div class="plots">{drawn}</div></section>"""


def costs(folder: Path, results: Sequence[Result]) -> str:
    """The section of scatters; it has the legend where there are no curves."""
    drawn = ""
    for i, cost in enumerate(plots.COSTS):
        points = ", ".join(f"{r['title']} {r['metric']['mean']:.4g} at {r[cost]:,.4g}" for r in results)
        label = f"{results[0]['metric']['name']} against {cost}: {points}"
        drawn += plots.svg(plots.scatter_panel(results, cost), f"cost{i}", escape(label))
    plots.save(plots.leaderboard_scatter(results), folder / "cost.png")
    each = "mean, with one standard deviation each way," if _spread(results) else "figure"
    return f"""<section><h2>What it costs</h2>
<p>Each layer's {each} against its size and its time.</p>
{"" if plots.recorded(results) else _keys(results)}
<div class="plots wide">{drawn}</div></section>"""


def _spread(results: Sequence[Result]) -> bool:
    return any(len(result["seeds"]) > 1 for result in results)


def _keys(results: Sequence[Result]) -> str:
    """A box for each layer, with a piece of its line."""
    keys = ""
    look = plots.styles(results)
    for result in results:
        style = look[result["layer"]]
        gaps = "" if style.dash == "-" else f' stroke-dasharray="{" ".join(str(2 * part) for part in style.dash[1])}"'
        line = f'<path d="M0 5h24" stroke="{style.variable}" stroke-width="3"{gaps}/>'
        keys += (
            f'<label><input type="checkbox" id="show{style.number}" checked>'
            f'<svg viewBox="0 0 24 10" aria-hidden="true">{line}</svg>{escape(result["title"])}</label>\n'
        )
    return f'<fieldset class="keys"><legend>Show</legend>\n{keys}</fieldset>'
