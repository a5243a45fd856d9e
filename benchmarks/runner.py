"""Run a task: every layer, every seed, each result written as soon as it is there."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.layers import Layer, UsageError, choose
from benchmarks.progress import Progress
from benchmarks.published import PUBLISHED
from benchmarks.report import figures_table, leaderboard_table, load_results, write_report
from benchmarks.request import Request, check
from benchmarks.results import Store, commit, machine, versions
from benchmarks.tasks import TASKS, Options, Task
from datasets.files import atomic_write


def run(request: Request) -> list[Path]:
    """Run all that is asked for and not yet done; the folders of the runs, each with its report.

    Raises, before anything is trained or written: UsageError for an unknown task or layer, a layer that a task cannot
    serve, a number of seeds below 1, a device that is not there or a folder that cannot be written; what the loaders
    raise for data that are missing or damaged.
    """
    tasks = [_task(name) for name in request.tasks]
    check(request, tasks)
    plan = []
    for task in tasks:
        print(f"Loading {task.name}", flush=True)
        task.load(request.options)
        names = request.layers if request.layers is not None else task.layers
        plan.append((task, choose(names, task.geometry, task.name, task.own)))
    return [_run_task(task, layers, request) for task, layers in plan]


def _task(name: str) -> Task:
    if name not in TASKS:
        raise UsageError(f"unknown task {name!r}; expected one of: {', '.join(TASKS)}")
    return TASKS[name]()


def _run_name(task: Task, options: Options) -> str:
    """Runs under other arguments than the task's own get a folder of their own."""
    extras = [f"{k}{v}" for k, v in (("epochs", options.epochs), ("limit", options.limit)) if v is not None]
    if options.remedy is not None:
        extras.append(options.remedy)
    if options.device != "cpu":
        extras.append(options.device.replace(":", ""))
    return "-".join([task.setting, *extras])


def _run_task(task: Task, layers: Sequence[Layer], request: Request) -> Path:
    folder = request.out / _run_name(task, request.options)
    num_seeds = request.seeds or task.seeds
    stores = {layer.name: _store(task, layer, folder, request) for layer in layers}
    for store in stores.values():
        store.open(request.fresh)
    _write_samples(task, folder)
    done, total = sum(len(set(range(num_seeds)) & set(s.outcomes)) for s in stores.values()), num_seeds * len(layers)
    with Progress(task.setting, total, done) as progress:
        for layer in layers:
            store = stores[layer.name]
            for seed in range(num_seeds):
                if seed in store.outcomes:
                    continue
                progress.start(layer.title, seed, task.num_epochs(layer, request.options))
                checkpoint = store.checkpoint(seed)
                outcome = task.run(layer, seed, replace(request.options, checkpoint=checkpoint), progress.epoch)
                outcome.seconds = checkpoint.seconds
                store.add(seed, outcome, task.values({**store.outcomes, seed: outcome}))
                results, _ = load_results(folder)
                progress.finish(f"{layer.title}, seed {seed}: {outcome.score:.2f} %", leaderboard_table(results))
    results, _ = load_results(folder)
    report = write_report(folder)
    note = f"  (done before: {done} of {total}; --fresh runs them again)" if done else ""
    progress.summary([leaderboard_table(results), figures_table(results)], f"Report: {report}{note}")
    return folder


def _store(task: Task, layer: Layer, folder: Path, request: Request) -> Store:
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
            **({"remedy": options.remedy} if options.remedy is not None else {}),
            "device": options.device,
        },
        "metric": {"name": task.metric, "unit": "%", "higher_is_better": True},
        "published": published._asdict() if published else None,
        "readout": task.readout,
        "classes": task.classes,
        "versions": versions(),
        "commit": commit(),
        "machine": machine(),
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
