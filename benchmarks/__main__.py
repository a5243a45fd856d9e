"""The command line: ``python -m benchmarks COMMAND``; ``--help`` lists the commands."""

import argparse
import errno
import os
import sys

from gnnlib.benchmarks.arguments import parser


def main(arguments: list[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    # Only now: torch and DGL take seconds, --help should not.
    from gnnlib.benchmarks.errors import UsageError

    try:
        return COMMANDS[options.command](options)
    except KeyboardInterrupt:
        print("\nstopped; what is finished is kept, the same command goes on from there", file=sys.stderr)
        return 130
    except (UsageError, OSError, ValueError, ImportError, FloatingPointError) as error:
        if os.environ.get("GNNLIB_DEBUG"):
            raise
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        kept = "; what is finished is kept, the same command goes on from there" if full else ""
        print(f"benchmarks: error: {error}{kept}", file=sys.stderr)
        return 2


def _list(options: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.table import Table

    from gnnlib.benchmarks.catalog.layers import LAYERS
    from gnnlib.benchmarks.runner.run import describe_tasks
    from gnnlib.benchmarks.tasks import TASKS

    tasks = Table("task", "what it is", "layers", "seeds", title="Tasks")
    for row in describe_tasks():
        tasks.add_row(*row)
    layers = Table("layer", "title", "needs", title="Layers")
    needs = {"graph": "", "edge_feats": "edge features", "pos_feats": "positions", "image": "images"}
    own = {layer.name: layer for task in TASKS.values() for layer in task.own}
    for layer in {**LAYERS, **own, **LAYERS}.values():
        layers.add_row(layer.name, layer.title, needs.get(layer.needs, layer.needs))
    Console().print(tasks, layers)
    return 0


def _run(options: argparse.Namespace) -> int:
    from gnnlib.benchmarks.runner.request import Request
    from gnnlib.benchmarks.runner.run import run
    from gnnlib.benchmarks.tasks import Options
    from gnnlib.train.distributed import process_group

    request = Request(
        tasks=list(dict.fromkeys(options.tasks)),
        layers=options.layers,
        seeds=options.seeds,
        out=options.out,
        fresh=options.fresh,
        save=options.save,
        tensorboard=options.tensorboard,
        options=Options(**{name: getattr(options, name) for name in Options.ASKED}),
    )
    with process_group():
        run(request)
    return 0


def _depth(options: argparse.Namespace) -> int:
    from gnnlib.benchmarks.depth.command import Request, run

    changed = {name: getattr(options, name) for name in ("width", "epochs", "patience", "lr", "weight_decay", "drop")}
    request = Request(
        data=options.name,
        convs=options.convs,
        remedies=options.remedies,
        depths=options.depths,
        seeds=options.seeds,
        settings=tuple((name, value) for name, value in changed.items() if value is not None),
        jobs=options.jobs,
        folder=options.data,
        out=options.out,
    )
    print(f"Report: {run(request) / 'report.html'}")
    return 0


def _memory(options: argparse.Namespace) -> int:
    from gnnlib.benchmarks.speed.memory import WAYS, Request, run

    ways = options.ways or tuple(WAYS)
    request = Request(options.name, options.depths, ways, options.width, folder=options.data, out=options.out)
    print(f"Figures: {run(request)}")
    return 0


def _speed(options: argparse.Namespace) -> int:
    from gnnlib.benchmarks.speed.command import Request, run

    request = Request(
        only=options.only,
        quick=options.quick,
        repeats=options.repeats,
        shrink=options.shrink,
        allocators=options.allocators,
        threads=options.threads,
        out=options.out,
    )
    try:
        path = run(request)
    except KeyboardInterrupt:
        print(f"\nstopped; the rows that were finished are in {request.path}", file=sys.stderr)
        return 130
    print(f"Figures: {path}")
    return 0


def _report(options: argparse.Namespace) -> int:
    from rich.console import Console

    from gnnlib.benchmarks.report import figures_table, leaderboard_table, load_results, write_report
    from gnnlib.benchmarks.runner.run import runs

    for folder in runs(options.out):
        results, problems = load_results(folder)
        for problem in problems:
            print(problem, file=sys.stderr)
        path = write_report(folder)
        Console().print(*filter(None, (leaderboard_table(results), figures_table(results))))
        print(f"Report: {path}")
    return 0


def _partition(options: argparse.Namespace) -> int:
    from gnnlib.benchmarks.runner.hosts import cut
    from gnnlib.benchmarks.tasks import Options

    print(f"Parts: {cut(options.name, options.parts, Options(data=options.data, limit=options.limit), options.out)}")
    return 0


def _scaling(options: argparse.Namespace) -> int:
    from gnnlib.benchmarks.runner.scaling import Request, run

    print(f"Figures: {run(Request(options.name, options.processes, options.arguments, options.out))}")
    return 0


def _host(options: argparse.Namespace) -> int:
    from gnnlib.benchmarks.runner.hosts import Request, run

    return run(Request(options.folder, options.addresses, options.trainers, options.port, options.arguments))


COMMANDS = {
    "list": _list,
    "run": _run,
    "report": _report,
    "depth": _depth,
    "memory": _memory,
    "speed": _speed,
    "partition": _partition,
    "host": _host,
    "scaling": _scaling,
}


if __name__ == "__main__":
    sys.exit(main())
