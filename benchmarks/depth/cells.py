"""One cell of a depth study: a convolution with a remedy at a depth, trained from one seed."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from fnmatch import filter as filter_names
from functools import partial
from itertools import chain
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from gnnlib import MeanMaxReadout, Reversible, Stack
from gnnlib.analysis.smoothing import Diagnosis, LayerStatistics, diagnose
from gnnlib.benchmarks.catalog.remedies import Plan, make_plan
from gnnlib.benchmarks.depth.data import PARTS, NodeData
from gnnlib.benchmarks.metrics import num_parameters
from gnnlib.nn.drop import Dropout
from gnnlib.train.layerwise import fit_layerwise
from gnnlib.train.loop import Batch, decay_groups, fit, outputs_and_targets

__all__ = [
    "DEFAULT",
    "MEASURES",
    "Cell",
    "Params",
    "TrainingSettings",
    "build_cell",
    "make_cell_plan",
    "projected_nodes",
    "run_cell",
    "train_model",
]

Params = Mapping[str, Any]
"""Hyperparameters by name, as `gnnlib.benchmarks.depth.tuning.search_space` has them."""

MAX_LAYERS = 16  # with statistics, evenly spaced; the last layer is among them
MAX_NODES = 300  # in a projection of the outputs
EVERY = "every"  # the name of the mask of all rows
MEASURES = ("distance", "energy", "effective_rank", "norm", "gradient")


class Cell(NamedTuple):
    """One training of a depth study."""

    conv: str
    remedy: str
    depth: int
    seed: int

    def __str__(self) -> str:
        return f"{self.conv} with {self.remedy}, {self.depth} layers, seed {self.seed}"

    def run(self, data: NodeData, settings: "TrainingSettings") -> dict[str, Any]:
        """The outcome of `run_cell`."""
        return run_cell(self, data, settings)


class TrainingSettings(NamedTuple):
    """How each cell is trained: full batches, Adam, and the weights of the best validation epoch (by the metric, then
    loss). ``weight_decay`` and ``drop`` are used only by the remedies that decay weights or drop parts."""

    width: int = 64
    epochs: int = 500
    patience: int = 100
    lr: float = 0.01
    weight_decay: float = 5e-4
    drop: float = 0.5


DEFAULT = TrainingSettings()


def make_cell_plan(cell: Cell, data: NodeData, settings: TrainingSettings, params: Params | None = None) -> Plan:
    """The model and the training of a cell, before anything is built.

    Args:
        cell: what to train
        data: the graph
        settings: how to train
        params: tuned hyperparameters, in place of those of the settings and the remedies
    """
    params = params or {}
    widths = data.feat.shape[1], params.get("width", settings.width), data.out_feats
    strengths = {"drop": settings.drop, "weight_decay": settings.weight_decay}
    strengths |= {name: params[name] for name in ("drop", "alpha", "lam") if name in params}
    plan = make_plan(cell.conv, cell.remedy, cell.depth, widths, **strengths)
    if "dropout" in params:
        plan.keywords["dropout"] = Dropout(params["dropout"])
    if "norm" in params:
        plan.keywords["norm_after_skip"] = params["norm"] == "after"
    if "weight_decay" in params:
        decay = params["weight_decay"]
        plan.decay = {"*": decay, "blocks.*": decay * params.get("block_decay", 1)}
    if data.per_graph:
        plan.set(readout=MeanMaxReadout)
    return plan


def build_cell(
    cell: Cell, data: NodeData, settings: TrainingSettings, params: Params | None = None
) -> tuple[Plan, Stack, NodeData]:
    """The plan of a cell, its model with the initial weights of the cell's seed, and the data with the cell's graph."""
    torch.manual_seed(cell.seed)
    plan = make_cell_plan(cell, data, settings, params)
    for rewiring in plan.rewirings:
        data = data.rewired(rewiring)
    return plan, plan.build(data.graph, data.feat), data


def run_cell(cell: Cell, data: NodeData, settings: TrainingSettings, params: Params | None = None) -> dict[str, Any]:
    """Trains one cell, on the split of its seed if there are several.

    Args:
        cell: what to train
        data: the graph
        settings: how to train
        params: tuned hyperparameters, in place of those of the settings and the remedies

    Returns:
        The metric of each part in percent, the cost (``seconds`` of a processor), and for seed 0 the layers' statistics
        before and after training. A loss that is not finite ends the training; then ``error`` is its message, and the
        metrics are those of the last weights.
    """
    data = data.split(cell.seed)
    masks = {**data.masks, EVERY: torch.ones(data.rows, dtype=torch.bool)}
    plan, model, data = build_cell(cell, data._replace(masks=masks), settings, params)
    nodes = data.masks[EVERY]  # without new ones
    data = data._replace(masks={part: data.masks[part] for part in PARTS})
    initial = _statistics(model, data) if cell.seed == 0 else None
    start, records, error = time.process_time(), [], None
    try:
        records = train_model(model, plan, data, settings, (params or {}).get("lr"))
    except FloatingPointError as exception:
        error = str(exception)
    seconds = time.process_time() - start
    outputs, _ = outputs_and_targets(model, [Batch(data.graph, data.feat, data.label)])
    outcome: dict[str, Any] = {
        **{part: round(data.score(outputs[rows], data.label[rows]), 2) for part, rows in data.masks.items()},
        "parameters": num_parameters(model),
        "epochs": len(records),
        "seconds": round(seconds, 2),
        "error": error,
    }
    if initial is not None:
        outcome["statistics"] = [initial, _statistics(model, data)]
        outcome["points"] = _projection(outputs[nodes])
    return outcome


def train_model(
    model: Stack,
    plan: Plan,
    data: NodeData,
    settings: TrainingSettings,
    lr: float | None = None,
    on_epoch: Callable[[dict[str, float]], None] | None = None,
) -> list[dict[str, float]]:
    """Trains a model, its layers one by one if the plan says so; the labels of the test part are not read.

    Args:
        model: of `build_cell`
        plan: of `build_cell`
        data: the graph, with the masks of one split
        settings: how to train
        lr: learning rate; None for that of the settings
        on_epoch: called with the record of each epoch in which all layers are trained together

    Returns:
        The records of all epochs.

    Raises:
        FloatingPointError: if a loss is not finite
    """
    lr = settings.lr if lr is None else lr
    train, val = data.masks["train"], data.masks["val"]
    batch = Batch(data.graph, data.feat, data.label[train], rows=train)
    records: list[dict[str, float]] = []
    if plan.layerwise:
        head = partial(nn.Linear, out_features=data.out_feats)
        adam = partial(torch.optim.Adam, lr=lr, weight_decay=plan.decay.get("*", 0.0), fused=True)
        records += chain(*fit_layerwise(model, [batch], head, data.loss, adam, settings.epochs))
    if not plan.end_to_end:
        return records

    def measure() -> dict[str, float]:
        outputs, target = outputs_and_targets(model, [batch._replace(target=data.label[val], rows=val)])
        return {"validation": data.score(outputs, target), "validation loss": data.loss(outputs, target).item()}

    names = [name for name, _ in model.named_parameters()]
    decay = {pattern: value for pattern, value in plan.decay.items() if filter_names(names, pattern)}
    optimizer = torch.optim.Adam(decay_groups(model, decay), lr=lr, fused=True)
    return records + fit(
        model,
        lambda: [batch],
        data.loss,
        optimizer,
        settings.epochs,
        measure=measure,
        score=lambda record: (record["validation"], -record["validation loss"]),
        patience=settings.patience,
        on_epoch=on_epoch,
    )


def _statistics(model: Stack, data: NodeData) -> dict[str, Any]:
    """The verdict of `diagnose`, and the measures of up to 16 layers."""
    model = _unrolled(model)
    depth = len(model.blocks)
    indices = sorted(
        {depth - 1 - i * depth // MAX_LAYERS for i in range(MAX_LAYERS)} if depth > MAX_LAYERS else range(depth)
    )
    layers = [(str(i + 1), model.blocks[i]) for i in indices]
    train, test = data.masks["train"], data.masks["test"]
    diagnosis: Diagnosis = diagnose(model, data.graph, data.feat, data.label, train=train, test=test, layers=layers)
    measures = {name: [_round(value) for value in _column(diagnosis.layers, name)] for name in MEASURES}
    return {"verdict": diagnosis.verdict, "layer": [int(layer.name) for layer in diagnosis.layers], **measures}


def _column(layers: Sequence[LayerStatistics], name: str) -> list[float]:
    return [getattr(layer, name) for layer in layers]


def _unrolled(model: Stack) -> Stack:
    """The model with reversible layers as plain ones of the same weights, so that hooks see their gradients."""
    blocks = [b for block in model.blocks for b in (block.blocks if isinstance(block, Reversible) else [block])]
    return Stack(blocks, encoder=model.encoder, jump=model.jump, readout=model.readout, head=model.head)


def _round(value: float) -> float | None:
    """Three digits; None for NaN and infinity, which JSON lacks."""
    return float(f"{value:.3g}") if math.isfinite(value) else None


def _projection(outputs: Tensor) -> list[list[int]] | None:
    """The outputs of some nodes on their first two principal axes, in percent of the outputs' root mean square norm.
    Equal outputs are one point at the origin. None where an output is not finite."""
    rows = outputs[projected_nodes(len(outputs))].double()
    if not bool(rows.isfinite().all()):
        return None
    centred = rows - rows.mean(0)
    norm = rows.norm() / math.sqrt(len(rows))
    centred = nn.functional.pad(centred, (0, max(0, 2 - centred.shape[1])))  # one column is the first axis
    axes = torch.linalg.svd(centred, full_matrices=False)[2][:2]
    axes = axes * axes.sum(1, keepdim=True).sign()  # the decomposition leaves the sign open
    return (100 * centred @ axes.T / norm.clamp(min=1e-12)).round().int().tolist()


def projected_nodes(num_nodes: int) -> Tensor:
    """The nodes whose outputs are projected, the same for all cells."""
    return torch.randperm(num_nodes, generator=torch.Generator().manual_seed(0))[:MAX_NODES].sort().values
