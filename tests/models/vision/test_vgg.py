"""VGG-16's stages, and VGG for small images."""

import pytest
import torch
from torch import nn

from gnnlib.models import VGG, VGG16


def test_stages_of_vgg16():
    with torch.device("meta"):
        network, x = VGG16(), torch.empty(1, 3, 224, 224)
        rows, parameters = [], 0
        for layer in network:
            if isinstance(layer, nn.MaxPool2d):
                rows.append((tuple(x.shape[1:]), parameters))
                parameters = 0
            x = layer(x)
            parameters += sum(p.numel() for p in layer.parameters())
    assert rows == [
        ((64, 224, 224), 38720),
        ((128, 112, 112), 221440),
        ((256, 56, 56), 1475328),
        ((512, 28, 28), 5899776),
        ((512, 14, 14), 7079424),
    ]
    linear = [sum(p.numel() for p in m.parameters()) for m in network if isinstance(m, nn.Linear)]
    assert linear == [102764544, 16781312, 4097000]
    assert sum(isinstance(m, nn.Conv2d | nn.Linear) for m in network) == 16


def test_images_that_pooling_uses_up_are_refused():
    with pytest.raises(ValueError, match="expected images of 32 pixels or more, got input_size=28"):
        VGG16(input_size=28)


def test_signals_keep_their_scale_at_the_start():
    torch.manual_seed(0)
    network = VGG([[64] * 4] * 3, num_classes=10, input_size=16, hidden=64).eval()
    x = torch.randn(8, 3, 16, 16)
    for layer in network[:-1]:
        x = layer(x)
        if isinstance(layer, nn.ReLU):
            assert 0.2 < x.square().mean() < 20
