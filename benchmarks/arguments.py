"""What the command line takes. Nothing slow is imported here, so that ``--help`` is there at once."""

import argparse
from pathlib import Path
from typing import Any

EXAMPLES = """examples:
  python -m benchmarks list                              what there is to run
  python -m benchmarks run digits                        11 layers on handwritten digits, two minutes, no download
  python -m benchmarks run cora --data DIR --seeds 10    the public split with GCN, GAT and SGC
  python -m benchmarks run cora --layers gin,mlp         other layers, and the control without a graph
  python -m benchmarks run digits-superpixels            the digits cut into superpixels, under a minute, no download
  python -m benchmarks run mnist-superpixels --layers message --remedy batchnorm+residual+dropedge --data DIR
  python -m benchmarks run lenet --data DIR              on MNIST, dense and as a graph; without --data on digits
  python -m benchmarks run planted --mode sampled        nodes of a large graph; or full, clusters, propagated
  torchrun --nproc-per-node 2 -m benchmarks run digits-superpixels    two processes, each on half of every batch
  python -m benchmarks scaling digits-superpixels        what a second process brings, beside a second thread
  python -m benchmarks partition planted --parts 2 --out parts        a large graph, cut; then, on each of two hosts:
  python -m benchmarks host --addresses 10.0.0.1,10.0.0.2 parts
  python -m benchmarks run digits-superpixels --layers sage --seeds 3 --save    keeps the best model, with a card
  python -m benchmarks report                            every run's leaderboard again, and its report.html
  python -m benchmarks depth                             what depth does to digits, and what helps: under three minutes
  python -m benchmarks depth cora --remedies none,pairnorm,gcnii+dropout --depths 2,16,64 --seeds 3 --data DIR
  python -m benchmarks memory cora --data DIR            what 10, 100 and 1000 layers hold, plain and otherwise
  python -m benchmarks speed --quick                     times beside dgl.nn's and PyG's, under two minutes
  python -m benchmarks speed --only gcn,growth           some workloads or groups of them; a wrong name lists all
  python -m benchmarks speed --only remedies             what each remedy costs for each layer of a deep network
  python -m benchmarks speed --allocators keep --threads 1,2

A run that was killed goes on where it stopped: say the same command again. Data is looked for in --data DIR, then
GNNLIB_DATA, then the user's cache, and only then downloaded. GNNLIB_DEBUG=1 shows where an error came from.
"""

WITH_EXAMPLES: dict[str, Any] = {"epilog": EXAMPLES, "formatter_class": argparse.RawDescriptionHelpFormatter}


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Train gnnlib's layers on real data and compare them, with the published figures beside.",
        **WITH_EXAMPLES,
    )
    commands = top.add_subparsers(dest="command", metavar="{list,run,report,depth,memory,speed,partition,host,scaling}")
    commands.required = True
    commands.add_parser("list", help="the tasks and the layers")
    _add_run(commands)
    report = commands.add_parser("report", help="print the leaderboard and write report.html again")
    report.add_argument("--out", type=Path, default=Path("results"), metavar="DIR", help="a run, or a folder of runs")
    _add_depth(commands)
    _add_memory(commands)
    _add_speed(commands)
    _add_hosts(commands)
    return top


