"""The depth study: convolutions x remedies x depths x seeds, trained on one graph."""

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from torch import Tensor

from gnnlib._platform.dgl import dgl
from gnnlib.benchmarks.depth.cells import DEFAULT, Cell, TrainingSettings, make_cell_plan
from gnnlib.benchmarks.depth.data import NodeData, check_data, node_data
from gnnlib.benchmarks.depth.journal import Journal
from gnnlib.benchmarks.depth.pool import one_thread, run_tasks
from gnnlib.benchmarks.depth.summary import outcomes_of, summarise, trials_of
from gnnlib.benchmarks.depth.tuning import NextTrial, StudyTask, Trial, TunedCell, Tuner, check_tuning, describe_tuning
from gnnlib.benchmarks.errors import UsageError
from gnnlib.benchmarks.records.folders import exclusive_folder
from gnnlib.benchmarks.records.results import commit, machine, versions
from gnnlib.benchmarks.records.store import parse_sealed, read_entries

__all__ = ["Study", "depth_study"]

OnCell = Callable[[Cell, dict[str, Any]], None]
OnTrial = Callable[[Trial, dict[str, Any]], None]


def ignore(key: Cell | Trial, outcome: dict[str, Any]) -> None:
    """The default of ``on_cell`` and ``on_trial``: does nothing."""


def depth_study(
    graph: dgl.DGLGraph,
    feat: Tensor,
    labels: Tensor,
    masks: Mapping[str, Tensor],
    convs: Sequence[str] = ("gcn",),
    remedies: Sequence[str] = ("none", "batchnorm", "residual", "gcnii"),
    depths: Sequence[int] = (2, 4, 8, 16),
    seeds: int = 1,
    *,
    metric: str = "accuracy",
    settings: TrainingSettings = DEFAULT,
    tune: int | None = None,
    jobs: int = 1,
    out: Path | None = None,
    name: str = "custom",
    on_cell: OnCell = ignore,
) -> dict[str, Any]:
    """The effect of depth on a graph: each convolution with each remedy at each depth, from seeds 0 to seeds - 1.

    Args:
        graph: the training graph, with the self-loops that it should have
        feat: node features
        labels: a class for each node, or with the metric "r2" a number; those of nodes in no mask are not used
        masks: the nodes of "train", "val" and "test", each as a mask or as numbers; or masks of S splits, of which seed
            s takes the split s modulo S
        convs: names from `gnnlib.benchmarks.depth.CONVS`
        remedies: names from `gnnlib.benchmarks.depth.REMEDIES`; "a+b" combines two
        depths: numbers of layers
        seeds: number of seeds
        metric: "accuracy"; "roc_auc", the area under the ROC curve, for two classes; or "r2", the explained variance,
            for numbers
        settings: width, epochs, patience, learning rate, and the strength of weight decay and dropout
        tune: number of trials in which Optuna tunes the hyperparameters of each cell on validation data, before it is
            trained from all seeds; None trains all cells with the same hyperparameters
        jobs: number of processes, one thread each; more than 1 needs ``if __name__ == "__main__"`` in a script
        out: a folder for ``cells.jsonl`` and ``trials.jsonl``, with which a stopped study resumes, ``results.json``,
            ``report.html`` and ``plots/``; None writes nothing
        name: name of the data in the report
        on_cell: called with each cell and its outcome when it is done

    Shapes:
        - feat: (N, F)
        - labels: (N,), or (N, T) for T numbers
        - masks: (N,) or (N, S) booleans, or (n,) integers

    Returns:
        The content of ``results.json``. ``rows`` has an entry for each convolution, remedy and depth, with the lists
        ``test``, ``validation`` and ``train`` (the metric in percent, one number per seed), the cost and the layers'
        statistics. With ``tune`` it also has the ``params`` and the ``trials`` of each.

    Raises:
        ImportError: for ``tune`` without Optuna
        UsageError: if a name is unknown or remedies cannot be combined, or another study is writing to ``out``; before
            any training
        ValueError: if the data have wrong shapes or the metric is unknown, before any training; or if cells failed,
            after the others
        OSError: if a process of the pool died

    Example:
        >>> import dgl
        >>> import torch
        >>> from gnnlib.benchmarks.depth import TrainingSettings, depth_study
        >>> graph = dgl.add_self_loop(dgl.graph(([0, 1, 2, 3], [1, 0, 3, 2])))
        >>> mask = torch.ones(4, dtype=torch.bool)
        >>> study = depth_study(
        ...     graph, torch.eye(4), torch.tensor([0, 0, 1, 1]), dict(train=mask, val=mask, test=mask),
        ...     remedies=["none", "residual"], depths=[2], settings=TrainingSettings(width=8, epochs=50),
        ... )
        >>> [(row["remedy"], row["test"]) for row in study["rows"]]
        [('none', [100.0]), ('residual', [100.0])]
    """
    cells = [Cell(*parts) for parts in product(convs, remedies, depths, range(seeds))]
    data = node_data(graph, feat, labels, masks, metric)
    with exclusive_folder(out):
        return Study(data, cells, settings, tune=tune, name=name, out=out).run(jobs, on_cell)


