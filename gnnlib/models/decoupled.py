"""Decoupled networks: propagation without weights, before the learned layers (SGC, GfNN, SIGN) or after them (APPNP,
DAGNN).

Propagation that comes first has no parameters, so it can be precomputed: a model with ``k=0`` on features after k hops
is the model with ``k``.
"""

import torch
from torch import Tensor, nn

from gnnlib.nn.conv import SGConv
from gnnlib.nn.drop import Dropout
from gnnlib.nn.layer import GNNLayer
from gnnlib.nn.norm import BatchNorm
from gnnlib.nn.propagation import APPNP, DAGNN, Hops
from gnnlib.nn.stack import Stack
from gnnlib.ops.linear import Linear

__all__ = ["APPNPNet", "DAGNNNet", "GfNN", "SGC", "SIGN"]


class SGC(Stack):
    r"""Simplified graph convolution (Wu et al. 2019, arXiv 1902.07153, equation 8): k hops, then logistic regression.

    .. math:: Y = P^k X W + c, \qquad P = D^{-1/2} A D^{-1/2}

    Differs from the paper: self-loops are not added; returns scores, of which the paper takes the softmax.

    Args:
        in_feats, out_feats: widths
        k: number of hops

    Shapes:
        - x: (N, \*, in_feats)
        - edge: weights (E,) or None
        - output: scores (N, \*, out_feats)

    Raises:
        ValueError: as for `SGConv`

    Example:
        >>> from gnnlib.models import SGC
        >>> sum(p.numel() for p in SGC(1433, 7).parameters())
        10038
    """

    def __init__(self, in_feats: int, out_feats: int, k: int = 2):
        super().__init__([GNNLayer(SGConv(in_feats, out_feats, k))])
        self.in_feats, self.out_feats, self.k = in_feats, out_feats, k


class GfNN(Stack):
    r"""Graph filter neural network (NT and Maehara 2019, arXiv 1905.09550, section 5): k hops of a low-pass filter,
    then a network of two layers without the graph.

    .. math:: Y = \mathrm{ReLU}(P^k X W_1 + c_1) W_2 + c_2, \qquad P = D^{-1/2} A D^{-1/2}

    Differs from the paper: self-loops are not added; returns scores, of which the paper takes the softmax.

    Args:
        in_feats, hidden_feats, out_feats: widths
        k: number of hops
        dropout: of the hidden features

    Shapes:
        - x: (N, \*, in_feats)
        - edge: weights (E,) or None
        - output: scores (N, \*, out_feats)

    Raises:
        ValueError: as for `SGConv`

    Example:
        >>> from gnnlib.models import GfNN
        >>> sum(p.numel() for p in GfNN(1433, 32, 7).parameters()) == 1433 * 32 + 32 + 32 * 7 + 7
        True
    """

    def __init__(self, in_feats: int, hidden_feats: int, out_feats: int, k: int = 2, *, dropout: float = 0.5):
        first = GNNLayer(SGConv(in_feats, hidden_feats, k), activation=nn.ReLU())
        super().__init__([first], head=nn.Sequential(Dropout(dropout), Linear(hidden_feats, out_feats)))
        self.in_feats, self.hidden_feats, self.out_feats = in_feats, hidden_feats, out_feats
        self.k, self.dropout = k, dropout


class SIGN(Stack):
    r"""Scalable inception graph network (Frasca et al. 2020, arXiv 2004.11198, section 3): features after 0 to k hops,
    each multiplied by a matrix, concatenated, then a linear layer.

    .. math:: Y = \mathrm{ReLU}\big([X W_0, P X W_1, \dots, P^k X W_k]\big) W + c, \qquad P = D^{-1/2} A D^{-1/2}

    Differs from the paper: self-loops are not added; batch normalisation before the ReLU, as in the authors' code;
    returns scores, of which the paper takes the softmax.

    All parameters are in ``head``, which takes rows of the output of `Hops`, (n, \*, k + 1, in_feats).

    Args:
        in_feats, hidden_feats, out_feats: widths
        k: number of hops
        dropout: of the hidden features

    Shapes:
        - x: (N, \*, in_feats)
        - output: scores (N, \*, out_feats)

    Raises:
        ValueError: if k is below 0

    Example:
        >>> import torch
        >>> from gnnlib.models import SIGN
        >>> from gnnlib.nn import Hops
        >>> import dgl
        >>> g, x = dgl.graph(([0, 1], [1, 0])), torch.rand(2, 8)
        >>> model = SIGN(8, 16, 3, k=2).eval()
        >>> torch.equal(model(g, x), model.head(Hops(2)(g, x)))
        True
    """

    def __init__(self, in_feats: int, hidden_feats: int, out_feats: int, k: int = 3, *, dropout: float = 0.5):
        hops, width = Hops(k), (k + 1) * hidden_feats
        inception = HopInception(k + 1, in_feats, hidden_feats)
        head = nn.Sequential(inception, nn.ReLU(), Dropout(dropout), Linear(width, out_feats))
        super().__init__([GNNLayer(hops, merge=nn.Identity())], head=head)
        self.in_feats, self.hidden_feats, self.out_feats = in_feats, hidden_feats, out_feats
        self.k, self.dropout = k, dropout


