"""How long a training step takes, beside the same step in ``dgl.nn``: same graph, same weights, same output."""

import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.results import commit, machine, versions
from datasets.files import atomic_write, track
from gnnlib import GATConv, GCNConv
from gnnlib._dgl import dgl

if TYPE_CHECKING:
    from rich.table import Table

NUM_NODES, NUM_LINKS, WIDTH, CLASSES = 169_343, 1_160_000, 128, 40  # the size of ogbn-arxiv
QUICK = 8  # how many times smaller a quick run's graph is


@dataclass(frozen=True)
class Row:
    """Seconds of each repetition, ours and the peer's, and how far their outputs are apart."""

    workload: str
    ours: list[float]
    peer: list[float]
    difference: float

    @property
    def ratio(self) -> float:
        """How many times faster we are: the median of the ratios of neighbouring repetitions."""
        return statistics.median(p / o for p, o in zip(self.peer, self.ours, strict=True))


def power_law_graph(shrink: int = 1, seed: int = 0) -> dgl.DGLGraph:
    """169343 nodes and 2489343 edges (divided by ``shrink``): links to popular nodes, their reverses, self-loops."""
    num_nodes, num_links = NUM_NODES // shrink, NUM_LINKS // shrink
    rng = np.random.default_rng(seed)
    share = (np.arange(num_nodes) + 10.0) ** -0.7
    popular = rng.permutation(num_nodes)[rng.choice(num_nodes, num_links, p=share / share.sum())]
    other, every = rng.integers(0, num_nodes, num_links), np.arange(num_nodes)
    src, dst = np.concatenate([popular, other, every]), np.concatenate([other, popular, every])
    return dgl.graph((src, dst), num_nodes=num_nodes)


def _step(layers: list[nn.Module], graph: dgl.DGLGraph, x: Tensor, target: Tensor) -> None:
    for i, layer in enumerate(layers):
        x = layer(graph, x).flatten(1)
        if i + 1 < len(layers):
            x = torch.relu(x)
    nn.functional.cross_entropy(x, target).backward()


def workloads() -> dict[str, tuple[Callable[[], nn.Module], Callable[[], nn.Module]]]:
    """What makes a layer of ours, and its peer."""
    from dgl.nn import GATConv as PeerGAT  # after gnnlib, without which DGL may not import
    from dgl.nn import GraphConv as PeerGCN

    return {
        "GCN, 3 layers 128 wide": (lambda: GCNConv(WIDTH, WIDTH), lambda: PeerGCN(WIDTH, WIDTH)),
        "GAT, 3 layers of 4 heads 32 wide": (lambda: GATConv(WIDTH, 32, 4), lambda: PeerGAT(WIDTH, 32, 4)),
    }


def measure(repeats: int = 5, shrink: int = 1) -> list[Row]:
    """One forward and backward pass each, ours and the peer's in turn, after one of each that is not counted."""
    torch.manual_seed(0)
    graph = power_law_graph(shrink)
    graph.create_formats_()
    x = torch.randn(graph.num_nodes(), WIDTH)
    target = torch.randint(0, CLASSES, (graph.num_nodes(),))
    rows = []
    for name, (make, make_peer) in workloads().items():
        ours, peer = [make() for _ in range(3)], [make_peer() for _ in range(3)]
        for mine, theirs in zip(ours, peer, strict=True):
            mine.load_state_dict(theirs.state_dict())
        with torch.no_grad():
            difference = (ours[0](graph, x) - peer[0](graph, x)).abs().max().item()
        if not difference < 1e-4:
            raise ValueError(f"{name}: expected the outputs of both to agree, they differ by {difference:.3g}")
        seconds: tuple[list[float], list[float]] = ([], [])
        for _ in track(range(repeats + 1), name):
            for layers, times in zip((ours, peer), seconds, strict=True):
                start = time.perf_counter()
                _step(layers, graph, x, target)
                times.append(time.perf_counter() - start)
        rows.append(Row(name, seconds[0][1:], seconds[1][1:], difference))
    return rows


def table(rows: list[Row]) -> "Table":
    """For the terminal."""
    from rich.table import Table

    shown = Table("training step", "gnnlib (s)", "dgl.nn (s)", "dgl.nn / gnnlib", "outputs differ by")
    for row in rows:
        ours, peer = (f"{statistics.median(times):.3f}" for times in (row.ours, row.peer))
        shown.add_row(row.workload, ours, peer, f"{row.ratio:.2f}", f"{row.difference:.1e}")
    return shown


def write(rows: list[Row], out: Path) -> Path:
    document: dict[str, Any] = {
        "rows": [{**vars(row), "ratio": row.ratio} for row in rows],
        "versions": versions(),
        "commit": commit(),
        "machine": machine(),
    }
    path = out / "speed.json"
    with atomic_write(path) as partial:
        partial.write_text(json.dumps(document, indent=1) + "\n")
    return path
