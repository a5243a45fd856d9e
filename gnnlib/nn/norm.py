"""Normalisation layers: modules called as ``norm(graph, x)`` with x (N, \\*, F), made as ``Norm(feats)``.

Statistics over the nodes of a graph are those of each graph of a batch and of each signal, not of the batch.
"""

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint as recompute

from gnnlib.graph import GraphLike, graph_sizes, node_to_graph
from gnnlib.nn._arguments import Arguments, integer, number, positive, reset_parameters
from gnnlib.ops import aggregate
from gnnlib.ops.linear import Linear

__all__ = [
    "BatchNorm",
    "ContraNorm",
    "DiffGroupNorm",
    "GraphNorm",
    "LayerNorm",
    "MeanSubtraction",
    "NodeNorm",
    "PairNorm",
    "PairNormSCS",
    "RowBatchNorm",
]

WIDTHS = ("in_channels", "hidden_channels", "channels", "num_features", "in_feats", "hidden_dim", "hidden", "dim")
STORED_NODES = 2048
"""Up to this number of nodes of a graph, `ContraNorm` stores the matrix of its weights."""


def graph_mean(graph: GraphLike, device: torch.device) -> Callable[[Tensor], Tensor]:
    """x (N, \\*, F) -> the mean over the graph of each node, of that shape; of one graph (1, \\*, F)."""
    if len(graph_sizes(graph)) == 1:
        return lambda x: x.sum(0, keepdim=True) / max(len(x), 1)
    adj = node_to_graph(graph, device)
    return lambda x: aggregate(adj.reverse(), aggregate(adj, x, reduce="mean"))


class Norm(Arguments, nn.Module):
    """A normalisation of a width, which those without parameters do not need."""

    renamed: ClassVar = dict.fromkeys(WIDTHS, "feats")

    def __init__(self, feats: int | None):
        super().__init__()
        self.feats = feats if feats is None else integer(self, "feats", feats)


