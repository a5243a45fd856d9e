"""Tuning of a depth study's cells: random search and TPE (Bergstra et al. 2011) with median pruning, by Optuna.

A cell's trials are a sequence. Each is a function of the cell, its number and the trials before it, so that a study
that was stopped continues with the same trials, in any number of processes.
"""

import hashlib
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from itertools import takewhile
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from gnnlib.benchmarks.depth.cells import Cell, Params, TrainingSettings, build_cell, run_cell, train_model
from gnnlib.benchmarks.depth.data import NodeData
from gnnlib.benchmarks.depth.journal import Journal
from gnnlib.benchmarks.depth.space import Choice, Interval, Space, common_params, declared_space, search_space
from gnnlib.benchmarks.errors import UsageError
from gnnlib.train.loop import Batch, outputs_and_targets

if TYPE_CHECKING:
    import optuna

__all__ = [
    "NextTrial",
    "StudyTask",
    "Trial",
    "TunedCell",
    "Tuner",
    "best_trial",
    "check_tuning",
    "describe_tuning",
    "run_trial",
]

SEED = 1000
"""The seed of all trials. The seeds of a study begin at 0, so that none of them was used for tuning."""
RANDOM = 4  # finished trials before TPE; earlier ones are random

Outcome = dict[str, Any]


class Trial(NamedTuple):
    """A training of a cell with some hyperparameters."""

    conv: str
    remedy: str
    depth: int
    number: int

    @property
    def cell(self) -> Cell:
        return Cell(self.conv, self.remedy, self.depth, SEED)

    def __str__(self) -> str:
        return f"{self.conv} with {self.remedy}, {self.depth} layers, trial {self.number}"


class NextTrial(NamedTuple):
    """The task of the next trial of a cell; ``history`` has the outcomes of those before it."""

    trial: Trial
    history: tuple[Outcome, ...]

    def __str__(self) -> str:
        return str(self.trial)

    def run(self, data: NodeData, settings: TrainingSettings) -> Outcome:
        """The outcome of `run_trial`."""
        return run_trial(self.trial, self.history, data, settings)


class TunedCell(NamedTuple):
    """The task of a cell with tuned hyperparameters."""

    cell: Cell
    params: Params

    def __str__(self) -> str:
        return str(self.cell)

    def run(self, data: NodeData, settings: TrainingSettings) -> Outcome:
        """The outcome of `run_cell`."""
        return run_cell(self.cell, data, settings, self.params)


StudyTask = Cell | NextTrial | TunedCell


def import_optuna() -> Any:
    """The package.

    Raises:
        ImportError: if it is not installed
    """
    try:
        return import_module("optuna")
    except ImportError as error:
        raise ImportError("tuning needs optuna: pip install 'gnnlib[bench]'", name="optuna") from error


def check_tuning(trials: int, data: NodeData) -> None:
    """Checks what a tuned study needs.

    Raises:
        ImportError: if Optuna is not installed
        UsageError: if the number of trials is below 1
        ValueError: if the metric is not defined on the validation part
    """
    if trials < 1:
        raise UsageError(f"tune: expected 1 trial or more, got {trials}")
    import_optuna()
    label = data.label[data.split(SEED).masks["val"]]
    if math.isnan(data.score(torch.zeros(len(label), data.out_feats), label)):
        got = f"{len(label)} equal ones"
        raise ValueError(f"masks: expected validation labels of more than one value for the {data.metric}, got {got}")


def describe_tuning(trials: int, settings: TrainingSettings) -> dict[str, Any]:
    """What trials depend on besides the data and the settings: the space, the sampler and the pruner, for JSON."""
    space = {name: list(part.values) if isinstance(part, Choice) else list(part)
             for name, part in declared_space(settings).items()}  # fmt: skip
    return {"trials": trials, "space": space, "rungs": rungs(settings.epochs), "seed": SEED, "random": RANDOM,
            "optuna": import_optuna().__version__}  # fmt: skip