class HopInception(nn.Module):
    """(n, \\*, K, F) times a matrix for each of K, concatenated and normalised."""

    def __init__(self, number: int, in_feats: int, out_feats: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(number, in_feats, out_feats))
        self.norm = BatchNorm(number * out_feats)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the matrices anew as Glorot and Bengio (2010)."""
        for matrix in self.weight.detach():
            nn.init.xavier_uniform_(matrix)
        self.norm.reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        """Multiply by the matrices, concatenate and normalise.

        Args:
            x: features after K - 1 hops and less, (n, \\*, K, in_feats)

        Returns:
            (n, \\*, K out_feats)
        """
        return self.norm(None, torch.einsum("...kf,kfo->...ko", x, self.weight).flatten(-2))


class APPNPNet(Stack):
    r"""Predict, then propagate (Gasteiger et al. 2019, arXiv 1810.05997, equation 4): a network of two layers without
    the graph, then k hops of personalised PageRank with `APPNP`.

    .. math:: Z_0 = \mathrm{ReLU}(X W_1 + c_1) W_2 + c_2, \qquad Z_{i+1} = (1 - \alpha) P Z_i + \alpha Z_0

    Differs from the paper: self-loops are not added; returns scores, of which the paper takes the softmax.

    Args:
        in_feats, hidden_feats, out_feats: widths
        k: number of hops
        alpha: teleport probability
        dropout: of the input, of the hidden features, and of the coefficients of the edges at each hop

    Shapes:
        - x: (N, \*, in_feats)
        - edge: weights (E,) or None
        - output: scores (N, \*, out_feats)

    Raises:
        ValueError: as for `APPNP`

    Example:
        >>> from gnnlib.models import APPNPNet
        >>> sum(p.numel() for p in APPNPNet(1433, 64, 7).parameters()) == 1433 * 64 + 64 + 64 * 7 + 7
        True
    """

    def __init__(
        self,
        in_feats: int,
        hidden_feats: int,
        out_feats: int,
        k: int = 10,
        *,
        alpha: float = 0.1,
        dropout: float = 0.5,
    ):
        hops = APPNP(k, alpha=alpha, drop=Dropout(dropout))
        super().__init__([GNNLayer(hops)], encoder=_mlp(in_feats, hidden_feats, out_feats, dropout))
        self.in_feats, self.hidden_feats, self.out_feats = in_feats, hidden_feats, out_feats
        self.k, self.alpha, self.dropout = k, alpha, dropout


class DAGNNNet(Stack):
    r"""Deep adaptive graph neural network (Liu et al. 2020, arXiv 2007.09296, equation 8): a network of two layers
    without the graph, then a weighted sum of the averages over 0 to k hops with `DAGNN`.

    .. math:: H_0 = \mathrm{ReLU}(X W_1 + c_1) W_2 + c_2, \qquad Y = \sum_{i=0}^{k} \sigma(P^i H_0 s) \circ P^i H_0

    Differs from the paper: self-loops are not added; returns scores, of which the paper takes the softmax.

    Args:
        in_feats, hidden_feats, out_feats: widths
        k: number of hops
        dropout: of the input and of the hidden features

    Shapes:
        - x: (N, \*, in_feats)
        - edge: weights (E,) or None
        - output: scores (N, \*, out_feats)

    Raises:
        ValueError: as for `DAGNN`

    Example:
        >>> from gnnlib.models import DAGNNNet
        >>> sum(p.numel() for p in DAGNNNet(1433, 64, 7).parameters()) == 1433 * 64 + 64 + 64 * 7 + 7 + 7
        True
    """

    def __init__(self, in_feats: int, hidden_feats: int, out_feats: int, k: int = 10, *, dropout: float = 0.8):
        super().__init__([GNNLayer(DAGNN(out_feats, k))], encoder=_mlp(in_feats, hidden_feats, out_feats, dropout))
        self.in_feats, self.hidden_feats, self.out_feats = in_feats, hidden_feats, out_feats
        self.k, self.dropout = k, dropout


def _mlp(in_feats: int, hidden_feats: int, out_feats: int, dropout: float) -> nn.Sequential:
    drop = Dropout(dropout)
    return nn.Sequential(drop, Linear(in_feats, hidden_feats), nn.ReLU(), drop, Linear(hidden_feats, out_feats))
