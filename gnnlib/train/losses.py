"""Losses by the kind of targets: classes, several labels, numbers."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from gnnlib.nn._arguments import one_of

__all__ = ["TASKS", "TaskLoss", "balanced_weight", "match_targets", "task_of"]

TASKS = ("multiclass", "multilabel", "regression")


def task_of(target: Tensor) -> str:
    """The kind of targets: booleans are several labels, other integers classes, floating-point values numbers.

    Raises:
        ValueError: for integers of several columns, which may be either
    """
    if target.dtype == torch.bool:
        return "multilabel"
    if target.is_floating_point():
        return "regression"
    if target.dim() > 1 and target.shape[1] > 1:
        raise ValueError(
            f"loss: expected classes of shape ({len(target)},), label.argmax(1) if one-hot, or task='multilabel', "
            f"got integers of shape {tuple(target.shape)}"
        )
    return "multiclass"


class TaskLoss:
    """The loss of a kind of targets: cross-entropy of classes, binary cross-entropy of several labels, mean squared
    error of numbers; a mean over the targets that are not missing (negative classes, NaN elsewhere).

    Args:
        task: "multiclass", "multilabel" or "regression"; None: by the type of the targets
        class_weight: for each class, or for the positive examples of each label
        balanced: whether classes after those in class_weight have the weight 0

    Raises:
        ValueError: if outputs and targets do not fit, with what to write

    Example:
        >>> import torch
        >>> from gnnlib.train.losses import TaskLoss
        >>> TaskLoss("regression")(torch.tensor([[1.0], [5.0]]), torch.tensor([3.0, float("nan")])).item()
        4.0
    """

    def __init__(self, task: str | None = None, class_weight: Any = None, *, balanced: bool = False):
        self.task = task if task is None else one_of("loss", "task", task, TASKS)
        self.class_weight = None if class_weight is None else _weights(class_weight)
        self.balanced = balanced

    def __call__(self, outputs: Tensor, target: Tensor) -> Tensor:
        task = self.task or task_of(target)
        outputs, target = match_targets(task, outputs, target)
        weight = None if self.class_weight is None else self.class_weight.to(outputs)
        if weight is not None and self.balanced and outputs.dim() == 2:
            weight = F.pad(weight, (0, max(0, outputs.shape[1] - len(weight))))
        if weight is not None and (task == "regression" or weight.shape != outputs.shape[1:]):
            expected = f"{outputs.shape[1]} numbers" if outputs.dim() == 2 and task != "regression" else "None"
            raise ValueError(f"loss: expected class_weight of {expected} for task={task!r}, got {tuple(weight.shape)}")
        if task == "multiclass":
            return F.cross_entropy(outputs, target, weight) if bool((target >= 0).any()) else 0 * outputs.sum()
        present = ~target.isnan()
        if not bool(present.any()):
            return 0 * outputs.sum()
        if task == "regression":
            return F.mse_loss(outputs[present], target[present])
        value = F.binary_cross_entropy_with_logits(outputs, target.nan_to_num(0.0), pos_weight=weight, reduction="none")
        return value[present].mean()


def _weights(class_weight: Any) -> Tensor:
    try:
        return torch.as_tensor(class_weight, dtype=torch.float32)
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(
            f"loss: expected class_weight to be a list or tensor of numbers, [1.0, 2.0], got {class_weight!r}"
        ) from None


def balanced_weight(target: Tensor) -> Tensor:
    """Weights inversely proportional to the number of examples, n / (C n_c) (King and Zeng 2001, "Logistic regression
    in rare events data"), 0 for a class without examples; or, for several labels, negatives over positives.

    Example:
        >>> import torch
        >>> from gnnlib.train.losses import balanced_weight
        >>> balanced_weight(torch.tensor([0, 0, 0, 1])).tolist()
        [0.6666666865348816, 2.0]
    """
    if task_of(target) == "multiclass":
        count = torch.bincount(target[target >= 0].flatten().long()).double()
        return torch.where(count > 0, count.sum() / (len(count) * count), 0.0).float()
    positive, negative = ((target == value).sum(0, dtype=torch.float64) for value in (1, 0))
    return (negative.clamp(1) / positive.clamp(1)).float().reshape(-1)


def match_targets(task: str, outputs: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Outputs and targets of the shapes that losses and metrics take; missing classes are -100, others NaN.

    Raises:
        ValueError: if they do not fit
    """
    if task == "multiclass":
        return outputs, _classes(outputs, target)
    target = target.to(outputs.dtype)
    if task == "multilabel":
        target = torch.where(target < 0, torch.nan, target)
        outputs, target = (t.unsqueeze(-1) if t.dim() == 1 else t for t in (outputs, target))
    elif outputs.numel() == target.numel() and outputs.squeeze(-1).shape == target.squeeze(-1).shape:
        outputs, target = outputs.squeeze(-1), target.squeeze(-1)
    if outputs.shape != target.shape:
        hint = "; for classes, labels.long()" if target.numel() == len(target) else ""
        raise ValueError(
            f"loss: expected outputs of the shape of the targets, {tuple(target.shape)}, for task={task!r}{hint}, got "
            f"{tuple(outputs.shape)}"
        )
    return outputs, target


def _classes(outputs: Tensor, target: Tensor) -> Tensor:
    """Classes (N,) with -100 where there is none, if the outputs (N, C) have a column for each."""
    target = target.squeeze(1) if target.dim() == 2 and target.shape[1] == 1 else target
    if outputs.dim() != 2 or target.shape != outputs.shape[:1]:
        raise ValueError(
            f"loss: expected outputs of shape ({len(target)}, C), a row of scores for each of the targets "
            f"{tuple(target.shape)}, got {tuple(outputs.shape)}"
        )
    if target.is_floating_point():
        fractions = target[target != target.round()]  # NaN among them, which is missing
        if not bool(fractions.isnan().all()):
            raise ValueError(f"loss: expected classes, whole numbers from 0, got {fractions[~fractions.isnan()][0]}")
        target = target.nan_to_num(-1.0)
    target = target.long()
    largest = int(target.max()) if len(target) else 0
    if largest >= outputs.shape[1]:
        raise ValueError(
            f"loss: expected out_feats >= {largest + 1}, as the classes go up to {largest}, got {outputs.shape[1]}"
        )
    return torch.where(target < 0, -100, target)
