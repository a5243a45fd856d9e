"""Greedy layer-wise training: each block of a `Stack` with its own head, on the frozen blocks before it."""

import multiprocessing
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from gnnlib._utils.calls import names_checked
from gnnlib._utils.model_state import evaluation_mode
from gnnlib.graph import GraphLike
from gnnlib.nn.layer import graph_for
from gnnlib.nn.stack import Stack
from gnnlib.train.loop import Batch, fit

__all__ = ["fit_layerwise"]

Features = tuple[Tensor, Tensor]  # the frozen features x, and the first hidden features x0


class _Settings(NamedTuple):
    """The training settings of every stage, as `fit_layerwise` takes them."""

    head: Callable[[int], nn.Module]
    loss: Callable[[Tensor, Tensor], Tensor]
    optimizer: Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]
    epochs: int


@names_checked()
def fit_layerwise(
    stack: Stack,
    batches: Sequence[Batch],
    head: Callable[[int], nn.Module],
    loss: Callable[[Tensor, Tensor], Tensor],
    optimizer: Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer],
    epochs: int,
    *,
    processes: bool = False,
) -> list[list[dict[str, float]]]:
    """Greedy layer-wise training (Bengio et al. 2007; with labels at every layer Belilovsky et al. 2019, arXiv
    1812.11446; on graphs L2-GCN: You et al. 2020, arXiv 2003.13606): trains ``stack`` in place, one block after the
    other.

    Stage k trains block k under a temporary head. Its input features are computed once by the blocks before it, in
    evaluation mode and without gradients. Therefore no block is further from the loss than its head, and memory is that
    of one layer at any depth. The encoder is trained with the first block and the head of the stack with the last, so
    the stack is ready for use. To fine-tune it as a whole, call `fit` on it.

    Args:
        stack: of at least one block
        batches: one graph or several, in the order of every epoch
        head: constructs a head from the width of a block's output: ``partial(nn.Linear, out_features=7)``
        loss: called on outputs and targets
        optimizer: constructs one from parameters: ``partial(torch.optim.Adam, lr=0.01)``
        epochs: of each stage
        processes: run each stage in a separate process, whose memory is then free again. Results are the same. The
            stack and all arguments must be picklable

    Returns:
        the records of `fit` for each block

    Raises:
        ValueError: for a stack with a jump, whose head needs all blocks at once
        FloatingPointError: if the loss is not finite
        RuntimeError: if a process failed

    Example:
        >>> from functools import partial
        >>> import torch
        >>> from torch import nn
        >>> from gnnlib import GCNConv, Stack
        >>> from gnnlib.train import Batch, fit_layerwise
        >>> import dgl
        >>> g = dgl.add_self_loop(dgl.graph(([0, 1], [1, 0])))
        >>> stack = Stack.build(GCNConv, 2, 8, 2, num_layers=16)
        >>> head, adam = partial(nn.Linear, out_features=2), partial(torch.optim.Adam, lr=0.01)
        >>> batch = Batch(g, torch.eye(2), torch.tensor([0, 0]))
        >>> records = fit_layerwise(stack, [batch], head, nn.functional.cross_entropy, adam, epochs=5)
        >>> len(records), len(records[0])
        (16, 5)
    """
    if stack.jump is not None:
        raise ValueError(f"fit_layerwise: expected a stack without a jump, got {type(stack.jump).__name__}")
    settings = _Settings(head, loss, optimizer, epochs)
    stages = [_Stage(stack, layer) for layer in range(len(stack.blocks))]
    seeds = torch.randint(2**31, (len(stages),)).tolist()
    inputs = [batch._replace(x=(batch.x, batch.x)) for batch in batches]
    if processes:
        return _train_in_processes(stages, inputs, settings, seeds)
    records = []
    for stage, seed in zip(stages, seeds, strict=True):
        record, inputs = _train(stage, inputs, settings, seed)
        records.append(record)
    return records


class _Stage(nn.Module):
    """One block and its head, with the stack's encoder before the first block."""

    def __init__(self, stack: Stack, layer: int):
        super().__init__()
        last = layer == len(stack.blocks) - 1
        self.encoder = stack.encoder if layer == 0 else None
        self.block, self.readout = stack.blocks[layer], stack.readout
        self.head: Any = (stack.head or nn.Identity()) if last else None  # None: constructed in `_train`

    def features(self, graph: GraphLike, inputs: Features, edge: Tensor | None = None) -> Features:
        x, x0 = inputs
        if self.encoder is not None:
            x = x0 = self.encoder(x)
        return self.block(graph, x, edge, x0), x0

    def forward(self, graph: GraphLike, inputs: Features, edge: Tensor | None = None) -> Tensor:
        y, _ = self.features(graph, inputs, edge)
        return self.head(y if self.readout is None else self.readout(graph_for(self.readout, graph), y))

    def freeze(self, batches: Iterable[Batch]) -> list[Batch]:
        """The batches with the features after this block."""
        with evaluation_mode(self), torch.no_grad():
            return [b._replace(x=self.features(b.graph, b.x, b.edge)) for b in batches]


def _train(stage: _Stage, inputs: Sequence[Batch], settings: _Settings, seed: int) -> tuple[list, list[Batch]]:
    """The records of one stage, and the batches for the next."""
    head, loss, optimizer, epochs = settings
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if stage.head is None:
            (first,) = stage.freeze(inputs[:1])
            stage.head = head(first.x[0].shape[-1]).to(first.x[0])
        records = fit(stage, lambda: inputs, loss, optimizer(stage.parameters()), epochs)
        return records, stage.freeze(inputs)


def _train_in_processes(
    stages: Sequence[_Stage], inputs: Sequence[Batch], settings: _Settings, seeds: Sequence[int]
) -> list[list[dict[str, float]]]:
    records = []
    with tempfile.TemporaryDirectory() as name:
        task, features, result = (Path(name) / part for part in ("task", "features", "result"))
        torch.save(inputs, features)
        for layer, (stage, seed) in enumerate(zip(stages, seeds, strict=True), 1):
            torch.save((stage, settings, seed), task)
            # a fresh interpreter imports _work, and with it gnnlib, before it reads a graph
            process = multiprocessing.get_context("spawn").Process(target=_work, args=(task, features, result))
            process.start()
            process.join()
            if process.exitcode:
                raise RuntimeError(f"fit_layerwise: the process of layer {layer} ended with {process.exitcode}")
            trained, record = _load(result)
            stage.head = stage.head or trained.head
            stage.load_state_dict(trained.state_dict())
            records.append(record)
    return records


def _work(task: Path, features: Path, result: Path) -> None:
    """Trains one stage in a process, and replaces the features by those of the next stage."""
    stage, settings, seed = _load(task)
    records, outputs = _train(stage, _load(features), settings, seed)
    torch.save(outputs, features)
    torch.save((stage, records), result)


def _load(path: Path) -> Any:
    return torch.load(path, weights_only=False)