class BatchNorm(Arguments, nn.BatchNorm1d):
    """Batch normalisation over all nodes and signals (Ioffe and Szegedy 2015, arXiv 1502.03167, algorithm 1).

    With fewer than two rows there is no variance: the running statistics are used, as in evaluation.

    Args:
        feats: width of x
        eps: added to the variance
        momentum: of the running statistics; None for their cumulative average
        affine: whether to learn a scale and a shift
        track_running_stats: whether evaluation uses running statistics

    Shapes:
        - x: (N, \\*, feats)
        - output: the same

    Example:
        >>> import torch
        >>> from gnnlib import BatchNorm
        >>> import dgl
        >>> g = dgl.graph(([0], [1]))
        >>> BatchNorm(1)(g, torch.tensor([[1.0], [3.0]])).flatten().tolist()
        [-0.9999949932098389, 0.9999949932098389]
    """

    renamed: ClassVar = {
        **Norm.renamed,
        "allow_single_element": "no allow_single_element (one row uses the running statistics)",
    }

    def __init__(
        self,
        feats: int,
        *,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
    ):
        feats, eps = integer(self, "feats", feats), number(self, "eps", eps, minimum=0)
        super().__init__(feats, eps, momentum, affine, track_running_stats)

    @property
    def feats(self) -> int:
        return self.num_features

    def forward(self, graph: GraphLike | None, x: Tensor) -> Tensor:  # type: ignore[override]
        """Normalise.

        Args:
            graph: not used
            x: node features, (N, \\*, feats)

        Returns:
            The normalised features, of the same shape.
        """
        rows = x.reshape(-1, x.shape[-1])
        if self.training and len(rows) < 2:
            y = nn.functional.batch_norm(
                rows, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
        else:
            y = super().forward(rows)
        return y.view(x.shape)


class RowBatchNorm(BatchNorm):
    """Batch normalisation within an MLP, which has no graph to pass on: `BatchNorm`, called as ``norm(x)``.

    Args:
        feats: width of x
        eps, momentum, affine, track_running_stats: as for `BatchNorm`

    Shapes:
        - x: (N, \\*, feats)
        - output: the same

    Example:
        >>> import torch
        >>> from gnnlib import RowBatchNorm
        >>> RowBatchNorm(1)(torch.tensor([[1.0], [3.0]])).flatten().tolist()
        [-0.9999949932098389, 0.9999949932098389]
    """

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """Normalise.

        Args:
            x: features, (N, \\*, feats)

        Returns:
            The normalised features, of the same shape.
        """
        return super().forward(None, x)


class LayerNorm(Arguments, nn.LayerNorm):
    """Layer normalisation over the features of each node (Ba et al. 2016, arXiv 1607.06450, equation 3).

    Args:
        feats: width of x
        eps: added to the variance
        affine: whether to learn a scale and a shift
        bias: whether to learn the shift

    Shapes:
        - x: (N, \\*, feats)
        - output: the same

    Example:
        >>> import torch
        >>> from gnnlib import LayerNorm
        >>> import dgl
        >>> g = dgl.graph(([0], [1]))
        >>> LayerNorm(2)(g, torch.tensor([[1.0, 3.0], [5.0, 5.0]])).round(decimals=3).tolist()
        [[-1.0, 1.0], [0.0, 0.0]]
    """

    renamed: ClassVar = {
        **Norm.renamed,
        "normalized_shape": "feats",
        "elementwise_affine": "affine",
        "mode": 'no mode (each node is normalised by itself, as with mode="node")',
    }

    def __init__(self, feats: int, *, eps: float = 1e-5, affine: bool = True, bias: bool = True):
        super().__init__(integer(self, "feats", feats), number(self, "eps", eps, minimum=0), affine, bias)

    @property
    def feats(self) -> int:
        return self.normalized_shape[0]

    @property
    def affine(self) -> bool:
        return self.elementwise_affine

    def forward(self, graph: GraphLike, x: Tensor) -> Tensor:  # type: ignore[override]
        """Normalise.

        Args:
            graph: not used
            x: node features, (N, \\*, feats)

        Returns:
            The normalised features, of the same shape.
        """
        return super().forward(x)


class PairNorm(Norm):
    r"""PairNorm (Zhao and Akoglu 2020, arXiv 1909.12223, equations 10 and 11): keeps the mean squared distance
    between the nodes of a graph, which repeated averaging shrinks to 0.

    .. math:: x^c_v = x_v - \frac1n \sum_u x_u, \qquad
        y_v = s\, x^c_v \Big/ \sqrt{\tfrac1n \sum_u \lVert x^c_u \rVert^2}

    Each graph of a batch and each signal is normalised by itself. A graph of one node gives 0.

    Args:
        feats: width of x; optional, as there are no parameters
        scale: s
        individually: PairNorm-SI, in which each row is divided by its own length
        eps: added to the squared length

    Shapes:
        - x: (N, \*, F)
        - output: the same

    Example:
        >>> import torch
        >>> from gnnlib import PairNorm
        >>> import dgl
        >>> g = dgl.graph(([0], [1]))
        >>> PairNorm(1)(g, torch.tensor([[1.0], [3.0]])).flatten().tolist()
        [-1.0, 1.0]
    """

    renamed: ClassVar = {**Norm.renamed, "scale_individually": "individually"}

    def __init__(self, feats: int | None = None, *, scale: float = 1.0, individually: bool = False, eps: float = 1e-12):
        super().__init__(feats)
        self.scale, self.individually = number(self, "scale", scale), individually
        self.eps = number(self, "eps", eps, minimum=0)

    def forward(self, graph: GraphLike, x: Tensor) -> Tensor:
        """Normalise.

        Args:
            graph: a graph or a batch
            x: node features, (N, \\*, F)

        Returns:
            The normalised features, of the same shape.
        """
        mean = graph_mean(graph, x.device)
        difference = x - mean(x)
        square = difference.square().sum(-1, keepdim=True)
        return self.scale * difference * torch.rsqrt((square if self.individually else mean(square)) + self.eps)


class PairNormSCS(Norm):
    r"""PairNorm that scales and centres at once (the "PN-SCS" of the code of Zhao and Akoglu 2020, arXiv 1909.12223;
    it is not in the paper): each row is scaled to length s, and the mean of the rows before scaling is subtracted.

    .. math:: y_v = s\, x_v / \lVert x_v \rVert - \frac1n \sum_u x_u

    Args:
        feats: width of x; optional, as there are no parameters
        scale: s
        eps: added to the squared length

    Shapes:
        - x: (N, \*, F)
        - output: the same

    Example:
        >>> import torch
        >>> from gnnlib import PairNormSCS
        >>> import dgl
        >>> g = dgl.graph(([0], [1]))
        >>> PairNormSCS(1)(g, torch.tensor([[1.0], [3.0]])).flatten().tolist()
        [-1.0, -1.0]
    """

    def __init__(self, feats: int | None = None, *, scale: float = 1.0, eps: float = 1e-12):
        super().__init__(feats)
        self.scale, self.eps = number(self, "scale", scale), number(self, "eps", eps, minimum=0)

    def forward(self, graph: GraphLike, x: Tensor) -> Tensor:
        """Normalise.

        Args:
            graph: a graph or a batch
            x: node features, (N, \\*, F)

        Returns:
            The normalised features, of the same shape.
        """
        length = torch.sqrt(x.square().sum(-1, keepdim=True) + self.eps)
        return self.scale * x / length - graph_mean(graph, x.device)(x)


class MeanSubtraction(Norm):
    r"""Mean subtraction (Yang et al. 2020, arXiv 2003.13663): removes the one direction to which averaging over
    neighbours converges, so that repeated layers converge to the second eigenvector.

    .. math:: y_v = x_v - \frac1n \sum_u x_u

    Args:
        feats: width of x; optional, as there are no parameters

    Shapes:
        - x: (N, \*, F)
        - output: the same

    Example:
        >>> import torch
        >>> from gnnlib import MeanSubtraction
        >>> import dgl
        >>> g = dgl.graph(([0], [1]))
        >>> MeanSubtraction(1)(g, torch.tensor([[1.0], [3.0]])).flatten().tolist()
        [-1.0, 1.0]
    """

    def __init__(self, feats: int | None = None):
        super().__init__(feats)

    def forward(self, graph: GraphLike, x: Tensor) -> Tensor:
        """Subtract the mean.

        Args:
            graph: a graph or a batch
            x: node features, (N, \\*, F)

        Returns:
            The centred features, of the same shape.
        """
        return x - graph_mean(graph, x.device)(x)


class GraphNorm(Norm):
    r"""GraphNorm (Cai et al. 2021, arXiv 2009.03294): normalises each feature over the nodes of its graph, and learns
    how much of the mean to subtract.

    .. math:: y_v = \gamma \frac{x_v - \alpha \mu}{\sigma} + \beta, \qquad \mu = \frac1n \sum_u x_u, \quad
        \sigma^2 = \frac1n \sum_u (x_u - \alpha \mu)^2

    Alpha, gamma and beta have one value for each feature, initially 1, 1 and 0. A graph of one node gives beta
    initially.

    The authors' code has two forms. One is the formula of the paper, which PyTorch Geometric has too. The other one,
    for the Open Graph Benchmark, has no alpha: it subtracts the whole mean, as with ``mean_scale=False``. The paper
    calls this instance normalisation.

    Args:
        feats: width of x
        eps: added to the variance
        mean_scale: whether alpha is learned; otherwise it is 1

    Shapes:
        - x: (N, \*, feats)
        - output: the same

    Example:
        >>> import torch
        >>> from gnnlib import GraphNorm
        >>> import dgl
        >>> g = dgl.graph(([0], [1]))
        >>> GraphNorm(1)(g, torch.tensor([[1.0], [3.0]])).flatten().tolist()
        [-0.9999949932098389, 0.9999949932098389]
    """

    mean_scale: nn.Parameter | None

    def __init__(self, feats: int, *, eps: float = 1e-5, mean_scale: bool = True):
        super().__init__(integer(self, "feats", feats))
        self.eps = number(self, "eps", eps, minimum=0)
        self.register_parameter("mean_scale", nn.Parameter(torch.empty(feats)) if mean_scale else None)
        self.weight = nn.Parameter(torch.empty(feats))
        self.bias = nn.Parameter(torch.empty(feats))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set alpha and gamma to 1, beta to 0."""
        if self.mean_scale is not None:
            nn.init.ones_(self.mean_scale)
        nn.init.ones_(self.weight)
        nn.init.zeros_(self.bias)

    def forward(self, graph: GraphLike, x: Tensor) -> Tensor:
        """Normalise.

        Args:
            graph: a graph or a batch
            x: node features, (N, \\*, feats)

        Returns:
            The normalised features, of the same shape.
        """
        mean = graph_mean(graph, x.device)
        shifted = x - (mean(x) if self.mean_scale is None else self.mean_scale * mean(x))
        return self.weight * shifted * torch.rsqrt(mean(shifted.square()) + self.eps) + self.bias


class DiffGroupNorm(Norm):
    r"""Differentiable group normalisation (Zhou et al. 2020, arXiv 2006.06972): a learned soft assignment of nodes to
    G groups, with a batch normalisation for each group.

    .. math:: S = \mathrm{softmax}(X U), \qquad Y = X + \lambda \sum_{i=1}^{G} \mathrm{BN}_i(S_{:, i} \circ X)

    Statistics are those of `BatchNorm`: over all nodes and signals. Memory: (N, \*, G F).

    Args:
        feats: width of x
        groups: G
        lam: lambda

    Shapes:
        - x: (N, \*, feats)
        - output: the same

    Example:
        >>> import torch
        >>> from gnnlib import DiffGroupNorm
        >>> import dgl
        >>> g = dgl.graph(([0], [1]))
        >>> DiffGroupNorm(1, groups=2, lam=0.5)(g, torch.tensor([[1.0], [3.0]])).shape
        torch.Size([2, 1])
    """

    renamed: ClassVar = {**Norm.renamed, "lamda": "lam", "lambda_": "lam"}

    def __init__(self, feats: int, *, groups: int = 10, lam: float = 0.01):
        super().__init__(integer(self, "feats", feats))
        self.groups, self.lam = integer(self, "groups", groups), number(self, "lam", lam)
        self.assign = Linear(feats, groups, bias=False)
        self.norm = BatchNorm(groups * feats)

    def reset_parameters(self) -> None:
        """Draw the assignment anew and reset the batch normalisations."""
        reset_parameters(self.assign, self.norm)

    def forward(self, graph: GraphLike, x: Tensor) -> Tensor:
        """Normalise.

        Args:
            graph: not used
            x: node features, (N, \\*, feats)

        Returns:
            The normalised features, of the same shape.
        """
        share = self.assign(x).softmax(-1)
        parts = share.unsqueeze(-1) * x.unsqueeze(-2)  # (N, *, G, F)
        return x + self.lam * self.norm(graph, parts.flatten(-2)).view(parts.shape).sum(-2)


class ContraNorm(Norm):
    r"""ContraNorm (Guo et al. 2023, arXiv 2303.06562): moves each node away from nodes that are similar to it, as a
    gradient step on the uniformity loss of contrastive learning does.

    .. math:: y_v = \mathrm{LayerNorm}\Big(x_v - s \sum_u a_{vu} x_u\Big), \qquad
        a_{vu} = \mathrm{softmax}_u\big(\cos(x_v, x_u) / \tau\big)

    The softmax is over all nodes of the graph. The nodes need not be linked.

    Similarities are cosines, as in the authors' code; the paper has dot products. Differs from the authors' code for
    graph networks: it leaves neighbours out of the softmax, adds s x_v, and has no layer normalisation.

    Time grows with the square of the number of nodes. The matrix a is computed for some nodes at a time, and again in
    the backward pass, if the graph has more than 2048 nodes. Otherwise it is stored, (\*, N, N).

    Args:
        feats: width of x
        scale: s
        temperature: tau
        eps: added to the variance of the layer normalisation

    Shapes:
        - x: (N, \*, feats)
        - output: the same

    Example:
        >>> import torch
        >>> from gnnlib import ContraNorm
        >>> import dgl
        >>> g = dgl.graph(([0], [1]))
        >>> ContraNorm(2)(g, torch.tensor([[1.0, 0.0], [1.0, 3.0]])).round(decimals=2).tolist()
        [[1.0, -1.0], [-1.0, 1.0]]
    """

    renamed: ClassVar = {**Norm.renamed, "tau": "temperature", "temp": "temperature"}

    def __init__(self, feats: int, *, scale: float = 0.1, temperature: float = 1.0, eps: float = 1e-5):
        super().__init__(integer(self, "feats", feats))
        self.scale, self.temperature = number(self, "scale", scale), positive(self, "temperature", temperature)
        self.eps = number(self, "eps", eps, minimum=0)
        self.norm = LayerNorm(feats, eps=eps)

    def reset_parameters(self) -> None:
        """Reset the layer normalisation."""
        reset_parameters(self.norm)

    def forward(self, graph: GraphLike, x: Tensor) -> Tensor:
        """Normalise.

        Args:
            graph: a graph or a batch
            x: node features, (N, \\*, feats)

        Returns:
            The normalised features, of the same shape.
        """
        parts = x.split(graph_sizes(graph).tolist())
        return self.norm(graph, x - self.scale * torch.cat([self._weighted_sums(part) for part in parts]))

    def _weighted_sums(self, x: Tensor) -> Tensor:
        """The sum over u of a_vu x_u, of one graph."""
        value = x.unsqueeze(1).flatten(1, -2).transpose(0, 1)  # (S, n, F)
        key = nn.functional.normalize(value, dim=-1)
        query = key / self.temperature
        if len(x) <= STORED_NODES:
            y = _softmax_sums(query, key, value)
        else:
            pieces = query.split(max(1, STORED_NODES**2 // len(x)), 1)
            y = torch.cat([recompute(_softmax_sums, q, key, value, use_reentrant=False) for q in pieces], 1)
        return y.transpose(0, 1).reshape(x.shape)


def _softmax_sums(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """softmax(query key^T) value, for each signal: (S, m, F), (S, n, F), (S, n, F) -> (S, m, F)."""
    return (query @ key.transpose(1, 2)).softmax(-1) @ value


class NodeNorm(Norm):
    r"""NodeNorm (Zhou et al. 2021, arXiv 2006.07107): divides the features of each node by the p-th root of their
    standard deviation.

    .. math:: y_v = x_v / \sigma_v^{1/p}, \qquad \sigma_v^2 = \frac1F \sum_j \big(x_{vj} - \mathrm{mean}(x_v)\big)^2

    Args:
        feats: width of x; optional, as there are no parameters
        p: order of the root, at least 1. With 1 all standard deviations become 1; with more they keep their order
        eps: added to the variance

    Shapes:
        - x: (N, \*, F)
        - output: the same

    Example:
        >>> import torch
        >>> from gnnlib import NodeNorm
        >>> import dgl
        >>> g = dgl.graph(([0], [1]))
        >>> NodeNorm(2)(g, torch.tensor([[1.0, 9.0], [0.0, 18.0]])).round(decimals=3).tolist()
        [[0.5, 4.5], [0.0, 6.0]]
    """

    def __init__(self, feats: int | None = None, *, p: float = 2.0, eps: float = 1e-5):
        super().__init__(feats)
        self.p, self.eps = number(self, "p", p, minimum=1), number(self, "eps", eps, minimum=0)

    def forward(self, graph: GraphLike, x: Tensor) -> Tensor:
        """Normalise.

        Args:
            graph: not used
            x: node features, (N, \\*, F)

        Returns:
            The normalised features, of the same shape.
        """
        variance = (x - x.mean(-1, keepdim=True)).square().mean(-1, keepdim=True)
        return x * (variance + self.eps) ** (-0.5 / self.p)
