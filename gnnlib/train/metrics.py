"""Metrics of predictions, computed by scikit-learn, which is imported at the first use."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from gnnlib.train.losses import match_targets, task_of

__all__ = ["METRICS", "Evaluation", "compute_metrics", "default_metric", "is_better_lower"]


class Scored(NamedTuple):
    """The targets of one column with their scores and decisions, without missing ones.

    Args:
        target: (n,)
        score: probabilities of the classes (n, C), or of a label (n,), or numbers (n,)
        decision: the predicted class, label or number, (n,)
    """

    target: np.ndarray
    score: np.ndarray
    decision: np.ndarray


class Metric(NamedTuple):
    """A metric of one column. For several columns it is the mean over those where it is defined."""

    tasks: Sequence[str]
    function: Callable[[Scored], float]
    higher_is_better: bool = True


def _sklearn(name: str) -> Callable[..., Any]:
    from sklearn import metrics  # takes a second

    return getattr(metrics, name)


def _f1(column: Scored) -> float:
    average = "macro" if column.score.ndim == 2 else "binary"
    return _sklearn("f1_score")(column.target, column.decision, average=average, zero_division=0)


def _roc_auc(column: Scored) -> float:
    """Of several classes, each that occurs against the others (Provost and Domingos 2000, one-vs-rest)."""
    classes = np.unique(column.target)
    if len(classes) < 2:
        return float("nan")
    area = _sklearn("roc_auc_score")
    if column.score.ndim == 1:
        return area(column.target, column.score)
    if column.score.shape[1] == 2:
        return area(column.target, column.score[:, 1])
    return float(np.mean([area(column.target == c, column.score[:, c]) for c in classes]))


def _average_precision(column: Scored) -> float:
    if not column.target.any():
        return float("nan")
    return _sklearn("average_precision_score")(column.target, column.score)


def _r2(column: Scored) -> float:
    return _sklearn("r2_score")(column.target, column.score) if len(column.target) > 1 else float("nan")


METRICS = {
    "accuracy": Metric(("multiclass", "multilabel"), lambda c: _sklearn("accuracy_score")(c.target, c.decision)),
    "f1": Metric(("multiclass", "multilabel"), _f1),
    "roc_auc": Metric(("multiclass", "multilabel"), _roc_auc),
    "average_precision": Metric(("multilabel",), _average_precision),
    "mae": Metric(("regression",), lambda c: _sklearn("mean_absolute_error")(c.target, c.score), False),
    "rmse": Metric(("regression",), lambda c: _sklearn("mean_squared_error")(c.target, c.score) ** 0.5, False),
    "r2": Metric(("regression",), _r2),
}
"""The metrics by name."""


def default_metric(task: str) -> str:
    """The metric that `fit` records for a kind of targets."""
    return {"multiclass": "accuracy", "multilabel": "roc_auc", "regression": "mae"}[task]


def is_better_lower(name: str) -> bool:
    """Whether a lower value of an entry of a record is better, such as of "val_loss"."""
    metric = METRICS.get(name.removeprefix("val_"))
    return name.endswith("loss") if metric is None else not metric.higher_is_better


class Evaluation(dict[str, float]):
    """Metrics by name, and the confusion matrix.

    Attributes:
        confusion: int64 (C, C), a row for each true class and a column for each predicted one; None for several
            labels and for numbers

    Example:
        >>> import torch
        >>> from gnnlib.train.metrics import compute_metrics
        >>> outputs = torch.tensor([[2.0, 0.0], [1.0, 0.0], [0.0, 3.0]])
        >>> compute_metrics(outputs, torch.tensor([0, 1, 1]), ["f1"]).confusion
        tensor([[1, 0],
                [1, 1]])
    """

    confusion: Tensor | None = None

    def __missing__(self, name: str) -> float:
        raise KeyError(f"evaluate: expected one of {', '.join(self)}, got {name!r}")


def compute_metrics(
    outputs: Tensor, target: Tensor, metrics: Sequence[str] | None = None, task: str | None = None
) -> Evaluation:
    """Metrics of a model's outputs; missing targets (negative classes, NaN elsewhere) are left out.

    Args:
        outputs: scores of classes (N, C), logits of labels (N, T), or numbers
        target: of these
        metrics: names of `METRICS`, or one of them; None for all of the task
        task: "multiclass", "multilabel" or "regression"; None: by the type of the targets

    Returns:
        the metrics

    Raises:
        ValueError: for an unknown metric or one of another task, or if outputs and targets do not fit
        ImportError: if scikit-learn is missing
    """
    task = task or task_of(target)
    metrics = [metrics] if isinstance(metrics, str) else metrics
    if metrics is not None and not isinstance(metrics, (list, tuple)):
        raise TypeError(f"evaluate: expected metrics to be a list of names, got {metrics!r}")
    names = [name for name, metric in METRICS.items() if task in metric.tasks]
    for name in names if metrics is None else metrics:
        if name not in names:
            raise ValueError(f"evaluate: expected metrics among {', '.join(names)} for task={task!r}, got {name!r}")
    columns = _columns(task, outputs.detach().cpu(), target.detach().cpu())
    if not any(len(column.target) for column in columns):
        raise ValueError(f"evaluate: expected a target or more that is not missing, got none of {len(target)}")
    rows = max((_nan_rows(column.score) for column in columns), default=0)
    if rows:
        raise ValueError(
            f"evaluate: expected outputs that are numbers, got nan in {rows} of {len(outputs)} rows; are the features "
            "and the parameters of the model finite?"
        )
    result = Evaluation({name: _mean(METRICS[name], columns) for name in (names if metrics is None else metrics)})
    if task == "multiclass":
        (column,) = columns
        matrix = _sklearn("confusion_matrix")(column.target, column.decision, labels=range(column.score.shape[1]))
        result.confusion = torch.from_numpy(matrix)
    return result


def _nan_rows(score: np.ndarray) -> int:
    return int(np.isnan(score).any(axis=tuple(range(1, score.ndim))).sum())


def _mean(metric: Metric, columns: Sequence[Scored]) -> float:
    values = [float(metric.function(column)) for column in columns if len(column.target)]
    values = [value for value in values if value == value]
    return math.fsum(values) / len(values) if values else float("nan")


def _columns(task: str, outputs: Tensor, target: Tensor) -> list[Scored]:
    outputs, target = match_targets(task, outputs, target)
    if task == "multiclass":
        rows = target >= 0
        prob = outputs[rows].double().softmax(1)
        return [Scored(target[rows].numpy(), prob.numpy(), prob.argmax(1).numpy())]
    outputs, target = (t.double().reshape(len(t), -1) for t in (outputs, target))
    columns = []
    for scores, values in zip(outputs.T, target.T, strict=True):
        present = ~values.isnan()
        scores, values = scores[present], values[present]
        if task == "multilabel":
            columns.append(Scored(values.long().numpy(), scores.sigmoid().numpy(), (scores > 0).long().numpy()))
        else:
            columns.append(Scored(values.numpy(), scores.numpy(), scores.numpy()))
    return columns
