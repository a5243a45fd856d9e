"""Group distance ratio and instance information gain against loops over pairs."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist

from gnnlib._platform.dgl import dgl
from gnnlib.analysis.smoothing import group_distance_ratio, groups, instance_information_gain
from gnnlib.testing.graphs import edgeless, path


def dense_ratio(x, labels):
    away = cdist(x, x)
    classes = np.unique(labels[labels >= 0])
    mean = [[away[np.ix_(labels == i, labels == j)].mean() for j in classes] for i in classes]
    between = [mean[i][j] for i in range(len(classes)) for j in range(len(classes)) if i != j]
    return np.mean(between) / np.diag(mean).mean()


def test_ratio_against_its_definition(monkeypatch):
    x = torch.randn(20, 2, 5, dtype=torch.float64)
    labels = torch.randint(-1, 3, (20,), generator=torch.Generator().manual_seed(0))
    expected = [dense_ratio(x[:, i].numpy(), labels.numpy()) for i in range(2)]
    np.testing.assert_allclose(group_distance_ratio(edgeless(20), x, labels), [expected])
    monkeypatch.setattr(groups, "ROWS", 3)
    np.testing.assert_allclose(group_distance_ratio(edgeless(20), x, labels), [expected])


def test_ratio_grows_with_the_distance_of_classes():
    labels = torch.arange(400) % 2
    x = torch.randn(400, 8, generator=torch.Generator().manual_seed(0))
    ratios = [group_distance_ratio(edgeless(400), x + far * labels[:, None], labels).item() for far in (0, 1, 10)]
    assert ratios[0] == pytest.approx(1, abs=0.02)
    assert ratios == sorted(ratios)
    assert ratios[2] > 5


def test_ratio_without_two_classes_is_nan():
    assert group_distance_ratio(edgeless(3), torch.randn(3, 2), torch.zeros(3, dtype=torch.int64)).isnan().all()


def dense_information(x, z, variance):
    """sum of P(x, z) log P(x, z) / (P(x) P(z)) with P(x, z) at each node and densities by Gaussian kernels."""
    n = len(x)
    k, m = (np.exp(-(cdist(a, a) ** 2) / (2 * variance)) for a in (x, z))
    return np.mean([math.log((k[i] * m[i]).mean() / (k[i].mean() * m[i].mean())) for i in range(n)])


def test_information_against_kernel_densities(monkeypatch):
    rng = np.random.default_rng(0)
    x, z = rng.normal(size=(20, 2)), rng.normal(size=(20, 3))
    expected = dense_information(x, z, 0.4)
    assert expected > 0.1
    for rows in (512, 3):
        monkeypatch.setattr(groups, "ROWS", rows)
        got = instance_information_gain(edgeless(20), torch.from_numpy(x), torch.from_numpy(z), variance=0.4)
        assert got.item() == pytest.approx(expected)


def test_information_of_clusters_is_the_logarithm_of_their_number():
    """Distant inputs and features of 4 equal clusters: log 4 nats at any distance of the clusters."""
    z = 100 * torch.arange(32.0)[:, None]
    for scale in (50.0, 5000.0):
        x = scale * (torch.arange(32) % 4)[:, None].float()
        assert instance_information_gain(edgeless(32), x, z).item() == pytest.approx(math.log(4))
    assert instance_information_gain(edgeless(32), z, z).item() == pytest.approx(math.log(32))
    assert instance_information_gain(edgeless(32), 0 * z, z).item() == pytest.approx(0, abs=1e-12)


def test_batches():
    parts = [edgeless(9), path(7)]
    graph, labels = dgl.batch(parts), torch.arange(16) % 2
    x, z = torch.randn(16, 2, 3), torch.randn(16, 2, 4)
    rows = zip(parts, x.split([9, 7]), z.split([9, 7]), labels.split([9, 7]))
    ratios, gains = zip(*((group_distance_ratio(g, a, y), instance_information_gain(g, a, b)) for g, a, b, y in rows))
    torch.testing.assert_close(group_distance_ratio(graph, x, labels), torch.cat(ratios))
    torch.testing.assert_close(instance_information_gain(graph, x, z), torch.cat(gains))


def test_invalid_arguments():
    x = torch.randn(4, 2)
    with pytest.raises(ValueError, match=r"expected \(4,\) integers, got torch.int64 \(3,\)"):
        group_distance_ratio(edgeless(4), x, torch.zeros(3, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"integers, got torch.float32"):
        group_distance_ratio(edgeless(4), x, torch.zeros(4))
    with pytest.raises(ValueError, match=r"inputs: expected shape \(4, ..., F\), got \(3, 2\)"):
        instance_information_gain(edgeless(4), x, torch.randn(3, 2))
    with pytest.raises(ValueError, match="variance: expected a positive number, got 0"):
        instance_information_gain(edgeless(4), x, x, variance=0)