class Study:
    """Cells to train on one graph, how to train them, and the outcomes so far.

    A study with a folder resumes: its journal holds the cells that earlier studies of the same data and settings have
    finished. One study at a time may use a folder: see `exclusive_folder`.

    Args:
        data: the graph, features, labels and masks
        cells: what to train
        settings: how to train
        tune: number of trials of each cell; None for no tuning
        name: name of the data
        out: a folder for the journal, the results and the report; None keeps everything in memory
        command: the command line that repeats the study

    Raises:
        ImportError: for ``tune`` without Optuna
        UsageError: if a name is unknown, remedies cannot be combined, or ``tune`` is below 1
        ValueError: if the data have wrong shapes
    """

    def __init__(
        self,
        data: NodeData,
        cells: Sequence[Cell],
        settings: TrainingSettings = DEFAULT,
        *,
        tune: int | None = None,
        name: str = "custom",
        out: Path | None = None,
        command: str | None = None,
    ):
        check_data(data)
        _check_cells(cells, data, settings)
        self.data, self.cells, self.settings = data, cells, settings
        self.out, self.command = out, command
        if tune is not None:
            check_tuning(tune, data)
        tuning = None if tune is None else describe_tuning(tune, settings)
        origin = {"data": name, **data.describe(), "settings": settings._asdict(), "versions": versions()}
        origin["tuning"] = tuning
        self.journal = Journal(out and out / "cells.jsonl", origin, Cell)
        self.tuner = None if tune is None else Tuner(tune, Journal(out and out / "trials.jsonl", origin, Trial))
        _resume(self.journal, outcomes_of)
        if self.tuner is not None:
            _resume(self.tuner.journal, trials_of)

    @property
    def pending(self) -> list[Cell]:
        """The cells that are not done, deep ones first, so that no process waits at the end."""
        tuned = None if self.tuner is None else {cell[:3] for cell in self.cells if self.tuner.is_tuned(cell)}
        done = {cell for cell in self.journal.entries if tuned is None or cell[:3] in tuned}
        cells = [cell for cell in self.cells if cell not in done]
        return sorted(cells, key=lambda cell: (cell.seed, -cell.depth))

    def run(self, jobs: int = 1, on_cell: OnCell = ignore, on_trial: OnTrial = ignore) -> dict[str, Any]:
        """Trains the pending cells, writes the results and the report, and returns the summary.

        Args:
            jobs: number of processes
            on_cell: called with each cell and its outcome when it is done
            on_trial: called with each trial of a cell's tuning and its outcome when it is done

        Raises:
            ValueError: if cells failed; the others are saved
            OSError: if a process of the pool died
        """
        failures = []
        with one_thread():  # as cells are trained
            provenance = {"commit": commit(), "machine": machine()}
        tasks = deque(self._tasks())
        for task, outcome in run_tasks(tasks, self.data, self.settings, max(1, min(jobs, len(self.pending)))):
            if isinstance(outcome, Exception):
                failures.append(f"{task}: {type(outcome).__name__}: {outcome}")
            elif isinstance(task, NextTrial):
                self._add_trial(task.trial, outcome, tasks)
                on_trial(task.trial, outcome)
            else:
                cell = task.cell if isinstance(task, TunedCell) else task
                self.journal.add(cell, outcome | provenance)
                on_cell(cell, self.journal.entries[cell])
        document = self.summary()
        if self.out is not None:
            from gnnlib.benchmarks.depth.report import write_report, write_results  # matplotlib takes its time

            write_results(document, self.out)
            write_report(self.out)
        if failures:
            total = f"{len(failures)} of {len(self.cells)} cells"
            raise ValueError(f"{total} failed, the others are saved: {'; '.join(failures[:5])}")
        return document

    def summary(self) -> dict[str, Any]:
        """The content of ``results.json``."""
        return {"command": self.command, **summarise(self.journal, self.data, self.cells, self.tuner)}

    def _tasks(self) -> list[StudyTask]:
        """The pending cells; with tuning, the next trials of those whose trials are not done."""
        if self.tuner is None:
            return list(self.pending)
        keys = dict.fromkeys(cell[:3] for cell in self.pending)
        return [task for key in keys for task in self.tuner.tasks(self._seeds(*key))]

    def _seeds(self, conv: str, remedy: str, depth: int) -> list[Cell]:
        """The pending cells that differ in their seeds alone."""
        return [cell for cell in self.pending if cell[:3] == (conv, remedy, depth)]

    def _add_trial(self, trial: Trial, outcome: dict[str, Any], tasks: deque[StudyTask]) -> None:
        """Adds a trial to the journal, and the tasks that follow it to the queue."""
        assert self.tuner is not None
        self.tuner.journal.add(trial, outcome)
        tasks.extendleft(reversed(self.tuner.tasks(self._seeds(*trial[:3]))))


def _resume(journal: Journal[Any], entries_of: Callable[[dict[str, Any]], Iterable[tuple[Any, dict]]]) -> None:
    """Adds the entries of the ``results.json`` beside a journal, such as a committed one without a journal."""
    if journal.path is None:
        return

    def parse(text: str) -> dict[str, Any]:
        return {"tuning": None, **parse_sealed(text)}

    path = journal.path.with_name("results.json")
    entries = read_entries(path, journal.origin, lambda document: dict(entries_of(document)), parse)
    for key, outcome in entries.items():
        if key not in journal.entries:
            journal.add(key, outcome)


def _check_cells(cells: Sequence[Cell], data: NodeData, settings: TrainingSettings) -> None:
    """Builds each convolution with each remedy once, two layers deep."""
    if not cells or min(cell.depth for cell in cells) < 1:
        raise UsageError(f"expected cells with depths of 1 or more, got {sorted({cell.depth for cell in cells})}")
    for conv, remedy in dict.fromkeys((cell.conv, cell.remedy) for cell in cells):
        plan = make_cell_plan(Cell(conv, remedy, 2, 0), data, settings)
        try:
            plan.build(data.graph, data.feat)
        except ValueError as error:
            raise UsageError(f"{conv} with {remedy}: {error}") from error
