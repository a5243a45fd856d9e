"""Linear layers whose matrix products run on MKL or oneDNN, whichever is faster on the processor.

Dense float32 products take most of the time of many layers. PyTorch calls MKL for them. On processors that are not
Intel's, MKL uses AVX2 even where AVX-512 is available. oneDNN, which PyTorch contains for convolutions and bfloat16,
uses AVX-512 wherever it is available.

PyTorch computes products in bfloat16 by oneDNN. Where the processor has no instructions for them, this takes several
times as long as in float32. There `linear` widens a few thousand rows at a time and multiplies them in float32.
"""

import platform
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.autograd import Function, forward_ad

from gnnlib._utils.calls import names_checked
from gnnlib.graph._adjacency import transforms_active
from gnnlib.graph._check import features_error
from gnnlib.kernels.half import computed

__all__ = ["Linear", "linear", "wide_linear"]

SMALL = 1 << 20  # multiply-adds; below it the overhead of a call dominates
ROWS = 4096  # that are widened at a time: with fewer, threads wait for each other; more do not stay in the caches


@cache
def _onednn_is_faster() -> bool:
    """Evaluated at the first large product, not at import."""
    available = torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()
    return (
        available and torch.backends.cpu.get_cpu_capability() == "AVX512" and not _is_intel() and _has_onednn_linear()
    )


def _is_intel() -> bool:
    try:
        return "GenuineIntel" in Path("/proc/cpuinfo").read_text()
    except OSError:
        return "AMD" not in platform.processor()


def _has_onednn_linear() -> bool:
    """Whether PyTorch has the operator of torch.compile's linear layers, which has no public name."""
    try:
        return torch.equal(_product(torch.ones(2, 3), torch.ones(1, 3), None), torch.full((2, 1), 3.0))
    except (AttributeError, RuntimeError):
        return False


def _product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    if not (weight.is_contiguous() or weight.T.is_contiguous()):  # else a slow loop takes it
        weight = weight.contiguous()
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    r"""Computes y = x W^T + b, as ``torch.nn.functional.linear``, with derivatives of any order.

    Args:
        x: the input
        weight: W
        bias: b

    Shapes:
        - x: (\*, K)
        - weight: (N, K)
        - bias: (N,)
        - output: (\*, N)

    Example:
        >>> import torch
        >>> from gnnlib.ops.linear import linear
        >>> linear(torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 4.0]]), torch.tensor([0.5])).tolist()
        [[11.5]]
    """
    if not _is_large(x, weight):
        return nn.functional.linear(x, weight, bias)
    function: type[Function] | None = None
    if _in_float32(x, weight):
        function = _Linear if _onednn_is_faster() else None
    elif _in_bfloat16(x, weight) and not _has_bfloat16():
        function, x = _WidenedLinear, x.to(torch.bfloat16)
    if function is None:
        return nn.functional.linear(x, weight, bias)
    if x.dim() == 2:  # no view: an in-place operation on y would have to copy it
        return function.apply(x, weight, bias)
    return function.apply(x.reshape(-1, x.shape[-1]), weight, bias).view(*x.shape[:-1], len(weight))


def _is_large(x: Tensor, weight: Tensor) -> bool:
    """Large products on the CPU, outside of PyTorch's transforms."""
    return (
        not torch.compiler.is_compiling()
        and x.device.type == weight.device.type == "cpu"
        and x.layout is torch.strided
        and x.numel() * len(weight) >= SMALL
        and x.shape[-1] == weight.shape[-1]  # else PyTorch's error says what is wrong
        and not transforms_active()
        and forward_ad._current_level < 0
    )


def _in_float32(x: Tensor, weight: Tensor) -> bool:
    """Products at full precision."""
    return (
        x.dtype == weight.dtype == torch.float32
        and torch.get_float32_matmul_precision() == "highest"
        and not torch.is_autocast_enabled("cpu")
    )


def _in_bfloat16(x: Tensor, weight: Tensor) -> bool:
    """Products that PyTorch computes in bfloat16, by the type of the factors or under autocast."""
    if torch.is_autocast_enabled("cpu"):
        dtypes = {x.dtype, weight.dtype} - {torch.float32, torch.bfloat16}
        return torch.get_autocast_dtype("cpu") == torch.bfloat16 and not dtypes
    return x.dtype == weight.dtype == torch.bfloat16


@cache
def _has_bfloat16() -> bool:
    """Whether oneDNN multiplies bfloat16 by instructions of the processor."""
    if not (torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()):
        return False
    flags = _processor_flags()
    return not flags or bool(flags & {"avx512_bf16", "amx_bf16"})


