"""Propagation as preprocessing (SGC: Wu et al. 2019, arXiv 1902.07153; SIGN: Frasca et al. 2020, arXiv 2004.11198):
propagated features are computed once, before training, into files, in bounded memory.

Models on them (SGC, SIGN, GfNN) then train on mini-batches of rows, without the graph.
"""

import json
import os
import re
import warnings
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gnnlib._utils.calls import names_checked
from gnnlib._utils.documents import is_sealed, read_document, seal
from gnnlib._utils.files import atomic_write, remove_parts, spread_checksum
from gnnlib._utils.indices import as_indices
from gnnlib.graph import GraphLike, adjacency, takes_graph
from gnnlib.large.tables import NpyMatrix, Span
from gnnlib.ops import propagate
from gnnlib.train.distributed import shard
from gnnlib.train.loop import Batch

__all__ = ["PropagatedFeatures", "precompute_propagation", "row_batches"]

HOP = re.compile(r"hop-\d+\.npy")
BUFFERS = 3  # that share the memory: the input of a hop, its output, and the buffer of a file


@names_checked()
@takes_graph()
def precompute_propagation(
    graph: GraphLike,
    features: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    k: int,
    *,
    memory: int = 2**30,
) -> list[Path]:
    """Propagates features from a file k times, with one file per hop, in bounded memory.

    The results equal those of `gnnlib.nn.Hops` to the bit. Propagation treats each column separately. Therefore the
    features are split into files of as many columns as fit into memory, each of them is propagated k times, and the
    columns of each hop are joined again. All files are read and written sequentially. An interrupted run resumes with
    the columns that are missing, and damaged files are computed again. Until the end, the folder takes up to k + 2
    times the size of the features.

    Args:
        graph: a whole graph, in memory
        features: an .npy file (N, F), float32 or float64, in C order
        folder: for ``hop-1.npy`` to ``hop-<k>.npy``, files of the checksums of their rows and of the features', and
            ``hops.json`` with checksums of the features and the graph
        k: number of hops
        memory: bytes for features, besides the graph's

    Returns:
        the files of hops 0 (the features themselves) to k, for `PropagatedFeatures`

    Raises:
        ValueError: for k below 0; features of another shape, type or order; memory for less than one column; or a
            folder with the hops of other features or another graph

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> from gnnlib.large import precompute_propagation
        >>> import dgl
        >>> g = dgl.graph(([0, 1], [1, 0]))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     np.save(f"{folder}/x.npy", np.float32([[1, 2, 3], [4, 5, 6]]))
        ...     [path.name for path in precompute_propagation(g, f"{folder}/x.npy", folder, 2)]
        ...     np.load(f"{folder}/hop-1.npy").tolist()
        ['x.npy', 'hop-1.npy', 'hop-2.npy']
        [[4.0, 5.0, 6.0], [1.0, 2.0, 3.0]]
    """
    matrix = NpyMatrix.open(features, graph.num_nodes())
    spans, num_rows = _divide(matrix, memory)
    numbers = range(1, _check_hops(k) + 1)
    files = _Folder(Path(folder), graph, matrix)
    files.note_features(matrix, num_rows)  # before there are columns, which are of these inputs
    hops = [i for i in numbers if not files.is_complete(i)]
    missing = [span for span in spans if not all(files.columns(i, span).exists() for i in hops)]
    _propagate_columns(graph, matrix, files, missing, hops, num_rows)
    for i in hops:
        parts = [matrix.columns_like(files.columns(i, span), span) for span in spans]
        blocks = zip(*(part.blocks(num_rows) for part in parts), strict=True)
        hop = matrix.like(files.hop(i))
        hop.write(np.concatenate(block, 1) for block in blocks)
        hop.write_checksums(num_rows)
        files.complete(i)
    files.clean()
    return [matrix.path, *(files.hop(i) for i in range(1, k + 1))]


def _propagate_columns(
    graph: GraphLike, matrix: NpyMatrix, files: "_Folder", spans: Sequence[Span], hops: Sequence[int], num_rows: int
) -> None:
    """Writes the missing hops of each span of columns."""
    starts = {span: matrix.columns_like(files.columns(0, span), span) for span in spans}
    matrix.split_columns([(part, span) for span, part in starts.items() if not part.path.exists()], num_rows)
    for span, part in starts.items():
        (block,) = part.blocks(len(matrix))  # read to its end: Python 3.10 keeps the last block of other generators
        x = torch.from_numpy(block)
        for i in range(1, max(hops) + 1):
            x = propagate(graph, x)
            if i in hops:
                part.like(files.columns(i, span)).write([x.numpy()])
        part.path.unlink()


