"""The parser of the command line. Only the standard library is imported, so that ``--help`` is fast."""

import argparse
import shutil
import textwrap
from collections.abc import Iterable, Mapping
from typing import Any

from .options import module, options_of, program  # noqa: TID251  as in __main__

EXAMPLES: dict[str, tuple[tuple[str, str], ...]] = {
    "list": (
        ("list", "list the names of tasks, layers and remedies, on one screen"),
        ("list -v", "list them with descriptions"),
        ("list -v | less", "show this list page by page"),
    ),
    "run": (
        ("run digits", "train 11 layers on handwritten digits; two minutes, no download"),
        ("run cora --layers gin,mlp --seeds 10 --data DIR", "train other layers than the default ones"),
        ("run --config results/cora/gcn/result.json", "repeat a run; a YAML file can hold the options too"),
    ),
    "report": (
        ("report", "print the leaderboards of all runs, and write report.html"),
        ("report --out results/cora", "the same for one run"),
        ("report --out experiments", "the same for all runs in another folder"),
    ),
    "depth": (
        ("depth", "measure accuracy by depth on digits; less than three minutes"),
        (
            "depth cora --remedies none,pairnorm,gcnii+dropout --seeds 3 --data DIR",
            "use some remedies, and a combination of two",
        ),
        (
            "depth digits --convs gcn,sage --depths 2,16 --tune 8 --seeds 5",
            "use other convolutions and depths; tune each of them in 8 trials, then train it from 5 seeds",
        ),
    ),
    "memory": (
        ("memory cora --data DIR", "measure the memory of 10, 100 and 1000 layers"),
        ("memory digits --depths 8,64", "use the digits, without a download"),
        ("memory cora --ways reversible --width 128 --data DIR", "measure reversible layers only, with a larger width"),
    ),
    "speed": (
        ("speed --quick", "compare with dgl.nn and PyG; less than two minutes"),
        ("speed --only gcn,growth", "measure some workloads or groups; a wrong name lists all"),
        ("speed --allocators keep --threads 1,2", "use one thread and two threads, with retained memory"),
    ),
    "partition": (
        ("partition planted --parts 2 --out parts", "make parts for two hosts; then run 'host' on each"),
        ("partition ogbn-products --parts 4 --data DIR --out parts", "make parts for four hosts"),
        ("partition planted --parts 2 --limit 5000 --out parts", "make parts of a small graph, for a trial"),
    ),
    "host": (
        ("host --addresses 10.0.0.1,10.0.0.2 parts", "run the same command on both hosts"),
        ("host --addresses 10.0.0.1,10.0.0.2 --trainers 4 parts --epochs 5", "put options of 'run' last"),
        ("host --addresses 10.0.0.1,10.0.0.2 --port 29600 parts", "use other ports"),
    ),
    "scaling": (
        ("scaling digits-superpixels", "measure the speed-up of a second process and of a second thread"),
        ("scaling --processes 4 ogbg-molhiv --epochs 2 --data DIR", "put options of 'run' last"),
        ("scaling --out trial digits-superpixels --epochs 1", "run a short trial, with results in the folder trial"),
    ),
    "install-dgl": (
        ("install-dgl", "install DGL 2.1.0 on Python 3.13"),
        ("install-dgl --upgrade", "replace another version of DGL"),
        ("install-dgl --remove", "remove DGL"),
    ),
}
NOTES = """
To train with several processes, which divide every batch:
  torchrun --nproc-per-node 2 -m {module} run TASK

To continue a run that was killed, repeat the command. Data are searched in
--data DIR, then in GNNLIB_DATA, then in the user's cache. Missing data are
downloaded. GNNLIB_DEBUG=1 shows the traceback of an error.
"""

COMMANDS: dict[str, dict[str, Any]] = {
    "list": {"help": "list the tasks, layers and remedies"},
    "run": {"help": "train and test; write results/<run>/<layer>/result.json and report.html"},
    "report": {"help": "print the leaderboard and write report.html again"},
    "depth": {
        "help": "train convolutions at several depths, with and without remedies; write report.html",
        "description": "Measures accuracy by depth with and without remedies, and statistics of the layers. Each "
        "combination of convolution, remedy, depth and seed is trained with Adam on full batches, with early stopping. "
        "A remedy does not include other remedies: the network without a remedy, none, has no dropout and no weight "
        "decay. Join several remedies by +, as in gcnii+dropout. With --tune N, the learning rate, width, dropout, "
        "weight decay, position of the norm and strength of the remedy are tuned on validation data.",
    },
    "memory": {
        "help": "measure memory and time of a training step by depth; write memory.json",
        "description": "Measures a training step of a deep GCN on one thread, in three ways. plain stores all outputs. "
        "checkpointed stores the outputs of every sqrt(L)-th of L layers and computes the others again. reversible "
        "stores the last output only. Each figure is measured in a separate process.",
    },
    "speed": {"help": "compare times with dgl.nn and PyG; write speed.json and speed.png"},
    "partition": {"help": "partition the graph of a node task by METIS, one part per host; see docs/distributed.md"},
    "host": {
        "help": "train on a partitioned graph; run it on every host; see docs/distributed.md",
        "description": "Serves the part of this host and starts its trainers. Options of 'run' come after the folder: "
        "host --addresses 10.0.0.1,10.0.0.2 parts --epochs 5",
    },
    "scaling": {
        "help": "measure the speed-up of threads and of processes; write scaling.json",
        "description": "Trains a task with one process, with several threads, and with several processes. Options of "
        "'run' come after the task: scaling --processes 2 ogbg-molhiv --epochs 2",
    },
    "install-dgl": {
        "help": "install DGL on a Python for which PyPI has no wheel; see docs/install.md",
        "description": "Installs the wheel of DGL 2.1.0 for Python 3.12, which runs on later versions of Python. pip "
        "downloads the wheel, and its SHA-256 is verified. If a step fails, nothing is installed.",
    },
}


def parser(defaults: Mapping[str, Any] | None = None) -> argparse.ArgumentParser:
    """The parser of all commands.

    Args:
        defaults: values by field for 'run' in place of the declared defaults
    """
    shown: dict[str, Any] = {"formatter_class": argparse.RawDescriptionHelpFormatter}
    description = "Trains gnnlib's layers on public data sets and compares them with published figures."
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
