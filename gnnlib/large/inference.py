"""Layer-wise inference (GraphSAGE on large graphs): the exact outputs of a model for all nodes, one layer after the
other, in batches of nodes with all their in-edges."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain, count
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from gnnlib._utils.calls import names_checked
from gnnlib._utils.model_state import evaluation_mode
from gnnlib.graph import EID, NID, GraphLike, is_graph, message_flow_graph, takes_graph
from gnnlib.graph._check import check_graph, kind_of
from gnnlib.large.tables import NpyMatrix
from gnnlib.nn._arguments import integer
from gnnlib.nn.norm import BatchNorm, LayerNorm, NodeNorm
from gnnlib.nn.stack import Stack
from gnnlib.ops.degrees import NORMS
from gnnlib.train.distributed import all_gather_rows, rank, world_size

__all__ = ["FeatureRows", "check_stack", "layerwise_inference"]

NODEWISE_NORMS = (BatchNorm, LayerNorm, NodeNorm)  # in evaluation mode


class FeatureRows(Protocol):
    """Features of nodes by their ids: a tensor, or an object that looks them up."""

    def __getitem__(self, rows: Tensor, /) -> Tensor: ...


@names_checked(edge_weight="edge=")
@torch.no_grad()
@takes_graph()
def layerwise_inference(
    model: nn.Module,
    graph: GraphLike,
    x: FeatureRows,
    *,
    batch_size: int = 10_000,
    edge: Tensor | None = None,
    device: torch.device | str = "cpu",
    folder: str | os.PathLike[str] | None = None,
) -> Tensor | NpyMatrix:
    """The outputs of a model for all nodes, equal to ``model(graph, x, edge)`` in evaluation mode.

    Each layer is computed for all nodes, a batch of nodes with all their in-edges at a time, before the next one.
    Memory holds the features of two layers (with a jump, of all layers), or none with ``folder``. Processes that train
    together (`gnnlib.train.distributed`) divide the batches; all of them must call this function.

    Args:
        model: a `Stack`
        graph: on the CPU
        x: features by node id, a tensor or a `NpyMatrix`
        batch_size: nodes per batch
        edge: weights or features of all edges, for layers that take them
        device: where layers are computed
        folder: where to store the features of each layer (``layer-1.npy``, ...) and at last the outputs, in place of
            memory

    Shapes:
        - x: (N, F)
        - edge: (E,) or (E, D)
        - output: (N, C), on the CPU; a `NpyMatrix` with ``folder``

    Returns:
        the outputs

    Raises:
        TypeError: for a model that is not a `Stack` of `GNNLayer`
        ValueError: for a model in which a node depends on more than its in-edges: on the degrees of sources
            (``norm="both"``: see `gcn_edge_weights`), on statistics over the graph, or through a readout

    Example:
        >>> import torch
        >>> from gnnlib import SAGEConv, Stack
        >>> from gnnlib.large import layerwise_inference
        >>> import dgl
        >>> g, x = dgl.rand_graph(50, 200), torch.rand(50, 8)
        >>> model = Stack.build(SAGEConv, 8, 16, 3, num_layers=2).eval()
        >>> torch.allclose(layerwise_inference(model, g, x, batch_size=20), model(g, x), atol=1e-6)
        True
    """
    stack = check_stack(model)
    check_graph("layerwise_inference", graph)
    check_rows("layerwise_inference", graph, x)
    batch_size = integer("layerwise_inference", "batch_size", batch_size)
    with evaluation_mode(model):
        names = (f"layer-{number}.npy" for number in count(1))

        def for_all_nodes(step: Callable[[Tensor], Tensor]) -> Tensor | NpyMatrix:
            path = None if folder is None else Path(folder, next(names))
            batches = torch.arange(graph.num_nodes()).split(batch_size)
            return _concatenate(_distribute(step, batches), graph.num_nodes(), path)

        def layer(block: nn.Module, x: FeatureRows, nodes: Tensor) -> Tensor:
            mfg = message_flow_graph(graph, nodes)
            inputs = mfg.srcdata[NID].long()
            edges = None if edge is None else edge[mfg.edata[EID].long()].to(device)
            return block(mfg, x[inputs].to(device), edges, None if block.skip is None else x0[inputs].to(device))

        encoder, x0 = stack.encoder, x
        if encoder is not None:
            x0 = for_all_nodes(lambda nodes: encoder(x[nodes].to(device)))
        outputs: list[FeatureRows] = [x0]
        for block in stack.blocks:
            y = for_all_nodes(partial(layer, block, outputs[-1]))
            outputs = [*outputs, y] if stack.jump is not None else [y]
        if stack.head is not None or stack.jump is not None:
            layers = outputs[-len(stack.blocks) :]
            y = for_all_nodes(lambda nodes: _head(stack, [rows[nodes].to(device) for rows in layers]))
    return y


def check_rows(owner: str, graph: GraphLike, rows: Any, name: str = "x") -> None:
    """Check that features or targets have a row for each node.

    Raises:
        TypeError: if they are looked up by other things than nodes
        ValueError: if there is another number of rows
    """
    column = f"graph.ndata[{rows!r}]" if isinstance(rows, str) else 'graph.ndata["feat"]'
    if isinstance(rows, (str, Mapping, list, tuple)) or is_graph(rows) or not hasattr(rows, "__getitem__"):
        got = kind_of(rows) if is_graph(rows) else f"{rows!r:.40}".partition("\n")[0]
        raise TypeError(f"{owner}: expected {name} to be a tensor with a row for each node, {column}, got {got}")
    shape = getattr(rows, "shape", None)
    if shape is not None and tuple(shape[:1]) != (graph.num_nodes(),):
        raise ValueError(f"{owner}: expected {name} of {graph.num_nodes()} rows, one for each node, got {tuple(shape)}")


def _distribute(step: Callable[[Tensor], Tensor], batches: Sequence[Tensor]) -> Iterator[Tensor]:
    """``step`` of each batch, on the CPU, computed by the processes in turn and gathered in all of them."""
    for first in range(0, len(batches), world_size()):
        mine = batches[first : first + world_size()][rank() : rank() + 1]
        for (rows,) in all_gather_rows([(step(nodes).cpu(),) for nodes in mine]):
            yield rows


def _concatenate(parts: Iterator[Tensor], num_rows: int, path: Path | None) -> Tensor | NpyMatrix:
    """The rows of all parts, in memory or in a file."""
    first = next(parts)
    parts = chain([first], parts)
    if path is not None:
        matrix = NpyMatrix(path, (num_rows, first.shape[1]), first[:0].numpy().dtype)
        matrix.write(part.numpy() for part in parts)
        return matrix
    rows, start = torch.empty(num_rows, *first.shape[1:], dtype=first.dtype), 0
    for part in parts:
        rows[start : start + len(part)] = part
        start += len(part)
    return rows


def _head(model: Stack, outputs: list[Tensor]) -> Tensor:
    x = outputs[-1] if model.jump is None else model.jump(outputs)
    return x if model.head is None else model.head(x)


def check_stack(model: nn.Module) -> Stack:
    """The model, if layer-wise inference is possible: a `Stack` of `GNNLayer` in which a node depends on its in-edges
    only.

    Raises:
        TypeError: as `layerwise_inference`
        ValueError: as `layerwise_inference`
    """
    kinds = {type(block).__name__ for block in getattr(model, "blocks", [])}
    if not isinstance(model, Stack) or kinds != {"GNNLayer"}:
        raise TypeError(f"inference: expected a Stack of GNNLayer, got {type(model).__name__} of {sorted(kinds)}")
    if model.readout is not None:
        raise ValueError(f"inference: expected no readout, got {model.readout}")
    for block in model.blocks:
        for norm in (block.norm, getattr(block.feed_forward, "norm", None)):
            if not isinstance(norm, (*NODEWISE_NORMS, type(None))):
                names = ", ".join(kind.__name__ for kind in NODEWISE_NORMS)
                raise ValueError(f"inference: expected {names} or none, which treat nodes one by one, got {norm}")
        for module in block.modules():
            norm = getattr(module, "norm", None)
            if isinstance(norm, str) and NORMS[norm][0]:
                raise ValueError(
                    f"inference: expected {type(module).__name__}(norm='right'), for GCN with gcn_edge_weights, "
                    f"got norm={norm!r}, which needs the degrees of sources"
                )
    return model
