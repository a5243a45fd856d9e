"""scikit-learn's digits: always there."""

import torch

from gnnlib.datasets import digits


def test_one_fixed_split():
    train, test = digits(), digits(train=False)
    assert [len(labels) for _, labels in (train, test)] == [1347, 450]
    # the split is part of what a result means: it may never change
    assert test[1][:20].tolist() == [7, 0, 1, 4, 0, 9, 5, 0, 9, 8, 2, 1, 2, 6, 3, 7, 6, 4, 9, 2]
    assert train[1].bincount().tolist() == [133, 137, 132, 138, 135, 137, 136, 134, 130, 135]
    assert test[1].bincount().tolist() == [45, 45, 45, 45, 46, 45, 45, 45, 44, 45]
    assert torch.equal(digits()[0], train[0])


def test_partition_of_the_original():
    from sklearn.datasets import load_digits

    images = torch.cat([digits()[0], digits(train=False)[0]])
    labels = torch.cat([digits()[1], digits(train=False)[1]])
    rows = torch.cat([images.reshape(1797, 64) * 16, labels[:, None]], 1)
    original = torch.tensor(load_digits().data).float()
    original = torch.cat([original, torch.tensor(load_digits().target)[:, None]], 1)
    assert sorted(rows.tolist()) == sorted(original.tolist())


def test_types_and_range():
    images, labels = digits()
    assert images.dtype == torch.float32
    assert images.shape == (1347, 8, 8)
    assert labels.dtype == torch.int64
    assert (float(images.min()), float(images.max())) == (0, 1)
    assert torch.equal(images * 16, (images * 16).round())
