"""AlexNet (Krizhevsky et al. 2012)."""

from collections import OrderedDict
from functools import partial

from torch import nn

from gnnlib._utils.calls import names_checked
from gnnlib.models.vision.blocks import Chain, start

__all__ = ["AlexNet"]


@names_checked()
class AlexNet(Chain):
    """AlexNet (Krizhevsky, Sutskever and Hinton 2012, "ImageNet classification with deep convolutional neural
    networks", NIPS 25, section 3 and figure 2), in two groups of maps, one for each of two GPUs.

    =====  =============================  =============  ==========
    layer  what                           size           parameters
    =====  =============================  =============  ==========
    conv1  11 x 11, stride 4; norm; pool  96 x 55 x 55        34944
    conv2  5 x 5, two groups; norm; pool  256 x 27 x 27      307456
    conv3  3 x 3                          384 x 13 x 13      885120
    conv4  3 x 3, two groups              384 x 13 x 13      663936
    conv5  3 x 3, two groups; pool        256 x 13 x 13      442624
    fc6    linear, dropout                4096             37752832
    fc7    linear, dropout                4096             16781312
    fc8    linear                         1000              4097000
    =====  =============================  =============  ==========

    60965224 parameters; 62378344 without groups. ReLU after each layer but the last; pooling is over 3 x 3 with
    stride 2, so windows overlap: 55, 27, 13, 6. Initial weights are normal with deviation 0.01, biases 1 in conv2,
    conv4, conv5, fc6 and fc7 and 0 in the others.

    The paper's 224 pixels do not give 55 columns: (224 - 11) / 4 + 1 = 54.25. Padding 3, here, does:
    floor((224 + 6 - 11) / 4) + 1 = 55, and the windows end exactly at the last pixel. Padding 2 also does.

    Differs from the paper: normalisation sums over neighbouring maps of both groups. torch divides its sum over n = 5
    maps by n and the paper does not, hence alpha = 5e-4 where the paper has 1e-4. Public implementations differ more:
    Caffe's takes 227 pixels without padding; torchvision's is the one-tower net of Krizhevsky (2014, arXiv 1404.5997),
    64-192-384-256-256 maps, no normalisation, padding 2, 61100840 parameters.

    Args:
        num_classes: number of outputs
        groups: 2, or 1 for a network that fits one GPU

    Shapes:
        - images: (B, 3, 224, 224)
        - output: scores (B, num_classes)

    Example:
        >>> import torch
        >>> from gnnlib.models import AlexNet
        >>> with torch.device("meta"):
        ...     AlexNet()(torch.empty(2, 3, 224, 224)).shape
        torch.Size([2, 1000])
    """

    def __init__(self, num_classes: int = 1000, groups: int = 2):
        layers: dict[str, nn.Module] = dict(
            conv1=nn.Conv2d(3, 96, 11, stride=4, padding=3),
            relu1=nn.ReLU(),
            norm1=nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0),
            pool1=nn.MaxPool2d(3, 2),
            conv2=nn.Conv2d(96, 256, 5, padding=2, groups=groups),
            relu2=nn.ReLU(),
            norm2=nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0),
            pool2=nn.MaxPool2d(3, 2),
            conv3=nn.Conv2d(256, 384, 3, padding=1),
            relu3=nn.ReLU(),
            conv4=nn.Conv2d(384, 384, 3, padding=1, groups=groups),
            relu4=nn.ReLU(),
            conv5=nn.Conv2d(384, 256, 3, padding=1, groups=groups),
            relu5=nn.ReLU(),
            pool5=nn.MaxPool2d(3, 2),
            flat=nn.Flatten(),
            fc6=nn.Linear(256 * 6 * 6, 4096),
            relu6=nn.ReLU(),
            drop6=nn.Dropout(0.5),
            fc7=nn.Linear(4096, 4096),
            relu7=nn.ReLU(),
            drop7=nn.Dropout(0.5),
            fc8=nn.Linear(4096, num_classes),
        )
        super().__init__(OrderedDict(layers))
        start(self, partial(nn.init.normal_, std=0.01))
        for name in ("conv2", "conv4", "conv5", "fc6", "fc7"):
            nn.init.ones_(self.get_parameter(f"{name}.bias"))
