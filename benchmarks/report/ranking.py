"""The leaderboard: its order and its cells as text, for the terminal and the page."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gnnlib.benchmarks.catalog.published import ELSEWHERE
from gnnlib.benchmarks.report.reading import Result

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True)
class Row:
    """One line of the leaderboard: a result and its rank."""

    rank: int
    result: Result

    @property
    def best(self) -> bool:
        """Whether no other result is better."""
        return self.rank == 1


@dataclass(frozen=True)
class Column:
    """A column of the leaderboard: its heading, whether it holds numbers, and a text for each row."""

    name: str
    heading: str
    number: bool
    cells: list[str]


def leaderboard(results: Sequence[Result]) -> list[Row]:
    """The results from best to worst by their mean; equal results share a rank, in alphabetical order.

    Example:
        >>> from gnnlib.benchmarks.report import leaderboard
        >>> metric = dict(name="loss", higher_is_better=False)
        >>> means = {"a": 2.0, "c": 1.0, "b": 1.0}
        >>> rows = leaderboard([dict(layer=layer, metric=metric | {"mean": mean}) for layer, mean in means.items()])
        >>> [(row.rank, row.best, row.result["layer"]) for row in rows]
        [(1, True, 'b'), (1, True, 'c'), (3, False, 'a')]
    """
    sign = -1 if results and results[0]["metric"]["higher_is_better"] else 1
    scores = sorted((sign * result["metric"]["mean"], result["layer"], i) for i, result in enumerate(results))
    means = [score for score, _, _ in scores]
    return [Row(1 + means.index(score), results[i]) for score, _, i in scores]


def columns(rows: Sequence[Row]) -> list[Column]:
    """The columns of the leaderboard; empty ones are left out."""
    if not rows:
        return []
    metric = rows[0].result["metric"]
    digits = decimals(rows)
    heading = f"{metric['name']} ({metric['unit']})" if metric.get("unit") else metric["name"]
    table = [
        Column("rank", "rank", True, [str(row.rank) for row in rows]),
        Column("layer", "layer", False, [row.result["title"] for row in rows]),
        Column("metric", heading, True, [_plus_minus(row.result["metric"], "mean", digits) for row in rows]),
        Column("seeds", "seeds", True, [_seeds(row.result) for row in rows]),
        Column("parameters", "parameters", True, [f"{row.result['parameters']:,}" for row in rows]),
        Column("seconds", "seconds", True, [f"{row.result['seconds']:,.1f}" for row in rows]),
        Column("readout", "read-out", False, [(row.result["readout"] or "").split(":")[0] for row in rows]),
        Column("published", "published", True, [_plus_minus(row.result["published"], "value", digits) for row in rows]),
        Column("difference", "difference", True, [_difference(row.result, digits) for row in rows]),
    ]
    return [column for column in table if any(column.cells)]


def decimals(rows: Sequence[Row]) -> int:
    """The number of decimals of the metric: 2 for percents, 4 for shares."""
    return 2 if max(abs(row.result["metric"]["mean"]) for row in rows) >= 10 else 4


def sources(rows: Sequence[Row]) -> list[str]:
    """The sources of the published figures, a line for each: layer, source, setting; then other networks with their
    figures."""
    figures = [(row.result["title"], row.result["published"]) for row in rows if row.result["published"]]
    elsewhere = ELSEWHERE.get(rows[0].result["task"], {}) if rows else {}
    figures += [(f"{name}, {figure.value:.2f}", figure._asdict()) for name, figure in elsewhere.items()]
    settings = [f" ({figure['setting']})" if figure.get("setting") else "" for _, figure in figures]
    return [f"{title}: {figure['source']}{setting}" for (title, figure), setting in zip(figures, settings)]


def equal_columns(rows: Sequence[Row], shown: Sequence[Column]) -> list[Column]:
    """The columns of seeds and read-outs that have the same cell in all of several rows, which a note may hold."""
    return [c for c in shown if c.name in ("seeds", "readout") and len(rows) > 1 and len(set(c.cells)) == 1]


def leaderboard_table(results: Sequence[Result]) -> "Table":
    """The leaderboard for the terminal, the best in bold; texts of cells are no markup.

    To fit into 80 characters, equal seeds and readouts of all layers are below the table.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    rows = leaderboard(results)
    shown = columns(rows)
    same = equal_columns(rows, shown)
    notes = [f"{column.heading}: {column.cells[0]}" for column in same]
    notes += ["published:", *sources(rows)] if sources(rows) else []
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True, caption_justify="left")
    table.title = Text(results[0]["task"]) if results else None
    table.caption = Text("\n".join(notes)) if notes else None
    shown = [column for column in shown if column not in same]
    for column in shown:
        width = max(map(len, [*column.heading.split(), *(column.cells if column.number else [])]))  # never wrapped
        side: Any = "right" if column.number else "left"
        table.add_column(Text(column.heading), justify=side, min_width=width, overflow="fold")
    for i, row in enumerate(rows):
        table.add_row(*(Text(column.cells[i]) for column in shown), style="bold green" if row.best else None)
    return table


def figures(rows: Sequence[Row]) -> list[tuple[str, list[str]]]:
    """Other figures of a task: the name of each, and its mean for each row as text, empty where a layer has none.

    Example:
        >>> from gnnlib.benchmarks.report.ranking import Row, figures
        >>> figures([Row(1, {"figures": {"error": {"mean": 0.01234}}}), Row(2, {"figures": None})])
        [('error', ['0.0123', ''])]
    """
    tables = [row.result["figures"] or {} for row in rows]
    names = dict.fromkeys(name for table in tables for name in table)
    return [(name, [f"{table[name]['mean']:.3g}" if name in table else "" for table in tables]) for name in names]


def figures_table(results: Sequence[Result]) -> "Table | None":
    """The other figures for the terminal, a line for each; None where there are none."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    rows = leaderboard(results)
    lines = figures(rows)
    if not lines:
        return None
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column(Text("other figures"))
    for i, row in enumerate(rows):
        width = max(9, *(len(cells[i]) for _, cells in lines))  # numbers are never wrapped
        table.add_column(Text(row.result["title"]), justify="right", width=width, overflow="fold")
    for name, cells in lines:
        table.add_row(Text(name), *map(Text, cells))
    return table


def _plus_minus(figure: dict[str, Any] | None, key: str, digits: int) -> str:
    if figure is None:
        return ""
    spread = "" if figure.get("std") is None else f" ± {figure['std']:.{digits}f}"
    return f"{figure[key]:.{digits}f}{spread}"


def _difference(result: Result, digits: int) -> str:
    """Our mean minus the published figure."""
    if result["published"] is None:
        return ""
    return f"{result['metric']['mean'] - result['published']['value']:+.{digits}f}".replace("-", "−")


def _seeds(result: Result) -> str:
    """The number of finished seeds, and of how many where the run was stopped."""
    done, total = len(result["seeds"]), result["arguments"].get("seeds")
    return f"{done} of {total}" if isinstance(total, int) and total > done else str(done)
