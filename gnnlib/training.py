"""Training: one loop for whole graphs, batches of graphs and images on a lattice; weight decay for each part."""

import copy
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from gnnlib._dgl import dgl
from gnnlib.checkpoints import Checkpoint, random_state, set_random_state

__all__ = ["Batch", "decay_groups", "fit", "predict"]


class Batch(NamedTuple):
    """One step's input. ``rows`` picks the outputs that count (the training nodes of a graph); None takes all."""

    graph: dgl.DGLGraph
    x: Any  # what the model takes as features: a tensor, or a pair
    target: Tensor
    edge: Tensor | None = None
    rows: Tensor | None = None


def _output(model: nn.Module, batch: Batch) -> Tensor:
    y = model(batch.graph, batch.x, batch.edge)
    return y if batch.rows is None else y[batch.rows]


def fit(
    model: nn.Module,
    batches: Callable[[], Iterable[Batch]],
    loss: Callable[[Tensor, Tensor], Tensor],
    optimiser: torch.optim.Optimizer,
    epochs: int,
    *,
    scheduler: Any = None,
    every_step: bool = False,
    measure: Callable[[], dict[str, float]] | None = None,
    score: Callable[[dict[str, float]], Any] | None = None,
    patience: int | None = None,
    on_epoch: Callable[[dict[str, float]], None] | None = None,
    checkpoint: Checkpoint | None = None,
    generators: Sequence[torch.Generator] = (),
) -> list[dict[str, float]]:
    """Train ``model`` in place and return one record for each epoch: ``{"epoch": 1, "loss": ..., ...}``.

    Args:
        batches: called once an epoch
        loss: called on outputs and targets
        scheduler: stepped after each epoch, or with ``every_step`` after each batch
        measure: called after each epoch on the model as it is then; its figures join the record
        score: of a record, higher is better (tuples break ties); the weights of the best epoch are put back at the
            end. None keeps the last ones
        patience: stop after so many epochs without a better score
        on_epoch: called on each record, for progress; of a training that goes on, on the old ones first
        checkpoint: written after each epoch; where it holds some epochs already, the training goes on after them and
            ends as it would have without the break, to the bit on a CPU
        generators: that ``batches`` draws from, besides PyTorch's own random numbers: the checkpoint keeps their states

    Raises: FloatingPointError where the loss is no longer finite, naming the epoch; RuntimeError or ValueError for the
    checkpoint of another model or optimiser.

    >>> g = dgl.add_self_loop(dgl.graph(([0, 1], [1, 0])))
    >>> from gnnlib import GCNConv
    >>> _ = torch.manual_seed(0)
    >>> model = GCNConv(2, 2)
    >>> batch = Batch(g, torch.eye(2), torch.tensor([0, 0]))
    >>> optimiser = torch.optim.SGD(model.parameters(), lr=1.0)
    >>> records = fit(model, lambda: [batch], nn.functional.cross_entropy, optimiser, epochs=5)
    >>> records[-1]["loss"] < records[0]["loss"]
    True
    """
    records: list[dict[str, float]] = []
    best: tuple[Any, int, dict] | None = None  # the score, the epoch, the weights
    parts = {"model": model, "optimiser": optimiser, "scheduler": scheduler}
    parts = {name: part for name, part in parts.items() if part is not None}
    step = scheduler.step if scheduler is not None and every_step else None
    kept = checkpoint.read() if checkpoint is not None else None
    if kept is not None:
        for name, part in parts.items():
            part.load_state_dict(kept[name])
        set_random_state(kept["random"], generators)
        records, best = kept["records"], kept["best"]
        if on_epoch is not None:
            for record in records:
                on_epoch(record)
    for epoch in range(len(records) + 1, epochs + 1):
        if patience is not None and best is not None and len(records) - best[1] >= patience:
            break
        record = {"epoch": epoch, "loss": _train_epoch(model, batches(), loss, optimiser, step)}
        if not math.isfinite(record["loss"]):
            raise FloatingPointError(f"the loss is {record['loss']} in epoch {epoch}: try a lower learning rate")
        if scheduler is not None and not every_step:
            scheduler.step()
        if measure is not None:
            record |= measure()
        records.append(record)
        if score is not None:
            value = score(record)
            if best is None or value > best[0]:
                best = value, epoch, copy.deepcopy(model.state_dict())
        if checkpoint is not None:
            states = {name: part.state_dict() for name, part in parts.items()}
            checkpoint.write({**states, "random": random_state(generators), "records": records, "best": best})
        if on_epoch is not None:
            on_epoch(record)
    if best is not None:
        model.load_state_dict(best[2])
    return records


def _train_epoch(
    model: nn.Module,
    batches: Iterable[Batch],
    loss: Callable,
    optimiser: torch.optim.Optimizer,
    after_step: Callable[[], None] | None,
) -> float:
    """One pass over the batches: the mean loss of a target."""
    model.train()
    total, count = 0.0, 0
    for batch in batches:
        optimiser.zero_grad()
        value = loss(_output(model, batch), batch.target)
        value.backward()
        optimiser.step()
        if after_step is not None:
            after_step()
        total += value.item() * len(batch.target)
        count += len(batch.target)
    return total / max(count, 1)


def predict(model: nn.Module, batches: Iterable[Batch]) -> tuple[Tensor, Tensor]:
    """Outputs and targets of all batches, in evaluation mode and without gradients."""
    was_training = model.training
    model.eval()
    with torch.no_grad():
        found = [(_output(model, batch), batch.target) for batch in batches]
    model.train(was_training)
    outputs, targets = zip(*found, strict=True)
    return torch.cat(outputs), torch.cat(targets)


def decay_groups(model: nn.Module, decay: Mapping[str, float]) -> list[dict[str, Any]]:
    """Parameters by weight decay, as an optimiser takes them: deep nets want another decay in their convolutions than
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
    >>> optimiser = torch.optim.Adam(groups, lr=0.01)
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
