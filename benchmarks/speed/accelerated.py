"""Workloads on DGL's own layers: a training step under `gnnlib.accelerate`, and without."""

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

import gnnlib
from gnnlib._platform.dgl import dgl
from gnnlib.benchmarks.speed.graphs import power_law_graph
from gnnlib.benchmarks.speed.measure import Case

NUM_NODES, NUM_LINKS, WIDTH, HEADS = 20_000, 150_000, 64, 4

Result = TypeVar("Result")
_ATTENTION = WIDTH, WIDTH // HEADS, HEADS
LAYERS: dict[str, Callable[[], nn.Module]] = {
    "GraphConv": lambda: dgl.nn.GraphConv(WIDTH, WIDTH),
    "weighted GraphConv": lambda: dgl.nn.GraphConv(WIDTH, WIDTH),
    "GATConv": lambda: dgl.nn.GATConv(*_ATTENTION),
    "GATv2Conv": lambda: dgl.nn.GATv2Conv(*_ATTENTION),
    "AGNNConv": lambda: dgl.nn.AGNNConv(),
    "DotGatConv": lambda: dgl.nn.DotGatConv(*_ATTENTION),
    "SAGEConv": lambda: dgl.nn.SAGEConv(WIDTH, WIDTH, "mean"),
    "GINConv": lambda: dgl.nn.GINConv(nn.Linear(WIDTH, WIDTH)),
}


def accelerated_case(name: str, shrink: int) -> Case:
    """One layer, forward and backward, with a gradient for the input."""
    torch.manual_seed(0)
    graph: Any = power_law_graph(NUM_NODES // shrink, NUM_LINKS // shrink)
    graph.create_formats_()
    layer, x = LAYERS[name](), torch.randn(graph.num_nodes(), WIDTH, requires_grad=True)
    inputs = {"edge_weight": torch.rand(graph.num_edges())} if name.startswith("weighted") else {}

    def output() -> Tensor:
        return layer(graph, x, **inputs)

    def step() -> None:
        layer.zero_grad(set_to_none=True)
        x.grad = None
        output().square().sum().backward()

    return Case({"gnnlib": _accelerated(step), "dgl": step}, {"gnnlib": _accelerated(output), "dgl": output})


def _accelerated(function: Callable[[], Result]) -> Callable[[], Result]:
    def run() -> Result:
        with gnnlib.accelerate():
            return function()

    return run
