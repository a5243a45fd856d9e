"""The options of the command line, each declared once.

Only the standard library is imported, so that ``--help`` is fast.
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any


def program() -> str:
    """The command that started this process: ``gnnlib``, or ``python -m benchmarks`` in the checkout."""
    if Path(sys.argv[0]).name == "gnnlib":
        return "gnnlib"
    return f"python -m {module()}"


def module() -> str:
    """The module of the command line, for ``python -m`` and ``torchrun -m``."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    installed = Path(sys.argv[0]).name == "gnnlib" or (spec and spec.parent == "gnnlib.benchmarks")
    return "gnnlib.benchmarks" if installed else "benchmarks"


def positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected 1 or more, got {value}")
    return value


def numbers(text: str) -> list[int]:
    return [positive(part) for part in text.split(",")]


def names(text: str) -> list[str]:
    return list(dict.fromkeys(name.strip() for name in text.split(",")))


@dataclass(frozen=True)
class Option:
    """An option of one or several commands.

    Args:
        commands: the commands that take it, separated by spaces
        name: ``--name`` on the command line and a key in a configuration file; with underscores a field of `Request`
        metavar: the value's name in the help
        help: one line for the help
        type: from the text; ``bool`` for a switch
        default: None where the task or the data set decides
        minimum: the least valid number, checked by the command
        nargs: how many values a positional argument takes
        positional: whether the value stands without ``--name``
        required: whether the command needs it
        shown: what a result's command shows for the value; None for the value itself, "" for nothing
        recorded: whether a result's arguments have it: "always", "set" (if it is not None) or "never"
        folder: how it enters the name of a run's folder, if it is not the default; "{}" stands for the value
        short: another flag of a switch
    """

    commands: str
    name: str
    metavar: str = ""
    help: str = ""
    type: Callable[[str], Any] = str
    default: Any = None
    minimum: int | None = None
    nargs: str | None = None
    positional: bool = False
    required: bool = False
    shown: str | None = None
    recorded: str = "never"
    folder: str = ""
    short: str = ""

    @property
    def flag(self) -> str:
        return f"--{self.name}"

    @property
    def field(self) -> str:
        return self.name.replace("-", "_")

    def words(self, value: Any) -> list[str]:
        """The option on the command line; nothing for its default.

        >>> from gnnlib.benchmarks.options import options_of
        >>> next(options_of("run", "layers")).words(["gcn", "gat"])
        ['--layers', 'gcn,gat']
        """
        if value is None or self.shown == "" or (value == self.default and not self.positional):
            return []
        if self.positional:
            return [str(part) for part in value] if self.nargs == "*" else [str(value)]
        if self.type is bool:
            return [self.flag]
        text = ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
        return [self.flag, self.shown or text]

    def add_to(self, parser: argparse.ArgumentParser) -> None:
        keywords: dict[str, Any] = {"default": self.default, "help": self.help}
        if self.positional:
            parser.add_argument(self.name, nargs=self.nargs, type=self.type, metavar=self.metavar, **keywords)
        elif self.type is bool:
            parser.add_argument(*filter(None, (self.short, self.flag)), action="store_true", help=self.help)
            parser.add_argument(f"--no-{self.name}", dest=self.field, action="store_false", help=argparse.SUPPRESS)
        else:
            keywords |= {"type": self.type, "metavar": self.metavar, "required": self.required}
            parser.add_argument(self.flag, **keywords)


RESULTS = Path("results")

