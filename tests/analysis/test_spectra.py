"""Singular values of weights and Jacobians, against dense Jacobians and the lemma of Arroyo et al. 2025."""

from functools import partial

import networkx as nx
import pytest
import torch
from torch import nn

from gnnlib import BatchNorm, GCNConv, Residual, Stack
from gnnlib.analysis import jacobian_singular_values, layer_singular_values, spectra, weight_singular_values
from gnnlib.graph import add_self_loop, edge_endpoints
from gnnlib.nn.reparametrize import low_rank
from gnnlib.testing.graphs import bipartite, random_graph, symmetric_graph
from tests.analysis.squashing.test_resistance import from_networkx


def dense(function, x):
    jacobian = torch.autograd.functional.jacobian(function, x)
    return torch.linalg.svdvals(jacobian.reshape(-1, x.numel()).double())


@pytest.fixture
def matrix_free(monkeypatch):
    monkeypatch.setattr(spectra, "DENSE", 0)


@pytest.mark.parametrize(("in_feats", "out_feats"), [(3, 5), (5, 3), (4, 4)])
def test_they_are_those_of_the_dense_jacobian(in_feats, out_feats):
    graph, x = random_graph(), torch.randn(11, in_feats, dtype=torch.float64)
    model = Stack.build(GCNConv, in_feats, 6, out_feats, 2, activation="tanh").double()
    expected = dense(lambda x: model(graph, x), x)
    torch.testing.assert_close(jacobian_singular_values(lambda x: model(graph, x), x), expected)
    torch.testing.assert_close(jacobian_singular_values(lambda x: model(graph, x), x, k=4), expected[:4])
    torch.testing.assert_close(jacobian_singular_values(lambda x: model(graph, x), x, k=99), expected)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-8), (torch.float32, 1e-4)])
@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_products_with_vectors_give_the_same_values(matrix_free, activation, dtype, tolerance):
    torch.manual_seed(0)
    graph, x = random_graph(), torch.randn(11, 5, dtype=dtype)
    model = Stack.build(GCNConv, 5, 6, 3, 2, activation=activation).to(dtype)
    actual = jacobian_singular_values(lambda x: model(graph, x), x, k=5)
    assert actual.dtype == torch.float64
    torch.testing.assert_close(actual, dense(lambda x: model(graph, x), x)[:5], rtol=tolerance, atol=tolerance)


def test_of_a_linear_layer_they_are_products():
    """Of the absolute eigenvalues of the normalised adjacency matrix and the singular values of the weight."""
    torch.manual_seed(0)
    graph = symmetric_graph()
    n = graph.num_nodes()
    src, dst = (end.long() for end in edge_endpoints(graph))
    counts = torch.zeros(n, n, dtype=torch.float64).index_put(
        (dst, src), torch.ones(len(src)).double(), accumulate=True
    )
    root = counts.sum(1).clamp(min=1).rsqrt()
    eigenvalues = torch.linalg.eigvalsh(root[:, None] * counts * root).abs()
    conv = GCNConv(4, 3, bias=False).double()
    (weight,) = weight_singular_values(conv).values()
    products = torch.outer(eigenvalues, weight).flatten().sort(descending=True).values
    values = layer_singular_values(conv, graph, torch.randn(n, 4, dtype=torch.float64), k=None)
    torch.testing.assert_close(values["GCNConv"], products[: 3 * n], rtol=1e-6, atol=1e-6)


def test_a_large_graph():
    """The largest eigenvalue of GCN's average is 1, so that the largest value is that of the weight. The Jacobian has
    8000 rows and columns."""
    torch.manual_seed(0)
    graph = add_self_loop(from_networkx(nx.random_regular_graph(6, 500, seed=0)))
    conv = GCNConv(16, 16, bias=False)
    values = layer_singular_values(conv, graph, torch.randn(500, 16), k=1)
    torch.testing.assert_close(values["GCNConv"], weight_singular_values(conv)["weight"][:1], rtol=1e-3, atol=0)


def test_layers_of_a_stack():
    """Of each block by itself, at its input; the Jacobian of the whole is at most their product."""
    torch.manual_seed(0)
    graph, x = random_graph(), torch.randn(11, 4)
    model = Stack.build(GCNConv, 4, 6, 2, 3, norm=BatchNorm, skip=Residual, dropout=0.5)
    model(graph, x)
    state, modes = {k: v.clone() for k, v in model.state_dict().items()}, [m.training for m in model.modules()]
    values = layer_singular_values(model, graph, x, k=3)
    assert [m.training for m in model.modules()] == modes
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert not any(m._forward_pre_hooks for m in model.modules())
    model.eval()
    h, bound = x, 1.0
    for i, block in enumerate(model.blocks):
        torch.testing.assert_close(values[f"blocks.{i}"], dense(partial(block, graph), h)[:3], rtol=1e-4, atol=1e-5)
        h, bound = block(graph, h), bound * values[f"blocks.{i}"][0]
    assert jacobian_singular_values(lambda x: model(graph, x), x, k=1)[0] <= bound * (1 + 1e-6)


def test_layers_without_a_graph_used_twice_and_without_gradient():
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(3, 3)

        def forward(self, x):
            return self.linear(self.linear(x).relu_())

    model = Shared()
    values = layer_singular_values(model, random_graph(), torch.randn(11, 3), k=2)
    assert list(values) == ["linear", "linear#2"]
    for value in values.values():
        torch.testing.assert_close(value, weight_singular_values(model)["linear.weight"][:1].expand(2))
    assert jacobian_singular_values(lambda x: torch.ones(2), torch.ones(3)).tolist() == [0, 0]


def test_weights():
    torch.manual_seed(0)
    model = nn.Sequential(low_rank(nn.Linear(6, 6), 2), nn.Conv1d(2, 3, 4), nn.Linear(2, 5))
    values = weight_singular_values(model)
    assert set(values) == {"0.weight", "1.weight", "2.weight"}
    assert (values["0.weight"] > 1e-6).sum() == 2
    assert values["1.weight"].shape == (3, 2)
    torch.testing.assert_close(values["2.weight"], torch.linalg.svdvals(model[2].weight.double()))
    assert set(weight_singular_values(low_rank(nn.Linear(6, 6), 2))) == {"weight"}


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: jacobian_singular_values(torch.sin, torch.ones(2), k=0), ValueError, "expected k >= 1, got 0"),
        (lambda: jacobian_singular_values(torch.sin, torch.ones(2).long()), TypeError, "floating-point values x, got "),
        (
            lambda: jacobian_singular_values(torch.sin, torch.ones(5000)),
            ValueError,
            r"expected k for a Jacobian of shape \(5000, 5000\), got None",
        ),
        (lambda: weight_singular_values(torch.ones(2)), TypeError, "expected a model, got Tensor"),
        (
            lambda: layer_singular_values(GCNConv(3, 2), bipartite(), torch.ones(3, 3)),
            ValueError,
            "one node type",
        ),
        (
            lambda: layer_singular_values(Ids(), random_graph(), torch.ones(11, 3)),
            ValueError,
            "expected features as an argument of layer embedding, got none",
        ),
    ],
)
def test_wrong_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call()


class Ids(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding, self.linear = nn.Embedding(3, 2), nn.Linear(2, 2)

    def forward(self, x):
        return self.linear(self.embedding(x.long().argmax(1)))
