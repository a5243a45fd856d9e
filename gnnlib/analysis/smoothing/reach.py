"""How much the outputs of nodes depend on distant nodes (over-squashing: Alon and Yahav 2021; Topping et al. 2022)."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from gnnlib._utils.model_state import evaluation_mode
from gnnlib.analysis.smoothing.base import hop_distances
from gnnlib.analysis.smoothing.passes import Forward, control_graph
from gnnlib.graph import GraphLike

__all__ = ["Reach", "influences", "measure_reach"]

MAX_NODES = 8
"""Whose outputs are examined, each by a backward pass on the graph and on the control graph. The measures are of pairs
of nodes, of which 8 nodes have thousands on a graph where distances matter."""

DISTANT = 3
"""Hops from which a node is distant. Two layers reach nodes at one and two hops, also on graphs with hubs."""


MARGIN = 10.0
"""How many times the influence through norms an influence through messages has at least."""


class Reach(NamedTuple):
    """Of the pairs of nodes of which the first influences the output of the second through messages."""

    distant: float  # the fraction of pairs that are 3 or more hops apart
    influence: float  # the median influence over these, relative to the mean influence of the neighbours; else nan


def measure_reach(
    model: nn.Module, graph: GraphLike, x: Tensor, forward: Forward, layers: Sequence[tuple[str, nn.Module]]
) -> Reach:
    """The reach of a model; (0, nan) if no layer has a row per node, or no node influences another one.

    On the control graph, nodes influence each other through norms over all nodes at most. Only what is more on the
    graph itself comes through messages. The influence of a node on itself is no reference: self-loops and residual
    connections carry it past the graph.
    """
    nodes = torch.randperm(graph.num_nodes(), generator=torch.Generator().manual_seed(0))[:MAX_NODES].sort().values
    actual, control = (influences(model, g, x, forward, layers, nodes) for g in (graph, control_graph(graph)))
    if actual is None or control is None:
        return Reach(0.0, math.nan)
    hops = torch.from_numpy(hop_distances(graph, nodes))
    connected = (hops > 0) & hops.isfinite()
    coupling = (control * connected).amax(1, keepdim=True) / control.amax(1, keepdim=True)
    pairs = (actual > MARGIN * coupling * actual.amax(1, keepdim=True)) & connected
    near, distant = pairs & (hops == 1), pairs & (hops >= DISTANT)
    reference = (actual * near).sum(1, keepdim=True) / near.sum(1, keepdim=True)
    values = (actual / reference)[distant]
    values = values[values.isfinite()]
    if not len(values):
        return Reach(0.0, math.nan)
    return Reach((distant.sum() / pairs.sum()).item(), values.median().item())


def influences(
    model: nn.Module,
    graph: GraphLike,
    x: Tensor,
    forward: Forward,
    layers: Sequence[tuple[str, nn.Module]],
    nodes: Tensor,
) -> Tensor | None:
    """(nodes, N) in float64: the norm of the derivative of a random signed sum of the outputs of each of some nodes
    with respect to the input of each node, which estimates that of the Jacobian (Hutchinson 1990).

    The output is that of the model or, if it has no row per node, of the last layer that has.
    """
    outputs: list[Tensor] = []
    handles = [layer.register_forward_hook(lambda module, args, out: outputs.append(out)) for _, layer in layers]
    x = x.detach().clone().requires_grad_()
    try:
        with evaluation_mode(model), torch.random.fork_rng(devices=[]), torch.enable_grad():
            torch.manual_seed(0)
            outputs.append(forward(model, graph, x.clone()))
            return _jacobian_norms(outputs, x, nodes)
    finally:
        for handle in handles:
            handle.remove()


def _jacobian_norms(outputs: list[Tensor], x: Tensor, nodes: Tensor) -> Tensor | None:
    rows = [y for y in outputs if isinstance(y, Tensor) and y.dim() > 1 and len(y) == len(x) and y.requires_grad]
    if not rows:
        return None
    y = rows[-1].flatten(1)
    signs = torch.randint(2, y.shape, generator=torch.Generator().manual_seed(0)).to(y) * 2 - 1
    values = [torch.autograd.grad(y[v] @ signs[v], x, retain_graph=True, materialize_grads=True)[0] for v in nodes]
    return torch.stack([value.double().flatten(1).norm(dim=1).cpu() for value in values])
