"""A data set of many small graphs, from which batches are cut."""

import operator
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from gnnlib._platform.dgl import dgl
from gnnlib.data import archive
from gnnlib.data.flat import FlatGraphs

__all__ = ["GraphStore"]

Indices = Sequence[int] | np.ndarray | Tensor


class GraphStore(Dataset):
    """Many small graphs in flat arrays, whose batches equal ``dgl.batch`` of the same graphs and are made faster.

    A batch is copied out of the arrays (see `FlatGraphs`), and nothing is sorted for it: it comes with the CSC of DGL's
    message passing, and its `Adjacency` are copied likewise when they are first asked for.

    It is a torch ``Dataset``: `loader`, or any ``DataLoader`` given ``collate_fn=store.collate``, yields batched
    graphs, or pairs (graph, labels) where there are labels. Workers, forked or spawned, send flat tensors, and the
    DGLGraph is made in the main process.

    Args:
        graphs: whole graphs on the CPU with one node type and one edge type, and the same columns in their frames. As
            in dgl.batch, a graph without nodes (edges) may lack the columns of nodes (edges).
        labels: a value for each graph, (G, \\*).

    Raises: TypeError or ValueError, naming the graph, what was expected and what came, for blocks, batches, several
    types, another index type or other columns than in the first graph; for no graphs, or labels of another number.

    The graphs are copied: an edge takes 8 to 12 bytes beside its features (8 where edges are sorted by one end, as in
    superpixel graphs) and a node 4; twice that if some graph has 2**15 nodes or edges. Frames and labels are
    detached. Formats to which a graph was restricted are forgotten.

    >>> store = GraphStore([dgl.graph(([0], [1])), dgl.graph(([], []), num_nodes=3)], labels=[5, 7])
    >>> len(store), store[1].num_nodes()
    (2, 3)
    >>> g = store.batch([1, 0, 0])
    >>> g.batch_num_nodes().tolist(), g.edges()[0].tolist()
    ([3, 2, 2], [3, 5])
    >>> [(g.batch_size, labels.tolist()) for g, labels in store.loader(batch_size=2)]
    [(2, [5, 7])]
    """

    def __init__(self, graphs: Iterable[dgl.DGLGraph], labels: Tensor | Sequence | None = None):
        graphs = list(graphs)
        _check(graphs)
        self.labels = None if labels is None else torch.as_tensor(labels).detach().clone()
        if self.labels is not None and self.labels.shape[:1] != (len(graphs),):
            raise ValueError(f"labels: expected one for each of {len(graphs)} graphs, got {tuple(self.labels.shape)}")
        self._flat = FlatGraphs.of(graphs)
        self._folder: Path | None = None

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> "GraphStore":
        """The store that :func:`~gnnlib.images.images_to_store` wrote, memory-mapped: batches read what they need.

        The note, the size of the data and a checksum over 4 MiB of it, spread evenly, are verified. Pickled, for a
        spawned worker, such a store is the name of its folder.

        Raises: ValueError where there is no store, or a damaged one, which says what is wrong.
        """
        folder = Path(folder).absolute()
        return cls._of(*archive.read(folder), folder)

    @classmethod
    def _of(cls, flat: FlatGraphs, labels: Tensor | None, folder: Path | None = None) -> "GraphStore":
        store = cls.__new__(cls)
        store._flat, store.labels, store._folder = flat, labels, folder
        return store

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ if self._folder is None else self.__dict__ | {"_flat": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state
        if self._folder is not None:
            self._flat = archive.read(self._folder)[0]

    def __len__(self) -> int:
        return len(self._flat.nodes) - 1

    def __getitem__(self, index: int) -> dgl.DGLGraph:
        index = operator.index(index)
        if not -len(self) <= index < len(self):
            raise IndexError(f"expected an index from {-len(self)} to {len(self) - 1}, got {index}")
        return self.batch([index % len(self)])

    def __iter__(self) -> Iterator[dgl.DGLGraph]:
        return (self[i] for i in range(len(self)))

    def batch(self, indices: Indices) -> dgl.DGLGraph:
        """The graphs with these indices, (B,), in any order and with repeats, as one batched graph.

        Raises: TypeError for indices that are not integers, ValueError for none, IndexError for one out of range.
        """
        return self._flat.batch(self._chosen(indices))

    def select(self, indices: Indices) -> "GraphStore":
        """A store of the graphs with these indices, (B,), and their labels, say of a training split. A copy.

        Raises: as `batch`.
        """
        chosen = self._chosen(indices)
        return self._of(self._flat.select(chosen), self._labels_of(chosen))

    def loader(self, batch_size: int = 32, shuffle: bool = False, **options: Any) -> DataLoader:
        """A DataLoader of the batches; ``options`` are its own: num_workers, generator, drop_last, ...

        A batch takes longer to send than to make: workers are for loaders that must have them.
        """
        return DataLoader(self, batch_size, shuffle, collate_fn=self.collate, **options)

    @staticmethod
    def collate(batch: Any) -> Any:
        """What a DataLoader needs as its collate_fn. There is nothing left to do."""
        return batch

    def __getitems__(self, indices: Indices) -> Any:
        """What a DataLoader asks for. In a worker: flat tensors that become the batch where they arrive."""
        if get_worker_info() is not None:
            return _Parcel(self.select(indices))
        chosen = self._chosen(indices)
        return _with_labels(self._flat.batch(chosen), self._labels_of(chosen))

    def _chosen(self, indices: Indices) -> np.ndarray:
        chosen = np.asarray(indices)  # of a list in a fifth of torch's time
        if chosen.ndim != 1 or chosen.size == 0:
            raise ValueError(f"expected the indices of one or more graphs, (B,), got shape {chosen.shape}")
        if chosen.dtype.kind not in "iu":
            raise TypeError(f"expected integers as indices of graphs, got {chosen.dtype}")
        chosen = np.ascontiguousarray(chosen, np.int64)
        if chosen.view(np.uint64).max() >= len(self):  # to which negative ones are large
            raise IndexError(f"expected indices from 0 to {len(self) - 1}, got {chosen.min()} to {chosen.max()}")
        return chosen

    def _labels_of(self, chosen: np.ndarray) -> Tensor | None:
        return None if self.labels is None else self.labels.index_select(0, torch.from_numpy(chosen))


def _with_labels(graph: dgl.DGLGraph, labels: Tensor | None) -> Any:
    return graph if labels is None else (graph, labels)


class _Parcel(NamedTuple):
    """What a worker sends: the chosen graphs as a store of their own. Unpickled, it is their batch."""

    store: GraphStore

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpack, tuple(self)


def _unpack(store: GraphStore) -> Any:
    return _with_labels(store._flat.whole(), store.labels)


def _check(graphs: list[dgl.DGLGraph]) -> None:
    if not graphs:
        raise ValueError("expected at least one graph, got none")
    for i, graph in enumerate(graphs):
        if not isinstance(graph, dgl.DGLGraph):
            raise TypeError(f"graph {i}: expected a DGLGraph, got {type(graph).__name__}")
        if graph.is_block or not graph.is_homogeneous:
            got = "a block" if graph.is_block else graph.canonical_etypes
            raise ValueError(f"graph {i}: expected one node type and one edge type, got {got}")
        if graph.batch_size != 1:
            raise ValueError(f"graph {i}: expected a single graph, got a batch of {graph.batch_size}; use dgl.unbatch")
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
