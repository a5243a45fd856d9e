"""Run a task: every layer, every seed, each result written as soon as it is there."""

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
from gnnlib.benchmarks.records.cards import keep_model, write_card
from gnnlib.benchmarks.records.logs import Log
from gnnlib.benchmarks.records.results import Store, commit, machine, versions
from gnnlib.benchmarks.report import figures_table, leaderboard_table, load_results, write_report
from gnnlib.benchmarks.runner.progress import Progress
from gnnlib.benchmarks.runner.request import Request, check
from gnnlib.benchmarks.tasks import TASKS, Options, Task
from gnnlib.benchmarks.tasks.base import OnEpoch
from gnnlib.train import distributed


def run(request: Request) -> list[Path]:
    """Run all that is asked for and not yet done; the folders of the runs, each with its report.

    Raises, before anything is trained or written: UsageError for an unknown task or layer, a layer that a task cannot
    serve, a number of seeds below 1, a device that is not there or a folder that cannot be written; what the loaders
    raise for data that are missing or damaged.
    """
    tasks = [find_task(name) for name in request.tasks]
    check(request, tasks)
    plan = []
    for task in tasks:
        if distributed.rank() == 0:
            print(f"Loading {task.name}", flush=True)
        with distributed.host_main_first():
            task.load(request.options)
        fitting = [name for name in task.layers if choices(task.own)[name].fits(task.geometry)]
        names = request.layers if request.layers is not None else fitting
        plan.append((task, choose(names, task.geometry, task.name, task.own)))
    return [_run_task(task, layers, request) for task, layers in plan]


def find_task(name: str) -> Task:
    """Raises: UsageError for a name that is not there."""
    if name not in TASKS:
        raise UsageError(f"unknown task {name!r}; expected one of: {', '.join(TASKS)}")
    return TASKS[name]()


def _run_name(task: Task, options: Options) -> str:
    """Runs under other arguments than the task's own get a folder of their own."""
    extras = [f"{k}{v}" for k, v in (("epochs", options.epochs), ("limit", options.limit)) if v is not None]
    named = (options.remedy, options.mode, options.labels, options.precision, options.schedule)
    extras += [str(value) for value in named if value is not None]
    extras += [f"{k}{v}" for k, v in (("clip", options.clip), ("patience", options.patience)) if v is not None]
    if options.device != "cpu":
        extras.append(options.device.replace(":", ""))
    if distributed.world_size() > 1:
        extras.append(f"processes{distributed.world_size()}")
    return "-".join([task.setting, *extras])


def _run_task(task: Task, layers: Sequence[LayerSpec], request: Request) -> Path:
    folder = request.out / _run_name(task, request.options)
    num_seeds = request.seeds or task.seeds
    first = distributed.rank() == 0  # which alone prints and writes
    stores = {layer.name: _store(task, layer, folder, request) for layer in layers}
    for store in stores.values():
        if first:
            store.open(request.fresh)
        store.outcomes = distributed.broadcast_object(store.outcomes)
    if first:
        _write_samples(task, folder)
    done, total = sum(len(set(range(num_seeds)) & set(s.outcomes)) for s in stores.values()), num_seeds * len(layers)
    with Progress(task.setting, total, done, quiet=not first) as progress:
        for layer in layers:
            store = stores[layer.name]
            for seed in range(num_seeds):
                if seed in store.outcomes:
                    continue
                checkpoint = store.checkpoint(seed)
                progress.start(layer.title, seed, task.num_epochs(layer, request.options), checkpoint)
                log = [Log(store.folder, seed, request.tensorboard)] if first else []
                options = replace(request.options, checkpoint=checkpoint)
                outcome = task.run(layer, seed, options, partial(_tell, [progress.epoch, *log]))
                outcome.seconds = checkpoint.seconds
                if not first:
                    store.outcomes[seed] = outcome
                    continue
                values = task.values({**store.outcomes, seed: outcome})
                if request.save:  # before the seed counts as done
                    keep_model(store, seed, outcome)
                store.add(seed, outcome, values)
                if request.save:
                    write_card(store, task.inputs, values)
                results, _ = load_results(folder)
                found = f"{layer.title}, seed {seed}: {outcome.score:.2f} {task.unit}".rstrip()
                progress.finish(found, leaderboard_table(results))
    if not first:
        return folder
    if request.save and any(not store.model.exists() for store in stores.values()):
        print("--save: seeds that were done before have left no model; --fresh trains them again")
    results, _ = load_results(folder)
    report = write_report(folder)
    note = f"  (done before: {done} of {total}; --fresh runs them again)" if done else ""
    progress.summary([leaderboard_table(results), figures_table(results)], f"Report: {report}{note}")
    return folder


def _tell(listeners: Sequence[OnEpoch], record: dict[str, float]) -> None:
    for listener in listeners:
        listener(record)


# Arguments that results have where they were given.
OPTIONAL = ("remedy", "mode", "labels", "clip", "precision", "schedule", "patience")


def _store(task: Task, layer: LayerSpec, folder: Path, request: Request) -> Store:
    options = request.options
    published = PUBLISHED.get((task.setting, layer.name))
    header: dict[str, Any] = {
        "task": task.setting,
        "layer": layer.name,
        "title": layer.title,
        "summary": task.summary,
        "arguments": {
            "epochs": options.epochs,
            "limit": options.limit,
            **{name: value for name in OPTIONAL if (value := getattr(options, name)) is not None},
            "device": options.device,
            **({"processes": distributed.world_size()} if distributed.world_size() > 1 else {}),
        },
        "metric": {"name": task.metric, "unit": task.unit, "higher_is_better": task.higher_is_better},
        "published": published._asdict() if published else None,
        "readout": task.readout,
        "classes": task.classes,
        "versions": versions(),
        "commit": commit(),
        "machine": machine(options.device),
        "command": request.command(task.name),
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
    """The runs below a folder, the one with the newest result last; the folder itself where it is one."""
    if any(out.glob("*/result.json")):
        return [out]
    newest: dict[Path, float] = {}
    for path in out.glob("*/*/result.json"):
        folder = path.parent.parent
        newest[folder] = max(newest.get(folder, 0.0), path.stat().st_mtime)
    if not newest:
        raise UsageError(f"no results in {out}: expected {out}/<run>/<layer>/result.json; make some with 'run'")
    return sorted(newest, key=newest.__getitem__)
