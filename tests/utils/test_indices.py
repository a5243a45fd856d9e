"""Row numbers and masks, against indexing by torch."""

import numpy as np
import pytest
import torch

from gnnlib._utils.indices import as_indices

ROWS = [
    torch.tensor([0, 4, 2, 2]),
    torch.tensor([-1, -5, 3]),
    torch.tensor([1, 0], dtype=torch.uint8),
    torch.tensor([True, False, True, True, False]),
    np.array([3, 1], dtype=np.int32),
    np.array([False, False, False, False, True]),
    [4, -2],
    range(2, 5),
    [],
]


@pytest.mark.parametrize("rows", ROWS, ids=range(len(ROWS)))
def test_rows_are_those_of_torch(rows):
    values = torch.arange(5) * 10
    expected = values[torch.as_tensor(np.asarray(rows)).long()] if len(rows) != 5 else values[torch.as_tensor(rows)]
    assert torch.equal(values[as_indices(rows, 5, "rows")], expected)


@pytest.mark.parametrize(
    ("rows", "error", "message"),
    [
        (torch.tensor([0, 5]), IndexError, r"rows: expected numbers from -5 to 4, got 5"),
        (torch.tensor([-6]), IndexError, r"rows: expected numbers from -5 to 4, got -6"),
        (torch.tensor([2**40]), IndexError, "got 1099511627776"),
        (torch.tensor([1.0]), TypeError, r"rows: expected integers or a boolean mask, got torch.float32"),
        (torch.tensor([True]), ValueError, r"rows: expected a mask of shape \(5,\), got \(1,\)"),
        (torch.tensor([[1]]), ValueError, r"rows: expected shape \(n,\), got \(1, 1\)"),
    ],
)
def test_invalid_rows(rows, error, message):
    with pytest.raises(error, match=message):
        as_indices(rows, 5, "rows")