def rungs(epochs: int) -> list[int]:
    """The epochs after which a trial may be pruned.

    Example:
        >>> from gnnlib.benchmarks.depth.tuning import rungs
        >>> rungs(500)
        [62, 125, 250]
    """
    return sorted({epochs // part for part in (8, 4, 2)} - {0})


def best_trial(trials: Sequence[Outcome]) -> Outcome:
    """The trial with the best validation metric (of equal values, the lowest loss) of those that were not pruned; the
    first one, which has the common recipe, if no loss was finite."""
    complete = [trial for trial in trials if trial["state"] == "complete"]
    return max(complete, key=lambda trial: (trial["validation"], -trial["loss"]), default=trials[0])


# ---------------------------------------------------------------- one trial


def run_trial(trial: Trial, history: Sequence[Outcome], data: NodeData, settings: TrainingSettings) -> Outcome:
    """Trains a cell with the hyperparameters that Optuna draws after the earlier trials; the first has the common ones.

    The test part is removed from the data before.

    Args:
        trial: what to train
        history: the outcomes of all earlier trials of this cell
        data: the graph
        settings: how to train

    Returns:
        The hyperparameters ``params``; ``state``: "complete", "pruned", or "failed" if a loss was not finite; the best
        ``validation`` metric with its ``loss``; ``rungs``, the best metric up to each rung; and the cost
        (``epochs``, and ``seconds`` of a processor).
    """
    start, space = time.process_time(), search_space(trial.cell, settings)
    draw = _study(trial, space, history, settings).ask(_distributions(space))
    data = data.split(SEED)
    data = data._replace(masks={part: data.masks[part] for part in ("train", "val")})
    progress = _Progress(draw, rungs(settings.epochs))
    outcome: Outcome = {"params": draw.params, "state": "complete", "validation": None, "loss": None}
    try:
        plan, model, data = build_cell(trial.cell, data, settings, draw.params)
        train_model(model, plan, data, settings, draw.params["lr"], progress)
        outcome |= _validate(model, data)
    except FloatingPointError:
        outcome["state"] = "failed"
    except import_optuna().TrialPruned:
        outcome["state"] = "pruned"
    seconds = round(time.process_time() - start, 2)
    return {**outcome, "rungs": progress.values, "epochs": progress.epochs, "seconds": seconds}


def _validate(model: Any, data: NodeData) -> Outcome:
    val = data.masks["val"]
    outputs, target = outputs_and_targets(model, [Batch(data.graph, data.feat, data.label[val], rows=val)])
    score, loss = data.score(outputs, target), data.loss(outputs, target).item()
    finite = math.isfinite(score) and math.isfinite(loss)
    return {"validation": score, "loss": loss} if finite else {"state": "failed"}


class _Progress:
    """The callback of a trial's epochs, which reports to Optuna's pruner.

    Raises:
        optuna.TrialPruned: at a rung, if the best metric is below the median of the earlier trials at this rung
    """

    def __init__(self, draw: "optuna.Trial", steps: Sequence[int]):
        self.draw, self.steps = draw, steps
        self.epochs, self.best = 0, -math.inf
        self.values: list[tuple[int, float]] = []

    def __call__(self, record: dict[str, float]) -> None:
        self.epochs += 1
        self.best = max(self.best, record["validation"])
        if self.epochs in self.steps and math.isfinite(self.best):
            self.values.append((self.epochs, self.best))
            self.draw.report(self.best, self.epochs)
            if self.draw.should_prune():
                raise import_optuna().TrialPruned


def _study(trial: Trial, space: Space, history: Sequence[Outcome], settings: TrainingSettings) -> "optuna.Study":
    """Optuna's study of a cell after the earlier trials, with random numbers of the trial alone."""
    optuna = import_optuna()
    sampler = optuna.samplers.TPESampler(seed=_seed(trial), n_startup_trials=RANDOM)
    pruner = optuna.pruners.MedianPruner(n_startup_trials=1, n_warmup_steps=0)
    with _quiet(optuna):
        study = optuna.create_study(direction="maximize", sampler=sampler, pruner=pruner)
    if not history:
        study.enqueue_trial(common_params(trial.cell, settings))
    study.add_trials(_frozen_trial(outcome, space, settings.epochs) for outcome in history)
    return study


def _seed(trial: Trial) -> int:
    return int.from_bytes(hashlib.sha256(repr(tuple(trial)).encode()).digest()[:4], "big")


@contextmanager
def _quiet(optuna: Any) -> Iterator[None]:
    """Context without Optuna's message for each new study."""
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(level)


def _distributions(space: Space) -> dict[str, Any]:
    distributions = import_optuna().distributions

    def distribution(part: Interval | Choice) -> Any:
        if isinstance(part, Choice):
            return distributions.CategoricalDistribution(part.values)
        return distributions.FloatDistribution(part.low, part.high, log=part.log)

    return {name: distribution(part) for name, part in space.items()}


def _frozen_trial(outcome: Outcome, space: Space, epochs: int) -> "optuna.trial.FrozenTrial":
    """An earlier trial, as Optuna has it. A training that stopped early keeps its best metric at the later rungs."""
    optuna = import_optuna()
    values: dict[int, float] = dict(outcome["rungs"])
    if outcome["state"] == "complete":
        values |= {epoch: outcome["validation"] for epoch in rungs(epochs) if epoch > outcome["epochs"]}
    states = {"complete": "COMPLETE", "pruned": "PRUNED", "failed": "FAIL"}
    return optuna.trial.create_trial(
        state=optuna.trial.TrialState[states[outcome["state"]]],
        value=outcome["validation"],
        params=outcome["params"],
        distributions=_distributions(space),
        intermediate_values=values,
    )


# ---------------------------------------------------------------- all trials of a study


class Tuner:
    """The trials of a study: those that are done, and the next tasks of a cell.

    Args:
        trials: number of trials of each cell
        journal: of the trials
    """

    def __init__(self, trials: int, journal: Journal[Trial]):
        self.trials, self.journal = trials, journal

    def history(self, conv: str, remedy: str, depth: int) -> list[Outcome]:
        """The outcomes of a cell's trials, up to the first that is not done."""
        trials = (Trial(conv, remedy, depth, number) for number in range(self.trials))
        return [self.journal.entries[trial] for trial in takewhile(self.journal.entries.__contains__, trials)]

    def is_tuned(self, cell: Cell) -> bool:
        """Whether all trials of a cell are done."""
        return len(self.history(*cell[:3])) == self.trials

    def tasks(self, cells: Sequence[Cell]) -> list[StudyTask]:
        """The next tasks for cells that differ in their seeds alone: the next trial, or the cells with the
        hyperparameters of the best trial."""
        if not cells:
            return []
        history = self.history(*cells[0][:3])
        if len(history) < self.trials:
            return [NextTrial(Trial(*cells[0][:3], len(history)), tuple(history))]
        return [TunedCell(cell, best_trial(history)["params"]) for cell in cells]
