"""Products by oneDNN: values and derivatives of torch's own, the same bits on any number of threads."""

import pytest
import torch
from torch import nn

from gnnlib.ops import linear as products
from gnnlib.ops.linear import Linear, linear

SHAPES = [(1, 1, 1), (7, 5, 3), (300, 70, 64), (9000, 64, 50), (20000, 48, 65), (0, 4, 3), (6, 0, 3), (6, 4, 0)]


@pytest.fixture
def onednn(monkeypatch):
    """As on a processor where oneDNN is the faster one, whatever the shape."""
    if not products._is_there():
        pytest.skip("this PyTorch has no such product")
    monkeypatch.setattr(products, "_onednn_is_faster", lambda: True)
    monkeypatch.setattr(products, "FEW", 1)


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def draw(rows, wide, narrow, bias=True):
    torch.manual_seed(0)
    x, weight = torch.randn(rows, wide), torch.randn(narrow, wide)
    return [t.requires_grad_() for t in (x, weight, *([torch.randn(narrow)] if bias else []))]


def close(a, b):
    """To the rounding of sums of so many numbers."""
    torch.testing.assert_close(a, b, rtol=1e-5, atol=2e-6 * (1 + b.abs().max().item() if b.numel() else 1))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_values_and_first_derivatives(onednn, shape, bias):
    given = draw(*shape, bias)
    found, expected = linear(*given), nn.functional.linear(*given)
    close(found, expected)
    loss = torch.randn_like(expected)
    for a, b in zip(*(torch.autograd.grad(y, given, loss) for y in (found, expected)), strict=True):
        close(a, b)


def test_the_path_is_taken_and_only_where_it_fits(onednn, monkeypatch):
    calls = []
    real = products._product
    monkeypatch.setattr(products, "_product", lambda *given: calls.append(given) or real(*given))
    x, weight, bias = draw(300, 70, 64)
    linear(x, weight, bias).sum().backward()
    assert len(calls) == 2  # forward, and the gradient of x
    calls.clear()
    linear(x.double(), weight.double())
    linear(x.bfloat16(), weight.bfloat16())
    with torch.autocast("cpu", torch.bfloat16):
        assert linear(x, weight).dtype == torch.bfloat16
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    linear(x, weight)
    torch.set_float32_matmul_precision(before)
    monkeypatch.setattr(products, "FEW", 300 * 70 * 64 + 1)
    linear(x, weight)
    monkeypatch.setattr(products, "_onednn_is_faster", lambda: False)
    linear(x, weight)
    assert not calls


def test_second_derivatives(onednn):
    found, expected = [], []
    for f, into in ((linear, found), (nn.functional.linear, expected)):
        given = draw(40, 30, 20)
        first = torch.autograd.grad(f(*given).sin().sum(), given, create_graph=True)
        into += torch.autograd.grad(sum(g.square().sum() for g in first), given)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-3)


def test_axes_strides_and_broadcast_gradients(onednn):
    x, weight = torch.randn(6, 5, 40), torch.randn(12, 40)
    close(linear(x, weight), nn.functional.linear(x, weight))
    close(linear(x.transpose(0, 1), weight), nn.functional.linear(x.transpose(0, 1), weight))
    close(linear(x[..., 3:30], weight[:, 3:30]), nn.functional.linear(x[..., 3:30], weight[:, 3:30]))
    close(linear(x, torch.randn(40, 12).T.copy_(weight)), nn.functional.linear(x, weight))
    close(linear(x, weight.repeat_interleave(2, 1)[:, ::2]), nn.functional.linear(x, weight))
    given = draw(40, 30, 20)
    grads = [torch.autograd.grad(f(*given).sum(), given) for f in (linear, nn.functional.linear)]  # strides of 0
    for a, b in zip(*grads, strict=True):
        close(a, b)


def test_any_number_of_threads_gives_the_same_bits(onednn, two_threads):
    """But for the weight's gradient: that product is MKL's, which on Intel's processors adds up in as many parts as
    there are threads."""
    given = draw(20000, 64, 64)

    def run(threads):
        torch.set_num_threads(threads)
        y = linear(*given)
        return [y, *torch.autograd.grad(y.square().sum(), given[:2])]

    first = run(1)
    for threads in (2, 1, 2):
        *same, weight = run(threads)
        assert all(map(torch.equal, first, same))
        close(weight, first[2])
        assert torch.equal(weight, first[2]) or products._made_by_intel()
    assert torch.equal(run(2)[2], weight)


def test_what_comes_out_may_be_changed_in_place(onednn):
    x, weight, bias = draw(300, 70, 64)
    y = linear(x, weight, bias)
    assert y._base is None
    loss = torch.randn_like(y)
    found = torch.autograd.grad(y.relu_(), (x, weight, bias), loss)
    for a, b in zip(found, torch.autograd.grad(nn.functional.linear(x, weight, bias).relu(), (x, weight, bias), loss)):
        close(a, b)


def test_a_wrong_width_is_torchs_error(onednn):
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        linear(torch.ones(3, 4), torch.ones(2, 5))


def test_the_layer_is_torchs(onednn):
    torch.manual_seed(0)
    ours = Linear(30, 20)
    torch.manual_seed(0)
    torchs = nn.Linear(30, 20)
    assert all(map(torch.equal, ours.parameters(), torchs.parameters()))
    ours.load_state_dict(torchs.state_dict())
    x = torch.randn(7, 30)
    close(ours(x), torchs(x))
    assert repr(ours) == repr(torchs)


def test_which_processors(monkeypatch):
    """Only where PyTorch has both, AVX-512 is there, and MKL would not use it."""
    for intel, capability, mkl, expected in (
        (False, "AVX512", True, products._is_there()),
        (True, "AVX512", True, False),
        (False, "AVX2", True, False),
        (False, "AVX512", False, False),
    ):
        monkeypatch.setattr(products, "_made_by_intel", lambda intel=intel: intel)
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda capability=capability: capability)
        monkeypatch.setattr(torch.backends.mkl, "is_available", lambda mkl=mkl: mkl)
        monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
        assert products._onednn_is_faster.__wrapped__() is expected
