"""Normalisations: modules called as ``norm(graph, x)`` with x (N, \\*, F), made as ``Norm(feats)``."""

import torch
from torch import Tensor, nn

from gnnlib._dgl import dgl
from gnnlib.ops import aggregate
from gnnlib.readouts import members

__all__ = ["BatchNorm", "LayerNorm", "PairNorm"]


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
        nb = members(graph, x.device)

        def mean(t: Tensor) -> Tensor:  # over the graph of each node
            return aggregate(nb, t, reduce="mean")[nb.dst]

        centred = x - mean(x)
        square = centred.square().sum(-1, keepdim=True)
        return self.scale * centred * torch.rsqrt((square if self.individually else mean(square)) + self.eps)
