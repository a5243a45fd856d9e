"""The classic networks, as plain torch modules on images (B, C, H, W), and the papers' networks on graphs.

Those on images are written once; `gnnlib.grid.from_torch` makes the same network on graphs of any of them. Those on
graphs are configurations of `gnnlib.Stack`.
"""

from gnnlib.models.autoencoder import GAE, VGAE, link_scores, reconstruction_loss
from gnnlib.models.decoupled import SGC, SIGN, APPNPNet, DAGNNNet, GfNN
from gnnlib.models.deep import GCNII, JKNet
from gnnlib.models.dgi import DGI
from gnnlib.models.rgcn import RGCN
from gnnlib.models.vision.alexnet import AlexNet
from gnnlib.models.vision.googlenet import GoogLeNet
from gnnlib.models.vision.inception import (
    AsymmetricInception,
    ExpandedInception,
    Inception,
    InceptionV3,
    ResidualInception,
    StackedInception,
)
from gnnlib.models.vision.lenet import (
    LeNet5,
    PartialConv2d,
    RadialBasis,
    ScaledTanh,
    Subsampling,
    lenet_input,
    rbf_loss,
)
from gnnlib.models.vision.resnet import Bottleneck, ResNet, ResNet50
from gnnlib.models.vision.small import AllConvolutional, SmallCNN
from gnnlib.models.vision.vgg import VGG, VGG16

__all__ = [
    "DGI",
    "GAE",
    "GCNII",
    "RGCN",
    "SGC",
    "SIGN",
    "VGAE",
    "VGG",
    "VGG16",
    "AlexNet",
    "APPNPNet",
    "AllConvolutional",
    "AsymmetricInception",
    "Bottleneck",
    "DAGNNNet",
    "ExpandedInception",
    "GfNN",
    "GoogLeNet",
    "Inception",
    "InceptionV3",
    "JKNet",
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
    "link_scores",
    "rbf_loss",
    "reconstruction_loss",
]
