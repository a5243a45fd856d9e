"""Inception modules (Szegedy et al. 2015, 2016, 2017): parallel kernel sizes, factorised kernels, residuals."""

from typing import TypeAlias

from torch import Tensor, nn

from gnnlib._utils.calls import names_checked
from gnnlib.models.vision.blocks import Branches, Chain, Shortcut, conv_norm_relu, conv_relu, start

__all__ = [
    "AsymmetricInception",
    "ExpandedInception",
    "Inception",
    "InceptionV3",
    "ResidualInception",
    "StackedInception",
]

Step: TypeAlias = tuple[int, int | tuple[int, int]]  # maps, kernel size


@names_checked()
class Inception(Branches):
    """Inception module with dimension reduction (Szegedy et al. 2015, arXiv 1409.4842, figure 2b): 1 x 1; 1 x 1 then
    3 x 3; 1 x 1 then 5 x 5; 3 x 3 max-pooling then 1 x 1, concatenated, ReLU after each convolution.

    Args:
        in_channels: maps of the input
        ones: maps of the first path
        reduce3, threes: maps of the second path
        reduce5, fives: maps of the third path
        pooled: maps of the fourth path

    Shapes:
        - x: (B, in_channels, H, W)
        - output: (B, ones + threes + fives + pooled, H, W)

    Example:
        >>> import torch
        >>> from gnnlib.models import Inception
        >>> Inception(192, 64, 96, 128, 16, 32, 32)(torch.ones(1, 192, 4, 4)).shape
        torch.Size([1, 256, 4, 4])
    """

    def __init__(self, in_channels: int, ones: int, reduce3: int, threes: int, reduce5: int, fives: int, pooled: int):
        super().__init__(
            conv_relu(in_channels, ones, 1),
            nn.Sequential(*conv_relu(in_channels, reduce3, 1), *conv_relu(reduce3, threes, 3)),
            nn.Sequential(*conv_relu(in_channels, reduce5, 1), *conv_relu(reduce5, fives, 5)),
            nn.Sequential(nn.MaxPool2d(3, 1, padding=1), *conv_relu(in_channels, pooled, 1)),
        )


def _path(channels: int, *steps: Step, halve: bool = False) -> nn.Sequential:
    """Normalised convolutions one after another; they keep the size, but for the last where it is to be halved."""
    layers: list[nn.Module] = []
    for number, (maps, kernel_size) in enumerate(steps, 1):
        stride, padding = (2, 0) if halve and number == len(steps) else (1, None)
        layers += conv_norm_relu(channels, maps, kernel_size, stride, padding)
        channels = maps
    return nn.Sequential(*layers)


def _pooled(channels: int, maps: int) -> nn.Sequential:
    return nn.Sequential(nn.AvgPool2d(3, 1, padding=1), *conv_norm_relu(channels, maps, 1))


@names_checked()
class StackedInception(Branches):
    """Inception with the 5 x 5 kernel factorised into two 3 x 3 (Szegedy et al. 2016, arXiv 1512.00567, figure 5):
    the same window for 18 / 25 of the weights.

    Args:
        in_channels: maps of the input
        pooled: maps of the path that pools

    Shapes:
        - x: (B, in_channels, H, W)
        - output: (B, 224 + pooled, H, W)

    Example:
        >>> import torch
        >>> from gnnlib.models import StackedInception
        >>> StackedInception(192, 32)(torch.ones(2, 192, 5, 5)).shape
        torch.Size([2, 256, 5, 5])
    """

    def __init__(self, in_channels: int, pooled: int):
        super().__init__(
            _path(in_channels, (64, 1)),
            _path(in_channels, (48, 1), (64, 3)),
            _path(in_channels, (64, 1), (96, 3), (96, 3)),
            _pooled(in_channels, pooled),
        )


@names_checked()
class AsymmetricInception(Branches):
    """Inception with n x n kernels factorised into 1 x n and n x 1 (Szegedy et al. 2016, arXiv 1512.00567, figure 6):
    2 / n of the weights.

    Args:
        in_channels: maps of the input
        width: maps between the 1 x n and the n x 1
        n: length of the kernels, odd

    Shapes:
        - x: (B, in_channels, H, W)
        - output: (B, 768, H, W)

    Example:
        >>> import torch
        >>> from gnnlib.models import AsymmetricInception
        >>> AsymmetricInception(768, 128)(torch.ones(2, 768, 3, 3)).shape
        torch.Size([2, 768, 3, 3])
    """

    def __init__(self, in_channels: int, width: int, n: int = 7):
        row, column = (1, n), (n, 1)
        super().__init__(
            _path(in_channels, (192, 1)),
            _path(in_channels, (width, 1), (width, row), (192, column)),
            _path(in_channels, (width, 1), (width, column), (width, row), (width, column), (192, row)),
            _pooled(in_channels, 192),
        )


