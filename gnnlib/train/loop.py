"""Training loop for whole graphs, stores, loaders and sampled batches; weight decay per parameter group."""

import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from gnnlib._utils.calls import call_model, names_checked, positional_arguments
from gnnlib._utils.indices import as_indices
from gnnlib._utils.model_state import evaluation_mode
from gnnlib._utils.progress import ProgressBar
from gnnlib.graph import is_graph
from gnnlib.nn._arguments import check_model, integer
from gnnlib.train import distributed
from gnnlib.train.batch import Batch, Columns, as_batches, for_model
from gnnlib.train.checkpoints import Checkpoint, TrainingState
from gnnlib.train.history import History
from gnnlib.train.losses import TaskLoss, balanced_weight, task_of
from gnnlib.train.metrics import compute_metrics, default_metric, is_better_lower

__all__ = ["PRECISIONS", "Batch", "decay_groups", "fit", "matmul_precision", "outputs_and_targets"]

Loss = Callable[[Tensor, Tensor], Tensor]
Record = dict[str, float]


def _output(model: nn.Module, batch: Batch, in_bfloat16: bool = False) -> Tensor:
    """The outputs that have targets; with ``in_bfloat16``, a model computes large graphs in bfloat16."""
    if in_bfloat16 and _num_edges(batch.graph) >= LARGE:
        with torch.autocast(batch.target.device.type, torch.bfloat16):
            y = call_model(model, batch.graph, _to_bfloat16(batch.x), batch.edge).float()
    else:
        y = call_model(model, batch.graph, batch.x, batch.edge)
    if batch.rows is None:
        return y
    try:
        return y[batch.rows if isinstance(batch.rows, Tensor) else as_indices(batch.rows, len(y), "Batch: rows")]
    except IndexError:
        rows = (
            as_indices(batch.rows, 2**62, "Batch: rows") if getattr(batch.rows, "dtype", None) != torch.bool else None
        )
        got = f"a mask of {len(batch.rows)} rows" if rows is None else f"rows up to {int(rows.max())}"
        raise ValueError(f"Batch: expected rows of the {_outputs_of(batch, len(y))}, got {got}") from None


def _num_edges(graph: Any) -> int:
    """Edges of a graph, or of all message-flow graphs; 0 without a graph."""
    return sum(part.num_edges() for part in (graph if isinstance(graph, (list, tuple)) else [graph]) if is_graph(part))


def _to_bfloat16(x: Any) -> Any:
    if isinstance(x, (list, tuple)):
        return type(x)(_to_bfloat16(part) for part in x)
    is_dense = isinstance(x, Tensor) and x.dtype == torch.float32 and x.layout is torch.strided
    return x.bfloat16() if is_dense else x


def _outputs_of(batch: Batch, number: int) -> str:
    """The outputs of a model for a batch, in words."""
    if not is_graph(batch.graph):
        return f"{number} outputs of the model"
    kind = {batch.graph.num_dst_nodes(): "node", batch.graph.batch_size: "graph (from a readout)"}
    return f"{number} outputs of the model" + (f", one for each {kind[number]}" if number in kind else "")


