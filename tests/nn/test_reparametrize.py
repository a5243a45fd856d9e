"""Fewer parameters: their number, the matrix they stand for, and that it starts as the nearest of its form."""

import math

import pytest
import torch
from torch import nn

from gnnlib import (
    ECConv,
    GATConv,
    GCNConv,
    GINConv,
    GNNLayer,
    LayerNorm,
    PredEdgeConv,
    Residual,
    SAGEConv,
    SGConv,
    Stack,
)
from gnnlib._platform.dgl import dgl
from gnnlib.nn.reparametrize import block_diagonal, circulant, identity_mapping, low_rank, share_parameters_
from gnnlib.testing.graphs import symmetric_graph

CONVS = {
    "gcn": GCNConv,
    "gin": GINConv,
    "gat": lambda i, o: GATConv(i, o, 1),
    "sage": SAGEConv,
    "sgc": SGConv,
    "pred_edge": lambda i, o: PredEdgeConv(i, o, pos_feats=8, hidden=8, relations=8),
    "foreign": dgl.nn.GraphConv,
}
FORMS = {
    "low rank": lambda module: low_rank(module, 2),
    "grouped": lambda module: block_diagonal(module, 4),
    "channels": lambda module: circulant(module, 3),
    "identity": lambda module: identity_mapping(module, layer=3),
}


def count(module):
    return sum(p.numel() for p in module.parameters())


def feed(graph, width=8):
    graph.ndata["pos"] = torch.rand(graph.num_nodes(), 8, dtype=torch.float64)
    return torch.randn(graph.num_nodes(), width, dtype=torch.float64)


def forms_of(module):
    return [m for m in module.modules() if nn.utils.parametrize.is_parametrized(m, "weight")]


# ---------------------------------------------------------------- any layer


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("conv", [name for name in CONVS if name != "pred_edge"])
def test_a_layer_equals_itself_with_the_explicit_matrix(conv, form):
    """The formed layer equals an ordinary one into which its matrices are copied, and trains."""
    graph = symmetric_graph()
    x = feed(graph)
    layer = FORMS[form](CONVS[conv](8, 8).double())
    twin = CONVS[conv](8, 8).double()
    owners = [m for m in layer.modules() if isinstance(getattr(m, "weight", None), torch.Tensor)]
    with torch.no_grad():
        for name, parameter in twin.named_parameters():
            path, _, leaf = name.rpartition(".")
            parameter.copy_(getattr(layer.get_submodule(path), leaf))
    torch.testing.assert_close(layer(graph, x), twin(graph, x), rtol=0, atol=1e-12)
    assert forms_of(layer) == owners
    layer(graph, x).square().sum().backward()
    assert all(p.grad is not None and bool((p.grad != 0).any()) for p in nn.ModuleList(owners).parameters() if p.dim())


