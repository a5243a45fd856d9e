"""Deep graph convolutional networks: JKNet and GCNII."""

from collections.abc import Callable
from math import log

import torch
from torch import Tensor, nn

from gnnlib.nn._arguments import integer
from gnnlib.nn.conv import GCNConv
from gnnlib.nn.drop import Dropout
from gnnlib.nn.layer import GNNLayer
from gnnlib.nn.residual import InitialResidual, JumpingKnowledge
from gnnlib.nn.stack import Stack
from gnnlib.ops.linear import Linear, linear

__all__ = ["GCNII", "JKNet"]


class JKNet(Stack):
    r"""Jumping knowledge network (Xu et al. 2018, arXiv 1806.03536, section 4): graph convolutions, whose outputs are
    all inputs of the last, linear layer.

    .. math:: H_l = \mathrm{ReLU}(P H_{l-1} W_l + c_l), \qquad Y = \mathrm{jump}(H_1, \dots, H_L) W + c

    Differs from the paper: self-loops are not added; returns scores, of which the paper takes the softmax.

    Args:
        in_feats, hidden_feats, out_feats: widths
        num_layers: L, the number of convolutions
        jump: ``JumpingKnowledge.cat``, ``max`` or ``lstm``
        dropout: of the input of each layer

    Shapes:
        - x: (N, \*, in_feats)
        - edge: weights (E,) or None
        - output: scores (N, \*, out_feats)

    Example:
        >>> from gnnlib.models import JKNet
        >>> JKNet(1433, 16, 7, num_layers=6).head[1].in_features
        96
    """

    def __init__(
        self,
        in_feats: int,
        hidden_feats: int,
        out_feats: int,
        num_layers: int = 6,
        *,
        jump: Callable[[int, int], JumpingKnowledge] = JumpingKnowledge.cat,
        dropout: float = 0.5,
    ):
        num_layers, drop = integer(self, "num_layers", num_layers), Dropout(dropout)
        convs = [GCNConv(hidden_feats if layer else in_feats, hidden_feats) for layer in range(num_layers)]
        blocks = [GNNLayer(conv, activation=nn.ReLU(), dropout=drop) for conv in convs]
        merge = jump(hidden_feats, num_layers)
        head = nn.Sequential(drop, Linear(merge.out_feats, out_feats))
        super().__init__(blocks, jump=merge, head=head)
        self.in_feats, self.hidden_feats, self.out_feats = in_feats, hidden_feats, out_feats
        self.num_layers, self.dropout = num_layers, dropout


class GCNII(Stack):
    r"""Graph convolution with initial residual and identity mapping (GCNII: Chen et al. 2020, arXiv 2007.02133,
    equation 5), for tens of layers and more.

    .. math:: H_l = \mathrm{ReLU}\big(((1 - \alpha) P H_{l-1} + \alpha H_0) ((1 - \beta_l) I + \beta_l W_l)\big), \quad
        H_0 = \mathrm{ReLU}(X W + c), \quad \beta_l = \log(\lambda / l + 1)

    and a linear layer on the last. The starred form, equation 6, has a second matrix for H_0:

    .. math:: H_l = \mathrm{ReLU}\big((1 - \alpha) P H_{l-1} ((1 - \beta_l) I + \beta_l W_l)
        + \alpha H_0 ((1 - \beta_l) I + \beta_l V_l)\big)

    The paper uses more weight decay for convolutions than for dense layers:
    ``gnnlib.train.decay_groups(model, {"*": 5e-4, "blocks.*": 0.01})``.

    Differs from the paper: self-loops are not added; returns scores, of which the paper takes the softmax.

    Args:
        in_feats, hidden_feats, out_feats: widths
        num_layers: number of convolutions
        alpha: share of the first hidden features
        lam: lambda, how far layers are from the identity
        dropout: of the input of each layer
        starred: whether to use equation 6, GCNII*

    Shapes:
        - x: (N, \*, in_feats)
        - edge: weights (E,) or None
        - output: scores (N, \*, out_feats)

    Example:
        >>> from gnnlib.models import GCNII
        >>> sum(p.numel() for p in GCNII(1433, 64, 7, num_layers=64).parameters()) == 1434 * 64 + 64 * 64**2 + 65 * 7
        True
    """

    def __init__(
        self,
        in_feats: int,
        hidden_feats: int,
        out_feats: int,
        num_layers: int = 64,
        *,
        alpha: float = 0.1,
        lam: float = 0.5,
        dropout: float = 0.6,
        starred: bool = False,
    ):
        num_layers, drop = integer(self, "num_layers", num_layers), Dropout(dropout)
        skip: Callable[..., nn.Module] = TwoMatrixInitialResidual if starred else InitialResidual

        def block(layer: int) -> GNNLayer:
            hop = GCNConv(hidden_feats, hidden_feats, weight=False, bias=False)
            return GNNLayer(
                hop,
                skip=skip(hidden_feats, hidden_feats, layer, alpha=alpha, lam=lam),
                activation=nn.ReLU(),
                dropout=drop,
            )

        super().__init__(
            [block(layer) for layer in range(1, num_layers + 1)],
            encoder=nn.Sequential(drop, Linear(in_feats, hidden_feats), nn.ReLU()),
            head=nn.Sequential(drop, Linear(hidden_feats, out_feats)),
        )
        self.in_feats, self.hidden_feats, self.out_feats = in_feats, hidden_feats, out_feats
        self.num_layers, self.alpha, self.lam, self.dropout, self.starred = num_layers, alpha, lam, dropout, starred


class TwoMatrixInitialResidual(nn.Module):
    """The initial residual of GCNII*, equation 6: a matrix for the propagated features, one for the first."""

    def __init__(self, in_feats: int, out_feats: int, layer: int, *, alpha: float, lam: float):
        super().__init__()
        self.alpha, self.beta = alpha, log(lam / layer + 1)
        self.weight = nn.Parameter(torch.empty(in_feats, out_feats))
        self.first = nn.Parameter(torch.empty(in_feats, out_feats))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw both matrices anew as Glorot and Bengio (2010)."""
        nn.init.xavier_uniform_(self.weight)
        nn.init.xavier_uniform_(self.first)

    def forward(self, y: Tensor, x: Tensor, x0: Tensor) -> Tensor:
        """Add the first hidden features, each after its identity mapping.

        Args:
            y: output of the layer, (N, \\*, out_feats)
            x: not used
            x0: first hidden features, (N_src, \\*, in_feats)

        Returns:
            (N, \\*, out_feats)
        """

        def mapped(z: Tensor, weight: Tensor) -> Tensor:
            return torch.lerp(z, linear(z, weight.T), self.beta)

        return torch.lerp(mapped(y, self.weight), mapped(x0[: len(y)], self.first), self.alpha)
