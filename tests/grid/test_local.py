"""Locally connected layers against unfolded windows, and the table of parameters."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from gnnlib._platform.dgl import dgl
from gnnlib.grid import GridConv, LocalConv, Window, lattice, parameters, to_images, to_nodes
from gnnlib.testing.case import Case
from gnnlib.testing.checks import ARGUMENTS, sparse_tensors_are_refused
from gnnlib.testing.graphs import random_graph


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("batched", [True, False])
def test_against_a_loop_over_edges(groups, batched):
    torch.manual_seed(0)
    graph = lattice((6, 5), (3, 2), 2, 0, (1, 2))
    layer = LocalConv(graph, 4, 6, groups=groups).double()
    nn.init.normal_(layer.bias)
    x = torch.randn(3, 4, 6, 5, dtype=torch.float64, requires_grad=True)
    if batched:
        y = to_images(layer(dgl.batch([graph] * 3), to_nodes(x, 3).squeeze(1)), (2, 2))
    else:
        y = to_images(layer(graph, to_nodes(x)), (2, 2))

    windows = F.unfold(x, (3, 2), (1, 2), 0, 2).view(3, groups, 4 // groups, 6, 4)  # (B, groups, in, K, N_out)
    weight = layer.weight.view(4, 6, 4 // groups, groups, 6 // groups)  # (N_out, K, in, groups, out)
    expected = torch.einsum("bgfkn,nkfgo->bgon", windows, weight).flatten(1, 2) + layer.bias.T
    inputs = [x, layer.weight, layer.bias]
    torch.testing.assert_close(y.flatten(2), expected, rtol=0, atol=1e-12)
    error = torch.randn_like(expected)
    for got, reference in zip(
        torch.autograd.grad(y.flatten(2), inputs, error), torch.autograd.grad(expected, inputs, error)
    ):
        torch.testing.assert_close(got, reference, rtol=0, atol=1e-12)


def test_with_shared_weights_it_is_the_convolution():
    torch.manual_seed(0)
    graph = lattice((6, 5), 3, 1, 1)
    shared, layer = GridConv(2, 3, 3).double(), LocalConv(graph, 2, 3).double()
    with torch.no_grad():
        layer.weight.copy_(shared.weight.flatten(2).permute(2, 1, 0)[graph.edata["tap"]])
        layer.bias.copy_(shared.bias.expand(30, 3))
    x = torch.randn(30, 2, 2, dtype=torch.float64)
    torch.testing.assert_close(layer(graph, x), shared(graph, x), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("window", "dense", "local", "shared"),
    [
        # Goodfellow et al. 2016, Deep Learning, figure 9.6: differences of neighbouring pixels
        (Window.of((280, 320), (1, 2)), 8_003_072_000, 178_640, 2),
        (Window.of((28, 28), 5), 784 * 576, 576 * 25, 25),
        (Window.of((28, 28), 3, padding=1), 784 * 784, 6724, 9),  # 82 * 82: no weights for the padding
        (Window.of(10, 3, dilation=2), 60, 18, 3),
    ],
)
def test_the_table_of_parameters(window, dense, local, shared):
    assert parameters(window) == {"dense": dense, "local": local, "shared": shared}


def test_parameters():
    window, graph = Window.of((6, 5), 3, 2, 1), lattice((6, 5), 3, 2, 1)
    counts = parameters(window, 2, 4, bias=True)

    def count(layer):
        return sum(p.numel() for p in layer.parameters())

    outputs = graph.num_nodes("out")
    assert counts["dense"] == count(nn.Linear(30 * 2, outputs * 4))
    assert counts["local"] == count(LocalConv(graph, 2, 4))
    assert counts["shared"] == count(nn.Conv2d(2, 4, 3))


CASES = [
    Case("local", lambda: LocalConv(random_graph(), 4, 6), None, None, in_feats=4),
    Case("options", lambda: LocalConv(random_graph(), 4, 6, groups=2, bias=False), None, None, in_feats=4),
]


@pytest.mark.parametrize("check", [*ARGUMENTS, sparse_tensors_are_refused], ids=lambda check: check.__name__)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_arguments(case, check):
    check(case)


def test_invalid_arguments():
    graph = lattice((5, 5), 3)
    with pytest.raises(TypeError, match=r"LocalConv: expected a graph .*, got .*int"):
        LocalConv(3, 3, 4)
    with pytest.raises(ValueError, match="LocalConv: expected widths divisible by groups, got 3 -> 4, 2"):
        LocalConv(graph, 3, 4, groups=2)
    layer = LocalConv(graph, 2, 3)
    with pytest.raises(ValueError, match=r"copies of a graph with 9 destinations and 81 edges, got 9 and 9"):
        layer(lattice((3, 3), 1), torch.ones(9, 2))
    with pytest.raises(ValueError, match=r"of shape \(25, \.\.\., 2\), got \(25, 3\)"):
        layer(graph, torch.ones(25, 3))
