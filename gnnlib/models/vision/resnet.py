"""Residual networks (He et al. 2016, arXiv 1512.03385) of bottleneck blocks."""

from collections.abc import Sequence

from torch import nn

from gnnlib._utils.calls import names_checked
from gnnlib.models.vision.blocks import Chain, Shortcut, conv_norm, conv_norm_relu, start

__all__ = ["Bottleneck", "ResNet", "ResNet50"]


@names_checked()
class Bottleneck(Shortcut):
    """Bottleneck block (He et al. 2016, arXiv 1512.03385, figure 5 right): 1 x 1 to ``width`` maps, 3 x 3, 1 x 1 to
    4 ``width`` maps, and the input added, by a 1 x 1 convolution if its shape differs (option B).

    Args:
        in_channels: maps of the input
        width: maps of the 3 x 3 convolution
        stride: of the block
        stride_first: whether the first 1 x 1 convolution has the stride, as in the paper, or the 3 x 3

    Shapes:
        - x: (B, in_channels, H, W)
        - output: (B, 4 width, ceil(H / stride), ceil(W / stride))

    Example:
        >>> import torch
        >>> from gnnlib.models import Bottleneck
        >>> Bottleneck(8, 4, stride=2)(torch.ones(2, 8, 6, 6)).shape
        torch.Size([2, 16, 3, 3])
    """

    def __init__(self, in_channels: int, width: int, stride: int = 1, stride_first: bool = False):
        first, second = (stride, 1) if stride_first else (1, stride)
        path = nn.Sequential(
            *conv_norm_relu(in_channels, width, 1, first),
            *conv_norm_relu(width, width, 3, second),
            *conv_norm(width, 4 * width, 1),
        )
        same = stride == 1 and in_channels == 4 * width
        super().__init__(path, None if same else conv_norm(in_channels, 4 * width, 1, stride))


@names_checked()
class ResNet(Chain):
    """Residual network of bottleneck blocks (He et al. 2016, arXiv 1512.03385, Table 1).

    A 7 x 7 convolution and max-pooling, both with stride 2; four stages of blocks, of 64, 128, 256 and 512 maps inside
    and four times as many outside, each stage but the first halving the image; the mean over the image; the scores.

    Args:
        depths: blocks per stage: 3, 4, 6, 3 for 50 layers, 3, 4, 23, 3 for 101, 3, 8, 36, 3 for 152
        num_classes: number of outputs
        stride_first: whether the stride is that of the first 1 x 1 convolution of a block (the paper), or of the 3 x 3
            (public implementations, called v1.5; more accurate, and 4.1 instead of 3.8 thousand million
            multiplications for 50 layers). The parameters are the same

    Shapes:
        - images: (B, 3, H, W), 224 x 224 in the paper
        - output: scores (B, num_classes)

    Example:
        >>> import torch
        >>> from gnnlib.models import ResNet
        >>> ResNet([1, 1, 1, 1], num_classes=10).eval()(torch.ones(1, 3, 32, 32)).shape
        torch.Size([1, 10])
    """

    def __init__(self, depths: Sequence[int], num_classes: int = 1000, stride_first: bool = False):
        layers: list[nn.Module] = [*conv_norm_relu(3, 64, 7, 2), nn.MaxPool2d(3, 2, padding=1)]
        channels = 64
        for stage, depth in enumerate(depths):
            width = 64 * 2**stage
            blocks: list[nn.Module] = []
            for block in range(depth):
                stride = 2 if block == 0 and stage > 0 else 1
                blocks.append(Bottleneck(channels, width, stride, stride_first))
                channels = 4 * width
            layers.append(nn.Sequential(*blocks))
        super().__init__(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, num_classes))
        start(self)


@names_checked()
class ResNet50(ResNet):
    """ResNet-50 (He et al. 2016, arXiv 1512.03385, Table 1): 25557032 parameters.

    ======  ===================  ==============  ==========
    stage   blocks               size            parameters
    ======  ===================  ==============  ==========
    conv1   7 x 7, then pooling  64 x 112 x 112        9536
    conv2   3 with 64 maps       256 x 56 x 56       215808
    conv3   4 with 128           512 x 28 x 28      1219584
    conv4   6 with 256           1024 x 14 x 14     7098368
    conv5   3 with 512           2048 x 7 x 7      14964736
    linear  2048 to 1000                            2049000
    ======  ===================  ==============  ==========

    By default it equals torchvision's, which is v1.5; ``stride_first=True`` is the paper's.

    Args:
        num_classes, stride_first: as for `ResNet`

    Shapes:
        - images: (B, 3, H, W), 224 x 224 in the paper
        - output: scores (B, num_classes)

    Example:
        >>> import torch
        >>> from gnnlib.models import ResNet50
        >>> with torch.device("meta"):
        ...     ResNet50()(torch.empty(2, 3, 224, 224)).shape
        torch.Size([2, 1000])
    """

    def __init__(self, num_classes: int = 1000, stride_first: bool = False):
        super().__init__([3, 4, 6, 3], num_classes, stride_first)
