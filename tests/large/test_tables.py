"""Matrices in .npy files: rows, blocks and columns equal numpy's."""

import numpy as np
import pytest
import torch

from gnnlib.large import tables
from gnnlib.large.tables import NpyMatrix


@pytest.fixture
def saved(tmp_path):
    x = np.random.default_rng(0).random((1000, 5), np.float32)
    np.save(tmp_path / "x.npy", x)
    return NpyMatrix.open(tmp_path / "x.npy"), x


@pytest.mark.parametrize("max_gap", [0, 100, 2**14])
@pytest.mark.parametrize("max_read", [1, 200, 2**22])
def test_rows_in_any_order_and_repeated(saved, monkeypatch, max_gap, max_read):
    matrix, x = saved
    monkeypatch.setattr(tables, "MAX_GAP", max_gap)
    monkeypatch.setattr(tables, "MAX_READ", max_read)
    for rows in ([3, 999, 0, 3, 4, 5], [], [7], list(range(1000)), list(range(0, 1000, 7))):
        assert np.array_equal(matrix[torch.tensor(rows, dtype=torch.int64)].numpy(), x[rows])


def test_blocks_and_columns(saved, tmp_path):
    matrix, x = saved
    assert [len(block) for block in matrix.blocks(300)] == [300, 300, 300, 100]
    assert np.array_equal(np.concatenate(list(matrix.blocks(300))), x)
    parts = [
        (matrix.columns_like(tmp_path / f"{first}.npy", (first, last)), (first, last))
        for first, last in ((0, 2), (2, 5))
    ]
    matrix.split_columns(parts, 300)
    assert np.array_equal(np.load(tmp_path / "0.npy"), x[:, :2])
    assert np.array_equal(np.load(tmp_path / "2.npy"), x[:, 2:])
    assert len(parts[1][0]) == 1000


def test_an_incomplete_file_is_not_kept(saved, tmp_path):
    matrix, x = saved

    def blocks():
        yield x[:10]
        raise OSError("No space left on device")

    with pytest.raises(OSError, match="No space left"):
        matrix.like(tmp_path / "y.npy").write(blocks())
    assert [path.name for path in tmp_path.iterdir()] == ["x.npy"]
