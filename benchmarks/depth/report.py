"""The files of a depth study: ``results.json``, and the HTML page and the plots made of it."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gnnlib._utils.documents import seal
from gnnlib._utils.files import atomic_write
from gnnlib.analysis.smoothing.advice import REMEDIES, WORDS
from gnnlib.benchmarks.depth import plots
from gnnlib.benchmarks.depth.published import published
from gnnlib.benchmarks.depth.ranking import Ranking, rank_remedies
from gnnlib.benchmarks.depth.summary import Row, deepest, mean, metric_title
from gnnlib.benchmarks.metrics import mean_std
from gnnlib.benchmarks.records.store import parse_sealed
from gnnlib.benchmarks.report.plots import style
from gnnlib.benchmarks.report.templates import write_page

__all__ = ["write_report", "write_results"]

Document = dict[str, Any]


def write_results(document: Document, folder: Path) -> None:
    """Writes ``results.json`` with its checksum, a line for each row, so that versions can be compared."""
    document = seal(document)
    head = json.dumps({name: value for name, value in document.items() if name != "rows"})
    rows = ",\n".join(json.dumps(row) for row in document["rows"])
    with atomic_write(folder / "results.json") as part:
        part.write_text(f'{head[:-1]}, "rows": [\n{rows}\n]}}\n')


def write_report(folder: Path) -> Path:
    """Writes ``report.html`` and ``plots/*.png`` from ``results.json`` and returns the page's path.

    Raises:
        ValueError: if the file is damaged
    """
    path = folder / "results.json"
    try:
        document = parse_sealed(path.read_text("utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error})") from error
    convs = list(dict.fromkeys(row["conv"] for row in document["rows"]))
    heading = f"Depth on {document['data']}{', tuned' if _is_tuned(document) else ''}"
    return write_page(
        folder / "report.html",
        "depth/report.html",
        title=f"{heading}: gnnlib",
        heading=heading,
        metric=metric_title(document),
        lede=[_lede(document, conv) for conv in convs],
        facts=_facts(document),
        ranking=_ranking(document, convs),
        comparison=_comparison(document, folder / "plots"),
        budget=_budget(document),
        tuned=_is_tuned(document),
        convs=[_conv(document, conv, folder / "plots") for conv in convs],
        num_projected=len(document["picture_labels"]),
        inside=_inside(document, convs),
    )


def _is_tuned(document: Document) -> bool:
    return document.get("tuning") is not None


def _lede(document: Document, conv: str) -> Document:
    """The accuracy of a convolution at its largest depth, with the best remedy and without one."""
    rows, first = deepest(document["rows"], conv), plots.chosen(document, conv)[0]
    best, plain = rows[0], next((row for row in rows if row["remedy"] == first), None)
    parts = [f"{mean(row):.1f} % with {row['remedy']}" for row in (best, plain) if row]
    return {"conv": conv, "depth": best["depth"], "accuracy": ", ".join(dict.fromkeys(parts))}


def _facts(document: Document) -> dict[str, list[str]]:
    names = ("graphs", "nodes", "edges", "features", "classes", "targets", "train", "val", "test")
    counts = [f"{document[name]:,} {name}" for name in names if name in document]
    return {
        "data": [f"{document['data']}: {', '.join(counts)}"],
        "command": [document["command"]] if document["command"] else [],
        "training": [f"{name.replace('_', ' ')} {value:g}" for name, value in document["settings"].items()],
        "hyperparameters": [_tuning_text(document)],
        "when": [document["when"]],
        "commit": document["commits"],
        "versions": [f"{name} {value}" for name, value in document["versions"].items()],
        "machine": document["machines"],
    }


def _tuning_text(document: Document) -> str:
    if not _is_tuned(document):
        return "untuned: the same for all cells"
    tuning = document["tuning"]
    rungs = ", ".join(map(str, tuning["rungs"]))
    return (
        f"tuned on validation data: {tuning['trials']} trials for each cell, the first with the values above, pruned "
        f"below the median after {rungs} epochs"
    )


def _comparison(document: Document, folder: Path) -> Document | None:
    """The remedies by their mean ranks over convolutions and depths; None if the study has too few."""
    ranking = rank_remedies([document])
    if ranking is None:
        return None
    figure = _figure(plots.critical_difference_diagram(ranking, size=(5.2, 1.1 + 0.24 * len(ranking.names))))
    style.save(figure, folder / "remedies-ranks.png")
    return {
        "blocks": ranking.blocks,
        "p_value": f"{ranking.p_value:.2g}",
        "difference": f"{ranking.critical_difference:.2f}",
        "diagram": style.svg(figure, "ranks", "Mean ranks of the remedies with the critical difference"),
        "head": ["remedy", "mean rank", "not significantly different"],
        "lines": [[name, f"{value:.2f}", _similar(ranking, i)]
                  for i, (name, value) in enumerate(zip(ranking.names, ranking.ranks, strict=True))],
    }  # fmt: skip


def _similar(ranking: Ranking, i: int) -> str:
    """The remedies whose mean ranks differ from one by less than the critical difference."""
    near = [abs(value - ranking.ranks[i]) < ranking.critical_difference for value in ranking.ranks]
    return ", ".join(name for j, name in enumerate(ranking.names) if near[j] and j != i)


def _budget(document: Document) -> Document | None:
    """The cost of a tuned study: trials, epochs and processor time, by convolution and remedy, over all depths."""
    if not _is_tuned(document):
        return None
    keys = dict.fromkeys((row["conv"], row["remedy"]) for row in document["rows"])
    parts = {", ".join(key): [row for row in document["rows"] if (row["conv"], row["remedy"]) == key] for key in keys}
    return {
        "head": ["convolution, remedy", "trials", "pruned", "failed", "epochs of trials", "core-seconds of trials",
                 "trainings", "epochs", "core-seconds"],
        "lines": [[name, *_costs(rows)] for name, rows in {**parts, "all": document["rows"]}.items()],
        "winners": [[f"{row['conv']}, {row['remedy']}, {row['depth']}", _params_text(row)] for row in document["rows"]],
    }  # fmt: skip


def _costs(rows: Sequence[Row]) -> list[str]:
    trials = [trial for row in rows for trial in row["trials"]]
    states = [trial["state"] for trial in trials]
    return [
        str(len(trials)),
        str(states.count("pruned")),
        str(states.count("failed")),
        f"{sum(trial['epochs'] for trial in trials):,}",
        f"{sum(trial['seconds'] for trial in trials):,.0f}",
        str(sum(len(row["seeds"]) for row in rows)),
        f"{sum(sum(row['epochs']) for row in rows):,}",
        f"{sum(sum(row['seconds']) for row in rows):,.0f}",
    ]


def _params_text(row: Row) -> str:
    """The hyperparameters of a tuned row."""
    values = {name: value if isinstance(value, str) else f"{value:.3g}" for name, value in row["params"].items()}
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in values.items())


def _ranking(document: Document, convs: Sequence[str]) -> Document:
    """All convolutions with all remedies, by accuracy at the largest depth; columns without any entry are left out."""
    lines: list[tuple[float, list[str]]] = []
    sources: dict[str, None] = {}
    for conv in convs:
        for last in deepest(document["rows"], conv):
            remedy = last["remedy"]
            rows = [row for row in document["rows"] if (row["conv"], row["remedy"]) == (conv, remedy)]
            best = max(rows, key=lambda row: mean(row, "validation"))
            figures = published(document["data"], conv, remedy)
            sources |= {f"{conv} with {remedy}, depth {d}: {f.source} ({f.setting})": None for d, f in figures.items()}
            cells = [
                f"{conv}, {remedy}",
                _mean_std(last["test"]),
                str(last["depth"]),
                f"{_mean_std(best['test'])} at {best['depth']}",
                _signed(mean(last) - mean(best)),
                ", ".join(f"{figure.value:g} at {depth}" for depth, figure in figures.items()),
                str(len(last["seeds"])),
                f"{last['parameters']:,}",
                f"{mean(last, 'seconds'):,.1f}",
            ]
            lines.append((-mean(last), cells))
    metric = f"{metric_title(document)} (%)"
    head = ["convolution, remedy", metric, "depth", "at its best depth", "difference", "published", "seeds",
            "parameters", "seconds"]  # fmt: skip
    ranked = [cells for _, cells in sorted(lines, key=lambda line: line[0])]
    columns = [i for i in range(len(head)) if any(cells[i] for cells in ranked)]
    depths = {cells[2] for cells in ranked}
    if len(depths) == 1:  # the text says it
        columns.remove(2)
    return {
        "depth": depths.pop() if len(depths) == 1 else None,
        "head": [head[i] for i in columns],
        "lines": [[cells[i] for i in columns] for cells in ranked],
        "sources": list(sources),
    }


def _conv(document: Document, conv: str, folder: Path) -> Document:
    """The section of one convolution: the heat map, the curves and the outputs, each as a file in the folder too."""
    height = 0.9 + 0.27 * len(plots.ranked(document, conv))
    style.save(
        _figure(plots.heat_map(document, conv, size=(5.2, height))), folder / f"{style.file_name(conv)}-accuracy.png"
    )
    places = plots.places(document)
    legend = [
        {"remedy": remedy, "colour": "var(--ink)" if places[remedy] is None else f"var(--c{places[remedy]})"}
        for remedy in plots.chosen(document, conv)
    ]
    return {
        "name": conv,
        **_heat_map(document, conv),
        "legend": legend,
        "curves": _curves(document, conv, folder),
        "outputs": _outputs(document, conv, folder),
    }


def _heat_map(document: Document, conv: str) -> Document:
    by_cell = {(row["remedy"], row["depth"]): row for row in document["rows"] if row["conv"] == conv}
    depths = sorted({depth for _, depth in by_cell})
    low, high = (f(map(mean, by_cell.values())) for f in (min, max))

    def cell(row: Row | None) -> Document | None:
        if row is None:
            return None
        share = (mean(row) - low) / (high - low) if high > low else 0.5
        tuned = f"tuned: {_params_text(row)}" if "params" in row else "untuned"
        title = f"{_mean_std(row['test'])} % ({len(row['seeds'])} seeds, {tuned})"
        return {"share": f"{share:.3f}", "title": title, "text": f"{mean(row):.1f}{'*' if any(row['errors']) else ''}"}

    lines = [
        {"remedy": remedy, "cells": [cell(by_cell.get((remedy, depth))) for depth in depths]}
        for remedy in plots.ranked(document, conv)
    ]
    return {"depths": depths, "lines": lines}


def _curves(document: Document, conv: str, folder: Path) -> list[Markup]:
    """Accuracy by depth, and the measures by layer."""
    axes = {"accuracy": plots.accuracy_by_depth(document, conv)}
    if _is_tuned(document):
        axes["budget"] = plots.budget_by_depth(document, conv)
    if any(row["statistics"] for row in document["rows"] if row["conv"] == conv):
        axes |= {measure: plots.measure_by_layer(document, conv, measure) for measure in plots.BY_LAYER}
    drawings = []
    for measure, ax in axes.items():
        label = f"{conv}: {ax.get_title('left')}"
        drawings.append(style.svg(_figure(ax), f"{_identifier(conv)}{measure.replace('_', '')}", label))
        with style.report_style():
            ax.legend(fontsize=6)  # the page has one legend for all
        style.save(_figure(ax), folder / f"{style.file_name(conv)}-{measure}-curves.png")
    return drawings


def _identifier(conv: str) -> str:
    """Letters and digits, for the ids of a drawing."""
    return re.sub(r"\W", "", conv)


def _figure(ax: Axes) -> Figure:
    return cast(Figure, ax.figure)


def _outputs(document: Document, conv: str, folder: Path) -> Markup | None:
    pictures = [picture for picture in document["pictures"] if picture["conv"] == conv]
    if not pictures:
        return None
    names = ", ".join(f"{picture['remedy']} at {picture['depth']}" for picture in pictures)
    figure = plots.all_outputs(document, pictures)
    style.save(figure, folder / f"{style.file_name(conv)}-outputs.png")
    return style.svg(figure, f"{_identifier(conv)}outputs", f"Outputs of {conv} in two dimensions: {names}")


def _inside(document: Document, convs: Sequence[str]) -> Document:
    """Verdicts, train and test accuracy and gradients, of the deepest nets and of all; what helps with each verdict."""
    last = [row for conv in convs for row in deepest(document["rows"], conv)]
    verdicts = dict.fromkeys(moment["verdict"] for row in last for moment in row["statistics"] or ())
    return {
        "head": ["convolution, remedy, depth", "verdict, trained", "verdict at the start", "train (%)", "test (%)",
                 "gap", "gradient, trained", "gradient at the start"],
        "deepest": _diagnoses(last),
        "all": _diagnoses(document["rows"]),
        "advice": [(verdict, _advice(verdict)) for verdict in verdicts if verdict in WORDS],
    }  # fmt: skip


def _advice(verdict: str) -> str:
    """The remedies as keywords of `Stack.build`, or a rewiring, and others."""
    keywords = [", ".join(f"{name}={value}" for name, value in remedy.items()) for remedy in REMEDIES.get(verdict, ())]
    first = [f"Stack.build(..., {text})" for text in keywords] or ["gnnlib.rewiring.fosr(graph, 0.3)"]
    return ", ".join([*first, WORDS[verdict]])


def _diagnoses(rows: Sequence[Row]) -> list[list[str]]:
    lines = []
    for row in rows:
        start, end = row["statistics"] or (None, None)
        lines.append([
            f"{row['conv']}, {row['remedy']}, {row['depth']}",
            end["verdict"] if end else "",
            start["verdict"] if start else "",
            f"{mean(row, 'train'):.1f}",
            f"{mean(row):.1f}",
            _signed(mean(row, "train") - mean(row)),
            _gradient_ratio(end),
            _gradient_ratio(start),
        ])  # fmt: skip
    return lines


def _mean_std(values: Sequence[float]) -> str:
    mean, std = mean_std(list(values))
    return f"{mean:.1f}" if std is None else f"{mean:.1f} ± {std:.1f}"


def _signed(value: float) -> str:
    return f"{value:+.1f}".replace("-", "−")


def _gradient_ratio(statistics: Document | None) -> str:
    """The norm of the gradient at the first layer over that at the last."""
    ends = [statistics["gradient"][0], statistics["gradient"][-1]] if statistics else [None, None]
    return f"{ends[0] / ends[1]:.2g}" if ends[0] is not None and ends[1] else ""
