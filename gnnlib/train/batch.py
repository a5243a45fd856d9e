"""Batches, and what `fit`, `evaluate` and `predict` take as data: graphs, stores, loaders, functions."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from gnnlib._platform.dgl import dgl, has_graphs_on
from gnnlib._utils.calls import names_checked
from gnnlib._utils.indices import as_indices
from gnnlib.data import GraphStore
from gnnlib.graph import GraphLike, is_graph, takes_graph
from gnnlib.graph._check import graph_error
from gnnlib.graph._convert import convert_graph
from gnnlib.graph._parts import graph_kind
from gnnlib.train.distributed import world_size

__all__ = ["Batch", "Columns", "as_batches", "for_model"]

TRAIN_SIZE, SIZE = 32, 256
"""Graphs of a store in a batch: in training, and otherwise."""


@names_checked(
    x="graph, x, target, or Batch.from_graph(graph)",
    target="graph, x, target, or Batch.from_graph(graph)",
    y="target=",
    label="target=",
    mask="rows=",
    edge_weight="edge=",
    edge_attr="edge=",
)
class Batch(NamedTuple):
    """The input of one training step.

    Args:
        graph: a graph; or a list of message-flow graphs (DGL blocks), one per layer; None for a model of single nodes
        x: the features as the model takes them, a tensor or a pair
        target: of the outputs, those of ``rows`` alone: ``label[rows]``
        edge: edge weights or features, or a list of one tensor per block
        rows: numbers or mask of the outputs that the loss is taken of, such as the training nodes; None takes all
    """

    graph: GraphLike
    x: Any
    target: Tensor
    edge: Any = None
    rows: Tensor | None = None

    @classmethod
    @names_checked(
        feat="feature=",
        mask="rows=",
        train_mask="rows=",
        edge_weight="edge=, the name of a column of graph.edata",
        edge_attr="edge=, the name of a column of graph.edata",
    )
    @takes_graph()
    def from_graph(
        cls,
        graph: GraphLike,
        rows: Any = None,
        *,
        feature: str = "feat",
        label: str | None = "label",
        edge: str | None = None,
    ) -> "Batch":
        """A whole graph, or a batch of graphs, with features and targets from its columns.

        Args:
            graph: with the features in ``ndata``, and the targets in ``ndata``, or in ``edata`` for a task on edges
            rows: of the targets that count, as a mask, as numbers, or as the name of a mask beside the targets; None
                for all
            feature: name of the node features
            label: name of the targets; None for no targets
            edge: name of the edge weights or edge features in ``edata``; None for none

        Returns:
            the batch, with the targets of the rows

        Raises:
            TypeError: if there is no graph
            ValueError: if the graph lacks a column
            IndexError: if a row is out of range

        Example:
            >>> import torch
            >>> from gnnlib.train import Batch
            >>> import dgl
            >>> graph = dgl.graph(([0, 1, 2], [1, 2, 0]))
            >>> graph.ndata["feat"], graph.ndata["label"] = torch.rand(3, 4), torch.tensor([0, 1, 1])
            >>> Batch.from_graph(graph, rows=[0, 2]).target.tolist()
            [0, 1]
        """
        wrong = graph_error("Batch", graph)
        if wrong is not None:
            raise wrong
        x, values = _column(graph.ndata, feature, "ndata", "feature"), None
        if edge is not None:
            values = _column(graph.edata, edge, "edata", "edge")
        if label is None:
            return cls(graph, x, torch.empty(0), values)
        frame = graph.edata if label not in graph.ndata and label in graph.edata else graph.ndata
        target = _column(frame, label, "ndata", "label")
        if rows is None:
            return cls(graph, x, target, values)
        mask = _column(frame, rows, "ndata", "rows") if isinstance(rows, str) else rows
        numbers = as_indices(mask, len(target), "Batch: rows").to(target.device)
        return cls(graph, x, target[numbers], values, numbers)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> "Batch":
        """The batch on another device, or with floating-point numbers of another type.

        Args:
            device: of the graph and of all tensors; None: where they are. Graphs of a DGL without CUDA stay on the CPU
            dtype: of those features, edge values and targets that are floating-point; None: as they are

        Returns:
            a batch, which shares what does not change
        """
        if device is not None:
            check_device(device)
        graph = [_move(block, device) for block in self.graph] if isinstance(self.graph, list) else self.graph
        graph = _move(graph, device) if is_graph(graph) else graph
        x, target, edge = (_convert(value, device, dtype) for value in (self.x, self.target, self.edge))
        return Batch(graph, x, target, edge, _convert(self.rows, device, None))


def _move(graph: GraphLike, device: torch.device | str | None) -> GraphLike:
    """A graph on a device; the graph itself, with its cached adjacency, if it is there or the device is None.

    A graph of a DGL without CUDA stays on the CPU: layers copy its edges to the device of the features, once.
    """
    if device is None or graph.device == torch.device(device):
        return graph
    stays = isinstance(graph, dgl.DGLGraph) and not has_graphs_on(torch.device(device).type)
    return graph if stays else graph.to(device)


def _column(frame: Any, name: str, where: str, argument: str) -> Tensor:
    if name not in frame:
        raise ValueError(
            f"Batch: expected graph.{where}[{name!r}], or {argument}= the name of another column, got "
            f"{sorted(map(str, frame)) or 'no columns'}"
        )
    return frame[name]


def _convert(value: Any, device: Any, dtype: torch.dtype | None) -> Any:
    """Tensors, arrays, and pairs and lists of them on a device, floating-point ones of a type."""
    if isinstance(value, (tuple, list)) and any(isinstance(item, (Tensor, np.ndarray)) for item in value):
        items = [_convert(item, device, dtype) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    if isinstance(value, (np.ndarray, list)):
        value = torch.as_tensor(value)
    if not isinstance(value, Tensor):
        return value
    return value.to(device, dtype if value.is_floating_point() else None)


class Columns(NamedTuple):
    """The names of features, targets and edge values in the frames of a graph."""

    feature: str = "feat"
    label: str | None = "label"
    edge: str | None = None

    def mask(self, data: Any, part: str | None) -> str | None:
        """The name of the mask of a part, if the data are a whole graph that has it beside its targets."""
        if part is None or not is_graph(data) or len(data.etypes) != 1:
            return None
        frame = data.edata if self.label not in data.ndata and self.label in data.edata else data.ndata
        return f"{part}_mask" if f"{part}_mask" in frame else None

    def batch(self, graph: GraphLike, rows: Any = None) -> Batch:
        """A graph with its targets."""
        return Batch.from_graph(graph, rows, feature=self.feature, label=self.label, edge=self.edge)

    def labelled(self, graph: GraphLike, target: Any) -> Batch:
        """A graph with targets beside it, as a loader of graphs gives them."""
        try:
            target = torch.as_tensor(target)
        except (TypeError, ValueError, RuntimeError):
            got = type(target).__name__
            raise TypeError(f"Batch: expected a tensor of targets beside a graph, got a {got}") from None
        return (
            self._replace(label=None).batch(graph)._replace(target=target.reshape(-1) if target.dim() == 0 else target)
        )

    def sampled(self, blocks: Sequence[GraphLike]) -> Batch:
        """The message-flow graphs of ``dgl.dataloading.DataLoader``, with the frames of their nodes."""
        x = _column(blocks[0].srcdata, self.feature, "ndata", "feature")
        target = torch.empty(0)
        if self.label is not None:
            target = _column(blocks[-1].dstdata, self.label, "ndata", "label")
        edge = None if self.edge is None else [_column(b.edata, self.edge, "edata", "edge") for b in blocks]
        return Batch(list(blocks), x, target, edge)


def check_device(device: Any) -> None:
    """Whether a device has a name that PyTorch knows, and is there.

    Raises:
        ValueError: if it is not
    """
    try:
        kind = torch.device(device).type
    except (RuntimeError, TypeError):
        raise ValueError(
            f"expected device to be 'cpu', 'cuda', 'cuda:1' or another of PyTorch, got {device!r}"
        ) from None
    if kind == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"expected device='cpu', as this PyTorch reaches no GPU, got {device!r}")


def for_model(model: nn.Module, device: torch.device | str | None) -> Callable[[Batch], Batch]:
    """The function that gives batches the device and the floating-point type of a model.

    The model is moved to the device. Without one the tensors follow the model, and graphs stay where they are: the
    adjacency that layers use is cached for each device.
    """
    if device is not None:
        check_device(device)
        model.to(device)
    like = next((p for p in model.parameters() if p.is_floating_point()), None)
    dtype = None if like is None else like.dtype

    def prepare(batch: Batch) -> Batch:
        if device is not None:
            return batch.to(device, dtype)
        tensors = batch._replace(graph=None).to(None if like is None else like.device, dtype)
        return tensors._replace(graph=batch.graph)

    return prepare


def as_batches(
    owner: str, data: Any, columns: Columns, prepare: Callable[[Batch], Batch], part: str | None = None
) -> Callable[[], Iterable[Batch]]:
    """A function that makes the batches of an epoch, from what a user gives as data.

    Args:
        owner: for errors
        data: a graph, a batch, a list of them, a store, a loader, or a function without arguments
        columns: names of the columns of graphs
        prepare: called on each batch
        part: "train", "val", "test", whose mask a whole graph has; None for all rows

    Raises:
        TypeError: if the data are none of these
        ValueError: if there are none
    """
    data = with_columns(data, owner)
    convert = partial(_as_batch, owner, columns)
    if is_graph(data) or isinstance(data, Batch) or (isinstance(data, tuple) and len(data) == 2):
        mask = columns.mask(data, part)
        batch = prepare(convert(data) if mask is None else columns.batch(data, mask))
        return lambda: [batch]
    if part == "train" and world_size() > 1 and isinstance(data, (GraphStore, DataLoader)):
        raise TypeError(
            f"{owner}: expected a function that makes this process's shard of each batch, with several processes "
            f"(gnnlib.train.distributed.shard), got a {type(data).__name__}"
        )
    if isinstance(data, GraphStore):
        data = data.loader(TRAIN_SIZE, shuffle=True) if part == "train" else data.loader(SIZE)
    if isinstance(data, (list, tuple)):
        if not data:
            raise ValueError(f"{owner}: expected data with one batch or more, got an empty {type(data).__name__}")
        batches = [prepare(convert(item)) for item in data]
        return lambda: batches
    if isinstance(data, Iterator):
        if part in ("train", "val"):
            raise TypeError(
                f"{owner}: expected data for every epoch: a list, a DataLoader or a function, lambda: "
                f"sampled_batches(...), got a {type(data).__name__}, which ends after one"
            )
        return lambda: map(prepare, map(convert, data))
    if callable(data) and not isinstance(data, nn.Module):
        return lambda: map(prepare, map(convert, data()))
    if not isinstance(data, DataLoader) and (
        isinstance(data, (Dataset, str, Tensor, np.ndarray)) or not _iterable(data)
    ):
        raise _data_error(owner, data, "val" if part == "val" else "data")
    return lambda: map(prepare, map(convert, data))


def with_columns(data: Any, owner: str = "Batch") -> Any:
    """A graph with columns, of another library, as a `Graph`; anything else as it is."""
    has_columns = (graph_kind(data) or "").startswith(("torch_geometric.", "networkx"))
    return convert_graph(data, None, owner) if has_columns else data


def _iterable(data: Any) -> bool:
    return hasattr(type(data), "__iter__")


def _data_error(owner: str, data: Any, name: str) -> TypeError:
    if isinstance(data, (Tensor, np.ndarray)):
        expected = "a graph, or Batch.from_graph(graph, rows=...) for some of its rows"
    elif isinstance(data, Dataset):
        expected = "its graph, data[0], or a GraphStore of its graphs, or a DataLoader of batches"
    else:
        expected = "a graph, a GraphStore, a loader, a Batch, a list of batches or a function that makes them"
    got = "None" if data is None else f"{type(data).__module__}.{type(data).__name__}".removeprefix("builtins.")
    return TypeError(f"{owner}: expected {name} to be {expected}, got {got}")


def _as_batch(owner: str, columns: Columns, item: Any) -> Batch:
    """A batch from one item of a loader."""
    if isinstance(item, Batch):
        return item
    if isinstance(item, (tuple, list)) and len(item) == 2:
        item = (with_columns(item[0], owner), item[1])
    graph, target = with_columns(item, owner), getattr(item, columns.label or "", None)
    if graph is not item and target is not None and columns.label not in {**graph.ndata, **graph.edata}:
        return columns.labelled(graph, target)  # one for each graph of PyG's Batch
    item = graph
    if is_graph(item):
        return columns.batch(item)
    if isinstance(item, (tuple, list)) and len(item) == 2 and is_graph(item[0]):
        return columns.labelled(*item)
    if isinstance(item, (tuple, list)) and len(item) == 3 and isinstance(item[2], (list, tuple)):
        return columns.sampled(item[2])  # input nodes, output nodes, blocks
    got = f"({', '.join(type(part).__name__ for part in item)})" if isinstance(item, tuple) else type(item).__name__
    raise TypeError(
        f"{owner}: expected batches that are a Batch, a graph, a pair (graph, targets) or a triple (input nodes, "
        f"output nodes, DGL blocks), got {got}"
    )