class _Folder:
    """The files of a propagation, and the JSON file with the checksums (`spread_checksum`) of its inputs and hops."""

    def __init__(self, path: Path, graph: GraphLike, matrix: NpyMatrix):
        self.path, self.json = path, path / "hops.json"
        csc = adjacency(graph).csc
        edges = zlib.crc32(csc.indices.numpy().data, zlib.crc32(csc.indptr.numpy().data))
        inputs = {"features": _checksum(matrix.path), "edges": edges}
        self.content = self._read() or {**inputs, "hops": {}}
        previous = {name: self.content.get(name) for name in inputs}
        if previous != inputs:
            raise ValueError(f"{path}: expected hops of {inputs}, got those of {previous}; name another folder")

    def _read(self) -> dict[str, Any] | None:
        """The content of the JSON file; None if it is damaged or there is none: then nothing of the folder is used."""
        if self.json.exists():
            try:
                return _read_note(self.json)
            except ValueError as error:
                warnings.warn(f"{error}; its hops are computed again", RuntimeWarning, stacklevel=4)
        for path in self.path.glob("hop-*-columns-*.npy"):
            path.unlink()
        return None

    def note_features(self, matrix: NpyMatrix, num_rows: int) -> None:
        """Records the file's name, and writes the checksums of its rows unless they are there."""
        path = self.checksums(0)
        if not path.exists() or self.content.get("rows") != _checksum(path):
            replace(matrix, checksum_path=path).write_checksums(num_rows)
        self.content |= {"file": matrix.path.name, "rows": _checksum(path)}
        self.write()

    def hop(self, i: int) -> Path:
        return self.path / f"hop-{i}.npy"

    def checksums(self, i: int) -> Path:
        return self.path / f"hop-{i}.checksums.npy"

    def columns(self, i: int, span: Span) -> Path:
        return self.path / f"hop-{i}-columns-{span[0]}-{span[1]}.npy"

    def is_complete(self, i: int) -> bool:
        sums = self._sums(i)
        return sums is not None and sums == self.content["hops"].get(str(i))

    def complete(self, i: int) -> None:
        """Records the checksum of a hop, and deletes the files of its columns."""
        self.content["hops"][str(i)] = self._sums(i)
        self.write()
        for path in self.path.glob(f"hop-{i}-columns-*.npy"):
            path.unlink()

    def write(self) -> None:
        with atomic_write(self.json) as partial:
            partial.write_text(json.dumps(seal(self.content), indent=1) + "\n")

    def _sums(self, i: int) -> list[list[int]] | None:
        """The checksums of a hop and of its rows' checksums; None where a file is missing."""
        paths = self.hop(i), self.checksums(i)
        return [_checksum(path) for path in paths] if all(path.exists() for path in paths) else None

    def clean(self) -> None:
        """Deletes the files that interrupted runs have left."""
        remove_parts(self.path / "hop-*.npy")
        for path in self.path.glob("hop-*-columns-*.npy"):
            path.unlink()


def _checksum(path: Path) -> list[int]:
    return [path.stat().st_size, spread_checksum(path)]


def _divide(matrix: NpyMatrix, memory: int) -> tuple[list[Span], int]:
    """The spans of columns that fit into memory, and how many rows of all columns fit."""
    (height, width), size = matrix.shape, matrix.dtype.itemsize
    minimum = BUFFERS * size * max(height, width, 1)
    if memory < minimum:
        raise ValueError(f"memory: expected {minimum} bytes or more for features of shape {matrix.shape}, got {memory}")
    columns, rows = memory // (BUFFERS * size * max(height, 1)), memory // (BUFFERS * size * max(width, 1))
    return [(first, min(first + columns, width)) for first in range(0, width, columns)], rows


def _check_hops(k: int) -> int:
    if not isinstance(k, int) or k < 0:
        raise ValueError(f"hops: expected k >= 0, got {k}")
    return k


