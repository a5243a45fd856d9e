"""Products with weights, by whichever of PyTorch's libraries is faster on the processor at hand.

Dense float32 products are most of a step of many layers. PyTorch gives them to MKL, which on processors that are not
Intel's takes its AVX2 path even where there is AVX-512; oneDNN, which PyTorch holds too, but uses for convolutions and
bfloat16, takes AVX-512 wherever it is.
"""

import platform
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.autograd import Function

__all__ = ["Linear", "linear"]

FEW = 1 << 20  # multiply-adds; with fewer, what a call costs by itself counts


@cache
def _onednn_is_faster() -> bool:
    """Asked at the first large product, not at import."""
    has = torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()
    return has and torch.backends.cpu.get_cpu_capability() == "AVX512" and not _made_by_intel() and _is_there()


def _made_by_intel() -> bool:
    try:
        return "GenuineIntel" in Path("/proc/cpuinfo").read_text()
    except OSError:
        return "AMD" not in platform.processor()


def _is_there() -> bool:
    """What torch.compile calls for a linear layer has no public name; another PyTorch may not have it."""
    try:
        return torch.equal(_product(torch.ones(2, 3), torch.ones(1, 3), None), torch.full((2, 1), 3.0))
    except (AttributeError, RuntimeError):
        return False


def _product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    if not (weight.is_contiguous() or weight.T.is_contiguous()):  # else a slow loop takes it
        weight = weight.contiguous()
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """y = x W^T + b, as ``torch.nn.functional.linear``, with derivatives of any order.

    Shapes: x (\\*, K), weight (N, K), bias (N,); returns (\\*, N).

    >>> linear(torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 4.0]]), torch.tensor([0.5])).tolist()
    [[11.5]]
    """
    if not _fits(x, weight) or not _onednn_is_faster():
        return nn.functional.linear(x, weight, bias)
    if x.dim() == 2:  # not a view, which what is done to y in place would have to copy
        return _Linear.apply(x, weight, bias)
    return _Linear.apply(x.reshape(-1, x.shape[-1]), weight, bias).view(*x.shape[:-1], len(weight))


def _fits(x: Tensor, weight: Tensor) -> bool:
    """Large products of float32 on the CPU, where nobody asked for fewer digits."""
    return (
        x.device.type == weight.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and x.numel() * len(weight) >= FEW
        and x.shape[-1] == weight.shape[-1]  # else PyTorch's error says what is wrong
        and torch.get_float32_matmul_precision() == "highest"
        and not torch.is_autocast_enabled("cpu")
    )


class _Linear(Function):
    """x (M, K), weight (N, K), bias (N,) or None -> (M, N)

    The weight's gradient is MKL's: oneDNN would first turn both of its factors round, which takes longer. MKL is
    slower where the wider factor comes first.
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


def _thin_first(a: Tensor, b: Tensor) -> Tensor:
    """a^T b"""
    return a.T @ b if a.shape[1] <= b.shape[1] else (b.T @ a).T


class Linear(nn.Linear):
    """``nn.Linear`` by `linear`: the same arguments, parameters and values.

    >>> layer = Linear(2, 3)
    >>> isinstance(layer, nn.Linear), layer(torch.ones(5, 2)).shape
    (True, torch.Size([5, 3]))
    """

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias)