def _add_run(commands: Any) -> None:
    run = commands.add_parser(
        "run",
        help="train and test; write results/<run>/<layer>/result.json and report.html",
        **WITH_EXAMPLES,
    )
    run.add_argument("tasks", nargs="*", default=["digits"], metavar="TASK", help="names from 'list' (default: digits)")
    run.add_argument("--layers", type=_names, metavar="A,B", help="instead of the task's own, names from 'list'")
    run.add_argument("--seeds", type=int, metavar="N", help="run seeds 0 to N-1 (folds, where the task has folds)")
    run.add_argument("--epochs", type=int, metavar="N", help="instead of the task's own number")
    run.add_argument("--limit", type=int, metavar="N", help="the first N graphs or images of each part only")
    run.add_argument("--recipe", metavar="NAME", help="how images become superpixel graphs, where a task has a choice")
    run.add_argument("--remedy", metavar="A+B", help="in place of the task's own, as batchnorm+residual; see 'depth'")
    run.add_argument("--clip", type=float, metavar="X", help="shorten gradients that are longer than this in a step")
    run.add_argument("--precision", metavar="P", help="bfloat16: matrix products in training round to it")
    run.add_argument("--schedule", metavar="S", help="of the learning rate over the epochs: constant, cosine, warmup")
    run.add_argument("--patience", type=int, metavar="N", help="end after N epochs without a better validation")
    run.add_argument("--save", action="store_true", help="keep the best seed's model, with a card, beside the results")
    run.add_argument("--tensorboard", action="store_true", help="write the curves for TensorBoard too")
    run.add_argument(
        "--mode", metavar="M", help="of a step on a large graph: full (default), sampled, clusters, propagated"
    )
    run.add_argument("--labels", metavar="A+B", help="labels of nodes used besides: input, distil, correct-smooth")
    _add_folders(run)
    run.add_argument("--device", default="cpu", metavar="D", help="cpu (default), cuda, cuda:1, ...")
    run.add_argument("--fresh", action="store_true", help="start anew; an earlier result is kept beside")


def _add_speed(commands: Any) -> None:
    speed = commands.add_parser(
        "speed",
        help="time layers beside dgl.nn's and PyG's; add to speed.json and draw speed.png",
        **WITH_EXAMPLES,
    )
    speed.add_argument(
        "--only", type=_names, metavar="A,B", help="workloads or groups of them (default: all but remedies)"
    )
    speed.add_argument("--quick", action="store_true", help="graphs an eighth as large, the default allocator only")
    speed.add_argument("--repeats", type=_positive, metavar="N", help="of each step; medians count (5; quick: 3)")
    speed.add_argument("--shrink", type=_positive, metavar="N", help="graphs N times smaller (1; quick: 8)")
    speed.add_argument("--threads", type=_numbers, metavar="N,M", help="one run for each (default: torch's own number)")
    speed.add_argument(
        "--allocators",
        type=_names,
        metavar="A,B",
        help="default, keep (glibc's, holding on to its heap), huge (PyTorch's, asking for huge pages), a run for each "
        "(default and keep; quick: default)",
    )
    speed.add_argument("--out", type=Path, default=Path("results"), metavar="DIR", help="default: results")


def _add_hosts(commands: Any) -> None:
    partition = commands.add_parser(
        "partition", help="cut a node task's graph into parts, one a host (METIS); see docs/distributed.md"
    )
    partition.add_argument("name", metavar="TASK", help="a task on the nodes of one graph")
    partition.add_argument("--parts", type=_positive, required=True, metavar="N", help="as many as there are hosts")
    partition.add_argument("--limit", type=_positive, metavar="N", help="as of 'run'")
    partition.add_argument("--data", type=Path, metavar="DIR", help="where the task's files lie")
    partition.add_argument("--out", type=Path, required=True, metavar="DIR", help="a folder for the parts")
    scaling = commands.add_parser(
        "scaling",
        help="the same training with more threads and with more processes; write scaling.json",
        description="What follows the task is for 'run': scaling --processes 2 ogbg-molhiv --epochs 2 --layers gin",
    )
    scaling.add_argument("--processes", type=_positive, default=2, metavar="N", help="and as many threads (2)")
    scaling.add_argument("--out", type=Path, default=Path("results"), metavar="DIR", help="default: results")
    scaling.add_argument("name", metavar="TASK", help="a task whose batches several processes can share")
    scaling.add_argument("arguments", nargs=argparse.REMAINDER, metavar="OPTION", help="of 'run'")
    host = commands.add_parser(
        "host",
        help="train on a graph in parts: said on every host, serves its part and starts its trainers",
        description="What follows the folder is for 'run': host --addresses 10.0.0.1,10.0.0.2 parts --epochs 5",
    )
    host.add_argument("--addresses", type=_names, required=True, metavar="A,B", help="of all hosts, part by part: IPv4")
    host.add_argument("--trainers", type=_positive, default=1, metavar="N", help="processes on each host (1)")
    host.add_argument("--port", type=_positive, default=29500, metavar="P", help="and the next, free on all (29500)")
    host.add_argument("folder", type=Path, metavar="DIR", help="that 'partition' wrote; each host needs its own part")
    host.add_argument("arguments", nargs=argparse.REMAINDER, metavar="OPTION", help="of 'run'")


