"""Consistency regularisation (GRAND: Feng et al. 2020, arXiv 2005.11079): predictions of several stochastic forward
passes are trained to agree, on unlabelled nodes too."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from gnnlib._utils.calls import call_model, names_checked

__all__ = ["ConsistencyLoss", "StochasticPasses"]


@names_checked()
class StochasticPasses(nn.Module):
    """Several forward passes of a model on the same input in training, each with its own dropout masks.

    Args:
        model: called as ``model(graph, x, edge)``
        num_passes: S, at least 1

    Shapes:
        - output: (S, N, C) in training, (N, C) in evaluation mode, which makes one pass

    Raises:
        ValueError: for ``num_passes`` below 1

    Example:
        >>> import torch
        >>> from gnnlib import GCNConv, Stack
        >>> from gnnlib.train import StochasticPasses
        >>> import dgl
        >>> model = StochasticPasses(Stack.build(GCNConv, 8, 16, 3, num_layers=2, dropout=0.5), 4)
        >>> g = dgl.graph(([0, 1], [1, 0]))
        >>> model(g, torch.ones(2, 8)).shape, model.eval()(g, torch.ones(2, 8)).shape
        (torch.Size([4, 2, 3]), torch.Size([2, 3]))
    """

    def __init__(self, model: nn.Module, num_passes: int):
        super().__init__()
        if num_passes < 1:
            raise ValueError(f"StochasticPasses: expected num_passes of 1 or more, got {num_passes}")
        self.model, self.num_passes = model, num_passes

    def extra_repr(self) -> str:
        return f"num_passes={self.num_passes}"

    def forward(self, *inputs: Any) -> Tensor:
        """The outputs of the passes.

        Args:
            inputs: of the model

        Returns:
            (S, N, C) in training, (N, C) in evaluation mode
        """
        if not self.training:
            return call_model(self.model, *inputs)
        return torch.stack([call_model(self.model, *inputs) for _ in range(self.num_passes)])


@names_checked()
class ConsistencyLoss(nn.Module):
    r"""Consistency regularisation loss (GRAND: Feng et al. 2020, arXiv 2005.11079, equations 3 to 5): cross-entropy on
    the labelled nodes, plus the squared distance of each prediction from the sharpened average prediction, on all
    nodes.

    .. math:: L = \frac{1}{S} \sum_s \mathrm{CE}(Z^s)
        + \frac{\lambda}{S N} \sum_{s, v} \lVert \bar P'_v - P^s_v \rVert^2,
        \qquad \bar P'_{vc} \propto \Big( \frac{1}{S} \sum_s P^s_{vc} \Big)^{1/T}

    with P the softmax of Z. No gradient goes through the sharpened average.

    Args:
        weight: lambda
        temperature: T, in (0, 1]; lower values sharpen the average more

    Shapes:
        - scores: (S, N, C), of `StochasticPasses`
        - labels: (N,), -100 where there is none
        - output: a scalar

    Raises:
        ValueError: for a temperature outside (0, 1], or scores of another shape

    Differs from the paper: nothing.

    Example:
        >>> import torch
        >>> from gnnlib.train import ConsistencyLoss
        >>> scores = torch.tensor([[[2.0, 0.0]], [[0.0, 2.0]]])  # two passes that contradict each other
        >>> round(ConsistencyLoss()(scores, torch.tensor([-100])).item(), 3)
        0.29
    """

    def __init__(self, *, weight: float = 1.0, temperature: float = 0.5):
        super().__init__()
        if not 0 < temperature <= 1:
            raise ValueError(f"ConsistencyLoss: expected a temperature above 0, up to 1, got {temperature}")
        self.weight, self.temperature = weight, temperature

    def extra_repr(self) -> str:
        return f"weight={self.weight}, temperature={self.temperature}"

    def forward(self, scores: Tensor, labels: Tensor) -> Tensor:
        """The loss.

        Args:
            scores: (S, N, C), before the softmax
            labels: (N,), -100 where there is none

        Returns:
            a scalar
        """
        if scores.dim() != 3 or scores.shape[1] != len(labels):
            raise ValueError(f"scores: expected (S, {len(labels)}, C), got {tuple(scores.shape)}")
        num_passes, target = len(scores), labels.repeat(len(scores))
        num_labels = (labels >= 0).sum().clamp(1)
        labelled = cross_entropy(scores.flatten(0, 1), target, reduction="sum") / (num_passes * num_labels)
        prob = scores.softmax(-1)
        with torch.no_grad():
            average = (prob.mean(0).log() / self.temperature).softmax(-1)
        return labelled + self.weight * (prob - average).square().sum(-1).mean()
