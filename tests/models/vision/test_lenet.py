"""LeNet-5, layer by layer, as the paper counts and defines it."""

from math import exp, log

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from gnnlib.models import LeNet5, PartialConv2d, RadialBasis, ScaledTanh, Subsampling, lenet_input, rbf_loss
from gnnlib.models.vision.lenet import C3_INPUTS, digit_codes

TABLE_1 = """
X...XXX..XXXX.XX
XX...XXX..XXXX.X
XXX...XXX..X.XXX
.XXX..XXXX..X.XX
..XXX..XXXX.XX.X
...XXX..XXXX.XXX
"""  # rows: maps of S2, columns: maps of C3


@pytest.fixture
def rng():
    return torch.Generator().manual_seed(0)


def random(rng, *shape):
    return torch.randn(*shape, generator=rng, dtype=torch.float64)


def test_layers_have_the_papers_parameters_and_sizes():
    network = LeNet5()
    x = torch.zeros(2, 1, 32, 32)
    seen = {}
    for name, layer in network.named_children():
        x = layer(x)
        seen[name] = (tuple(x.shape[1:]), sum(p.numel() for p in layer.parameters()))
    assert {name: seen[name] for name in ("c1", "s2", "c3", "s4", "c5", "f6", "output")} == {
        "c1": ((6, 28, 28), 156),
        "s2": ((6, 14, 14), 12),
        "c3": ((16, 10, 10), 1516),
        "s4": ((16, 5, 5), 32),
        "c5": ((120, 1, 1), 48120),
        "f6": ((84,), 10164),
        "output": ((10,), 0),
    }


def test_c3_has_the_published_table():
    expected = torch.tensor([[cell == "X" for cell in row] for row in TABLE_1.split()]).T
    table = LeNet5().c3.table
    assert torch.equal(table, expected)
    assert table.sum() == 60
    assert table.sum(0).tolist() == [10] * 6  # each map of S2 is seen ten times


def test_c3_sees_contiguous_and_broken_sets():
    def contiguous(maps):  # on the ring of six
        return any({(first + i) % 6 for i in range(len(maps))} == set(maps) for first in range(6))

    kinds = [(len(maps), contiguous(maps)) for maps in C3_INPUTS]
    assert kinds == [(3, True)] * 6 + [(4, True)] * 6 + [(4, False)] * 3 + [(6, True)]
    assert len(set(map(frozenset, C3_INPUTS))) == 16


def test_partial_convolution_is_a_convolution_with_zeroed_kernels(rng):
    partial = PartialConv2d(6, C3_INPUTS, 5).double()
    dense = nn.Conv2d(6, 16, 5).double()
    with torch.no_grad():
        dense.weight.zero_()
        k = 0
        for out, maps in enumerate(C3_INPUTS):
            for channel in sorted(maps):
                dense.weight[out, channel] = partial.weight[k]
                k += 1
        dense.bias.copy_(partial.bias)
    x = random(rng, 2, 6, 9, 8)
    y, expected = partial(x), dense(x)
    assert torch.equal(y, expected)
    assert torch.equal(partial.dense_weight(), dense.weight)
    error = random(rng, *y.shape)
    y.backward(error)
    expected.backward(error)
    assert torch.equal(partial.weight.grad, dense.weight.grad[partial.table])
    assert torch.equal(partial.bias.grad, dense.bias.grad)


def test_partial_convolution_differentiates_twice(rng):
    conv = PartialConv2d(3, [(0, 2), (1,)], 2).double()
    x = random(rng, 1, 3, 3, 3).requires_grad_()

    def apply(x, weight, bias):
        return torch.func.functional_call(conv, {"weight": weight, "bias": bias}, x)

    assert torch.autograd.gradcheck(apply, (x, conv.weight, conv.bias))
    assert torch.autograd.gradgradcheck(apply, (x, conv.weight, conv.bias))


@pytest.mark.parametrize("maps", [(), (0, 0), (3,), (-1,)])
def test_partial_convolution_refuses_wrong_maps(maps):
    with pytest.raises(ValueError, match=r"expected different maps of 0 to 2, got \("):
        PartialConv2d(3, [(0, 1), maps], 5)


def test_subsampling_is_its_formula(rng):
    layer = Subsampling(3).double()
    x = random(rng, 2, 3, 6, 4)
    y = layer(x)
    for c in range(3):
        for r in range(3):
            for s in range(2):
                total = x[:, c, 2 * r : 2 * r + 2, 2 * s : 2 * s + 2].sum((1, 2))
                expected = layer.coefficient[c, 0, 0] * total + layer.bias[c, 0, 0]
                torch.testing.assert_close(y[:, c, r, s], expected)


