"""Statistics of the outputs and gradients of each layer, on the graph and on its control graph."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from gnnlib._utils.calls import names_checked
from gnnlib._utils.model_state import preserve_state
from gnnlib.analysis.smoothing.base import components, group_mean
from gnnlib.analysis.smoothing.distance import mad
from gnnlib.analysis.smoothing.energy import dead_feature_fraction, effective_rank, numerical_rank, rayleigh_quotient
from gnnlib.analysis.smoothing.passes import Forward, control_graph, default_forward, find_layers, record_layers
from gnnlib.graph import GraphLike

__all__ = ["LayerStatistics", "Probe", "average_of", "probe"]

SYMMETRIC = {"APPNP", "ChebConv", "DAGNN", "GCN2Conv", "GCNConv", "GCNII", "SGConv", "TAGConv"}
"""Layers that divide by the square roots of both degrees and have no argument that says so."""


@names_checked()
@dataclass(frozen=True)
class LayerStatistics:
    """Statistics of a layer's output. Measures of nodes are nan unless it has one finite row per node."""

    name: str
    finite: bool
    norm: float  # root mean square
    distance: float  # mean average distance of connected pairs
    average: str  # the norm of `rayleigh_quotient` that fits the layer: "both" for GCN's average, else "right"
    energy: float  # `rayleigh_quotient` with this norm: 0 to 2
    numerical_rank: float
    effective_rank: float
    dead: float  # fraction of features
    spread: float  # mean squared distance from the mean of the component
    gradient: float  # norm of the derivative of the loss; nan if there is none, inf if it is not finite
    control_distance: float  # the same on the control graph
    control_spread: float
    control_gradient: float

    @property
    def measure(self) -> str:
        """The energy that fits the layer, as a call of `gnnlib.analysis.smoothing`."""
        return f'rayleigh_quotient(graph, x, norm="{self.average}")'


class Probe(NamedTuple):
    """The statistics of a model on a graph."""

    layers: list[LayerStatistics]
    output: LayerStatistics
    values: Tensor  # of the output
    input_gradient: float
    widths: list[int]  # of the layers


def probe(
    model: nn.Module,
    graph: GraphLike,
    x: Tensor,
    loss: Callable[[Tensor], Tensor],
    forward: Forward = default_forward,
    layers: Sequence[tuple[str, nn.Module]] | None = None,
) -> Probe:
    """The statistics of every layer and of the output, from one forward and backward pass on the graph and one on the
    control graph."""
    layers = find_layers(model) if layers is None else layers
    with preserve_state(model), torch.enable_grad():
        control = record_layers(model, control_graph(graph), x, loss, forward, layers)
        actual = record_layers(model, graph, x, loss, forward, layers)
    pairs = zip(actual.outputs, actual.gradients, control.outputs, control.gradients, strict=True)
    averages = {name: average_of(layer) for name, layer in layers}
    rows = [
        _layer(graph, name, averages[name.split("#")[0]], y, g, y_control, g_control)
        for (name, y), g, (_, y_control), g_control in pairs
    ]
    output = _layer(graph, "output", rows[-1].average, actual.output, None, control.output, None)
    widths = [y[:1].flatten(1).shape[1] if y.dim() > 1 else 1 for _, y in actual.outputs]
    return Probe(rows, output, actual.output, _norm(actual.input_gradient), widths)


def _norm(gradient: Tensor | None) -> float:
    if gradient is None:
        return math.nan
    return gradient.double().norm().item() if bool(gradient.isfinite().all()) else math.inf


def average_of(layer: nn.Module) -> str:
    """The average over neighbours that a layer takes: GCN's, also of DGL and PyG, or another one."""
    for module in layer.modules():
        norms = [getattr(module, name, None) for name in ("norm", "_norm", "normalize")]
        if any(isinstance(norm, str) for norm in norms):
            return "both" if "both" in norms else "right"
        if type(module).__name__ in SYMMETRIC and norms[-1] is not False:
            return "both"
    return "right"


def _layer(
    graph: GraphLike,
    name: str,
    average: str,
    y: Tensor,
    gradient: Tensor | None,
    control: Tensor,
    control_gradient: Tensor | None,
) -> LayerStatistics:
    return LayerStatistics(
        name,
        average=average,
        finite=bool(y.isfinite().all()),
        norm=y.double().square().mean().sqrt().item(),
        **_measures(graph, y, average),
        gradient=_norm(gradient),
        control_distance=_distance(graph, control),
        control_spread=_spread(graph, control),
        control_gradient=_norm(control_gradient),
    )


def _node_features(graph: GraphLike, y: Tensor) -> Tensor | None:
    """(N, F) in float64; None unless y has one finite row per node."""
    rows = y.unsqueeze(-1).flatten(1).double() if len(y) == graph.num_nodes() else None
    return rows if rows is not None and bool(rows.isfinite().all()) else None


def _distance(graph: GraphLike, y: Tensor) -> float:
    rows = _node_features(graph, y)
    return math.nan if rows is None else mad(graph, rows, max_hops=math.inf).nanmean().item()


def _spread(graph: GraphLike, y: Tensor) -> float:
    rows = _node_features(graph, y)
    if rows is None:
        return math.nan
    return (rows - group_mean(components(graph, y.device), rows)).square().sum(-1).mean().item()


def _measures(graph: GraphLike, y: Tensor, average: str) -> dict[str, float]:
    rows = _node_features(graph, y)
    names = ("energy", "numerical_rank", "effective_rank", "dead")
    if rows is None:
        return dict.fromkeys((*names, "distance", "spread"), math.nan)
    return {
        "distance": _distance(graph, y),
        "spread": _spread(graph, y),
        "energy": rayleigh_quotient(graph, rows, norm=average).mean().item(),
        "numerical_rank": numerical_rank(graph, rows).mean().item(),
        "effective_rank": effective_rank(graph, rows).mean().item(),
        "dead": dead_feature_fraction(graph, rows).mean().item(),
    }
