"""Reversible residuals: dgl.nn's, an exact inverse, the gradients of the plain net, and memory that depth leaves."""

import pytest
import torch
from torch import nn

from gnnlib import (
    BatchNorm,
    DropEdge,
    ECConv,
    GATConv,
    GCNConv,
    GINConv,
    GNNLayer,
    InitialResidual,
    LayerNorm,
    Reversible,
    ReversibleBlock,
    SAGEConv,
    Stack,
)
from gnnlib._platform.dgl import dgl
from gnnlib.nn.reparametrize import low_rank, share_parameters_
from gnnlib.testing.graphs import GRAPHS, HOMOGENEOUS, symmetric_graph

CONVS = {
    "gcn": GCNConv,
    "gin": lambda i, o: GINConv(i, o, reduce="mean"),
    "gat": lambda i, o: GATConv(i, o // 2, 2),
    "sage": SAGEConv,
    "ecc": lambda i, o: ECConv(i, o, edge_feats=2, hidden=3),
}


def deep(depth, groups=2, width=4, conv=GCNConv, **remedies):
    torch.manual_seed(0)
    return [
        ReversibleBlock(
            [
                GNNLayer(conv(width, width), norm=LayerNorm(width), activation=nn.Tanh(), **remedies)
                for _ in range(groups)
            ]
        ).double()
        for _ in range(depth)
    ]


def plain(blocks, graph, x, edge=None, x0=None):
    for block in blocks:
        x = block(graph, x, edge, x0)
    return x


def gradients(y, leaves):
    torch.manual_seed(1)
    return torch.autograd.grad(y, leaves, torch.randn_like(y), allow_unused=True, materialize_grads=True)


@pytest.mark.parametrize("groups", [2, 3, 4])
def test_a_block_is_dgls(groups):
    graph, conv = symmetric_graph(), dgl.nn.GraphConv(4, 4).double()
    twin = dgl.nn.GroupRevRes(conv, groups).double()
    block = ReversibleBlock([GNNLayer(part) for part in twin.gnn_modules])
    x = torch.randn(11, 4 * groups, dtype=torch.float64)
    torch.testing.assert_close(block(graph, x), twin._forward(graph, x), rtol=0, atol=1e-13)
    torch.testing.assert_close(block.inverse(graph, x), twin._inverse(graph, x), rtol=0, atol=1e-13)


@pytest.mark.parametrize("conv", CONVS)
@pytest.mark.parametrize("groups", [2, 3])
@pytest.mark.slow
def test_the_inverse_is_exact(conv, groups):
    graph = symmetric_graph()
    edge = torch.randn(graph.num_edges(), 2, dtype=torch.float64) if conv == "ecc" else None
    x = torch.randn(11, 3, 4 * groups, dtype=torch.float64)
    blocks = deep(20, groups, conv=CONVS[conv])
    y = plain(blocks, graph, x, edge)
    for block in reversed(blocks):
        y = block.inverse(graph, y, edge)
    torch.testing.assert_close(y, x, rtol=0, atol=1e-11)


@pytest.mark.slow
@pytest.mark.parametrize("conv", CONVS)
@pytest.mark.parametrize("groups", [2, 3])
def test_gradients_are_those_of_the_plain_net(conv, groups):
    """Of x, edges, the first hidden features and every parameter, thirty blocks deep."""
    graph = symmetric_graph()
    wide = (2,) if conv == "ecc" else ()
    edge = (torch.rand(graph.num_edges(), *wide, dtype=torch.float64) + 0.1).requires_grad_()
    x, x0 = (torch.randn(11, 4 * groups, dtype=torch.float64, requires_grad=True) for _ in range(2))
    blocks = deep(30, groups, conv=CONVS[conv], skip=InitialResidual(4, 4, lam=None))
    model = Reversible(blocks)
    leaves = [x, x0, edge, *model.parameters()]
    actual, expected = model(graph, x, edge, x0), plain(blocks, graph, x, edge, x0)
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-12)
    for a, b in zip(gradients(actual, leaves), gradients(expected, leaves)):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


