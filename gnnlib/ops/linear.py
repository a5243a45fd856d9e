"""Linear layers whose matrix products run on MKL or oneDNN, whichever is faster on the processor.

Dense float32 products take most of the time of many layers. PyTorch calls MKL for them. On processors that are not
Intel's, MKL uses AVX2 even where AVX-512 is available. oneDNN, which PyTorch contains for convolutions and bfloat16,
uses AVX-512 wherever it is available.
"""

import platform
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.autograd import Function

from gnnlib._utils.calls import names_checked
from gnnlib.graph._check import features_error

__all__ = ["Linear", "linear"]

SMALL = 1 << 20  # multiply-adds; below it the overhead of a call dominates


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
    if not _fits(x, weight) or not _onednn_is_faster():
        return nn.functional.linear(x, weight, bias)
    if x.dim() == 2:  # no view: an in-place operation on y would have to copy it
        return _Linear.apply(x, weight, bias)
    return _Linear.apply(x.reshape(-1, x.shape[-1]), weight, bias).view(*x.shape[:-1], len(weight))


def _fits(x: Tensor, weight: Tensor) -> bool:
    """Large float32 products on the CPU at full precision."""
    return (
        x.device.type == weight.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and x.layout is torch.strided
        and x.numel() * len(weight) >= SMALL
        and x.shape[-1] == weight.shape[-1]  # else PyTorch's error says what is wrong
        and torch.get_float32_matmul_precision() == "highest"
        and not torch.is_autocast_enabled("cpu")
    )


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
