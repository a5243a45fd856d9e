"""Skips: their equations, and those of dgl.nn with copied weights."""

import math

import pytest
import torch
from torch import nn

from gnnlib import (
    DenseConnection,
    GATConv,
    GCNConv,
    GINConv,
    GNNLayer,
    GRUUpdate,
    InitialResidual,
    JumpingKnowledge,
    LayerNorm,
    Residual,
    SAGEConv,
    SkipNode,
    Stack,
)
from gnnlib._platform.dgl import dgl
from gnnlib.nn.reparametrize import identity_mapping, share_parameters_
from gnnlib.testing.graphs import GRAPHS, symmetric_graph

TOLERANCES = pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])


def test_residual_adds_the_input():
    y, x = torch.randn(5, 2, 3), torch.randn(5, 2, 3)
    skip = Residual(3, 3)
    assert torch.equal(skip(y, x, None), x + y)
    assert not list(skip.parameters())


@pytest.mark.parametrize("skip", [Residual(4, 3), Residual(4, 3, linear=True), Residual(3, 3, linear=True)])
def test_residual_projects_where_widths_differ_or_as_asked(skip):
    y, x = torch.randn(5, 3), torch.randn(5, skip.in_feats)
    (weight,) = skip.parameters()
    torch.testing.assert_close(skip(y, x, None), y + torch.einsum("oi,ni->no", weight, x))


def test_residuals_of_a_block_take_the_first_rows():
    y, x = torch.zeros(2, 3), torch.randn(5, 3)
    assert torch.equal(Residual(3, 3)(y, x, None), x[:2])
    mixed = InitialResidual(3, 3, alpha=0.5, lam=None)(y, x, 2 * x)
    torch.testing.assert_close(mixed, x[:2])


def test_skip_node_is_a_sampled_identity():
    """z = P x + (1 - P) y with a diagonal P of zeros and ones, of the mean p; so is the gradient. y in evaluation."""
    torch.manual_seed(0)
    y, x = (torch.randn(4000, 2, 3, requires_grad=True) for _ in range(2))
    skip = SkipNode(3, 3, p=0.3)
    z = skip(y, x, None)
    skips = (z == x).all(-1, keepdim=True).float()
    torch.testing.assert_close(z, skips * x + (1 - skips) * y, rtol=0, atol=0)
    torch.testing.assert_close(skips.mean((0, 2)), torch.tensor([0.3, 0.3]), rtol=0, atol=0.03)
    assert not torch.equal(skips[:, 0], skips[:, 1])
    loss = torch.randn_like(z)
    grads = torch.autograd.grad(z, [x, y], loss)
    torch.testing.assert_close(grads, (skips * loss, (1 - skips) * loss), rtol=0, atol=0)
    assert torch.equal(SkipNode(3, 3, p=1)(y, x, None), x)
    assert SkipNode(3, 3, p=0)(y, x, None) is y
    assert skip.eval()(y, x, None) is y


def test_nodes_skip_a_layer_with_its_activation():
    """Rows of the output are those of the input, or of the layer; without a skip all are those of the layer."""
    torch.manual_seed(0)
    graph, x, conv = symmetric_graph(), torch.rand(11, 4), GCNConv(4, 4)
    layer = GNNLayer(conv, skip=SkipNode(4, 4), activation=nn.ReLU())
    z, y = layer(graph, x), conv(graph, x).relu()
    skips = (z == x).all(1)
    assert 0 < int(skips.sum()) < 11
    assert torch.equal(z, torch.where(skips.unsqueeze(1), x, y))
    assert torch.equal(layer.eval()(graph, x), y)


@pytest.mark.parametrize("layer", [1, 4, 64])
def test_initial_residual_is_equation_5(layer):
    y, x0 = torch.randn(5, 3, dtype=torch.float64), torch.randn(5, 3, dtype=torch.float64)
    skip = InitialResidual(3, 3, layer, alpha=0.2, lam=1.5).double()
    beta = math.log(1.5 / layer + 1)
    z = 0.8 * y + 0.2 * x0
    expected = z @ ((1 - beta) * torch.eye(3, dtype=torch.float64) + beta * skip.weight)
    torch.testing.assert_close(skip(y, torch.randn(5, 3), x0), expected, rtol=0, atol=1e-13)


