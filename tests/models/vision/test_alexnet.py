"""AlexNet's layers, sizes and normalisation, as the paper has them."""

import pytest
import torch
from torch import nn

from gnnlib.models import AlexNet


@pytest.mark.slow
def test_layers_have_the_papers_sizes():
    with torch.device("meta"):
        network, x = AlexNet(), torch.empty(1, 3, 224, 224)
        sizes = {}
        for name, layer in network.named_children():
            x = layer(x)
            sizes[name] = tuple(x.shape[1:])
    convolutions = {name: size for name, size in sizes.items() if name.startswith(("conv", "pool", "fc"))}
    assert convolutions == {
        "conv1": (96, 55, 55),
        "pool1": (96, 27, 27),
        "conv2": (256, 27, 27),
        "pool2": (256, 13, 13),
        "conv3": (384, 13, 13),
        "conv4": (384, 13, 13),
        "conv5": (256, 13, 13),
        "pool5": (256, 6, 6),
        "fc6": (4096,),
        "fc7": (4096,),
        "fc8": (1000,),
    }


def test_layers_have_the_counted_parameters():
    with torch.device("meta"):
        network = AlexNet()
    counted = [sum(p.numel() for p in layer.parameters()) for layer in network]
    assert [n for n in counted if n] == [34944, 307456, 885120, 663936, 442624, 37752832, 16781312, 4097000]


@pytest.mark.parametrize(("padding", "columns"), [(0, 54), (1, 54), (2, 55), (3, 55), (4, 56)])
def test_which_padding_gives_fifty_five(padding, columns):
    with torch.device("meta"):
        assert nn.Conv2d(3, 96, 11, 4, padding)(torch.empty(1, 3, 224, 224)).shape[-1] == columns


def test_normalisation_is_the_papers():
    torch.manual_seed(0)
    with torch.device("meta"):
        norm = AlexNet().norm1
    a = 30 * torch.randn(2, 8, 3, 3, dtype=torch.float64)
    k, n, alpha, beta = 2, 5, 1e-4, 0.75  # section 3.3
    for i in range(8):
        around = a[:, max(0, i - n // 2) : min(7, i + n // 2) + 1]
        expected = a[:, i] / (k + alpha * around.square().sum(1)) ** beta
        torch.testing.assert_close(norm(a)[:, i], expected)


@pytest.mark.slow
def test_two_groups_do_not_meet_in_the_second_layer():
    conv = AlexNet(num_classes=1).conv2
    x = torch.randn(1, 96, 5, 5)
    changed = torch.cat([x[:, :48], torch.randn(1, 48, 5, 5)], 1)
    assert torch.equal(conv(x)[:, :128], conv(changed)[:, :128])
    assert not torch.equal(conv(x)[:, 128:], conv(changed)[:, 128:])
    assert conv.bias.eq(1).all()
    assert conv.weight.std().item() == pytest.approx(0.01, rel=0.02)
