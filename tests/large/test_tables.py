"""Matrices in files: rows, blocks and columns are those of numpy's own."""

import numpy as np
import pytest
import torch

from gnnlib.large import tables
from gnnlib.large.tables import NpyMatrix


@pytest.fixture
def made(tmp_path):
    x = np.random.default_rng(0).random((1000, 5), np.float32)
    np.save(tmp_path / "x.npy", x)
    return NpyMatrix.open(tmp_path / "x.npy"), x


@pytest.mark.parametrize("near", [0, 100, 2**14])
@pytest.mark.parametrize("far", [1, 200, 2**22])
def test_rows_in_any_order_and_as_often_as_asked(made, monkeypatch, near, far):
    table, x = made
    monkeypatch.setattr(tables, "NEAR", near)
    monkeypatch.setattr(tables, "FAR", far)
    for rows in ([3, 999, 0, 3, 4, 5], [], [7], list(range(1000)), list(range(0, 1000, 7))):
        assert np.array_equal(table[torch.tensor(rows, dtype=torch.int64)].numpy(), x[rows])


def test_blocks_and_columns(made, tmp_path):
    table, x = made
    assert [len(block) for block in table.blocks(300)] == [300, 300, 300, 100]
    assert np.array_equal(np.concatenate(list(table.blocks(300))), x)
    parts = [(table.part(tmp_path / f"{first}.npy", (first, last)), (first, last)) for first, last in ((0, 2), (2, 5))]
    table.split(parts, 300)
    assert np.array_equal(np.load(tmp_path / "0.npy"), x[:, :2])
    assert np.array_equal(np.load(tmp_path / "2.npy"), x[:, 2:])
    assert len(parts[1][0]) == 1000


def test_a_file_that_was_not_finished_is_not_there(made, tmp_path):
    table, x = made

    def blocks():
        yield x[:10]
        raise OSError("No space left on device")

    with pytest.raises(OSError, match="No space left"):
        table.like(tmp_path / "y.npy").write(blocks())
    assert [path.name for path in tmp_path.iterdir()] == ["x.npy"]
