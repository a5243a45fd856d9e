"""``python -m benchmarks depth``: a depth study of a data set by name, with a progress bar."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, ClassVar

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from gnnlib import datasets
from gnnlib._utils.progress import columns
from gnnlib.benchmarks.catalog.remedies import make_plan
from gnnlib.benchmarks.depth.cells import DEFAULT, Cell, TrainingSettings
from gnnlib.benchmarks.depth.generated import PROPERTIES
from gnnlib.benchmarks.depth.loading import load, transfer
from gnnlib.benchmarks.depth.study import Study
from gnnlib.benchmarks.depth.summary import deepest, mean, metric_title
from gnnlib.benchmarks.depth.tuning import Trial
from gnnlib.benchmarks.options import RESULTS
from gnnlib.benchmarks.records.folders import exclusive_folder
from gnnlib.benchmarks.request import Request

__all__ = ["DepthRequest", "run"]

CITATIONS = ("none", "dropout+decay", "batchnorm", "pairnorm", "dropedge", "residual", "jk-max", "gcnii",
             "gcnii+dropout+decay-parts", "appnp+dropout+decay")  # fmt: skip
COLD = ("none", "dropout+decay", "batchnorm", "residual", "linear-residual", "jk-max", "gcnii",
        "gcnii+dropout+decay-parts", "appnp+dropout+decay")  # fmt: skip
DEEP = ("none", "residual", "linear-residual", "batchnorm+residual", "batchnorm+linear-residual+norm-after", "gcnii")
PUBMED = TrainingSettings(width=32, epochs=200, patience=50)  # seven times the nodes of Cora
LONG = TrainingSettings(epochs=1000, patience=200)


@dataclass(frozen=True)
class Preset:
    """The study of a data set where the command line sets nothing else."""

    convs: Sequence[str] = ("gcn", "mlp")
    remedies: Sequence[str] = CITATIONS
    depths: Sequence[int] = (2, 4, 8, 16, 32, 64)
    settings: TrainingSettings = DEFAULT


PRESETS = {
    "digits": Preset(
        convs=("gcn", "gat", "mlp"),
        remedies=("none", "batchnorm", "pairnorm", "residual", "gcnii"),
        depths=(2, 8, 32),
        settings=TrainingSettings(width=32, epochs=100, patience=40),
    ),
    **dict.fromkeys(("cora", "citeseer"), Preset()),
    "pubmed": Preset(settings=PUBMED),
    **dict.fromkeys(("cora-cold", "citeseer-cold"), Preset(remedies=COLD)),
    "pubmed-cold": Preset(remedies=COLD, settings=PUBMED),
    **dict.fromkeys(datasets.HETEROPHILOUS, Preset(("gcn", "sage", "mlp"), DEEP, (2, 4, 8, 16), LONG)),
    **dict.fromkeys(PROPERTIES, Preset(("gcn", "gin", "sage", "mlp"), DEEP, (2, 4, 8, 16), LONG)),
}


def preset(name: str) -> Preset:
    """The preset of a data set by name.

    Raises:
        UsageError: if the name is unknown
    """
    if name in PRESETS:
        return PRESETS[name]
    _, hops = transfer(name)
    depths = sorted({max(1, depth) for depth in (2, hops - 1, hops, hops + 1)})
    return Preset(("gcn", "gin", "gat", "sage"), DEEP, depths, LONG)


@dataclass(frozen=True)
class DepthRequest(Request):
    """The options of ``depth``; None takes the value of the data set's preset.

    Example:
        >>> from gnnlib.benchmarks.depth.command import DepthRequest
        >>> DepthRequest("cora", convs=["gcn", "gat"], epochs=5).command()
        'python -m benchmarks depth cora --convs gcn,gat --epochs 5'
    """

    COMMAND: ClassVar[str] = "depth"

    name: str = "digits"  # of the data set
    convs: Sequence[str] | None = None
    remedies: Sequence[str] | None = None
    depths: Sequence[int] | None = None
    seeds: int = 1
    width: int | None = None
    epochs: int | None = None
    patience: int | None = None
    lr: float | None = None
    weight_decay: float | None = None
    drop: float | None = None
    tune: int | None = None
    jobs: int | None = None
    data: Path | None = None
    out: Path = RESULTS

    @property
    def preset(self) -> Preset:
        """The defaults of the data set."""
        return preset(self.name)

    def training_settings(self) -> TrainingSettings:
        """The preset's settings with the changes of the command line."""
        options = {name: getattr(self, name) for name in TrainingSettings._fields}
        return self.preset.settings._replace(**{name: value for name, value in options.items() if value is not None})

    def cells(self) -> list[Cell]:
        """All cells of the study.

        Raises:
            UsageError: if a name is unknown

        Example:
            >>> from gnnlib.benchmarks.depth.command import DepthRequest
            >>> len(DepthRequest("cora", convs=["gcn"], remedies=["none"], seeds=2).cells())
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
        """The folder of the study; changed settings are part of its name."""
        preset, settings = self.preset.settings._asdict(), self.training_settings()._asdict()
        changes = [f"{name.replace('_', '')}{value:g}" for name, value in settings.items() if value != preset[name]]
        changes += [] if self.tune is None else [f"tune{self.tune}"]
        return self.out / "-".join(["depth", self.name, *changes])


def run(request: DepthRequest) -> Path:
    """Runs the study, prints the metric, and returns the study's folder."""
    cells, path = request.cells(), request.path
    data = load(request.name, request.data)
    settings, command = request.training_settings(), request.command()
    with exclusive_folder(path):
        study = Study(data, cells, settings, tune=request.tune, name=request.name, out=path, command=command)
        with _Bar(study, Console(stderr=True)) as bar:
            document = study.run(request.jobs or os.cpu_count() or 1, bar.advance, bar.show_trial)
    console = Console()
    for conv in dict.fromkeys(row["conv"] for row in document["rows"]):
        console.print(_table(document["rows"], conv, metric_title(document)))
    return path


