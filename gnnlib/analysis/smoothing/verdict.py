"""The rules of `diagnose`: thresholds with reasons."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from gnnlib._utils.calls import names_checked
from gnnlib.analysis.smoothing.probe import LayerStatistics, Probe
from gnnlib.analysis.smoothing.reach import DISTANT, Reach

__all__ = ["Finding", "find_causes", "skill"]

COLLAPSED = 0.01
"""Mean average distance below which nodes are equal: directions 8 degrees apart. Trained networks have 0.3 or more."""

FEW_DIRECTIONS = 3.0
"""Effective rank below which close nodes are equal: they differ in one or two directions. Features may have nearly the
same direction and still distinguish nodes by the rest. On Cora plain stacks of 32 and 64 layers start with 1.5 and
2.1; stacks of that depth which train (GCNII) with 7 and more, though their mean average distance may be 0.007."""

CONTROL_RATIO = 0.3
"""The graph is the cause of equal nodes if their distance on the control graph is more than three times as large.
Random weights with ReLU reduce distances too, but as 1 / depth^2 and not exponentially, and equally on both graphs."""

SPREAD_RATIO = 1e-3
"""Ratio of the spread to that on the control graph below which nodes are equal, even if a bias has moved their mean
away from 0. Two layers of means over 16 neighbours have 4e-3."""

VANISHED = 1e-3
"""Ratio of gradients to the last layer's below which a layer learns a thousand times more slowly."""

EXPLODED = 1e3
"""Ratio of gradients to the last layer's above which a step that suits the last layer is too large for the first."""

VANISHING_FACTOR = 1.5
"""If both occur, vanishing gradients are the first finding only if they need so many times fewer layers. Otherwise a
plain ReLU network, whose gradients shrink by 0.7 per layer and reach 1/1000 after 20, would not be reported as
over-smoothing, though its nodes are equal from layer 22 on."""

SQUASHED = 1e-4
"""Influence of distant nodes, relative to neighbours, below which they are squashed. At their start, networks of 4
layers that train on Cora have 3e-4 (batch norm and residual connections) to 3e-3 (GCN), and networks of 16 layers on a
binary tree 5e-8 to 8e-6."""

FAR = 0.25
"""Fraction of distant nodes among those that are reached above which they matter."""

LEARNT = 0.5
"""Skill on the training rows (0: the most frequent class, 1: no error) above which a model has learnt, so that neither
its gradients nor its features prevent it."""

OVERFITTED = 0.5
"""Ratio of the skill on held-out rows to that on training rows below which a model overfits."""


@names_checked()
@dataclass(frozen=True)
class Finding:
    """A cause of failure, the first layer that shows it, the number of layers that it needs, and the evidence."""

    cause: str
    layer: str | None
    depth: int
    evidence: str


def find_causes(
    probe: Probe, train_skill: float, test_skill: float, measure_reach: Callable[[], Reach]
) -> list[Finding]:
    """All causes that apply, the most important first. A network whose nodes are equal or whose gradients vanish has to
    be changed whatever its graph is, so that over-squashing comes after these."""
    learnt = train_skill > LEARNT
    smoothing = [] if learnt else _smoothing(probe)
    vanishing = [] if learnt else _vanishing(probe, bool(smoothing))
    findings = _exploding(probe) + sorted(smoothing + vanishing, key=_order)
    findings += [] if learnt else _squashing(measure_reach(), len(probe.layers))
    if learnt and test_skill < OVERFITTED * train_skill:
        evidence = f"the skill is {train_skill:.2f} on the training rows and {test_skill:.2f} on the held-out rows"
        findings.append(Finding("overfitting", None, len(probe.layers), evidence))
    return findings


def _order(finding: Finding) -> float:
    return finding.depth * (VANISHING_FACTOR if finding.cause == "vanishing gradients" else 1.0)


