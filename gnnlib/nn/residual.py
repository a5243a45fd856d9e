"""Residual connections and jumping knowledge: skips past a layer, and past all layers.

A skip is called as ``skip(y, x, x0)`` with the layer's output, its input and the first hidden features, and made as
``Skip(in_feats, out_feats, layer)``, layers counted from 1. In a message-flow graph the destinations are the first
sources, so x and x0 are cut to the rows of y.
"""

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from gnnlib.nn._arguments import Arguments, integer, number, probability, reset_parameters
from gnnlib.ops.linear import Linear, linear

__all__ = ["DenseConnection", "GRUUpdate", "InitialResidual", "JumpingKnowledge", "Residual", "SkipNode"]


class _Skip(Arguments, nn.Module):
    renamed: ClassVar = {"in_channels": "in_feats", "out_channels": "out_feats", "channels": "in_feats and out_feats"}

    def __init__(self, in_feats: int, out_feats: int, layer: int = 1):
        super().__init__()
        self.in_feats, self.out_feats = integer(self, "in_feats", in_feats), integer(self, "out_feats", out_feats)
        self.layer = integer(self, "layer", layer)

    def equal_widths(self) -> None:
        if self.in_feats != self.out_feats:
            raise ValueError(
                f"{type(self).__name__}: expected equal widths, got {self.in_feats} -> {self.out_feats}; in "
                "Stack.build, encoder=True gives all layers one width"
            )


class Residual(_Skip):
    """Residual connection (He et al. 2016, arXiv 1512.03385, equations 1 and 2): y + x, or y + x W if widths differ.

    With ``linear=True`` it is y + x W at equal widths too, as in Luo et al. 2024 (arXiv 2406.08993, equation 3). A node
    then has a weight of its own, beside that of its neighbours.

    Args:
        in_feats: width of x
        out_feats: width of y
        layer: not used
        linear: whether x is always multiplied by W

    Shapes:
        - y: (N, \\*, out_feats)
        - x: (N_src, \\*, in_feats)
        - output: (N, \\*, out_feats)

    Example:
        >>> import torch
        >>> from gnnlib import Residual
        >>> Residual(2, 2)(torch.ones(3, 2), torch.ones(3, 2), None)[0].tolist()
        [2.0, 2.0]
        >>> Residual(2, 2, linear=True).project
        Linear(in_features=2, out_features=2, bias=False)
    """

    def __init__(self, in_feats: int, out_feats: int, layer: int = 1, *, linear: bool = False):
        super().__init__(in_feats, out_feats, layer)
        self.linear = linear
        plain = in_feats == out_feats and not linear
        self.project = nn.Identity() if plain else Linear(in_feats, out_feats, bias=False)

    def reset_parameters(self) -> None:
        """Draw the projection anew, if there is one."""
        reset_parameters(self.project)

    def forward(self, y: Tensor, x: Tensor, x0: Tensor | None = None) -> Tensor:
        """Add the input to the output.

        Args:
            y: output of the layer, (N, \\*, out_feats)
            x: input of the layer, (N_src, \\*, in_feats)
            x0: not used

        Returns:
            The sum, (N, \\*, out_feats).
        """
        return y + self.project(x[: len(y)])


