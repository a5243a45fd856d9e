"""A store of many small graphs with fast batching."""

import operator
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, overload

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from gnnlib._utils.calls import names_checked
from gnnlib._utils.indices import as_indices
from gnnlib.data import archive
from gnnlib.data.flat import FlatGraphs
from gnnlib.graph import GraphLike, batch, is_graph
from gnnlib.graph._check import graph_error
from gnnlib.graph._convert import convert_graph
from gnnlib.graph._parts import graph_kind

__all__ = ["GraphStore"]

Indices = Sequence[int] | np.ndarray | Tensor


@names_checked()
class GraphStore(Dataset):
    """Many small graphs in flat arrays. Batches equal ``dgl.batch`` of the same graphs and are built faster.

    A batch is copied from the arrays (see `FlatGraphs`) without sorting. It has the CSC that DGL's message passing
    uses. Its `Adjacency` is copied in the same way at the first use.

    It is a torch ``Dataset``: `loader`, or any ``DataLoader`` with ``collate_fn=store.collate``, yields batched graphs,
    or pairs (graph, labels) if the store has labels. Worker processes, forked or spawned, send flat tensors, and the
    main process builds the DGLGraph. ``dgl.dataloading.GraphDataLoader`` and torch's ``Subset`` and ``ConcatDataset``
    give the same batches.

    ``store[i]`` is a single graph, whose attribute ``label`` is its label, or None without labels.

    Args:
        graphs: DGLGraphs on the CPU with one node type and one edge type, and the same columns in their frames. As
            in dgl.batch, a graph without nodes (edges) may lack the columns of nodes (edges).
        labels: a value for each graph, (G, \\*).

    Raises:
        TypeError: if an element is not a DGLGraph.
        ValueError: if a graph is a block or a batch, has several types, is not on the CPU, or has another index type or
            other columns than the first graph.
        ValueError: if there are no graphs, or the number of labels differs from that of graphs.

    The graphs are copied: an edge takes 8 to 12 bytes beside its features (8 if edges are sorted by one endpoint, as in
    superpixel graphs) and a node 4; twice that if some graph has 2**15 nodes or edges. Frames and labels are
    detached. A restriction of a graph to some sparse formats is not stored.

    A part of a store, ``store[indices]`` or of `split`, is a view: it has the numbers of its graphs and copies of their
    labels, and shares the arrays of the store. `copy` gives it arrays of its own.

    Example:
        >>> from gnnlib import GraphStore
        >>> import dgl
        >>> store = GraphStore([dgl.graph(([0], [1])), dgl.graph(([], []), num_nodes=3)], labels=[5, 7])
        >>> len(store), store[1].num_nodes()
        (2, 3)
        >>> g = store.batch([1, 0, 0])
        >>> g.batch_num_nodes().tolist(), g.edges()[0].tolist()
        ([3, 2, 2], [3, 5])
        >>> [(g.batch_size, labels.tolist()) for g, labels in store.loader(batch_size=2)]
        [(2, [5, 7])]
    """

    def __init__(self, graphs: Iterable[GraphLike], labels: Tensor | Sequence | None = None):
        graphs = [convert_graph(graph, None, f"graph {i}") for i, graph in enumerate(_as_list(graphs))]
        _check(graphs)
        self.labels = _as_labels(labels)
        if self.labels is not None and self.labels.shape[:1] != (len(graphs),):
            raise ValueError(f"labels: expected one for each of {len(graphs)} graphs, got {tuple(self.labels.shape)}")
        self._flat = FlatGraphs.of(graphs)
        self._folder: Path | None = None
        self._numbers: np.ndarray | None = None  # of the graphs of a view

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> "GraphStore":
        """Open the store that :func:`~gnnlib.images.images_to_store` wrote, memory-mapped.

        The header, the bounds of the graphs, the labels and 4 MiB of the data, spread evenly, are verified at once, and
        each graph when it is first read: its checksums, and its numbers of nodes and edges. Such a store is pickled,
        for a spawned worker, as the name of its folder.

        Raises:
            ValueError: if there is no store, or it is damaged; also by the methods that read graphs.
        """
        folder = Path(folder).absolute()
        return cls._of(*archive.read(folder), folder)

    @classmethod
    def _of(
        cls, flat: FlatGraphs, labels: Tensor | None, folder: Path | None = None, numbers: np.ndarray | None = None
    ) -> "GraphStore":
        store = cls.__new__(cls)
        store._flat, store.labels, store._folder, store._numbers = flat, labels, folder, numbers
        return store

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ if self._folder is None else self.__dict__ | {"_flat": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state
        if self._folder is not None:
            self._flat = archive.read(self._folder)[0]

    @property
    def ndata(self) -> dict[str, Tensor]:
        """The node features of all graphs, end to end, (N, \\*). Of a store on disk they are memory-mapped; of a part
        of a store they are a copy."""
        return dict(self._flat.ndata if self._numbers is None else self._flat.node_features(self._numbers))

    def __len__(self) -> int:
        return len(self._flat.nodes) - 1 if self._numbers is None else len(self._numbers)

    @overload
    def __getitem__(self, index: int) -> GraphLike: ...

    @overload
    def __getitem__(self, index: "Indices | slice") -> "GraphStore": ...

    def __getitem__(self, index: Any) -> Any:
        """A graph by its number, or a view by numbers, a boolean mask or a slice. Negative numbers count from the end.

        Raises:
            TypeError: if the indices are neither integers nor booleans.
            ValueError: if there are none, or a mask has another length.
            IndexError: if an index is out of range.
        """
        if isinstance(index, slice):
            index = range(len(self))[index]
        if np.ndim(index) > 0:
            return self.select(as_indices(index, len(self), "GraphStore"))
        if not hasattr(index, "__index__"):
            raise TypeError(f"GraphStore: expected the number of a graph, numbers or a mask, got {index!r}")
        index = operator.index(index)
        if not -len(self) <= index < len(self):
            raise IndexError(f"expected an index from {-len(self)} to {len(self) - 1}, got {index}")
        graph = self.batch([index % len(self)])
        graph.label = None if self.labels is None else self.labels[index]
        return graph

    def __iter__(self) -> Iterator[GraphLike]:
        return (self[i] for i in range(len(self)))

    def batch(self, indices: Indices) -> GraphLike:
        """The graphs with these indices, (B,), in any order, repeats allowed, as one batched graph.

        Raises:
            TypeError: if the indices are not integers.
            ValueError: if there are none.
            IndexError: if an index is out of range.
        """
        return self._flat.batch(self._numbers_of(self._checked_indices(indices)))

    def select(self, indices: Indices) -> "GraphStore":
        """A view of the graphs with these indices, (B,), in this order, repeats allowed, such as a training split.

        Raises:
            TypeError: as :meth:`batch`.
            ValueError: as :meth:`batch`.
            IndexError: as :meth:`batch`.
        """
        indices = self._checked_indices(indices).copy()
        return self._of(self._flat, self._labels_of(indices), self._folder, self._numbers_of(indices))

    def copy(self) -> "GraphStore":
        """A store with the same graphs and labels in arrays of its own, in memory.

        A view keeps the arrays of its whole store in memory, and is pickled with them; a copy has its graphs alone.

        Example:
            >>> from gnnlib import GraphStore
            >>> import dgl
            >>> store = GraphStore([dgl.graph(([0], [1]))] * 20, labels=range(20))
            >>> few = store[[3, 4]].copy()
            >>> len(few), few.labels.tolist()
            (2, [3, 4])
        """
        numbers = self._numbers_of(np.arange(len(self)))
        return self._of(self._flat.select(numbers), None if self.labels is None else self.labels.clone())

    @names_checked()
    def split(
        self, fractions: Sequence[float] = (0.8, 0.1, 0.1), seed: int = 0, *, stratify: bool = False
    ) -> "tuple[GraphStore, ...]":
        """Random parts of the store, each a view, such as for training, validation and test.

        Args:
            fractions: of the graphs in each part; their sum is 1.
            seed: of the order; the same seed gives the same parts.
            stratify: whether each part has the classes in the same shares as the store, to within two graphs of a
                class.

        Raises:
            ValueError: if the fractions are not positive with sum 1, or a part would have no graph.
            TypeError: if ``stratify`` is set and the labels are not classes.

        Example:
            >>> from gnnlib import GraphStore
            >>> import dgl
            >>> store = GraphStore([dgl.graph(([0], [1]))] * 20, labels=[0, 1] * 10)
            >>> train, val, test = store.split((0.6, 0.2, 0.2), seed=0, stratify=True)
            >>> len(train), val.labels.bincount().tolist(), test.labels.bincount().tolist()
            (12, [2, 2], [2, 2])
        """
        sizes = _part_sizes(fractions, len(self))
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))
        if stratify:
            order = order[self._classes()[order].argsort(stable=True)]
        # Part p is due at (k + 1/2) / size_p: in this order every run of graphs has all parts in their shares.
        due = torch.cat([(torch.arange(size, dtype=torch.float64) + 0.5) / size for size in sizes])
        part = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))[due.argsort(stable=True)]
        return tuple(self.select(order[part == p].sort().values) for p in range(len(sizes)))

    def _classes(self) -> Tensor:
        if self.labels is None or self.labels.is_floating_point() or self.labels.squeeze().dim() > 1:
            got = None if self.labels is None else f"{self.labels.dtype} {tuple(self.labels.shape)}"
            raise TypeError(f"split: expected a class for each graph in labels, for stratify=True, got {got}")
        return self.labels.reshape(-1)

    def loader(self, batch_size: int = 32, shuffle: bool = False, **options: Any) -> DataLoader:
        """A DataLoader of the batches. ``options`` are those of DataLoader: num_workers, generator, drop_last, ...

        Sending a batch between processes takes longer than building it: 0 workers are usually fastest.
        """
        return DataLoader(self, batch_size, shuffle, collate_fn=self.collate, **options)

    @staticmethod
    def collate(samples: Any) -> Any:
        """The collate_fn of a DataLoader.

        Args:
            samples: what the DataLoader read: graphs of one store, a list of graphs ``store[i]`` of one or more stores
                (``ConcatDataset``), or a single one (``batch_size=None``).

        Returns:
            The batched graph, or the pair (graph, labels) if the graphs have labels.

        Raises:
            TypeError: if an element is no graph of a store, so that its label is not known.
            ValueError: if some graphs have labels, and others have none.
        """
        if isinstance(samples, _Samples):
            return samples.batch()
        if is_graph(samples):
            return _with_labels(samples, _label(samples))
        labels = [_label(graph) for graph in samples]
        missing = sum(label is None for label in labels)
        if 0 < missing < len(labels):
            raise ValueError(f"collate: expected a label for each of {len(labels)} graphs, got {missing} without one")
        return _with_labels(batch(samples), None if missing else torch.stack(labels))  # type: ignore[arg-type]

    def __getitems__(self, indices: Indices) -> "_Samples":
        """The samples of a batch, for a DataLoader and its collate_fn."""
        return _Samples(self, self._checked_indices(indices))

    def _checked_indices(self, indices: Indices) -> np.ndarray:
        array = np.asarray(indices)  # five times faster than torch for lists
        if array.ndim != 1 or array.size == 0:
            raise ValueError(f"expected the indices of one or more graphs, (B,), got shape {array.shape}")
        if array.dtype.kind not in "iu":
            raise TypeError(f"expected integers as indices of graphs, got {array.dtype}")
        array = np.ascontiguousarray(array, np.int64)
        if array.view(np.uint64).max() >= len(self):  # as unsigned numbers negative indices are large
            raise IndexError(f"expected indices from 0 to {len(self) - 1}, got {array.min()} to {array.max()}")
        return array

    def _numbers_of(self, indices: np.ndarray) -> np.ndarray:
        """The numbers that the graphs with these indices have in the arrays."""
        return indices if self._numbers is None else self._numbers[indices]

    def _labels_of(self, indices: np.ndarray) -> Tensor | None:
        return None if self.labels is None else self.labels.index_select(0, torch.from_numpy(indices))