@names_checked()
class PropagatedFeatures:
    """Features after several hops, in one .npy file (N, F) per hop: ``features[rows]`` reads (n, K, F).

    Only these rows are in memory. Rows are numbers, of which negative ones count from the end, or a boolean mask. Those
    of the hops of `precompute_propagation`, and of the features from which they were computed, are compared with their
    checksums.

    Args:
        paths: of the files, as `precompute_propagation` returns them

    Raises:
        ValueError: for files of different shapes or types, and for hops without their checksums; when rows are read,
            for a damaged row or a file that was cut off
        IndexError: when rows are read, for a number out of range

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> import torch
        >>> from gnnlib.large import PropagatedFeatures
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     np.save(f"{folder}/x.npy", np.float32([[1, 2], [3, 4], [5, 6]]))
        ...     PropagatedFeatures([f"{folder}/x.npy"] * 2)[torch.tensor([2, 0])].tolist()
        [[[5.0, 6.0], [5.0, 6.0]], [[1.0, 2.0], [1.0, 2.0]]]
    """

    def __init__(self, paths: Sequence[str | os.PathLike[str]]):
        self.hops = [NpyMatrix.open(path) for path in paths]
        kinds = [(matrix.shape, str(matrix.dtype)) for matrix in self.hops]
        if len(set(kinds)) != 1:
            got = dict(zip(map(str, paths), kinds))
            raise ValueError(f"PropagatedFeatures: expected files of one shape and type, got {got}")
        folders = {matrix.path.parent for matrix in self.hops if _is_hop(matrix.path)}
        for folder in folders:
            name = _read_note(folder / "hops.json").get("file")
            sums = folder / "hop-0.checksums.npy"
            self.hops = [
                replace(matrix, checksum_path=sums) if matrix.path.name == name and not _is_hop(matrix.path) else matrix
                for matrix in self.hops
            ]
        for matrix in self.hops:
            if _is_hop(matrix.path) or matrix.checksum_path is not None:
                _check_checksums(matrix)

    def __len__(self) -> int:
        return len(self.hops[0])

    def __getitem__(self, rows: Tensor) -> Tensor:
        return torch.stack([matrix[rows] for matrix in self.hops], 1)


def _is_hop(path: Path) -> bool:
    """Whether a file is one of `precompute_propagation`."""
    return HOP.fullmatch(path.name) is not None and (path.parent / "hops.json").exists()


def _read_note(path: Path) -> dict[str, Any]:
    note = read_document(path)
    if not is_sealed(note):
        raise ValueError(f"{path} is damaged (expected the checksum that it holds)")
    return note


def _check_checksums(matrix: NpyMatrix) -> None:
    try:
        with matrix.checksums.opened():
            pass
    except (OSError, ValueError) as error:
        again = "run precompute_propagation again"
        raise ValueError(f"{matrix.path}: expected a file of its rows' checksums; {again} ({error})") from error


@names_checked()
def row_batches(
    x: Tensor | PropagatedFeatures,
    target: Tensor,
    rows: Tensor,
    *,
    batch_size: int,
    generator: torch.Generator | None = None,
    device: torch.device | str = "cpu",
) -> Iterator[Batch]:
    """Mini-batches of rows without a graph, for `gnnlib.train.fit` and ``predict``.

    Args:
        x: `PropagatedFeatures`, or the output of `gnnlib.nn.Hops`
        target: (N, ...)
        rows: of one epoch, as numbers or as a boolean mask
        batch_size: rows per batch
        generator: of a random order; None keeps the order
        device: of the batches

    Returns:
        the batches

    Example:
        >>> import torch
        >>> from gnnlib.large import row_batches
        >>> batches = row_batches(torch.rand(5, 2, 8), torch.arange(5), torch.tensor([0, 3, 4]), batch_size=2)
        >>> [(tuple(batch.x.shape), batch.target.tolist()) for batch in batches]
        [((2, 2, 8), [0, 3]), ((1, 2, 8), [4])]
    """
    rows = as_indices(rows, len(x), "row_batches: rows")
    order = rows if generator is None else rows[torch.randperm(len(rows), generator=generator)]
    for batch in order.split(batch_size):
        batch = batch if generator is None else shard(batch)
        yield Batch(None, x[batch].to(device), target[batch].to(device))
