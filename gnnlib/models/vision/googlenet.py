"""GoogLeNet (Szegedy et al. 2015, arXiv 1409.4842), with its auxiliary heads."""

from torch import Tensor, nn

from gnnlib._utils.calls import names_checked
from gnnlib.models.vision.blocks import conv_relu, start
from gnnlib.models.vision.inception import Inception

__all__ = ["GoogLeNet"]


def _pool() -> nn.MaxPool2d:
    return nn.MaxPool2d(3, 2, ceil_mode=True)


def _head(in_channels: int, num_classes: int) -> nn.Sequential:
    """Section 5: from 14 x 14 maps, by pooling, 1 x 1 convolution and a hidden layer, to scores."""
    return nn.Sequential(
        nn.AvgPool2d(5, 3),
        *conv_relu(in_channels, 128, 1),
        nn.Flatten(),
        *(nn.Linear(128 * 4 * 4, 1024), nn.ReLU(), nn.Dropout(0.7)),
        nn.Linear(1024, num_classes),
    )


@names_checked()
class GoogLeNet(nn.Module):
    """GoogLeNet (Szegedy et al. 2015, arXiv 1409.4842, Table 1 and figure 3).

    The table's column "params" does not add up. Below, the weights that the table's own layers have, without biases
    and in units of 1024, which fit its rows best, beside what it prints:

    =======  ===========  =========  =======  =======  ==========
    layer    size         weights    in K     printed  difference
    =======  ===========  =========  =======  =======  ==========
    7 x 7     64 x 112²        9408      9.2      2.7        -6.5
    3 x 3    192 x 56²       114688    112.0      112         0.0
    3a       256 x 28²       163328    159.5      159        -0.5
    3b       480 x 28²       388096    379.0      380         1.0
    4a       512 x 14²       375552    366.8      364        -2.8
    4b       512 x 14²       448512    438.0      437        -1.0
    4c       512 x 14²       509440    497.5      463       -34.5
    4d       528 x 14²       604672    590.5      580       -10.5
    4e       832 x 14²       867328    847.0      840        -7.0
    5a       832 x 7²       1042432   1018.0     1072        54.0
    5b       1024 x 7²      1442816   1409.0     1388       -21.0
    linear   1000           1024000   1000.0     1000         0.0
    sum                     6990272   6826.4   6797.7       -28.7
    =======  ===========  =========  =======  =======  ==========

    With its 8280 biases the network has 6998552 parameters; the heads on 4a and 4d have 3188840 and 3190888 more.

    Differs from the paper: in nothing that it states; it does not give the constants of the normalisation (here
    Caffe's) or the initial weights (here He et al. 2015). Public implementations differ: torchvision's has batch
    normalisation, no biases, a 3 x 3 kernel in place of 5 x 5 and a 2 x 2 last pooling, 6624904 parameters without
    heads.

    Args:
        num_classes: number of outputs
        auxiliary: whether to build the two heads. In training the network then returns the scores of all three,
            (main, head on 4a, head on 4d), whose losses the paper adds with weights 1, 0.3 and 0.3; in evaluation only
            the main ones. To convert or trace it, put it in the mode in which it is to run

    Shapes:
        - images: (B, 3, 224, 224), any size without heads
        - output: scores (B, num_classes), or a tuple of three

    Example:
        >>> import torch
        >>> from gnnlib.models import GoogLeNet
        >>> with torch.device("meta"):
        ...     [scores.shape for scores in GoogLeNet()(torch.empty(2, 3, 224, 224))]
        [torch.Size([2, 1000]), torch.Size([2, 1000]), torch.Size([2, 1000])]
    """

    def __init__(self, num_classes: int = 1000, auxiliary: bool = True):
        super().__init__()
        self.early = nn.Sequential(
            *(*conv_relu(3, 64, 7, stride=2), _pool(), nn.LocalResponseNorm(5)),
            *(*conv_relu(64, 64, 1), *conv_relu(64, 192, 3), nn.LocalResponseNorm(5), _pool()),
            Inception(192, 64, 96, 128, 16, 32, 32),  # 3a
            Inception(256, 128, 128, 192, 32, 96, 64),
            _pool(),
            Inception(480, 192, 96, 208, 16, 48, 64),  # 4a
        )
        self.middle = nn.Sequential(
            Inception(512, 160, 112, 224, 24, 64, 64),
            Inception(512, 128, 128, 256, 24, 64, 64),
            Inception(512, 112, 144, 288, 32, 64, 64),  # 4d
        )
        self.late = nn.Sequential(
            Inception(528, 256, 160, 320, 32, 128, 128),
            _pool(),
            Inception(832, 256, 160, 320, 32, 128, 128),  # 5a
            Inception(832, 384, 192, 384, 48, 128, 128),
            *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.4)),
            nn.Linear(1024, num_classes),
        )
        self.heads = nn.ModuleList([_head(512, num_classes), _head(528, num_classes)] if auxiliary else [])
        start(self)

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Classify images.

        Args:
            images: (B, 3, 224, 224), any size without heads

        Returns:
            Scores (B, num_classes); in training with heads a tuple of three.
        """
        early = self.early(images)
        middle = self.middle(early)
        scores = self.late(middle)
        if not (self.training and len(self.heads)):
            return scores
        return (scores, *(head(x) for head, x in zip(self.heads, (early, middle))))
