"""Draws docs/images/depth-*, the pictures of docs/depth.md, and makes the tables of it, of docs/depth-remedies.md and
of docs/depth-command.md: .venv/bin/python -m docs.pictures_depth"""

import json
import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from docs.tables import fill_tables
from gnnlib.benchmarks.catalog.remedies import REMEDIES
from gnnlib.benchmarks.depth import plots
from gnnlib.benchmarks.depth.ranking import rank_remedies
from gnnlib.benchmarks.depth.summary import Row, deepest, mean
from gnnlib.benchmarks.metrics import mean_std
from gnnlib.benchmarks.report.plots.style import report_style

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "docs" / name for name in ("depth.md", "depth-remedies.md", "depth-command.md")]
IMAGES = ROOT / "docs" / "images"
RESULTS = ROOT / "benchmarks" / "results"
CONVS = ("gcn", "gin", "gat", "sgc")
DRAWN = {"cora": ("heat", "layers", "accuracy", "outputs"), "pubmed": ("heat", "layers", "accuracy")}
INSTEAD = ("appnp", "dagnn")
THIN = ("none", "shared", "lowrank", "grouped", "channel")
GAPS = ("none", "batchnorm", "dropout", "decay", "dropout+decay", "layerwise")
WAYS = {"plain": "plain, with initial residuals", "checkpointed": "checkpointed", "reversible": "reversible"}
Document = dict[str, Any]
Lines = list[list[str]]


def read(*path: str) -> Document:
    return json.loads(RESULTS.joinpath(*path).read_text())


def study(data: str) -> Document:
    return read(f"depth-{data}", "results.json")


def find(document: Document, conv: str, remedy: str, depth: int) -> Row | None:
    key = (conv, remedy, depth)
    return next((row for row in document["rows"] if (row["conv"], row["remedy"], row["depth"]) == key), None)


def percent(row: Row | None) -> str:
    """The mean of the seeds, with their deviation where there are several."""
    if row is None:
        return ""
    centre, std = mean_std(row["test"])
    return f"{centre:.1f}" if std is None else f"{centre:.1f} ± {std:.1f}"


def markdown(head: Sequence[str], lines: Lines) -> str:
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [list(head), ["---"] * len(head), *lines])


def depths(document: Document) -> list[int]:
    return sorted({row["depth"] for row in document["rows"]})


def plain(document: Document, remedy: str = "none") -> str:
    """A row for each convolution with one remedy."""
    convs = dict.fromkeys(row["conv"] for row in document["rows"] if row["remedy"] == remedy)
    lines = [[conv, *(percent(find(document, conv, remedy, depth)) for depth in depths(document))] for conv in convs]
    return markdown([f"`{remedy}`", *map(str, depths(document))], lines)


def best_remedies(document: Document) -> str:
    """Each convolution at the largest depth with the remedy of the best validation accuracy, and at that remedy's best
    depth. Only rows with the most seeds count, and no remedies that replace the network."""
    lines = []
    for conv in CONVS:
        rows = [row for row in document["rows"] if row["conv"] == conv and row["remedy"] not in INSTEAD]
        seeds = max(len(row["seeds"]) for row in rows)
        rows = [row for row in rows if len(row["seeds"]) == seeds]
        deep = deepest(rows, conv)[0]
        best = max((row for row in rows if row["remedy"] == deep["remedy"]), key=partial(mean, name="validation"))
        plain_row = find(document, conv, "none", deep["depth"])
        difference = f"{round(mean(deep) - mean(best), 1) + 0:+.1f}".replace("-", "−")  # no −0.0
        cells = [percent(plain_row), f"{percent(deep)} (`{deep['remedy']}`)", f"{percent(best)} ({best['depth']})"]
        lines.append([conv, *cells, difference, str(seeds)])
    deep = max(depths(document))
    head = [
        "layer",
        f"plain, {deep} layers",
        f"best remedy, {deep} layers",
        "same remedy, best depth",
        "difference",
        "seeds",
    ]
    return markdown(head, lines)


def collapse(document: Document, conv: str) -> str:
    """Measures of the last layer's outputs before training, and the test accuracy, of the plain network."""
    rows = [row for depth in depths(document) if (row := find(document, conv, "none", depth)) is not None]
    names = {"distance": "mean average distance", "energy": "Dirichlet energy", "effective_rank": "effective rank"}
    lines = [[title, *(f"{row['statistics'][0][name][-1]:.2g}" for row in rows)] for name, title in names.items()]
    lines += [["test accuracy, trained", *map(percent, rows)]]
    return markdown(["measure", *(f"{row['depth']} layers" for row in rows)], lines)


