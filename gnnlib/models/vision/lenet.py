"""LeNet-5 (LeCun et al. 1998): partly connected maps, trainable sub-sampling and a radial basis output."""

from collections import OrderedDict
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gnnlib._utils.calls import names_checked
from gnnlib.models.vision.blocks import Chain

__all__ = ["LeNet5", "PartialConv2d", "RadialBasis", "ScaledTanh", "Subsampling", "lenet_input", "rbf_loss"]

# LeCun et al. 1998, Table I: the maps of S2 that are inputs of each of the sixteen maps of C3.
C3_INPUTS = (
    *((0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (4, 5, 0), (5, 0, 1)),
    *((0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (3, 4, 5, 0), (4, 5, 0, 1), (5, 0, 1, 2)),
    *((0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5)),
    (0, 1, 2, 3, 4, 5),
)

DIGITS = """
..###.. ...#... .#####. .#####. #....#. ####### ..####. ####### ..###.. .#####.
.#...#. ..##... #.....# #.....# #....#. #...... .#..... ......# .#...#. #.....#
#.....# .#.#... ......# ......# #....#. #...... #...... .....#. #.....# #.....#
#.....# ...#... ......# ......# #....#. #...... #...... .....#. #.....# #.....#
#.....# ...#... .....#. .....#. #....#. ######. #...... ....#.. .#...#. #.....#
#.....# ...#... ....#.. ..####. #....#. ......# ######. ....#.. ..###.. .######
#.....# ...#... ...#... .....#. ####### ......# #.....# ...#... .#...#. ......#
#.....# ...#... ..#.... ......# .....#. ......# #.....# ...#... #.....# ......#
#.....# ...#... .#..... ......# .....#. ......# #.....# ..#.... #.....# ......#
#.....# ...#... #...... ......# .....#. ......# #.....# ..#.... #.....# .....#.
.#...#. ...#... #...... #.....# .....#. #.....# #.....# .#..... .#...#. ....#..
..###.. .#####. ####### .#####. .....#. .#####. .#####. .#..... ..###.. .###...
"""


def digit_codes() -> Tensor:
    """The target codes of LeNet-5: the ten digits drawn on 7 x 12 pixels, ink 1 and paper -1, as rows of 84.

    The paper shows its drawings (figure 3) but does not list them; these are other drawings.

    Returns:
        The codes, (10, 84).

    Example:
        >>> from gnnlib.models.vision.lenet import digit_codes
        >>> digit_codes().shape
        torch.Size([10, 84])
    """
    lines = [line.split() for line in DIGITS.split("\n") if line]
    ink = [[pixel == "#" for line in lines for pixel in line[digit]] for digit in range(10)]
    return 2.0 * torch.tensor(ink) - 1.0


@names_checked()
class ScaledTanh(nn.Module):
    r"""The squashing function of LeCun et al. (1998, appendix A): f(a) = 1.7159 tanh(2 a / 3), so that f(±1) = ±1.

    Example:
        >>> import torch
        >>> from gnnlib.models import ScaledTanh
        >>> round(ScaledTanh()(torch.tensor(1.0)).item(), 4)
        1.0
    """

    def __init__(self) -> None:
        super().__init__()
        self.tanh = nn.Tanh()

    def forward(self, x: Tensor) -> Tensor:
        r"""Apply the function.

        Args:
            x: features

        Shapes:
            - x: (\*)
            - output: (\*)

        Returns:
            f(x)
        """
        return 1.7159 * self.tanh(x * (2 / 3))


@names_checked()
class Subsampling(nn.Module):
    r"""Trainable sub-sampling (LeCun et al. 1998, section II.B, layer S2): the sum of each 2 x 2 square, times a
    coefficient, plus a bias, one of each per map; the squashing function comes after.

    .. math:: y_c(r, s) = a_c \sum_{i,j \in \{0, 1\}} x_c(2r + i, 2s + j) + b_c

    Args:
        channels: number of maps, 2 parameters each

    Shapes:
        - x: (B, channels, H, W)
        - output: (B, channels, H // 2, W // 2)

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from gnnlib.models import Subsampling
        >>> layer = Subsampling(1)
        >>> _ = nn.init.ones_(layer.coefficient), nn.init.zeros_(layer.bias)
        >>> layer(torch.arange(4.0).view(1, 1, 2, 2)).item()
        6.0
    """

    def __init__(self, channels: int):
        super().__init__()
        self.pool = nn.AvgPool2d(2)
        self.coefficient = nn.Parameter(_uniform(torch.empty(channels, 1, 1), 4))
        self.bias = nn.Parameter(_uniform(torch.empty(channels, 1, 1), 4))

    def forward(self, x: Tensor) -> Tensor:
        """Sub-sample.

        Args:
            x: maps, (B, channels, H, W)

        Returns:
            (B, channels, H // 2, W // 2)
        """
        return self.pool(x) * (4 * self.coefficient) + self.bias  # the paper adds the four inputs


@names_checked()
class PartialConv2d(nn.Module):
    r"""Partly connected convolution: each output map has some of the input maps as inputs (LeCun et al. 1998, Table I).

    .. math:: y_o = b_o + \sum_{c \in \mathrm{inputs}(o)} w_{oc} * x_c

    A kernel exists for every pair in the table and for no other.

    Args:
        in_channels: number of input maps
        inputs: for each output map, its input maps
        kernel_size: rows and columns of the square kernel; stride 1, no padding

    Shapes:
        - x: (B, in_channels, H, W)
        - output: (B, out_channels, H - kernel_size + 1, W - kernel_size + 1)

    Raises:
        ValueError: if an output map has no input, an input twice, or one out of range

    Attributes:
        weight: (pairs, kernel_size, kernel_size), in the order of the true entries of ``table``
        bias: (out_channels,)
        table: (out_channels, in_channels), bool

    Example:
        >>> import torch
        >>> from gnnlib.models import PartialConv2d
        >>> conv = PartialConv2d(3, [(0, 1), (2,)], 5)
        >>> conv(torch.ones(1, 3, 6, 6)).shape, conv.weight.shape, conv.dense_weight().shape
        (torch.Size([1, 2, 2, 2]), torch.Size([3, 5, 5]), torch.Size([2, 3, 5, 5]))
    """

    table: Tensor
    stride, padding, dilation, groups = (1, 1), (0, 0), (1, 1), 1  # as torch.nn.Conv2d

    def __init__(self, in_channels: int, inputs: Sequence[tuple[int, ...]], kernel_size: int):
        super().__init__()
        for maps in inputs:
            if not maps or len(set(maps)) < len(maps) or not set(maps) <= set(range(in_channels)):
                raise ValueError(f"PartialConv2d: expected different maps of 0 to {in_channels - 1}, got {maps}")
        self.in_channels, self.out_channels, self.kernel_size = in_channels, len(inputs), (kernel_size, kernel_size)
        table = torch.tensor([[channel in maps for channel in range(in_channels)] for maps in inputs])
        self.register_buffer("table", table)
        fan_in = [len(maps) * kernel_size**2 for maps in inputs]
        kernels = [_uniform(torch.empty(len(m), *self.kernel_size), fan) for m, fan in zip(inputs, fan_in)]
        self.weight = nn.Parameter(torch.cat(kernels))
        self.bias = nn.Parameter(torch.cat([_uniform(torch.empty(1), fan) for fan in fan_in]))

    def dense_weight(self) -> Tensor:
        """The weight of the equal ``torch.nn.Conv2d``, 0 for pairs that are not connected.

        Returns:
            (out_channels, in_channels, kernel_size, kernel_size)
        """
        zeros = self.weight.new_zeros(self.out_channels, self.in_channels, *self.kernel_size)
        return zeros.masked_scatter(self.table[:, :, None, None], self.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve.

        Args:
            x: maps, (B, in_channels, H, W)

        Returns:
            (B, out_channels, H - kernel_size + 1, W - kernel_size + 1)
        """
        return F.conv2d(x, self.dense_weight(), self.bias)

    def extra_repr(self) -> str:
        """Numbers of maps, kernel size, and number of kernels."""
        return f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, kernels={len(self.weight)}"


@names_checked()
class RadialBasis(nn.Module):
    r"""Euclidean radial basis units (LeCun et al. 1998, equation 7), one per class: the distance of x from its code.

    .. math:: y_i = \sum_j (x_j - w_{ij})^2

    The scores are -y, so that the nearest code has the largest. The codes w are fixed, in a buffer.

    Args:
        codes: one code per class

    Shapes:
        - codes: (K, F)
        - x: (B, F)
        - output: (B, K)

    Example:
        >>> import torch
        >>> from gnnlib.models import RadialBasis
        >>> RadialBasis(torch.tensor([[1.0, -1.0], [1.0, 1.0]]))(torch.tensor([[1.0, 0.5]])).tolist()
        [[-2.25, -0.25]]
    """

    codes: Tensor

    def __init__(self, codes: Tensor):
        super().__init__()
        self.register_buffer("codes", codes)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the scores.

        Args:
            x: features, (B, F)

        Returns:
            Minus the squared distances to the codes, (B, K).
        """
        return -(x.unsqueeze(1) - self.codes).square().sum(-1)


@names_checked()
def rbf_loss(scores: Tensor, target: Tensor, j: float = 1.0) -> Tensor:
    r"""The loss of LeNet-5 (LeCun et al. 1998, equation 9), with y = -scores the distances to the codes.

    .. math:: E = \frac{1}{P} \sum_p \Big( y_{t_p} + \log\big(e^{-j} + \sum_i e^{-y_i}\big) \Big)

    This is cross-entropy with one more class, "rubbish", always at distance j: classes at a larger distance have small
    gradients.

    Args:
        scores: of `RadialBasis`
        target: the class of each pattern
        j: the paper's positive constant, whose value it does not give

    Shapes:
        - scores: (P, K)
        - target: (P,) int64
        - output: a number

    Returns:
        The loss.

    Example:
        >>> import torch
        >>> from gnnlib.models import rbf_loss
        >>> round(rbf_loss(torch.tensor([[-1.0, -1.0]]), torch.tensor([0])).item(), 4)  # log 3
        1.0986
    """
    rubbish = torch.full_like(scores[:, :1], -j)
    return F.cross_entropy(torch.cat([scores, rubbish], 1), target)


@names_checked()
def lenet_input(images: Tensor) -> Tensor:
    """Input images of LeNet-5 (LeCun et al. 1998, section II.B): 28 x 28 pixels in a 32 x 32 field of
    background, which is -0.1; ink is 1.175. Then the mean is roughly 0 and the variance roughly 1.

    Args:
        images: grey values, background 0 and ink 1

    Shapes:
        - images: (B, 1, H, W)
        - output: (B, 1, H + 4, W + 4)

    Returns:
        The images with a border.

    Example:
        >>> import torch
        >>> from gnnlib.models import lenet_input
        >>> lenet_input(torch.ones(1, 1, 28, 28))[0, 0, 1:4, 2].tolist()
        [-0.10..., 1.17..., 1.17...]
    """
    return F.pad(1.275 * images, (2, 2, 2, 2)) - 0.1


@names_checked()
class LeNet5(Chain):
    """LeNet-5 (LeCun, Bottou, Bengio and Haffner 1998, "Gradient-based learning applied to document recognition",
    Proceedings of the IEEE 86, section II.B and figure 2).

    ======  ===================================  ============  ==========
    layer   what                                 size          parameters
    ======  ===================================  ============  ==========
    c1      convolution 5 x 5                    6 x 28 x 28          156
    s2      trainable sub-sampling               6 x 14 x 14           12
    c3      convolution 5 x 5, partly connected  16 x 10 x 10        1516
    s4      trainable sub-sampling               16 x 5 x 5            32
    c5      convolution 5 x 5                    120 x 1 x 1        48120
    f6      linear                               84                 10164
    output  radial basis on fixed codes          10                     0
    ======  ===================================  ============  ==========

    60000 trainable parameters on 340908 connections. `ScaledTanh` follows each layer up to f6. Weights and biases start
    uniform in ±2.4 / fan_in. Train with `rbf_loss` on `lenet_input`.

    Differs from the paper: the codes are our drawings. What is often called LeNet-5 elsewhere (61706 parameters) has
    all 96 kernels in c3, sub-sampling without parameters and a linear output of 850.

    Shapes:
        - images: (B, 1, 32, 32)
        - output: scores (B, 10), minus the squared distances to the codes

    Example:
        >>> import torch
        >>> from gnnlib.models import LeNet5, lenet_input
        >>> LeNet5()(lenet_input(torch.zeros(2, 1, 28, 28))).shape
        torch.Size([2, 10])
    """

    def __init__(self) -> None:
        layers: dict[str, nn.Module] = dict(
            c1=nn.Conv2d(1, 6, 5),
            c1_squash=ScaledTanh(),
            s2=Subsampling(6),
            s2_squash=ScaledTanh(),
            c3=PartialConv2d(6, C3_INPUTS, 5),
            c3_squash=ScaledTanh(),
            s4=Subsampling(16),
            s4_squash=ScaledTanh(),
            c5=nn.Conv2d(16, 120, 5),
            c5_squash=ScaledTanh(),
            flat=nn.Flatten(),
            f6=nn.Linear(120, 84),
            f6_squash=ScaledTanh(),
            output=RadialBasis(digit_codes()),
        )
        super().__init__(OrderedDict(layers))
        for layer in self:
            if isinstance(layer, nn.Conv2d | nn.Linear):
                for parameter in layer.parameters():
                    _uniform(parameter.data, layer.weight[0].numel())


def _uniform(values: Tensor, fan_in: int) -> Tensor:
    """LeCun et al. 1998, appendix A: uniform in ±2.4 / fan_in."""
    return values.uniform_(-2.4 / fan_in, 2.4 / fan_in)
