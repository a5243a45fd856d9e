"""Classic image filters as convolutions with fixed weights: mean, Laplacian, Gaussian, Gabor."""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from gnnlib._utils.calls import names_checked
from gnnlib.grid.conv import GridConv

__all__ = ["EDGES", "LAPLACIAN", "MEAN", "fixed", "gabor", "gaussian"]

Kernel: TypeAlias = Tensor | np.ndarray | Sequence

MEAN = ((1 / 9, 1 / 9, 1 / 9),) * 3
"""The mean of a cell and its eight neighbours."""

EDGES = ((0, 1, 1), (-1, 0, 1), (-1, -1, 0))
"""A diagonal edge filter: cells above and to the right minus cells below and to the left; 0 on constant images."""

LAPLACIAN = ((0, 1, 0), (1, -4, 1), (0, 1, 0))
"""The sum of the differences of the four neighbours and the cell: A - D of the 4-neighbour grid, inside the border."""


@names_checked()
def fixed(kernel: Kernel, channels: int = 1, dtype: torch.dtype | None = None) -> GridConv:
    r"""A :class:`GridConv` that applies one fixed kernel to every channel,

    .. math:: y_v = \sum_{u \to v} k_{\mathrm{tap}(u \to v)} \, x_u

    The window is not flipped; for a convolution in the mathematical sense flip the kernel.

    Args:
        kernel: its values; as many axes as the grid
        channels: number of channels, one group each
        dtype: of the weight; None: PyTorch's default

    Shapes:
        - x: (N, \*, channels)
        - output of the layer: (N_out, \*, channels)

    Raises:
        ValueError: if the kernel has no axes, no values or rows of different length, or channels < 1.

    Example:
        >>> import torch
        >>> from gnnlib.grid import fixed, lattice
        >>> fixed([-1, 0, 1])(lattice(5, 3), torch.tensor([[0.0], [1.0], [4.0], [9.0], [16.0]])).flatten().tolist()
        [4.0, 8.0, 12.0]
    """
    weight = torch.as_tensor(kernel, dtype=dtype or torch.get_default_dtype())
    conv = GridConv(channels, channels, tuple(weight.shape), groups=channels, bias=False)
    conv.weight = nn.Parameter(weight.expand(channels, 1, *weight.shape).clone(), requires_grad=False)
    return conv


@names_checked()
def gaussian(sigma: float, size: int | None = None, axes: int = 2) -> Tensor:
    r"""The kernel of the Gaussian blur, with sum 1:

    .. math:: k(p) \propto \exp\left(-\frac{\|p\|^2}{2 \sigma^2}\right)

    Args:
        sigma: width in pixels, positive
        size: of the window along each axis, p is the position relative to its centre; None: up to 4 sigma on each side,
            rounded, as in scipy.ndimage
        axes: of the grid

    Shapes:
        - output: (size,) * axes, float64

    Raises:
        ValueError: if sigma, size or axes are not positive.

    Example:
        >>> from gnnlib.grid.filters import gaussian
        >>> gaussian(1.0, size=3, axes=1)
        tensor([0.2741, 0.4519, 0.2741], dtype=torch.float64)
    """
    if not 0 < sigma < float("inf"):
        raise ValueError(f"sigma: expected a positive number, got {sigma}")
    offsets = torch.stack(_offsets(2 * int(4 * sigma + 0.5) + 1 if size is None else size, axes))
    kernel = torch.exp(-(offsets**2).sum(0) / (2 * sigma**2))
    return kernel / kernel.sum()


@names_checked()
def gabor(
    size: int, wavelength: float, angle: float = 0.0, sigma: float = 2.0, aspect: float = 1.0, phase: float = 0.0
) -> Tensor:
    r"""The Gabor filter, a wave with a Gaussian envelope (Daugman 1985, "Uncertainty relation for resolution in space,
    spatial frequency, and orientation optimized by two-dimensional visual cortical filters"):

    .. math:: k(r, c) = \exp\left(-\frac{a^2 + \gamma^2 b^2}{2 \sigma^2}\right)
        \cos\left(\frac{2 \pi a}{\lambda} + \phi\right), \qquad
        a = c \cos\theta + r \sin\theta, \quad b = r \cos\theta - c \sin\theta

    at row r and column c relative to the centre of the window. It responds to stripes perpendicular to theta.

    Args:
        size: of the window along each axis
        wavelength: lambda, in pixels
        angle: theta, in radians, from the axis of the columns to that of the rows; 0: vertical stripes
        sigma: width of the Gaussian along the wave, in pixels
        aspect: gamma; the Gaussian is sigma / gamma wide across the wave
        phase: phi, in radians; 0: a ridge, pi / 2: an edge

    Shapes:
        - output: (size, size), float64

    Raises:
        ValueError: if the size, wavelength, sigma or aspect is not positive.

    Example:
        >>> from gnnlib.grid.filters import gabor
        >>> gabor(3, wavelength=2, sigma=1.0)[1]
        tensor([-0.6065,  1.0000, -0.6065], dtype=torch.float64)
    """
    for name, value in {"wavelength": wavelength, "sigma": sigma, "aspect": aspect}.items():
        if not 0 < value < float("inf"):
            raise ValueError(f"{name}: expected a positive number, got {value}")
    row, column = _offsets(size, 2)
    along, across = column * np.cos(angle) + row * np.sin(angle), row * np.cos(angle) - column * np.sin(angle)
    envelope = torch.exp(-(along**2 + (aspect * across) ** 2) / (2 * sigma**2))
    return envelope * torch.cos(2 * np.pi * along / wavelength + phase)


def _offsets(size: int, axes: int) -> tuple[Tensor, ...]:
    """The offset of each cell of a window from its centre, along each axis."""
    if size < 1 or axes < 1:
        raise ValueError(f"expected a window of positive size and axes, got {size} and {axes}")
    steps = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    return torch.meshgrid(*[steps] * axes, indexing="ij")