def gaps(document: Document, conv: str, at: Sequence[int] = (2, 6, 16, 64)) -> str:
    """Train minus test accuracy, and the first layer's gradient over the last's, before and after training."""

    def cell(row: Row | None) -> str:
        if row is None:
            return ""
        ratios = [
            layers["gradient"][0] / layers["gradient"][-1] if layers["gradient"][-1] else 0.0
            for layers in row["statistics"]
        ]
        return f"{mean(row, 'train'):.0f} − {mean(row):.0f}; {ratios[0]:.0e}, {ratios[1]:.0e}"

    lines = [[f"`{remedy}`", *(cell(find(document, conv, remedy, depth)) for depth in at)] for remedy in GAPS]
    return markdown(["remedy", *(f"{depth} layers" for depth in at)], lines)


def remedies(document: Document, conv: str) -> str:
    """All remedies of a convolution, the best at the largest depth first."""
    rows = [row for row in document["rows"] if row["conv"] == conv]
    lines = []
    for deep in deepest(rows, conv):
        of_depths = [percent(find(document, conv, deep["remedy"], depth)) for depth in depths(document)]
        lines.append([f"`{deep['remedy']}`", *of_depths, f"{deep['parameters']:,}"])
    return markdown([conv, *map(str, depths(document)), "parameters"], lines)


def thin(document: Document, at: Sequence[int] = (8, 16, 32)) -> str:
    """The accuracy of each remedy with fewer parameters, with each convolution; and the parameters of GCN."""
    lines = []
    for depth in at:
        for remedy in THIN:
            rows = [find(document, conv, remedy, depth) for conv in CONVS]
            size = "" if rows[0] is None else f"{rows[0]['parameters'] / 1000:.0f}"
            lines.append([str(depth), f"`{remedy}`", size, *map(percent, rows)])
    return markdown(["layers", "remedy", "parameters (thousands)", *CONVS], lines)


def at_the_deepest(document: Document) -> str:
    """Each remedy alone at the largest depth, with each convolution, the best sum first."""
    deep = max(depths(document))
    rows_of = {name: [find(document, conv, name, deep) for conv in CONVS] for name in REMEDIES}
    complete = {name: rows for name, rows in rows_of.items() if None not in rows}
    order = sorted(complete, key=lambda name: -sum(mean(row) for row in complete[name] if row is not None))
    return markdown([f"{deep} layers", *CONVS], [[f"`{name}`", *map(percent, complete[name])] for name in order])


def memory(document: Document) -> str:
    """The memory of a training step by depth, and the exponent of its growth between the last two depths."""
    rows = read(f"memory-{document['data']}", "memory.json")["rows"]
    deep = sorted({row["depth"] for row in rows})
    lines = []
    for way, title in WAYS.items():
        steps = {row["depth"]: row for row in rows if row["way"] == way}
        before, last = (steps[depth]["bytes"] for depth in deep[-2:])
        exponent = math.log(last / before) / math.log(deep[-1] / deep[-2])
        cells = [f"{steps[depth]['bytes'] / 1e6:.0f} MB, {steps[depth]['seconds']:.2g} s" for depth in deep]
        lines.append([title, *cells, f"{exponent:.2f}"])
    return markdown(["network", *(f"{depth} layers" for depth in deep), "exponent of memory"], lines)


BOTH: dict[str, Callable[[Document], str]] = {
    "plain": plain,
    "dropout": partial(plain, remedy="dropout+decay"),
    "cured": best_remedies,
    "start-gcn": partial(collapse, conv="gcn"),
    "gaps": partial(gaps, conv="gcn"),
    "deepest": at_the_deepest,
    **{f"all-{conv}": partial(remedies, conv=conv) for conv in CONVS},
    "memory": memory,
}
SHOWN = {"cora": {**BOTH, "start-gat": partial(collapse, conv="gat"), "thin": thin}, "pubmed": BOTH}
TABLES = {f"{data}-{name}": (data, make) for data, tables in SHOWN.items() for name, make in tables.items()}


# ---------------------------------------------------------------- tuned studies


def tuned_studies() -> dict[str, Document]:
    """The tuned studies of the committed results, by data."""
    documents = [json.loads(path.read_text()) for path in sorted(RESULTS.glob("depth-*-tune*/results.json"))]
    return {document["data"]: document for document in documents}


def tuned(document: Document) -> str:
    """The test metric by depth, a row for each convolution with each remedy."""
    keys = dict.fromkeys((row["conv"], row["remedy"]) for row in document["rows"])
    lines = [
        [f"{conv}, `{remedy}`", *(percent(find(document, conv, remedy, depth)) for depth in depths(document))]
        for conv, remedy in keys
    ]
    return markdown([f"{document['data']}, tuned", *map(str, depths(document))], lines)