@TOLERANCES
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("layer", [1, 2, 7])
def test_a_block_is_dgls_gcnii_layer(layer, weighted, dtype, tolerance):
    """Forward and gradients, with its weights, on a graph whose degrees are the same in and out."""
    graph = symmetric_graph()
    twin = dgl.nn.GCN2Conv(4, layer, alpha=0.3, lambda_=0.7, bias=False).to(dtype)
    nn.init.uniform_(twin.weight1, -0.5, 0.5)
    conv = GCNConv(4, 4, degrees="weighted" if weighted else "unweighted", weight=False, bias=False)
    block = GNNLayer(conv, skip=InitialResidual(4, 4, layer, alpha=0.3, lam=0.7)).to(dtype)
    block.skip.load_state_dict({"weight": twin.weight1})
    x, x0 = (torch.randn(11, 4, dtype=dtype, requires_grad=True) for _ in range(2))
    edge = torch.rand(graph.num_edges(), dtype=dtype) + 0.1 if weighted else None
    actual, expected = block(graph, x, edge, x0), twin(graph, x, x0, edge)
    torch.testing.assert_close(actual, expected, rtol=0, atol=tolerance)
    loss = torch.randn(11, 4, dtype=dtype)
    ours = torch.autograd.grad(actual, [x, x0, block.skip.weight], loss)
    theirs = torch.autograd.grad(expected, [x, x0, twin.weight1], loss)
    for a, b in zip(ours, theirs):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


def test_initial_residual_refuses_other_widths():
    with pytest.raises(ValueError, match="equal widths, got 3 -> 4"):
        InitialResidual(3, 4)
    y = torch.ones(5, 3)
    with pytest.raises(ValueError, match=r"width 3, got None"):
        InitialResidual(3, 3)(y, y, None)
    with pytest.raises(ValueError, match=r"width 3, got \(5, 4\)"):
        InitialResidual(3, 3)(y, y, torch.ones(5, 4))


def test_gcnii_written_two_ways_is_one_layer():
    """The identity mapping as a skip after a layer without weight, or as the form of the layer's own weight."""
    graph, x, x0 = symmetric_graph(), *torch.randn(2, 11, 4, dtype=torch.float64)
    bare = GCNConv(4, 4, weight=False, bias=False)
    one = GNNLayer(bare, skip=InitialResidual(4, 4, layer=3, alpha=0.0, lam=0.7)).double()
    mapped = GNNLayer(identity_mapping(GCNConv(4, 4, bias=False), layer=3, lam=0.7)).double()
    with torch.no_grad():
        mapped.conv.parametrizations.weight.original.copy_(one.skip.weight)
    torch.testing.assert_close(mapped(graph, x), one(graph, x, None, x0))


