"""The rules by which a disease is named: thresholds with their reasons, and what each disease is."""

import math
from dataclasses import dataclass

from torch import Tensor

from gnnlib.analysis.smoothing.probe import LayerStatistics, Probe

__all__ = ["ADVICE", "Finding", "find_diseases", "skill"]

COLLAPSED = 0.01
"""Mean average distance below which nodes are alike: directions 8 degrees apart. Trained nets keep 0.3 and more."""

FEW_DIRECTIONS = 3.0
"""Effective rank below which near nodes are alike: they differ in one direction or two. Features may point nearly one
way and still tell nodes apart by what is left. On Cora plain stacks of 32 and 64 layers start with 1.5 and 2.1; stacks
that train as deep (GCNII) with 7 and more, though their mean average distance may be 0.007."""

BY_THE_GRAPH = 0.3
"""Nodes alike are the graph's doing if without edges they would be three times as far apart. Random weights with ReLU
bring directions together too, but as 1 / depth^2, not exponentially, and as much with edges as without."""

SPREAD_LEFT = 1e-3
"""Part of the spread left by the edges, of what the same weights give without them, below which nodes are alike even if
a bias has moved their mean away. Two layers of means over 16 neighbours leave 4e-3."""

VANISHED = 1e-3
"""A layer whose gradient is this part of the last layer's learns a thousand times more slowly."""

EXPLODED = 1e3
"""The same upside down: a step that suits the last layer throws the first one away."""

WELL_BEFORE = 1.5
"""Where both show, vanishing must need so many times fewer layers than over-smoothing to be named first: a plain ReLU
net, which loses 0.7 a layer and is past 1/1000 after 20, would else hide that its nodes are alike since layer 22."""

LEARNT = 0.5
"""Skill on the training rows (0: guessing the commonest class, 1: no error) from which a model has plainly learnt, so
that neither its gradients nor its features can be what stops it."""

KEPT = 0.5
"""Part of the training skill that must be left on held-out rows, or the model has learnt them by heart."""

ADVICE = {
    "over-smoothing": "an initial residual with identity mapping (InitialResidual), PairNorm, DropEdge, jumping "
    "knowledge, or fewer layers",
    "vanishing gradients": "residual connections, a norm, ReLU for saturating activations, an initialisation that "
    "keeps the variance, or training layer by layer",
    "exploding gradients": "a smaller initialisation, a norm, gradient clipping, or a lower learning rate",
    "overfitting": "dropout, weight decay, DropEdge, fewer parameters, early stopping, or more labels",
    "none": "nothing",
}


@dataclass(frozen=True)
class Finding:
    """One disease: its name, the layer it starts at, after how many layers it shows, and the evidence."""

    disease: str
    layer: str | None
    depth: int
    evidence: str


def find_diseases(found: Probe, train_skill: float, test_skill: float) -> list[Finding]:
    """All that hold, the first to treat first."""
    learnt = train_skill > LEARNT
    smoothing = [] if learnt else _smoothing(found)
    vanishing = [] if learnt else _vanishing(found, bool(smoothing))
    findings = _exploding(found) + sorted(smoothing + vanishing, key=_urgency)
    if learnt and test_skill < KEPT * train_skill:
        evidence = f"the skill is {train_skill:.2f} on the training rows and {test_skill:.2f} on the others"
        findings.append(Finding("overfitting", None, len(found.layers), evidence))
    return findings


def _urgency(finding: Finding) -> float:
    return finding.depth * (WELL_BEFORE if finding.disease == "vanishing gradients" else 1.0)


def skill(output: Tensor, labels: Tensor) -> float:
    """Share of the error of the best constant answer that is gone: of wrong classes, or of squares."""
    if labels.is_floating_point():
        error, constant = (output - labels).square().mean(), (labels - labels.mean(0)).square().mean()
    else:
        error = (output.argmax(-1) != labels).double().mean()
        constant = 1 - labels.unique(return_counts=True)[1].max() / labels.numel()
    return (1 - error / constant).item() if constant > 0 else math.nan


def _alike(layer: LayerStatistics) -> bool:
    """Whether the nodes are alike because of the edges."""
    by_the_graph = layer.distance < BY_THE_GRAPH * layer.unlinked_distance
    collapsed = layer.distance < COLLAPSED and layer.effective_rank < FEW_DIRECTIONS and by_the_graph
    return collapsed or layer.spread < SPREAD_LEFT * layer.unlinked_spread


def _smoothing(found: Probe) -> list[Finding]:
    nodes = [(depth, layer) for depth, layer in enumerate(found.layers, 1) if not math.isnan(layer.distance)]
    first = next((i for i in range(len(nodes)) if all(_alike(layer) for _, layer in nodes[i:])), None)
    if first is None or (found.output.distance >= COLLAPSED and not _alike(found.output)):
        return []
    depth, start = nodes[first]
    last = nodes[-1][1]
    evidence = (
        f"the mean average distance of the last layer's nodes is {last.distance:.2g}, and {last.unlinked_distance:.2g} "
        f"without edges; their effective rank {last.effective_rank:.2g}; their spread {last.spread:.2g} and "
        f"{last.unlinked_spread:.2g} without edges"
    )
    return [Finding("over-smoothing", start.name, depth, evidence)]


def _ratios(gradients: list[float]) -> list[float]:
    """To the last layer's; nan where that has none."""
    return [gradient / gradients[-1] if gradients[-1] > 0 else math.nan for gradient in gradients]


def _last(hits: list[bool]) -> int | None:
    return max((i for i, hit in enumerate(hits) if hit), default=None)


def _exploding(found: Probe) -> list[Finding]:
    layers, name = found.layers, "exploding gradients"
    for depth, layer in enumerate(layers, 1):
        if not layer.finite:
            return [Finding(name, layer.name, depth, f"the values of layer {layer.name} are not finite")]
    ratios = _ratios([layer.gradient for layer in layers])
    top = _last([ratio > EXPLODED or layer.gradient == math.inf for ratio, layer in zip(ratios, layers)])
    return [] if top is None else [_finding(name, layers, top, ratios)]


def _vanishing(found: Probe, smoothing: bool) -> list[Finding]:
    """Averaging shrinks gradients too: where it explains them, only what vanishes without edges as well counts."""
    layers = found.layers
    ratios = _ratios([layer.gradient for layer in layers])
    alone = _ratios([layer.unlinked_gradient for layer in layers])
    top = _last([r < VANISHED and not (smoothing and a >= VANISHED) for r, a in zip(ratios, alone)])
    if top is None or found.input_gradient >= VANISHED * layers[-1].gradient:  # a shortcut brings it down
        return []
    return [_finding("vanishing gradients", layers, top, ratios)]


def _finding(name: str, layers: list[LayerStatistics], top: int, ratios: list[float]) -> Finding:
    evidence = f"the gradient at layer {layers[0].name} is {ratios[0]:.2g} times that at layer {layers[-1].name}"
    return Finding(name, layers[top].name, len(layers) - top, evidence)
