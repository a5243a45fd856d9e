"""The columns of a store's file: type, shape and offset of each array, checked before anything is read."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["ALIGN", "BLOCK", "ROWS", "SUMS", "Column", "parse_columns"]

ALIGN = 64  # bytes
BLOCK = 2**16  # bytes, of which one CRC-32 is stored
SUMS = "checksums"  # the column of the blocks' CRC-32, the last one
MAX_DIMS = 32
ROWS = {"ndata": "nodes", "starts": "nodes", "edata": "edges", "ends": "edges"}
"""What the columns of each group have a row for."""

NUMBERS = ("int16", "int32")
TYPES = ("bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64", "complex64")
ENDS = {f"{way} {array}" for way in ("csc", "csr") for array in ("indices", "eid")}
NAMES = {"starts": {"csc", "csr"}, "ends": {"src", "dst", *ENDS}}
REQUIRED = ("nodes", "edges", "starts.csc", "starts.csr", "ends.src", "ends.dst", SUMS)


@dataclass(frozen=True)
class Column:
    """An array in a file.

    Args:
        dtype: the name of its type
        shape: of the array
        place: the offset of its first byte, a multiple of `ALIGN`
    """

    dtype: str
    shape: tuple[int, ...]
    place: int

    @property
    def width(self) -> int:
        """Bytes per row."""
        return math.prod(self.shape[1:]) * np.dtype(self.dtype).itemsize

    @property
    def end(self) -> int:
        """The offset after its last byte, rounded up to the alignment."""
        return self.place + -(-self.shape[0] * self.width // ALIGN) * ALIGN


def parse_columns(specs: Any, size: int) -> dict[str, Column]:
    """The columns that a header describes, in a file of ``size`` bytes.

    Raises:
        ValueError: for a column of another type, shape, place or name than a store has, or one that is missing
    """
    if not isinstance(specs, dict) or not set(REQUIRED) <= specs.keys():
        got = ", ".join(specs) or "none" if isinstance(specs, dict) else f"{specs!r:.100}"
        raise ValueError(f"expected columns {', '.join(REQUIRED)}, got {got}")
    columns = {name: _parse(name, spec) for name, spec in specs.items()}
    sums = columns[SUMS]
    for name, column in columns.items():
        limit = size if name == SUMS else sums.place
        if column.end > limit:
            raise ValueError(f"column {name}: expected an end within {limit} bytes, got {column.end}")
    num_graphs, num_blocks = columns["nodes"].shape[0] - 1, -(-sums.place // BLOCK)
    if num_graphs < 1:
        raise ValueError(f"column nodes: expected 2 rows or more, got {num_graphs + 1}")
    lengths = {"edges": num_graphs + 1, "labels": num_graphs, SUMS: num_blocks}
    for name, length in lengths.items():
        if name in columns and columns[name].shape[0] != length:
            raise ValueError(f"column {name}: expected {length} rows, got {columns[name].shape[0]}")
    for way in ("csc", "csr"):
        if len({f"ends.{way} {array}" for array in ("indices", "eid")} & columns.keys()) == 1:
            raise ValueError(f"columns ends.{way} indices and ends.{way} eid: expected both or none, got one")
    numbers = {column.dtype for name, column in columns.items() if name.partition(".")[0] in NAMES}
    if len(numbers) > 1:
        raise ValueError(f"columns of starts and ends: expected one type, got {', '.join(sorted(numbers))}")
    return columns


def _parse(name: str, spec: Any) -> Column:
    """A column by itself."""
    group, _, last = name.partition(".")
    if name not in ("nodes", "edges", "labels", SUMS) and (group not in ROWS or last not in NAMES.get(group, {last})):
        raise ValueError(f"column {name}: expected a name of a column, got {name!r}")
    if not isinstance(spec, Mapping) or not {"dtype", "shape", "place"} <= spec.keys():
        raise ValueError(f"column {name}: expected dtype, shape and place, got {spec!r:.100}")
    dtype, shape, place = spec["dtype"], spec["shape"], spec["place"]
    types = {"nodes": ("int64",), "edges": ("int64",), SUMS: ("uint32",), "starts": NUMBERS, "ends": NUMBERS}
    if dtype not in types.get(group, TYPES):
        raise ValueError(f"column {name}: expected a type of {', '.join(types.get(group, TYPES))}, got {dtype!r:.100}")
    plain = name in ("nodes", "edges", SUMS) or group in NAMES
    if (
        not isinstance(shape, list)
        or not all(map(_is_count, shape))
        or not 1 <= len(shape) <= (1 if plain else MAX_DIMS)
    ):
        axes = "1 size" if plain else f"1 to {MAX_DIMS} sizes"
        raise ValueError(f"column {name}: expected a shape of {axes}, got {shape!r:.100}")
    if not _is_count(place) or place % ALIGN:
        raise ValueError(f"column {name}: expected a place that is a multiple of {ALIGN}, got {place!r:.100}")
    return Column(dtype, tuple(shape), place)


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**62
