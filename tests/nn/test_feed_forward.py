"""Feed-forward blocks: their formula, and their place in a layer."""

from functools import partial

import pytest
import torch
from torch import nn

from gnnlib import BatchNorm, DenseConnection, FeedForward, GCNConv, GNNLayer, GraphNorm, LayerNorm, Residual, Stack
from gnnlib.large import layerwise_inference
from gnnlib.testing.graphs import GRAPHS, path, random_graph


def dense(block, x):
    """Luo et al. 2025: y = Norm(x + relu(x W_1 + b_1) W_2 + b_2), in training."""
    inner = torch.einsum("oi,...i->...o", block.expand.weight, x) + block.expand.bias
    y = x + torch.einsum("oi,...i->...o", block.reduce.weight, inner.clamp(min=0)) + block.reduce.bias
    rows = y.reshape(-1, y.shape[-1])
    if isinstance(block.norm, BatchNorm):
        y = ((rows - rows.mean(0)) / (rows.var(0, correction=0) + 1e-5).sqrt()).view(y.shape)
    return y


@pytest.mark.parametrize("signals", [(), (2,)])
@pytest.mark.parametrize("norm", [BatchNorm, None])
def test_formula_and_gradients(norm, signals):
    graph, block = random_graph(), FeedForward(4, hidden=6, norm=norm).double()
    x = torch.randn(11, *signals, 4, dtype=torch.float64, requires_grad=True)
    y, expected = block(graph, x), dense(block, x)
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-12)
    leaves = [x, *block.expand.parameters(), *block.reduce.parameters()]
    loss = torch.randn_like(y)
    ours, theirs = (torch.autograd.grad(output, leaves, loss) for output in (y, expected))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-10)


def test_second_derivative():
    graph, block = path(3), FeedForward(2).double()
    x = torch.randn(3, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x: block(graph, x), x, fast_mode=True)


def test_it_comes_last_in_a_layer():
    graph, x = random_graph(), torch.randn(11, 4)
    parts = {"norm": LayerNorm(4), "skip": Residual(4, 4), "activation": nn.ReLU()}
    conv, block = GCNConv(4, 4), FeedForward(4)
    plain = GNNLayer(conv, **parts)
    torch.testing.assert_close(GNNLayer(conv, **parts, feed_forward=block)(graph, x), dense(block, plain(graph, x)))
    linear = nn.Linear(4, 2)  # called without a graph
    assert torch.equal(GNNLayer(conv, feed_forward=linear)(graph, x), linear(conv(graph, x)))


def test_stack_has_one_of_the_width_of_each_layer_but_a_bare_last_one():
    factory = partial(FeedForward, norm=LayerNorm, dropout=0.3)
    blocks = Stack.build(GCNConv, 3, 4, 2, 3, feed_forward=factory).blocks
    assert [block.feed_forward and block.feed_forward.feats for block in blocks] == [4, 4, None]
    blocks = Stack.build(GCNConv, 3, 4, 2, 3, skip=DenseConnection, feed_forward=factory, head=True).blocks
    assert [block.feed_forward.feats for block in blocks] == [7, 11, 15]
    assert len({id(block.feed_forward) for block in blocks}) == 3


def test_dropout_draws_in_training_only():
    graph, x, block = random_graph(), torch.randn(11, 4), FeedForward(4, norm=None, dropout=0.5)
    assert not torch.equal(block(graph, x), block(graph, x))
    block.eval()
    torch.testing.assert_close(block(graph, x), dense(block, x))
    assert torch.equal(FeedForward(4, norm=None, dropout=1.0)(graph, x), x)


@pytest.mark.parametrize("name", GRAPHS)
def test_every_graph(name):
    graph = GRAPHS[name]()
    x = torch.randn(graph.num_dst_nodes(), 4)
    y = FeedForward(4)(graph, x)
    assert y.shape == x.shape
    assert bool(y.isfinite().all())


def test_layerwise_inference():
    graph, x = random_graph(), torch.randn(11, 3)
    build = partial(Stack.build, partial(GCNConv, norm="right"), 3, 4, 2, 3)
    model = build(feed_forward=FeedForward).eval()
    torch.testing.assert_close(layerwise_inference(model, graph, x, batch_size=4), model(graph, x))
    with pytest.raises(ValueError, match="treat nodes one by one, got GraphNorm"):
        layerwise_inference(build(feed_forward=partial(FeedForward, norm=GraphNorm)), graph, x)
