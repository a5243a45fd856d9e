"""Small networks for small images."""

from torch import nn

from gnnlib._utils.calls import names_checked
from gnnlib.models.vision.blocks import Chain, conv_relu, start

__all__ = ["AllConvolutional", "SmallCNN"]


@names_checked()
class SmallCNN(Chain):
    """The small network of the Keras tutorials (Chollet 2018, "Deep learning with Python", section 5.1).

    ======  ==============  ============  ==========
    layer   what            size          parameters
    ======  ==============  ============  ==========
    conv    3 x 3, ReLU     32 x 26 x 26         320
    pool    max over 2 x 2  32 x 13 x 13           0
    conv    3 x 3, ReLU     64 x 11 x 11       18496
    pool    max over 2 x 2  64 x 5 x 5             0
    conv    3 x 3, ReLU     64 x 3 x 3         36928
    linear  ReLU            64                 36928
    linear  scores          10                   650
    ======  ==============  ============  ==========

    93322 parameters; convolutions without padding. Initial weights are as in Keras: uniform with
    variance 2 / (fan_in + fan_out) (Glorot and Bengio 2010), biases 0. The tutorials train with Adam at 0.001, batches
    of 32, and pixels between 0 and 1.

    Differs from Keras: flattens channels first, and returns scores where Keras returns their softmax.

    Args:
        num_classes: number of outputs
        input_size: rows and columns of the images
        in_channels: channels of the images

    Shapes:
        - images: (B, in_channels, input_size, input_size)
        - output: scores (B, num_classes)

    Raises:
        ValueError: if the images are too small

    Example:
        >>> import torch
        >>> from gnnlib.models import SmallCNN
        >>> SmallCNN()(torch.zeros(2, 1, 28, 28)).tolist() == [[0.0] * 10] * 2
        True
    """

    def __init__(self, num_classes: int = 10, input_size: int = 28, in_channels: int = 1):
        size = ((input_size - 2) // 2 - 2) // 2 - 2
        if size < 1:
            raise ValueError(f"SmallCNN: expected images of 18 pixels or more, got input_size={input_size}")
        super().__init__(
            *conv_relu(in_channels, 32, 3, padding=0),
            nn.MaxPool2d(2),
            *conv_relu(32, 64, 3, padding=0),
            nn.MaxPool2d(2),
            *conv_relu(64, 64, 3, padding=0),
            nn.Flatten(),
            *(nn.Linear(64 * size**2, 64), nn.ReLU()),
            nn.Linear(64, num_classes),
        )
        start(self, nn.init.xavier_uniform_)


@names_checked()
class AllConvolutional(Chain):
    """All-CNN-C: stride in place of pooling, 1 x 1 convolutions in place of linear layers (Springenberg et al. 2015,
    arXiv 1412.6806, Table 1 and Table 2).

    ======  =======================  =============  ==========
    layers  what                     size           parameters
    ======  =======================  =============  ==========
    1, 2    3 x 3                    96 x 32 x 32        85728
    3       3 x 3, stride 2          96 x 16 x 16        83040
    4, 5    3 x 3                    192 x 16 x 16      498048
    6       3 x 3, stride 2          192 x 8 x 8        331968
    7       3 x 3, no padding        192 x 6 x 6        331968
    8       1 x 1                    192 x 6 x 6         37056
    9       1 x 1                    10 x 6 x 6           1930
    mean    over the image           10                      0
    ======  =======================  =============  ==========

    1369738 parameters. ReLU after every convolution, the last included, as in the table; dropout of 0.2 on the image
    and of 0.5 after each stride.

    Differs from the paper: initial weights as in He et al. (2015).

    Args:
        num_classes: number of outputs
        in_channels: channels of the images

    Shapes:
        - images: (B, in_channels, H, W), at least 9 x 9, 32 x 32 in the paper
        - output: scores (B, num_classes)

    Example:
        >>> import torch
        >>> from gnnlib.models import AllConvolutional
        >>> AllConvolutional()(torch.ones(2, 3, 32, 32)).shape
        torch.Size([2, 10])
    """

    def __init__(self, num_classes: int = 10, in_channels: int = 3):
        super().__init__(
            nn.Dropout(0.2),
            *(*conv_relu(in_channels, 96, 3), *conv_relu(96, 96, 3), *conv_relu(96, 96, 3, stride=2)),
            nn.Dropout(0.5),
            *(*conv_relu(96, 192, 3), *conv_relu(192, 192, 3), *conv_relu(192, 192, 3, stride=2)),
            nn.Dropout(0.5),
            *(*conv_relu(192, 192, 3, padding=0), *conv_relu(192, 192, 1), *conv_relu(192, num_classes, 1)),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        start(self)
