"""``results.json`` and the page made of it, which opens without a network."""

import json
import re
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import Any, cast

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gnnlib._utils.files import atomic_write
from gnnlib.benchmarks import report as parts
from gnnlib.benchmarks.depth import plots
from gnnlib.benchmarks.depth.published import published
from gnnlib.benchmarks.depth.summary import Row, deepest, mean
from gnnlib.benchmarks.metrics import mean_std
from gnnlib.benchmarks.report.plots import look

__all__ = ["write_report", "write_results"]

PAGE = Path(parts.__file__).with_name("page.html")
Document = dict[str, Any]


def write_results(document: Document, folder: Path) -> None:
    """A line for each row, so that versions can be compared."""
    head = json.dumps({name: value for name, value in document.items() if name != "rows"})
    rows = ",\n".join(json.dumps(row) for row in document["rows"])
    with atomic_write(folder / "results.json") as part:
        part.write_text(f'{head[:-1]}, "rows": [\n{rows}\n]}}\n')


def write_report(folder: Path) -> Path:
    """Writes ``report.html`` and ``plots/*.png`` from ``results.json`` and returns the page's path."""
    document = json.loads((folder / "results.json").read_text())
    convs = list(dict.fromkeys(row["conv"] for row in document["rows"]))
    sections = [_ranking(document, convs)]
    sections += [_conv(document, conv, folder / "plots") for conv in convs]
    sections += [_inside(document)]
    page = Template(PAGE.read_text(encoding="utf-8")).substitute(
        title=escape(f"Depth on {document['data']}: gnnlib"),
        task=escape(f"Depth on {document['data']}"),
        lede=_lede(document, convs),
        facts=_facts(document),
        sections="\n".join(sections),
        light=" ".join(f"--c{i}: {light};" for i, (light, _) in enumerate(look.PALETTE)),
        dark=" ".join(f"--c{i}: {dark};" for i, (_, dark) in enumerate(look.PALETTE)),
        toggles="",
    )
    path = folder / "report.html"
    with atomic_write(path) as part:
        part.write_bytes(page.encode())
    return path


def _lede(document: Document, convs: Sequence[str]) -> str:
    """For each convolution, what is left at the largest depth without a remedy, and with the best."""
    lines = []
    for conv in convs:
        last, first = deepest(document["rows"], conv), plots.chosen(document, conv)[0]
        plain = next((row for row in last if row["remedy"] == first), None)
        best = f"{mean(last[0]):.1f} % with {escape(last[0]['remedy'])}"
        without = f", {mean(plain):.1f} % with {escape(first)}" if plain and plain is not last[0] else ""
        lines.append(f"<strong>{escape(conv)}</strong> at {last[0]['depth']} layers: {best}{without}.")
    return " ".join(lines)


def _facts(document: Document) -> str:
    sizes = ("nodes", "edges", "features", "classes", "train", "val", "test")
    facts = {
        "data": f"{document['data']}: " + ", ".join(f"{document[name]:,} {name}" for name in sizes),
        "command": f"<code>{escape(document['command'])}</code>" if document["command"] else "",
        "training": ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in document["recipe"].items()),
        "when": document["when"],
        "commit": ", ".join(f"<code>{escape(code)}</code>" for code in document["commits"]),
        "versions": " · ".join(f"{name} {value}" for name, value in document["versions"].items()),
        "machine": escape("; ".join(document["machines"])),
    }
    return "<dl>\n" + "\n".join(f"<dt>{name}</dt><dd>{text}</dd>" for name, text in facts.items() if text) + "\n</dl>"


def _table(name: str, head: Sequence[str], lines: Iterable[Sequence[str]], kind: str = "") -> str:
    """The first cell of each line is its heading; cells are HTML already."""
    top = "".join(f'<th scope="col"{" class=right" if i else ""}>{text}</th>' for i, text in enumerate(head))
    body = ""
    for first, *others in lines:
        inside = "".join(text if text.startswith("<td") else f"<td class=right>{text}</td>" for text in others)
        body += f'<tr><th scope="row">{first}</th>{inside}</tr>\n'
    return f"""<div class="scroll" role="region" aria-label="{escape(name)}" tabindex="0"><table{kind}>
<thead><tr>{top}</tr></thead>
<tbody>
{body}</tbody></table></div>"""


def _spread(values: Sequence[float]) -> str:
    centre, std = mean_std(list(values))
    return f"{centre:.1f}" if std is None else f"{centre:.1f} ± {std:.1f}"


def _ranking(document: Document, convs: Sequence[str]) -> str:
    """All convolutions under all remedies, by accuracy at the largest depth."""
    lines: list[tuple[float, list[str]]] = []
    sources: dict[str, None] = {}
    for conv in convs:
        for last in deepest(document["rows"], conv):
            remedy = last["remedy"]
            same = [row for row in document["rows"] if (row["conv"], row["remedy"]) == (conv, remedy)]
            best = max(same, key=lambda row: mean(row, "validation"))
            figures = published(document["data"], conv, remedy)
            sources |= {f"{conv} with {remedy}, depth {d}: {f.source} ({f.setting})": None for d, f in figures.items()}
            cells = [
                f"{escape(conv)}, {escape(remedy)}",
                str(last["depth"]),
                _spread(last["test"]),
                f"{_spread(best['test'])} at {best['depth']}",
                f"{mean(last) - mean(best):+.1f}".replace("-", "−"),
                ", ".join(f"{figure.value:g} at {depth}" for depth, figure in figures.items()),
                str(len(last["seeds"])),
                f"{last['parameters']:,}",
                f"{mean(last, 'seconds'):,.1f}",
            ]
            lines.append((-mean(last), cells))
    head = ["convolution, remedy", "largest depth", "accuracy there (%)", "at its best depth", "difference",
            "published", "seeds", "parameters", "seconds"]  # fmt: skip
    notes = "".join(f"<li>{escape(line)}</li>" for line in sources)
    notes = f'<details class="sources"><summary>Sources</summary><ul>{notes}</ul></details>' if notes else ""
    ranked = [cells for _, cells in sorted(lines, key=lambda line: line[0])]
    filled = [i for i in range(len(head)) if any(cells[i] for cells in ranked)]
    return f"""<section><h2>Ranked at the largest depth</h2>
<p>Test accuracy, mean over seeds; the best depth is that of the best validation accuracy; size and time of one training
are those at the largest depth.</p>
{_table("Ranking", [head[i] for i in filled], [[cells[i] for i in filled] for cells in ranked])}
{notes}</section>"""


