"""Saliency against finite differences and Euler's theorem; attention against GAT's coefficients."""

from functools import partial

import pytest
import torch
from torch import nn

from gnnlib import (
    BatchNorm,
    ECConv,
    GATConv,
    GATv2Conv,
    GCNConv,
    GINConv,
    GNNLayer,
    Stack,
    readout_mean,
    readout_sum,
)
from gnnlib._platform.dgl import dgl
from gnnlib.analysis.attribution import attention, saliency
from gnnlib.analysis.symmetry import node_permutation, relabel
from gnnlib.graph import edge_endpoints
from gnnlib.images import pixel_graph
from gnnlib.testing.graphs import random_graph


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def batch(*seeds):
    return dgl.batch([random_graph(seed=seed) for seed in seeds])


def net(conv=GCNConv, **remedies):
    return Stack.build(conv, 3, 8, 4, num_layers=2, readout=readout_mean, **remedies).double().eval()


def test_saliency_is_the_derivative_by_the_scale_of_a_nodes_features():
    graph, model = batch(0, 1), net(activation=nn.Tanh)
    x, target = torch.randn(graph.num_nodes(), 3, dtype=torch.float64), torch.tensor([3, 1])
    importance = saliency(model, graph, x, target)
    step = 1e-6
    for node in range(len(x)):
        scale = torch.zeros(len(x), 1, dtype=torch.float64)
        scale[node] = step
        with torch.no_grad():
            up, down = (model(graph, x * (1 + sign * scale)).gather(1, target[:, None]).sum() for sign in (1, -1))
        torch.testing.assert_close(importance[node], ((up - down) / (2 * step)).abs(), rtol=1e-6, atol=1e-9)


def test_saliencies_of_a_homogeneous_network_sum_to_the_score():
    """Without biases, with ReLUs, features and weights >= 0: S = sum of gradient times input (Euler)."""
    graph = batch(2, 3)
    convs = GCNConv(3, 5, bias=False), GCNConv(5, 4, bias=False)
    model = Stack([GNNLayer(convs[0], activation=nn.ReLU()), GNNLayer(convs[1])], readout=readout_sum)
    for parameter in model.parameters():
        parameter.data.abs_()
    x, target = torch.rand(graph.num_nodes(), 3), torch.tensor([0, 2])
    importance = saliency(model, graph, x, target)
    scores = model(graph, x).gather(1, target[:, None]).flatten()
    torch.testing.assert_close(readout_sum(graph, importance.unsqueeze(1)).flatten(), scores)


def test_unreachable_nodes_have_saliency_0():
    graph = dgl.graph(([0, 1], [1, 2]), num_nodes=4)
    model = lambda graph, x: GCNConv(3, 2)(graph, x)[1:2]  # noqa: E731
    importance = saliency(model, graph, torch.randn(4, 3), torch.tensor([1]))
    assert importance[0] > 0
    assert importance[1:].tolist() == [0, 0, 0]


@pytest.mark.parametrize("conv", [GCNConv, lambda i, o: GATConv(i, o // 2, 2), lambda i, o: GINConv(i, o)])
def test_a_batch_equals_its_graphs_one_by_one_and_signals_too(conv):
    graphs = [random_graph(seed=seed) for seed in (4, 5)]
    batched, model = dgl.batch(graphs), net(conv, norm=BatchNorm)
    x, target = torch.randn(batched.num_nodes(), 3, dtype=torch.float64), torch.tensor([1, 3])
    parts = [saliency(model, g, h, t[None]) for g, h, t in zip(graphs, x.split(graphs[0].num_nodes()), target)]
    torch.testing.assert_close(saliency(model, batched, x, target), torch.cat(parts))
    signals = x[: graphs[0].num_nodes()].unsqueeze(1).repeat(1, 2, 1)

    def one_each(graph, x):
        return model(graph, x)[0]

    both = saliency(one_each, graphs[0], signals, torch.tensor([1, 1]))
    torch.testing.assert_close(both, parts[0].unsqueeze(1).expand(-1, 2))


def test_relabelled_nodes_have_the_same_saliency():
    graph, model = random_graph(seed=6), net()
    x, target, order = torch.randn(graph.num_nodes(), 3).double(), torch.tensor([2]), node_permutation(graph, 1)
    torch.testing.assert_close(
        saliency(model, relabel(graph, order), x[order], target), saliency(model, graph, x, target)[order]
    )


def test_edge_features_are_passed_and_no_gradients_remain():
    graph = random_graph(seed=7)
    model = net(partial(ECConv, edge_feats=2))
    edge = torch.randn(graph.num_edges(), 2).double()
    x = torch.randn(graph.num_nodes(), 3).double()
    with torch.no_grad():
        importance = saliency(model, graph, x, torch.tensor([0]), edge=edge)
    assert not importance.requires_grad
    assert not x.requires_grad
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not torch.equal(importance, saliency(model, graph, x, torch.tensor([0]), edge=2 * edge))


@pytest.mark.parametrize("conv", [GATConv, GATv2Conv])
def test_attention_of_every_layer_in_order(conv):
    graph = pixel_graph((4, 5))
    model = net(lambda i, o: conv(i, o // 2, 2))
    x = torch.randn(20, 7, 3, dtype=torch.float64)
    before = model(graph, x)
    first, last = attention(model, graph, x)
    assert first.shape == last.shape == (graph.num_edges(), 7, 2)
    hidden, expected = model.blocks[0].conv(graph, x, get_attention=True)
    torch.testing.assert_close(first, expected)
    hidden = hidden.flatten(-2).relu()
    torch.testing.assert_close(last, model.blocks[1].conv(graph, hidden, get_attention=True)[1])
    sums = torch.zeros(20, 7, 2, dtype=torch.float64).index_add_(0, edge_endpoints(graph)[1].long(), first)
    torch.testing.assert_close(sums, torch.ones_like(sums))
    assert torch.equal(model(graph, x), before)
    assert not any(module._forward_hooks for module in model.modules())


def test_a_model_without_attention_and_hooks_after_an_error():
    assert attention(net(), random_graph(), torch.randn(11, 3).double()) == []
    model = net(lambda i, o: GATConv(i, o // 2, 2))
    with pytest.raises(ValueError, match="expected x of shape"):
        attention(model, random_graph(), torch.randn(11, 5).double())
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (torch.tensor([0, 1]), r"scores \(B, C\) and classes \(B,\), got \(1, 4\) and \(2,\)"),
        (torch.tensor([4]), r"classes from 0 to 3, got \[4\]"),
        (torch.tensor([-1]), r"classes from 0 to 3, got \[-1\]"),
    ],
)
def test_invalid_targets(target, message):
    with pytest.raises(ValueError, match=message):
        saliency(net(), random_graph(), torch.randn(11, 3).double(), target)