def _part_sizes(fractions: Sequence[float], number: int) -> list[int]:
    """The number of graphs in each part, by the largest remainders."""
    values = [float(value) for value in fractions] if isinstance(fractions, (list, tuple)) else []
    if not values or min(values) <= 0 or abs(sum(values) - 1) > 1e-6:
        raise ValueError(f"split: expected positive fractions with sum 1, such as (0.8, 0.1, 0.1), got {fractions}")
    sizes = [int(value * number + 1e-9) for value in values]
    remainders = sorted(range(len(values)), key=lambda p: sizes[p] - values[p] * number)
    for p in remainders[: number - sum(sizes)]:
        sizes[p] += 1
    if min(sizes) == 0:
        raise ValueError(f"split: expected a graph or more in each part, got {sizes} of {number} graphs")
    return sizes


def _with_labels(graph: GraphLike, labels: Tensor | None) -> Any:
    return graph if labels is None else (graph, labels)


def _label(graph: Any) -> Tensor | None:
    if not is_graph(graph) or not hasattr(graph, "label"):
        raise TypeError(
            f"collate: expected graphs store[i] with their attribute label, got a {type(graph).__name__} without it; "
            "use the default collate_fn of dgl.dataloading.GraphDataLoader for other samples"
        )
    return graph.label


