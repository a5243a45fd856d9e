"""Sums of embeddings: against OGB's own encoders, one-hot columns and a loop."""

import pytest
import torch
from torch import nn

from gnnlib import SumOfEmbeddings, one_hot
from gnnlib._platform.modules import module_as

SIZES = [5, 6, 2]


def codes(num=20):
    return torch.stack([torch.randint(0, size, (num,)) for size in SIZES], 1)


def test_ogbs_atom_encoder():
    with module_as("outdated", None):  # with it, ogb asks the package index
        module = pytest.importorskip("ogb.graphproppred.mol_encoder", reason="ogb is not installed")
    encoder = module.AtomEncoder(8)
    sizes = [table.num_embeddings for table in encoder.atom_embedding_list]
    atoms = torch.stack([torch.randint(0, size, (20,)) for size in sizes], 1)
    ours = SumOfEmbeddings(sizes, 8)
    bounds = [table.abs().max() for table in ours.weight.split(sizes)]
    for bound, table in zip(bounds, encoder.atom_embedding_list):
        limit = (6 / sum(table.weight.shape)) ** 0.5
        assert 0.5 * limit < bound <= limit
    ours.load_state_dict({"weight": torch.cat([table.weight for table in encoder.atom_embedding_list])})
    torch.testing.assert_close(ours(atoms), encoder(atoms))


def test_a_linear_layer_on_one_hot_columns_is_the_same():
    table, linear, rows = SumOfEmbeddings(SIZES, 7), nn.Linear(13, 7, bias=False), codes()
    linear.load_state_dict({"weight": table.weight.T})
    torch.testing.assert_close(linear(one_hot(rows, SIZES)), table(rows))


def test_gradients_count_the_rows():
    table, rows = SumOfEmbeddings(SIZES, 3), codes()
    table(rows).sum().backward()
    expected = torch.cat([torch.bincount(column, minlength=size) for column, size in zip(rows.unbind(1), SIZES)])
    assert table.weight.grad.tolist() == expected.float().view(-1, 1).expand(-1, 3).tolist()


def test_one_hot_columns():
    rows = codes()
    columns = one_hot(rows, SIZES)
    expected = torch.cat([nn.functional.one_hot(c, n) for c, n in zip(rows.unbind(1), SIZES)], 1)
    assert torch.equal(columns, expected.float())
    assert one_hot(rows[:0], SIZES).shape == (0, 13)


@pytest.mark.parametrize("call", [SumOfEmbeddings(SIZES, 4), lambda rows: one_hot(rows, SIZES)])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c[:, :2], r"expected codes \(N, 3\) of int64, got \(20, 2\) of torch.int64"),
        (lambda c: c.float(), r"expected codes \(N, 3\) of int64, got \(20, 3\) of torch.float32"),
        (lambda c: c.index_fill(0, torch.tensor([3]), 5), r"column 0: expected codes from 0 to 4, got 0 to 5"),
        (lambda c: c - torch.tensor([0, 9, 0]), r"column 1: expected codes from 0 to 5, got -9 to -4"),
    ],
)
def test_invalid_arguments(call, change, message):
    with pytest.raises(ValueError, match=message):
        call(change(codes(20).index_fill(0, torch.tensor([0]), 0).index_fill(0, torch.tensor([1]), 1)))
