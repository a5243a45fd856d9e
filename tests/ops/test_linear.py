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
    if not products._has_onednn_linear():
        pytest.skip("this PyTorch has no such product")
    monkeypatch.setattr(products, "_onednn_is_faster", lambda: True)
    monkeypatch.setattr(products, "SMALL", 1)


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
    inputs = draw(*shape, bias)
    actual, expected = linear(*inputs), nn.functional.linear(*inputs)
    close(actual, expected)
    loss = torch.randn_like(expected)
    for a, b in zip(*(torch.autograd.grad(y, inputs, loss) for y in (actual, expected)), strict=True):
        close(a, b)


def test_onednn_serves_large_float32_products_only(onednn, monkeypatch):
    calls = []
    real = products._product
    monkeypatch.setattr(products, "_product", lambda *inputs: calls.append(inputs) or real(*inputs))
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
    monkeypatch.setattr(products, "SMALL", 300 * 70 * 64 + 1)
    linear(x, weight)
    monkeypatch.setattr(products, "_onednn_is_faster", lambda: False)
    linear(x, weight)
    assert not calls


def test_second_derivatives(onednn):
    actual, expected = [], []
    for f, into in ((linear, actual), (nn.functional.linear, expected)):
        inputs = draw(40, 30, 20)
        first = torch.autograd.grad(f(*inputs).sin().sum(), inputs, create_graph=True)
        into += torch.autograd.grad(sum(g.square().sum() for g in first), inputs)
    for a, b in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-3)


def test_axes_strides_and_broadcast_gradients(onednn):
    x, weight = torch.randn(6, 5, 40), torch.randn(12, 40)
    close(linear(x, weight), nn.functional.linear(x, weight))
    close(linear(x.transpose(0, 1), weight), nn.functional.linear(x.transpose(0, 1), weight))
    close(linear(x[..., 3:30], weight[:, 3:30]), nn.functional.linear(x[..., 3:30], weight[:, 3:30]))
    close(linear(x, torch.randn(40, 12).T.copy_(weight)), nn.functional.linear(x, weight))
    close(linear(x, weight.repeat_interleave(2, 1)[:, ::2]), nn.functional.linear(x, weight))
    inputs = draw(40, 30, 20)
    grads = [torch.autograd.grad(f(*inputs).sum(), inputs) for f in (linear, nn.functional.linear)]  # strides of 0
    for a, b in zip(*grads, strict=True):
        close(a, b)


def test_any_number_of_threads_gives_the_same_bits(onednn, two_threads):
    """But for the weight's gradient: that product is MKL's, which on Intel's processors adds up in as many parts as
    there are threads."""
    inputs = draw(20000, 64, 64)

    def run(threads):
        torch.set_num_threads(threads)
        y = linear(*inputs)
        return [y, *torch.autograd.grad(y.square().sum(), inputs[:2])]

    first = run(1)
    for threads in (2, 1, 2):
        *same, weight = run(threads)
        assert all(map(torch.equal, first, same))
        close(weight, first[2])
        assert torch.equal(weight, first[2]) or products._is_intel()
    assert torch.equal(run(2)[2], weight)


def test_output_may_be_modified_in_place(onednn):
    x, weight, bias = draw(300, 70, 64)
    y = linear(x, weight, bias)
    assert y._base is None
    loss = torch.randn_like(y)
    actual = torch.autograd.grad(y.relu_(), (x, weight, bias), loss)
    for a, b in zip(actual, torch.autograd.grad(nn.functional.linear(x, weight, bias).relu(), (x, weight, bias), loss)):
        close(a, b)


def test_wrong_width_raises_torchs_error(onednn):
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
        (False, "AVX512", True, products._has_onednn_linear()),
        (True, "AVX512", True, False),
        (False, "AVX2", True, False),
        (False, "AVX512", False, False),
    ):
        monkeypatch.setattr(products, "_is_intel", lambda intel=intel: intel)
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda capability=capability: capability)
        monkeypatch.setattr(torch.backends.mkl, "is_available", lambda mkl=mkl: mkl)
        monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
        assert products._onednn_is_faster.__wrapped__() is expected


# ---------------------------------------------------------------- bfloat16 without instructions for it


