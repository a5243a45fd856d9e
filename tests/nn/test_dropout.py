"""Dropout by few random numbers: torch's in distribution, entry by entry and jointly."""

import pytest
import torch
from torch import nn

from gnnlib.nn.drop import Dropout


@pytest.mark.parametrize("p", [0.1, 0.5, 0.6, 0.8, 0.999])
def test_drop_rate_and_mean(p):
    torch.manual_seed(0)
    n = 400_000
    y = Dropout(p)(torch.ones(n, dtype=torch.float64))
    nonzero = y != 0
    deviation = (p * (1 - p) / n) ** 0.5
    assert abs(nonzero.double().mean() - (1 - p)) < 4 * deviation + 2**-17
    assert y[nonzero].unique().numel() == 1
    torch.testing.assert_close(y[nonzero][0].item(), 1 / (1 - p), rtol=1e-2, atol=0)
    assert abs(y.mean() - 1) < 4 * deviation / (1 - p), "unbiased whatever p is rounded to"


def test_entries_are_independent_though_four_share_a_number():
    torch.manual_seed(1)
    nonzero = (Dropout(0.3)(torch.ones(100_000, 8)) != 0).double()
    correlation = torch.corrcoef(nonzero.T) - torch.eye(8)
    assert correlation.abs().max() < 5 / 100_000**0.5
    patterns = nonzero[:, :4] @ torch.tensor([8.0, 4.0, 2.0, 1.0], dtype=torch.float64)
    counts = torch.bincount(patterns.long(), minlength=16)
    num_kept = torch.tensor([bin(i).count("1") for i in range(16)])
    expected = 100_000 * 0.7**num_kept * 0.3 ** (4 - num_kept)
    assert ((counts - expected) ** 2 / expected).sum() < 40, "chi squared of 15 degrees of freedom: p < 0.0005"


def test_the_gradient_is_the_mask_to_any_order():
    torch.manual_seed(0)
    x = torch.randn(5, 7, dtype=torch.float64, requires_grad=True)
    drop = Dropout(0.5)
    y = drop(x)
    (grad,) = torch.autograd.grad(y.sum(), x)
    assert torch.equal(grad, 2.0 * (y != 0))
    state = torch.get_rng_state()

    def again(x):
        torch.set_rng_state(state)
        return drop(x).square()

    assert torch.autograd.gradcheck(again, x)
    assert torch.autograd.gradgradcheck(again, x)


def test_messages_follow_the_seed():
    x = torch.ones(3, 333)
    actual = [(torch.manual_seed(seed), Dropout(0.5)(x))[1] for seed in (0, 0, 1)]
    assert torch.equal(actual[0], actual[1])
    assert not torch.equal(actual[0], actual[2])


@pytest.mark.parametrize("shape", [(), (0,), (1,), (3, 5), (2, 3, 7)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_any_shape(shape, dtype):
    y = Dropout(0.5)(torch.ones(shape, dtype=dtype))
    assert (y.shape, y.dtype) == (torch.Size(shape), dtype)
    assert torch.isin(y, torch.tensor([0, 2], dtype=dtype)).all()


def test_strided_input():
    x = torch.arange(1.0, 101).view(10, 10).T
    y = Dropout(0.5)(x)
    assert torch.equal(y, torch.where(y == 0, 0, 2 * x))


def test_does_nothing_where_torchs_does_nothing():
    x = torch.randn(100)
    assert Dropout(0.5).eval()(x) is x
    assert torch.equal(Dropout(0.0)(x), x)
    assert torch.equal(Dropout(1.0)(x), torch.zeros(100))
    assert Dropout(0.999_999)(x).eq(0).sum() > 90, "nearer to 1 than a step: torch's"
    with pytest.raises(ValueError, match="between 0 and 1"):
        Dropout(1.5)
    y = Dropout(0.5, inplace=True)(nonzero := x.clone())
    assert y.data_ptr() == nonzero.data_ptr()
    assert isinstance(Dropout(0.5), nn.Dropout)
