"""The parser of the command line. Only the standard library is imported, so that ``--help`` is fast."""

import argparse
import shutil
import textwrap
from collections.abc import Iterable, Mapping
from typing import Any

from .options import module, options_of, program  # noqa: TID251  as in __main__

EXAMPLES: dict[str, tuple[tuple[str, str], ...]] = {
    "list": (
        ("list", "the names of tasks, layers and remedies, on one screen"),
        ("list -v", "all of them, with descriptions"),
        ("list -v | less", "the same, page by page"),
    ),
    "run": (
        ("run digits", "11 layers on handwritten digits, two minutes, no download"),
        ("run cora --layers gin,mlp --seeds 10 --data DIR", "other layers than the task's own"),
        ("run --config results/cora/gcn/result.json", "the same again; a YAML file names options, too"),
    ),
    "report": (
        ("report", "every run's leaderboard again, and its report.html"),
        ("report --out results/cora", "of one run"),
        ("report --out experiments", "of all runs in another folder"),
    ),
    "depth": (
        ("depth", "accuracy by depth on digits, with remedies: under three minutes"),
        ("depth cora --remedies none,pairnorm,gcnii+dropout --seeds 3 --data DIR", "some remedies, and two together"),
        ("depth digits --convs gcn,sage --depths 2,16,64", "other convolutions and depths"),
    ),
    "memory": (
        ("memory cora --data DIR", "memory of 10, 100 and 1000 layers, plain and otherwise"),
        ("memory digits --depths 8,64", "no download"),
        ("memory cora --ways reversible --width 128 --data DIR", "one way, wider layers"),
    ),
    "speed": (
        ("speed --quick", "times beside dgl.nn's and PyG's, under two minutes"),
        ("speed --only gcn,growth", "some workloads or groups of them; a wrong name lists all"),
        ("speed --allocators keep --threads 1,2", "with one thread and with two, freed memory retained"),
    ),
    "partition": (
        ("partition planted --parts 2 --out parts", "then 'host' on each of two hosts"),
        ("partition ogbn-products --parts 4 --data DIR --out parts", "for four hosts"),
        ("partition planted --parts 2 --limit 5000 --out parts", "a small graph, for a trial"),
    ),
    "host": (
        ("host --addresses 10.0.0.1,10.0.0.2 parts", "the same on both hosts"),
        ("host --addresses 10.0.0.1,10.0.0.2 --trainers 4 parts --epochs 5", "options of 'run' come last"),
        ("host --addresses 10.0.0.1,10.0.0.2 --port 29600 parts", "where another program has the usual port"),
    ),
    "scaling": (
        ("scaling digits-superpixels", "the speed-up of a second process, beside a second thread"),
        ("scaling --processes 4 ogbg-molhiv --epochs 2 --data DIR", "options of 'run' come last"),
        ("scaling --out trial digits-superpixels --epochs 1", "a short trial, in a folder of its own"),
    ),
    "install-dgl": (
        ("install-dgl", "DGL 2.1.0 on Python 3.13"),
        ("install-dgl --upgrade", "in place of another DGL"),
        ("install-dgl --remove", "without DGL again"),
    ),
}
NOTES = """
With several processes, each on its share of every batch:
  torchrun --nproc-per-node 2 -m {module} run TASK

A run that was killed continues where it stopped: repeat the command. Data are
searched in --data DIR, then in GNNLIB_DATA, then in the user's cache, and only
then downloaded. GNNLIB_DEBUG=1 shows the traceback of an error.
"""

COMMANDS: dict[str, dict[str, Any]] = {
    "list": {"help": "the tasks, layers and remedies by name"},
    "run": {"help": "train and test; write results/<run>/<layer>/result.json and report.html"},
    "report": {"help": "print the leaderboard and write report.html again"},
    "depth": {
        "help": "train convolutions x remedies x depths x seeds; write results.json and report.html",
        "description": "Accuracy by depth with and without remedies, and statistics of the layers. Each cell of "
        "convolution, remedy, depth and seed is trained with Adam on full batches and early stopping. A remedy is what "
        "its name says and nothing else: the plain net, none, has no dropout and no weight decay. Several are joined "
        "by +: gcnii+dropout.",
    },
    "memory": {
        "help": "memory and time of a training step by depth; add to memory.json",
        "description": "A training step of a deep GCN, on one thread: with initial residuals, plain; checkpointed, "
        "which keeps the outputs of every sqrt(L)-th of L layers and computes the others again; and reversible, which "
        "keeps the last alone. Each figure comes from a process of its own.",
    },
    "speed": {"help": "time layers beside dgl.nn's and PyG's; add to speed.json and draw speed.png"},
    "partition": {"help": "cut a node task's graph into parts, one per host (METIS); see docs/distributed.md"},
    "host": {
        "help": "train on a graph in parts: run on every host, serves its part and starts its trainers",
        "description": "After the folder, options of 'run': host --addresses 10.0.0.1,10.0.0.2 parts --epochs 5",
    },
    "scaling": {
        "help": "the same training with more threads and with more processes; write scaling.json",
        "description": "After the task, options of 'run': scaling --processes 2 ogbg-molhiv --epochs 2",
    },
    "install-dgl": {
        "help": "install DGL on a Python for which pip has none; see docs/install.md",
        "description": "The wheel of DGL 2.1.0 for Python 3.12 runs on later versions, where DGL calls its library "
        "through ctypes. pip downloads it; its SHA-256 is checked; it appears completely or not at all.",
    },
}


def parser(defaults: Mapping[str, Any] | None = None) -> argparse.ArgumentParser:
    """The parser of all commands.

    Args:
        defaults: values by field for 'run' in place of the declared defaults
    """
    shown: dict[str, Any] = {"formatter_class": argparse.RawDescriptionHelpFormatter}
    description = "Train gnnlib's layers on real data and compare them, with the published figures beside."
    first = _examples([(examples[0][0], "") for examples in EXAMPLES.values()])
    top = argparse.ArgumentParser(prog=program(), description=description, epilog=first + _notes(), **shown)
    commands = top.add_subparsers(dest="command", metavar=f"{{{','.join(COMMANDS)}}}", required=True)
    for name, texts in COMMANDS.items():
        epilog = _examples(EXAMPLES[name]) + (_notes() if name == "run" else "")
        command = commands.add_parser(name, epilog=epilog, **_filled(texts), **shown)
        for option in options_of(name):
            option.add_to(command)
        if name == "run":
            command.set_defaults(**defaults or {})
    return top


def _filled(texts: Mapping[str, str]) -> dict[str, Any]:
    """The texts with the description in lines of the terminal's width, since no formatter does it."""
    width = shutil.get_terminal_size().columns - 2
    return {name: textwrap.fill(text, width) if name == "description" else text for name, text in texts.items()}


def _examples(examples: Iterable[tuple[str, str]]) -> str:
    lines = [f"  {program()} {words}" + (f"\n      {note}" if note else "") for words, note in examples]
    return "\n".join(["examples:", *lines, ""])


def _notes() -> str:
    return NOTES.format(module=module())
