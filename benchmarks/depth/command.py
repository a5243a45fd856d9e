"""``python -m benchmarks depth``: a study of one of the data sets by name, with a bar and the time left."""

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from gnnlib.benchmarks.catalog.remedies import make_plan
from gnnlib.benchmarks.depth.cells import USUAL, Cell, TrainingSettings
from gnnlib.benchmarks.depth.data import load
from gnnlib.benchmarks.depth.study import run_study
from gnnlib.benchmarks.depth.summary import deepest, mean
from gnnlib.benchmarks.errors import UsageError

__all__ = ["Request", "run"]

CITATIONS = ("none", "dropout+decay", "batchnorm", "pairnorm", "dropedge", "residual", "jk-max", "gcnii",
             "gcnii+dropout+decay-parts", "appnp+dropout+decay")  # fmt: skip


@dataclass(frozen=True)
class Preset:
    """What is run on a data set unless the command says something else."""

    convs: Sequence[str] = ("gcn", "mlp")
    remedies: Sequence[str] = CITATIONS
    depths: Sequence[int] = (2, 4, 8, 16, 32, 64)
    recipe: TrainingSettings = USUAL


PRESETS = {
    "digits": Preset(
        convs=("gcn", "gat", "mlp"),
        remedies=("none", "batchnorm", "pairnorm", "residual", "gcnii"),
        depths=(2, 8, 32),
        recipe=TrainingSettings(width=32, epochs=100, patience=40),
    ),
    **dict.fromkeys(("cora", "citeseer"), Preset()),
    "pubmed": Preset(recipe=TrainingSettings(width=32, epochs=200, patience=50)),  # seven times the nodes of Cora
}


@dataclass(frozen=True)
class Request:
    """What was asked for; None takes what the data set's preset says."""

    data: str = "digits"
    convs: Sequence[str] | None = None
    remedies: Sequence[str] | None = None
    depths: Sequence[int] | None = None
    seeds: int = 1
    recipe: tuple[tuple[str, Any], ...] = ()  # fields of `TrainingSettings`
    jobs: int | None = None
    folder: Path | None = None
    out: Path = Path("results")

    @property
    def preset(self) -> Preset:
        if self.data not in PRESETS:
            raise UsageError(f"unknown data {self.data!r}; expected one of: {', '.join(PRESETS)}")
        return PRESETS[self.data]

    def full_recipe(self) -> TrainingSettings:
        return self.preset.recipe._replace(**dict(self.recipe))

    def cells(self) -> list[Cell]:
        """Raises: UsageError for unknown names.

        >>> len(Request("cora", convs=["gcn"], remedies=["none"], seeds=2).cells())
        12
        """
        preset = self.preset
        convs, remedies = self.convs or preset.convs, self.remedies or preset.remedies
        for conv, remedy in product(convs, remedies):
            make_plan(conv, remedy, 2, (8, 8, 8))
        depths = self.depths or preset.depths
        return [Cell(*parts) for parts in product(convs, remedies, depths, range(self.seeds))]

    @property
    def path(self) -> Path:
        """Another recipe has another folder."""
        usual, recipe = self.preset.recipe._asdict(), self.full_recipe()._asdict()
        extras = [f"{name.replace('_', '')}{value:g}" for name, value in recipe.items() if value != usual[name]]
        return self.out / "-".join(["depth", self.data, *extras])

    def command(self) -> str:
        """What to type; the folders of this machine are left out.

        >>> Request("cora", convs=["gcn", "gat"], recipe=(("epochs", 5),)).command()
        'python -m benchmarks depth cora --convs gcn,gat --epochs 5'
        """
        words = ["python", "-m", "benchmarks", "depth", self.data]
        for flag, values in (("convs", self.convs), ("remedies", self.remedies), ("depths", self.depths)):
            words += [f"--{flag}", ",".join(map(str, values))] if values else []
        words += ["--seeds", str(self.seeds)] if self.seeds > 1 else []
        for name, value in self.recipe:
            words += [f"--{name.replace('_', '-')}", str(value)]
        words += ["--data", "DIR"] if self.folder or os.environ.get("GNNLIB_DATA") else []
        return shlex.join(words)


def run(request: Request) -> Path:
    """Runs what is asked for and not yet done; shows the accuracies; returns the folder."""
    cells, path = request.cells(), request.path
    console = Console()
    data = load(request.data, request.folder)
    jobs = request.jobs or os.cpu_count() or 1
    with _Bar(cells, Console(stderr=True)) as bar:
        document = run_study(
            data,
            cells,
            request.full_recipe(),
            jobs=jobs,
            out=path,
            header={"data": request.data},
            command=request.command(),
            on_begin=bar.begin,
            on_cell=bar.finish,
        )
    for conv in dict.fromkeys(row["conv"] for row in document["rows"]):
        console.print(_table(document["rows"], conv))
    return path


class _Bar:
    """A bar over the cells, each as long as it is deep; a line for each where there is no terminal."""

    def __init__(self, cells: Sequence[Cell], console: Console):
        self.console, self.total = console, len(cells)
        self.done, self.weight = 0, sum(map(_weight, cells))
        self.bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[count]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
            speed_estimate_period=3600,
        )

    def __enter__(self) -> "_Bar":
        self.task = self.bars.add_task("", total=self.weight, count="")
        self.bars.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.bars.stop()

    def begin(self, left: Sequence[Cell]) -> None:
        self.done = self.total - len(left)
        if self.done:
            self.console.print(f"{self.done} of {self.total} cells are done from before", highlight=False)
        self.bars.update(self.task, completed=self.weight - sum(map(_weight, left)))

    def finish(self, cell: Cell, outcome: dict[str, Any]) -> None:
        self.done += 1
        count = f"{self.done} of {self.total}"
        line = f"{cell}: {outcome['test']:.1f} %"
        self.bars.update(self.task, advance=_weight(cell), count=count, description=line)
        if self.bars.disable:
            self.console.print(f"{count}  {line}", highlight=False)


def _weight(cell: Cell) -> int:
    return cell.depth + 2


def _table(rows: Sequence[dict[str, Any]], conv: str) -> Table:
    """Test accuracy, a line for each remedy, the best at the largest depth first."""
    mine = {(row["remedy"], row["depth"]): row for row in rows if row["conv"] == conv}
    depths = sorted({depth for _, depth in mine})
    remedies = dict.fromkeys([row["remedy"] for row in deepest(rows, conv)] + [remedy for remedy, _ in mine])
    table = Table("remedy", *(f"{depth}" for depth in depths), title=f"{conv}: test accuracy (%) by depth")
    for remedy in remedies:
        cells = [mine.get((remedy, depth)) for depth in depths]
        table.add_row(remedy, *(f"{mean(cell):.1f}" if cell else "" for cell in cells))
    return table
