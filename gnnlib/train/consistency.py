"""Training that asks a network to say the same whatever was dropped; the labelled nodes of a graph are often few."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

__all__ = ["ConsistencyLoss", "StochasticPasses"]


class StochasticPasses(nn.Module):
    """A network run several times on the same input while training, with new drops each time.

    Its outputs come side by side, (S, N, C) of S runs; in evaluation there is one, (N, C).

    Args:
        model: called as ``model(graph, x, edge)``
        number: S, at least 1

    Raises: ValueError for a number below 1.

    >>> from gnnlib import GCNConv, Stack
    >>> from gnnlib._platform.dgl import dgl
    >>> model = StochasticPasses(Stack.build(GCNConv, 8, 16, 3, num_layers=2, dropout=0.5), 4)
    >>> g = dgl.graph(([0, 1], [1, 0]))
    >>> model(g, torch.ones(2, 8)).shape, model.eval()(g, torch.ones(2, 8)).shape
    (torch.Size([4, 2, 3]), torch.Size([2, 3]))
    """

    def __init__(self, model: nn.Module, number: int):
        super().__init__()
        if number < 1:
            raise ValueError(f"Draws: expected one run or more, got {number}")
        self.model, self.number = model, number

    def forward(self, *inputs: Any) -> Tensor:
        if not self.training:
            return self.model(*inputs)
        return torch.stack([self.model(*inputs) for _ in range(self.number)])


class ConsistencyLoss(nn.Module):
    r"""Cross-entropy where there are labels, agreement everywhere (GRAND: Feng et al. 2020, arXiv 2005.11079,
    equations 3 to 5), on the scores of several `StochasticPasses`.

    .. math:: L = \frac{1}{S} \sum_s \mathrm{CE}(Z^s)
        + \frac{\lambda}{S N} \sum_{s, v} \lVert \bar P'_v - P^s_v \rVert^2,
        \qquad \bar P'_{vc} \propto \Big( \frac{1}{S} \sum_s P^s_{vc} \Big)^{1/T}

    with P the softmax of Z. No gradient goes through the sharpened average.

    Args:
        weight: lambda
        temperature: T, in (0, 1]; the lower, the surer the average is made

    Shapes: scores (S, N, C); labels (N,), -100 where there is none; returns a scalar.

    Raises: ValueError for scores of another shape, or a temperature outside (0, 1].

    >>> scores = torch.tensor([[[2.0, 0.0]], [[0.0, 2.0]]])   # two draws that contradict each other
    >>> round(ConsistencyLoss()(scores, torch.tensor([-100])).item(), 3)
    0.29
    """

    def __init__(self, weight: float = 1.0, temperature: float = 0.5):
        super().__init__()
        if not 0 < temperature <= 1:
            raise ValueError(f"ConsistencyLoss: expected a temperature above 0, up to 1, got {temperature}")
        self.weight, self.temperature = weight, temperature

    def forward(self, scores: Tensor, labels: Tensor) -> Tensor:
        if scores.dim() != 3 or scores.shape[1] != len(labels):
            raise ValueError(f"scores: expected (S, {len(labels)}, C), got {tuple(scores.shape)}")
        draws, target = len(scores), labels.repeat(len(scores))
        labelled = cross_entropy(scores.flatten(0, 1), target, reduction="sum") / (draws * (labels >= 0).sum().clamp(1))
        prob = scores.softmax(-1)
        with torch.no_grad():
            average = (prob.mean(0).log() / self.temperature).softmax(-1)
        return labelled + self.weight * (prob - average).square().sum(-1).mean()
