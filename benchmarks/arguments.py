"""The parser of the command line. Only the standard library is imported, so that ``--help`` is fast."""

import argparse
from collections.abc import Mapping
from typing import Any

from .options import module, options_of, program  # noqa: TID251  as in __main__

EXAMPLES = (
    ("list", "the tasks and the layers"),
    ("run digits", "11 layers on handwritten digits, two minutes, no download"),
    ("run cora --data DIR --seeds 10", "the public split with GCN, GAT and SGC"),
    ("run cora --layers gin,mlp", "other layers, and the control without a graph"),
    ("run digits-superpixels", "the digits cut into superpixels, under a minute, no download"),
    ("run mnist-superpixels --layers message --remedy batchnorm+residual+dropedge --data DIR", ""),
    ("run lenet --data DIR", "on MNIST, dense and as a graph; without --data on digits"),
    ("run planted --mode sampled", "nodes of a large graph; or full, clusters, propagated"),
    ("run --config results/cora/gcn/result.json", "the same again; a YAML file names options, too"),
    ("scaling digits-superpixels", "the speed-up of a second process, beside a second thread"),
    ("partition planted --parts 2 --out parts", "cut a large graph; then, on each of two hosts:"),
    ("host --addresses 10.0.0.1,10.0.0.2 parts", ""),
    ("run digits-superpixels --layers sage --seeds 3 --save", "keep the best model, with a card"),
    ("report", "every run's leaderboard again, and its report.html"),
    ("depth", "accuracy by depth on digits, with remedies: under three minutes"),
    ("depth cora --remedies none,pairnorm,gcnii+dropout --depths 2,16,64 --seeds 3 --data DIR", ""),
    ("memory cora --data DIR", "memory of 10, 100 and 1000 layers, plain and otherwise"),
    ("speed --quick", "times beside dgl.nn's and PyG's, under two minutes"),
    ("speed --only gcn,growth", "some workloads or groups of them; a wrong name lists all"),
    ("speed --only remedies", "the cost of each remedy for each layer of a deep network"),
    ("speed --allocators keep --threads 1,2", ""),
)
NOTES = """
With several processes, each on its share of every batch: torchrun --nproc-per-node 2 -m {module} run TASK

A run that was killed continues where it stopped: repeat the command. Data are searched in --data DIR, then in
GNNLIB_DATA, then in the user's cache, and only then downloaded. GNNLIB_DEBUG=1 shows the traceback of an error.
"""

COMMANDS: dict[str, dict[str, Any]] = {
    "list": {"help": "the tasks and the layers"},
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
}
WITH_EXAMPLES = ("run", "depth", "memory", "speed")


def parser(defaults: Mapping[str, Any] | None = None) -> argparse.ArgumentParser:
    """The parser of all commands.

    Args:
        defaults: values by field for 'run' in place of the declared defaults
    """
    shown: dict[str, Any] = {"epilog": _examples(), "formatter_class": argparse.RawDescriptionHelpFormatter}
    description = "Train gnnlib's layers on real data and compare them, with the published figures beside."
    top = argparse.ArgumentParser(prog=program(), description=description, **shown)
    commands = top.add_subparsers(dest="command", metavar=f"{{{','.join(COMMANDS)}}}", required=True)
    for name, texts in COMMANDS.items():
        command = commands.add_parser(name, **texts, **(shown if name in WITH_EXAMPLES else {}))
        for option in options_of(name):
            option.add_to(command)
        if name == "run":
            command.set_defaults(**defaults or {})
    return top


def _examples() -> str:
    lines = [f"  {program()} {words:<37}  {note}".rstrip() for words, note in EXAMPLES]
    return "\n".join(["examples:", *lines, NOTES.format(module=module())])