# In the order of the help, of the command that a result names, and of the parts of a run's folder.
OPTIONS = (
    # list
    Option("list", "verbose", help="describe each task and layer in a table", type=bool, default=False, short="-v"),
    # run
    Option("run", "tasks", "TASK", "names from 'list' (default: digits)",
           default=["digits"], nargs="*", positional=True),
    Option("run", "config", "FILE",
           "read options from a result.json or a YAML file; options given here take precedence", Path, shown=""),
    Option("run", "layers", "A,B", "layers to train, names from 'list' (default: those of the task)", names),
    Option("run", "seeds", "N", "run seeds 0 to N-1 (in tasks with folds: folds 0 to N-1)", int, minimum=1),
    Option("run", "epochs", "N", "number of epochs (default: that of the task)", int, minimum=1, recorded="always",
           folder="epochs{}"),
    Option("run", "limit", "N", "use only the first N graphs or images of each part", int,
           minimum=2, recorded="always", folder="limit{}"),  # one to train on, one held out
    Option("run", "recipe", "NAME", "recipe of superpixel graphs, in tasks that have several"),
    Option("run", "remedy", "A+B",
           "remedies, such as batchnorm+residual, names from 'list' (default: those of the task)",
           recorded="set", folder="{}"),
    Option("run", "mode", "M", "part of a large graph in one step: full (default), sampled, clusters, propagated",
           recorded="set", folder="{}"),
    Option("run", "labels", "A+B", "further uses of labels: input, distil, correct-smooth; of links: validation",
           recorded="set", folder="{}"),
    Option("run", "decoder", "D", "decoder of links: hadamard, dot, bilinear; of triples: complex, distmult",
           recorded="set", folder="{}"),
    Option("run", "negatives", "N", "pairs without a link in training: uniform, source, given, all",
           recorded="set", folder="{}"),
    Option("run", "scores", "A+B",
           "features of pairs: common-neighbors, adamic-adar, resource-allocation, pagerank",
           recorded="set", folder="{}"),
    Option("run", "precision", "P", "float32 (default) or bfloat16: products in training, and features of large graphs",
           recorded="set", folder="{}"),
    Option("run", "schedule", "S", "learning rate over the epochs: constant, cosine, warmup",
           recorded="set", folder="{}"),
    Option("run", "clip", "X", "limit the norm of the gradients of a step to X", float, recorded="set",
           folder="clip{}"),
    Option("run", "patience", "N", "stop after N epochs without a better validation score", int,
           minimum=1, recorded="set", folder="patience{}"),
    # depth, memory
    Option("depth memory", "name", "DATA", "digits (default), cora, cora-cold, minesweeper, ring-32, ...",
           default="digits", nargs="?", positional=True),
    Option("depth", "convs", "A,B", "gcn, gin, gat, sage, sgc, sgc-hops, mlp", names),
    Option("depth", "remedies", "A,B+C", "none, batchnorm, ..., names from 'list'", names),
    Option("depth", "depths", "N,M", "numbers of layers, or of hops", numbers),
    Option("memory", "depths", "N,M", "default: 10,100,1000", numbers, default=[10, 100, 1000]),
    Option("memory", "ways", "A,B", "plain, checkpointed, reversible (default: all three)", names),
    Option("memory", "width", "N", "hidden features (64)", positive, default=64),
    Option("depth", "seeds", "N", "run seeds 0 to N-1 (default: 1)", positive, default=1),
    Option("depth", "width", "N", "hidden features (64; digits, pubmed: 32)", positive),
    Option("depth", "epochs", "N", "largest number of epochs (500; digits: 100, pubmed: 200)", positive),
    Option("depth", "patience", "N",
           "stop after N epochs without a better validation score (100; digits: 40, pubmed: 50)", positive),
    Option("depth", "lr", "X", "learning rate of Adam (0.01)", float),
    Option("depth", "weight-decay", "X", "weight decay of the remedy 'decay' (0.0005)", float),
    Option("depth", "drop", "P", "probability of dropout, dropedge, dropnode, dropmessage, skipnode (0.5)", float),
    Option("depth", "tune", "N", "tune each cell on validation data, in N trials of Optuna (default: none)", positive),
    Option("depth", "jobs", "N", "number of processes, with one thread each (default: number of cores)", positive,
           shown=""),
    # speed
    Option("speed", "only", "A,B", "workloads or groups of them (default: all but remedies and compiled)", names),
    Option("speed", "quick", help="use graphs an eighth as large, and the default allocator only", type=bool,
           default=False),
    Option("speed", "device", "D", "cpu (default), or cuda: other workloads, on a card, in results/speed-gpu",
           default="cpu"),
    Option("speed", "repeats", "N", "repetitions of each step; times are medians (5; quick: 3)", positive),
    Option("speed", "shrink", "N", "use graphs N times smaller (1; quick: 8)", positive),
    Option("speed", "threads", "N,M", "one run for each number of threads (default: that of PyTorch)", numbers),
    Option("speed", "allocators", "A,B",
           "one run for each: default, keep (glibc retains freed memory), huge (PyTorch requests huge pages); "
           "default: default,keep (quick: default)", names),
    # partition, scaling, host
    Option("partition", "name", "TASK", "a task on the nodes of one graph", positional=True),
    Option("partition", "parts", "N", "number of parts, one for each host", positive, required=True),
    Option("partition", "limit", "N", "use only the first N nodes, as for 'run'", positive),
    Option("partition", "out", "DIR", "a folder for the parts", Path, required=True, shown=""),
    Option("scaling", "processes", "N", "number of processes, compared with the same number of threads (2)", positive,
           default=2),
    Option("host", "addresses", "A,B", "IPv4 addresses of all hosts, in the order of the parts", names, required=True),
    Option("host", "trainers", "N", "number of training processes on each host (1)", positive, default=1),
    Option("host", "port", "P", "first of two ports that are free on all hosts (29500)", positive, default=29500),
    Option("host", "folder", "DIR", "folder written by 'partition'; each host needs its part of it", Path,
           positional=True),
    # install-dgl
    Option("install-dgl", "upgrade", help="replace another DGL", type=bool, default=False),
    Option("install-dgl", "remove", help="remove what this command installed", type=bool, default=False),
    # several
    Option("run depth memory partition", "data", "DIR",
           "folder of the data (default: GNNLIB_DATA, then the cache, then a download)", Path,
           shown="DIR"),
    Option("report", "out", "DIR", "a run, or a folder of runs", Path, RESULTS),
    Option("run depth memory speed scaling", "out", "DIR", "default: results", Path, RESULTS, shown=""),
    Option("run", "device", "D", "cpu (default), cuda, cuda:1, ...", default="cpu", recorded="always", folder="{}"),
    Option("run", "save", help="save the model of the best seed, with a model card", type=bool, default=False),
    Option("run", "tensorboard", help="also write the curves for TensorBoard", type=bool, default=False, shown=""),
    Option("run", "fresh", help="start again; an earlier result is renamed", type=bool, default=False, shown=""),
    Option("scaling", "name", "TASK", "a task with batches that can be divided among processes", positional=True),
    Option("scaling host", "arguments", "OPTION", "options of 'run'", nargs=argparse.REMAINDER, positional=True),
)  # fmt: skip


def options_of(command: str, name: str | None = None) -> Iterator[Option]:
    """The options that a command takes, or the one of a name."""
    return (o for o in OPTIONS if command in o.commands.split() and name in (None, o.name))
