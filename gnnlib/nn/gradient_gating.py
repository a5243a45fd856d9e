"""Gradient gating (G2): each feature of a node changes as much as its neighbours differ from it (Rusch et al. 2023)."""

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor, nn

from gnnlib.graph import GraphLike
from gnnlib.graph._check import check_one_node_set
from gnnlib.nn._arguments import Arguments, number, one_of, reset_parameters
from gnnlib.nn.layer import apply_conv, concat_heads
from gnnlib.ops import aggregate
from gnnlib.ops.edges_as_nodes import incidence

__all__ = ["GradientGating"]


class GradientGating(Arguments, nn.Module):
    r"""Gradient gating (G2: Rusch et al. 2023, arXiv 2210.00513): the output of a layer and its input, in a proportion
    for each node and feature.

    .. math:: y = (1 - \tau) \circ x + \tau \circ \sigma(\mathrm{conv}(x)), \qquad
        \tau_v = \tanh\Big(\sum_{u \to v} |g_u - g_v|^p\Big), \qquad g = \sigma(\mathrm{gate}(x))

    Where all neighbours have the same g as a node, its features stay as they are, so features do not converge to a
    constant. A node without in-edges keeps its features.

    It wraps a layer, in a `GNNLayer` or alone. Its activation is inside. The activation of a `GNNLayer` comes after it,
    and does not change it if both are ReLU and x has no negative features.

    Memory: (E, \*, F) for the differences.

    Differs from the authors' code: there the differences are averaged, which is ``reduce="mean"``, and all layers share
    their weights (`gnnlib.nn.reparametrize.share_parameters_`).

    Args:
        conv: a layer whose output has the width of x, with heads concatenated
        gate: another one, for g; the same module as ``conv`` for G2 without a second layer
        p: exponent of the differences, at least 1
        reduce: "sum" or "mean" over the in-edges
        activation: factory of sigma

    Shapes:
        - x: (N, \*, F)
        - edge: as the layers take it
        - output: (N, \*, F)

    Raises:
        TypeError: if a layer is no module, or activation no class or function
        ValueError: if the graph has two node sets, or the output of a layer has another shape than x

    Example:
        >>> import torch
        >>> from gnnlib import GCNConv, GradientGating, Stack
        >>> import dgl
        >>> g, x = dgl.graph(([0, 1], [1, 0])), torch.ones(2, 4)
        >>> model = Stack.build(
        ...     lambda i, o: GradientGating(GCNConv(i, o), gate=GCNConv(i, o)), 4, 8, 3, num_layers=16, encoder=True
        ... )
        >>> model(g, x).shape
        torch.Size([2, 3])
    """

    renamed: ClassVar = {"conv_gg": "gate", "act": "activation", "conv_type": "no conv_type (conv is any layer)"}

    def __init__(
        self,
        conv: nn.Module,
        *,
        gate: nn.Module,
        p: float = 2.0,
        reduce: str = "sum",
        activation: Callable[[], nn.Module] = nn.ReLU,
    ):
        super().__init__()
        for name, layer in (("conv", conv), ("gate", gate)):
            if not isinstance(layer, nn.Module):
                raise TypeError(f"GradientGating: expected {name} to be a layer, such as GCNConv(8, 8), got {layer!r}")
        if isinstance(activation, nn.Module) or not callable(activation):
            raise TypeError(f"GradientGating: expected activation to be a class, such as nn.ReLU, got {activation!r}")
        self.conv, self.gate, self.activation = conv, gate, activation()
        self.p, self.reduce = number(self, "p", p, minimum=1), one_of(self, "reduce", reduce, ("sum", "mean"))
        if hasattr(conv, "takes_edge"):
            self.takes_edge = conv.takes_edge

    def reset_parameters(self) -> None:
        """Draw the parameters of both layers anew."""
        reset_parameters(self.conv, self.gate)

    def forward(self, graph: GraphLike, x: Tensor, edge: Tensor | None = None) -> Tensor:
        """Apply the layers and the gate.

        Args:
            graph: a graph or a batch
            x: node features, (N, \\*, F)
            edge: as the layers take it

        Returns:
            Features of the same shape.

        Raises:
            ValueError: if the graph has two node sets, or the output of a layer has another shape than x
        """
        check_one_node_set("GradientGating", graph)
        y = self._activated(self.conv, graph, x, edge)
        g = y if self.gate is self.conv else self._activated(self.gate, graph, x, edge)
        return torch.lerp(x, y, self._differences(graph, g).tanh())

    def _activated(self, conv: nn.Module, graph: GraphLike, x: Tensor, edge: Tensor | None) -> Tensor:
        y = apply_conv("GradientGating", conv, graph, x, edge)
        y = self.activation(concat_heads(y) if y.dim() > x.dim() else y)
        if y.shape != x.shape:
            raise ValueError(
                f"GradientGating: expected layers whose output has the shape of x, {tuple(x.shape)}, got "
                f"{tuple(y.shape)}; in Stack.build, encoder=True gives all layers one width"
            )
        return y

    def _differences(self, graph: GraphLike, g: Tensor) -> Tensor:
        """The sum or mean of |g_u - g_v|^p over the in-edges."""
        from_src, from_dst = incidence(graph, g)
        difference = aggregate(from_src, g) - aggregate(from_dst, g)
        powers = difference.square() if self.p == 2 else difference.abs() ** self.p
        return aggregate(from_dst.reverse(), powers, reduce=self.reduce)
