"""Residual networks: the paper's stages, and where the stride sits."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from gnnlib.models import Bottleneck, ResNet50


def test_stages_of_fifty_layers():
    with torch.device("meta"):
        network, x = ResNet50(), torch.empty(1, 3, 224, 224)
        rows = []
        for layer in network:
            x = layer(x)
            rows.append((tuple(x.shape[1:]), sum(p.numel() for p in layer.parameters())))
    assert [row for row in rows if row[1]] == [
        ((64, 112, 112), 9408),
        ((64, 112, 112), 128),
        ((256, 56, 56), 215808),
        ((512, 28, 28), 1219584),
        ((1024, 14, 14), 7098368),
        ((2048, 7, 7), 14964736),
        ((1000,), 2049000),
    ]
    on_the_way = [m for name, m in network.named_modules() if isinstance(m, nn.Conv2d) and "shortcut" not in name]
    assert len(on_the_way) + 1 == 50


@pytest.mark.parametrize(("stride_first", "multiplications"), [(True, 3.8e9), (False, 4.1e9)])
@pytest.mark.slow
def test_multiplications(stride_first, multiplications):
    """He et al. 2016, Table 1: 3.8e9 for 50 layers; the public v1.5 has 4.1e9."""
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        ResNet50(stride_first=stride_first)(torch.empty(1, 3, 224, 224))
    assert counter.get_total_flops() / 2 == pytest.approx(multiplications, rel=0.02)


@pytest.mark.parametrize("stride_first", [True, False])
def test_where_the_stride_sits(stride_first):
    block = Bottleneck(8, 4, stride=2, stride_first=stride_first)
    strides = [m.stride[0] for m in block.path if isinstance(m, nn.Conv2d)]
    assert strides == ([2, 1, 1] if stride_first else [1, 2, 1])
    assert block.shortcut[0].stride == (2, 2)
    assert block(torch.randn(2, 8, 7, 7)).shape == (2, 16, 4, 4)


def test_block_without_its_path_passes_x_on():
    block = Bottleneck(16, 4)
    nn.init.zeros_(block.path[-1].weight)
    x = torch.randn(2, 16, 3, 3)
    assert torch.equal(block(x), x.relu())
    assert list(block.shortcut.parameters()) == []
