"""The classic networks, as plain torch modules on images (B, C, H, W).

Written once; `gnnlib.grid.from_torch` makes the same network on graphs of any of them.
"""

from gnnlib.models.alexnet import AlexNet
from gnnlib.models.googlenet import GoogLeNet
from gnnlib.models.inception import (
    AsymmetricInception,
    ExpandedInception,
    Inception,
    InceptionV3,
    ResidualInception,
    StackedInception,
)
from gnnlib.models.lenet import (
    LeNet5,
    PartialConv2d,
    RadialBasis,
    ScaledTanh,
    Subsampling,
    lenet_input,
    rbf_loss,
)
from gnnlib.models.resnet import Bottleneck, ResNet, ResNet50
from gnnlib.models.small import AllConvolutional, SmallCNN
from gnnlib.models.vgg import VGG, VGG16

__all__ = [
    "VGG",
    "VGG16",
    "AlexNet",
    "AllConvolutional",
    "AsymmetricInception",
    "Bottleneck",
    "ExpandedInception",
    "GoogLeNet",
    "Inception",
    "InceptionV3",
    "LeNet5",
    "PartialConv2d",
    "RadialBasis",
    "ResNet",
    "ResNet50",
    "ResidualInception",
    "ScaledTanh",
    "SmallCNN",
    "StackedInception",
    "Subsampling",
    "lenet_input",
    "rbf_loss",
]