def test_squashing_function():
    f = ScaledTanh()
    a = torch.tensor([-1.0, 0.0, 1.0, 1e9], dtype=torch.float64, requires_grad=True)
    y = f(a)
    torch.testing.assert_close(y, a.new_tensor([-1.0, 0.0, 1.0, 1.7159]), atol=1e-4, rtol=0)
    (slope,) = torch.autograd.grad(y.sum(), a)
    assert slope[1] == pytest.approx(1.7159 * 2 / 3)


def test_radial_basis_is_minus_the_squared_distance(rng):
    codes, x = random(rng, 5, 7), random(rng, 4, 7)
    torch.testing.assert_close(RadialBasis(codes)(x), -torch.cdist(x, codes).square())
    assert RadialBasis(codes)(codes).argmax(1).tolist() == [0, 1, 2, 3, 4]
    assert RadialBasis(codes)(codes).max(1).values.tolist() == [0.0] * 5


def test_codes_are_ten_different_bitmaps():
    codes = digit_codes()
    assert codes.shape == (10, 7 * 12)
    assert codes.abs().eq(1).all()
    apart = (codes[:, None] != codes).sum(-1) + 84 * torch.eye(10, dtype=torch.long)
    assert apart.min() >= 13  # 8 and 0 are the nearest
    one = codes[1].view(12, 7)
    assert one[-1].tolist() == [-1, 1, 1, 1, 1, 1, -1]  # the foot of the one


@pytest.mark.parametrize("j", [0.1, 1.0, 20.0])
def test_loss_is_equation_nine(rng, j):
    distances = 10 * random(rng, 6, 4).abs()
    target = torch.tensor([0, 3, 2, 1, 1, 0])
    expected = 0.0
    for y, right in zip(distances.tolist(), target.tolist()):
        expected += y[right] + log(exp(-j) + sum(exp(-other) for other in y))
    assert rbf_loss(-distances, target, j).item() == pytest.approx(expected / 6)


def test_loss_leaves_classes_beyond_j_alone():
    scores = torch.tensor([[-0.1, -2.0, -30.0]], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(rbf_loss(scores, torch.tensor([0]), j=5.0), scores)
    assert slope[0, 0] < 0 < slope[0, 1]
    assert 0 < slope[0, 2] < 1e-12


def test_input_has_the_papers_grey_values_and_border():
    images = torch.rand(3, 1, 28, 28)
    images[0, 0, 0, 0], images[0, 0, 1, 1] = 0.0, 1.0
    x = lenet_input(images)
    assert x.shape == (3, 1, 32, 32)
    torch.testing.assert_close(x[:, :, 2:-2, 2:-2], images * 1.275 - 0.1)
    assert x[0, 0, 3, 3].item() == pytest.approx(1.175)
    x[:, :, 2:-2, 2:-2] = -0.1
    assert torch.equal(x, torch.full_like(x, -0.1))


def test_weights_start_within_the_papers_bounds():
    torch.manual_seed(0)
    network = LeNet5()
    bounds = {"c1": 25, "s2": 4, "s4": 4, "c5": 400, "f6": 120}
    for name, fan_in in bounds.items():
        for values in network.get_submodule(name).parameters():
            assert values.abs().max() <= 2.4 / fan_in
        assert next(network.get_submodule(name).parameters()).abs().max() > 0.5 * 2.4 / fan_in
    k = 0
    for out, maps in enumerate(C3_INPUTS):
        kernels = network.c3.weight[k : k + len(maps)]
        k += len(maps)
        assert 0.8 * 2.4 / (25 * len(maps)) < kernels.abs().max() <= 2.4 / (25 * len(maps))
        assert network.c3.bias[out].abs() <= 2.4 / (25 * len(maps))


@pytest.mark.slow
def test_learns_ten_patterns():
    torch.manual_seed(0)
    images = F.interpolate(digit_codes().view(10, 1, 12, 7).clamp(min=0), (28, 28))
    network, target = LeNet5(), torch.arange(10)
    optimizer = torch.optim.Adam(network.parameters(), 0.003)
    for _ in range(60):
        loss = rbf_loss(network(lenet_input(images)), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert network(lenet_input(images)).argmax(1).tolist() == list(range(10))
