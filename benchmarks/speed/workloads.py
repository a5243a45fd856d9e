"""The catalogue of workloads, with their target speed-ups over each peer."""

from collections.abc import Callable, Iterable
from functools import partial
from math import isqrt

import torch

from gnnlib.benchmarks.errors import UsageError
from gnnlib.benchmarks.speed import (
    accelerated,
    batches,
    convert,
    device,
    graphs,
    grid,
    growth,
    pyg_scripts,
    remedies,
    single,
)
from gnnlib.benchmarks.speed.layers import GAT, GCN, GIN, SAGE, Kind, ecc, messages
from gnnlib.benchmarks.speed.measure import Case, Workload
from gnnlib.images import recipes


def _large(shrink: int):
    return graphs.power_law_graph(graphs.NUM_NODES // shrink, graphs.NUM_LINKS // shrink)


def _layer(name: str, kind: Kind, sweeps: int, **targets: float) -> Workload:
    """Three layers 128 wide; the input needs no gradient."""

    def make(shrink: int) -> Case:
        return single.step_case(kind, _large(shrink), [single.WIDTH] * 4, sweeps=sweeps)

    return Workload(name, kind.title, "layers", make, targets)


def _sum(name: str, title: str, coeffs: int, **targets: float) -> Workload:
    def make(shrink: int) -> Case:
        return single.aggregation_case(_large(shrink), coeffs)

    return Workload(name, title, "aggregation", make, {**targets, "bound": 2 / 3})


def _bfloat16_sum(name: str, title: str, coeffs: int) -> Workload:
    def make(shrink: int) -> Case:
        return single.bfloat16_sum_case(_large(shrink), coeffs)

    return Workload(f"bfloat16-{name}", f"{title}, bfloat16", "bfloat16", make, {"float32": 1.7})


def _bfloat16_step(name: str, kind: Kind, with_instructions: float, without: float) -> list[Workload]:
    """A step in bfloat16, with the processor's instructions for it and without them."""
    workloads = []
    for suffix, title, instructions, least in (
        ("", "bfloat16", True, with_instructions),
        ("-widened", "bfloat16, widened", False, without),
    ):

        def make(shrink: int, instructions: bool = instructions) -> Case:
            return single.bfloat16_step_case(kind, _large(shrink), [single.WIDTH] * 4, instructions)

        workloads.append(
            Workload(f"bfloat16-{name}{suffix}", f"{kind.title}, {title}", "bfloat16", make, {"float32": least})
        )
    return workloads


def _compiled(name: str, kind: Kind) -> Workload:
    def make(shrink: int) -> Case:
        return single.compiled_case(kind, _large(shrink), [single.WIDTH] * 4)

    return Workload(f"compiled-{name}", f"{kind.title}, compiled", "compiled", make)


def _ecc(hidden: int, **targets: float) -> Workload:
    def make(shrink: int) -> Case:
        return single.ecc_case(ecc(8, hidden), hidden, 25_000 // shrink)

    return Workload(f"ecc-{hidden}", f"ECC, hidden {hidden}", "ecc", make, targets)


def _batches(name: str, kind: Kind, size: Callable[[int], int], **targets: float) -> Workload:
    def make(shrink: int) -> Case:
        return batches.training_case(kind, graphs.superpixel_graphs, size(shrink))

    return Workload(f"superpixels-{name}", f"superpixels, {kind.title}", "superpixels", make, targets)


def _large_batch(shrink: int) -> int:
    """Graphs in a batch of expensive layers."""
    return max(2, 128 // shrink)


def _small_batch(shrink: int) -> int:
    """Graphs in a batch of cheap layers, which is shrunk less: a smaller batch would measure overhead."""
    return _large_batch(max(1, shrink // 8))


def _pixels(shrink: int) -> Case:
    return batches.training_case(GCN, partial(graphs.pixel_graphs, side=28), _large_batch(shrink), batches.BATCHES)


def _all_pairs(shrink: int) -> Case:
    return single.all_pairs_case(max(2, isqrt(784 // shrink)), max(2, 64 // shrink))


def _network(name: str, title: str) -> Workload:
    """Not shrunk: a smaller batch would measure overhead."""
    return Workload(f"grid-{name}", title, "grid", lambda _: grid.network_case(name), {"torch": 1 / 1.05})


def _conv(name: str, title: str, train: bool) -> Workload:
    return Workload(name, title, "grid", lambda _: grid.conv_case(train), {"torch": 1 / 12})


def _remedy(name: str) -> Workload:
    """Not shrunk: the graph is small."""
    return Workload(f"remedy-{name}", name, "remedies", lambda _: remedies.remedy_case(name))


def _accelerated(name: str) -> Workload:
    least = {"GATConv": 2.5, "weighted GraphConv": 3.5}.get(name, 0.97)
    make = partial(accelerated.accelerated_case, name)
    return Workload(f"accelerate-{name.replace(' ', '-')}", f"dgl.nn, {name}", "accelerate", make, {"dgl": least})


def _script(name: str, least: float) -> Workload:
    make = partial(pyg_scripts.script_case, name)
    return Workload(f"pyg-script-{name}", f"PyG script, {name}", "pyg-scripts", make, {"pyg": least})


def _growth(step: str, title: str) -> list[Workload]:
    """A sixteenth of the nodes, so that the edges dominate."""
    num_nodes, num_links = graphs.NUM_NODES // 16, graphs.NUM_LINKS // 16
    workloads = []
    for along, case, links in (
        ("edges", growth.along_edges, num_links),
        ("width", growth.along_width, num_links * 4),
    ):
        if (step, along) == ("dense", "edges"):
            continue

        def make(shrink: int, case: Callable = case, links: int = links) -> Case:
            return case(step, num_nodes // shrink, links // shrink)

        # a dense product grows with the square of the width in every library
        targets = {} if step == "dense" else {"exponent": 1.1}
        workloads.append(Workload(f"{along}-{step}", f"{title}, more {along}", "growth", make, targets))
    return workloads


WORKLOADS = [
    _layer("gcn", GCN, 5, dgl=1.3, pyg=10),
    _layer("gin", GIN, 5, dgl=1.2, pyg=8),
    _layer("gat", GAT, 9, dgl=3, pyg=5),
    _layer("sage", SAGE, 5),
    Workload(
        "sgc",
        "SGC propagation, 2 hops",
        "layers",
        lambda n: single.propagation_case(_large(n)),
        {"dgl": 1.4, "pyg": 8},
    ),
    _sum("sum", "sum", 0),
    _sum("weighted", "sum, one weight", 1, dgl=5, pyg=8),
    _sum("weighted-heads", "sum, four heads", 4, dgl=5, pyg=8),
    _bfloat16_sum("sum", "sum", 0),
    _bfloat16_sum("weighted", "sum, one weight", 1),
    *_bfloat16_step("gcn", GCN, 1.5, 1.2),
    *_bfloat16_step("gin", GIN, 1.5, 1.1),
    *_bfloat16_step("gat", GAT, 1.5, 1.25),
    *(_compiled(name, kind) for name, kind in {"gcn": GCN, "gin": GIN, "gat": GAT, "sage": SAGE}.items()),
    _ecc(16, dgl=10, pyg=10, peak=0.1),
    _ecc(64, dgl=4, pyg=4),
    Workload(
        "batching",
        "superpixels, batching",
        "superpixels",
        lambda n: batches.batching_case(graphs.superpixel_graphs, _small_batch(n)),
        {"dgl": 5, "pyg": 10},
    ),
    _batches("gcn", GCN, _small_batch, dgl=1.5, pyg=4),
    _batches("gin", GIN, _small_batch, dgl=1.2, pyg=3),
    _batches("gat", GAT, _small_batch, dgl=3, pyg=6),
    _batches("ecc", ecc(2, 16), _large_batch, dgl=6, pyg=6),
    _batches("messages", messages(2), _large_batch, dgl=2.5, pyg=5),
    Workload(
        "convert",
        "a digit, recipe of Knyazev",
        "images",
        lambda n: convert.recipe_case(recipes.knyazev, max(8, 256 // n)),
        {"ms": 2 * 90e3 / 70_000},  # MNIST in 90 s on two cores
    ),
    Workload(
        "photograph",
        "1000 superpixels of 1 megapixel",
        "images",
        lambda n: convert.photograph_case(isqrt(1_000_000 // n), 1000 // n),
        {"ms": 2000},
    ),
    Workload(
        "loader",
        "128 graphs from the disk",
        "images",
        lambda n: convert.loader_case(recipes.dwivedi, _small_batch(n)),
        {"dgl": 5, "pyg": 5, "ms": 128e3 / 50_000},
    ),
    Workload("pixels-gcn", "pixels, GCN", "pixels", _pixels),
    Workload("all-pairs", "predicted edges, all pairs", "pixels", _all_pairs),
    _network("lenet", "LeNet-5, dense"),
    _network("cnn", "Keras-style CNN, dense"),
    _network("vgg", "VGG-16 on 32 x 32, dense"),
    _conv("grid-conv", "convolution as a graph", train=False),
    _conv("grid-conv-train", "the same, with gradients", train=True),
    *(_accelerated(name) for name in accelerated.LAYERS),
    *([_script("GCNConv", 5), _script("GATConv", 8)] if pyg_scripts.INSTALLED else []),
    *(_remedy(name) for name in remedies.COSTLY),
    *_growth("aggregate", "sum, one weight"),
    *_growth("gcn", "GCN step"),
    *_growth("gat", "GAT step"),
    *_growth("dense", "GCN's dense part"),
]


ON_REQUEST = {"remedies", "compiled"}
"""Groups that run if they are named: remedies are many, and compiled steps need a C++ compiler."""


def choose(names: Iterable[str] | None, on: str = "cpu") -> list[Workload]:
    """The workloads of some names or groups, in the order of the catalogue.

    Args:
        names: of workloads or groups; None takes all groups but those of `ON_REQUEST`
        on: the device, which has a catalogue of its own if it is not the CPU

    Raises:
        UsageError: if a name is unknown
    """
    workloads = WORKLOADS if on == "cpu" else device.workloads(torch.device(on))
    groups = dict.fromkeys(workload.group for workload in workloads)
    selection = set(names) if names is not None else groups.keys() - ON_REQUEST
    if unknown := selection - {name for workload in workloads for name in (workload.name, workload.group)}:
        raise UsageError(
            f"--only: unknown {', '.join(map(repr, sorted(unknown)))}; expected some of: "
            f"{', '.join(workload.name for workload in workloads)}; or the groups {', '.join(groups)}"
        )
    return [workload for workload in workloads if selection & {workload.name, workload.group}]
