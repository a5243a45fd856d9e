"""The study: every cell that is not yet done, in processes of their own, and the figures of all."""

import json
import multiprocessing
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gnnlib._platform.dgl import dgl
from gnnlib._utils.workers import start_worker
from gnnlib.benchmarks.depth.cells import USUAL, Cell, TrainingSettings, plan_of, run_cell
from gnnlib.benchmarks.depth.data import NodeData, check_data
from gnnlib.benchmarks.depth.journal import Journal
from gnnlib.benchmarks.depth.summary import cells_of, summarise
from gnnlib.benchmarks.errors import UsageError
from gnnlib.benchmarks.records.results import commit, keep_aside, machine, versions

__all__ = ["depth_study", "run_study"]

OnCell = Callable[[Cell, dict[str, Any]], None]


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
    recipe: TrainingSettings = USUAL,
    jobs: int = 1,
    out: Path | None = None,
    name: str = "own",
    on_cell: OnCell = lambda cell, outcome: None,
) -> dict[str, Any]:
    """What depth does to your own graph: each convolution under each remedy at each depth, from seeds 0 to seeds - 1.

    Args:
        graph: a whole graph, with the self-loops that it should have
        feat: features
        labels: a class for each node; those in no mask are not looked at
        masks: which nodes are for "train", "val" and "test"
        convs, remedies: names, of `gnnlib.benchmarks.depth.CONVS` and `REMEDIES`; "a+b" is both
        recipe: width, epochs, patience, learning rate, and how strong decay and drops are
        jobs: processes, one thread each; more than 1 needs ``if __name__ == "__main__"`` around a script
        out: a folder for ``cells.jsonl``, with which a study that was stopped goes on, ``results.json``,
            ``report.html`` and ``plots/``; None: nothing is written
        name: of the data, in the report
        on_cell: called on each cell and its outcome as they come

    Shapes: feat (N, F), labels (N,), masks (N,) boolean.

    Returns the content of ``results.json``: ``rows``, one for each convolution, remedy and depth, with the lists
    ``test``, ``validation`` and ``train`` (percent, one a seed), what it cost and what its layers look like.

    Raises: UsageError for unknown names and remedies that do not go together, ValueError for data of wrong shapes,
    both before any training.

    >>> from gnnlib.graph.transforms import add_self_loop
    >>> g = add_self_loop(dgl.graph(([0, 1, 2, 3], [1, 0, 3, 2])))
    >>> mask = torch.ones(4, dtype=torch.bool)
    >>> study = depth_study(g, torch.eye(4), torch.tensor([0, 0, 1, 1]), dict(train=mask, val=mask, test=mask),
    ...                     remedies=["none", "residual"], depths=[2], recipe=Recipe(width=8, epochs=50))
    >>> [(row["remedy"], row["test"]) for row in study["rows"]]
    [('none', [100.0]), ('residual', [100.0])]
    """
    cells = [Cell(*parts) for parts in product(convs, remedies, depths, range(seeds))]
    data = NodeData(graph, feat, labels, masks)
    return run_study(data, cells, recipe, jobs=jobs, out=out, header={"data": name}, on_cell=on_cell)


