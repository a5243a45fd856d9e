"""Training loop for graphs, batches of graphs and message-flow graphs; prediction; weight decay per parameter group."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from itertools import islice
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from gnnlib._platform.dgl import dgl
from gnnlib._utils.model_state import evaluation_mode
from gnnlib.train import distributed
from gnnlib.train.checkpoints import Checkpoint, History

__all__ = ["PRECISIONS", "Batch", "decay_groups", "fit", "predict", "matmul_precision"]


class Batch(NamedTuple):
    """The input of one training step.

    Args:
        graph: a graph; or a list of message-flow graphs (DGL blocks), one per layer; None for a model of single nodes
        x: the features as the model takes them, a tensor or a pair
        target: of the outputs
        edge: edge weights or features, or a list of one tensor per block
        rows: indices or mask of the outputs that the loss is taken of, such as the training nodes; None takes all
    """

    graph: dgl.DGLGraph
    x: Any
    target: Tensor
    edge: Any = None
    rows: Tensor | None = None


def _output(model: nn.Module, batch: Batch) -> Tensor:
    y = model(batch.graph, batch.x, batch.edge)
    return y if batch.rows is None else y[batch.rows]


def fit(
    model: nn.Module,
    batches: Callable[[], Iterable[Batch]],
    loss: Callable[[Tensor, Tensor], Tensor],
    optimizer: torch.optim.Optimizer,
    epochs: int,
    *,
    scheduler: Any = None,
    step_per_batch: bool = False,
    clip: float | None = None,
    precision: str = "float32",
    measure: Callable[[], dict[str, float]] | None = None,
    score: Callable[[dict[str, float]], Any] | None = None,
    patience: int | None = None,
    on_epoch: Callable[[dict[str, float]], None] | None = None,
    checkpoint: Checkpoint | None = None,
    generators: Sequence[torch.Generator] = (),
) -> list[dict[str, float]]:
    """Trains ``model`` in place and returns one record per epoch: ``{"epoch": 1, "loss": ..., ...}``.

    Args:
        model: called as ``model(graph, x, edge)``
        batches: called at the start of each epoch; with several processes (`gnnlib.train.distributed`) each process
            yields its shard of every batch, and the loss must be a mean over targets
        loss: called on outputs and targets
        optimizer: of the model's parameters
        epochs: number of epochs
        scheduler: stepped after each epoch, or with ``step_per_batch`` after each batch. ``ReduceLROnPlateau`` receives
            the score of the epoch with mode "max", and its loss with mode "min"
        step_per_batch: step the scheduler after each batch
        clip: maximum norm of the gradients of a step, over all parameters (Pascanu et al. 2013, arXiv 1211.5063,
            algorithm 1)
        precision: of matrix products in training, "float32" or "bfloat16", as in `matmul_precision`; weights, sums
            over neighbours and all else stay float32
        measure: called after each epoch; its entries are added to the record
        score: of a record, higher is better (tuples break ties); the weights of the best epoch are restored at the
            end. None keeps the last ones
        patience: stop after this number of epochs without a better score
        on_epoch: callback, called with each record; a resumed training first calls it with the earlier records
        checkpoint: written after each epoch; if it has epochs already, the training resumes after them and ends with
            the same weights as without the interruption, to the bit on a CPU
        generators: of random numbers that ``batches`` uses, besides PyTorch's default one: the checkpoint stores
            their states, and all processes start an epoch with the first one's

    Returns:
        the records, in order

    Raises:
        ValueError: for a ``clip`` that is not positive, an unknown ``precision``, or the checkpoint of another
            optimizer
        FloatingPointError: if the loss is not finite, with the epoch
        RuntimeError: for the checkpoint of another model

    Example:
        >>> import torch
        >>> from torch.nn.functional import cross_entropy
        >>> from gnnlib import GCNConv
        >>> from gnnlib.train import Batch, fit
        >>> import dgl
        >>> g = dgl.add_self_loop(dgl.graph(([0, 1], [1, 0])))
        >>> _ = torch.manual_seed(0)
        >>> model = GCNConv(2, 2)
        >>> batch = Batch(g, torch.eye(2), torch.tensor([0, 0]))
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
        >>> records = fit(model, lambda: [batch], cross_entropy, optimizer, epochs=5)
        >>> records[-1]["loss"] < records[0]["loss"]
        True
    """
    if clip is not None and not clip > 0:
        raise ValueError(f"fit: expected clip above 0, got {clip}")
    if precision not in PRECISIONS:
        raise ValueError(f"fit: expected a precision of {', '.join(PRECISIONS)}, got {precision!r}")

    plateau = isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau)
    if plateau and (step_per_batch or (scheduler.mode == "max" and score is None)):
        raise ValueError("fit: expected ReduceLROnPlateau with mode='min', or with score=, and without step_per_batch")

    def step(value: Tensor) -> None:
        optimizer.zero_grad()
        value.backward()
        if clip is not None:
            nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], clip)
        optimizer.step()
        if scheduler is not None and step_per_batch:
            scheduler.step()

    parts = {"optimizer": optimizer, "scheduler": scheduler}
    history = History(model, parts=parts, checkpoint=checkpoint, generators=generators)
    report = on_epoch or (lambda record: None)
    for record in history.records:
        report(record)
    while len(history.records) < epochs and (patience is None or history.epochs_since_best < patience):
        epoch = len(history.records) + 1
        with matmul_precision(precision), distributed.data_parallel(model, generators) as replica:
            record = {"epoch": epoch, "loss": _train_epoch(replica, batches(), loss, step)}
        if not math.isfinite(record["loss"]):
            raise FloatingPointError(f"the loss is {record['loss']} in epoch {epoch}: try a lower learning rate")
        if scheduler is not None and not step_per_batch and not plateau:
            scheduler.step()
        if measure is not None:
            record |= measure()
        value = None if score is None else score(record)
        if plateau:
            scheduler.step(value if scheduler.mode == "max" else record["loss"])
        history.add(record, value)
        report(record)
    history.restore_best()
    return history.records


def _train_epoch(model: nn.Module, batches: Iterable[Batch], loss: Callable, step: Callable[[Tensor], None]) -> float:
    """One pass over the batches; returns the mean loss per target."""
    model.train()
    total, count = 0.0, 0.0
    for batch in batches:
        value = loss(_output(model, batch), batch.target)
        step(value * distributed.shard_weight(len(batch.target), value.device))
        total += value.item() * len(batch.target)
        count += len(batch.target)
        del value, batch  # frees the memory for the next
    total, count = distributed.all_reduce_sum(total, count)
    if not count:
        raise ValueError("fit: expected batches with targets in each epoch, got none")
    return total / count


PRECISIONS = {"float32": "highest", "bfloat16": "medium"}
"""Precisions of matrix products, with PyTorch's names for them."""


