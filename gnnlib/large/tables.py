"""Matrices in .npy files that are larger than memory: written from front to back, read in blocks or by rows.

They are read, not mapped, so that nothing is in memory but what was asked for: a map's pages stay until they are needed
for something else.
"""

import math
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gnnlib._utils.files import atomic_write

__all__ = ["Span", "NpyMatrix"]

Span = tuple[int, int]  # of columns: the first, and the one after the last
NEAR, FAR = 2**14, 2**22  # bytes: rows that are as near are read together; and no more than so many at once


@dataclass(frozen=True)
class NpyMatrix:
    """A matrix (N, F) in an .npy file, float32 or float64: ``table[rows]`` reads the rows of these numbers.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     table = NpyMatrix(Path(folder) / "x.npy", (3, 2), np.dtype(np.float32))
    ...     table.write([np.float32([[1, 2]]), np.float32([[3, 4], [5, 6]])])
    ...     Table.open(table.path)[torch.tensor([2, 0])].tolist()
    [[5.0, 6.0], [1.0, 2.0]]
    """

    path: Path
    shape: tuple[int, int]
    dtype: np.dtype

    @staticmethod
    def open(path: str | os.PathLike[str], num_rows: int | None = None) -> "NpyMatrix":
        """Raises: ValueError for another shape, type or order than is served, and for a file that is not whole."""
        path = Path(path)
        with open(path, "rb") as file:
            shape, fortran, dtype = _header(file)
            expected = file.tell() + math.prod(shape) * dtype.itemsize
        height = "N" if num_rows is None else num_rows
        fits = len(shape) == 2 and shape[0] == (shape[0] if num_rows is None else num_rows)
        if not fits or dtype not in (np.float32, np.float64) or fortran:
            order = "Fortran" if fortran else "C"
            raise ValueError(
                f"{path}: expected features ({height}, F), float32 or float64, in C order, got {shape}, {dtype}, "
                f"{order} order"
            )
        if path.stat().st_size != expected:
            raise ValueError(f"{path}: expected {expected} bytes, got {path.stat().st_size}")
        return NpyMatrix(path, (shape[0], shape[1]), dtype)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Tensor) -> Tensor:
        found = np.empty((len(rows), self.shape[1]), self.dtype)
        if found.size:
            self._read(rows.numpy(), found)
        return torch.from_numpy(found)

    def _read(self, rows: np.ndarray, found: np.ndarray) -> None:
        order = np.argsort(rows)  # from front to back
        which = rows[order]
        size = self.shape[1] * self.dtype.itemsize
        apart = (np.diff(which) > NEAR // size) | (np.diff(which // max(1, FAR // size)) > 0)
        with open(self.path, "rb", buffering=0) as file:
            _header(file)
            start = file.tell()
            for first, last in pairwise([0, *(np.flatnonzero(apart) + 1), len(which)]):
                these = which[first:last] - which[first]
                file.seek(start + int(which[first]) * size)
                block = np.empty((int(these[-1]) + 1, self.shape[1]), self.dtype)
                file.readinto(block.data)
                found[order[first:last]] = block[these]

    def blocks(self, rows: int) -> Iterator[np.ndarray]:
        """All of it, so many rows at a time."""
        height, width = self.shape
        with open(self.path, "rb") as file:
            _header(file)
            for first in range(0, max(height, 1), rows):
                count = min(rows, height - first)
                yield np.fromfile(file, self.dtype, count * width).reshape(count, width)

    def like(self, path: Path) -> "NpyMatrix":
        """One of this shape and type elsewhere."""
        return replace(self, path=path)

    def part(self, path: Path, span: Span) -> "NpyMatrix":
        """One of as many rows and so many columns elsewhere."""
        return replace(self, path=path, shape=(len(self), span[1] - span[0]))

    def write(self, blocks: Iterable[np.ndarray]) -> None:
        """All rows; the file is there whole or not at all."""
        with self._begun() as file:
            for block in blocks:
                np.ascontiguousarray(block).tofile(file)

    def split(self, parts: Sequence[tuple["NpyMatrix", Span]], rows: int) -> None:
        """Copies columns into each part, in one pass."""
        with ExitStack() as stack:
            files = [(stack.enter_context(part._begun()), span) for part, span in parts]
            for block in self.blocks(rows) if files else ():
                for file, (first, last) in files:
                    np.ascontiguousarray(block[:, first:last]).tofile(file)

    @contextmanager
    def _begun(self) -> Iterator[Any]:
        with atomic_write(self.path) as partly, open(partly, "wb") as file:
            kind = {"descr": self.dtype.str, "fortran_order": False, "shape": self.shape}
            np.lib.format.write_array_header_1_0(file, kind)
            yield file


def _header(file: Any) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return read(file)
