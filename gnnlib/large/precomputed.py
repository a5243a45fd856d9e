"""Hops made once, before training, on the disk, where features are larger than the memory allowed.

What is learned after the hops (SGC, SIGN, GfNN) then sees rows, in plain mini-batches, and no graph.
"""

import json
import os
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gnnlib._platform.dgl import dgl
from gnnlib._utils.files import atomic_write, remove_parts, spread_checksum
from gnnlib.graph import adjacency
from gnnlib.large.tables import NpyMatrix, Span
from gnnlib.ops import propagate
from gnnlib.train.distributed import shard
from gnnlib.train.loop import Batch

__all__ = ["PropagatedFeatures", "precompute_propagation", "row_batches"]

SHARES = 3  # of the memory allowed: what a hop reads, what it makes, and what goes from or to a file


def precompute_propagation(
    graph: dgl.DGLGraph, features: str | os.PathLike[str], folder: str | os.PathLike[str], k: int, memory: int = 2**30
) -> list[Path]:
    """The hops of `gnnlib.nn.propagation.Hops` for features in a file, into files, in bounded memory; the same bits.

    Columns do not meet in a hop. So the features are copied into files of a few columns each, as many as the memory
    holds; each of those makes all its hops; and the columns of each hop are put together again. All files are read and
    written from front to back. A run that was killed goes on with the columns it had not finished; a hop that is there
    but damaged is made again. Meanwhile the folder takes up to k + 2 times the room of the features.

    Args:
        graph: a whole graph, which is in memory
        features: an .npy file (N, F), float32 or float64, in C order
        folder: for ``hop-1.npy`` to ``hop-<k>.npy`` and ``hops.json``, which says what they were made of
        k: number of hops
        memory: bytes for features, beside the graph's

    Returns: the files of hops 0 (the features themselves) to k: `PropagatedFeatures` reads them.

    Raises: ValueError for k below 0, for features of another shape, type or order, for memory in which not one column
    has room, and for a folder with the hops of other features or another graph.

    >>> import tempfile
    >>> g = dgl.graph(([0, 1], [1, 0]))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(f"{folder}/x.npy", np.float32([[1, 2, 3], [4, 5, 6]]))
    ...     [path.name for path in precompute_propagation(g, f"{folder}/x.npy", folder, 2)]
    ...     np.load(f"{folder}/hop-1.npy").tolist()
    ['x.npy', 'hop-1.npy', 'hop-2.npy']
    [[4.0, 5.0, 6.0], [1.0, 2.0, 3.0]]
    """
    table = NpyMatrix.open(features, graph.num_nodes())
    spans, rows = _pieces(table, memory)
    place = _Folder(Path(folder), graph, table)
    todo = [i for i in range(1, _checked(k) + 1) if not place.whole(i)]
    missing = [span for span in spans if not all(place.part(i, span).exists() for i in todo)]
    _make_columns(graph, table, place, missing, todo, rows)
    for i in todo:
        parts = [table.part(place.part(i, span), span) for span in spans]
        blocks = zip(*(part.blocks(rows) for part in parts), strict=True)
        table.like(place.hop(i)).write(np.concatenate(block, 1) for block in blocks)
        place.seal(i)
    place.tidy()
    return [table.path, *(place.hop(i) for i in range(1, k + 1))]


def _make_columns(
    graph: dgl.DGLGraph, table: NpyMatrix, place: "_Folder", spans: Sequence[Span], todo: Sequence[int], rows: int
) -> None:
    """The hops of some columns each, every one a file."""
    start = {span: table.part(place.part(0, span), span) for span in spans}
    table.split([(part, span) for span, part in start.items() if not part.path.exists()], rows)
    for span, part in start.items():
        x = torch.from_numpy(next(part.blocks(len(table))))
        for i in range(1, max(todo) + 1):
            x = propagate(graph, x)
            if i in todo:
                part.like(place.part(i, span)).write([x.numpy()])
        part.path.unlink()


