"""Workloads of a PyG script: a training step on PyG's layers, and on those of `gnnlib.compat.pyg_nn`."""

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from typing import Any

import torch
from torch import nn

from gnnlib.benchmarks.speed.graphs import NUM_LINKS, NUM_NODES, power_law_graph
from gnnlib.benchmarks.speed.layers import HEADS, pyg
from gnnlib.benchmarks.speed.measure import Case
from gnnlib.benchmarks.speed.single import CLASSES, WIDTH, forward, training
from gnnlib.graph import edge_endpoints

LAYERS: dict[str, Callable[[Any], nn.Module]] = {
    "GCNConv": lambda library: library.GCNConv(WIDTH, WIDTH),
    "GATConv": lambda library: library.GATConv(WIDTH, WIDTH // HEADS, HEADS),
}
"""Makes a layer from the module that a script imports it from."""

INSTALLED = find_spec("torch_geometric") is not None


def script_case(name: str, shrink: int) -> Case:
    """Three layers, called as a script of PyG calls them."""
    from gnnlib.compat import pyg_nn

    torch.manual_seed(0)
    edge_index = torch.stack(edge_endpoints(power_law_graph(NUM_NODES // shrink, NUM_LINKS // shrink)))
    num_nodes = NUM_NODES // shrink
    x, target = 1e-3 * torch.randn(num_nodes, WIDTH), torch.randint(0, CLASSES, (num_nodes,))
    networks = {
        library: nn.ModuleList(LAYERS[name](module) for _ in range(3))
        for library, module in (("gnnlib", pyg_nn), ("pyg", pyg()))
    }
    networks["pyg"].load_state_dict(networks["gnnlib"].state_dict())
    runs = {
        library: partial(forward, network, lambda layer, h: layer(h, edge_index), x)
        for library, network in networks.items()
    }
    return Case({library: training(networks[library], run, target) for library, run in runs.items()}, {**runs})
