"""Every network: its published size, the shape of its scores, and that torch.fx can trace it."""

import pytest
import torch
from torch import fx

from gnnlib import models

# network, image, trainable parameters
PUBLISHED = {
    "LeNet5": (models.LeNet5, (1, 32, 32), 60_000),
    "AlexNet": (models.AlexNet, (3, 224, 224), 60_965_224),
    "AlexNet, one group": (lambda: models.AlexNet(groups=1), (3, 224, 224), 62_378_344),
    "GoogLeNet": (lambda: models.GoogLeNet(auxiliary=False), (3, 224, 224), 6_998_552),
    "InceptionV3": (models.InceptionV3, (3, 299, 299), 23_834_568 - 3 * (5 * 5 - 3 * 3) * 48 * 64),
    "VGG A": (lambda: models.VGG([[64], [128], [256] * 2, [512] * 2, [512] * 2]), (3, 224, 224), 132_863_336),
    "VGG B": (lambda: models.VGG([[m] * 2 for m in (64, 128, 256, 512, 512)]), (3, 224, 224), 133_047_848),
    "VGG16": (models.VGG16, (3, 224, 224), 138_357_544),
    "VGG E": (
        lambda: models.VGG([[64] * 2, [128] * 2] + [[m] * 4 for m in (256, 512, 512)]),
        (3, 224, 224),
        143_667_240,
    ),
    "VGG16, small images": (lambda: models.VGG16(10, input_size=32, hidden=512), (3, 32, 32), 15_245_130),
    "ResNet50": (models.ResNet50, (3, 224, 224), 25_557_032),
    "ResNet50, the paper's": (lambda: models.ResNet50(stride_first=True), (3, 224, 224), 25_557_032),
    "ResNet101": (lambda: models.ResNet([3, 4, 23, 3]), (3, 224, 224), 44_549_160),
    "ResNet152": (lambda: models.ResNet([3, 8, 36, 3]), (3, 224, 224), 60_192_808),
    "AllConvolutional": (models.AllConvolutional, (3, 32, 32), 1_369_738),
    "SmallCNN": (models.SmallCNN, (1, 28, 28), 93_322),
}

# networks small enough to be run, and the modules
RUN = {
    "LeNet5": (models.LeNet5, (1, 32, 32)),
    "GoogLeNet": (lambda: models.GoogLeNet(10, auxiliary=False), (3, 64, 49)),
    "InceptionV3": (lambda: models.InceptionV3(10), (3, 75, 80)),
    "VGG16": (lambda: models.VGG16(10, input_size=32, hidden=64, in_channels=1), (1, 32, 32)),
    "ResNet": (lambda: models.ResNet([1, 2, 1, 1], 10), (3, 33, 40)),
    "ResNet, the paper's": (lambda: models.ResNet([1, 2, 1, 1], 10, stride_first=True), (3, 33, 40)),
    "AllConvolutional": (lambda: models.AllConvolutional(10, in_channels=1), (1, 9, 9)),
    "SmallCNN": (lambda: models.SmallCNN(10, input_size=18), (1, 18, 18)),
    "Inception": (lambda: models.Inception(8, 3, 4, 5, 2, 3, 1), (8, 6, 5)),
    "StackedInception": (lambda: models.StackedInception(8, 3), (8, 6, 5)),
    "AsymmetricInception": (lambda: models.AsymmetricInception(8, 4, 5), (8, 6, 5)),
    "ExpandedInception": (lambda: models.ExpandedInception(8), (8, 3, 2)),
    "ResidualInception": (lambda: models.ResidualInception(8), (8, 6, 5)),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_size_and_scores(name):
    build, image, parameters = PUBLISHED[name]
    with torch.device("meta"):
        network = build()
        scores = network(torch.empty(2, *image))
    assert sum(p.numel() for p in network.parameters() if p.requires_grad) == parameters
    assert scores.shape == (2, 1000 if image[1] > 32 else 10)


@pytest.mark.parametrize("name", RUN)
@pytest.mark.slow
def test_traced_network_is_the_same(name):
    torch.manual_seed(0)
    build, image = RUN[name]
    network = build().eval()
    traced = fx.symbolic_trace(network)
    x = torch.randn(2, *image)
    y = network(x)
    assert y.isfinite().all()
    assert torch.equal(traced(x), y)
    assert [name for name, _ in traced.named_parameters()] == [name for name, _ in network.named_parameters()]
    for size in (1, 3):  # nothing of the batch is written into the trace
        assert len(traced(torch.randn(size, *image))) == size


@pytest.mark.parametrize("name", RUN)
def test_training_reaches_every_parameter(name):
    torch.manual_seed(0)
    build, image = RUN[name]
    network = build()
    network(torch.randn(4, *image)).square().sum().backward()
    for path, parameter in network.named_parameters():
        assert parameter.grad is not None, path
        assert parameter.grad.isfinite().all(), path


def test_a_slice_of_a_network_is_a_chain_of_its_layers():
    network = models.SmallCNN()
    x = torch.randn(2, 1, 28, 28)
    assert torch.equal(network[3:](network[:3](x)), network(x))
    assert [name for name, _ in models.LeNet5()[:3].named_children()] == ["c1", "c1_squash", "s2"]


def test_every_name_is_exported():
    for name in models.__all__:
        assert hasattr(models, name)
