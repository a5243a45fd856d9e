"""Matrices in .npy files that are larger than memory: written sequentially, read in blocks or by rows.

Files are read and not memory-mapped, so that memory holds only what was requested: the pages of a map stay in memory
until it is needed for something else. A matrix may have a second file with a checksum per row, which is verified for
each row that is read.
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

from gnnlib._utils.calls import names_checked
from gnnlib._utils.files import atomic_write
from gnnlib._utils.indices import as_indices
from gnnlib._utils.npy import read_npy_header

__all__ = ["NpyMatrix", "Span"]

Span = tuple[int, int]  # of columns: the first, and the one after the last
MAX_GAP, MAX_READ = 2**14, 2**22  # bytes: rows that are this close are read together, up to so many at once


@names_checked()
@dataclass(frozen=True)
class NpyMatrix:
    """A matrix in an .npy file, of which ``matrix[rows]`` reads rows.

    Rows are verified where there is a file of their checksums, as for those of `precompute_propagation`.

    Args:
        path: of the file
        shape: (N, F)
        dtype: float32 or float64
        checksum_path: of the checksums; None: ``<name>.checksums.npy`` beside the file, if it exists

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> import numpy as np
        >>> import torch
        >>> from gnnlib.large import NpyMatrix
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     matrix = NpyMatrix(Path(folder) / "x.npy", (3, 2), np.dtype(np.float32))
        ...     matrix.write([np.float32([[1, 2]]), np.float32([[3, 4], [5, 6]])])
        ...     NpyMatrix.open(matrix.path)[torch.tensor([2, 0])].tolist()
        [[5.0, 6.0], [1.0, 2.0]]
    """

    path: Path
    shape: tuple[int, int]
    dtype: np.dtype
    checksum_path: Path | None = None

    @staticmethod
    def open(path: str | os.PathLike[str], num_rows: int | None = None) -> "NpyMatrix":
        """The matrix in a file.

        Args:
            path: of the file
            num_rows: the expected number of rows; None: any

        Returns:
            the matrix, of which nothing is read yet

        Raises:
            ValueError: for another format, shape, type or order than NpyMatrix supports, or an incomplete file
        """
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

    def __getitem__(self, rows: Any) -> Tensor:
        """The rows of these numbers, of which negative ones count from the end, or of a boolean mask.

        Raises:
            IndexError: if a number is out of range
            ValueError: if the file is shorter than when it was opened, or a row differs from its checksum
        """
        rows = as_indices(rows, len(self), f"{self.path}: rows").numpy()
        values = self._rows(rows)
        if self.checksums.path.exists():
            damaged = self.checksums._rows(rows)[:, 0] != row_checksums(values, rows)
            if damaged.any():
                raise ValueError(f"{self.path}: expected row {rows[damaged][0]} as it was written, got a damaged one")
        return torch.from_numpy(values)

    @property
    def checksums(self) -> "NpyMatrix":
        """The matrix (N, 1) of the rows' checksums, whose file may not exist."""
        path = self.checksum_path or self.path.with_suffix(".checksums.npy")
        return NpyMatrix(path, (len(self), 1), np.dtype(np.uint64))

    def _rows(self, rows: np.ndarray) -> np.ndarray:
        values = np.empty((len(rows), self.shape[1]), self.dtype)
        if values.size:
            self._read(rows, values)
        return values

    def _read(self, rows: np.ndarray, out: np.ndarray) -> None:
        """Reads the rows into ``out``, in the order of the file, close rows together."""
        order = np.argsort(rows)
        ascending = rows[order]
        size = self.shape[1] * self.dtype.itemsize
        cuts = (np.diff(ascending) > MAX_GAP // size) | (np.diff(ascending // max(1, MAX_READ // size)) > 0)
        with self.opened(buffering=0) as file:
            start = file.tell()
            for first, last in pairwise([0, *(np.flatnonzero(cuts) + 1), len(ascending)]):
                offsets = ascending[first:last] - ascending[first]
                file.seek(start + int(ascending[first]) * size)
                block = np.empty((int(offsets[-1]) + 1, self.shape[1]), self.dtype)
                if file.readinto(block.data) != block.nbytes:
                    raise ValueError(f"{self.path}: expected {len(self)} rows, got a file that was cut off")
                out[order[first:last]] = block[offsets]

    @contextmanager
    def opened(self, buffering: int = -1) -> Iterator[Any]:
        """The file at its first row, if it still has this shape and type."""
        with open(self.path, "rb", buffering=buffering) as file:
            shape, fortran, dtype = _header(file)
            if (shape, fortran, dtype) != (self.shape, False, self.dtype):
                raise ValueError(f"{self.path}: expected {self.shape}, {self.dtype}, got {shape}, {dtype}")
            yield file

    def blocks(self, num_rows: int) -> Iterator[np.ndarray]:
        """Reads the matrix in blocks of ``num_rows`` rows.

        Raises:
            ValueError: if the file is shorter than when it was opened
        """
        height, width = self.shape
        with self.opened() as file:
            for first in range(0, max(height, 1), num_rows):
                count = min(num_rows, height - first)
                block = np.fromfile(file, self.dtype, count * width)
                if len(block) != count * width:
                    raise ValueError(f"{self.path}: expected {height} rows, got a file that was cut off")
                yield block.reshape(count, width)

    def like(self, path: Path) -> "NpyMatrix":
        """A matrix of this shape and type in another file."""
        return replace(self, path=path, checksum_path=None)

    def columns_like(self, path: Path, span: Span) -> "NpyMatrix":
        """A matrix of these columns' shape and type in another file."""
        return replace(self.like(path), shape=(len(self), span[1] - span[0]))

    def write(self, blocks: Iterable[np.ndarray]) -> None:
        """Writes all rows, atomically.

        Args:
            blocks: of rows, from the first to the last
        """
        with self._writer() as file:
            for block in blocks:
                np.ascontiguousarray(block).tofile(file)

    def write_checksums(self, num_rows: int) -> None:
        """Writes the checksums of all rows, which are read again in blocks of ``num_rows`` rows."""
        starts = range(0, max(len(self), 1), num_rows)
        pairs = zip(starts, self.blocks(num_rows), strict=True)
        self.checksums.write(row_checksums(block, np.arange(first, first + len(block))) for first, block in pairs)

    def split_columns(self, parts: Sequence[tuple["NpyMatrix", Span]], num_rows: int) -> None:
        """Copies columns into other files, in one pass.

        Args:
            parts: matrices to write and their columns
            num_rows: rows in memory at a time
        """
        with ExitStack() as stack:
            files = [(stack.enter_context(part._writer()), span) for part, span in parts]
            for block in self.blocks(num_rows) if files else ():
                for file, (first, last) in files:
                    np.ascontiguousarray(block[:, first:last]).tofile(file)

    @contextmanager
    def _writer(self) -> Iterator[Any]:
        with atomic_write(self.path) as partial, open(partial, "wb") as file:
            header = {"descr": self.dtype.str, "fortran_order": False, "shape": self.shape}
            np.lib.format.write_array_header_1_0(file, header)
            yield file


def row_checksums(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """A checksum of each row and its number, (n,) uint64: the sum of its 32-bit words, weighted by odd numbers.

    Any change of one word changes it, and other changes do with a probability of about 1 - 2^-64.

    Args:
        values: (n, F), float32 or float64
        rows: their numbers, (n,)
    """
    words = np.ascontiguousarray(values).view(np.uint32)
    weights = _mix(np.arange(1, words.shape[1] + 1, dtype=np.uint64)) | np.uint64(1)
    return np.einsum("nw,w->n", words, weights, dtype=np.uint64, casting="safe") + _mix(rows.astype(np.uint64))


def _mix(numbers: np.ndarray) -> np.ndarray:
    """Pseudorandom numbers of 64 bits (SplitMix64: Steele, Lea, Flood 2014), one for each number."""
    mixed = numbers * np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return mixed ^ (mixed >> np.uint64(31))


def _header(file: Any) -> tuple[tuple[int, ...], bool, np.dtype]:
    try:
        return read_npy_header(file)
    except ValueError as error:
        raise ValueError(f"{file.name}: {error}") from error