class _Bar:
    """A progress bar over the cells, weighted by depth; without a terminal, a line for each cell."""

    def __init__(self, study: Study, console: Console):
        self.study, self.console = study, console
        self.done = len(study.cells) - len(study.pending)
        self.bars = Progress(
            *columns(count="{task.fields[count]}"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
            speed_estimate_period=3600,
        )

    def __enter__(self) -> "_Bar":
        total, pending = (sum(map(_weight, cells)) for cells in (self.study.cells, self.study.pending))
        self.task = self.bars.add_task("", total=total, completed=total - pending, count="")
        if self.done:
            done = f"{self.done} of {len(self.study.cells)} cells are done from before"
            self.console.print(done, highlight=False)
        self.bars.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.bars.stop()

    def advance(self, cell: Cell, outcome: dict[str, Any]) -> None:
        self.done += 1
        self._show(f"{cell}: {outcome['test']:.1f} %", _weight(cell))

    def show_trial(self, trial: Trial, outcome: dict[str, Any]) -> None:
        complete = outcome["state"] == "complete"
        result = f"{outcome['validation']:.1f} % on validation data" if complete else outcome["state"]
        self._show(f"{trial}: {result} after {outcome['epochs']} epochs", 0)

    def _show(self, line: str, weight: int) -> None:
        count = f"{self.done} of {len(self.study.cells)}"
        self.bars.update(self.task, advance=weight, count=count, description=line)
        if self.bars.disable:
            self.console.print(f"{count}  {line}", highlight=False, soft_wrap=True)


def _weight(cell: Cell) -> int:
    return cell.depth + 2


def _table(rows: Sequence[dict[str, Any]], conv: str, metric: str) -> Table:
    """The test metric, a line for each remedy, the best at the largest depth first."""
    by_cell = {(row["remedy"], row["depth"]): row for row in rows if row["conv"] == conv}
    depths = sorted({depth for _, depth in by_cell})
    remedies = dict.fromkeys([row["remedy"] for row in deepest(rows, conv)] + [remedy for remedy, _ in by_cell])
    table = Table("remedy", *(f"{depth}" for depth in depths), title=f"{conv}: test {metric} (%) by depth")
    for remedy in remedies:
        cells = [by_cell.get((remedy, depth)) for depth in depths]
        table.add_row(remedy, *(f"{mean(row):.1f}" if row else "" for row in cells))
    return table