@names_checked()
class ExpandedInception(Branches):
    """Inception for the coarsest grids: 1 x 3 and 3 x 1 in parallel (Szegedy et al. 2016, arXiv 1512.00567, figure 7).

    Args:
        in_channels: maps of the input

    Shapes:
        - x: (B, in_channels, H, W)
        - output: (B, 2048, H, W)

    Example:
        >>> import torch
        >>> from gnnlib.models import ExpandedInception
        >>> ExpandedInception(16)(torch.ones(2, 16, 3, 3)).shape
        torch.Size([2, 2048, 3, 3])
    """

    def __init__(self, in_channels: int):
        super().__init__(
            _path(in_channels, (320, 1)),
            _path(in_channels, (384, 1)).append(_cross()),
            _path(in_channels, (448, 1), (384, 3)).append(_cross()),
            _pooled(in_channels, 192),
        )


def _cross() -> Branches:
    return Branches(_path(384, (384, (1, 3))), _path(384, (384, (3, 1))))


def _halve(*paths: nn.Module) -> Branches:
    """Half the size without a bottleneck (figure 10): paths that end in stride 2, beside max-pooling."""
    return Branches(*paths, nn.MaxPool2d(3, 2))


@names_checked()
class InceptionV3(Chain):
    """Inception-v3 (Szegedy et al. 2016, arXiv 1512.00567, Table 1): Inception with factorised kernels throughout.

    ============================================  ===============  ==========
    layers                                        size             parameters
    ============================================  ===============  ==========
    3 x 3 convolutions and pooling                 192 x 35 x 35       172672
    3 `StackedInception`                           288 x 35 x 35       671072
    halving                                        768 x 17 x 17      1153280
    4 `AsymmetricInception`                        768 x 17 x 17      6821376
    halving                                       1280 x 8 x 8        1698304
    2 `ExpandedInception`                         2048 x 8 x 8       11121408
    mean over the image, dropout, linear          1000                2049000
    ============================================  ===============  ==========

    Differs from the paper: it does not give the widths inside the modules, which are those of the authors' code, as are
    the layers before the modules; without the auxiliary head. The label smoothing of section 7 is
    ``nn.CrossEntropyLoss(label_smoothing=0.1)``. Public implementations (the authors', torchvision: 23834568 parameters
    without the auxiliary head) keep a 5 x 5 kernel in the first three modules where figure 5 has a 3 x 3: 147456 more.

    Args:
        num_classes: number of outputs

    Shapes:
        - images: (B, 3, H, W), at least 75 x 75, 299 x 299 in the paper
        - output: scores (B, num_classes)

    Example:
        >>> import torch
        >>> from gnnlib.models import InceptionV3
        >>> with torch.device("meta"):
        ...     InceptionV3()(torch.empty(2, 3, 299, 299)).shape
        torch.Size([2, 1000])
    """

    def __init__(self, num_classes: int = 1000):
        super().__init__(
            *conv_norm_relu(3, 32, 3, 2, padding=0),
            *conv_norm_relu(32, 32, 3, padding=0),
            *conv_norm_relu(32, 64, 3),
            nn.MaxPool2d(3, 2),
            *conv_norm_relu(64, 80, 1),
            *conv_norm_relu(80, 192, 3, padding=0),
            nn.MaxPool2d(3, 2),
            *(StackedInception(192, 32), StackedInception(256, 64), StackedInception(288, 64)),
            _halve(
                _path(288, (384, 3), halve=True),
                _path(288, (64, 1), (96, 3), (96, 3), halve=True),
            ),
            *(AsymmetricInception(768, width) for width in (128, 160, 160, 192)),
            _halve(
                _path(768, (192, 1), (320, 3), halve=True),
                _path(768, (192, 1), (192, (1, 7)), (192, (7, 1)), (192, 3), halve=True),
            ),
            *(ExpandedInception(1280), ExpandedInception(2048)),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Dropout(0.2),
            nn.Linear(2048, num_classes),
        )
        start(self)


class Scale(nn.Module):
    """Multiplies by a constant."""

    def __init__(self, factor: float):
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        """Multiply by the factor.

        Args:
            x: features of any shape

        Returns:
            Features of the same shape.
        """
        return self.factor * x


@names_checked()
class ResidualInception(Shortcut):
    """Residual Inception block for the 35 x 35 grid of Inception-ResNet-v2 (Szegedy et al. 2017, arXiv 1602.07261,
    figure 16): three paths, a 1 x 1 convolution without activation back to the width of x, scaled, and x added.

    Differs from the paper: figure 16 has 384 channels, and the authors' code, like most public ones, 320.

    Args:
        channels: maps of the input and of the output
        scale: factor of the residual, between 0.1 and 0.3 (section 3.3)

    Shapes:
        - x: (B, channels, H, W)
        - output: the same

    Example:
        >>> import torch
        >>> from gnnlib.models import ResidualInception
        >>> ResidualInception()(torch.ones(2, 384, 5, 5)).shape
        torch.Size([2, 384, 5, 5])
    """

    def __init__(self, channels: int = 384, scale: float = 0.17):
        paths = Branches(
            _path(channels, (32, 1)),
            _path(channels, (32, 1), (32, 3)),
            _path(channels, (32, 1), (48, 3), (64, 3)),
        )
        super().__init__(nn.Sequential(paths, nn.Conv2d(32 + 32 + 64, channels, 1), Scale(scale)))