def _loss(loss: Loss, output: Tensor, batch: Batch) -> Tensor:
    """The loss of a batch. An error in it says whether the targets are those of other things than the outputs."""
    try:
        return loss(output, batch.target)
    except (ValueError, IndexError, RuntimeError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        mismatch = _mismatch(batch, len(output)) if output.dim() else None
        if mismatch is None and getattr(loss, "__module__", "").startswith("torch."):
            name = getattr(loss, "__name__", type(loss).__name__)
            sizes = [f"{tuple(t.shape)} of {t.dtype}" for t in (output, batch.target)]
            mismatch = f"loss: expected outputs and targets that {name} takes, got {sizes[0]} and {sizes[1]}"
        if mismatch is None:
            raise
        raise ValueError(mismatch) from error


def _mismatch(batch: Batch, outputs: int) -> str | None:
    """Why the targets of a batch are not those of this number of outputs, where that is known."""
    targets = len(batch.target)
    if not is_graph(batch.graph) or targets == outputs:
        return None
    graphs, nodes = batch.graph.batch_size, batch.graph.num_dst_nodes()
    if batch.rows is not None:
        return f"Batch: expected the targets of its rows, target[rows], ({outputs},), got ({targets},)"
    if outputs == graphs:
        return (
            "loss: expected a target for each graph, GraphStore(graphs, labels), or a model without a readout, got "
            f"{outputs} outputs for {targets} targets"
        )
    if outputs == nodes and targets == graphs:
        return (
            "loss: expected a model with a readout, Stack.build(..., readout=MeanReadout), for one target per graph, "
            f"got {outputs} outputs, one for each node, for {targets} targets"
        )
    return None


@names_checked(
    lr="optimizer=partial(torch.optim.Adam, lr=...)",
    learning_rate="optimizer=partial(torch.optim.Adam, lr=...)",
    weight_decay="optimizer=partial(torch.optim.Adam, lr=..., weight_decay=...)",
    criterion="loss=",
    loss_fn="loss=",
    batch_size="batches as data, store.loader(batch_size, shuffle=True)",
    num_epochs="epochs=",
    val_data="val=",
    valid="val=",
    validation_data="val=",
    callbacks="on_epoch=",
    lr_scheduler="scheduler=",
    early_stopping="patience=",
    feat="feature=",
    target="label=",
    edge_weight="edge=, the name of a column of graph.edata",
    edge_attr="edge=, the name of a column of graph.edata",
)
def fit(
    model: nn.Module,
    data: Any,
    loss: Loss | None = None,
    optimizer: Any = None,
    epochs: int = 100,
    *,
    val: Any = None,
    task: str | None = None,
    class_weight: Any = None,
    metrics: Sequence[str] | None = None,
    scheduler: Any = None,
    step_per_batch: bool = False,
    clip: float | None = None,
    precision: str = "float32",
    measure: Callable[[], Record] | None = None,
    score: str | Callable[[Record], Any] | None = None,
    patience: int | None = None,
    on_epoch: Callable[[Record], Any] | Sequence[Callable[[Record], Any]] | None = None,
    checkpoint: Checkpoint | str | os.PathLike[str] | None = None,
    generators: torch.Generator | Sequence[torch.Generator] = (),
    device: torch.device | str | None = None,
    progress: bool = False,
    feature: str = "feat",
    label: str = "label",
    edge: str | None = None,
) -> History:
    """Trains ``model`` in place and returns one record per epoch: ``{"epoch": 1, "loss": ..., ...}``.

    The data are one of

    - a DGLGraph with features and targets in ``ndata`` (targets of edges in ``edata``), and the masks ``train_mask``
      and ``val_mask`` in the same place. Without masks, all rows are training rows
    - a `GraphStore` with labels, in batches of 32 in random order, or a loader of pairs (graph, labels):
      ``store.loader(64, shuffle=True)``
    - a `Batch`, such as of `Batch.from_graph`, or a list of batches
    - ``dgl.dataloading.DataLoader`` of sampled neighbours
    - a function that makes the batches of an epoch: ``lambda: gnnlib.large.sampled_batches(...)``. With several
      processes (`gnnlib.train.distributed`) each process yields its shard of every batch, and the loss must be a mean
      over targets

    Args:
        model: called as ``model(graph, x, edge)``, ``model(graph, x)`` or ``model(x)``, as its forward takes them
        data: training data
        loss: called on outputs and targets. None: by the task: cross-entropy, binary cross-entropy of logits, or mean
            squared error, a mean over the targets that are not missing
        optimizer: of the model's parameters, or a class or ``functools.partial`` that is called on them. None: Adam
            with a learning rate of 0.01
        epochs: number of epochs
        val: validation data: each record gets ``val_loss`` and metrics. A graph with a ``val_mask`` needs none
        task: "multiclass" (targets are classes; a negative one is missing), "multilabel" (0 or 1 for each label; NaN
            or a negative number is missing) or "regression" (NaN is missing). None: "multiclass" for integers,
            "multilabel" for booleans, "regression" for floating-point numbers
        class_weight: weight of each class in the loss, or of the positive examples of each label; "balanced" for
            weights inversely proportional to their number
        metrics: names of metrics of the validation part, as `evaluate` has them. None: the accuracy of classes, the
            area under the ROC curve of labels, the mean absolute error of numbers
        scheduler: stepped after each epoch, or with ``step_per_batch`` after each batch; or a class or
            ``functools.partial`` that is called on the optimizer. ``ReduceLROnPlateau`` receives the score of the epoch
            with mode "max", and with mode "min" its ``val_loss``, or its loss without ``val``
        step_per_batch: step the scheduler after each batch
        clip: maximum norm of the gradients of a step, over all parameters (Pascanu et al. 2013, arXiv 1211.5063,
            algorithm 1)
        precision: "float32" or "bfloat16". The latter rounds the factors of matrix products in training, as
            `matmul_precision`. On graphs with 100,000 edges or more, features are bfloat16 too, from the input to the
            outputs. Parameters, their gradients and the loss are float32; sums over neighbours are rounded once
        measure: called after each epoch; its entries are added to the record
        score: of a record: the name of an entry, such as "val_accuracy", or a function, of which higher is better
            (tuples break ties). The weights of the best epoch are restored at the end. None: the lowest ``val_loss``;
            without ``val`` the last weights stay
        patience: stop after this number of epochs without a better score
        on_epoch: callback, or several, called with each record; a resumed training first calls it with the earlier
            records
        checkpoint: a `Checkpoint` or its path, written after each epoch; if it has epochs already, the training resumes
            after them and ends with the same weights as without the interruption, to the bit on a CPU. A checkpoint of
            another model (layers, widths, dropout), optimizer, scheduler, loss, ``clip`` or ``precision`` is set aside
            with a warning that says what differs
        generators: of random numbers that ``data`` uses, besides PyTorch's default one: the checkpoint stores their
            states, and all processes start an epoch with the first one's
        device: where to train: model, graphs and tensors are moved. None: tensors follow the model, and graphs stay
        progress: show a bar with the last record and the time left; where the standard error stream is no terminal, a
            line each minute
        feature: name of the node features in graphs
        label: name of the targets in graphs
        edge: name of the edge weights or features in graphs; None for none

    Returns:
        the records, a list with ``table``, ``to_csv`` and ``best``

    Raises:
        TypeError: if data, loss, optimizer or scheduler is of another kind
        ValueError: for a ``clip`` that is not positive, an unknown ``precision``, ``task``, metric or score,
            ``patience`` without a score, targets that do not fit the outputs, or a checkpoint with more epochs
        FloatingPointError: if the loss is not finite, with the epoch

    Example:
        >>> import torch
        >>> import gnnlib
        >>> import dgl
        >>> _ = torch.manual_seed(0)
        >>> graph = dgl.add_self_loop(dgl.graph(([0, 1, 2, 3], [1, 0, 3, 2])))
        >>> graph.ndata["feat"], graph.ndata["label"] = torch.eye(4), torch.tensor([0, 0, 1, 1])
        >>> model = gnnlib.Stack.build(gnnlib.GCNConv, 4, 8, 2, num_layers=2)
        >>> history = gnnlib.fit(model, graph, epochs=20)
        >>> history[-1]["loss"] < history[0]["loss"]
        True
    """
    _check_options(model, loss, epochs, clip, precision, patience)
    callbacks = on_epoch if isinstance(on_epoch, (list, tuple)) else [on_epoch]
    _check_functions(measure=measure, score=None if isinstance(score, str) else score, on_epoch=callbacks)
    checkpoint = _checkpoint(checkpoint)
    generators = [generators] if isinstance(generators, torch.Generator) else generators
    columns, prepare = Columns(feature, label, edge), for_model(model, device)
    batches = as_batches("fit", data, columns, prepare, "train")
    validation = _Validation.of(model, data, val, columns, prepare, task, loss, metrics)
    ranking = _ranking(score, validation is not None, patience)
    criterion = loss or TaskLoss(task, _class_weight(class_weight, batches), balanced=isinstance(class_weight, str))
    optimizer = _made("optimizer", optimizer or _adam, model.parameters())
    schedule = _Schedule(_made("scheduler", scheduler, optimizer), step_per_batch)
    _check_optimizer(model, optimizer, schedule.scheduler)
    schedule.check(has_score=ranking is not None)
    trainer = _Trainer(model, batches, criterion, _Step(optimizer, schedule, clip), precision, generators)
    parts = {"optimizer": optimizer, "scheduler": schedule.scheduler}
    state = TrainingState(model, parts=parts, checkpoint=checkpoint, generators=generators, settings=trainer.settings())
    if len(state.records) > epochs:
        raise ValueError(f"fit: expected epochs >= {len(state.records)}, those of the checkpoint, got {epochs}")
    for record in state.records:
        _report(callbacks, record)
    with ExitStack() as stack:
        if progress and distributed.rank() == 0:
            callbacks = [*callbacks, stack.enter_context(_progress(epochs, len(state.records)))]
        while len(state.records) < epochs and (patience is None or state.epochs_since_best < patience):
            record = trainer.epoch(len(state.records) + 1)
            record |= {**(validation(criterion) if validation else {}), **(measure() if measure else {})}
            value = None if ranking is None else ranking(record)
            schedule.end_validation(record, value)
            state.add(record, value)
            _report(callbacks, record)
    state.restore_best()
    return History(state.records, state.best_epoch)


def _check_options(model: Any, loss: Any, epochs: Any, clip: Any, precision: str, patience: Any) -> None:
    check_model("fit", model)
    if loss is not None and (isinstance(loss, type) or not callable(loss)):
        name = loss.__name__ if isinstance(loss, type) else type(loss).__name__
        hint = f"{name}()" if isinstance(loss, type) else "a function of outputs and targets"
        raise TypeError(f"fit: expected loss to be {hint}, got {'the class ' * isinstance(loss, type)}{name}")
    arguments = None if loss is None else positional_arguments(loss)
    if arguments is not None and (len(arguments.names) < 2 or arguments.required > 2):
        takes = ", ".join(arguments.names) or "nothing"
        raise TypeError(f"fit: expected loss to be called as loss(outputs, targets), got one that takes {takes}")
    integer("fit", "epochs", epochs, minimum=0)
    if patience is not None:
        integer("fit", "patience", patience)
    if clip is not None and not (isinstance(clip, (int, float)) and clip > 0):
        raise ValueError(f"fit: expected clip above 0, got {clip!r}")
    if precision not in PRECISIONS:
        raise ValueError(f"fit: expected a precision of {', '.join(PRECISIONS)}, got {precision!r}")


def _check_functions(**functions: Any) -> None:
    for name, value in functions.items():
        for function in value if isinstance(value, (list, tuple)) else [value]:
            if function is not None and not callable(function):
                raise TypeError(f"fit: expected {name} to be a function, got {function!r}")


def _checkpoint(value: Any) -> Checkpoint | None:
    if value is None or isinstance(value, Checkpoint):
        return value
    if not isinstance(value, (str, os.PathLike)):
        raise TypeError(f"fit: expected checkpoint to be a Checkpoint or the path of its file, got {value!r}")
    return Checkpoint(value)


def _adam(parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    parameters = list(parameters)
    if not parameters:
        raise ValueError("fit: expected a model with parameters, got one without")
    return torch.optim.Adam(parameters, lr=0.01)


def _made(name: str, value: Any, argument: Any) -> Any:
    """An optimizer or a scheduler: the value, or what a class or function makes of the argument."""
    if value is None or (hasattr(value, "step") and not isinstance(value, type)):
        return value
    if not callable(value):
        raise TypeError(f"fit: expected {name} to be a torch {name}, or a class or partial of one, got {value!r}")
    arguments = positional_arguments(value)
    if arguments is not None and arguments.required > 1:
        kind, missing = getattr(value, "__name__", value), arguments.names[1 : arguments.required]
        write = f"partial({kind}, {', '.join(f'{argument}=...' for argument in missing)})"
        raise TypeError(f"fit: expected {name}={write}, got {kind}, which needs {', '.join(missing)}")
    return value(argument)


def _check_optimizer(model: nn.Module, optimizer: Any, scheduler: Any) -> None:
    """Whether the optimizer changes the model, and the scheduler the optimizer."""
    groups = getattr(optimizer, "param_groups", [])
    if not {id(p) for p in model.parameters()} & {id(p) for group in groups for p in group["params"]}:
        raise ValueError(
            f"fit: expected an optimizer of the model, such as torch.optim.Adam(model.parameters()), got "
            f"{type(optimizer).__name__} of other parameters"
        )
    if getattr(scheduler, "optimizer", optimizer) is not optimizer:
        raise ValueError(f"fit: expected a scheduler of this optimizer, got {type(scheduler).__name__} of another")


def _class_weight(class_weight: Any, batches: Callable[[], Iterable[Batch]]) -> Any:
    if not isinstance(class_weight, str):
        return class_weight
    if class_weight != "balanced":
        raise ValueError(f"fit: expected class_weight of one number per class, or 'balanced', got {class_weight!r}")
    return balanced_weight(torch.cat([batch.target.cpu() for batch in batches()]))


def _ranking(
    score: str | Callable[[Record], Any] | None, validates: bool, patience: int | None
) -> Callable[[Record], Any] | None:
    """The score of a record, of which higher is better; None if the epochs have none."""
    if patience is not None and score is None and not validates:
        raise ValueError(
            f"fit: expected val= or score=, which patience waits for, beside patience={patience}, got none"
        )
    if score is None:
        return (lambda record: -record["val_loss"]) if validates else None
    if not isinstance(score, str):
        return score
    name, sign = score, -1 if is_better_lower(score) else 1

    def of_entry(record: Record) -> float:
        if name not in record:
            raise ValueError(f"fit: expected score to be one of {', '.join(record)}, or a function, got {name!r}")
        return sign * record[name]

    return of_entry


@dataclass
class _Validation:
    """The loss and the metrics of the validation part, as entries of a record."""

    model: nn.Module
    batches: Callable[[], Iterable[Batch]]
    task: str | None
    metrics: Sequence[str] | None

    @classmethod
    def of(
        cls,
        model: nn.Module,
        data: Any,
        val: Any,
        columns: Columns,
        prepare: Callable[[Batch], Batch],
        task: str | None,
        loss: Loss | None,
        metrics: Sequence[str] | None,
    ) -> "_Validation | None":
        """Of ``val``, or of a graph that has a ``val_mask``; None without either."""
        if val is None and columns.mask(data, "val") is None:
            return None
        batches = as_batches("fit", data if val is None else val, columns, prepare, "val")
        return cls(model, batches, task, metrics if loss is None or metrics is not None else ())

    def __call__(self, loss: Loss) -> Record:
        outputs, target = outputs_and_targets(self.model, self.batches())
        record = {"val_loss": loss(outputs, target.to(outputs.device)).item()}
        metrics = self.metrics
        if metrics is None:
            metrics = [default_metric(self.task or task_of(target))]
        if metrics:
            values = compute_metrics(outputs, target, metrics, self.task)
            record |= {f"val_{name}": value for name, value in values.items()}
        return record


class _Schedule:
    """A scheduler of the learning rate, stepped at the right times; or none."""

    def __init__(self, scheduler: Any, per_batch: bool):
        self.scheduler, self.per_batch = scheduler, per_batch
        self.plateau = isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau)

    def check(self, *, has_score: bool) -> None:
        """Whether the scheduler has what it needs."""
        if self.plateau and (self.per_batch or (self.scheduler.mode == "max" and not has_score)):
            raise ValueError(
                "fit: expected ReduceLROnPlateau with mode='min', or with score=, and without step_per_batch"
            )

    def end_batch(self) -> None:
        if self.scheduler is not None and self.per_batch:
            self.scheduler.step()

    def end_epoch(self) -> None:
        if self.scheduler is not None and not self.per_batch and not self.plateau:
            self.scheduler.step()

    def end_validation(self, record: Record, score: Any) -> None:
        if self.plateau:
            value = score if self.scheduler.mode == "max" else record.get("val_loss", record["loss"])
            self.scheduler.step(value)


@dataclass
class _Step:
    """A step of the optimizer from the value of a loss."""

    optimizer: torch.optim.Optimizer
    schedule: _Schedule
    clip: float | None

    def __call__(self, value: Tensor) -> None:
        self.optimizer.zero_grad()
        value.backward()
        if self.clip is not None:
            groups = self.optimizer.param_groups
            nn.utils.clip_grad_norm_([p for group in groups for p in group["params"]], self.clip)
        self.optimizer.step()
        self.schedule.end_batch()


def _train_epoch(
    model: nn.Module,
    output: Callable[[Batch], Tensor],
    batches: Iterable[Batch],
    loss: Loss,
    step: Callable[[Tensor], None],
) -> float:
    """One pass over the batches; returns the mean loss per target, or the first one that is not finite."""
    model.train()
    total, count = 0.0, 0.0
    for batch in batches:
        value = _loss(loss, output(batch), batch)
        if distributed.world_size() == 1 and not math.isfinite(value.item()):
            return value.item()  # before the step, which would leave no finite parameter
        step(value * distributed.shard_weight(len(batch.target), value.device))
        total += value.item() * len(batch.target)
        count += len(batch.target)
        del value, batch  # frees the memory for the next
    total, count = distributed.all_reduce_sum(total, count)
    if not count:
        raise ValueError("fit: expected batches with targets in each epoch, got none")
    return total / count


def _report(on_epoch: Sequence[Any], record: Record) -> None:
    """Passes a record to all callbacks."""
    for callback in on_epoch:
        if callback is not None:
            callback(record)


@contextmanager
def _progress(epochs: int, done: int) -> Iterator[Callable[[Record], None]]:
    """Context with a callback that shows each record behind a bar of the epochs."""

    def show(record: Record) -> None:
        numbers = {name: value for name, value in record.items() if isinstance(value, (int, float)) and name != "epoch"}
        bar.advance(1, ", ".join(f"{name} {value:.4g}" for name, value in numbers.items()))

    with ProgressBar("epochs", epochs, done=done, lines=True) as bar:
        yield show


VARIED = {"lr": "initial_lr", "momentum": "max_momentum", "betas": "max_momentum"}
"""Settings of an optimizer that a scheduler changes, and the key that says so."""


PROGRESS = ("last_epoch", "last_lr", "best", "num_bad_epochs", "cooldown_counter", "T_cur", "T_i")
"""Entries of a scheduler's state that change while it runs, besides those that begin with an underscore."""


@dataclass
class _Trainer:
    """The training of a model on the batches of an epoch."""

    model: nn.Module
    batches: Callable[[], Iterable[Batch]]
    loss: Loss
    step: _Step
    precision: str
    generators: Sequence[torch.Generator]

    def epoch(self, number: int) -> Record:
        """Trains one epoch; returns its record."""
        with matmul_precision(self.precision), distributed.data_parallel(self.model, self.generators) as replica:
            output = partial(_output, replica, in_bfloat16=self.precision == "bfloat16")
            record = {"epoch": number, "loss": _train_epoch(replica, output, self.batches(), self.loss, self.step)}
        if not math.isfinite(record["loss"]):
            raise self.error(record["loss"], number)
        self.step.schedule.end_epoch()
        return record

    def error(self, loss: float, number: int) -> FloatingPointError:
        """The error for a loss that is not finite, with the features, if they are the cause."""
        for batch in self.batches():
            if isinstance(batch.x, Tensor) and not bool(batch.x.isfinite().all()):
                rows = int((~batch.x.isfinite()).reshape(len(batch.x), -1).any(1).sum())
                return FloatingPointError(
                    f"the loss is {loss} in epoch {number}: expected finite features, got nan or inf in "
                    f"{rows} of the {len(batch.x)} rows of x"
                )
        anew = not all(bool(p.isfinite().all()) for p in self.model.parameters())
        advice = ", and build the model anew, as its parameters are no longer finite" if anew else ""
        return FloatingPointError(f"the loss is {loss} in epoch {number}: try a lower learning rate{advice}")

    def settings(self) -> dict[str, str]:
        """What is trained and how, as texts that a checkpoint keeps and compares."""
        optimizer, scheduler = self.step.optimizer, self.step.schedule.scheduler
        state = scheduler.state_dict() if hasattr(scheduler, "state_dict") else {}
        return {
            "model": type(self.model).__name__,
            "optimizer": type(optimizer).__name__,
            "scheduler": type(scheduler).__name__,
            "loss": _loss_text(self.loss),
            "step_per_batch": str(self.step.schedule.per_batch),
            "clip": str(self.step.clip),
            "precision": self.precision,
            **_group_settings(optimizer),
            **{f"{k} of the scheduler": _text(v) for k, v in state.items() if k[0] != "_" and k not in PROGRESS},
            **{f"parameter {name}": str(tuple(p.shape)) for name, p in self.model.named_parameters()},
            **{f"module {name}": _module_text(part) for name, part in self.model.named_modules() if name},
        }


def _module_text(module: nn.Module) -> str:
    """The class and the arguments of a module, without the addresses of functions."""
    return re.sub(" at 0x[0-9a-f]+", "", f"{type(module).__name__}({module.extra_repr()})")


def _loss_text(loss: Any) -> str:
    """A loss by its name and its plain attributes, such as the weights of classes."""
    if isinstance(loss, partial):
        return (
            f"{_loss_text(loss.func)}({', '.join(f'{name}={_text(value)}' for name, value in loss.keywords.items())})"
        )
    if hasattr(loss, "__qualname__"):
        return loss.__qualname__
    values = {**vars(loss), **(dict(loss.named_buffers()) if isinstance(loss, nn.Module) else {})}
    plain = {name: value for name, value in values.items() if name[0] != "_" and isinstance(value, PLAIN)}
    return f"{type(loss).__name__}({', '.join(f'{name}={_text(value)}' for name, value in plain.items())})"


def _group_settings(optimizer: torch.optim.Optimizer) -> dict[str, str]:
    return {
        f"{name} of parameter group {number}": _text(value)
        for number, group in enumerate(optimizer.param_groups)
        for name, value in group.items()
        if name != "params" and not (name in VARIED and VARIED[name] in group)
    }


PLAIN = bool, int, float, str, Tensor


def _text(value: Any) -> str:
    return str(value.tolist() if isinstance(value, Tensor) else value)


def outputs_and_targets(model: nn.Module, batches: Iterable[Batch]) -> tuple[Tensor, Tensor]:
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
    if not pairs:
        raise ValueError("predict: expected one batch or more, got none")
    outputs, targets = zip(*pairs, strict=True)
    return torch.cat(outputs), torch.cat(targets)


LARGE = 100_000
"""Edges from which features are bfloat16. On one thread, a step of GCN takes less time in bfloat16 from about this
number. With fewer edges, features stay in the cache, and conversions take longer than they save."""

PRECISIONS = {"float32": "highest", "bfloat16": "medium"}
"""Precisions of matrix products, with PyTorch's names for them."""


@names_checked()
@contextmanager
def matmul_precision(precision: str) -> Iterator[None]:
    """Context in which products of float32 matrices are computed in "float32" or "bfloat16".

    In bfloat16 both factors are rounded to 8 bits and the sums are float32. Processors with units for it (AMX,
    AVX512-BF16, tensor cores) are faster; on others nothing changes. Features stay float32 between the products, unlike
    under ``torch.autocast``. `fit` also uses the latter where graphs are large.

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


@names_checked()
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