class _Samples(Sequence):
    """Graphs of a store with their labels, for any collate function; `batch` builds them at once."""

    def __init__(self, store: GraphStore, indices: np.ndarray):
        self.store, self.indices = store, indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, i: Any) -> Any:
        graph = self.store[int(self.indices[i])]
        return _with_labels(graph, graph.label)

    def batch(self) -> Any:
        """The batch. A worker process returns flat tensors, from which the main process builds it."""
        if get_worker_info() is not None:
            return _Parcel(self.store.select(self.indices).copy())
        store = self.store
        return _with_labels(store._flat.batch(store._numbers_of(self.indices)), store._labels_of(self.indices))


class _Parcel(NamedTuple):
    """What a worker process returns: a store of the batch's graphs. It unpickles to the batch."""

    store: GraphStore

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpack, tuple(self)


def _unpack(store: GraphStore) -> Any:
    return _with_labels(store._flat.batch_all(), store.labels)


def _as_list(graphs: Any) -> list[Any]:
    if is_graph(graphs) or graph_kind(graphs) not in (None, "pair"):
        got = f"one {type(graphs).__name__}"
        raise TypeError(f"GraphStore: expected a list of graphs, [graph], or gnnlib.graph.unbatch(batch), got {got}")
    if isinstance(graphs, (Tensor, np.ndarray, str)) or not (
        hasattr(graphs, "__iter__") or hasattr(graphs, "__getitem__")
    ):
        raise TypeError(f"GraphStore: expected a list of graphs, got {type(graphs).__name__}")
    return list(graphs)