@pytest.fixture
def widened(monkeypatch):
    """As on a processor without instructions for bfloat16, whatever the shape; PyTorch's product is not called."""

    def refuse(*_):
        raise AssertionError("expected the product in float32")

    monkeypatch.setattr(products, "_has_bfloat16", lambda: False)
    monkeypatch.setattr(products, "SMALL", 1)
    monkeypatch.setattr(products, "ROWS", 64)
    monkeypatch.setattr(nn.functional, "linear", refuse)


def near(actual, exact):
    """To one rounding to bfloat16."""
    assert actual.shape == exact.shape
    largest = exact.abs().max().item() if exact.numel() else 0.0
    torch.testing.assert_close(actual.double(), exact, rtol=2**-8, atol=1e-6 * (1 + largest))


def derivatives(x, weight, bias, loss):
    """Values and derivatives of the linear map in float64."""
    x, weight, bias = (t.detach().double().requires_grad_() for t in (x, weight, bias))
    y = x @ weight.T + bias
    return y, *torch.autograd.grad(y, (x, weight, bias), loss.double())


@pytest.mark.parametrize("shape", [(1, 1, 1), (63, 5, 3), (64, 70, 64), (65, 3, 9), (300, 9, 3)])
def test_widened_values_and_first_derivatives(widened, shape):
    inputs = [t.detach().bfloat16().requires_grad_() for t in draw(*shape)]
    y = linear(*inputs)
    loss = torch.randn_like(y)
    grads = torch.autograd.grad(y, inputs, loss)
    assert {t.dtype for t in (y, *grads)} == {torch.bfloat16}
    for actual, exact in zip((y, *grads), derivatives(*inputs, loss), strict=True):
        near(actual, exact)
    x, weight, _ = inputs
    near(linear(x, weight), x.detach().double() @ weight.detach().double().T)


def test_widened_under_autocast(widened):
    """The features are rounded; the weights and their gradients stay float32."""
    x, weight, bias = draw(300, 9, 3)
    with torch.autocast("cpu", torch.bfloat16):
        y = linear(x, weight, bias)
        loss = torch.randn_like(y)
        grads = torch.autograd.grad(y, (x, weight, bias), loss)
    assert y.dtype == torch.bfloat16
    assert [t.dtype for t in grads] == [torch.float32] * 3
    exact = derivatives(x.bfloat16(), weight, bias, loss)
    near(y, exact[0])
    near(grads[0], exact[1])
    for actual, expected in zip(grads[1:], exact[2:], strict=True):
        torch.testing.assert_close(actual.double(), expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("has_bias", [True, False])
def test_widened_second_derivatives(widened, has_bias):
    inputs = [t.detach().bfloat16().requires_grad_() for t in draw(40, 30, 20)[: 2 + has_bias]]
    exact = [t.detach().double().requires_grad_() for t in inputs]
    seconds = []
    for f, leaves in ((linear, inputs), (lambda x, w, b=0.0: x @ w.T + b, exact)):
        first = torch.autograd.grad(f(*leaves).sin().sum(), leaves, create_graph=True)
        seconds.append(torch.autograd.grad(sum(g.square().sum() for g in first), leaves))
    for actual, expected in zip(*seconds, strict=True):
        assert (actual.double() - expected).abs().max() <= 0.05 * expected.abs().max()


@pytest.mark.parametrize("grad", [True, False])
def test_wide_linear_keeps_float32_sums(monkeypatch, grad):
    monkeypatch.setattr(products, "SMALL", 1)
    x, weight, _ = (t.detach().bfloat16().requires_grad_(grad) for t in draw(3000, 9, 3))
    with torch.autocast("cpu", torch.bfloat16):
        y = products.wide_linear(x, weight)
    assert y.dtype == torch.float32
    assert y.requires_grad is grad
    torch.testing.assert_close(y.double(), x.double() @ weight.double().T, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("onednn", "flags", "expected"),
    [
        (True, "avx512f avx512_bf16", True),
        (True, "amx_bf16", True),
        (True, "avx512f avx512bw", False),
        (True, "", True),
        (False, "avx512_bf16", False),
    ],
)
def test_which_processors_have_bfloat16(monkeypatch, onednn, flags, expected):
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: onednn)
    monkeypatch.setattr(products, "_processor_flags", lambda: set(flags.split()))
    assert products._has_bfloat16.__wrapped__() is (expected and torch.ops.mkldnn._is_mkldnn_bf16_supported())
