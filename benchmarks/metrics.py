"""Metrics of classification and regression, and statistics of a training."""

import math

import torch
from torch import Tensor, nn


def accuracy(outputs: Tensor, target: Tensor) -> float:
    """Accuracy of class scores (N, C), in percent."""
    return 100 * (outputs.argmax(-1) == target).double().mean().item()


def roc_auc(outputs: Tensor, target: Tensor) -> float:
    """Area under the ROC curve of the scores (N, 2) of two classes, in percent; NaN if one class alone occurs."""
    from sklearn.metrics import roc_auc_score  # takes a second

    if target.unique().numel() < 2:
        return math.nan
    return 100 * float(roc_auc_score(target.cpu().numpy(), outputs.diff(dim=1).squeeze(1).double().cpu().numpy()))


def r2(outputs: Tensor, target: Tensor) -> float:
    """The explained variance, or coefficient of determination, of numbers (N, F), in percent: 100 for exact outputs, 0
    for the mean of the targets. The mean over the columns; NaN if a column is constant."""
    target = target.view_as(outputs).double()
    total = (target - target.mean(0)).square().sum(0)
    return 100 * (1 - (target - outputs).square().sum(0) / total.where(total > 0, torch.nan)).mean().item()


def confusion_matrix(outputs: Tensor, target: Tensor, num_classes: int) -> list[list[int]]:
    """Counts of (true class, predicted class): a row for each true class."""
    index = target * num_classes + outputs.argmax(-1)
    return torch.bincount(index.cpu(), minlength=num_classes**2).view(num_classes, num_classes).tolist()


def num_parameters(model: nn.Module) -> int:
    """The number of a model's parameters."""
    return sum(p.numel() for p in model.parameters())


def mean_std(values: list[float]) -> tuple[float, float | None]:
    """Mean and unbiased standard deviation (None for a single value).

    Sums are exact: those of ``sum`` differ between Python 3.11 and 3.12 in the last bit, and so may a rounded figure.

    Example:
        >>> from gnnlib.benchmarks.metrics import mean_std
        >>> mean_std([1.0, 3.0])
        (2.0, 1.4142135623730951)
    """
    mean = math.fsum(values) / len(values)
    if len(values) == 1:
        return mean, None
    return mean, math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (len(values) - 1))
