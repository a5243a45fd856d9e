"""Predictions and metrics of a trained model."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gnnlib._utils.calls import names_checked
from gnnlib.data import GraphStore
from gnnlib.graph import GraphLike, batch, is_graph
from gnnlib.nn._arguments import check_model, integer
from gnnlib.train.batch import Batch, Columns, as_batches, for_model, with_columns
from gnnlib.train.loop import outputs_and_targets
from gnnlib.train.losses import TaskLoss
from gnnlib.train.metrics import Evaluation, compute_metrics

__all__ = ["evaluate", "predict"]

COLUMNS = {
    "feat": "feature=",
    "mask": "Batch.from_graph(graph, rows=mask) as data",
    "rows": "Batch.from_graph(graph, rows=...) as data",
    "edge_weight": "edge=, the name of a column of graph.edata",
    "edge_attr": "edge=, the name of a column of graph.edata",
}
"""Names of other libraries, and what to write."""


@names_checked(**COLUMNS)
def predict(
    model: nn.Module,
    data: Any,
    feature: str = "feat",
    *,
    edge: str | None = None,
    batch_size: int = 256,
    device: torch.device | str | None = None,
) -> Tensor:
    """A model's outputs, in evaluation mode and without gradients.

    Several processes that train together (`gnnlib.train.distributed`) divide the batches, and all return everything.

    Args:
        model: called as ``model(graph, x, edge)``, ``model(graph, x)`` or ``model(x)``, as its forward takes them
        data: a graph, a list of graphs, a `GraphStore`, or what `fit` takes. A whole graph gives a row for each node,
            a `Batch` for each of its rows
        feature: the node features are ``graph.ndata[feature]``
        edge: the edge weights or features are ``graph.edata[edge]``; None: the model gets none
        batch_size: graphs of a list or a store that are batched
        device: where to compute: model, graphs and tensors are moved. None: tensors follow the model, and graphs stay

    Returns:
        (N, \\*), a row per node, or (B, \\*), a row per graph, if the model has a readout; on the CPU

    Raises:
        TypeError: if the data are of another kind
        ValueError: for an empty list, or a graph without these features, with the names that it has

    Example:
        >>> import torch
        >>> from gnnlib import GCNConv, Stack, predict, readout_mean
        >>> import dgl
        >>> graph = dgl.graph(([0, 1], [1, 0]))
        >>> graph.ndata["feat"] = torch.ones(2, 4)
        >>> predict(Stack.build(GCNConv, 4, 8, 3, num_layers=2, readout=readout_mean), [graph] * 5).shape
        torch.Size([5, 3])
    """
    size = integer("predict", "batch_size", batch_size)
    if isinstance(data, GraphStore):
        data = data.loader(size)
    elif isinstance(data, (list, tuple)) and data and all(map(is_graph, graphs := [with_columns(g) for g in data])):
        _check_column(graphs, feature, edge)
        data = (batch(graphs[start : start + size]) for start in range(0, len(graphs), size))
    return _outputs("predict", model, data, Columns(feature, None, edge), device)[0].cpu()


def _check_column(graphs: Sequence[GraphLike], feature: str, edge: str | None) -> None:
    """Whether all graphs have the columns, before they are batched."""
    for graph in graphs:
        Batch.from_graph(graph, feature=feature, label=None, edge=edge)


def _outputs(
    owner: str, model: nn.Module, data: Any, columns: Columns, device: Any, part: str | None = None
) -> tuple[Tensor, Tensor]:
    check_model(owner, model)
    batches = as_batches(owner, data, columns, for_model(model, device), part)
    return outputs_and_targets(model, batches())


@names_checked(**COLUMNS, split="Batch.from_graph(graph, rows=...) as data", metric="metrics=[...]")
def evaluate(
    model: nn.Module,
    data: Any,
    *,
    task: str | None = None,
    loss: Callable[[Tensor, Tensor], Tensor] | None = None,
    class_weight: Any = None,
    metrics: Sequence[str] | None = None,
    device: torch.device | str | None = None,
    feature: str = "feat",
    label: str = "label",
    edge: str | None = None,
) -> Evaluation:
    """The loss and the metrics of a model, computed by scikit-learn, in evaluation mode.

    - classes: ``accuracy``, ``f1`` (the mean over classes), ``roc_auc`` (each class against the others)
    - several labels: means over labels of ``accuracy``, ``f1``, ``roc_auc`` and ``average_precision``
    - numbers: ``mae``, ``rmse``, ``r2``

    All are fractions of 1, not percent. Missing targets are left out, as in `fit`.

    Args:
        model: as for `fit`
        data: as for `fit`. Of a whole graph with a ``test_mask`` beside its targets, its rows count
        task: as for `fit`
        loss: called on outputs and targets; None: that of the task
        class_weight: as for `fit`, numbers only; of the loss
        metrics: names; None for all of the task
        device: where to compute: model, graphs and tensors are moved. None: tensors follow the model, and graphs stay
        feature: name of the node features in graphs
        label: name of the targets in graphs
        edge: name of the edge weights or features in graphs; None for none

    Returns:
        a dictionary of ``loss`` and the metrics, with the attribute ``confusion``: for classes the counts (C, C), with
        a row for each true class and a column for each predicted one, else None

    Raises:
        TypeError: if the data are of another kind
        ValueError: if outputs and targets do not fit, or for an unknown metric
        ImportError: if scikit-learn is missing

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from gnnlib import evaluate
        >>> from gnnlib.train import Batch
        >>> model = nn.Identity()
        >>> result = evaluate(model, Batch(None, torch.eye(3), torch.tensor([0, 1, 1])), metrics=["accuracy"])
        >>> round(result["accuracy"], 2), result.confusion.tolist()
        (0.67, [[1, 0, 0], [0, 1, 1], [0, 0, 0]])
    """
    outputs, target = _outputs("evaluate", model, data, Columns(feature, label, edge), device, "test")
    criterion = loss or TaskLoss(task, class_weight)
    value = criterion(outputs, target.to(outputs.device)).item()
    values = compute_metrics(outputs, target, metrics, task)
    result = Evaluation({"loss": value, **values})
    result.confusion = values.confusion
    return result