class _Folder:
    """Where hops lie, and the note of what they were made of; the checksums are those of `spread_checksum`."""

    def __init__(self, path: Path, graph: dgl.DGLGraph, table: NpyMatrix):
        self.path, self.note = path, path / "hops.json"
        csc = adjacency(graph).csc
        edges = zlib.crc32(csc.indices.numpy().data, zlib.crc32(csc.indptr.numpy().data))
        made_of = {"features": _seal(table.path), "edges": edges}
        self.text: dict[str, Any] = {**made_of, "hops": {}}
        if self.note.exists():
            self.text = json.loads(self.note.read_text())
            found = {name: self.text[name] for name in made_of}
            if found != made_of:
                raise ValueError(f"{path}: expected hops of {made_of}, got those of {found}; name another folder")

    def hop(self, i: int) -> Path:
        return self.path / f"hop-{i}.npy"

    def part(self, i: int, span: Span) -> Path:
        return self.path / f"hop-{i}-columns-{span[0]}-{span[1]}.npy"

    def whole(self, i: int) -> bool:
        path = self.hop(i)
        return path.exists() and _seal(path) == self.text["hops"].get(str(i))

    def seal(self, i: int) -> None:
        self.text["hops"][str(i)] = _seal(self.hop(i))
        with atomic_write(self.note) as part:
            part.write_text(json.dumps(self.text, indent=1) + "\n")
        for path in self.path.glob(f"hop-{i}-columns-*.npy"):
            path.unlink()

    def tidy(self) -> None:
        """Without what runs that were killed have left."""
        remove_parts(self.path / "hop-*.npy")
        for path in self.path.glob("hop-*-columns-*.npy"):
            path.unlink()


def _seal(path: Path) -> list[int]:
    return [path.stat().st_size, spread_checksum(path)]


def _pieces(table: NpyMatrix, memory: int) -> tuple[list[Span], int]:
    """The columns that are in memory together, and how many rows of all columns are."""
    (height, width), size = table.shape, table.dtype.itemsize
    least = SHARES * size * max(height, width, 1)
    if memory < least:
        raise ValueError(f"memory: expected {least} bytes or more for features of shape {table.shape}, got {memory}")
    columns, rows = memory // (SHARES * size * max(height, 1)), memory // (SHARES * size * max(width, 1))
    return [(first, min(first + columns, width)) for first in range(0, width, columns)], rows


def _checked(k: int) -> int:
    if not isinstance(k, int) or k < 0:
        raise ValueError(f"hops: expected k >= 0, got {k}")
    return k


class PropagatedFeatures:
    """Features after several hops, an .npy file (N, F) each, of which rows are read: ``files[rows]`` is (n, K, F).

    They are read, not mapped: nothing but these rows is in memory.

    Raises: ValueError for files of different shapes or types.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(f"{folder}/x.npy", np.float32([[1, 2], [3, 4], [5, 6]]))
    ...     PropagatedFeatures([f"{folder}/x.npy"] * 2)[torch.tensor([2, 0])].tolist()
    [[[5.0, 6.0], [5.0, 6.0]], [[1.0, 2.0], [1.0, 2.0]]]
    """

    def __init__(self, paths: Sequence[str | os.PathLike[str]]):
        self.tables = [NpyMatrix.open(path) for path in paths]
        kinds = [(table.shape, str(table.dtype)) for table in self.tables]
        if len(set(kinds)) != 1:
            raise ValueError(
                f"PropagatedFeatures: expected files of one shape and type, got {dict(zip(map(str, paths), kinds))}"
            )

    def __len__(self) -> int:
        return len(self.tables[0])

    def __getitem__(self, rows: Tensor) -> Tensor:
        return torch.stack([table[rows] for table in self.tables], 1)


def row_batches(
    x: Tensor | PropagatedFeatures,
    target: Tensor,
    rows: Tensor,
    batch_size: int,
    generator: torch.Generator | None = None,
    device: torch.device | str = "cpu",
) -> Iterator[Batch]:
    """Mini-batches without a graph, for `gnnlib.train.loop.fit` and ``predict``: rows of features and their targets.

    Args:
        x: what rows are taken from: `PropagatedFeatures`, or what `gnnlib.nn.propagation.Hops` gave
        target: (N, ...)
        rows: those that count
        generator: of the order, which is then random; None keeps it

    >>> batches = row_batches(torch.rand(5, 2, 8), torch.arange(5), torch.tensor([0, 3, 4]), batch_size=2)
    >>> [(tuple(batch.x.shape), batch.target.tolist()) for batch in batches]
    [((2, 2, 8), [0, 3]), ((1, 2, 8), [4])]
    """
    order = rows if generator is None else rows[torch.randperm(len(rows), generator=generator)]
    for some in order.split(batch_size):
        some = some if generator is None else shard(some)
        yield Batch(None, x[some].to(device), target[some].to(device))
