"""Shortcuts past a layer, called as ``skip(y, x, x0)``: the layer's output, its input, the first hidden features.

Made as ``Skip(in_feats, out_feats, layer)``, layers counted from 1. In a block the destinations are the first
sources, so x and x0 are cut to the rows of y.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gnnlib.nn.conv.base import glorot
from gnnlib.ops.linear import Linear, linear

__all__ = ["DenseConnection", "GRUUpdate", "InitialResidual", "JumpingKnowledge", "Residual"]


class Residual(nn.Module):
    """Residual connection (He et al. 2016, arXiv 1512.03385, equations 1 and 2): y + x, or y + x W if widths differ.

    >>> Residual(2, 2)(torch.ones(3, 2), torch.ones(3, 2), None)[0].tolist()
    [2.0, 2.0]
    """

    def __init__(self, in_feats: int, out_feats: int, layer: int = 1):
        super().__init__()
        self.project = nn.Identity() if in_feats == out_feats else Linear(in_feats, out_feats, bias=False)

    def forward(self, y: Tensor, x: Tensor, x0: Tensor | None) -> Tensor:
        return y + self.project(x[: len(y)])


class InitialResidual(nn.Module):
    r"""Initial residual with identity mapping (GCNII: Chen et al. 2020, arXiv 2007.02133, equation 5).

    .. math:: z = (1 - \alpha)\, y + \alpha\, x_0, \qquad z\,\big((1 - \beta_l) I + \beta_l W\big),
        \quad \beta_l = \log(\lambda / l + 1)

    With y the propagated features, from ``GCNConv(n, n, weight=False, bias=False)``, this is a GCNII layer.

    Args:
        alpha: share of the first hidden features
        lam: lambda; None leaves the identity mapping out, for layers that have a weight of their own

    Raises: ValueError where the widths differ, or where there are no first hidden features.

    >>> InitialResidual(2, 2, alpha=0.25, lam=None)(torch.ones(3, 2), torch.ones(3, 2), torch.zeros(3, 2))[0].tolist()
    [0.75, 0.75]
    """

    def __init__(self, in_feats: int, out_feats: int, layer: int = 1, alpha: float = 0.1, lam: float | None = 0.5):
        super().__init__()
        if in_feats != out_feats:
            raise ValueError(f"InitialResidual: expected equal widths, got {in_feats} -> {out_feats}")
        self.alpha = alpha
        self.beta = math.log(lam / layer + 1) if lam is not None else 0.0
        self.weight = glorot(out_feats, out_feats) if lam is not None else None

    def forward(self, y: Tensor, x: Tensor, x0: Tensor | None) -> Tensor:
        if x0 is None or x0.shape[-1] != y.shape[-1]:
            got = None if x0 is None else tuple(x0.shape)
            raise ValueError(f"InitialResidual: expected first hidden features of width {y.shape[-1]}, got {got}")
        z = torch.lerp(y, x0[: len(y)], self.alpha)
        return z if self.weight is None else torch.lerp(z, linear(z, self.weight.T), self.beta)


class DenseConnection(nn.Module):
    """Dense connection (Huang et al. 2017, arXiv 1608.06993, equation 2; on graphs Li et al. 2019, arXiv 1904.03751):
    [x, y] side by side, so that after several blocks each sees the outputs of all before it.

    ``out_feats`` is in_feats + out_feats of the layer: the next block is that wide. The activation of a block comes
    after, on x too: one that does not change what it has made, such as a ReLU, leaves x as it was.

    >>> DenseConnection(2, 1)(torch.zeros(3, 1), torch.ones(3, 2), None)[0].tolist()
    [1.0, 1.0, 0.0]
    """

    def __init__(self, in_feats: int, out_feats: int, layer: int = 1):
        super().__init__()
        self.out_feats = in_feats + out_feats

    def forward(self, y: Tensor, x: Tensor, x0: Tensor | None) -> Tensor:
        return torch.cat([x[: len(y)], y], -1)


class GRUUpdate(nn.Module):
    """Gated update (Li et al. 2016, arXiv 1511.05493, equations 3 to 6): x is the state and y the input of a GRU cell,
    which says how much of x to keep.

    With ``GCNConv(n, n, norm="none", bias=False)``, no activation, and weights shared over depth
    (`gnnlib.nn.reparametrize.share_parameters_`), a stack of these is the gated graph network.

    Raises: ValueError where the widths differ.

    >>> GRUUpdate(2, 2)(torch.ones(3, 2), torch.ones(3, 2), None).shape
    torch.Size([3, 2])
    """

    def __init__(self, in_feats: int, out_feats: int, layer: int = 1):
        super().__init__()
        if in_feats != out_feats:
            raise ValueError(f"GRUUpdate: expected equal widths, got {in_feats} -> {out_feats}")
        self.cell = nn.GRUCell(out_feats, in_feats)

    def forward(self, y: Tensor, x: Tensor, x0: Tensor | None) -> Tensor:
        rows = y.reshape(-1, y.shape[-1])
        return self.cell(rows, x[: len(y)].reshape(rows.shape)).view(y.shape)


class JumpingKnowledge(nn.Module):
    """Jumping knowledge (Xu et al. 2018, arXiv 1806.03536, section 4): the output draws on every layer.

    ``jump(outputs) -> y`` from the outputs of L layers, each (N, \\*, F). Made by `cat` (side by side, L F wide),
    `max` (elementwise) or `lstm` (weights per node and layer from a bidirectional LSTM over the layers, ``hidden`` wide
    in each direction: the paper does not say how wide, the default L F / 2 is PyG's).

    >>> JumpingKnowledge.cat(2, num_layers=3)([torch.ones(4, 2)] * 3).shape
    torch.Size([4, 6])
    """

    def __init__(self, merge: nn.Module, out_feats: int):
        super().__init__()
        self.merge, self.out_feats = merge, out_feats

    @classmethod
    def cat(cls, feats: int, num_layers: int) -> "JumpingKnowledge":
        return cls(LayerConcat(), feats * num_layers)

    @classmethod
    def max(cls, feats: int, num_layers: int) -> "JumpingKnowledge":
        return cls(LayerMax(), feats)

    @classmethod
    def lstm(cls, feats: int, num_layers: int, hidden: int | None = None) -> "JumpingKnowledge":
        return cls(LayerLSTM(feats, hidden or max(1, num_layers * feats // 2)), feats)

    def forward(self, outputs: Sequence[Tensor]) -> Tensor:
        rows = len(outputs[-1])  # blocks shrink from layer to layer
        return self.merge(torch.stack([y[:rows] for y in outputs], -2))


class LayerConcat(nn.Module):
    """Outputs of the layers side by side: (N, \\*, L, F) -> (N, \\*, L F)."""

    def forward(self, layers: Tensor) -> Tensor:  # (N, *, L, F)
        return layers.flatten(-2)


class LayerMax(nn.Module):
    """Elementwise maximum over the layers: (N, \\*, L, F) -> (N, \\*, F)."""

    def forward(self, layers: Tensor) -> Tensor:
        return layers.amax(-2)


class LayerLSTM(nn.Module):
    """Weighted sum over the layers, with weights per node from an LSTM: (N, \\*, L, F) -> (N, \\*, F)."""

    def __init__(self, feats: int, hidden: int):
        super().__init__()
        self.lstm = nn.LSTM(feats, hidden, bidirectional=True, batch_first=True)
        self.att = Linear(2 * hidden, 1)

    def forward(self, layers: Tensor) -> Tensor:
        states, _ = self.lstm(layers.reshape(-1, *layers.shape[-2:]))
        share = self.att(states).softmax(1).view(*layers.shape[:-1], 1)
        return (layers * share).sum(-2)
