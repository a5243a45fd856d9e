"""The command line: ``gnnlib COMMAND``, or ``python -m benchmarks COMMAND`` in the checkout."""

import argparse
import errno
import os
import sys
from collections.abc import Sequence

# Relative, since the package gnnlib imports torch, which --help should not wait for.
from .arguments import parser  # noqa: TID251
from .options import program  # noqa: TID251

EXTRA = {
    "matplotlib": "matplotlib",
    "ogb": "ogb",
    "optuna": "optuna",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
}  # modules and packages of the extra 'bench'


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command.

    Args:
        arguments: the words of the command line; None for those of this process

    Returns:
        the exit status: 0, 2 for an error, 130 after an interrupt
    """
    options = parser().parse_args(arguments)
    try:
        if getattr(options, "config", None) is not None:
            from gnnlib.benchmarks.configuration import read_config

            options = parser(read_config(options.config)).parse_args(arguments)
        return COMMANDS[options.command](options)
    except KeyboardInterrupt:
        print("\nstopped; finished results are kept; the same command continues", file=sys.stderr)
        return 130
    except (OSError, ValueError, ImportError, FloatingPointError) as error:
        if os.environ.get("GNNLIB_DEBUG"):
            raise
        print(f"{program().split()[-1]}: error: {_message(error)}", file=sys.stderr)
        return 2


def _message(error: Exception) -> str:
    package = EXTRA.get((getattr(error, "name", None) or "").partition(".")[0])
    if isinstance(error, ModuleNotFoundError) and package:
        return f"expected {package} to be installed: pip install 'gnnlib[bench]'"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return f"{error}; finished results are kept; the same command continues"
    return str(error)


def _list(options: argparse.Namespace) -> int:
    from rich.console import Console

    from gnnlib.benchmarks.runner.listing import descriptions, overview

    Console().print(*(descriptions() if options.verbose else overview()))
    return 0


def _run(options: argparse.Namespace) -> int:
    from gnnlib.benchmarks.runner.request import RunRequest
    from gnnlib.benchmarks.runner.run import run
    from gnnlib.train.distributed import process_group

    request = RunRequest.of(options)
    with process_group():
        run(request)
    return 0


def _depth(options: argparse.Namespace) -> int:
    from gnnlib.benchmarks.depth.command import DepthRequest, run

    print(f"Report: {run(DepthRequest.of(options)) / 'report.html'}")
    return 0


def _memory(options: argparse.Namespace) -> int:
    from gnnlib.benchmarks.speed.memory import MemoryRequest, run

    print(f"Figures: {run(MemoryRequest.of(options))}")
    return 0


def _speed(options: argparse.Namespace) -> int:
    from gnnlib.benchmarks.speed.command import SpeedRequest, run

    request = SpeedRequest.of(options)
    try:
        path = run(request)
    except KeyboardInterrupt:
        print(f"\nstopped; the finished rows are in {request.path}", file=sys.stderr)
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
    from gnnlib.benchmarks.runner.scaling import ScalingRequest, run

    print(f"Figures: {run(ScalingRequest.of(options))}")
    return 0


def _host(options: argparse.Namespace) -> int:
    from gnnlib.benchmarks.runner.hosts import HostRequest, run

    return run(HostRequest.of(options))


def _install_dgl(options: argparse.Namespace) -> int:
    from .install_dgl import install, remove  # noqa: TID251

    if options.upgrade and options.remove:
        raise ValueError("install-dgl: expected --upgrade or --remove, got both")
    print(remove() if options.remove else install(options.upgrade))
    return 0


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
    "install-dgl": _install_dgl,
}


if __name__ == "__main__":
    sys.exit(main())