@pytest.mark.parametrize(
    ("form", "per_matrix"), [("low rank", 2 * 16), ("grouped", 64 // 4), ("channels", 3), ("identity", 64)]
)
def test_parameters_are_counted(form, per_matrix):
    matrices = {"gcn": (1, 8), "gin": (2, 16), "gat": (1, 24), "sage": (2, 8), "sgc": (1, 8), "foreign": (1, 8)}
    for conv, (number, vectors) in matrices.items():
        layer = FORMS[form](CONVS[conv](8, 8))
        actual = count(layer)
        assert count(CONVS[conv](8, 8)) == number * 64 + vectors
        assert actual == number * per_matrix + vectors, conv


def test_several_matrices_in_one_weight_are_formed_each():
    graph = symmetric_graph()
    x = feed(graph)
    for form, numbers in (("low rank", 8 * 32), ("grouped", 8 * 16), ("channels", 8 * 3)):
        layer = PredEdgeConv(8, 8, pos_feats=8, hidden=8, relations=8).double()
        plain = layer.weight.detach().clone()
        single = [FORMS[form](_holding(matrix)).weight for matrix in plain]
        nn.utils.parametrize.register_parametrization(
            layer, "weight", FORMS[form](_holding(plain)).parametrizations.weight[0]
        )
        norms = torch.stack([w.norm() for w in single])
        torch.testing.assert_close(
            layer.weight / layer.weight.norm(dim=(1, 2))[:, None, None], torch.stack(single) / norms[:, None, None]
        )
        assert sum(p.numel() for p in layer.parametrizations.weight.parameters()) == numbers
        assert layer(graph, x).shape == (11, 8)


class _Holder(nn.Module):
    def __init__(self, weight):
        super().__init__()
        self.weight = nn.Parameter(weight)


def _holding(weight):
    return _Holder(weight.detach().clone())


# ---------------------------------------------------------------- the forms


@pytest.mark.parametrize("shape", [(8, 8), (8, 12), (12, 8)])
@pytest.mark.parametrize("rank", [1, 3, 8])
def test_low_rank_starts_at_the_best_approximation(shape, rank):
    """Eckart and Young: what is left out is the singular values below; here scaled to the length of the whole."""
    before = torch.randn(shape, dtype=torch.float64)
    after = low_rank(_holding(before), rank).weight
    values = torch.linalg.svdvals(before)
    actual = torch.linalg.svdvals(after)
    torch.testing.assert_close(actual[:rank], values[:rank] * (values.norm() / values[:rank].norm()))
    torch.testing.assert_close(actual[rank:], torch.zeros(8 - rank).double(), rtol=0, atol=1e-12)
    nearest = after * (values[:rank].norm() / values.norm())
    assert (before - nearest).norm().item() == pytest.approx(values[rank:].norm().item(), abs=1e-12)
    if rank == 8:
        torch.testing.assert_close(after, before)


@pytest.mark.parametrize("shape", [(8, 8), (8, 12), (4, 4)])
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_block_diagonal_weights(shape, groups):
    before = torch.randn(shape, dtype=torch.float64)
    layer = block_diagonal(_holding(before), groups)
    a, b = shape[0] // groups, shape[1] // groups
    blocks_alone = torch.block_diag(*[before[a * g : a * g + a, b * g : b * g + b] for g in range(groups)])
    torch.testing.assert_close(layer.weight, blocks_alone * (before.norm() / blocks_alone.norm()))
    blocks = layer.parametrizations.weight.original
    torch.testing.assert_close(layer.weight, torch.block_diag(*blocks))


def test_block_diagonal_layers_are_torchs_grouped_convolution():
    x, layer = torch.randn(5, 12), block_diagonal(nn.Linear(12, 8), 4)
    expected = nn.functional.conv1d(
        x.unsqueeze(2), layer.parametrizations.weight.original.flatten(0, 1).unsqueeze(2), layer.bias, groups=4
    )
    torch.testing.assert_close(layer(x), expected.squeeze(2))


@pytest.mark.parametrize("kernel", [1, 3, 9, 15, 21])
def test_circulant_is_torchs_convolution_over_the_channels(kernel):
    x = torch.randn(5, 8, dtype=torch.float64)
    layer = circulant(_holding(torch.randn(8, 8, dtype=torch.float64)), kernel)
    numbers = layer.parametrizations.weight.original
    expected = nn.functional.conv1d(x.unsqueeze(1), numbers.view(1, 1, -1), padding=kernel // 2).squeeze(1)
    torch.testing.assert_close(x @ layer.weight, expected)
    assert numbers.shape == (kernel,)


def test_circulant_starts_at_the_mean_of_each_diagonal():
    before = torch.randn(6, 6, dtype=torch.float64)
    after = circulant(_holding(before), 5).weight
    means = torch.zeros_like(before)
    for offset in range(-2, 3):
        diagonal = before.diagonal(offset)
        means += torch.diag(diagonal.mean().expand(len(diagonal)), offset)
    torch.testing.assert_close(after, means * (before.norm() / means.norm()))


@pytest.mark.parametrize("form", ["low rank", "grouped", "channels"])
def test_a_form_keeps_the_length_and_what_already_has_it(form):
    once = FORMS[form](_holding(torch.randn(8, 8, dtype=torch.float64)))
    before = torch.randn(8, 8, dtype=torch.float64)
    assert FORMS[form](_holding(before)).weight.norm().item() == pytest.approx(before.norm().item())
    torch.testing.assert_close(FORMS[form](_holding(once.weight)).weight, once.weight)
    zero = FORMS[form](_holding(torch.zeros(8, 8)))
    assert bool((zero.weight == 0).all())


def test_variance_holds_with_depth():
    """A plain and a formed network at the start carry signals of the same size through twenty layers."""
    torch.manual_seed(0)
    x = torch.randn(200, 64)
    for form in (lambda m: low_rank(m, 16), lambda m: block_diagonal(m, 8), lambda m: m):
        y = x
        for _ in range(20):
            layer = nn.Linear(64, 64, bias=False)
            nn.init.normal_(layer.weight, std=1 / 8)
            y = form(layer)(y)
        assert 0.2 < y.std().item() < 5


def test_identity_mapping_is_gcniis():
    weight = torch.randn(5, 5, dtype=torch.float64)
    for layer, lam in ((1, 0.5), (4, 1.5), (64, 0.5)):
        beta = math.log(lam / layer + 1)
        actual = identity_mapping(_holding(weight), layer, lam).weight
        torch.testing.assert_close(actual, (1 - beta) * torch.eye(5).double() + beta * weight)
    layer = identity_mapping(low_rank(_holding(weight), 5), layer=2)
    beta = math.log(0.25 + 1)
    torch.testing.assert_close(layer.weight, (1 - beta) * torch.eye(5).double() + beta * weight)
    assert count(layer) == 50


def test_unsupported_weights_are_refused_unchanged():
    with pytest.raises(ValueError, match=r"rank from 1 to 3 for \(8, 3\), got 4"):
        low_rank(nn.Linear(3, 8), 4)
    with pytest.raises(ValueError, match=r"divisor of both widths of \(8, 6\), got 4"):
        block_diagonal(nn.Linear(6, 8), 4)
    with pytest.raises(ValueError, match="odd kernel, got 4"):
        circulant(nn.Linear(8, 8), 4)
    for form in (FORMS["channels"], FORMS["identity"]):
        net = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 6))
        with pytest.raises(ValueError, match=r"square weights, got \(6, 8\)"):
            form(net)
        assert not forms_of(net)
    with pytest.raises(ValueError, match="a module with weights, got GCNConv"):
        low_rank(GCNConv(3, 3, weight=False), 1)
    with pytest.raises(ValueError, match="weights without a form"):
        block_diagonal(low_rank(nn.Linear(8, 8), 2), 4)


# ---------------------------------------------------------------- over depth


@pytest.mark.parametrize("conv", CONVS)
def test_shared_layers_are_one_layer_applied_again(conv):
    graph = symmetric_graph()
    x = feed(graph)
    blocks = [
        GNNLayer(CONVS[conv](8, 8), norm=LayerNorm(8), skip=Residual(8, 8), activation=nn.Tanh()) for _ in range(4)
    ]
    model = Stack(blocks).double()
    share_parameters_(model.blocks)
    y = x
    for _ in range(4):
        y = model.blocks[0](graph, y)
    torch.testing.assert_close(model(graph, x), y, rtol=0, atol=1e-12)
    assert count(model) == count(model.blocks[2])


def test_the_gradient_of_a_shared_weight_is_the_sum_over_depth():
    graph, x = symmetric_graph(), torch.randn(11, 8, dtype=torch.float64)
    model, twin = (Stack([GNNLayer(GCNConv(8, 8), activation=nn.Tanh()) for _ in range(5)]).double() for _ in (0, 1))
    share_parameters_(block.conv for block in model.blocks[1:])
    twin.load_state_dict(model.state_dict())
    for one in (model, twin):
        one(graph, x).square().sum().backward()
    expected = sum(block.conv.weight.grad for block in twin.blocks[1:])
    torch.testing.assert_close(model.blocks[3].conv.weight.grad, expected)
    torch.testing.assert_close(model.blocks[0].conv.weight.grad, twin.blocks[0].conv.weight.grad)
    assert count(model) == 2 * 72
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    optimizer.step()
    assert torch.equal(model.blocks[1].conv.weight, model.blocks[4].conv.weight)
    assert not torch.equal(model.blocks[0].conv.weight, model.blocks[4].conv.weight)


def test_formed_weights_are_shared_and_saved():
    def make():
        convs = [low_rank(GCNConv(8, 8, bias=False), 2) for _ in range(6)]
        share_parameters_(convs[::2])
        return Stack([GNNLayer(conv) for conv in convs])

    graph, x, one, other = symmetric_graph(), torch.randn(11, 8), make(), make()
    assert count(one) == 4 * 32
    other.load_state_dict(one.state_dict())
    assert torch.equal(one(graph, x), other(graph, x))


def test_layers_of_another_kind_are_not_shared():
    layers = [nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 4)]
    with pytest.raises(
        ValueError, match=r"share_parameters_: expected parameters .*\(3, 3\).*got .*\(4, 3\).* in number 2"
    ):
        share_parameters_(layers)
    assert count(nn.ModuleList(layers)) == 12 + 12 + 16


def test_a_build_takes_forms():
    graph, x = symmetric_graph(), torch.randn(11, 8)
    model = Stack.build(lambda i, o: low_rank(GCNConv(i, o), 4), 8, 16, 5, num_layers=6, norm=LayerNorm, skip=Residual)
    assert model(graph, x).shape == (11, 5)
    graph_edge = torch.rand(graph.num_edges(), 2)
    layer = low_rank(ECConv(4, 4, edge_feats=2, hidden=3), 2)
    assert layer(graph, torch.randn(11, 4), graph_edge).shape == (11, 4)
