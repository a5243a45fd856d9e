"""Tiles of the kernels, and their launch."""

import os
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor

INTERPRETED = os.environ.get("TRITON_INTERPRET", "0") not in ("", "0")
"""Whether kernels run in Triton's interpreter, which takes milliseconds per program and little per number."""
NUMBERS = [
    *("num_items", "num_row_values", "num_slots", "num_feats", "heads", "x_heads", "y_heads", "coeff_heads"),
    *("groups", "taps", "key", "level", "scale", "slope"),
]
"""Arguments whose values are not compiled in: a kernel is compiled once for all graphs and numbers of heads."""
WARPS = 4
OPTIONS = {"num_warps": WARPS, "maxnreg": 64}
"""Options of the compiler. With 64 registers, 32 warps fit on a multiprocessor. Without the number, ptxas sometimes
aims at more warps and spills."""
COLUMNS = 1, 8, 16, 32, 64, 128
"""Columns of a tile; wider rows take several programs."""


def jit(function: Callable) -> Any:
    """`triton.jit`, without a compilation for each value of a number."""
    return triton.jit(function, do_not_specialize=NUMBERS)


class Tile(NamedTuple):
    """A tile has ITEMS x HEADS rows of COLS columns. Rows of features are multiples of VEC numbers: 16 bytes, or one
    number."""

    ITEMS: int
    HEADS: int
    COLS: int
    VEC: int


def tile(heads: int, width: int, dtype: torch.dtype) -> Tile:
    """The tile for features (N, heads, width): a thread has 16 bytes of each message, or one number."""
    vector = 16 // dtype.itemsize if width and width * dtype.itemsize % 16 == 0 else 1
    if INTERPRETED:
        columns, pairs = triton.next_power_of_2(max(1, width)), 256
    else:
        columns = next((c for c in COLUMNS if c >= width), COLUMNS[-1])
        pairs = 32 * WARPS * vector // columns
    head_block = 1 if heads == 1 else min(4, pairs)
    return Tile(pairs // head_block, head_block, columns, vector)


def blocks(tile: Tile, num_items: int, heads: int, width: int) -> tuple[int, int, int]:
    """The grid of programs; one block of columns for a width of 0."""
    return (
        triton.cdiv(num_items, tile.ITEMS),
        triton.cdiv(heads, tile.HEADS),
        triton.cdiv(max(1, width), tile.COLS),
    )


def launch(kernel: Any, grid: tuple[int, ...], *args: Tensor | int | float, **constants: object) -> None:
    """Runs a kernel on the device of its arguments.

    Raises:
        ValueError: if tensors are on different devices
    """
    devices = {t.device for t in args if isinstance(t, Tensor)}
    if len(devices) > 1:
        raise ValueError(f"expected all tensors on one device, got {' and '.join(sorted(map(str, devices)))}")
    if all(grid):
        with torch.cuda.device_of(args[0]):
            kernel[grid](*args, **OPTIONS | constants)