def skill(output: Tensor, labels: Tensor) -> float:
    """1 minus the ratio of the error to that of the best constant prediction: wrong classes, or squared errors."""
    if labels.is_floating_point():
        error, constant = (output - labels).square().mean(), (labels - labels.mean(0)).square().mean()
    else:
        error = (output.argmax(-1) != labels).double().mean()
        constant = 1 - labels.unique(return_counts=True)[1].max() / labels.numel()
    return (1 - error / constant).item() if constant > 0 else math.nan


def _smoothed(layer: LayerStatistics) -> bool:
    """Whether the edges make the nodes equal."""
    by_the_graph = layer.distance < CONTROL_RATIO * layer.control_distance
    collapsed = layer.distance < COLLAPSED and layer.effective_rank < FEW_DIRECTIONS and by_the_graph
    return collapsed or layer.spread < SPREAD_RATIO * layer.control_spread


def _smoothing(probe: Probe) -> list[Finding]:
    nodes = [(depth, layer) for depth, layer in enumerate(probe.layers, 1) if not math.isnan(layer.distance)]
    first = next((i for i in range(len(nodes)) if all(_smoothed(layer) for _, layer in nodes[i:])), None)
    if first is None or (probe.output.distance >= COLLAPSED and not _smoothed(probe.output)):
        return []
    depth, start = nodes[first]
    last = nodes[-1][1]
    evidence = (
        f"the mean average distance of the last layer's nodes is {last.distance:.2g}, and {last.control_distance:.2g} "
        f"on the control graph; their effective rank {last.effective_rank:.2g}; their spread {last.spread:.2g} and "
        f"{last.control_spread:.2g} on the control graph"
    )
    return [Finding("over-smoothing", start.name, depth, evidence)]


def _squashing(reach: Reach, depth: int) -> list[Finding]:
    if not (reach.distant > FAR and reach.influence < SQUASHED):
        return []
    evidence = (
        f"{100 * reach.distant:.0f} % of the nodes that influence another one are {DISTANT} or more hops away, and "
        f"have {reach.influence:.2g} times the influence of a neighbour (the median)"
    )
    return [Finding("over-squashing", None, depth, evidence)]


def _ratios(gradients: list[float]) -> list[float]:
    """Ratios to the last layer's gradient; nan if that is 0."""
    return [gradient / gradients[-1] if gradients[-1] > 0 else math.nan for gradient in gradients]


def _last(flags: list[bool]) -> int | None:
    return max((i for i, flag in enumerate(flags) if flag), default=None)


def _exploding(probe: Probe) -> list[Finding]:
    layers, name = probe.layers, "exploding gradients"
    for depth, layer in enumerate(layers, 1):
        if not layer.finite:
            return [Finding(name, layer.name, depth, f"the values of layer {layer.name} are not finite")]
    ratios = _ratios([layer.gradient for layer in layers])
    top = _last([ratio > EXPLODED or layer.gradient == math.inf for ratio, layer in zip(ratios, layers)])
    return [] if top is None else [_finding(name, layers, top, ratios)]


def _vanishing(probe: Probe, smoothing: bool) -> list[Finding]:
    """Averaging reduces gradients too: with over-smoothing, only gradients that vanish on the control graph count."""
    layers = probe.layers
    ratios = _ratios([layer.gradient for layer in layers])
    control = _ratios([layer.control_gradient for layer in layers])
    top = _last([r < VANISHED and not (smoothing and c >= VANISHED) for r, c in zip(ratios, control)])
    if top is None or probe.input_gradient >= VANISHED * layers[-1].gradient:  # a shortcut carries it to the input
        return []
    return [_finding("vanishing gradients", layers, top, ratios)]


def _finding(name: str, layers: list[LayerStatistics], top: int, ratios: list[float]) -> Finding:
    evidence = f"the gradient at layer {layers[0].name} is {ratios[0]:.2g} times that at layer {layers[-1].name}"
    return Finding(name, layers[top].name, len(layers) - top, evidence)