def _as_labels(labels: Any) -> Tensor | None:
    try:
        return None if labels is None else torch.as_tensor(labels).detach().clone()
    except (TypeError, ValueError, RuntimeError):
        values = list(labels) if hasattr(labels, "__iter__") else [labels]
        got = repr(values[0])[:50] if values else type(labels).__name__
        raise TypeError(f"labels: expected numbers of the classes, or other numbers, got {got}") from None


def _check(graphs: list[GraphLike]) -> None:
    if not graphs:
        raise ValueError("expected at least one graph, got none")
    for i, graph in enumerate(graphs):
        if not is_graph(graph):
            raise graph_error(f"graph {i}", graph) or TypeError(f"graph {i}: expected a graph")
        if graph.is_block or not graph.is_homogeneous:
            got = "a block" if graph.is_block else graph.canonical_etypes
            raise ValueError(
                f"graph {i}: expected one node type and one edge type, dgl.to_homogeneous(graph), got {got}"
            )
        if graph.batch_size != 1:
            raise ValueError(
                f"graph {i}: expected a single graph, got a batch of {graph.batch_size}; use gnnlib.graph.unbatch"
            )
        if graph.device.type != "cpu":
            raise ValueError(f"graph {i}: expected a graph on the cpu, got {graph.device}")
    _check_same("types", [(g.canonical_etypes[0], g.idtype) for g in graphs])
    _check_same("ndata", [_columns(g.ndata) if g.num_nodes() else None for g in graphs])
    _check_same("edata", [_columns(g.edata) if g.num_edges() else None for g in graphs])


def _columns(frame: Any) -> dict[str, tuple]:
    return {name: (value.dtype, *value.shape[1:]) for name, value in frame.items()}


def _check_same(what: str, values: list) -> None:
    expected = next((value for value in values if value is not None), None)
    for i, value in enumerate(values):
        if value is not None and value != expected:
            raise ValueError(f"graph {i}: expected the same {what} as in the first, {expected}, got {value}")
