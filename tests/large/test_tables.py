"""Matrices in .npy files: rows, blocks and columns equal numpy's."""

import os

import numpy as np
import pytest
import torch

from gnnlib.large import tables
from gnnlib.large.tables import NpyMatrix, row_checksums
from tests.attack.kinds.tables import HEADERS, write_header


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


def test_rows_from_the_end_and_masks(saved):
    matrix, x = saved
    assert np.array_equal(matrix[torch.tensor([-1, 0, -1000])].numpy(), x[[-1, 0, -1000]])
    assert np.array_equal(matrix[torch.arange(1000) % 3 == 0].numpy(), x[::3])
    for wrong in (1000, -1001, 2**62):
        with pytest.raises(IndexError, match=r"x.npy: rows: expected numbers from -1000 to 999, got"):
            matrix[torch.tensor([0, wrong])]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_any_changed_word_changes_its_checksum(dtype):
    x = np.random.default_rng(0).standard_normal((50, 6)).astype(dtype)
    rows, sums = np.arange(50), row_checksums(x, np.arange(50))
    words = x.view(np.uint32)
    for row in range(50):
        for word in range(words.shape[1]):
            for bit in (0, 7, 31):
                words[row, word] ^= np.uint32(1 << bit)
                assert np.flatnonzero(row_checksums(x, rows) != sums).tolist() == [row]
                words[row, word] ^= np.uint32(1 << bit)
    assert len(set(row_checksums(np.zeros((1000, 3), dtype), np.arange(1000)).tolist())) == 1000, "rows have numbers"
    swapped = x[:, [1, 0, 2, 3, 4, 5]]
    assert (row_checksums(swapped, rows) != sums).all()
    assert row_checksums(x[:, :0], rows).shape == (50,)


def test_damaged_rows_are_noticed_when_they_are_read(saved):
    matrix, x = saved
    matrix.write_checksums(300)
    assert np.array_equal(matrix[torch.arange(1000)].numpy(), x)
    x[77, 3] += 1e-6
    np.save(matrix.path, x)
    assert np.array_equal(matrix[torch.tensor([76, 78])].numpy(), x[[76, 78]])
    with pytest.raises(ValueError, match=r"x.npy: expected row 77 as it was written, got a damaged one"):
        matrix[torch.tensor([3, 77, 5])]


def test_a_file_that_is_cut_off_or_replaced_after_it_was_opened(saved):
    matrix, x = saved
    os.truncate(matrix.path, 128 + 500 * 20)
    assert np.array_equal(matrix[torch.tensor([499])].numpy(), x[[499]])
    for read in (lambda: matrix[torch.tensor([499, 500])], lambda: list(matrix.blocks(300))):
        with pytest.raises(ValueError, match=r"x.npy: expected 1000 rows, got a file that was cut off"):
            read()
    np.save(matrix.path, x[:, :3])
    with pytest.raises(ValueError, match=r"x.npy: expected \(1000, 5\), float32, got \(1000, 3\), float32"):
        matrix[torch.tensor([0])]


@pytest.mark.parametrize("header", HEADERS)
def test_foreign_headers(saved, header):
    matrix, _ = saved
    write_header(matrix.path, header)
    with pytest.raises(ValueError, match=r"x\.npy: expected"):
        NpyMatrix.open(matrix.path)
