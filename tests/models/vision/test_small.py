"""The small networks, layer by layer."""

import pytest
import torch
from torch import nn

from gnnlib.models import AllConvolutional, SmallCNN


def rows(network, x):
    table = []
    for layer in network:
        x = layer(x)
        parameters = sum(p.numel() for p in layer.parameters())
        if parameters:
            table.append((tuple(x.shape[1:]), parameters))
    return table


def test_layers_of_the_keras_network():
    assert rows(SmallCNN(), torch.zeros(1, 1, 28, 28)) == [
        ((32, 26, 26), 320),
        ((64, 11, 11), 18496),
        ((64, 3, 3), 36928),
        ((64,), 36928),
        ((10,), 650),
    ]


def test_starts_as_keras_does():
    torch.manual_seed(0)
    for layer in SmallCNN():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            window = layer.weight[0, 0].numel()
            fan_in, fan_out = window * layer.weight.shape[1], window * layer.weight.shape[0]
            bound = (6 / (fan_in + fan_out)) ** 0.5
            assert 0.95 * bound < layer.weight.abs().max() <= bound
            assert layer.bias.eq(0).all()


@pytest.mark.parametrize("size", [1, 8, 17])
def test_images_that_are_used_up_are_refused(size):
    with pytest.raises(ValueError, match=f"expected images of 18 pixels or more, got input_size={size}"):
        SmallCNN(input_size=size)


def test_layers_of_the_all_convolutional_network():
    assert rows(AllConvolutional(), torch.zeros(1, 3, 32, 32)) == [
        ((96, 32, 32), 2688),
        ((96, 32, 32), 83040),
        ((96, 16, 16), 83040),
        ((192, 16, 16), 166080),
        ((192, 16, 16), 331968),
        ((192, 8, 8), 331968),
        ((192, 6, 6), 331968),
        ((192, 6, 6), 37056),
        ((10, 6, 6), 1930),
    ]
    assert not any(isinstance(m, nn.MaxPool2d | nn.AvgPool2d | nn.Linear) for m in AllConvolutional().modules())
