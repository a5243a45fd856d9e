"""The page's learning curves and scatter plots, under one legend whose boxes show and hide layers in all of them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from gnnlib.benchmarks.report import plots
from gnnlib.benchmarks.report.reading import Result


def curves(folder: Path, results: Sequence[Result]) -> list[Markup]:
    """A plot for each kind of curve that a result has; all of them as one file in the folder."""
    drawings = []
    for i, kind in enumerate(plots.recorded(results)):
        ends = []
        for result in results:
            _, mean, _ = plots.mean_curve(result["curves"] or [], kind)
            ends += [f"{result['title']} {mean[-1]:.4g}"] if len(mean) else []
        label = f"{plots.CURVES[kind]} by epoch; at the last epoch: {', '.join(ends)}"
        drawings.append(plots.svg(plots.curve_panel(results, kind), f"curve{i}", label))
    if drawings:
        plots.save(plots.learning_curves(results), folder / "learning-curves.png")
    return drawings


def costs(folder: Path, results: Sequence[Result]) -> list[Markup]:
    """The metric against each cost; all of them as one file in the folder."""
    drawings = []
    for i, cost in enumerate(plots.COSTS):
        points = ", ".join(f"{r['title']} {r['metric']['mean']:.4g} at {r[cost]:,.4g}" for r in results)
        label = f"{results[0]['metric']['name']} against {cost}: {points}"
        drawings.append(plots.svg(plots.scatter_panel(results, cost), f"cost{i}", label))
    plots.save(plots.leaderboard_scatter(results), folder / "cost.png")
    return drawings


def legend(results: Sequence[Result]) -> list[dict[str, Any]]:
    """The number, colour, dashes and title of each layer."""
    keys = []
    styles = plots.styles(results)
    for result in results:
        style = styles[result["layer"]]
        dashes = "" if style.dash == "-" else " ".join(str(2 * length) for length in style.dash[1])
        key = {"number": style.number, "colour": style.variable, "dashes": dashes, "title": result["title"]}
        keys.append(key)
    return keys
