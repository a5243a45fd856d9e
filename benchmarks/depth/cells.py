"""One cell of a study: a convolution under a remedy at a depth, trained once, and what it looks like inside."""

import math
import time
from collections.abc import Sequence
from fnmatch import filter as filter_names
from functools import partial
from itertools import chain
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from gnnlib import Reversible, Stack
from gnnlib.analysis.smoothing import Diagnosis, LayerStatistics, diagnose
from gnnlib.benchmarks.catalog.remedies import Plan, make_plan
from gnnlib.benchmarks.depth.data import NodeData
from gnnlib.benchmarks.metrics import accuracy, num_parameters
from gnnlib.train.layerwise import fit_layerwise
from gnnlib.train.loop import Batch, decay_groups, fit, predict

__all__ = ["MEASURES", "USUAL", "Cell", "TrainingSettings", "plan_of", "run_cell"]

LOOK = 16  # layers of a model that are looked at, evenly spaced; the last is among them
DOTS = 300  # nodes in a picture
MEASURES = ("distance", "energy", "effective_rank", "norm", "gradient")


class Cell(NamedTuple):
    conv: str
    remedy: str
    depth: int
    seed: int

    def __str__(self) -> str:
        return f"{self.conv} with {self.remedy}, {self.depth} layers, seed {self.seed}"


class TrainingSettings(NamedTuple):
    """How every cell is trained: full batches, Adam, and the weights of the best validation epoch (by accuracy, then
    loss). ``weight_decay`` and ``drop`` say how strong those remedies are that decay or drop; others have neither."""

    width: int = 64
    epochs: int = 500
    patience: int = 100
    lr: float = 0.01
    weight_decay: float = 5e-4
    drop: float = 0.5


USUAL = TrainingSettings()


def plan_of(cell: Cell, data: NodeData, recipe: TrainingSettings) -> Plan:
    widths = data.feat.shape[1], recipe.width, data.num_classes
    return make_plan(cell.conv, cell.remedy, cell.depth, widths, drop=recipe.drop, weight_decay=recipe.weight_decay)


def run_cell(cell: Cell, data: NodeData, recipe: TrainingSettings) -> dict[str, Any]:
    """Accuracies in percent, cost, and for seed 0 what the layers put out before and after training.

    A loss that is no longer finite ends the training; ``error`` says so, and the accuracies are those of what is left.
    """
    torch.manual_seed(cell.seed)
    plan = plan_of(cell, data, recipe)
    model = plan.build(data.graph, data.feat)
    start = _look(model, data) if cell.seed == 0 else None
    began, records, error = time.perf_counter(), [], None
    try:
        records = _train(model, plan, data, recipe)
    except FloatingPointError as problem:
        error = str(problem)
    seconds = time.perf_counter() - began
    outputs, _ = predict(model, [Batch(data.graph, data.feat, data.label)])
    outcome: dict[str, Any] = {
        **{part: round(accuracy(outputs[rows], data.label[rows]), 2) for part, rows in data.masks.items()},
        "parameters": num_parameters(model),
        "epochs": len(records),
        "seconds": round(seconds, 2),
        "error": error,
    }
    if start is not None:
        outcome["looks"] = [start, _look(model, data)]
        outcome["dots"] = _dots(outputs)
    return outcome


def _train(model: Stack, plan: Plan, data: NodeData, recipe: TrainingSettings) -> list[dict[str, float]]:
    """The records of the epochs of the whole model, or of those of its layers."""
    train, val = data.masks["train"], data.masks["val"]
    batch = Batch(data.graph, data.feat, data.label[train], rows=train)
    loss = nn.functional.cross_entropy
    records: list[dict[str, float]] = []
    if plan.layerwise:
        head = partial(nn.Linear, out_features=data.num_classes)
        adam = partial(torch.optim.Adam, lr=recipe.lr, weight_decay=plan.decay.get("*", 0.0), fused=True)
        records += chain(*fit_layerwise(model, [batch], head, loss, adam, recipe.epochs))
    if not plan.whole:
        return records

    def measure() -> dict[str, float]:
        outputs, target = predict(model, [batch._replace(target=data.label[val], rows=val)])
        return {"validation": accuracy(outputs, target), "validation loss": loss(outputs, target).item()}

    names = [name for name, _ in model.named_parameters()]
    decay = {pattern: value for pattern, value in plan.decay.items() if filter_names(names, pattern)}
    optimizer = torch.optim.Adam(decay_groups(model, decay), lr=recipe.lr, fused=True)
    return records + fit(
        model,
        lambda: [batch],
        loss,
        optimizer,
        recipe.epochs,
        measure=measure,
        score=lambda record: (record["validation"], -record["validation loss"]),
        patience=recipe.patience,
    )


def _look(model: Stack, data: NodeData) -> dict[str, Any]:
    """The verdict and, of up to 16 layers, the measures."""
    seen = _unrolled(model)
    number = len(seen.blocks)
    chosen = sorted({number - 1 - i * number // LOOK for i in range(LOOK)} if number > LOOK else range(number))
    layers = [(str(i + 1), seen.blocks[i]) for i in chosen]
    train, test = data.masks["train"], data.masks["test"]
    found: Diagnosis = diagnose(seen, data.graph, data.feat, data.label, train, test, layers=layers)
    measures = {name: [_short(value) for value in _column(found.layers, name)] for name in MEASURES}
    return {"verdict": found.verdict, "layer": [int(layer.name) for layer in found.layers], **measures}


def _column(layers: Sequence[LayerStatistics], name: str) -> list[float]:
    return [getattr(layer, name) for layer in layers]


def _unrolled(model: Stack) -> Stack:
    """Reversible layers as ordinary ones, with the same weights: their gradients are seen then."""
    blocks = [b for block in model.blocks for b in (block.blocks if isinstance(block, Reversible) else [block])]
    return Stack(blocks, encoder=model.encoder, jump=model.jump, readout=model.readout, head=model.head)


def _short(value: float) -> float | None:
    """Three digits; None for what JSON has no number for."""
    return float(f"{value:.3g}") if math.isfinite(value) else None


def _dots(outputs: Tensor) -> list[list[int]] | None:
    """The outputs of a few nodes on their first two principal axes, in percent of the outputs' size: nodes that are
    all alike are one dot in the middle."""
    rows = outputs[dot_rows(len(outputs))].double()
    if not bool(rows.isfinite().all()):
        return None
    centred = rows - rows.mean(0)
    size = rows.norm() / math.sqrt(len(rows))
    axes = torch.linalg.svd(centred, full_matrices=False)[2][:2]
    axes = axes * axes.sum(1, keepdim=True).sign()  # which a decomposition leaves open
    return (100 * centred @ axes.T / size.clamp(min=1e-12)).round().int().tolist()


def dot_rows(num_nodes: int) -> Tensor:
    """The nodes in the pictures, the same in all."""
    return torch.randperm(num_nodes, generator=torch.Generator().manual_seed(0))[:DOTS].sort().values
