"""What a model says of all nodes of a graph that is too large for one step: layer by layer, in pieces, exactly."""

import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import chain, count
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from gnnlib._platform.dgl import dgl
from gnnlib.large.tables import NpyMatrix
from gnnlib.nn.norm import BatchNorm, LayerNorm, NodeNorm
from gnnlib.nn.stack import Stack
from gnnlib.ops.degrees import NORMS
from gnnlib.train.distributed import all_gather_rows, rank, world_size

__all__ = ["Rows", "layerwise_inference", "layered"]

ROW_BY_ROW = (BatchNorm, LayerNorm, NodeNorm, type(None))  # in evaluation


class Rows(Protocol):
    """Features of nodes by their ids: a tensor, or whatever looks them up."""

    def __getitem__(self, rows: Tensor, /) -> Tensor: ...


@torch.no_grad()
def layerwise_inference(
    model: nn.Module,
    graph: dgl.DGLGraph,
    x: Rows,
    batch_size: int = 10_000,
    edge: Tensor | None = None,
    device: torch.device | str = "cpu",
    folder: str | os.PathLike[str] | None = None,
) -> Tensor | NpyMatrix:
    """The outputs for all nodes (N, C), on the CPU, exactly ``model(graph, x, edge)`` in evaluation: layer after layer,
    each for so many nodes at a time with all their in-edges. Two layers' features are in memory (with a jump, all of
    them), or none. Processes that train together (`gnnlib.train.distributed`) share the work: all have to call it.

    Args:
        x: features by node id: a tensor, or the `NpyMatrix` of a file
        folder: where layers are kept that are not to be in memory, ``layer-1.npy`` and so on, and the outputs last, of
            which a `NpyMatrix` is returned

    Raises: TypeError for a model that is no `Stack` of `GNNLayer`; ValueError for what needs to see more than the
    in-edges
    of some nodes: a degree of sources (``norm="both"``: see `gcn_edge_weights`), statistics over the graph, a readout.

    >>> from gnnlib import SAGEConv
    >>> g, x = dgl.rand_graph(50, 200), torch.rand(50, 8)
    >>> model = Stack.build(SAGEConv, 8, 16, 3, num_layers=2).eval()
    >>> torch.allclose(layerwise_inference(model, g, x, batch_size=20), model(g, x), atol=1e-6)
    True
    """
    stack, was_training = layered(model), model.training
    model.eval()
    names = (f"layer-{number}.npy" for number in count(1))

    def everywhere(step: Callable[[Tensor], Tensor]) -> Tensor | NpyMatrix:
        path = None if folder is None else Path(folder, next(names))
        parts = torch.arange(graph.num_nodes()).split(batch_size)
        return _together(_in_turns(step, parts), graph.num_nodes(), path)

    def layer(block: nn.Module, x: Rows, nodes: Tensor) -> Tensor:
        nodes = nodes.to(graph.idtype)
        before = dgl.in_subgraph(graph, nodes)  # DGL's sampler would shuffle the edges, and so the order of sums
        hop = dgl.to_block(before, nodes)
        inputs = hop.srcdata[dgl.NID].long()
        edges = None if edge is None else edge[before.edata[dgl.EID][hop.edata[dgl.EID].long()].long()].to(device)
        return block(hop, x[inputs].to(device), edges, None if block.skip is None else x0[inputs].to(device))

    encoder, x0 = stack.encoder, x
    if encoder is not None:
        x0 = everywhere(lambda nodes: encoder(x[nodes].to(device)))
    outputs: list[Rows] = [x0]
    for block in stack.blocks:
        y = everywhere(partial(layer, block, outputs[-1]))
        outputs = [*outputs, y] if stack.jump is not None else [y]
    if stack.head is not None or stack.jump is not None:
        layers = outputs[-len(stack.blocks) :]
        y = everywhere(lambda nodes: _top(stack, [one[nodes].to(device) for one in layers]))
    model.train(was_training)
    return y


def _in_turns(step: Callable[[Tensor], Tensor], parts: Sequence[Tensor]) -> Iterator[Tensor]:
    """``step`` of each part, on the CPU; of several processes each takes its turns, and has what the others found."""
    for first in range(0, len(parts), world_size()):
        mine = parts[first : first + world_size()][rank() : rank() + 1]
        for (found,) in all_gather_rows([(step(nodes).cpu(),) for nodes in mine]):
            yield found


def _together(parts: Iterator[Tensor], num_rows: int, path: Path | None) -> Tensor | NpyMatrix:
    """Parts of a matrix, in memory or in a file."""
    first = next(parts)
    every = chain([first], parts)
    if path is not None:
        table = NpyMatrix(path, (num_rows, first.shape[1]), first[:0].numpy().dtype)
        table.write(part.numpy() for part in every)
        return table
    found, start = torch.empty(num_rows, *first.shape[1:], dtype=first.dtype), 0
    for part in every:
        found[start : start + len(part)] = part
        start += len(part)
    return found


def _top(model: Stack, outputs: list[Tensor]) -> Tensor:
    x = outputs[-1] if model.jump is None else model.jump(outputs)
    return x if model.head is None else model.head(x)


def layered(model: nn.Module) -> Stack:
    """The model, if it can be taken apart: a `Stack` of `GNNLayer` in which a node sees its in-edges and nothing else.

    Raises: TypeError or ValueError, as `layerwise_inference`.
    """
    kinds = {type(block).__name__ for block in getattr(model, "blocks", [])}
    if not isinstance(model, Stack) or kinds != {"GNNLayer"}:
        raise TypeError(f"inference: expected a Stack of Blocks, got {type(model).__name__} of {sorted(kinds)}")
    if model.readout is not None:
        raise ValueError(f"inference: expected no readout, got {model.readout}")
    for block in model.blocks:
        if not isinstance(block.norm, ROW_BY_ROW):
            known = ", ".join(kind.__name__ for kind in ROW_BY_ROW[:-1])
            raise ValueError(f"inference: expected {known} or none, which take nodes one by one, got {block.norm}")
        for part in block.modules():
            name = getattr(part, "norm", None)
            if isinstance(name, str) and NORMS[name][0]:
                raise ValueError(
                    f"inference: expected {type(part).__name__}(norm='right'), for GCN with gcn_edge_weights, "
                    f"got norm={name!r}, which needs the degrees of sources"
                )
    return model
