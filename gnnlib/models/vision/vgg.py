"""VGG (Simonyan and Zisserman 2015, arXiv 1409.1556): stages of 3 x 3 convolutions."""

from collections.abc import Sequence

from torch import nn

from gnnlib._utils.calls import names_checked
from gnnlib.models.vision.blocks import Chain, conv_relu, start

__all__ = ["VGG", "VGG16"]


@names_checked()
class VGG(Chain):
    """VGG by configuration (Simonyan and Zisserman 2015, arXiv 1409.1556, Table 1).

    Stages of 3 x 3 convolutions with padding 1 and ReLU, each stage ended by max-pooling over 2 x 2; then two hidden
    linear layers with ReLU and dropout, and the scores.

    ====  ======================  ==========
    name  convolutions per stage  parameters
    ====  ======================  ==========
    A     1, 1, 2, 2, 2            132863336
    B     2, 2, 2, 2, 2            133047848
    D     2, 2, 3, 3, 3: `VGG16`   138357544
    E     2, 2, 4, 4, 4            143667240
    ====  ======================  ==========

    with 64, 128, 256, 512, 512 maps.

    Differs from the paper: initial weights as in He et al. (2015); the paper initialises deep nets with a trained A.

    Args:
        stages: the maps of every convolution, stage by stage
        num_classes: number of outputs
        input_size: rows and columns of the images
        hidden: width of the two hidden linear layers; 4096 in the paper, 512 is enough for small images
        in_channels: channels of the images

    Shapes:
        - images: (B, in_channels, input_size, input_size)
        - output: scores (B, num_classes)

    Raises:
        ValueError: if the image is too small for the pooling

    Example:
        >>> import torch
        >>> from gnnlib.models import VGG
        >>> VGG([[8], [16, 16]], num_classes=10, input_size=8, hidden=32)(torch.ones(2, 3, 8, 8)).shape
        torch.Size([2, 10])
    """

    def __init__(
        self,
        stages: Sequence[Sequence[int]],
        num_classes: int = 1000,
        input_size: int = 224,
        hidden: int = 4096,
        in_channels: int = 3,
    ):
        size = input_size // 2 ** len(stages)
        if size < 1:
            raise ValueError(f"VGG: expected images of {2 ** len(stages)} pixels or more, got input_size={input_size}")
        layers: list[nn.Module] = []
        width = in_channels
        for stage in stages:
            for maps in stage:
                layers += conv_relu(width, maps, 3)
                width = maps
            layers.append(nn.MaxPool2d(2))
        super().__init__(
            *layers,
            nn.Flatten(),
            *(nn.Linear(width * size**2, hidden), nn.ReLU(), nn.Dropout(0.5)),
            *(nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout(0.5)),
            nn.Linear(hidden, num_classes),
        )
        start(self)


@names_checked()
class VGG16(VGG):
    """VGG-16, configuration D (Simonyan and Zisserman 2015, arXiv 1409.1556, Table 1): 138357544 parameters.

    ======  ==================  ===============  ==========
    stage   convolutions 3 x 3  size             parameters
    ======  ==================  ===============  ==========
    1       2                   64 x 224 x 224        38720
    2       2                   128 x 112 x 112      221440
    3       3                   256 x 56 x 56       1475328
    4       3                   512 x 28 x 28       5899776
    5       3                   512 x 14 x 14       7079424
    linear  25088 to 4096                         102764544
    linear  4096 to 4096                           16781312
    linear  4096 to 1000                            4097000
    ======  ==================  ===============  ==========

    For images of 32 x 32 in 10 classes: ``VGG16(10, input_size=32, hidden=512)``, 15245130 parameters.

    torchvision's has the same layers; it pools to 7 x 7 for images of any size.

    Args:
        num_classes, input_size, hidden, in_channels: as for `VGG`

    Shapes:
        - images: (B, in_channels, input_size, input_size)
        - output: scores (B, num_classes)

    Raises:
        ValueError: as for `VGG`

    Example:
        >>> from gnnlib.models import VGG16
        >>> sum(p.numel() for p in VGG16(10, input_size=32, hidden=512).parameters())
        15245130
    """

    def __init__(self, num_classes: int = 1000, input_size: int = 224, hidden: int = 4096, in_channels: int = 3):
        stages = [[64] * 2, [128] * 2, [256] * 3, [512] * 3, [512] * 3]
        super().__init__(stages, num_classes, input_size, hidden, in_channels)
