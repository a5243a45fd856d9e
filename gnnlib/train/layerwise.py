"""Layer-wise training: each block of a `Stack` with a head of its own, on the frozen blocks below."""

import tempfile
from collections.abc import Callable, Iterable, Sequence
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from gnnlib._platform.dgl import dgl
from gnnlib.nn.stack import Stack
from gnnlib.train.loop import Batch, fit

__all__ = ["fit_layerwise"]

Below = tuple[Tensor, Tensor]  # the frozen features x, and the first hidden ones, x0


class _Settings(NamedTuple):
    """How every stage is trained; the arguments of `fit_layerwise`."""

    head: Callable[[int], nn.Module]
    loss: Callable[[Tensor, Tensor], Tensor]
    optimizer: Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]
    epochs: int


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
    other, and returns the records of `fit` for each.

    Stage k trains block k under a head that is thrown away afterwards, on features that the blocks below have made
    once, in evaluation mode, and that no gradient passes. So no block is further from the loss than its head,
    and memory is that of one layer, however many there are. The encoder is trained with the first block, the head of
    the stack with the last, so the stack is ready for use; to fine-tune the whole, call `fit` on it.

    Args:
        batches: one graph or several, passed over in this order in every epoch
        head: makes a head from the width of a block's output: ``partial(nn.Linear, out_features=7)``
        loss: called on outputs and targets
        optimizer: makes one from parameters: ``partial(torch.optim.Adam, lr=0.01)``
        epochs: of each stage
        processes: each stage runs in a process of its own, which reads the features that the one before has written
            and gives all its memory back. Results are the same. The stack and all arguments must be picklable

    Raises: ValueError for a stack with a jump, whose head needs all blocks at once; FloatingPointError as `fit`, or
    RuntimeError where it, or anything else, happened in a process.

    >>> from functools import partial
    >>> from gnnlib import GCNConv
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
    recipe = _Settings(head, loss, optimizer, epochs)
    stages = [_Stage(stack, layer) for layer in range(len(stack.blocks))]
    seeds = torch.randint(2**31, (len(stages),)).tolist()
    below = [batch._replace(x=(batch.x, batch.x)) for batch in batches]
    if processes:
        return _train_elsewhere(stages, below, recipe, seeds)
    records = []
    for stage, seed in zip(stages, seeds, strict=True):
        record, below = _train(stage, below, recipe, seed)
        records.append(record)
    return records


class _Stage(nn.Module):
    """One block, with what comes before the first or after the last, and a head."""

    def __init__(self, stack: Stack, layer: int):
        super().__init__()
        last = layer == len(stack.blocks) - 1
        self.encoder = stack.encoder if layer == 0 else None
        self.block, self.readout = stack.blocks[layer], stack.readout
        self.head: Any = (stack.head or nn.Identity()) if last else None  # else made where the stage is trained

    def features(self, graph: dgl.DGLGraph, below: Below, edge: Tensor | None = None) -> Below:
        x, x0 = below
        if self.encoder is not None:
            x = x0 = self.encoder(x)
        return self.block(graph, x, edge, x0), x0

    def forward(self, graph: dgl.DGLGraph, below: Below, edge: Tensor | None = None) -> Tensor:
        y, _ = self.features(graph, below, edge)
        return self.head(y if self.readout is None else self.readout(graph, y))

    def freeze(self, batches: Iterable[Batch]) -> list[Batch]:
        """The same batches, one block higher."""
        self.eval()
        with torch.no_grad():
            above = [b._replace(x=self.features(b.graph, b.x, b.edge)) for b in batches]
        self.train()
        return above


def _train(stage: _Stage, below: Sequence[Batch], recipe: _Settings, seed: int) -> tuple[list, list[Batch]]:
    """The records of one stage, and the batches for the next."""
    head, loss, optimizer, epochs = recipe
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if stage.head is None:
            (first,) = stage.freeze(below[:1])
            stage.head = head(first.x[0].shape[-1]).to(first.x[0])
        records = fit(stage, lambda: below, loss, optimizer(stage.parameters()), epochs)
        return records, stage.freeze(below)


def _train_elsewhere(
    stages: Sequence[_Stage], below: Sequence[Batch], recipe: _Settings, seeds: Sequence[int]
) -> list[list[dict[str, float]]]:
    records = []
    with tempfile.TemporaryDirectory() as name:
        task, features, result = (Path(name) / part for part in ("task", "features", "result"))
        torch.save(below, features)
        for layer, (stage, seed) in enumerate(zip(stages, seeds, strict=True), 1):
            torch.save((stage, recipe, seed), task)
            # a fresh interpreter finds _work, and with it gnnlib, before it reads a graph
            process = get_context("spawn").Process(target=_work, args=(task, features, result))
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
    """What a process does; the features it reads make place for its own."""
    stage, recipe, seed = _load(task)
    records, above = _train(stage, _load(features), recipe, seed)
    torch.save(above, features)
    torch.save((stage, records), result)


def _load(path: Path) -> Any:
    return torch.load(path, weights_only=False)