def test_gradients_where_parts_share_or_form_their_weights_and_some_are_frozen():
    graph, x = symmetric_graph(), torch.randn(11, 8, dtype=torch.float64, requires_grad=True)
    blocks = deep(6, conv=lambda i, o: low_rank(GCNConv(i, o), 2))
    share_parameters_(blocks[:4])
    blocks[5].requires_grad_(False)
    model = Reversible(blocks)
    leaves = [x, *(p for p in model.parameters() if p.requires_grad)]
    actual, expected = model(graph, x), plain(blocks, graph, x)
    for a, b in zip(gradients(actual, leaves), gradients(expected, leaves)):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


def test_gradients_where_x_is_the_first_hidden_features_too():
    """As in a stack: x0 and x are one tensor, and both ways back count."""
    graph, x = symmetric_graph(), torch.randn(11, 8, dtype=torch.float64, requires_grad=True)
    blocks = deep(5, skip=InitialResidual(4, 4, lam=None))
    actual, expected = Stack([Reversible(blocks)])(graph, x), plain(blocks, graph, x, None, x)
    torch.testing.assert_close(gradients(actual, [x])[0], gradients(expected, [x])[0], rtol=1e-10, atol=1e-10)


def test_the_backward_pass_draws_what_the_forward_pass_drew():
    """Dropped features and edges: the gradient is the numeric one under the same seed."""
    graph = symmetric_graph()
    model = Reversible(deep(3, dropout=nn.Dropout(0.4), drop_edge=DropEdge(0.3)))

    def run(x):
        torch.manual_seed(7)
        y = model(graph, x)
        torch.rand(100)  # what others draw in between
        return y

    x = torch.randn(11, 8, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(run, x, fast_mode=True)
    assert torch.equal(run(x), run(x))
    assert not torch.equal(model(graph, x), model(graph, x))


def test_other_random_numbers_are_unchanged():
    """However many blocks there are and whatever they draw, one number is taken from torch's generator."""
    graph, x = symmetric_graph(), torch.randn(11, 8, dtype=torch.float64, requires_grad=True)
    after = []
    for depth, share_dropped in ((1, 0.0), (9, 0.5)):
        model = Reversible(deep(depth, dropout=nn.Dropout(share_dropped)))
        torch.manual_seed(2)
        model(graph, x).sum().backward()
        after.append(torch.rand(3))
    assert torch.equal(*after)


def saved(model, graph, x):
    """Number and bytes of the tensors that the forward pass keeps."""
    sizes = []

    def pack(t):
        sizes.append(t.numel() * t.element_size())
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        y = model(graph, x)
    assert y.requires_grad
    return len(sizes), sum(sizes)


def test_stored_memory_does_not_grow_with_depth():
    graph, x = symmetric_graph(), torch.randn(11, 8, dtype=torch.float64, requires_grad=True)
    counts = {depth: saved(Reversible(deep(depth)), graph, x) for depth in (1, 10, 100)}
    assert counts[1] == counts[10] == counts[100] == (1, x.numel() * 8)  # the output
    ordinary = [saved(lambda g, x, d=d: plain(deep(d), g, x), graph, x)[0] for d in (1, 10)]
    assert ordinary[1] == 10 * ordinary[0]


@pytest.mark.slow
def test_a_thousand_layers_train():
    torch.manual_seed(0)
    graph, x = symmetric_graph(), torch.randn(11, 8)
    model = Stack([Reversible([b.float() for b in deep(500)])], head=nn.Linear(8, 2))
    labels = (x[:, 0] > 0).long()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    before = nn.functional.cross_entropy(model(graph, x), labels)
    before.backward()
    optimizer.step()
    with torch.no_grad():
        assert nn.functional.cross_entropy(model(graph, x), labels) < before
    assert all(bool(p.grad.isfinite().all()) and bool((p.grad != 0).any()) for p in model.parameters())


@pytest.mark.parametrize("name", HOMOGENEOUS)
def test_every_whole_graph(name):
    graph = GRAPHS[name]()
    x = torch.randn(graph.num_nodes(), 2, 8, dtype=torch.float64, requires_grad=True)
    y = Reversible(deep(3))(graph, x)
    y.sum().backward()
    assert y.shape == x.shape == x.grad.shape
    assert bool(x.grad.isfinite().all())


def test_batch_norm_inside_a_part():
    """Gradients are right; the running statistics move twice, as the docstring says."""
    graph, x = symmetric_graph(), torch.randn(11, 8, dtype=torch.float64, requires_grad=True)
    blocks = [ReversibleBlock([GNNLayer(GCNConv(4, 4), norm=BatchNorm(4)) for _ in range(2)]).double()]
    actual = gradients(Reversible(blocks)(graph, x), [x])[0]
    assert blocks[0].parts[0].norm.num_batches_tracked == 2
    torch.testing.assert_close(actual, gradients(plain(blocks, graph, x), [x])[0], rtol=1e-10, atol=1e-10)


def test_without_gradients_it_is_the_plain_net():
    graph, x = symmetric_graph(), torch.randn(11, 8, dtype=torch.float64)
    blocks = deep(3)
    with torch.no_grad():
        y = Reversible(blocks)(graph, x)
        assert torch.equal(y, plain(blocks, graph, x))
    assert not y.requires_grad


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("inside", [True, False], ids=["backward inside", "backward outside"])
@pytest.mark.parametrize("encoded", [True, False], ids=["low precision x", "float32 x"])
def test_gradients_under_autocast(dtype, inside, encoded):
    """Those of the plain net under autocast, up to rounding, and far from 0; the encoder gives x in low precision."""
    graph, x = symmetric_graph(), torch.randn(11, 8)
    blocks = [block.float() for block in deep(3)]
    encoder = nn.Linear(8, 8) if encoded else nn.Identity()
    leaves = [p for module in (encoder, *blocks) for p in module.parameters()]
    results = []
    for net in (Reversible(blocks), lambda graph, x: plain(blocks, graph, x)):
        with torch.autocast("cpu", dtype=dtype):
            loss = net(graph, encoder(x)).float().square().mean()
            grads = torch.autograd.grad(loss, leaves) if inside else None
        results.append(grads or torch.autograd.grad(loss, leaves))
    for actual, expected in zip(*results, strict=True):
        assert expected.abs().max() > 0
        assert actual.dtype == torch.float32
        assert (actual - expected).abs().max() <= 0.05 * max(g.abs().max() for g in results[1])


def test_the_recomputation_has_the_autocast_of_the_forward_pass():
    """The parts see the same types in both passes, and the casts of weights are not kept from one to the other."""
    dtypes = []

    class Part(nn.Linear):
        def forward(self, graph, x, edge=None, x0=None):
            y = super().forward(x)
            dtypes.append(y.dtype)
            return y

    model = Reversible([ReversibleBlock([Part(4, 4), Part(4, 4)])])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = model(symmetric_graph(), torch.randn(11, 8, requires_grad=True))
    y.sum().backward()
    assert dtypes == [torch.bfloat16] * 4
    model(symmetric_graph(), torch.randn(11, 8, requires_grad=True)).sum().backward()
    assert dtypes[4:] == [torch.float32] * 4


def test_wrong_widths_and_numbers_are_refused():
    with pytest.raises(ValueError, match="at least two parts, got 1"):
        ReversibleBlock([GNNLayer(GCNConv(4, 4))])
    with pytest.raises(ValueError, match="a width that 2 divides, got 7"):
        deep(1)[0](symmetric_graph(), torch.ones(11, 7))


def test_layers_alone_become_parts():
    graph, x = dgl.rand_graph(6, 14), torch.randn(6, 4)
    layers = [GCNConv(2, 2), GCNConv(2, 2)]
    alone, inside = ReversibleBlock(layers), ReversibleBlock([GNNLayer(layer) for layer in layers])
    assert torch.equal(alone(graph, x), inside(graph, x))
    assert torch.allclose(alone.inverse(graph, alone(graph, x)), x, atol=1e-5)