def _processor_flags() -> set[str]:
    """The features of an x86 processor, as Linux names them; empty where they are not known."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return set()
    return set(next((line for line in lines if line.startswith("flags")), "").split())


class _Linear(Function):
    """x (M, K), weight (N, K), bias (N,) or None -> (M, N)

    The gradient of the weight is computed by MKL: oneDNN would first transpose both factors, which takes longer. MKL is
    slower if the wider factor comes first.
    """

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x if ctx.needs_input_grad[1] else None, weight if ctx.needs_input_grad[0] else None)
        return _product(x, weight, bias)

    @staticmethod
    def backward(ctx, grad: Tensor):
        (x, weight), grad = ctx.saved_tensors, grad.contiguous()
        dx = linear(grad, weight.T) if ctx.needs_input_grad[0] else None
        dw = _thin_first(grad, x) if ctx.needs_input_grad[1] else None
        return dx, dw, grad.sum(0) if ctx.needs_input_grad[2] else None


class _WidenedLinear(Function):
    """x (M, K) in bfloat16, weight (N, K), bias (N,) or None -> (M, N) in bfloat16, with float32 sums."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _widened_product(x, weight, bias, x.dtype)

    @staticmethod
    def backward(ctx, grad: Tensor):
        (x, weight), needs = ctx.saved_tensors, ctx.needs_input_grad
        with torch.autocast("cpu", enabled=False):
            if torch.is_grad_enabled() or transforms_active():
                wide = grad.float()
                bias = wide.sum(0) if needs[2] else None
                return (wide @ weight.float()).to(x.dtype), (wide.T @ x.float()).to(weight.dtype), bias
            return _widened_grads(grad, x, weight, needs)


def _blocks(count: int) -> Iterator[slice]:
    return (slice(start, min(start + ROWS, count)) for start in range(0, count, ROWS))


def _widened_product(x: Tensor, weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> Tensor:
    """x W^T + b in float32, rounded to ``dtype``."""
    y, weight = x.new_empty(len(x), len(weight), dtype=dtype), weight.float().T
    bias, wide = None if bias is None else bias.float(), torch.empty(min(ROWS, len(x)), x.shape[1])
    product = torch.empty(len(wide), y.shape[1])
    for rows in _blocks(len(x)):
        part, out = (buffer[: rows.stop - rows.start] for buffer in (wide, product))
        part.copy_(x[rows])
        y[rows] = torch.mm(part, weight, out=out) if bias is None else torch.addmm(bias, part, weight, out=out)
    return y


def _widened_grads(grad: Tensor, x: Tensor, weight: Tensor, needs: Sequence[bool]) -> tuple[Tensor | None, ...]:
    """The gradients of x, the weight and the bias that are needed, from one pass over the rows."""
    wide_weight, rows_at_once = weight.float(), min(ROWS, len(x))
    wide_grad, wide_x = (torch.empty(rows_at_once, t.shape[1]) for t in (grad, x))
    dx = torch.empty_like(x) if needs[0] else None
    dw = torch.zeros_like(wide_weight) if needs[1] else None
    db = wide_weight.new_zeros(len(weight)) if needs[2] else None
    for rows in _blocks(len(x)):
        g, part = (buffer[: rows.stop - rows.start] for buffer in (wide_grad, wide_x))
        g.copy_(grad[rows])
        if dw is not None:
            _add_thin_first(dw, g, part.copy_(x[rows]))
        if db is not None:
            db += g.sum(0)
        if dx is not None:
            dx[rows] = torch.mm(g, wide_weight, out=part)
    return dx, None if dw is None else dw.to(weight.dtype), db


def _add_thin_first(sums: Tensor, a: Tensor, b: Tensor) -> None:
    """Adds a^T b to the sums."""
    if a.shape[1] <= b.shape[1]:
        sums.addmm_(a.T, b)
    else:
        sums.T.addmm_(b.T, a)


def wide_linear(x: Tensor, weight: Tensor) -> Tensor:
    r"""`linear` whose result keeps its float32 sums where x is in half precision.

    Args:
        x: the input
        weight: W

    Shapes:
        - x: (M, K)
        - weight: (N, K)
        - output: (M, N)
    """
    if x.dtype == computed(x.dtype):
        return linear(x, weight)
    with torch.autocast(x.device.type, enabled=False):
        differentiable = torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad)
        if differentiable or not _is_large(x, weight):
            return linear(x.float(), weight.float())
        return _widened_product(x, weight, None, torch.float32)


def _thin_first(a: Tensor, b: Tensor) -> Tensor:
    """a^T b"""
    return a.T @ b if a.shape[1] <= b.shape[1] else (b.T @ a).T


@names_checked()
class Linear(nn.Linear):
    """``torch.nn.Linear`` on the faster of MKL and oneDNN: the same arguments, parameters and values.

    Example:
        >>> import torch
        >>> from gnnlib import Linear
        >>> layer = Linear(2, 3)
        >>> isinstance(layer, torch.nn.Linear), layer(torch.ones(5, 2)).shape
        (True, torch.Size([5, 3]))
    """

    def forward(self, x: Tensor) -> Tensor:
        r"""Computes y = x W^T + b.

        Args:
            x: the input

        Shapes:
            - x: (\*, in_features)
            - output: (\*, out_features)

        Returns:
            y

        Raises:
            TypeError: if x is no tensor, or of another type than the weight
            ValueError: if x has another width
        """
        try:
            return linear(x, self.weight, self.bias)
        except (AttributeError, TypeError, RuntimeError):
            wrong = features_error("Linear", x, width=self.in_features, like=self.weight)
            if wrong is not None:
                raise wrong from None
            raise
