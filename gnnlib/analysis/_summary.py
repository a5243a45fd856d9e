"""Summary of a model: its layers with widths, parameters and output shapes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gnnlib._utils.calls import names_checked
from gnnlib._utils.model_state import evaluation_mode, preserve_state
from gnnlib.graph import GraphLike, takes_graph

__all__ = ["LayerSummary", "Summary", "summary"]

CONTAINERS = nn.ModuleList, nn.ModuleDict
HEADER = "layer", "widths", "parameters", "output"


@names_checked()
@dataclass(frozen=True)
class LayerSummary:
    """One module of a model.

    Args:
        name: its path, as in ``model.named_modules()``
        label: its path below the module above it in the table, and its class
        level: number of modules above it in the table
        widths: "in -> out", the one width that it has, or empty
        parameters: number of parameters, of modules inside it too
        output: shape of the first output, or empty for a module that was not called
    """

    name: str
    label: str
    level: int
    widths: str
    parameters: int
    output: str


@names_checked()
@dataclass(frozen=True, repr=False)
class Summary:
    """The layers of a model; ``str`` is a table.

    Args:
        layers: one for each module, the model first
        parameters: number of parameters; those that layers share count once
        trainable: number of parameters with gradients
    """

    layers: tuple[LayerSummary, ...]
    parameters: int
    trainable: int

    def __str__(self) -> str:
        rows = [HEADER]
        rows += [("  " * r.level + r.label, r.widths, f"{r.parameters:,}", r.output) for r in self.layers]
        sizes = [max(map(len, column)) for column in zip(*rows)]
        lines = ["  ".join([a.ljust(sizes[0]), b.ljust(sizes[1]), c.rjust(sizes[2]), d]) for a, b, c, d in rows]
        lines.insert(1, "  ".join("-" * size for size in sizes))
        lines.append(f"{self.parameters:,} parameters, {self.trainable:,} trainable")
        return "\n".join(line.rstrip() for line in lines)

    __repr__ = __str__


@names_checked()
@takes_graph()
def summary(
    model: nn.Module,
    graph: GraphLike | Sequence[GraphLike],
    x: Tensor | None = None,
    edge: Tensor | Sequence[Tensor] | None = None,
    *,
    depth: int | None = None,
) -> Summary:
    """Layers, widths, numbers of parameters and output shapes of a model.

    The model runs once, in evaluation mode and without gradients. Modes, buffers and random numbers are restored.

    Args:
        model: a `Stack`, or any module called as ``model(graph, x)``
        graph: a graph or a batch, or a list of message-flow graphs
        x: node features; None for ``graph.srcdata["feat"]``
        edge: edge weights or edge features. None: the model is called without
        depth: number of levels of modules to show; None for all

    Returns:
        The summary, whose ``str`` is a table.

    Raises:
        TypeError: if model is no module
        ValueError: if there are no features

    Example:
        >>> import torch
        >>> import gnnlib
        >>> import dgl
        >>> model = gnnlib.Stack.build(gnnlib.GCNConv, 3, 16, 2, num_layers=2, norm=gnnlib.BatchNorm)
        >>> gnnlib.summary(model, dgl.graph(([0, 1], [1, 0])), torch.ones(2, 3))
        layer                 widths   parameters  output
        --------------------  -------  ----------  -------
        Stack                                 130  (2, 2)
          blocks.0: GNNLayer                   96  (2, 16)
            conv: GCNConv     3 -> 16          64  (2, 16)
            norm: BatchNorm   16               32  (2, 16)
            activation: ReLU                    0  (2, 16)
            dropout: Dropout                    0  (2, 3)
          blocks.1: GNNLayer                   34  (2, 2)
            conv: GCNConv     16 -> 2          34  (2, 2)
        130 parameters, 130 trainable
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"summary: expected a module, got {type(model).__name__}")
    first: Any = graph[0] if isinstance(graph, (list, tuple)) else graph
    if x is None:
        if "feat" not in first.srcdata:
            raise ValueError(f"summary: expected x, or features in graph.srcdata['feat'], got {sorted(first.srcdata)}")
        x = first.srcdata["feat"]
    outputs = _output_shapes(model, (graph, x) if edge is None else (graph, x, edge))
    parameters = list(model.parameters())
    layers = [row for row in _layers(model, outputs) if depth is None or row.level < depth]
    trainable = sum(p.numel() for p in parameters if p.requires_grad)
    return Summary(tuple(layers), sum(p.numel() for p in parameters), trainable)


def _output_shapes(model: nn.Module, inputs: tuple) -> dict[nn.Module, str]:
    """The shape of each module's first output."""
    outputs: dict[nn.Module, str] = {}

    def record(module: nn.Module, args: tuple, output: Any) -> None:
        outputs.setdefault(module, _shape(output))

    hooks = [module.register_forward_hook(record) for module in model.modules()]
    try:
        with preserve_state(model), evaluation_mode(model), torch.no_grad():
            model(*inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return outputs


def _shape(output: Any) -> str:
    if isinstance(output, Tensor):
        return str(tuple(output.shape))
    if isinstance(output, (list, tuple)):
        return ", ".join(map(_shape, output))
    return type(output).__name__


def _layers(model: nn.Module, outputs: dict[nn.Module, str]) -> list[LayerSummary]:
    """All modules but containers, which are not called, in the order of registration."""
    rows, levels = [], {"": -1}  # the level of each path; a container has that of the module it is in
    for path, module in model.named_modules():
        above = path
        while path and (above := above.rpartition(".")[0]) not in levels:
            pass
        if isinstance(module, CONTAINERS):
            continue
        levels[path] = levels[above] + 1
        kind = type(module).__name__
        label = f"{path.removeprefix(above).removeprefix('.')}: {kind}" if path else kind
        count = sum(p.numel() for p in module.parameters())
        rows.append(LayerSummary(path, label, levels[path], _widths(module), count, outputs.get(module, "")))
    return rows


def _widths(module: nn.Module) -> str:
    """The widths of a layer, of this library or of torch."""
    for source, destination in (
        ("in_feats", "out_feats"),
        ("in_features", "out_features"),
        ("in_channels", "out_channels"),
    ):
        if hasattr(module, source) and hasattr(module, destination):
            return f"{getattr(module, source)} -> {getattr(module, destination)}"
    for name in ("feats", "num_features", "out_feats", "normalized_shape"):
        if getattr(module, name, None) is not None:
            return str(getattr(module, name))
    return ""