class InitialResidual(_Skip):
    r"""Initial residual with identity mapping (GCNII: Chen et al. 2020, arXiv 2007.02133, equation 5).

    .. math:: z = (1 - \alpha)\, y + \alpha\, x_0, \qquad z\,\big((1 - \beta_l) I + \beta_l W\big),
        \quad \beta_l = \log(\lambda / l + 1)

    With y the propagated features, from ``GCNConv(n, n, weight=False, bias=False)``, this is a GCNII layer.

    Args:
        in_feats: width of x
        out_feats: width of y and x0, the same
        layer: l, counted from 1
        alpha: share of the first hidden features
        lam: lambda; None for no identity mapping, where the layer has a weight

    Shapes:
        - y: (N, \*, out_feats)
        - x0: (N_src, \*, out_feats)
        - output: (N, \*, out_feats)

    Raises:
        ValueError: if the widths differ
        ValueError: if there are no first hidden features

    Example:
        >>> import torch
        >>> from gnnlib import InitialResidual
        >>> skip = InitialResidual(2, 2, alpha=0.25, lam=None)
        >>> skip(torch.ones(3, 2), torch.ones(3, 2), torch.zeros(3, 2))[0].tolist()
        [0.75, 0.75]
    """

    renamed: ClassVar = {**_Skip.renamed, "theta": "lam", "lambda_": "lam"}

    def __init__(self, in_feats: int, out_feats: int, layer: int = 1, *, alpha: float = 0.1, lam: float | None = 0.5):
        super().__init__(in_feats, out_feats, layer)
        self.equal_widths()
        self.alpha = probability(self, "alpha", alpha)
        self.lam = lam if lam is None else number(self, "lam", lam, minimum=0)
        self.beta = math.log(lam / layer + 1) if lam is not None else 0.0
        self.weight = nn.Parameter(torch.empty(out_feats, out_feats)) if lam is not None else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw W anew as Glorot and Bengio (2010)."""
        if self.weight is not None:
            nn.init.xavier_uniform_(self.weight)

    def forward(self, y: Tensor, x: Tensor, x0: Tensor | None) -> Tensor:
        """Add the first hidden features and multiply by the identity mapping.

        Args:
            y: output of the layer, (N, \\*, out_feats)
            x: not used
            x0: first hidden features, (N_src, \\*, out_feats)

        Returns:
            (N, \\*, out_feats)

        Raises:
            ValueError: if x0 is None or of another width
        """
        if x0 is None or x0.shape[-1] != y.shape[-1]:
            got = None if x0 is None else tuple(x0.shape)
            raise ValueError(f"InitialResidual: expected first hidden features of width {y.shape[-1]}, got {got}")
        z = torch.lerp(y, x0[: len(y)], self.alpha)
        return z if self.weight is None else torch.lerp(z, linear(z, self.weight.T), self.beta)


class DenseConnection(_Skip):
    """Dense connection (Huang et al. 2017, arXiv 1608.06993, equation 2; on graphs Li et al. 2019, arXiv 1904.03751):
    concatenates x and y, so that each layer receives the outputs of all earlier layers.

    The activation of a `GNNLayer` comes after the skip and applies to x too. An idempotent one, such as ReLU, does not
    change x.

    Args:
        in_feats: width of x
        out_feats: width of y. The attribute ``out_feats`` is in_feats + out_feats, the width of the output
        layer: not used

    Shapes:
        - y: (N, \\*, out_feats)
        - x: (N_src, \\*, in_feats)
        - output: (N, \\*, in_feats + out_feats)

    Example:
        >>> import torch
        >>> from gnnlib import DenseConnection
        >>> DenseConnection(2, 1)(torch.zeros(3, 1), torch.ones(3, 2), None)[0].tolist()
        [1.0, 1.0, 0.0]
    """

    def __init__(self, in_feats: int, out_feats: int, layer: int = 1):
        super().__init__(in_feats, out_feats, layer)
        self.out_feats += self.in_feats

    def extra_repr(self) -> str:
        """The widths of the layer, as given to the constructor."""
        return f"{self.in_feats}, {self.out_feats - self.in_feats}"

    def forward(self, y: Tensor, x: Tensor, x0: Tensor | None = None) -> Tensor:
        """Concatenate input and output.

        Args:
            y: output of the layer, (N, \\*, out_feats)
            x: input of the layer, (N_src, \\*, in_feats)
            x0: not used

        Returns:
            (N, \\*, in_feats + out_feats)
        """
        return torch.cat([x[: len(y)], y], -1)


class GRUUpdate(_Skip):
    """Gated update (Li et al. 2016, arXiv 1511.05493, equations 3 to 6): x is the state and y the input of a GRU cell.

    With ``GCNConv(n, n, norm="none", bias=False)``, no activation, and weights shared over depth
    (`gnnlib.nn.reparametrize.share_parameters_`), a stack of these is the gated graph network.

    Args:
        in_feats: width of x
        out_feats: width of y, the same
        layer: not used

    Shapes:
        - y: (N, \\*, out_feats)
        - x: (N_src, \\*, in_feats)
        - output: (N, \\*, out_feats)

    Raises:
        ValueError: if the widths differ

    Example:
        >>> import torch
        >>> from gnnlib import GRUUpdate
        >>> GRUUpdate(2, 2)(torch.ones(3, 2), torch.ones(3, 2), None).shape
        torch.Size([3, 2])
    """

    def __init__(self, in_feats: int, out_feats: int, layer: int = 1):
        super().__init__(in_feats, out_feats, layer)
        self.equal_widths()
        self.cell = nn.GRUCell(out_feats, in_feats)

    def reset_parameters(self) -> None:
        """Draw the parameters of the cell anew."""
        self.cell.reset_parameters()

    def forward(self, y: Tensor, x: Tensor, x0: Tensor | None = None) -> Tensor:
        """Update the state.

        Args:
            y: output of the layer, (N, \\*, out_feats)
            x: input of the layer, (N_src, \\*, in_feats)
            x0: not used

        Returns:
            The new state, (N, \\*, out_feats).
        """
        rows = y.reshape(-1, y.shape[-1])
        return self.cell(rows, x[: len(y)].reshape(rows.shape)).view(y.shape)


class SkipNode(_Skip):
    r"""SkipNode (Lu et al. 2021, arXiv 2112.11628; IEEE TKDE 2024): in training, a random part of the nodes skips the
    layer.

    .. math:: z_v = b_v x_v + (1 - b_v) y_v, \qquad b_v \sim \mathrm{Bernoulli}(p)

    The nodes that skip a layer are neither averaged with their neighbours nor multiplied by a weight, in the forward
    and in the backward pass. In evaluation no node skips a layer. The activation of a `GNNLayer` comes after the skip
    and applies to x too. An idempotent one, such as ReLU, does not change x.

    Differs from the paper: this is its uniform sampling; the other one samples nodes by their degree. The authors' code
    draws a fixed number of nodes.

    Args:
        in_feats: width of x
        out_feats: width of y, the same
        layer: not used
        p: probability that a node skips the layer, drawn for each signal

    Shapes:
        - y: (N, \*, out_feats)
        - x: (N_src, \*, in_feats)
        - output: (N, \*, out_feats)

    Raises:
        ValueError: if the widths differ, or p is no probability

    Example:
        >>> import torch
        >>> from gnnlib import SkipNode
        >>> skip, y, x = SkipNode(2, 2, p=0.5), torch.zeros(100, 2), torch.ones(100, 2)
        >>> skip(y, x, None).unique(dim=0).tolist()
        [[0.0, 0.0], [1.0, 1.0]]
        >>> torch.equal(skip.eval()(y, x, None), y)
        True
    """

    renamed: ClassVar = {**_Skip.renamed, "drop_prob": "p", "prob": "p", "rate": "p"}

    def __init__(self, in_feats: int, out_feats: int, layer: int = 1, *, p: float = 0.5):
        super().__init__(in_feats, out_feats, layer)
        self.equal_widths()
        self.p = probability(self, "p", p)

    def forward(self, y: Tensor, x: Tensor, x0: Tensor | None = None) -> Tensor:
        """Replace the output of sampled nodes by their input in training.

        Args:
            y: output of the layer, (N, \\*, out_feats)
            x: input of the layer, (N_src, \\*, in_feats)
            x0: not used

        Returns:
            (N, \\*, out_feats); y itself in evaluation.
        """
        if not self.training or self.p == 0:
            return y
        skips = torch.rand(*y.shape[:-1], 1, device=y.device) < self.p
        return torch.where(skips, x[: len(y)], y)


class JumpingKnowledge(Arguments, nn.Module):
    """Jumping knowledge (Xu et al. 2018, arXiv 1806.03536, section 4): aggregates the outputs of all layers.

    Made by `JumpingKnowledge.cat`, `JumpingKnowledge.max` or `JumpingKnowledge.lstm`.

    Args:
        merge: module called on the outputs stacked, (N, \\*, L, F)
        out_feats: width of its output

    Shapes:
        - outputs: L tensors (N, \\*, F)
        - output: (N, \\*, out_feats)

    Example:
        >>> import torch
        >>> from gnnlib import JumpingKnowledge
        >>> JumpingKnowledge.cat(2, num_layers=3)([torch.ones(4, 2)] * 3).shape
        torch.Size([4, 6])
    """

    renamed: ClassVar = dict.fromkeys(
        ("mode", "channels", "in_feats", "num_layers"),
        "JumpingKnowledge.cat(feats, num_layers), JumpingKnowledge.max or JumpingKnowledge.lstm",
    )

    def __init__(self, merge: nn.Module, out_feats: int):
        super().__init__()
        if not isinstance(merge, nn.Module):
            raise TypeError(f"JumpingKnowledge: expected {self.renamed['mode']}, got {merge!r}")
        self.merge, self.out_feats = merge, integer(self, "out_feats", out_feats)

    @classmethod
    def cat(cls, feats: int, num_layers: int) -> "JumpingKnowledge":
        """Concatenate the outputs.

        Args:
            feats: width F of the outputs
            num_layers: number L of layers

        Returns:
            The module; its out_feats is L F.
        """
        feats, num_layers = _sizes(feats, num_layers)
        return cls(JumpCat(), feats * num_layers)

    @classmethod
    def max(cls, feats: int, num_layers: int) -> "JumpingKnowledge":
        """Take the maximum over the outputs, elementwise.

        Args:
            feats: width F of the outputs
            num_layers: number L of layers

        Returns:
            The module; its out_feats is F.
        """
        feats, _ = _sizes(feats, num_layers)
        return cls(JumpMax(), feats)

    @classmethod
    def lstm(cls, feats: int, num_layers: int, *, hidden: int | None = None) -> "JumpingKnowledge":
        """Weight the outputs per node by the attention of a bidirectional LSTM over the layers.

        Args:
            feats: width F of the outputs
            num_layers: number L of layers
            hidden: width of the LSTM in each direction. The paper does not state it; the default L F / 2 is PyG's

        Returns:
            The module; its out_feats is F.
        """
        feats, num_layers = _sizes(feats, num_layers)
        hidden = max(1, num_layers * feats // 2) if hidden is None else integer("JumpingKnowledge", "hidden", hidden)
        return cls(JumpLSTM(feats, hidden), feats)

    def reset_parameters(self) -> None:
        """Draw the parameters of the LSTM anew."""
        reset_parameters(self.merge)

    def forward(self, outputs: Sequence[Tensor]) -> Tensor:
        """Aggregate the outputs of all layers.

        Args:
            outputs: of L layers, each (N, \\*, F); in message-flow graphs the first rows are those of the last

        Returns:
            (N, \\*, out_feats)
        """
        rows = len(outputs[-1])
        return self.merge(torch.stack([y[:rows] for y in outputs], -2))


def _sizes(feats: Any, num_layers: Any) -> tuple[int, int]:
    return integer("JumpingKnowledge", "feats", feats), integer("JumpingKnowledge", "num_layers", num_layers)


class JumpCat(nn.Module):
    """Outputs of the layers concatenated: (N, \\*, L, F) -> (N, \\*, L F)."""

    def forward(self, layers: Tensor) -> Tensor:
        """Concatenate.

        Args:
            layers: outputs of L layers, (N, \\*, L, F)

        Returns:
            (N, \\*, L F)
        """
        return layers.flatten(-2)


class JumpMax(nn.Module):
    """Elementwise maximum over the layers: (N, \\*, L, F) -> (N, \\*, F)."""

    def forward(self, layers: Tensor) -> Tensor:
        """Take the maximum.

        Args:
            layers: outputs of L layers, (N, \\*, L, F)

        Returns:
            (N, \\*, F)
        """
        return layers.amax(-2)


class JumpLSTM(nn.Module):
    """Weighted sum over the layers, with weights per node from an LSTM: (N, \\*, L, F) -> (N, \\*, F)."""

    def __init__(self, feats: int, hidden: int):
        super().__init__()
        self.lstm = nn.LSTM(feats, hidden, bidirectional=True, batch_first=True)
        self.att = Linear(2 * hidden, 1)

    def forward(self, layers: Tensor) -> Tensor:
        """Weight and sum.

        Args:
            layers: outputs of L layers, (N, \\*, L, F)

        Returns:
            (N, \\*, F)
        """
        states, _ = self.lstm(layers.reshape(-1, *layers.shape[-2:]))
        share = self.att(states).softmax(1).view(*layers.shape[:-1], 1)
        return (layers * share).sum(-2)
