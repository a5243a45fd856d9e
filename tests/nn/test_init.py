"""Where weights start: the variance of features and the size of gradients, 64 layers deep, before and after."""

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
    PredEdgeConv,
    Residual,
    Reversible,
    ReversibleBlock,
    SAGEConv,
    SGConv,
    Stack,
    edge_softmax,
)
from gnnlib._platform.dgl import dgl
from gnnlib.nn.init import SkipInit, lsuv_init_
from gnnlib.nn.reparametrize import low_rank
from gnnlib.testing.graphs import random_graph, symmetric_graph

CONVS = {
    "gcn": GCNConv,
    "gin": GINConv,
    "sage": SAGEConv,
    "gat": lambda i, o: GATConv(i, o // 4, 4),
    "gatv2": lambda i, o: GATv2Conv(i, o // 4, 4),
    "sgc": SGConv,
    "ecc": partial(ECConv, edge_feats=2, hidden=3),
    "pred_edge": partial(PredEdgeConv, pos_feats=2, hidden=4, relations=2, normalise=edge_softmax),
    "low rank": lambda i, o: low_rank(GCNConv(i, o), 8),
    "foreign": dgl.nn.GraphConv,
}
DEPTH, WIDTH = 64, 32
all_convs = pytest.mark.parametrize("conv", CONVS)


def feed(conv="gcn", width=WIDTH):
    """A graph, features, and what the layer takes on edges."""
    torch.manual_seed(0)
    graph = symmetric_graph(100)
    graph.ndata["pos"] = torch.rand(100, 2)
    return graph, torch.randn(100, width), torch.randn(graph.num_edges(), 2) if conv == "ecc" else None


def look(model, graph, x, edge=None):
    """The variance of each convolution's output, and the norm of the gradient there, from one of norm 1 at the end."""
    seen = []
    for block in model.blocks:
        block.conv.register_forward_hook(lambda conv, args, y: seen.append(y))
    y = model(graph, x, edge)
    torch.manual_seed(1)
    there = nn.functional.normalize(torch.randn_like(y).flatten(), dim=0).view_as(y)
    grads = torch.autograd.grad(y, seen, there)
    return torch.stack([y.var() for y in seen]).detach(), torch.stack([g.norm() for g in grads])


@pytest.mark.slow
@all_convs
def test_variance_is_held_through_64_layers(conv):
    graph, x, edge = feed(conv)
    model = Stack.build(CONVS[conv], WIDTH, WIDTH, WIDTH, DEPTH)
    before, _ = look(model, graph, x, edge)
    lsuv_init_(model, graph, x, edge)
    after, grads = look(model, graph, x, edge)
    assert not 0.3 < float(before[-1]) < 3, "or there is nothing to hold"
    torch.testing.assert_close(after, torch.ones(DEPTH), rtol=0, atol=0.06)
    assert bool(((grads > 1e-3) & (grads < 1e3)).all()), grads


def test_gradients_of_a_deep_gcn_come_back():
    graph, x, _ = feed()
    model = Stack.build(GCNConv, WIDTH, WIDTH, WIDTH, DEPTH)
    variance, gradient = look(model, graph, x)
    assert variance[-1] < 1e-15
    assert gradient[0] < 1e-6
    lsuv_init_(model, graph, x)
    _, gradient = look(model, graph, x)
    assert 0.01 < gradient[0] < 10


def test_a_linear_layer_is_divided_by_the_deviation():
    """One matrix, no bias: one step, exact."""
    graph, x, _ = feed()
    conv = GCNConv(WIDTH, 8, bias=False)
    weight, deviation = conv.weight.detach().clone(), conv(graph, x).std()
    lsuv_init_(GNNLayer(conv), graph, x)
    torch.testing.assert_close(conv.weight, nn.Parameter(weight / deviation))


def test_only_weights_change():
    graph, x, _ = feed()
    model = Stack.build(GCNConv, WIDTH, 8, 8, 3, norm=BatchNorm, dropout=0.5)
    model.blocks[0].eval()
    modes = [m.training for m in model.modules()]
    state = {name: t.clone() for name, t in model.state_dict().items() if not name.endswith("conv.weight")}
    torch.manual_seed(3)
    lsuv_init_(model, graph, x)
    drawn = torch.rand(())
    torch.manual_seed(3)
    assert drawn == torch.rand(())
    assert [m.training for m in model.modules()] == modes
    assert all(torch.equal(model.state_dict()[name], t) for name, t in state.items())
    assert not any(block.conv._forward_hooks for block in model.blocks)
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


def test_blocks_inside_anything_and_layers_without_weights():
    graph, x, _ = feed()
    bare = GCNConv(WIDTH // 2, WIDTH // 2, weight=False, bias=False)
    parts = [GNNLayer(GCNConv(WIDTH // 2, WIDTH // 2)), GNNLayer(bare)]
    model = Stack([Reversible([ReversibleBlock(parts)])], head=nn.Linear(WIDTH, 2))
    lsuv_init_(model, graph, x)
    assert parts[0](graph, x[:, WIDTH // 2 :]).var().item() == pytest.approx(1, abs=0.05)


def test_a_constant_output_is_refused():
    model = Stack.build(GCNConv, 3, 4, 2, 2)
    with pytest.raises(ValueError, match=r"expected a variance above 0, got 0\.0 from GCNConv\(3, 4\)"):
        lsuv_init_(model, random_graph(), torch.zeros(11, 3))
    with pytest.raises(ValueError, match="got nan from GCNConv"):
        lsuv_init_(model, random_graph(), torch.full((11, 3), torch.nan))
    assert not any(block.conv._forward_hooks for block in model.blocks)


@all_convs
def test_skip_init_starts_as_the_identity(conv):
    graph, x, edge = feed(conv)
    x = x.relu().requires_grad_()
    convs = CONVS[conv]
    model = Stack(
        [
            GNNLayer(convs(WIDTH, WIDTH), norm=SkipInit(WIDTH), skip=Residual(WIDTH, WIDTH), activation=nn.ReLU())
            for _ in range(DEPTH)
        ]
    )
    y = model(graph, x, edge)
    assert torch.equal(y, x)
    (grad,) = torch.autograd.grad(y, x, torch.ones_like(y), retain_graph=True)
    assert torch.equal(grad[x > 0], torch.ones(int((x > 0).sum())))
    y.square().sum().backward()
    assert all(block.norm.scale.grad != 0 for block in model.blocks)


@pytest.mark.slow
def test_skip_init_learns_where_plain_residuals_explode():
    """64 sums over neighbours with residuals: the loss is out of reach; scaled by 0 at the start it falls."""
    graph, x, _ = feed()
    target = torch.randint(4, (100,))

    def build(norm):
        torch.manual_seed(0)
        return Stack.build(GINConv, WIDTH, WIDTH, 4, DEPTH, norm=norm, skip=Residual, head=True)

    def loss(model):
        return nn.functional.cross_entropy(model(graph, x), target)

    assert not loss(build(None)) < 1e6
    model = build(SkipInit)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.003)
    assert loss(model) < 2
    for _ in range(20):
        optimizer.zero_grad()
        loss(model).backward()
        optimizer.step()
    assert loss(model) < 1.2
