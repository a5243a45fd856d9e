"""The cause of a deep model's failure: over-smoothing, vanishing or exploding gradients, over-squashing, overfitting,
or none."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gnnlib._utils.calls import names_checked
from gnnlib._utils.indices import as_indices
from gnnlib.analysis.smoothing.advice import Sizes, advise, sizes_of
from gnnlib.analysis.smoothing.base import check_features
from gnnlib.analysis.smoothing.decay import Decay, exponential_decay
from gnnlib.analysis.smoothing.passes import Forward, default_forward, find_layers
from gnnlib.analysis.smoothing.probe import LayerStatistics, probe
from gnnlib.analysis.smoothing.reach import measure_reach
from gnnlib.analysis.smoothing.verdict import Finding, find_causes, skill
from gnnlib.graph import GraphLike, takes_graph
from gnnlib.nn._arguments import check_model

__all__ = ["Diagnosis", "diagnose"]

ROUNDING = 1e-12  # the square of float32's precision is 1.4e-14


@names_checked()
@dataclass(frozen=True)
class Diagnosis:
    """The result of `diagnose`.

    ``verdict`` is "over-smoothing", "vanishing gradients", "exploding gradients", "over-squashing", "overfitting" or
    "none"; ``layer`` is the name of the layer where it starts; ``advice`` is a line of code with a remedy; ``findings``
    are all causes, the most important first; ``layers`` and ``output`` are the statistics. ``print`` shows a table and
    the findings. The energy of a layer is `rayleigh_quotient` with the norm that fits its average over neighbours, the
    column ``average``: "both" for GCN, else "right", the mean. The call is its ``measure``.
    """

    layers: list[LayerStatistics]
    output: LayerStatistics
    findings: list[Finding]
    sizes: Sizes
    train_skill: float = math.nan
    test_skill: float = math.nan

    @property
    def verdict(self) -> str:
        """The most important cause, or "none"."""
        return self.findings[0].cause if self.findings else "none"

    @property
    def layer(self) -> str | None:
        """The first layer that shows it."""
        return self.findings[0].layer if self.findings else None

    @property
    def advice(self) -> str:
        """A line of code, for ``import gnnlib``, that makes a stack of the model's sizes with a remedy, or that rewires
        ``graph``; a comment names others."""
        return advise(self.verdict, self.sizes)

    @property
    def decay(self) -> Decay:
        """The exponential rate at which the energy falls over the layers, until it is a rounding error."""
        return exponential_decay([layer.energy for layer in self.layers], floor=ROUNDING)

    @property
    def table(self) -> list[dict[str, Any]]:
        """A record per layer, such as for ``pandas.DataFrame``."""
        return [asdict(layer) for layer in self.layers]

    def __str__(self) -> str:
        columns = ("norm", "distance", "average", "energy", "numerical_rank", "effective_rank", "dead", "gradient")
        width = max(len("layer"), *(len(layer.name) for layer in self.layers))
        lines = [f"{'layer':{width}}" + "".join(f"{name:>15}" for name in columns)]
        for layer in self.layers:
            values = (getattr(layer, name) for name in columns)
            cells = (f"{value:>15}" if isinstance(value, str) else f"{value:15.3g}" for value in values)
            lines.append(f"{layer.name:{width}}" + "".join(cells))
        lines += [f"energy: {measure}" for measure in dict.fromkeys(layer.measure for layer in self.layers)]
        rate, r2 = self.decay
        if not math.isnan(rate):
            lines.append(f"the energy falls by the factor {math.exp(-rate):.2g} a layer (r^2 = {r2:.2f})")
        lines.append(f"verdict: {self.verdict}")
        for finding in self.findings:
            where = f", from layer {finding.layer}" if finding.layer is not None else ""
            lines.append(f"{finding.cause}{where}: {finding.evidence}. Try")
            lines.append(f"    {advise(finding.cause, self.sizes)}")
        return "\n".join(lines)

    def plot(self, axes: Any = None) -> Any:
        """Plots distance, effective rank and gradient by layer.

        Args:
            axes: three matplotlib axes; None: new ones

        Returns:
            the axes
        """
        if axes is None:
            from matplotlib import pyplot

            axes = pyplot.subplots(1, 3, figsize=(11, 3), layout="constrained")[1]
        depth = range(1, len(self.layers) + 1)
        lines: Sequence[tuple[str, dict[str, str]]] = (
            ("mean average distance", {"distance": "graph", "control_distance": "control graph"}),
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


def _check_shape(output: Tensor, labels: Tensor) -> None:
    if labels.is_floating_point() and labels.numel() != output.numel():
        raise ValueError(
            f"labels: expected numbers of the shape of the output, {tuple(output.shape)}, or classes, labels.long(), "
            f"got {tuple(labels.shape)} of {labels.dtype}"
        )


def _check_classes(output: Tensor, labels: Tensor) -> None:
    if labels.is_floating_point() or output.dim() != 2 or not len(labels):
        return
    largest = int(labels.max())
    if largest >= output.shape[1]:
        raise ValueError(
            f"labels: expected classes from 0 to {output.shape[1] - 1}, as the output has {output.shape[1]} columns, "
            f"got {largest}"
        )


@names_checked(y="labels=", train_mask="train=", test_mask="test=")
@takes_graph()
def diagnose(
    model: nn.Module,
    graph: GraphLike,
    x: Tensor,
    labels: Tensor | None = None,
    *,
    train: Tensor | None = None,
    test: Tensor | None = None,
    loss: Callable[[Tensor, Tensor], Tensor] | None = None,
    forward: Forward = default_forward,
    layers: Sequence[tuple[str, nn.Module]] | None = None,
) -> Diagnosis:
    """The cause of a deep model's failure, from passes on the graph and on a control graph.

    Deep networks fail for reasons that look alike in the accuracy: gradients vanish or explode in any deep network,
    features become equal at all nodes of a deep graph network (over-smoothing: Li, Han and Wu 2018, arXiv 1801.07606),
    and nodes hardly depend on distant ones (over-squashing: Alon and Yahav 2021, arXiv 2006.05205). To distinguish
    them, the model also runs on a control graph, in which each edge u->v is replaced by v->v. If features become equal
    there too, the graph is not the cause.

    - *over-smoothing*: the nodes of a component are equal at the last layer, and not so on the control graph
    - *vanishing gradients*, *exploding gradients*: the gradient at some layer is below 1/1000 or above 1000 times that
      at the last layer (and no shortcut carries it to the input), or a value is not finite
    - *over-squashing*: more than a quarter of the nodes that influence another one are 3 or more hops away, and have
      less than 1/10000 of the influence of a neighbour (the median). Influence is the norm of the Jacobian of the
      output of one node with respect to the input of the other one (Topping et al. 2022, arXiv 2111.14522). It is
      estimated for 8 random nodes
    - *overfitting*: the model fits the training rows, and less than half of its skill remains on held-out ones
    - a model that fits its training rows has neither over-smoothing nor vanishing gradients nor over-squashing

    If several apply, exploding gradients come first, then the cause that needs fewer layers, then over-squashing. The
    thresholds and their reasons are in ``gnnlib/analysis/smoothing/verdict.py``.

    Args:
        model: any module; its parameters, gradients, buffers and modes, and the random number generator, are unchanged
            afterwards
        graph: a whole graph or a batch
        x: features
        labels: integers (classes) or floats (targets) for each row of the output; None: the gradient is that of a
            random sum of the outputs
        train: training rows, as a mask or as numbers; default all
        test: held-out rows, as a mask or as numbers; default: overfitting is not examined
        loss: called on outputs and labels; default cross-entropy for classes, mean squared error for targets
        forward: called as ``forward(model, graph, x)``; default ``model(graph, x)``, or ``model(x)`` if the model takes
            one argument
        layers: names and modules to record; default: the blocks of a `gnnlib.Stack`, else message-passing layers, else
            the children

    Shapes:
        - x: (N, \\*, F)
        - labels: (rows,), or, for targets, the shape of the output

    Returns:
        the diagnosis

    Raises:
        TypeError: for features that are not floating-point, or a model that returns no tensor
        ValueError: for a graph with two node sets, or x or labels of another shape

    Example:
        >>> import torch
        >>> from gnnlib import GCNConv, Stack
        >>> from gnnlib.analysis import diagnose
        >>> import dgl
        >>> _ = torch.manual_seed(0)
        >>> g = dgl.add_self_loop(dgl.graph(tuple(torch.randint(100, (2, 800)))))
        >>> deep = Stack.build(GCNConv, 16, 32, 4, num_layers=16)
        >>> diagnose(deep, g, torch.randn(100, 16)).verdict
        'over-smoothing'
    """
    check_model("diagnose", model, "a graph and x")
    check_features(graph, x)
    if test is not None and (labels is None or train is None):
        missing = "labels" if labels is None else "train rows"
        raise ValueError(f"expected labels and train rows beside test rows, got no {missing}")

    if isinstance(labels, str):
        raise TypeError(f"labels: expected a tensor, graph.ndata[{labels!r}], got str")
    labels = None if labels is None else torch.as_tensor(labels, device=x.device)
    rows: Any = slice(None)
    if train is not None:
        rows = as_indices(train, len(x) if labels is None else len(labels), "diagnose: train")
    if test is not None and labels is not None:
        test = as_indices(test, len(labels), "diagnose: test")

    def objective(output: Tensor) -> Tensor:
        if labels is None:
            return (output * torch.randn(output.shape, generator=torch.Generator().manual_seed(0)).to(output)).sum()
        if len(labels) != len(output):
            raise ValueError(f"labels: expected {len(output)}, one for each row of the output, got {len(labels)}")
        if loss is None:
            _check_shape(output, labels)
        _check_classes(output, labels)
        default = F.mse_loss if labels.is_floating_point() else F.cross_entropy
        return (loss or default)(output[rows], labels[rows])

    layers = find_layers(model) if layers is None else layers
    statistics = probe(model, graph, x, objective, forward, layers)
    on_train, on_test = (
        math.nan if labels is None or part is None else skill(statistics.values[part], labels[part])
        for part in (rows, test)
    )
    findings = find_causes(statistics, on_train, on_test, lambda: measure_reach(model, graph, x, forward, layers))
    sizes = sizes_of(model, graph, x, statistics.values, statistics.widths)
    return Diagnosis(statistics.layers, statistics.output, findings, sizes, on_train, on_test)
