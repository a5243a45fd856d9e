"""Gradient gating: its formula on dense matrices, and what it keeps."""

import pytest
import torch
from torch import nn

from gnnlib import GATConv, GCNConv, GNNLayer, GradientGating, SAGEConv, Stack
from gnnlib._platform.dgl import dgl
from gnnlib.testing.graphs import GRAPHS, edgeless, endpoints, path, random_graph


def dense(layer, graph, x, edge=None):
    """Rusch et al. 2023: y = (1 - tau) x + tau sigma(conv(x)), edge by edge."""
    y, g = (layer.activation(conv(graph, x, edge).flatten(x.dim() - 1)) for conv in (layer.conv, layer.gate))
    differences, degrees = torch.zeros_like(x), graph.in_degrees().clamp(min=1)
    for u, v in zip(*(ends.tolist() for ends in endpoints(graph))):
        differences = differences.index_add(0, torch.tensor([v]), (g[u] - g[v]).abs().pow(layer.p).unsqueeze(0))
    if layer.reduce == "mean":
        differences = differences / degrees.view(-1, *(1,) * (x.dim() - 1))
    tau = torch.tanh(differences)
    return (1 - tau) * x + tau * y


@pytest.mark.parametrize("signals", [(), (2,)])
@pytest.mark.parametrize(("p", "reduce"), [(2, "sum"), (1, "sum"), (2.5, "mean")])
def test_formula_and_gradients(p, reduce, signals):
    graph, layer = random_graph(), GradientGating(GCNConv(4, 4), gate=SAGEConv(4, 4), p=p, reduce=reduce).double()
    x = torch.randn(11, *signals, 4, dtype=torch.float64, requires_grad=True)
    edge = torch.rand(23, dtype=torch.float64)
    y, expected = layer(graph, x, edge), dense(layer, graph, x, edge)
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-12)
    leaves, loss = [x, *layer.parameters()], torch.randn_like(y)
    ours, theirs = (torch.autograd.grad(output, leaves, loss) for output in (y, expected))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-10)


def test_second_derivative():
    graph, layer = path(4), GradientGating(GCNConv(2, 2), gate=GCNConv(2, 2), activation=nn.Tanh).double()
    x = torch.randn(4, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: layer(graph, x), x)
    assert torch.autograd.gradgradcheck(lambda x: layer(graph, x), x, fast_mode=True)


def test_heads_are_concatenated_and_one_layer_may_be_both():
    graph, x, conv = random_graph(), torch.randn(11, 4), GATConv(4, 2, num_heads=2)
    layer = GradientGating(conv, gate=conv)
    assert len(list(layer.parameters())) == len(list(conv.parameters()))
    torch.testing.assert_close(layer(graph, x), dense(layer, graph, x))
    assert torch.equal(GNNLayer(layer, activation=nn.ReLU())(graph, x), layer(graph, x).relu())


def test_equal_nodes_and_nodes_without_neighbours_keep_their_features():
    conv = SAGEConv(3, 3)
    layer = GradientGating(conv, gate=conv)
    x = torch.randn(5, 3)
    assert torch.equal(layer(edgeless(5), x), x)
    ring = dgl.graph((torch.arange(5), (torch.arange(5) + 1) % 5))
    assert torch.equal(layer(ring, x[:1].expand(5, 3)), x[:1].expand(5, 3))


def test_batch_equals_one_by_one():
    layer, parts = GradientGating(GCNConv(3, 3), gate=SAGEConv(3, 3)), [random_graph(), edgeless(0), path(4)]
    xs = [torch.randn(part.num_nodes(), 3) for part in parts]
    alone = torch.cat([layer(part, x) for part, x in zip(parts, xs)])
    torch.testing.assert_close(layer(dgl.batch(parts), torch.cat(xs)), alone)


def test_layers_of_dgl_receive_edge_weights_by_name():
    graph, x, edge = path(4), torch.rand(4, 3), torch.rand(path(4).num_edges())
    foreign, conv = dgl.nn.GraphConv(3, 3, allow_zero_in_degree=True), GCNConv(3, 3)
    conv.load_state_dict(foreign.state_dict())
    for values in (None, edge):
        torch.testing.assert_close(
            GradientGating(foreign, gate=foreign)(graph, x, values), GradientGating(conv, gate=conv)(graph, x, values)
        )


def test_widths_and_node_sets_are_checked():
    layer = GradientGating(GCNConv(3, 4), gate=GCNConv(3, 4))
    with pytest.raises(ValueError, match=r"output has the shape of x, \(4, 3\), got \(4, 4\).*encoder=True"):
        layer(path(4), torch.rand(4, 3))
    block = GRAPHS["block"]()
    with pytest.raises(ValueError, match="GradientGating: expected a graph with one node set"):
        GradientGating(GCNConv(3, 3), gate=GCNConv(3, 3))(block, torch.rand(block.num_src_nodes(), 3))


def test_sixty_four_layers_keep_nodes_apart():
    """Without gates the features of all nodes become equal; with gates they do not."""
    torch.manual_seed(0)
    graph, x = dgl.add_self_loop(random_graph()), torch.rand(11, 8)
    spread = {}
    for name, conv in (("gcn", GCNConv), ("g2", lambda i, o: GradientGating(GCNConv(i, o), gate=GCNConv(i, o)))):
        model = Stack.build(conv, 8, 8, 2, 64, encoder=True)
        model.head = None
        spread[name] = model(graph, x).std(0).mean().item()
    assert spread["g2"] > 1000 * spread["gcn"]
