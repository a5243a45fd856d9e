"""Graph stores on disk: one memory-mapped file of columns and a JSON header.

The folder of a store has ``columns.bin``, the concatenated arrays of `FlatGraphs`, and ``store.json``, written last:
what the store depends on, and the type, shape and offset of every array. During a conversion the graphs are in parts,
one file each.

A chain of checksums covers every byte. ``store.json`` holds its own checksum and that of the last array, which holds a
CRC-32 of each block of the others. The header, the sizes and offsets of the graphs, the labels and 4 MiB spread over
the file are verified when a store is opened; everything else when a graph is first read.
"""

import hashlib
import json
import math
import mmap
import warnings
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from gnnlib._utils.documents import is_sealed, read_document, seal
from gnnlib._utils.files import atomic_write
from gnnlib.data.flat import FlatGraphs, index_type
from gnnlib.data.layout import BLOCK, ROWS, SUMS, Column, parse_columns
from gnnlib.graph._adjacency import INT32_MAX

__all__ = ["damage", "join", "read", "read_header", "save_part"]

MAGIC, VERSION = "gnnlib graphs", 2
SPREAD = 64  # blocks that are verified when a store is opened
Arrays = Mapping[str, np.ndarray]


def save_part(path: Path, flat: FlatGraphs) -> None:
    """Write some graphs to a file, which appears complete or not at all."""
    columns = {f"{group}.{name}": value for group in ROWS for name, value in getattr(flat, group).items()}
    with atomic_write(path) as part, open(part, "wb") as file:
        np.savez(file, nodes=flat.nodes, edges=flat.edges, **{name: value.numpy() for name, value in columns.items()})