def run_study(
    data: NodeData,
    cells: Sequence[Cell],
    recipe: TrainingSettings,
    *,
    jobs: int,
    out: Path | None,
    header: Mapping[str, Any],
    command: str | None = None,
    on_begin: Callable[[Sequence[Cell]], None] = lambda left: None,
    on_cell: OnCell = lambda cell, outcome: None,
) -> dict[str, Any]:
    """Runs what is not in the journal, and writes the results and the report where there is a folder for them."""
    check_data(data)
    _check(cells, data, recipe)
    origin = {**header, **data.describe(), "recipe": recipe._asdict(), "versions": versions()}
    journal = Journal(out and out / "cells.jsonl", origin)
    if out is not None:
        _take_up(out / "results.json", journal)
    with _one_thread():  # as cells have
        made = {"commit": commit(), "machine": machine()}
    failed = []
    left = [cell for cell in cells if cell not in journal.cells]
    left.sort(key=lambda cell: (cell.seed, -cell.depth))  # long ones first, so that no process waits in the end
    on_begin(left)
    for cell, outcome in _outcomes(left, data, recipe, jobs):
        if isinstance(outcome, Exception):
            failed.append(f"{cell}: {type(outcome).__name__}: {outcome}")
            continue
        outcome |= made
        journal.add(cell, outcome)
        on_cell(cell, outcome)
    document = {"command": command, **summarise(journal, data, cells)}
    if out is not None:
        from gnnlib.benchmarks.depth.report import write_report, write_results

        write_results(document, out)
        write_report(out)
    if failed:
        raise ValueError(f"{len(failed)} of {len(cells)} cells failed, the others are kept: {'; '.join(failed[:5])}")
    return document


def _take_up(path: Path, journal: Journal) -> None:
    """Adds the cells of a ``results.json`` that came without its journal, as one that was committed does."""
    if not path.exists():
        return
    try:
        document = json.loads(path.read_text())
        cells = dict(cells_of(document))
    except (ValueError, KeyError, TypeError, IndexError):
        return keep_aside(path, "is damaged")
    if any(document.get(name) != value for name, value in journal.origin.items()):
        return keep_aside(path, "belongs to another study")
    for cell, outcome in cells.items():
        if cell not in journal.cells:
            journal.add(cell, outcome)


def _check(cells: Sequence[Cell], data: NodeData, recipe: TrainingSettings) -> None:
    """Builds each convolution under each remedy once, two layers deep."""
    if not cells or min(cell.depth for cell in cells) < 1:
        raise UsageError(f"expected cells with depths of 1 or more, got {sorted({cell.depth for cell in cells})}")
    for conv, remedy in dict.fromkeys((cell.conv, cell.remedy) for cell in cells):
        plan = plan_of(Cell(conv, remedy, 2, 0), data, recipe)
        try:
            plan.build(data.graph, data.feat)
        except ValueError as error:
            raise UsageError(f"{conv} with {remedy}: {error}") from error


def _outcomes(
    cells: Sequence[Cell], data: NodeData, recipe: TrainingSettings, jobs: int
) -> Iterator[tuple[Cell, dict[str, Any] | Exception]]:
    """Each cell with its outcome, or what went wrong, as they come."""
    if jobs == 1 or len(cells) < 2:
        with _one_thread():
            for cell in cells:
                yield cell, _attempt(cell, data, recipe)
        return
    with _processes(min(jobs, len(cells)), data, recipe) as pool:
        coming = {pool.submit(_work, cell): cell for cell in cells}
        for future in as_completed(coming):
            try:
                yield coming[future], future.result()
            except BrokenProcessPool as error:
                raise OSError(
                    "a process died, perhaps for want of memory; what was finished is kept: say the same again, "
                    "with fewer --jobs"
                ) from error


def _attempt(cell: Cell, data: NodeData, recipe: TrainingSettings) -> dict[str, Any] | Exception:
    try:
        return run_cell(cell, data, recipe)
    except Exception as error:  # one cell of thousands must not take the others with it
        return error


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _processes(jobs: int, data: NodeData, recipe: TrainingSettings) -> Iterator[ProcessPoolExecutor]:
    """Processes that have read the data, and that end with this one, however it ends."""
    others = set(multiprocessing.active_children())
    spawn = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(jobs, spawn, initializer=_begin, initargs=(data, recipe))
    try:
        yield pool
    except BaseException:
        for process in set(multiprocessing.active_children()) - others:
            process.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


_given: tuple[NodeData, TrainingSettings]  # of a process of the pool


def _begin(data: NodeData, recipe: TrainingSettings) -> None:
    global _given
    _given = data, recipe
    start_worker()


def _work(cell: Cell) -> dict[str, Any] | Exception:
    return _attempt(cell, *_given)
