"""Normalisations: modules called as ``norm(graph, x)`` with x (N, \\*, F), made as ``Norm(feats)``.

What is taken over the nodes of a graph is taken for each graph of a batch and each signal by itself.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from gnnlib._platform.dgl import dgl
from gnnlib.graph.batch import graph_sizes, node_to_graph
from gnnlib.ops import aggregate
from gnnlib.ops.linear import Linear

__all__ = [
    "BatchNorm",
    "DiffGroupNorm",
    "GraphNorm",
    "LayerNorm",
    "MeanSubtraction",
    "NodeNorm",
    "PairNorm",
    "PairNormSCS",
    "RowBatchNorm",
]


def graph_mean(graph: dgl.DGLGraph, device: torch.device) -> Callable[[Tensor], Tensor]:
    """x (N, \\*, F) -> the mean over each node's own graph, of that shape; of one graph (1, \\*, F)."""
    if len(graph_sizes(graph)) == 1:
        return lambda x: x.sum(0, keepdim=True) / max(len(x), 1)
    adj = node_to_graph(graph, device)
    return lambda x: aggregate(adj.reverse(), aggregate(adj, x, reduce="mean"))


class BatchNorm(nn.BatchNorm1d):
    """Batch normalisation over all nodes and signals (Ioffe and Szegedy 2015, arXiv 1502.03167, algorithm 1).

    With fewer than two rows a variance has no meaning: the running statistics serve, as in evaluation.

    >>> g = dgl.graph(([0], [1]))
    >>> BatchNorm(1)(g, torch.tensor([[1.0], [3.0]])).flatten().tolist()
    [-0.9999949932098389, 0.9999949932098389]
    """

    def forward(self, graph: dgl.DGLGraph, x: Tensor) -> Tensor:  # type: ignore[override]
        rows = x.reshape(-1, x.shape[-1])
        if self.training and len(rows) < 2:
            y = nn.functional.batch_norm(
                rows, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
        else:
            y = super().forward(rows)
        return y.view(x.shape)


class RowBatchNorm(BatchNorm):
    """`BatchNorm` within an MLP, which has no graph to hand on: called as ``norm(x)``.

    >>> RowBatchNorm(1)(torch.tensor([[1.0], [3.0]])).flatten().tolist()
    [-0.9999949932098389, 0.9999949932098389]
    """

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(None, x)


class LayerNorm(nn.LayerNorm):
    """Layer normalisation over the features of each node (Ba et al. 2016, arXiv 1607.06450, equation 3).

    >>> g = dgl.graph(([0], [1]))
    >>> LayerNorm(2)(g, torch.tensor([[1.0, 3.0], [5.0, 5.0]])).round(decimals=3).tolist()
    [[-1.0, 1.0], [0.0, 0.0]]
    """

    def forward(self, graph: dgl.DGLGraph, x: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(x)


class PairNorm(nn.Module):
    r"""PairNorm (Zhao and Akoglu 2020, arXiv 1909.12223, equations 10 and 11): keeps the mean squared distance
    between the nodes of a graph, which repeated averaging would shrink to 0.

    .. math:: x^c_v = x_v - \frac1n \sum_u x_u, \qquad
        y_v = s\, x^c_v \Big/ \sqrt{\tfrac1n \sum_u \lVert x^c_u \rVert^2}

    Args:
        feats: accepted for uniformity; nothing is learned
        scale: s
        individually: PairNorm-SI: each row is divided by its own length

    Each graph of a batch and each signal is normalised by itself; a graph of one node gives 0.

    >>> g = dgl.graph(([0], [1]))
    >>> PairNorm(1)(g, torch.tensor([[1.0], [3.0]])).flatten().tolist()
    [-1.0, 1.0]
    """

    def __init__(self, feats: int | None = None, scale: float = 1.0, individually: bool = False, eps: float = 1e-12):
        super().__init__()
        self.scale, self.individually, self.eps = scale, individually, eps

    def forward(self, graph: dgl.DGLGraph, x: Tensor) -> Tensor:
        mean = graph_mean(graph, x.device)
        centred = x - mean(x)
        square = centred.square().sum(-1, keepdim=True)
        return self.scale * centred * torch.rsqrt((square if self.individually else mean(square)) + self.eps)


class PairNormSCS(nn.Module):
    r"""PairNorm that scales and centres at once (the "PN-SCS" of the code of Zhao and Akoglu 2020, arXiv 1909.12223;
    it is not in the paper): each row to length s, then less the mean of the rows as they came.

    .. math:: y_v = s\, x_v / \lVert x_v \rVert - \frac1n \sum_u x_u

    Args:
        feats: accepted for uniformity; nothing is learned
        scale: s

    >>> g = dgl.graph(([0], [1]))
    >>> PairNormSCS(1)(g, torch.tensor([[1.0], [3.0]])).flatten().tolist()
    [-1.0, -1.0]
    """

    def __init__(self, feats: int | None = None, scale: float = 1.0, eps: float = 1e-12):
        super().__init__()
        self.scale, self.eps = scale, eps

    def forward(self, graph: dgl.DGLGraph, x: Tensor) -> Tensor:
        length = torch.sqrt(x.square().sum(-1, keepdim=True) + self.eps)
        return self.scale * x / length - graph_mean(graph, x.device)(x)


class MeanSubtraction(nn.Module):
    r"""Mean subtraction (Yang et al. 2020, arXiv 2003.13663): takes out the one direction to which averaging over
    neighbours converges, so that repeated layers lead to the second eigenvector instead.

    .. math:: y_v = x_v - \frac1n \sum_u x_u

    Args:
        feats: accepted for uniformity; nothing is learned

    >>> g = dgl.graph(([0], [1]))
    >>> MeanSubtraction(1)(g, torch.tensor([[1.0], [3.0]])).flatten().tolist()
    [-1.0, 1.0]
    """

    def __init__(self, feats: int | None = None):
        super().__init__()

    def forward(self, graph: dgl.DGLGraph, x: Tensor) -> Tensor:
        return x - graph_mean(graph, x.device)(x)


class GraphNorm(nn.Module):
    r"""GraphNorm (Cai et al. 2021, arXiv 2009.03294): each feature over the nodes of its graph, with a learned share
    of the mean taken out.

    .. math:: y_v = \gamma \frac{x_v - \alpha \mu}{\sigma} + \beta, \qquad \mu = \frac1n \sum_u x_u, \quad
        \sigma^2 = \frac1n \sum_u (x_u - \alpha \mu)^2

    Args:
        feats: width of x; alpha, gamma and beta have one value for each feature, and start at 1, 1 and 0
        eps: added to the variance

    A graph of one node gives beta at first.

    >>> g = dgl.graph(([0], [1]))
    >>> GraphNorm(1)(g, torch.tensor([[1.0], [3.0]])).flatten().tolist()
    [-0.9999949932098389, 0.9999949932098389]
    """

    def __init__(self, feats: int, eps: float = 1e-5):
        super().__init__()
        self.eps = eps
        self.mean_scale = nn.Parameter(torch.ones(feats))
        self.weight = nn.Parameter(torch.ones(feats))
        self.bias = nn.Parameter(torch.zeros(feats))

    def forward(self, graph: dgl.DGLGraph, x: Tensor) -> Tensor:
        mean = graph_mean(graph, x.device)
        shifted = x - self.mean_scale * mean(x)
        return self.weight * shifted * torch.rsqrt(mean(shifted.square()) + self.eps) + self.bias


class DiffGroupNorm(nn.Module):
    r"""Differentiable group normalisation (Zhou et al. 2020, arXiv 2006.06972): nodes belong to G groups by learned
    shares, and each group has a batch normalisation of its own.

    .. math:: S = \mathrm{softmax}(X U), \qquad Y = X + \lambda \sum_{i=1}^{G} \mathrm{BN}_i(S_{:, i} \circ X)

    Args:
        feats: width of x
        groups: G
        lam: lambda

    Statistics are those of `BatchNorm`: over all nodes and signals. Memory: (N, \*, G F).

    >>> g = dgl.graph(([0], [1]))
    >>> DiffGroupNorm(1, groups=2, lam=0.5)(g, torch.tensor([[1.0], [3.0]])).shape
    torch.Size([2, 1])
    """

    def __init__(self, feats: int, groups: int = 10, lam: float = 0.01):
        super().__init__()
        self.lam = lam
        self.assign = Linear(feats, groups, bias=False)
        self.norm = BatchNorm(groups * feats)

    def forward(self, graph: dgl.DGLGraph, x: Tensor) -> Tensor:
        share = self.assign(x).softmax(-1)
        parts = share.unsqueeze(-1) * x.unsqueeze(-2)  # (N, *, G, F)
        return x + self.lam * self.norm(graph, parts.flatten(-2)).view(parts.shape).sum(-2)


class NodeNorm(nn.Module):
    r"""NodeNorm (Zhou et al. 2021, arXiv 2006.07107): the features of each node by the p-th root of their deviation.

    .. math:: y_v = x_v / \sigma_v^{1/p}, \qquad \sigma_v^2 = \frac1F \sum_j \big(x_{vj} - \mathrm{mean}(x_v)\big)^2

    Args:
        feats: accepted for uniformity; nothing is learned
        p: 1 makes the deviation 1; with more, nodes keep some of theirs
        eps: added to the variance

    >>> g = dgl.graph(([0], [1]))
    >>> NodeNorm(2)(g, torch.tensor([[1.0, 9.0], [0.0, 18.0]])).round(decimals=3).tolist()
    [[0.5, 4.5], [0.0, 6.0]]
    """

    def __init__(self, feats: int | None = None, p: float = 2.0, eps: float = 1e-5):
        super().__init__()
        self.p, self.eps = p, eps

    def forward(self, graph: dgl.DGLGraph, x: Tensor) -> Tensor:
        variance = (x - x.mean(-1, keepdim=True)).square().mean(-1, keepdim=True)
        return x * (variance + self.eps) ** (-0.5 / self.p)
