"""What the classic networks are made of besides torch's own layers: branches, shortcuts, normalised convolutions."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

__all__ = ["Branches", "Chain", "Shortcut", "conv_norm", "conv_norm_relu", "conv_relu", "start"]

Size: TypeAlias = int | tuple[int, int]


class Chain(nn.Sequential):
    """Layers one after another, as torch has them, for classes with a constructor of their own: a slice of
    `torch.nn.Sequential` calls that constructor; here it is a plain ``nn.Sequential``.

    >>> Chain(nn.ReLU(), nn.Tanh())[1:]
    Sequential(
      (1): Tanh()
    )
    """

    def __getitem__(self, idx: slice | int) -> Any:
        if isinstance(idx, slice):
            return nn.Sequential(OrderedDict(list(self.named_children())[idx]))
        return super().__getitem__(idx)


class Branches(nn.Module):
    """Several paths from one input; their maps side by side: cat(path_1(x), ..., path_n(x)) along the channels.

    >>> Branches(nn.Identity(), nn.Conv2d(3, 5, 1))(torch.ones(2, 3, 4, 4)).shape
    torch.Size([2, 8, 4, 4])
    """

    def __init__(self, *paths: nn.Module):
        super().__init__()
        self.paths = nn.ModuleList(paths)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([path(x) for path in self.paths], 1)


class Shortcut(nn.Module):
    r"""Residual block (He et al. 2016, arXiv 1512.03385, equations 1 and 2).

    .. math:: y = \mathrm{ReLU}(\mathrm{path}(x) + \mathrm{shortcut}(x))

    Args:
        path: the layers to go past
        shortcut: what x goes through beside them; default: nothing

    >>> Shortcut(nn.Identity())(torch.tensor([-1.0, 2.0])).tolist()
    [0.0, 4.0]
    """

    def __init__(self, path: nn.Module, shortcut: nn.Module | None = None):
        super().__init__()
        self.path = path
        self.shortcut = nn.Identity() if shortcut is None else shortcut
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.path(x) + self.shortcut(x))


def conv_relu(
    in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, padding: int | None = None
) -> nn.Sequential:
    """Convolution with bias, ReLU. ``padding`` None: half the kernel, which keeps the size where stride is 1."""
    conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, _half(kernel_size) if padding is None else padding)
    return nn.Sequential(conv, nn.ReLU())


def conv_norm(
    in_channels: int, out_channels: int, kernel_size: Size, stride: int = 1, padding: Size | None = None
) -> nn.Sequential:
    """Convolution without bias, batch normalisation (Ioffe and Szegedy 2015, arXiv 1502.03167)."""
    padding = _half(kernel_size) if padding is None else padding
    conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels))


def conv_norm_relu(
    in_channels: int, out_channels: int, kernel_size: Size, stride: int = 1, padding: Size | None = None
) -> nn.Sequential:
    """Convolution without bias, batch normalisation, ReLU."""
    return conv_norm(in_channels, out_channels, kernel_size, stride, padding).append(nn.ReLU())


def _half(kernel_size: Size) -> Size:
    return kernel_size // 2 if isinstance(kernel_size, int) else (kernel_size[0] // 2, kernel_size[1] // 2)


def start(model: nn.Module, weight: Callable[[Tensor], object] = nn.init.kaiming_normal_) -> None:
    """Start the weights of convolutions and linear layers, and their biases at 0.

    The default is for ReLU (He et al. 2015, arXiv 1502.01852, equation 10): normal with variance 2 / fan_in.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            weight(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