@contextmanager
def matmul_precision(precision: str) -> Iterator[None]:
    """Context in which products of float32 matrices are computed in "float32" or "bfloat16".

    In bfloat16 both factors are rounded to 8 bits and the sums are float32. Processors with units for it (AMX,
    AVX512-BF16, tensor cores) are faster; on others nothing changes. Message passing is limited by memory bandwidth and
    not by products, and sums over many neighbours lose digits in bfloat16. Therefore features stay float32 between the
    products, unlike under ``torch.autocast``, and every layer works unchanged.

    Args:
        precision: "float32" or "bfloat16"

    Example:
        >>> import torch
        >>> from gnnlib.train import matmul_precision
        >>> with matmul_precision("bfloat16"):
        ...     torch.get_float32_matmul_precision()
        'medium'
    """
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(PRECISIONS[precision])
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def predict(model: nn.Module, batches: Iterable[Batch]) -> tuple[Tensor, Tensor]:
    """Outputs and targets of all batches, in evaluation mode and without gradients.

    Several processes, each with the same ``batches``, divide them and all return everything, on the CPU.

    Args:
        model: called as ``model(graph, x, edge)``
        batches: at least one

    Returns:
        outputs and targets, concatenated
    """
    with evaluation_mode(model), torch.no_grad():
        mine = islice(batches, distributed.rank(), None, distributed.world_size())
        pairs = distributed.all_gather_rows([(_output(model, batch), batch.target) for batch in mine])
    outputs, targets = zip(*pairs, strict=True)
    return torch.cat(outputs), torch.cat(targets)


def decay_groups(model: nn.Module, decay: Mapping[str, float]) -> list[dict[str, Any]]:
    """Parameter groups by weight decay, as an optimizer takes them.

    Deep networks need another decay in their convolutions than in their dense layers (GCNII: Chen et al. 2020, arXiv
    2007.02133), and none on biases.

    Args:
        model: the model
        decay: weight decay of the parameters whose names match a pattern, in which ``*`` matches anything; the last
            pattern that matches counts, and a parameter that none matches has no decay

    Returns:
        one group per decay, for the first argument of an optimizer

    Raises:
        ValueError: for a pattern that matches no name

    Example:
        >>> import torch
        >>> from gnnlib import GCNConv, Stack
        >>> from gnnlib.train import decay_groups
        >>> model = Stack.build(GCNConv, 8, 16, 3, num_layers=4, encoder=True)
        >>> groups = decay_groups(model, {"*": 5e-4, "blocks.*": 0.01, "*.bias": 0.0})
        >>> [(group["weight_decay"], len(group["params"])) for group in groups]
        [(0.0, 6), (0.0005, 2), (0.01, 4)]
        >>> optimizer = torch.optim.Adam(groups, lr=0.01)
    """
    names = [name for name, _ in model.named_parameters()]
    for pattern in decay:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise ValueError(f"decay_groups: expected patterns that match some of {names}, got {pattern!r}")
    groups: dict[float, list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        matches = [value for pattern, value in decay.items() if fnmatchcase(name, pattern)]
        groups.setdefault([0.0, *matches][-1], []).append(parameter)
    return [{"params": groups[value], "weight_decay": value} for value in sorted(groups)]