def _conv(document: Document, conv: str, folder: Path) -> str:
    """What belongs to one convolution: the heat map, the curves, the outputs."""
    name = re.sub(r"\W", "", conv)
    height = 0.9 + 0.27 * len(plots.ranked(document, conv))
    look.save(_figure(plots.heat_map(document, conv, size=(5.2, height))), folder / f"{conv}-accuracy.png")
    axes = {"accuracy": plots.accuracy_by_depth(document, conv)}
    if any(row["looks"] for row in document["rows"] if row["conv"] == conv):
        axes |= {measure: plots.measure_by_layer(document, conv, measure) for measure in plots.BY_LAYER}
    drawn = ""
    for measure, ax in axes.items():
        drawn += look.svg(_figure(ax), f"{name}{measure.replace('_', '')}", escape(f"{conv}: {ax.get_title('left')}"))
        with look.in_our_style():
            ax.legend(fontsize=6)  # the page has one for all
        look.save(_figure(ax), folder / f"{conv}-{measure}-curves.png")
    keys = ""
    for place, remedy in enumerate(plots.chosen(document, conv)):
        variable = f"var(--c{place - 1})" if place else "var(--ink)"
        keys += f'<span><span class="dot" style="background: {variable}"></span>{escape(remedy)}</span>\n'
    return f"""<section><h2>{escape(conv)}</h2>
<p>Test accuracy in percent by depth; an asterisk marks where a loss was no longer finite.</p>
{_heat(document, conv)}
<p>By depth, and layer by layer in the deepest nets: as trained, and dotted as they start (one seed).</p>
<div class="keys">{keys}</div>
<div class="plots">{drawn}</div>
{_outputs(document, conv, folder)}</section>"""


def _figure(ax: Axes) -> Figure:
    return cast(Figure, ax.figure)


def _heat(document: Document, conv: str) -> str:
    mine = {(row["remedy"], row["depth"]): row for row in document["rows"] if row["conv"] == conv}
    depths = sorted({depth for _, depth in mine})
    low, high = (f(map(mean, mine.values())) for f in (min, max))

    def cell(row: Row | None) -> str:
        if row is None:
            return "<td></td>"
        share = (mean(row) - low) / (high - low) if high > low else 0.5
        title = f"{_spread(row['test'])} % ({len(row['seeds'])} seeds)"
        mark = "*" if any(row["errors"]) else ""
        return f'<td class="good" style="--share: {share:.3f}" title="{title}">{mean(row):.1f}{mark}</td>'

    lines = [[escape(r), *(cell(mine.get((r, depth))) for depth in depths)] for r in plots.ranked(document, conv)]
    head = ["remedy", *map(str, depths)]
    return _table(f"Accuracy of {conv} by remedy and depth", head, lines, ' class="matrix"')


def _outputs(document: Document, conv: str, folder: Path) -> str:
    pictures = [picture for picture in document["pictures"] if picture["conv"] == conv]
    if not pictures:
        return ""
    image = look.save(plots.all_outputs(document, pictures), folder / f"{conv}-outputs.png")
    names = ", ".join(f"{picture['remedy']} at {picture['depth']}" for picture in pictures)
    return f"""<p>The outputs of {len(document["picture_labels"])} nodes on their first two principal axes, relative to
their size, a colour for each class. Where all nodes say the same there is one dot.</p>
<img class="matrix-plot" src="{image}" alt="{escape(f"Outputs of {conv} in two dimensions: {names}")}">"""


def _inside(document: Document) -> str:
    """Train and test, gradients and verdicts, of every row."""
    lines = []
    for row in document["rows"]:
        start, end = row["looks"] or (None, None)
        lines.append([
            f"{escape(row['conv'])}, {escape(row['remedy'])}",
            str(row["depth"]),
            f"{mean(row, 'train'):.1f}",
            f"{mean(row):.1f}",
            f"{mean(row, 'train') - mean(row):+.1f}".replace("-", "−"),
            _gradient(start),
            _gradient(end),
            start["verdict"] if start else "",
            end["verdict"] if end else "",
        ])  # fmt: skip
    head = ["convolution, remedy", "depth", "train (%)", "test (%)", "gap", "gradient at the start", "gradient trained",
            "diagnosis at the start", "trained"]  # fmt: skip
    return f"""<section><h2>Train and test, gradients, diagnosis</h2>
<p>The gradient's norm at the first layer over that at the last; what <code>gnnlib.analysis.smoothing._diagnose</code>
says (seed 0).</p>
<details><summary>All {len(lines)} rows</summary>
{_table("Gap and gradients", head, lines)}</details></section>"""


def _gradient(look: dict[str, Any] | None) -> str:
    """First over last layer."""
    ends = [look["gradient"][0], look["gradient"][-1]] if look else [None, None]
    return f"{ends[0] / ends[1]:.2g}" if ends[0] is not None and ends[1] else ""