def join(folder: Path, parts: Sequence[Path], header: dict[str, Any], labels: Tensor | None = None) -> None:
    """Write the graphs of all parts, in this order, as a store. One part at a time is in memory."""
    sizes: dict[str, list[np.ndarray]] = {"nodes": [np.zeros(1, np.int64)], "edges": [np.zeros(1, np.int64)]}
    for part in parts:
        with np.load(part) as arrays:
            for rows, lengths in sizes.items():
                lengths.append(np.diff(arrays[rows]))
    bounds = {rows: np.concatenate(lengths).cumsum() for rows, lengths in sizes.items()}
    with np.load(parts[0]) as arrays:
        example = {name: arrays[name] for name in arrays.files if name not in bounds}
    columns = _layout(bounds | ({} if labels is None else {"labels": labels.numpy()}), example)
    data = max(column.end for column in columns.values())
    sums = columns[SUMS] = Column("uint32", (-(-data // BLOCK),), data)
    with atomic_write(folder / "columns.bin") as path:
        with open(path, "wb") as file:  # not mapped, so that its pages do not count as memory of this process
            file.truncate(sums.end)
            for name, value in bounds.items():
                _write(file, columns[name], 0, value)
            if labels is not None:
                _write(file, columns["labels"], 0, labels.numpy())
            start = dict.fromkeys(sizes, 0)
            for part in parts:
                with np.load(part) as arrays:
                    for name in example:
                        _write(file, columns[name], start[ROWS[name.split(".")[0]]], arrays[name])
                    start = {rows: start[rows] + int(arrays[rows][-1]) for rows in start}
        checksums = _block_checksums(path, data)
        with open(path, "r+b") as file:
            _write(file, sums, 0, checksums)
    specs = {name: vars(column) for name, column in columns.items()}
    text = {"magic": MAGIC, "version": VERSION, **header, "bytes": sums.end, SUMS: _digest(checksums), "columns": specs}
    with atomic_write(folder / "store.json") as path:
        path.write_text(json.dumps(seal(text), indent=1) + "\n")


def _block_checksums(path: Path, size: int) -> np.ndarray:
    with open(path, "rb") as file:
        blocks = (file.read(min(BLOCK, size - first)) for first in range(0, size, BLOCK))
        return np.array([zlib.crc32(block) for block in blocks], np.uint32)


def _digest(checksums: np.ndarray) -> str:
    return hashlib.sha256(checksums.tobytes()).hexdigest()


def _write(file: BinaryIO, column: Column, first: int, rows: np.ndarray) -> None:
    """Write rows of a column, from row ``first`` on."""
    file.seek(column.place + first * column.width)
    file.write(np.ascontiguousarray(rows, column.dtype).data)


def _layout(complete: Arrays, example: Arrays) -> dict[str, Column]:
    """Type, shape and offset of every column: of ``complete`` arrays, and of others of which ``example`` has one part
    and whose lengths are the last bounds in ``complete``."""
    small = index_type(*(torch.from_numpy(complete[rows]) for rows in ("nodes", "edges")))
    columns: dict[str, Column] = {}
    place = 0
    for name, array in {**complete, **example}.items():
        group = name.split(".")[0]
        shape = array.shape if name in complete else (int(complete[ROWS[group]][-1]), *array.shape[1:])
        dtype = str(small).removeprefix("torch.") if group in ("starts", "ends") else array.dtype.name
        columns[name] = Column(dtype, shape, place)
        place = columns[name].end
    return columns


def read_header(folder: Path) -> dict[str, Any]:
    """The content of ``store.json``.

    Raises:
        ValueError: if there is none, or it is damaged
    """
    path = folder / "store.json"
    if not path.exists():
        raise ValueError("expected store.json, which is written last, got none")
    try:
        header = read_document(path)
    except OSError as error:
        raise ValueError(f"store.json: {error}") from error
    expected = {"magic": MAGIC, "version": VERSION}
    if {name: header.get(name) for name in expected} != expected:
        raise ValueError(f"store.json: expected {expected}, got { ({name: header.get(name) for name in expected}) }")
    if not is_sealed(header):
        raise ValueError("store.json: expected the checksum that it holds")
    return header


def damage(folder: Path) -> str | None:
    """The damage of a store that shows when it is opened, or None."""
    try:
        _Archive(folder)
    except ValueError as error:
        return str(error)
    return None


def read(folder: Path) -> tuple[FlatGraphs, Tensor | None]:
    """The memory-mapped graphs of a store, and a copy of their labels.

    Raises:
        ValueError: if the folder has no store, or a damaged one
    """
    try:
        archive = _Archive(folder)
    except ValueError as error:
        raise ValueError(f"{folder}: expected an intact store of graphs; {error}") from error
    return archive.graphs(), archive.labels()


class _Archive:
    """The columns of a store as views of its memory-mapped file, and the blocks of it that are verified.

    Raises:
        ValueError: if the header, or what is verified at once, is damaged or inconsistent
    """

    def __init__(self, folder: Path):
        header = read_header(folder)
        self.path, self.columns = folder / "columns.bin", _parse(header)
        self.file = _mapped(self.path, header["bytes"])
        self.views = {name: self._view(column) for name, column in self.columns.items()}
        self.checksums = self.views.pop(SUMS).copy()
        if _digest(self.checksums) != header.get(SUMS):
            raise ValueError(f"{self.path.name}: expected intact checksums of its blocks, got others")
        self.verified = np.zeros(len(self.checksums), bool)
        self._verify(np.linspace(0, len(self.checksums) - 1, SPREAD).astype(int))
        for name in self.views.keys() & {"nodes", "edges", "labels"}:
            self._verify_rows(name, np.array([0]), np.array([len(self.views[name])]))
        # copies, which stay valid whatever happens to the file
        self.bounds = {rows: self.views[rows].copy() for rows in ("nodes", "edges")}
        for rows in self.bounds:
            self._check_bounds(rows)

    def _view(self, column: Column) -> np.ndarray:
        return np.frombuffer(self.file, column.dtype, math.prod(column.shape), column.place).reshape(column.shape)

    def _check_bounds(self, rows: str) -> None:
        """The bounds of the graphs ascend from 0 to the length of each column of nodes, or of edges."""
        bounds = self.bounds[rows]
        if bounds[0] != 0 or (np.diff(bounds) < 0).any() or bounds[-1] > INT32_MAX:
            raise ValueError(f"{self.path.name}: expected ascending bounds of {rows} from 0, got others")
        for name, view in self.views.items():
            if ROWS.get(name.partition(".")[0]) == rows and len(view) != bounds[-1]:
                raise ValueError(f"{self.path.name}: {name}: expected {bounds[-1]} rows, got {len(view)}")

    def labels(self) -> Tensor | None:
        return torch.from_numpy(self.views["labels"].copy()) if "labels" in self.views else None

    def graphs(self) -> FlatGraphs:
        with warnings.catch_warnings():
            warnings.filterwarnings(
                "ignore", message="The given NumPy array is not writable"
            )  # nothing writes to these
            columns = {name: torch.from_numpy(view) for name, view in self.views.items() if "." in name}

        def group(prefix: str) -> dict[str, Tensor]:
            return {name.removeprefix(prefix): value for name, value in columns.items() if name.startswith(prefix)}

        flat = FlatGraphs(
            types=("_N", "_E", "_N"),
            idtype=torch.int64,
            nodes=torch.from_numpy(self.bounds["nodes"]),
            edges=torch.from_numpy(self.bounds["edges"]),
            ndata=group("ndata."),
            edata=group("edata."),
            starts=group("starts."),
            ends=group("ends."),
        )
        return replace(flat, guard=_Guard(self, flat))

    def check_length(self) -> None:
        """Raises ValueError if the file was cut off: a read beyond its end would kill the process."""
        if self.file.size() < len(self.file):
            raise ValueError(f"{self.path}: expected {len(self.file)} bytes, got {self.file.size()}; it was cut off")

    def verify_graphs(self, indices: np.ndarray) -> None:
        """Verifies the blocks that hold the graphs of these indices."""
        for name in self.views:
            if "." in name:
                bounds = self.bounds[ROWS[name.partition(".")[0]]]
                self._verify_rows(name, bounds[indices], bounds[indices + 1])

    def _verify_rows(self, name: str, first: np.ndarray, last: np.ndarray) -> None:
        """Verifies the blocks that hold the rows of a column from ``first`` to ``last``, each (n,)."""
        column = self.columns[name]
        steps = np.zeros(len(self.checksums) + 1, np.int64)  # where a run of blocks begins and ends
        np.add.at(steps, (column.place + first * column.width) // BLOCK, 1)
        np.add.at(steps, -(-(column.place + last * column.width) // BLOCK), -1)
        self._verify(np.flatnonzero(steps.cumsum()[:-1] > 0))

    def _verify(self, blocks: np.ndarray) -> None:
        end = self.columns[SUMS].place
        for block in blocks[~self.verified[blocks]]:
            first = int(block) * BLOCK
            with memoryview(self.file) as data:
                checksum = zlib.crc32(data[first : min(first + BLOCK, end)])
            if checksum != self.checksums[block]:
                expected = f"expected checksum {self.checksums[block]} of the bytes from {first} on"
                raise ValueError(f"{self.path.name}: {expected}, got {checksum}")
            self.verified[block] = True


class _Guard:
    """Verifies graphs before they are first read: their bytes, then their numbers of nodes and edges."""

    def __init__(self, archive: _Archive, flat: FlatGraphs):
        self.archive, self.flat = archive, flat
        self.seen = np.zeros(len(flat.nodes) - 1, bool)

    def __call__(self, indices: np.ndarray) -> None:
        """Raises: ValueError: if a graph of these indices (B,) is damaged or inconsistent"""
        self.archive.check_length()
        new = np.unique(indices[~self.seen[indices]])
        if not len(new):
            return
        path = self.archive.path
        try:
            self.archive.verify_graphs(new)
            self.flat.check(new)
        except ValueError as error:
            reason = str(error).removeprefix(f"{path.name}: ")
            raise ValueError(f"{path.parent}: expected an intact store of graphs; {path.name}: {reason}") from error
        self.seen[new] = True


def _parse(header: dict[str, Any]) -> dict[str, Column]:
    size = header.get("bytes")
    if type(size) is not int:
        raise ValueError(f"store.json: bytes: expected a number, got {size!r:.100}")
    try:
        return parse_columns(header.get("columns"), size)
    except ValueError as error:
        raise ValueError(f"store.json: {error}") from error


def _mapped(path: Path, size: int) -> mmap.mmap:
    length = path.stat().st_size if path.is_file() else 0
    if length != size:
        raise ValueError(f"{path.name}: expected {size} bytes, got {length}")
    with open(path, "rb") as file:
        return mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ)
