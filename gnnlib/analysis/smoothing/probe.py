"""Looking inside a model: what each layer puts out, with the graph's edges and without, and the gradient there."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from gnnlib._platform.dgl import dgl
from gnnlib._utils.model_state import preserve_state
from gnnlib.analysis.smoothing.base import components, mean_of_group
from gnnlib.analysis.smoothing.distance import mean_average_distance
from gnnlib.analysis.smoothing.energy import dead_share, dirichlet_energy, effective_rank, numerical_rank
from gnnlib.analysis.smoothing.running import Call, default_call, find_layers, run, unlinked

__all__ = ["LayerStatistics", "Probe", "probe"]


@dataclass(frozen=True)
class LayerStatistics:
    """What a layer puts out. Measures of nodes are nan where it has no row for each node, or values not finite."""

    name: str
    finite: bool
    norm: float  # root mean square
    distance: float  # mean average distance over connected pairs
    energy: float  # Dirichlet, by degree, over the squared norm: 0 to 2
    numerical_rank: float
    effective_rank: float
    dead: float  # share of features
    spread: float  # mean squared distance from the mean of a node's component
    gradient: float  # norm of the loss's derivative; nan where there is none, inf where it is not finite
    unlinked_distance: float  # the same where each node hears itself alone
    unlinked_spread: float
    unlinked_gradient: float


class Probe(NamedTuple):
    """What a model does on a graph."""

    layers: list[LayerStatistics]
    output: LayerStatistics
    values: Tensor  # the output itself
    input_gradient: float


def probe(
    model: nn.Module,
    graph: dgl.DGLGraph,
    x: Tensor,
    loss: Callable[[Tensor], Tensor],
    call: Call = default_call,
    layers: Sequence[tuple[str, nn.Module]] | None = None,
) -> Probe:
    """Every layer, and the output as a layer: once forward and back, and the same `unlinked`."""
    layers = find_layers(model) if layers is None else layers
    with preserve_state(model), torch.enable_grad():
        alone = run(model, unlinked(graph), x, loss, call, layers)
        linked = run(model, graph, x, loss, call, layers)
    pairs = zip(linked.layers, linked.gradients, alone.layers, alone.gradients, strict=True)
    rows = [_layer(graph, name, y, g, other, g_other) for (name, y), g, (_, other), g_other in pairs]
    output = _layer(graph, "output", linked.output, None, alone.output, None)
    return Probe(rows, output, linked.output, _norm(linked.of_input))


def _norm(gradient: Tensor | None) -> float:
    if gradient is None:
        return math.nan
    return gradient.double().norm().item() if bool(gradient.isfinite().all()) else math.inf


def _layer(
    graph: dgl.DGLGraph, name: str, y: Tensor, gradient: Tensor | None, alone: Tensor, alone_gradient: Tensor | None
) -> LayerStatistics:
    return LayerStatistics(
        name,
        finite=bool(y.isfinite().all()),
        norm=y.double().square().mean().sqrt().item(),
        **_measures(graph, y),
        gradient=_norm(gradient),
        unlinked_distance=_distance(graph, alone),
        unlinked_spread=_spread(graph, alone),
        unlinked_gradient=_norm(alone_gradient),
    )


def _of_nodes(graph: dgl.DGLGraph, y: Tensor) -> Tensor | None:
    """(N, F) in float64 where y has finite rows for the nodes."""
    rows = y.unsqueeze(-1).flatten(1).double() if len(y) == graph.num_nodes() else None
    return rows if rows is not None and bool(rows.isfinite().all()) else None


def _distance(graph: dgl.DGLGraph, y: Tensor) -> float:
    rows = _of_nodes(graph, y)
    return math.nan if rows is None else mean_average_distance(graph, rows, most=math.inf).nanmean().item()


def _spread(graph: dgl.DGLGraph, y: Tensor) -> float:
    rows = _of_nodes(graph, y)
    if rows is None:
        return math.nan
    return (rows - mean_of_group(components(graph, y.device), rows)).square().sum(-1).mean().item()


def _measures(graph: dgl.DGLGraph, y: Tensor) -> dict[str, float]:
    rows = _of_nodes(graph, y)
    names = ("energy", "numerical_rank", "effective_rank", "dead")
    if rows is None:
        return dict.fromkeys((*names, "distance", "spread"), math.nan)
    square = rows.square().sum().clamp(min=torch.finfo(rows.dtype).tiny)
    return {
        "distance": _distance(graph, y),
        "spread": _spread(graph, y),
        "energy": (dirichlet_energy(graph, rows, norm="both").sum() / square).item(),
        "numerical_rank": numerical_rank(graph, rows).mean().item(),
        "effective_rank": effective_rank(graph, rows).mean().item(),
        "dead": dead_share(graph, rows).mean().item(),
    }
