"""Norms: those of torch where it has them, and PairNorm's formula graph by graph."""

import pytest
import torch
from torch import nn

from gnnlib import BatchNorm, LayerNorm, PairNorm
from gnnlib._dgl import dgl
from tests.graphs import GRAPHS, bare, bipartite, path, random_graph

NORMS = [BatchNorm, LayerNorm, PairNorm]


@pytest.mark.parametrize("signals", [(), (3,), (2, 2)])
def test_batch_norm_is_torchs_over_nodes_and_signals(signals):
    graph, norm, twin = random_graph(), BatchNorm(4), nn.BatchNorm1d(4)
    for _ in range(3):
        x = 3 + 2 * torch.randn(11, *signals, 4)
        found, expected = norm(graph, x), twin(x.reshape(-1, 4)).view(x.shape)
        torch.testing.assert_close(found, expected, rtol=0, atol=0)
    torch.testing.assert_close(found.reshape(-1, 4).mean(0), torch.zeros(4), rtol=0, atol=1e-6)
    torch.testing.assert_close(norm.state_dict(), twin.state_dict(), rtol=0, atol=0)
    assert torch.equal(norm.eval()(graph, x), twin.eval()(x.reshape(-1, 4)).view(x.shape))


def test_batch_norm_of_one_row_uses_and_keeps_the_running_statistics():
    graph, norm = bare(1), BatchNorm(3)
    norm(random_graph(), 5 + torch.randn(11, 3))
    before = {name: value.clone() for name, value in norm.state_dict().items()}
    x = torch.randn(1, 3, requires_grad=True)
    y = norm.train()(graph, x)
    torch.testing.assert_close(y, (x - before["running_mean"]) / (before["running_var"] + 1e-5).sqrt())
    torch.testing.assert_close(norm.state_dict(), before, rtol=0, atol=0)
    y.sum().backward()
    assert bool((x.grad > 0).all())
    assert norm(graph, torch.randn(1, 2, 3)).shape == (1, 2, 3)  # two signals on one node are two rows


@pytest.mark.parametrize("signals", [(), (3,)])
def test_layer_norm_is_torchs(signals):
    x, twin = torch.randn(11, *signals, 4), nn.LayerNorm(4)
    norm = LayerNorm(4)
    nn.init.normal_(norm.weight)
    twin.load_state_dict(norm.state_dict())
    assert torch.equal(norm(random_graph(), x), twin(x))


def pair_norm(x, scale, individually):
    """Equations 10 and 11 on one graph, x (n, F)."""
    centred = x - x.sum(0) / len(x)
    rows = centred.pow(2).sum(1)
    return scale * centred / (rows.sqrt().unsqueeze(1) if individually else (rows.sum() / len(x)).sqrt())


@pytest.mark.parametrize("individually", [False, True])
@pytest.mark.parametrize("scale", [1.0, 2.5])
def test_pair_norm_is_its_formula_for_each_graph_and_signal(scale, individually):
    parts = [random_graph(6, 9), bare(0), path(4), bare(3)]
    graph, x = dgl.batch(parts), 3 + torch.randn(13, 2, 5, dtype=torch.float64)
    y = PairNorm(5, scale=scale, individually=individually)(graph, x)
    for part, out in zip(x.split([6, 4, 3]), y.split([6, 4, 3])):
        for signal in range(2):
            expected = pair_norm(part[:, signal], scale, individually)
            torch.testing.assert_close(out[:, signal], expected, rtol=0, atol=1e-9)


def test_pair_norm_keeps_the_mean_squared_distance():
    """The mean over pairs of |y_u - y_v|^2 is 2 s^2, whatever came in."""
    graph, norm = random_graph(), PairNorm(scale=3.0)
    for spread in (0.01, 1.0, 100.0):
        y = norm(graph, 7 + spread * torch.randn(11, 4, dtype=torch.float64))
        assert torch.cdist(y, y).pow(2).mean().item() == pytest.approx(2 * 3.0**2, rel=1e-6)


def test_pair_norm_of_equal_nodes_is_zero_and_has_finite_gradients():
    for graph in (bare(1), path(4)):
        x = torch.full((graph.num_nodes(), 3), 2.0, requires_grad=True)
        y = PairNorm()(graph, x)
        assert bool((y == 0).all())
        y.sum().backward()
        assert bool(x.grad.isfinite().all())


@pytest.mark.parametrize("individually", [False, True])
def test_pair_norm_is_differentiable_twice(individually):
    graph = dgl.batch([path(3), path(2)])
    x = torch.randn(5, 2, dtype=torch.float64, requires_grad=True)
    norm = PairNorm(individually=individually)
    assert torch.autograd.gradcheck(lambda x: norm(graph, x), x)
    assert torch.autograd.gradgradcheck(lambda x: norm(graph, x), x, fast_mode=True)


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("norm", NORMS)
def test_every_graph(norm, name):
    """Destinations are what is normalised: a block's, too, which counts as one graph."""
    graph = GRAPHS[name]()
    x = torch.randn(graph.num_dst_nodes(), 4)
    y = norm(4)(graph, x)
    assert y.shape == x.shape
    assert bool(y.isfinite().all())


def test_a_block_and_two_node_sets_count_as_one_graph():
    for graph in (GRAPHS["block"](), GRAPHS["bare_block"](), bipartite()):
        x = torch.randn(4, 3, dtype=torch.float64)
        torch.testing.assert_close(PairNorm()(graph, x), pair_norm(x, 1.0, False), rtol=0, atol=1e-9)


@pytest.mark.parametrize("norm", NORMS)
def test_permutation(norm):
    graph, order = random_graph(), torch.randperm(11)
    x = torch.randn(11, 4, dtype=torch.float64)
    one = norm(4).double()
    torch.testing.assert_close(one(graph, x[order]), one(graph, x)[order], rtol=0, atol=1e-12)
