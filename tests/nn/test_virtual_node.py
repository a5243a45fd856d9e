"""VirtualNode: its equations graph by graph; what a message reaches with it and without."""

import pytest
import torch
from torch import nn

from gnnlib import GCNConv, GINEConv, GNNLayer, Stack, VirtualNode, readout_mean
from gnnlib._platform.dgl import dgl
from gnnlib.testing.graphs import random_graph


def ring(n):
    return dgl.graph((torch.arange(n), torch.arange(n).roll(1)))


def model(layers=3, feats=4, **options):
    return VirtualNode([GNNLayer(GCNConv(feats, feats), activation=nn.Tanh()) for _ in range(layers)], feats, **options)


@pytest.mark.parametrize("training", [True, False])
def test_its_equations_written_out(training):
    graphs, feats = [ring(3), random_graph(), dgl.graph(([], []), num_nodes=2)], 4
    net = model().double().train(training)
    nn.init.normal_(net.start)
    batch, x = dgl.batch(graphs), torch.randn(16, feats).double()
    v = net.start.expand(3, feats)
    h = x
    for i, block in enumerate(net.blocks):
        z = h + torch.cat([row.expand(g.num_nodes(), -1) for row, g in zip(v, graphs)])
        h = torch.cat([block(g, part) for g, part in zip(graphs, z.split([3, 11, 2]))])
        if i < 2:
            update = net.updates[i]
            v = v + torch.stack([part.sum(0) for part in z.split([3, 11, 2])])
            for linear, norm in ((update[0], update[1]), (update[3], update[4])):
                v = linear(v)
                if training:
                    v = (v - v.mean(0)) / (v.var(0, unbiased=False) + norm.eps).sqrt()
                else:
                    v = v / (1 + norm.eps) ** 0.5
                v = v.relu()
    torch.testing.assert_close(net(batch, x), h)


def test_two_blocks_reach_the_other_end_of_a_long_path():
    path = dgl.graph((torch.arange(19), torch.arange(1, 20)))
    x = torch.randn(20, 4, requires_grad=True)
    for net, seen in (
        (Stack([GNNLayer(GCNConv(4, 4)) for _ in range(2)]), [17]),
        (VirtualNode([GNNLayer(GCNConv(4, 4)) for _ in range(2)], 4).eval(), list(range(20))),
    ):
        for update in getattr(net, "updates", []):
            nn.init.constant_(update[3].bias, 100.0)  # no ReLU is shut
            nn.init.constant_(update[0].bias, 100.0)
        x.grad = None
        net(path, x)[19].sum().backward()
        assert x.grad.abs().sum(1).nonzero().flatten().tolist() == seen


def test_graphs_of_a_batch_are_independent():
    graphs, net = [ring(3), ring(5)], model().eval()
    x = torch.randn(8, 4)
    apart = torch.cat([net(g, part) for g, part in zip(graphs, x.split([3, 5]))])
    torch.testing.assert_close(net(dgl.batch(graphs), x), apart)


def test_nodes_in_another_order():
    graph, net, order = random_graph(), model().double().eval(), torch.randperm(11)
    x, src, dst = torch.randn(11, 4).double(), *graph.edges()
    moved = dgl.graph((order.argsort()[src], order.argsort()[dst]), num_nodes=11)
    torch.testing.assert_close(net(moved, x[order]), net(graph, x)[order])


def test_several_signals_on_one_graph():
    graph, net, x = random_graph(), model().eval(), torch.randn(11, 3, 4)
    torch.testing.assert_close(net(graph, x), torch.stack([net(graph, signal) for signal in x.unbind(1)], 1))


def test_in_a_stack_with_edges_trained_on_a_single_graph():
    blocks = [GNNLayer(GINEConv(4, 4, edge_feats=2)) for _ in range(3)]
    net = Stack(
        [VirtualNode(blocks, 4, dropout=0.5)], encoder=nn.Linear(3, 4), readout=readout_mean, head=nn.Linear(4, 1)
    )
    graph = random_graph()
    net(graph, torch.randn(11, 3), torch.randn(23, 2)).sum().backward()
    quiet = [name for name, p in net.named_parameters() if p.grad is None]
    assert not quiet
    assert sum(name.startswith("blocks.0.updates.1") for name in net.state_dict()) > 0
    assert not any(name.startswith("blocks.0.updates.2") for name in net.state_dict()), "none after the last block"


def test_invalid_arguments():
    with pytest.raises(ValueError, match="expected at least one block, got none"):
        VirtualNode([], 4)
    graph = dgl.heterograph({("in", "to", "out"): ([0, 1], [0, 0])})
    with pytest.raises(ValueError, match="expected a graph with one node set, got 2 sources, 1 "):
        model()(graph, torch.ones(2, 4))


def test_layers_alone_become_blocks():
    """The same numbers as with each in a `GNNLayer`; edge values reach them too."""
    layers = [GCNConv(4, 4) for _ in range(2)]
    graph, x = dgl.rand_graph(6, 14), torch.randn(6, 4)
    alone = VirtualNode(layers, 4).eval()
    inside = VirtualNode([GNNLayer(layer) for layer in layers], 4).eval()
    inside.load_state_dict(alone.state_dict())
    weight = torch.rand(14)
    assert torch.equal(alone(graph, x, weight), inside(graph, x, weight))
