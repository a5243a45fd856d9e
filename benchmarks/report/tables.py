"""The page's tables: the leaderboard, the confusion matrices, and what else was recorded."""

import math
import re
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from gnnlib.benchmarks.report import plots
from gnnlib.benchmarks.report.ranking import Column, Row, columns, decimals, figures, sources
from gnnlib.benchmarks.report.reading import Result, shared_arguments

TABLE_CLASSES = 20  # a confusion matrix of more classes is a picture


def board(rows: Sequence[Row]) -> str:
    """The leaderboard, with a small picture of each layer's seeds."""
    shown = columns(rows)
    metric = rows[0].result["metric"]
    look = plots.styles([row.result for row in rows])
    values = [value for row in rows for value in row.result["metric"]["values"]]
    head, body = "", ""
    for column in shown:
        head += f'<th scope="col"{" class=right" if column.number else ""}>{escape(column.heading)}</th>'
        head += '<th scope="col" class="spread">each seed</th>' if column.name == "metric" else ""
    for i, row in enumerate(rows):
        colour = look[row.result["layer"]].variable
        strip = _strip(row.result["metric"], min(values), max(values), colour)
        cells = "".join(_cell(column, escape(column.cells[i]), colour, strip) for column in shown)
        body += f"<tr{' class=best' if row.best else ''}>{cells}</tr>\n"
    better = "higher is better" if metric["higher_is_better"] else "lower is better"
    spread = any(len(row.result["seeds"]) > 1 for row in rows)
    over = "mean ± standard deviation over seeds" if spread else "one seed each, so that no spread is known"
    notes = "".join(f"<li>{escape(line)}</li>" for line in sources(rows))
    if notes:
        summary = "<summary>Sources of the published figures</summary>"
        notes = f'<details class="sources" open>{summary}<ul>{notes}</ul></details>'
    return f"""<section><h2 id="board">Leaderboard</h2>
<p id="caption">{escape(metric["name"]).capitalize()}, {over} ({better}).</p>
<div class="scroll" role="region" aria-labelledby="board" tabindex="0">
<table class="board" aria-labelledby="board" aria-describedby="caption">
<thead><tr>{head}</tr></thead>
<tbody>
{body}</tbody></table></div>
{notes}</section>"""


def matrices(folder: Path, results: Sequence[Result]) -> str:
    """The best layer's matrix, the others folded."""
    drawn = [_matrix(folder, result) for result in results if result["confusion"]]
    if not drawn:
        return ""
    best, *others = drawn
    folded = ""
    if others:
        summary = "The other layer" if len(others) == 1 else f"The other {len(others)} layers"
        inside = "\n".join(f"<div>{matrix}</div>" for matrix in others)
        folded = f'<details><summary>{summary}</summary><div class="matrices">{inside}</div></details>'
    return f"""<section><h2>Confusion matrix</h2>
<p>Rows are true classes, columns predictions, summed over seeds; “found” is the share of a class that was right.</p>
{best}
{folded}</section>"""


def others(rows: Sequence[Row]) -> str:
    """What else was measured, a line for each figure and a column for each layer; empty where there is nothing."""
    lines = figures(rows)
    if not lines:
        return ""
    head = "".join(f'<th scope="col" class=right>{escape(row.result["title"])}</th>' for row in rows)
    body = ""
    for name, cells in lines:
        inside = "".join(f"<td class=right>{escape(cell)}</td>" for cell in cells)
        body += f'<tr><th scope="row">{escape(name)}</th>{inside}</tr>\n'
    over = "means over seeds" if any(len(row.result["seeds"]) > 1 for row in rows) else "one seed each"
    return f"""<section><h2 id="figures">Other figures</h2>
<p>What else the task measures, {over}.</p>
<div class="scroll" role="region" aria-labelledby="figures" tabindex="0"><table aria-labelledby="figures">
<thead><tr><td></td>{head}</tr></thead>
<tbody>
{body}</tbody></table></div></section>"""


