"""Building blocks of the classic networks: branches, shortcuts, normalised convolutions, initialisation."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

__all__ = ["Branches", "Chain", "Shortcut", "conv_norm", "conv_norm_relu", "conv_relu", "start"]

Size: TypeAlias = int | tuple[int, int]


class Chain(nn.Sequential):
    """``torch.nn.Sequential`` for subclasses with another constructor: a slice is a plain ``nn.Sequential``.

    Example:
        >>> from torch import nn
        >>> from gnnlib.models.vision.blocks import Chain
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
    """Branches from one input, concatenated along the channels: cat(path_1(x), ..., path_n(x)).

    Args:
        paths: modules of the same input

    Shapes:
        - x: (B, C, H, W)
        - output: (B, sum of the paths' channels, H', W')

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from gnnlib.models.vision.blocks import Branches
        >>> Branches(nn.Identity(), nn.Conv2d(3, 5, 1))(torch.ones(2, 3, 4, 4)).shape
        torch.Size([2, 8, 4, 4])
    """

    def __init__(self, *paths: nn.Module):
        super().__init__()
        self.paths = nn.ModuleList(paths)

    def forward(self, x: Tensor) -> Tensor:
        """Apply all paths.

        Args:
            x: maps, (B, C, H, W)

        Returns:
            The outputs, concatenated along the channels.
        """
        return torch.cat([path(x) for path in self.paths], 1)


class Shortcut(nn.Module):
    r"""Residual block (He et al. 2016, arXiv 1512.03385, equations 1 and 2).

    .. math:: y = \mathrm{ReLU}(\mathrm{path}(x) + \mathrm{shortcut}(x))

    Args:
        path: the residual function
        shortcut: called on x; default: the identity

    Shapes:
        - x: as the path takes it
        - output: as the path gives it

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from gnnlib.models.vision.blocks import Shortcut
        >>> Shortcut(nn.Identity())(torch.tensor([-1.0, 2.0])).tolist()
        [0.0, 4.0]
    """

    def __init__(self, path: nn.Module, shortcut: nn.Module | None = None):
        super().__init__()
        self.path = path
        self.shortcut = nn.Identity() if shortcut is None else shortcut
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Add the path and the shortcut.

        Args:
            x: as the path takes it

        Returns:
            The sum, with ReLU.
        """
        return self.relu(self.path(x) + self.shortcut(x))


def conv_relu(
    in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, padding: int | None = None
) -> nn.Sequential:
    """Convolution with bias, ReLU.

    Args:
        in_channels: of the convolution, as are out_channels, kernel_size and stride
        padding: None for half the kernel, which keeps the size if stride is 1

    Returns:
        The modules in a row.
    """
    conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, _half(kernel_size) if padding is None else padding)
    return nn.Sequential(conv, nn.ReLU())


def conv_norm(
    in_channels: int, out_channels: int, kernel_size: Size, stride: int = 1, padding: Size | None = None
) -> nn.Sequential:
    """Convolution without bias, batch normalisation (Ioffe and Szegedy 2015, arXiv 1502.03167).

    Args:
        in_channels: of the convolution, as are out_channels, kernel_size and stride
        padding: None for half the kernel, which keeps the size if stride is 1

    Returns:
        The modules in a row.
    """
    padding = _half(kernel_size) if padding is None else padding
    conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels))


def conv_norm_relu(
    in_channels: int, out_channels: int, kernel_size: Size, stride: int = 1, padding: Size | None = None
) -> nn.Sequential:
    """Convolution without bias, batch normalisation, ReLU.

    Args:
        in_channels: of the convolution, as are out_channels, kernel_size and stride
        padding: None for half the kernel, which keeps the size if stride is 1

    Returns:
        The modules in a row.
    """
    return conv_norm(in_channels, out_channels, kernel_size, stride, padding).append(nn.ReLU())


def _half(kernel_size: Size) -> Size:
    return kernel_size // 2 if isinstance(kernel_size, int) else (kernel_size[0] // 2, kernel_size[1] // 2)


def start(model: nn.Module, weight: Callable[[Tensor], object] = nn.init.kaiming_normal_) -> None:
    """Initialise the weights of convolutions and linear layers, and their biases with 0.

    Args:
        model: changed in place
        weight: initialiser of weights. The default is for ReLU (He et al. 2015, arXiv 1502.01852, equation 10): normal
            with variance 2 / fan_in
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            weight(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
