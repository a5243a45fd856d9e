"""Runs tasks: every layer and seed, each result written when it is finished."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from gnnlib._utils.files import atomic_write
from gnnlib.benchmarks.catalog.layers import LayerSpec, choices, choose
from gnnlib.benchmarks.catalog.published import PUBLISHED
from gnnlib.benchmarks.errors import UsageError
from gnnlib.benchmarks.options import options_of
from gnnlib.benchmarks.records.cards import keep_model, write_card
from gnnlib.benchmarks.records.folders import exclusive_folder
from gnnlib.benchmarks.records.logs import Log
from gnnlib.benchmarks.records.results import ResultStore, commit, machine, versions
from gnnlib.benchmarks.report import figures_table, leaderboard_table, load_results, write_report
from gnnlib.benchmarks.runner.progress import Progress
from gnnlib.benchmarks.runner.request import RunRequest, check
from gnnlib.benchmarks.tasks import TASKS, Task
from gnnlib.benchmarks.tasks.base import OnEpoch
from gnnlib.benchmarks.tasks.molecules import PREFIX, tu_task
from gnnlib.train import distributed


def run(request: RunRequest) -> list[Path]:
    """Runs the seeds that are not done yet.

    Returns:
        the folder of each task's run, with its report

    Raises:
        UsageError: before anything is trained or written, for an unknown task or layer, a layer that does not fit a
            task, an invalid option, a device that is missing, a folder that cannot be written, or one that another run
            is writing to
        OSError: what the loaders raise for missing or damaged data
    """
    tasks = [find_task(name) for name in request.tasks]
    check(request, tasks)
    plan = []
    for task in tasks:
        if distributed.rank() == 0:
            print(f"Loading {task.name}", flush=True)
        with distributed.host_main_first():
            task.load(request)
        fitting = [name for name in task.layers if choices(task.extra_layers)[name].fits(task.geometry)]
        names = request.layers if request.layers is not None else fitting
        plan.append((task, choose(names, task.geometry, task.name, task.extra_layers)))
    return [_run_exclusively(task, layers, request) for task, layers in plan]


def _run_exclusively(task: Task, layers: Sequence[LayerSpec], request: RunRequest) -> Path:
    """Runs a task in a folder that no other run writes to."""
    folder = request.out / _run_name(task, request)
    with exclusive_folder(folder):
        return _run_task(task, layers, request, folder)


def find_task(name: str) -> Task:
    """The task of a name.

    Raises:
        UsageError: for an unknown name
    """
    if name.startswith(PREFIX):
        return tu_task(name)
    if name not in TASKS:
        raise UsageError(f"unknown task {name!r}; expected one of: {', '.join([*TASKS, 'tu:NAME'])}")
    return TASKS[name]()


def _run_name(task: Task, request: RunRequest) -> str:
    """The folder of a run: the task's setting, then the options that are not the defaults."""
    options = [(option, getattr(request, option.field, None)) for option in options_of("run") if option.folder]
    parts = [o.folder.format(value).replace(":", "") for o, value in options if value not in (None, o.default)]
    processes = [f"processes{distributed.world_size()}"] if distributed.world_size() > 1 else []
    return "-".join([task.setting, *parts, *processes])


def _arguments(request: RunRequest) -> dict[str, Any]:
    """The arguments that a result records."""
    options = {o.name: (getattr(request, o.field), o.recorded) for o in options_of("run") if o.recorded != "never"}
    arguments = {name: value for name, (value, when) in options.items() if when == "always" or value is not None}
    return arguments | ({"processes": distributed.world_size()} if distributed.world_size() > 1 else {})


def _run_task(task: Task, layers: Sequence[LayerSpec], request: RunRequest, folder: Path) -> Path:
    num_seeds = request.seeds or task.seeds
    first = distributed.rank() == 0  # which alone prints and writes
    stores = {layer.name: _store(task, layer, folder, request) for layer in layers}
    for store in stores.values():
        if first:
            store.open(request.fresh)
        store.entries = distributed.broadcast_object(store.entries)
    if first:
        _write_samples(task, folder)
    done, total = sum(len(set(range(num_seeds)) & set(s.entries)) for s in stores.values()), num_seeds * len(layers)
    with Progress(task.setting, total, done, quiet=not first) as progress:
        for layer in layers:
            store = stores[layer.name]
            for seed in range(num_seeds):
                if seed in store.entries:
                    continue
                checkpoint = store.checkpoint(seed)
                progress.start(layer.title, seed, task.num_epochs(layer, request), checkpoint)
                log = [Log(store.folder, seed, request.tensorboard)] if first else []
                options = replace(request, checkpoint=checkpoint)
                outcome = task.run(layer, seed, options, partial(_record, [progress.epoch, *log]))
                outcome.seconds = checkpoint.seconds
                if not first:
                    store.entries[seed] = outcome
                    continue
                values = task.values({**store.entries, seed: outcome})
                if request.save:  # before the seed counts as done
                    keep_model(store, seed, outcome)
                store.add(seed, outcome, values)
                if request.save:
                    write_card(store, task.inputs)
                results, _ = load_results(folder)
                line = f"{layer.title}, seed {seed}: {outcome.score:.2f} {task.unit}".rstrip()
                progress.finish(line, leaderboard_table(results))
    if not first:
        return folder
    if request.save and any(not store.model.exists() for store in stores.values()):
        print("--save: seeds that were done before have left no model; --fresh trains them again")
    results, _ = load_results(folder)
    report = write_report(folder)
    note = f"  (done before: {done} of {total}; --fresh runs them again)" if done else ""
    progress.summary([leaderboard_table(results), figures_table(results)], f"Report: {report}{note}")
    return folder


def _record(callbacks: Sequence[OnEpoch], record: dict[str, float]) -> None:
    for callback in callbacks:
        callback(record)


def _store(task: Task, layer: LayerSpec, folder: Path, request: RunRequest) -> ResultStore:
    published = PUBLISHED.get((task.setting, layer.name))
    header: dict[str, Any] = {
        "task": task.setting,
        "layer": layer.name,
        "title": layer.title,
        "summary": task.summary,
        "arguments": _arguments(request),
        "metric": {"name": task.metric, "unit": task.unit, "higher_is_better": task.higher_is_better},
        "published": published._asdict() if published else None,
        "readout": task.readout,
        "classes": task.classes,
        "versions": versions(),
        "commit": commit(),
        "machine": machine(request.device),
        "command": request.command_of(task.name),
    }
    return ResultStore(folder / layer.name, header)


def _write_samples(task: Task, folder: Path) -> None:
    samples = task.samples()
    if samples:
        with atomic_write(folder / "samples.npz") as partial:
            np.savez_compressed(partial, **samples)  # type: ignore[arg-type]


def runs(out: Path) -> list[Path]:
    """The runs below a folder, the one with the newest result last; the folder itself if it is a run."""
    if any(out.glob("*/result.json")):
        return [out]
    newest: dict[Path, float] = {}
    for path in out.glob("*/*/result.json"):
        folder = path.parent.parent
        newest[folder] = max(newest.get(folder, 0.0), path.stat().st_mtime)
    if not newest:
        raise UsageError(f"no results in {out}: expected {out}/<run>/<layer>/result.json; make some with 'run'")
    return sorted(newest, key=newest.__getitem__)
