"""Row numbers from what users give: numbers, negative numbers, or a boolean mask."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["as_indices"]


def as_indices(rows: Any, size: int, name: str) -> Tensor:
    """The numbers of the rows that are meant, from 0 to size - 1.

    Args:
        rows: row numbers, of which negative ones count from the end; or a boolean mask over all rows
        size: number of rows
        name: of the argument, for errors

    Shapes:
        - rows: (n,), or (size,) for a mask
        - output: (n,) int64, on the CPU; those of a mask in ascending order

    Raises:
        TypeError: if rows holds neither integers nor booleans
        ValueError: if a mask or the numbers have another shape
        IndexError: if a number is out of range

    Example:
        >>> import torch
        >>> from gnnlib._utils.indices import as_indices
        >>> as_indices(torch.tensor([3, -1]), 5, "rows"), as_indices([True, False, True], 3, "rows")
        (tensor([3, 4]), tensor([0, 2]))
    """
    if not isinstance(rows, Tensor):
        array = np.asarray(rows)
        if array.dtype.kind not in "biufc":
            raise TypeError(f"{name}: expected integers or a boolean mask, got {_shown(rows)}")
        rows = torch.as_tensor(array)
    rows = rows.detach().cpu()
    if rows.dtype == torch.bool:
        if rows.shape != (size,):
            raise ValueError(f"{name}: expected a mask of shape ({size},), got {tuple(rows.shape)}")
        return rows.nonzero().flatten()
    if rows.numel() == 0:
        return torch.empty(0, dtype=torch.int64)
    if rows.is_floating_point() or rows.is_complex():
        raise TypeError(f"{name}: expected integers or a boolean mask, got {rows.dtype}")
    if rows.dim() != 1:
        raise ValueError(f"{name}: expected shape (n,), got {tuple(rows.shape)}")
    low, high = int(rows.min()), int(rows.max())
    if low < -size or high >= size:
        raise IndexError(f"{name}: expected numbers from {-size} to {size - 1}, got {low if low < -size else high}")
    rows = rows.long()
    return torch.where(rows < 0, rows + size, rows) if low < 0 else rows


def _shown(rows: Any) -> str:
    return f"a {type(rows).__name__} of {', '.join(map(repr, rows))}" if isinstance(rows, Mapping) else repr(rows)