def details(rows: Sequence[Row]) -> str:
    """Arguments, seeds one by one, validation scores, read-outs in full."""
    shared = shared_arguments([row.result for row in rows])
    digits = decimals(rows)
    table = []
    for result in (row.result for row in rows):
        validation = (result["validation"] or {}).get("values")
        table.append({
            "layer": result["title"],
            "seeds": ", ".join(map(str, result["seeds"])),
            "each seed": ", ".join(f"{value:.{digits}f}" for value in result["metric"]["values"]),
            "validation, mean": f"{sum(validation) / len(validation):.{digits}f}" if validation else "",
            "read-out": result["readout"] or "",
            "commit": result["commit"] or "",
        })  # fmt: skip
    names = [name for name in table[0] if any(cells[name] for cells in table)]
    head = "".join(f'<th scope="col">{name}</th>' for name in names)
    body = ""
    for cells in table:
        first, *others = (escape(cells[name]) for name in names)
        body += f'<tr><th scope="row">{first}</th>{"".join(f"<td>{cell}</td>" for cell in others)}</tr>\n'
    common = ", ".join(f"{name} {value}" for name, value in shared.items() if name != "data" and value is not None)
    return f"""<section><h2 id="details">Details</h2>
<p>Arguments that all layers share: {escape(common) or "none"}.</p>
<details><summary>Each layer's seeds, scores and settings</summary>
<div class="scroll" role="region" aria-labelledby="details" tabindex="0"><table class="wrap">
<thead><tr>{head}</tr></thead>
<tbody>
{body}</tbody></table></div></details></section>"""


def _cell(column: Column, text: str, colour: str, strip: str) -> str:
    if column.name == "layer":
        return f'<th scope="row"><span class="dot" style="background: {colour}"></span>{text}</th>'
    cell = f'<td class="{"right " if column.number else ""}{column.name}">{text}</td>'
    return cell + (f'<td class="spread">{strip}</td>' if column.name == "metric" else "")


def _strip(metric: dict[str, Any], low: float, high: float, colour: str) -> str:
    """A small picture of one row: a tick per seed and a dot at the mean, on the scale of the whole table."""

    def x(value: float) -> str:
        return f"{4 + 122 * ((value - low) / (high - low) if high > low else 0.5):.1f}"

    ticks = "".join(f'<path d="M{x(value)} 4v8"/>' for value in metric["values"])
    label = "each seed: " + ", ".join(f"{value:g}" for value in metric["values"])
    return (
        f'<svg class="strip" role="img" aria-label="{label}" viewBox="0 0 130 16">'
        f'<path d="M0 8h130" stroke="var(--rule)"/><g stroke="{colour}" stroke-width="1.3">{ticks}</g>'
        f'<circle cx="{x(metric["mean"])}" cy="8" r="3.2" fill="{colour}"/></svg>'
    )


def _matrix(folder: Path, result: Result) -> str:
    rows = result["confusion"]
    title = escape(result["title"])
    name = re.sub(r"[^\w-]", "_", result["layer"])
    image = plots.save(plots.confusion(result), folder / f"confusion-{name}.png")
    caption = f"{title}: {sum(row[i] for i, row in enumerate(rows)):,} of {sum(map(sum, rows)):,} right"
    if len(rows) > TABLE_CLASSES:
        return f'<img class="matrix-plot" src="{image}" alt="Confusion matrix of {caption}">'
    names = [escape(name) for name in result["classes"] or map(str, range(len(rows)))]
    head = "".join(f'<th scope="col">{name}</th>' for name in names)
    body = "".join(_row(names[i], i, row) for i, row in enumerate(rows))
    return f"""<div class="scroll" role="region" aria-label="Confusion matrix of {title}" tabindex="0">
<table class="matrix"><caption>{caption}</caption>
<thead><tr><td></td>{head}<th scope="col" class="recall">found</th></tr></thead>
<tbody>
{body}</tbody></table></div>"""


def _row(name: str, true: int, counts: Sequence[int]) -> str:
    """The predictions for one class; the deeper a cell's colour, the larger its share."""
    total = sum(counts)
    cells = ""
    for i, count in enumerate(counts):
        share = count / max(total, 1) if i == true else math.sqrt(count / max(total, 1))  # single errors stay visible
        style = f'class="{"good" if i == true else "bad"}" style="--share: {share:.3f}"' if count else 'class="zero"'
        cells += f"<td {style}>{count:,}</td>"
    found = f'<td class="recall">{100 * counts[true] / total:.1f} %</td>' if total else "<td></td>"
    return f'<tr><th scope="row">{name}</th>{cells}{found}</tr>\n'