def _add_depth(commands: Any) -> None:
    depth = commands.add_parser(
        "depth",
        help="train convolutions x remedies x depths x seeds; write results.json and report.html",
        description="Accuracy by depth with and without remedies, and what the layers look like inside. Each cell of "
        "convolution, remedy, depth and seed is trained with Adam on full batches and early stopping. A remedy is what "
        "its name says and nothing else: the plain net, none, has no dropout and no weight decay. With + several go "
        "together: gcnii+dropout.",
        **WITH_EXAMPLES,
    )
    depth.add_argument(
        "name", nargs="?", default="digits", metavar="DATA", help="digits (default), cora, citeseer, pubmed"
    )
    depth.add_argument("--convs", type=_names, metavar="A,B", help="gcn, gin, gat, sage, sgc, sgc-hops, mlp")
    depth.add_argument("--remedies", type=_names, metavar="A,B+C", help="none, batchnorm, ...; a wrong name lists all")
    depth.add_argument("--depths", type=_numbers, metavar="N,M", help="numbers of layers, or of hops")
    depth.add_argument("--seeds", type=_positive, default=1, metavar="N", help="run seeds 0 to N-1 (default: 1)")
    depth.add_argument("--epochs", type=_positive, metavar="N", help="at most (500; digits: 100, pubmed: 200)")
    depth.add_argument(
        "--patience", type=_positive, metavar="N", help="epochs without a better one (100; digits: 40, pubmed: 50)"
    )
    depth.add_argument(
        "--width", type=_positive, metavar="N", help="features of the layers between (64; digits, pubmed: 32)"
    )
    depth.add_argument("--lr", type=float, metavar="X", help="Adam's learning rate (0.01)")
    depth.add_argument("--weight-decay", type=float, metavar="X", help="of the remedy decay (0.0005)")
    depth.add_argument("--drop", type=float, metavar="P", help="of dropout, dropedge, dropnode, dropmessage (0.5)")
    depth.add_argument("--jobs", type=_positive, metavar="N", help="processes, one thread each (default: the cores)")
    _add_folders(depth)


def _add_memory(commands: Any) -> None:
    memory = commands.add_parser(
        "memory",
        help="memory and time of a training step by depth; add to memory.json",
        description="A training step of a deep GCN, on one thread: with initial residuals, plain; checkpointed, which "
        "keeps the outputs of every sqrt(L)-th of L layers and computes the others again; and reversible, which keeps "
        "the last alone. Each figure comes from a process of its own.",
        **WITH_EXAMPLES,
    )
    memory.add_argument("name", nargs="?", default="digits", metavar="DATA", help="as for 'depth' (default: digits)")
    memory.add_argument("--depths", type=_numbers, default=[10, 100, 1000], metavar="N,M", help="default: 10,100,1000")
    memory.add_argument(
        "--ways", type=_names, metavar="A,B", help="of plain, checkpointed, reversible (default: all three)"
    )
    memory.add_argument("--width", type=_positive, default=64, metavar="N", help="features between layers (64)")
    _add_folders(memory)


def _add_folders(command: argparse.ArgumentParser) -> None:
    command.add_argument("--data", type=Path, metavar="DIR", help="where files lie (else GNNLIB_DATA, cache, download)")
    command.add_argument("--out", type=Path, default=Path("results"), metavar="DIR", help="default: results")


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected 1 or more, got {value}")
    return value


def _numbers(text: str) -> list[int]:
    return [_positive(part) for part in text.split(",")]


def _names(text: str) -> list[str]:
    return list(dict.fromkeys(name.strip() for name in text.split(",")))