@pytest.mark.parametrize(
    ("conv", "norm"),
    [(GCNConv, None), (lambda i, o: GATConv(i, o // 2, 2), None), (GINConv, LayerNorm), (SAGEConv, LayerNorm)],
)
def test_initial_residual_with_identity_mapping_of_any_layer(conv, norm):
    """Sixty-four deep: what goes out is of the size of what came in, and gradients reach the bottom. Layers that
    average need nothing else; GIN and SAGE add a node to its neighbours, which doubles, so they need a norm."""
    torch.manual_seed(0)
    graph, x = symmetric_graph(), torch.randn(11, 8, requires_grad=True)
    blocks = [
        GNNLayer(identity_mapping(conv(8, 8), layer), norm=norm and norm(8), skip=InitialResidual(8, 8, lam=None))
        for layer in range(1, 65)
    ]
    y = Stack(blocks)(graph, x)
    y.square().sum().backward()
    assert 0.01 < y.std().item() < 100
    assert x.grad.abs().max() > 1e-4


# ---------------------------------------------------------------- dense


def test_dense_connection_puts_both_side_by_side():
    y, x = torch.randn(5, 2, 3), torch.randn(7, 2, 4)
    skip = DenseConnection(4, 3)
    assert skip.out_feats == 7
    assert torch.equal(skip(y, x, None), torch.cat([x[:5], y], 2))


def test_each_block_of_a_dense_stack_sees_all_before_it():
    """Huang et al., equation 2: x_l = H_l([x_0, ..., x_l-1]); with a ReLU, which leaves what it has made."""
    graph, x = symmetric_graph(), torch.rand(11, 3, dtype=torch.float64)
    convs = [GCNConv(3 + 2 * layer, 2).double() for layer in range(4)]
    blocks = [GNNLayer(conv, skip=DenseConnection(conv.in_feats, 2), activation=nn.ReLU()) for conv in convs]
    outputs = [x]
    for conv in convs:
        outputs.append(conv(graph, torch.cat(outputs, 1)).relu())
    torch.testing.assert_close(Stack(blocks)(graph, x), torch.cat(outputs, 1))


# ---------------------------------------------------------------- gated


@pytest.mark.parametrize("signals", [(), (3,), (2, 2)])
def test_gru_update_is_the_papers_equations(signals):
    y, x = torch.randn(5, *signals, 4, dtype=torch.float64), torch.randn(7, *signals, 4, dtype=torch.float64)
    skip = GRUUpdate(4, 4).double()
    cell, old = skip.cell, x[:5]
    wr, wz, wn = cell.weight_ih.chunk(3)
    ur, uz, un = cell.weight_hh.chunk(3)
    (ar, az, an), (br, bz, bn) = cell.bias_ih.chunk(3), cell.bias_hh.chunk(3)
    reset, update = (torch.sigmoid(y @ w.T + a + old @ u.T + b) for w, a, u, b in ((wr, ar, ur, br), (wz, az, uz, bz)))
    new = torch.tanh(y @ wn.T + an + reset * (old @ un.T + bn))
    torch.testing.assert_close(skip(y, x, None), (1 - update) * new + update * old)


@TOLERANCES
def test_a_shared_stack_with_gru_updates_is_dgls_gated_graph_network(dtype, tolerance):
    graph, x = symmetric_graph(), torch.randn(11, 4, dtype=dtype)
    twin = dgl.nn.GatedGraphConv(4, 4, n_steps=5, n_etypes=1).to(dtype)
    blocks = [GNNLayer(GCNConv(4, 4, norm="none", bias=False), skip=GRUUpdate(4, 4)) for _ in range(5)]
    model = Stack(blocks).to(dtype)
    share_parameters_(model.blocks)
    with torch.no_grad():
        model.blocks[0].conv.weight.copy_(twin.linears[0].weight.T)
        model.blocks[0].skip.cell.load_state_dict(twin.gru.state_dict())
    torch.testing.assert_close(model(graph, x), twin(graph, x), rtol=0, atol=tolerance)
    assert sum(p.numel() for p in model.parameters()) == sum(p.numel() for p in twin.parameters()) - 4


def test_gru_update_refuses_other_widths():
    with pytest.raises(ValueError, match="GRUUpdate: expected equal widths, got 3 -> 4"):
        GRUUpdate(3, 4)


# ---------------------------------------------------------------- jumping knowledge


@TOLERANCES
@pytest.mark.parametrize("mode", ["cat", "max", "lstm"])
def test_jumping_knowledge_is_dgls(mode, dtype, tolerance):
    outputs = [torch.randn(6, 4, dtype=dtype, requires_grad=True) for _ in range(3)]
    twin = dgl.nn.JumpingKnowledge(mode, 4, 3).to(dtype)
    jump = getattr(JumpingKnowledge, mode)(4, num_layers=3).to(dtype)
    jump.merge.load_state_dict(twin.state_dict())
    actual, expected = jump(outputs), twin(outputs)
    assert actual.shape == (6, jump.out_feats)
    torch.testing.assert_close(actual, expected, rtol=0, atol=tolerance)
    loss = torch.randn_like(actual)
    ours, theirs = (
        torch.autograd.grad(y, [*outputs, *module.parameters()], loss)
        for y, module in ((actual, jump), (expected, twin))
    )
    for a, b in zip(ours, theirs):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("mode", ["cat", "max", "lstm"])
def test_jumping_knowledge_of_several_signals_and_shrinking_blocks(mode):
    jump = getattr(JumpingKnowledge, mode)(4, num_layers=3)
    outputs = [torch.randn(n, 2, 4) for n in (7, 5, 3)]
    y = jump(outputs)
    assert y.shape == (3, 2, jump.out_feats)
    for signal in range(2):
        torch.testing.assert_close(y[:, signal], jump([out[:3, signal] for out in outputs]))


def test_jumping_knowledge_weighs_layers_by_shares_that_sum_to_one():
    x = torch.randn(6, 4)
    torch.testing.assert_close(JumpingKnowledge.lstm(4, 3)([x, x, x]), x)
    narrow = JumpingKnowledge.lstm(4, 3, hidden=2)
    torch.testing.assert_close(narrow([x, x, x]), x)
    assert narrow.merge.lstm.hidden_size == 2


@pytest.mark.parametrize("mode", ["cat", "max", "lstm"])
def test_jumping_knowledge_without_nodes(mode):
    jump = getattr(JumpingKnowledge, mode)(4, num_layers=2)
    assert jump([torch.ones(0, 4)] * 2).shape == (0, jump.out_feats)


def test_skips_on_a_message_flow_block():
    graph = GRAPHS["block"]()
    x = torch.randn(graph.num_src_nodes(), 5)
    dense = GNNLayer(GCNConv(5, 2), skip=DenseConnection(5, 2))(graph, x)
    assert dense.shape == (graph.num_dst_nodes(), 7)
    for skip in (Residual(5, 3), Residual(5, 5), InitialResidual(5, 5), GRUUpdate(5, 5)):
        width = 3 if isinstance(skip, Residual) and isinstance(skip.project, nn.Linear) else 5
        y = GNNLayer(GCNConv(5, width), skip=skip)(graph, x, None, x)
        assert y.shape == (graph.num_dst_nodes(), width)
