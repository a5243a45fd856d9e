"""Workloads on remedies: a training step of a deep network with a remedy, and of the same network without."""

from collections.abc import Callable

import torch
from torch import Tensor

from gnnlib._platform.dgl import dgl
from gnnlib.benchmarks.catalog.remedies import REMEDIES, make_plan
from gnnlib.benchmarks.speed.graphs import power_law_graph
from gnnlib.benchmarks.speed.measure import Case
from gnnlib.benchmarks.speed.single import training

NUM_NODES, NUM_LINKS = 2708, 5278  # Cora's
DEPTH, WIDTH, CLASSES = 16, 64, 7
OUTSIDE = ("none", "decay", "layerwise", "variance", "sdrf", "fosr", "gtr", "k-hop", "virtual-node")
COSTLY = [name for name in REMEDIES if not name.startswith(OUTSIDE)]
"""The remedies that change a step; the others change the graph, the initial weights or the optimizer."""


def remedy_case(name: str) -> Case:
    """Layers of GCN on a graph of Cora's size, forward and backward. Where a remedy changes the number of layers, the
    network's time is still divided by `DEPTH`."""
    graph = power_law_graph(NUM_NODES, NUM_LINKS)
    x = torch.randn(NUM_NODES, WIDTH, generator=torch.Generator().manual_seed(0))
    return Case({"gnnlib": _step(name, graph, x), "plain": _step("none", graph, x)})


def _step(name: str, graph: dgl.DGLGraph, x: Tensor) -> Callable[[], None]:
    torch.manual_seed(0)
    net = make_plan("gcn", name, DEPTH, (WIDTH, WIDTH, CLASSES)).build(graph, x)
    target = torch.arange(NUM_NODES) % CLASSES
    return training(net, lambda: net(graph, x), target)
