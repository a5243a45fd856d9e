"""Run a task: every layer, every seed, each result written as soon as it is there."""

import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.layers import LAYERS, Layer, UsageError, choose
from benchmarks.progress import Progress
from benchmarks.published import PUBLISHED
from benchmarks.report import leaderboard_table, load_results, write_report
from benchmarks.results import Store, commit, machine, versions
from benchmarks.tasks import TASKS, Options, Task
from datasets.files import atomic_write


@dataclass(frozen=True)
class Request:
    """What ``python -m benchmarks run`` was asked for; None takes the task's own value."""

    tasks: Sequence[str]
    layers: Sequence[str] | None = None
    seeds: int | None = None
    out: Path = Path("results")
    fresh: bool = False
    options: Options = field(default_factory=Options)


def run(request: Request) -> list[Path]:
    """Run all that is asked for and not yet done; the folders of the runs, each with its report.

    Raises: UsageError, before any work, for an unknown task or layer, a number of seeds below 1, a device that is
    not there or a folder that cannot be written.
    """
    tasks = [_task(name) for name in request.tasks]
    _check(request, tasks)
    folders = []
    for task in tasks:
        task.load(request.options)
        layers = choose(request.layers or task.layers, task.geometry, task.name)
        folder = request.out / _run_name(task, request.options)
        _run_task(task, layers, folder, request)
        folders.append(folder)
    return folders


def _task(name: str) -> Task:
    if name not in TASKS:
        raise UsageError(f"unknown task {name!r}; expected one of: {', '.join(TASKS)}")
    return TASKS[name]()


def _check(request: Request, tasks: Sequence[Task]) -> None:
    options = request.options
    for name in request.layers or ():
        if name not in LAYERS:
            raise UsageError(f"unknown layer {name!r}; expected one of: {', '.join(LAYERS)}")
    for flag, value in (("--seeds", request.seeds), ("--epochs", options.epochs), ("--limit", options.limit)):
        if value is not None and value < 1:
            raise UsageError(f"{flag}: expected 1 or more, got {value}")
    for task in tasks:
        if task.max_seeds is not None and (request.seeds or 0) > task.max_seeds:
            raise UsageError(f"--seeds: {task.name} has {task.max_seeds} folds, got {request.seeds}")
        if options.limit is not None and not task.limited:
            raise UsageError(f"--limit: {task.name} is always run whole, got {options.limit}")
    if options.data is not None and not options.data.is_dir():
        raise UsageError(f"--data: expected a directory, {options.data} is none")
    try:
        torch.zeros(1, device=options.device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"--device: expected one that is there, got {options.device!r} ({reason})") from error
    try:
        request.out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=request.out):
            pass
    except OSError as error:
        raise UsageError(f"--out: cannot write to {request.out} ({error.strerror})") from error


def _run_name(task: Task, options: Options) -> str:
    """Runs under other arguments than the task's own get a folder of their own."""
    extras = [f"{k}{v}" for k, v in (("epochs", options.epochs), ("limit", options.limit)) if v is not None]
    if options.device != "cpu":
        extras.append(options.device.replace(":", ""))
    return "-".join([task.name, *extras])


def _run_task(task: Task, layers: Sequence[Layer], folder: Path, request: Request) -> None:
    num_seeds = request.seeds or task.seeds
    stores = {layer.name: _store(task, layer, folder, request.options) for layer in layers}
    for store in stores.values():
        store.open(request.fresh)
    _write_samples(task, folder)
    done = sum(len(set(range(num_seeds)) & set(s.outcomes)) for s in stores.values())
    with Progress(task.name, total=num_seeds * len(layers), done=done) as progress:
        for layer in layers:
            store = stores[layer.name]
            for seed in range(num_seeds):
                if seed in store.outcomes:
                    continue
                progress.start(layer.title, seed, task.num_epochs(request.options))
                start = time.perf_counter()
                outcome = task.run(layer, seed, request.options, progress.epoch)
                outcome.seconds = time.perf_counter() - start
                store.add(seed, outcome, task.values({**store.outcomes, seed: outcome}))
                results, _ = load_results(folder)
                progress.finish(f"{layer.title}, seed {seed}: {outcome.score:.2f} %", leaderboard_table(results))
    results, _ = load_results(folder)
    report = write_report(folder)
    note = f"  ({done} of the results were there already; --fresh runs them again)" if done else ""
    progress.summary(leaderboard_table(results), f"Report: {report}{note}")


def _store(task: Task, layer: Layer, folder: Path, options: Options) -> Store:
    published = PUBLISHED.get((task.name, layer.name))
    header: dict[str, Any] = {
        "task": task.name,
        "layer": layer.name,
        "title": layer.title,
        "summary": task.summary,
        "arguments": {
            "epochs": options.epochs,
            "limit": options.limit,
            "device": options.device,
        },
        "metric": {"name": task.metric, "unit": "%", "higher_is_better": True},
        "published": published._asdict() if published else None,
        "readout": task.readout,
        "classes": task.classes,
        "versions": versions(),
        "commit": commit(),
        "machine": machine(),
    }
    return Store(folder / layer.name, header)


def _write_samples(task: Task, folder: Path) -> None:
    samples = task.samples()
    if samples:
        with atomic_write(folder / "samples.npz") as partial:
            np.savez_compressed(partial, **samples)  # type: ignore[arg-type]


def describe_tasks() -> list[tuple[str, str, str, str]]:
    """Name, what it is, its layers and seeds: for ``python -m benchmarks list``."""
    return [(name, task.summary, ", ".join(task.layers), str(task.seeds)) for name, task in TASKS.items()]


def runs(out: Path) -> list[Path]:
    """The runs below a folder, newest last; the folder itself where it is one."""
    if any(out.glob("*/result.json")):
        return [out]
    found = {path.parent.parent for path in out.glob("*/*/result.json")}
    if not found:
        raise UsageError(f"no results in {out}: expected {out}/<run>/<layer>/result.json; make some with 'run'")
    return sorted(found, key=os.path.getmtime)
