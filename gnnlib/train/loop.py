"""Training: one loop for whole graphs, batches of graphs and images on a lattice; weight decay for each part."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from itertools import islice
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from gnnlib._platform.dgl import dgl
from gnnlib.train import distributed
from gnnlib.train.checkpoints import Checkpoint, History

__all__ = ["PRECISIONS", "Batch", "decay_groups", "fit", "predict", "matmul_precision"]


class Batch(NamedTuple):
    """One step's input. ``rows`` picks the outputs that count (the training nodes of a graph); None takes all."""

    graph: dgl.DGLGraph  # or a list of blocks, one a layer; None for a model that looks at single nodes
    x: Any  # what the model takes as features: a tensor, or a pair
    target: Tensor
    edge: Any = None  # a tensor, or a list of one for each block
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
    """Train ``model`` in place and return one record for each epoch: ``{"epoch": 1, "loss": ..., ...}``.

    Args:
        batches: called once an epoch; of several processes (`gnnlib.train.distributed`) each yields its share of every
        batch,
            and the loss must be a mean over targets
        loss: called on outputs and targets
        scheduler: stepped after each epoch, or with ``step_per_batch`` after each batch
        clip: the largest norm of a step's gradients, all together: longer ones are shortened to it (Pascanu et al.
            2013, arXiv 1211.5063, algorithm 1)
        precision: of the matrix products in training, "float32" or "bfloat16", as in `matmul_precision`;
            weights, sums over neighbours and all else stay float32
        measure: called after each epoch on the model as it is then; its figures join the record
        score: of a record, higher is better (tuples break ties); the weights of the best epoch are put back at the
            end. None keeps the last ones
        patience: stop after so many epochs without a better score
        on_epoch: called on each record, for progress; of a training that goes on, on the old ones first
        checkpoint: written after each epoch; where it holds some epochs already, the training goes on after them and
            ends as it would have without the break, to the bit on a CPU
        generators: that ``batches`` draws from, besides PyTorch's own random numbers: the checkpoint keeps their
            states, and all processes begin an epoch with the first one's

    Raises: ValueError for a ``clip`` that is not above 0, or an unknown ``precision``; FloatingPointError where the
    loss is no longer finite, naming the epoch; RuntimeError or ValueError for the checkpoint of another model or
    optimizer.

    >>> g = dgl.add_self_loop(dgl.graph(([0, 1], [1, 0])))
    >>> from gnnlib import GCNConv
    >>> _ = torch.manual_seed(0)
    >>> model = GCNConv(2, 2)
    >>> batch = Batch(g, torch.eye(2), torch.tensor([0, 0]))
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    >>> records = fit(model, lambda: [batch], nn.functional.cross_entropy, optimizer, epochs=5)
    >>> records[-1]["loss"] < records[0]["loss"]
    True
    """
    if clip is not None and not clip > 0:
        raise ValueError(f"fit: expected clip above 0, got {clip}")
    if precision not in PRECISIONS:
        raise ValueError(f"fit: expected a precision of {', '.join(PRECISIONS)}, got {precision!r}")

    def step(value: Tensor) -> None:
        optimizer.zero_grad()
        value.backward()
        if clip is not None:
            nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], clip)
        optimizer.step()
        if scheduler is not None and step_per_batch:
            scheduler.step()

    history = History(model, {"optimizer": optimizer, "scheduler": scheduler}, checkpoint, generators)
    tell = on_epoch or (lambda record: None)
    for record in history.records:
        tell(record)
    while len(history.records) < epochs and (patience is None or history.epochs_since_best < patience):
        epoch = len(history.records) + 1
        with matmul_precision(precision), distributed.data_parallel(model, generators) as replica:
            record = {"epoch": epoch, "loss": _train_epoch(replica, batches(), loss, step)}
        if not math.isfinite(record["loss"]):
            raise FloatingPointError(f"the loss is {record['loss']} in epoch {epoch}: try a lower learning rate")
        if scheduler is not None and not step_per_batch:
            scheduler.step()
        if measure is not None:
            record |= measure()
        history.add(record, None if score is None else score(record))
        tell(record)
    history.restore_best()
    return history.records


def _train_epoch(model: nn.Module, batches: Iterable[Batch], loss: Callable, step: Callable[[Tensor], None]) -> float:
    """One pass over the batches: the mean loss of a target."""
    model.train()
    total, count = 0.0, 0.0
    for batch in batches:
        value = loss(_output(model, batch), batch.target)
        step(value * distributed.shard_weight(len(batch.target), value.device))
        total += value.item() * len(batch.target)
        count += len(batch.target)
        del value, batch  # makes room for the next
    total, count = distributed.all_reduce_sum(total, count)
    return total / max(count, 1)


PRECISIONS = {"float32": "highest", "bfloat16": "medium"}
"""Of matrix products, with PyTorch's names for them."""


@contextmanager
def matmul_precision(precision: str) -> Iterator[None]:
    """Within this context products of float32 matrices are as precise as ``precision``: "float32" or "bfloat16".

    In bfloat16 both factors are rounded to 8 bits and the sums are float32, which processors with units for it (AMX,
    AVX512-BF16, tensor cores) do faster; others do as before. Message passing is bound by memory, not by products,
    and sums of many neighbours lose digits in bfloat16: so, unlike under ``torch.autocast``, features stay float32
    between the products, and every layer is served as it is.

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
    """Outputs and targets of all batches, in evaluation mode and without gradients. Of several processes, to which
    ``batches`` gives the same, each takes its turns, and all return everything, on the CPU."""
    was_training = model.training
    model.eval()
    with torch.no_grad():
        mine = islice(batches, distributed.rank(), None, distributed.world_size())
        found = distributed.all_gather_rows([(_output(model, batch), batch.target) for batch in mine])
    model.train(was_training)
    outputs, targets = zip(*found, strict=True)
    return torch.cat(outputs), torch.cat(targets)


def decay_groups(model: nn.Module, decay: Mapping[str, float]) -> list[dict[str, Any]]:
    """Parameters by weight decay, as an optimizer takes them: deep nets want another decay in their convolutions than
    in their dense layers (GCNII: Chen et al. 2020, arXiv 2007.02133), and none on biases.

    Args:
        decay: of the parameters whose names fit a pattern, ``*`` standing for anything; of several patterns that fit
            the last counts, and what none fits is not decayed

    Raises: ValueError for a pattern that fits no name.

    >>> from gnnlib import GCNConv, Stack
    >>> model = Stack.build(GCNConv, 8, 16, 3, num_layers=4, encoder=True)
    >>> groups = decay_groups(model, {"*": 5e-4, "blocks.*": 0.01, "*.bias": 0.0})
    >>> [(group["weight_decay"], len(group["params"])) for group in groups]
    [(0.0, 6), (0.0005, 2), (0.01, 4)]
    >>> optimizer = torch.optim.Adam(groups, lr=0.01)
    """
    names = [name for name, _ in model.named_parameters()]
    for pattern in decay:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise ValueError(f"decay_groups: expected patterns that fit some of {names}, got {pattern!r}")
    groups: dict[float, list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        fitting = [value for pattern, value in decay.items() if fnmatchcase(name, pattern)]
        groups.setdefault([0.0, *fitting][-1], []).append(parameter)
    return [{"params": groups[value], "weight_decay": value} for value in sorted(groups)]
