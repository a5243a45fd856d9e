"""What ails a deep model: over-smoothing, vanishing or exploding gradients, overfitting, or nothing."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gnnlib._platform.dgl import dgl
from gnnlib.analysis.smoothing.base import checked
from gnnlib.analysis.smoothing.probe import LayerStatistics, probe
from gnnlib.analysis.smoothing.running import Call, default_call
from gnnlib.analysis.smoothing.verdict import ADVICE, Finding, find_diseases, skill

__all__ = ["Diagnosis", "diagnose"]


@dataclass(frozen=True)
class Diagnosis:
    """What `diagnose` found.

    ``verdict`` is "over-smoothing", "vanishing gradients", "exploding gradients", "overfitting" or "none"; ``layer``
    the name of the layer where it starts; ``advice`` what to try; ``findings`` all diseases, the first to treat
    first; ``layers`` and ``output`` the measures. ``print`` gives a table and the verdict in words.
    """

    layers: list[LayerStatistics]
    output: LayerStatistics
    findings: list[Finding]
    train_skill: float = math.nan
    test_skill: float = math.nan

    @property
    def verdict(self) -> str:
        return self.findings[0].disease if self.findings else "none"

    @property
    def layer(self) -> str | None:
        return self.findings[0].layer if self.findings else None

    @property
    def advice(self) -> str:
        return ADVICE[self.verdict]

    @property
    def table(self) -> list[dict[str, Any]]:
        """A record for each layer, say for ``pandas.DataFrame``."""
        return [asdict(layer) for layer in self.layers]

    def __str__(self) -> str:
        columns = ("norm", "distance", "energy", "numerical_rank", "effective_rank", "dead", "gradient")
        width = max(len("layer"), *(len(layer.name) for layer in self.layers))
        lines = [f"{'layer':{width}}" + "".join(f"{name:>15}" for name in columns)]
        for layer in self.layers:
            lines.append(f"{layer.name:{width}}" + "".join(f"{getattr(layer, name):15.3g}" for name in columns))
        lines.append(f"verdict: {self.verdict}")
        for finding in self.findings:
            where = f", from layer {finding.layer}" if finding.layer is not None else ""
            lines.append(f"{finding.disease}{where}: {finding.evidence}. Try {ADVICE[finding.disease]}.")
        return "\n".join(lines)

    def plot(self, axes: Any = None) -> Any:
        """Distance, effective rank and gradient by layer on three matplotlib axes (made where none are given)."""
        if axes is None:
            from matplotlib import pyplot

            axes = pyplot.subplots(1, 3, figsize=(11, 3), layout="constrained")[1]
        depth = range(1, len(self.layers) + 1)
        lines: Sequence[tuple[str, dict[str, str]]] = (
            ("mean average distance", {"distance": "as it is", "unlinked_distance": "without edges"}),
            ("effective rank", {"effective_rank": ""}),
            ("gradient norm", {"gradient": ""}),
        )
        for ax, (title, curves) in zip(axes, lines, strict=True):
            for name, label in curves.items():
                ax.plot(depth, [getattr(layer, name) for layer in self.layers], marker=".", label=label)
            ax.set(title=title, xlabel="layer", yscale="log")
        axes[0].legend()
        axes[1].set_yscale("linear")
        return axes


def diagnose(
    model: nn.Module,
    graph: dgl.DGLGraph,
    x: Tensor,
    labels: Tensor | None = None,
    train: Tensor | None = None,
    test: Tensor | None = None,
    *,
    loss: Callable[[Tensor, Tensor], Tensor] | None = None,
    call: Call = default_call,
    layers: Sequence[tuple[str, nn.Module]] | None = None,
) -> Diagnosis:
    """Run a model once, forward and backward, and say what ails it.

    Depth has two diseases that look alike in the accuracy: gradients fail in every deep net, and features become the
    same at all nodes in a deep graph net (Li, Han and Wu 2018, arXiv 1801.07606). To tell them apart the model also
    runs with each edge u->v turned into v->v: what collapses there too, the graph has not done.

    - *over-smoothing*: nodes of one component are alike at the last layer, and it is the edges that made them so
    - *vanishing*, *exploding gradients*: the gradient at some layer is below 1/1000 or above 1000 times the last
      layer's (and no shortcut brings it down to the input), or there are values that are not finite
    - *overfitting*: fits the training rows, and keeps less than half of its skill on held-out ones
    - a model that fits its training rows has neither the first nor the second

    Where several hold, exploding comes first, then whichever shows within fewer layers.
    `gnnlib.analysis.smoothing.verdict` has the thresholds, with reasons.

    Args:
        model: any module; parameters, their gradients, buffers, modes and random numbers are left as they were
        graph: a whole graph, or a batch
        x: features
        labels: integers (classes) or floats (targets) for each row of the output; None: the gradient is that of a
            random sum of the outputs
        train, test: rows of the labels, as masks or numbers; default: train on all, and no look for overfitting
        loss: called on outputs and labels; default cross-entropy for classes, mean squared error for targets
        call: how to call the model: ``call(model, graph, x)``; default model(graph, x), or model(x) where forward
            takes one argument
        layers: names and modules to look at; default: the blocks of a `gnnlib.Stack`, else message-passing layers,
            else the children

    Shapes: x (N, *, F), labels (rows,) or, of targets, as the output.

    Raises: ValueError or TypeError, naming expected and received, for a graph with two node sets, x or labels of a
    wrong shape, or a model that returns no tensor.

    >>> from gnnlib import GCNConv, Stack
    >>> _ = torch.manual_seed(0)
    >>> g = dgl.add_self_loop(dgl.graph(tuple(torch.randint(100, (2, 800)))))
    >>> deep = Stack.build(GCNConv, 16, 32, 4, num_layers=16)
    >>> diagnose(deep, g, torch.randn(100, 16)).verdict
    'over-smoothing'
    """
    checked(graph, x)
    rows = slice(None) if train is None else train
    if test is not None and (labels is None or train is None):
        missing = "labels" if labels is None else "train rows"
        raise ValueError(f"expected labels and train rows beside test rows, got no {missing}")

    def objective(output: Tensor) -> Tensor:
        if labels is None:
            return (output * torch.randn(output.shape, generator=torch.Generator().manual_seed(0)).to(output)).sum()
        if len(labels) != len(output):
            raise ValueError(f"labels: expected {len(output)}, one for each row of the output, got {len(labels)}")
        default = F.mse_loss if labels.is_floating_point() else F.cross_entropy
        return (loss or default)(output[rows], labels[rows])

    found = probe(model, graph, x, objective, call, layers)
    on_train, on_test = (
        math.nan if labels is None or chosen is None else skill(found.values[chosen], labels[chosen])
        for chosen in (rows, test)
    )
    findings = find_diseases(found, on_train, on_test)
    return Diagnosis(found.layers, found.output, findings, on_train, on_test)
