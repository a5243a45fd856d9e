"""Inception modules against their equations, and what factorising kernels saves."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from gnnlib.models import (
    AsymmetricInception,
    ExpandedInception,
    Inception,
    InceptionV3,
    ResidualInception,
    StackedInception,
)
from gnnlib.models.vision.blocks import Branches


def convolutions(module):
    return [m for m in module.modules() if isinstance(m, nn.Conv2d)]


def test_inception_is_four_paths_side_by_side():
    torch.manual_seed(0)
    module = Inception(8, 3, 4, 5, 2, 6, 7)
    x = torch.randn(2, 8, 6, 5)
    ones, reduce3, threes, reduce5, fives, pooled = [
        lambda x, c=c: F.relu(F.conv2d(x, c.weight, c.bias, padding=c.weight.shape[-1] // 2))
        for c in convolutions(module)
    ]
    windows = F.unfold(F.pad(x, (1, 1, 1, 1), value=-torch.inf), 3).view(2, 8, 9, 6, 5)
    expected = torch.cat([ones(x), threes(reduce3(x)), fives(reduce5(x)), pooled(windows.amax(2))], 1)
    assert module(x).shape == (2, 3 + 5 + 6 + 7, 6, 5)
    torch.testing.assert_close(module(x), expected)
    assert [c.kernel_size[0] for c in convolutions(module)] == [1, 1, 3, 1, 5, 1]


def seen(path, size=21):
    """Rows and columns of the input that the middle of the output depends on."""
    path = path.eval()
    for conv in convolutions(path):
        nn.init.ones_(conv.weight)
    x = torch.ones(1, convolutions(path)[0].in_channels, size, size, requires_grad=True)
    path(x)[0, 0, size // 2, size // 2].backward()
    at = x.grad[0, 0].nonzero()
    return tuple((at.max(0).values - at.min(0).values + 1).tolist())


def test_two_small_kernels_see_as_far_as_a_large_one():
    assert [seen(path) for path in StackedInception(4, 2).paths] == [(1, 1), (3, 3), (5, 5), (3, 3)]


@pytest.mark.parametrize("n", [3, 7])
def test_a_row_and_a_column_see_as_far_as_a_square(n):
    module = AsymmetricInception(4, 3, n)
    assert [seen(path) for path in module.paths] == [(1, 1), (n, n), (2 * n - 1, 2 * n - 1), (3, 3)]
    assert {c.kernel_size for c in convolutions(module)} == {(1, 1), (1, n), (n, 1)}
    assert module(torch.ones(2, 4, 5, 6)).shape == (2, 768, 5, 6)


def test_expanded_inception_splits_into_a_row_and_a_column():
    crossed = [path[-1] for path in ExpandedInception(4).paths[1:3]]
    assert [[seen(arm) for arm in cross.paths] for cross in crossed] == [[(1, 3), (3, 1)]] * 2


def test_sizes_and_parameters_of_inception_v3():
    with torch.device("meta"):
        network, x = InceptionV3(), torch.empty(1, 3, 299, 299)
        sizes, parameters = [], []
        for layer in network:
            x = layer(x)
            sizes.append(tuple(x.shape[1:]))
            parameters.append(sum(p.numel() for p in layer.parameters()))
    modules = [i for i, layer in enumerate(network) if isinstance(layer, Branches)]
    assert sizes[modules[0] - 1] == (192, 35, 35)
    assert [sizes[i] for i in modules] == [
        *((256, 35, 35), (288, 35, 35), (288, 35, 35), (768, 17, 17)),
        *((768, 17, 17),) * 4,
        *((1280, 8, 8), (2048, 8, 8), (2048, 8, 8)),
    ]
    per_row = [sum(parameters[: modules[0]])]
    for first, last in ((0, 2), (3, 3), (4, 7), (8, 8), (9, 10)):
        per_row.append(sum(parameters[modules[first] : modules[last] + 1]))
    assert [*per_row, parameters[-1]] == [172672, 671072, 1153280, 6821376, 1698304, 11121408, 2049000]


def test_residual_inception_adds_a_scaled_residual():
    torch.manual_seed(0)
    x = torch.rand(2, 8, 5, 5, dtype=torch.float64) + 10  # so large that ReLU does nothing
    module = ResidualInception(8, scale=0.1).double().eval()
    paths, linear, _ = module.path
    torch.testing.assert_close(module(x), x + 0.1 * linear(paths(x)))
    assert torch.equal(ResidualInception(8, scale=0.0).double()(x - 10.5), F.relu(x - 10.5))
    assert linear.in_channels == 32 + 32 + 64