def budget(documents: Sequence[Document]) -> str:
    """The cost of tuned studies: the trials, and the trainings of the winners."""
    lines = []
    for document in documents:
        rows = document["rows"]
        trials = [trial for row in rows for trial in row["trials"]]
        pruned = sum(trial["state"] == "pruned" for trial in trials) / len(trials)
        hours = [sum(trial["seconds"] for trial in trials) / 3600, sum(sum(row["seconds"]) for row in rows) / 3600]
        epochs, trainings = sum(trial["epochs"] for trial in trials), sum(len(row["seeds"]) for row in rows)
        numbers = [f"{len(trials):,}", f"{pruned:.0%}", f"{epochs:,}", f"{hours[0]:.1f}", f"{trainings:,}"]
        lines.append([document["data"], str(len(rows)), *numbers, f"{hours[1]:.1f}"])
    head = ["data", "cells", "trials", "pruned", "epochs", "core-hours", "trainings of winners", "core-hours"]
    return markdown(head, lines)


def mean_ranks(documents: Sequence[Document]) -> str:
    """The mean ranks of the remedies over all tuned studies, with the critical difference."""
    ranking = rank_remedies(documents)
    if ranking is None:
        return ""
    lines = [[f"`{name}`", f"{value:.2f}"] for name, value in zip(ranking.names, ranking.ranks, strict=True)]
    lines.append([f"critical difference, {ranking.blocks} combinations", f"{ranking.critical_difference:.2f}"])
    return markdown(["remedy, tuned", "mean rank"], lines)


@report_style()
def draw_tuned(document: Document) -> None:
    """The test metric in a band of one standard deviation, and the processor time below it."""
    convs = list(dict.fromkeys(row["conv"] for row in document["rows"]))
    figure = Figure((3.4 * len(convs), 4.6), layout="constrained")
    for column, conv in zip(figure.subplots(2, len(convs), squeeze=False).T, convs, strict=True):
        plots.accuracy_by_depth(document, conv, ax=column[0])
        plots.budget_by_depth(document, conv, ax=column[1])
        column[0].set_title(f"{conv}, tuned: {column[0].get_title('left')}", loc="left")
        column[0].legend(fontsize=5)
    figure.savefig(IMAGES / f"depth-{document['data']}-tuned.png", dpi=90)


def tables() -> dict[str, Callable[[], str]]:
    """All tables of the pages, by name."""
    documents = {data: study(data) for data in SHOWN}
    makers = {name: partial(make, documents[data]) for name, (data, make) in TABLES.items()}
    studies = tuned_studies()
    if not studies:
        return makers
    makers |= {f"tuned-{data}": partial(tuned, document) for data, document in studies.items()}
    together = list(studies.values())
    return makers | {"tuned-budget": partial(budget, together), "tuned-ranks": partial(mean_ranks, together)}


@report_style()
def draw(document: Document) -> None:
    def save(figure: Figure, name: str) -> None:
        if name in DRAWN[document["data"]]:
            figure.savefig(IMAGES / f"depth-{document['data']}-{name}.png", dpi=90)

    heat = plots.heat_map(document, "gcn", size=(6.2, 0.9 + 0.24 * len(plots.ranked(document, "gcn"))))
    save(heat.figure, "heat")
    figure = Figure((10, 2.7), layout="constrained")
    for ax, (name, title) in zip(figure.subplots(1, 4), plots.BY_LAYER.items(), strict=True):
        plots.measure_by_layer(document, "gcn", name, ax=ax)
        ax.set_title(title, loc="left")
    figure.axes[0].legend(fontsize=6)
    save(figure, "layers")
    figure = Figure((10, 2.7), layout="constrained")
    convs = [conv for conv in CONVS if conv in {row["conv"] for row in document["rows"]}]
    for ax, conv in zip(figure.subplots(1, len(convs)), convs, strict=True):
        plots.accuracy_by_depth(document, conv, ax=ax)
        ax.set_title(f"{conv}: test accuracy, %", loc="left")
        ax.legend(fontsize=5)
    save(figure, "accuracy")
    pictures = [picture for picture in document["pictures"] if picture["conv"] == "gcn"]
    save(plots.all_outputs(document, pictures), "outputs")


def with_tables(page: str) -> str:
    return fill_tables(page, tables())


def main() -> None:
    for data in SHOWN:
        draw(study(data))
    for document in tuned_studies().values():
        draw_tuned(document)
    for page in PAGES:
        page.write_text(with_tables(page.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    main()
