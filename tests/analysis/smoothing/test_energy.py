"""Energy, ranks and dead features against their definitions on dense matrices."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import assume, given

from gnnlib._platform.dgl import dgl
from gnnlib.analysis.smoothing import (
    dead_feature_fraction,
    dirichlet_energy,
    effective_rank,
    exponential_decay,
    feature_correlation,
    fixed_point,
    numerical_rank,
    rank_one_distance,
    rayleigh_quotient,
)
from gnnlib.analysis.smoothing import energy as energy_module
from gnnlib.testing.graphs import (
    BIPARTITE,
    GRAPHS,
    HOMOGENEOUS,
    edgeless,
    endpoints,
    graph_strategy,
    path,
    random_graph,
    symmetric_graph,
)

MEASURES = [
    dirichlet_energy,
    rayleigh_quotient,
    numerical_rank,
    effective_rank,
    rank_one_distance,
    feature_correlation,
    dead_feature_fraction,
]


def features(graph, *axes):
    return torch.randn(graph.num_nodes(), *axes, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def counts(graph, weight=None):
    """A[u, v]: the edges, or their weights, from u to v."""
    src, dst = endpoints(graph)
    a = np.zeros((graph.num_nodes(), graph.num_nodes()))
    np.add.at(a, (src.numpy(), dst.numpy()), 1.0 if weight is None else weight.numpy())
    return a


def dense_energy(a, x, norm):
    """Half the sum over all pairs of nodes, x (n, F)."""
    if norm == "both":
        x = x / np.sqrt(1 + (a - np.diag(np.diag(a))).sum(0))[:, None]
    return 0.5 * sum(a[u, v] * ((x[u] - x[v]) ** 2).sum() for u in range(len(x)) for v in range(len(x)))


@pytest.mark.parametrize("norm", ["none", "both"])
@pytest.mark.parametrize("name", HOMOGENEOUS)
def test_energy_against_the_sum_over_pairs(name, norm):
    graph = GRAPHS[name]()
    x = features(graph, 3)
    sizes = graph.batch_num_nodes().tolist()
    a, first = counts(graph), np.cumsum([0, *sizes])
    expected = [dense_energy(a[i:j, i:j], x[i:j].numpy(), norm) for i, j in pairwise(first)]
    np.testing.assert_allclose(dirichlet_energy(graph, x, norm=norm), expected, rtol=1e-12)


@given(graph_strategy())
def test_energy_of_a_symmetric_graph_is_a_trace_with_the_laplacian(graph):
    graph = dgl.add_reverse_edges(graph)
    x, a = features(graph, 4).numpy(), counts(graph)
    laplacian = np.diag(a.sum(0)) - a
    expected = np.trace(x.T @ laplacian @ x)  # counts an edge in both directions once
    np.testing.assert_allclose(dirichlet_energy(graph, torch.from_numpy(x)), [expected], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("norm", ["none", "both"])
def test_energy_with_weights_and_in_blocks(monkeypatch, norm):
    graph = random_graph()
    weight = torch.rand(graph.num_edges(), dtype=torch.float64)
    x = features(graph, 2, 3)
    energy = dirichlet_energy(graph, x, edge_weight=weight, norm=norm)
    expected = [dense_energy(counts(graph, weight), x[:, i].numpy(), norm) for i in range(2)]
    np.testing.assert_allclose(energy, [expected], rtol=1e-12)
    monkeypatch.setattr(energy_module, "CHUNK", 12)
    torch.testing.assert_close(dirichlet_energy(graph, x, edge_weight=weight, norm=norm), energy)


def test_normalised_energy_is_zero_at_the_root_of_the_degree_only():
    graph = dgl.add_self_loop(dgl.remove_self_loop(symmetric_graph()))
    root = graph.in_degrees().double().sqrt()[:, None]  # with the self-loop
    assert dirichlet_energy(graph, root, norm="both").item() == pytest.approx(0, abs=1e-20)
    assert dirichlet_energy(graph, root).item() > 0.1
    assert dirichlet_energy(graph, torch.ones_like(root)).item() == 0


def test_energy_is_computed_in_float64():
    graph = dgl.graph(([0, 1], [1, 0]))
    x = torch.tensor([[1.0], [1.0 + 2**-23]])
    assert dirichlet_energy(graph, x).item() == 2.0**-46


def test_energy_has_gradients():
    graph = random_graph()
    x = features(graph, 2).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: dirichlet_energy(graph, x, norm="both"), x)


def test_ranks_of_given_singular_values():
    graph = edgeless(9)
    q, _ = torch.linalg.qr(features(graph, 4))
    r, _ = torch.linalg.qr(torch.randn(6, 4, dtype=torch.float64))
    sigma = torch.tensor([4.0, 2.0, 1.0, 1.0], dtype=torch.float64)
    x = q @ sigma.diag() @ r.T
    p = sigma / 8
    assert numerical_rank(graph, x).item() == pytest.approx(22 / 16)
    assert effective_rank(graph, x).item() == pytest.approx((-(p * p.log()).sum()).exp().item())


@pytest.mark.parametrize("rank", [numerical_rank, effective_rank])
def test_smallest_and_largest_ranks(rank):
    graph = edgeless(8)
    column, row = features(graph, 1), torch.randn(1, 5, dtype=torch.float64)
    assert rank(graph, column @ row).item() == pytest.approx(1)
    q, _ = torch.linalg.qr(features(graph, 5))
    assert rank(graph, 7 * q).item() == pytest.approx(5)
    assert rank(graph, torch.zeros(8, 5)).item() == 0
    assert rank(edgeless(0), torch.zeros(0, 5)).item() == 0


def test_rank_detects_collapse_that_energy_does_not():
    """Multiples of one vector, as under repeated averaging with a sign that alternates: high energy, rank one."""
    graph = dgl.add_reverse_edges(path(6))
    flat = torch.tensor([1.0, -1, 1, -1, 1, -1])[:, None] * torch.ones(1, 6)
    rich = torch.eye(6)
    assert dirichlet_energy(graph, flat) > dirichlet_energy(graph, rich)
    assert effective_rank(graph, flat).item() == pytest.approx(1)
    assert effective_rank(graph, rich).item() == pytest.approx(6)


def test_dead_feature_fraction():
    x = torch.tensor([[0.0, 1, 0, 0], [0, 0, 0, 2], [0, 0, 0, 3]])
    assert dead_feature_fraction(edgeless(3), x).item() == 0.5


@pytest.mark.parametrize("measure", MEASURES)
def test_batches_and_signals(measure):
    parts = [symmetric_graph(6), path(4), edgeless(3)]
    x = torch.randn(13, 2, 5).relu()
    got = measure(dgl.batch(parts), x)
    assert got.shape == (3, 2)
    assert got.dtype == torch.float64
    for i, (graph, rows) in enumerate(zip(parts, x.split([6, 4, 3]))):
        for signal in range(2):
            torch.testing.assert_close(got[i, signal : signal + 1], measure(graph, rows[:, signal]))


@pytest.mark.parametrize("measure", MEASURES)
def test_invalid_input(measure):
    graph = path(4)
    with pytest.raises(ValueError, match=r"expected shape \(4, ..., F\), got \(3, 2\)"):
        measure(graph, torch.ones(3, 2))
    with pytest.raises(TypeError, match=r"floating-point.*torch.int64"):
        measure(graph, torch.ones(4, 2, dtype=torch.int64))
    for name in BIPARTITE:
        with pytest.raises(ValueError, match="one node type"):
            measure(GRAPHS[name](), torch.ones(4, 2))
    with pytest.raises(TypeError, match=r"expected a graph .*, got str"):
        measure("graph", torch.ones(4, 2))


def test_invalid_arguments_of_energy():
    graph = path(4)
    with pytest.raises(ValueError, match="'none' or 'both', got 'left'"):
        dirichlet_energy(graph, torch.ones(4, 2), norm="left")
    with pytest.raises(ValueError, match=r"edge_weight: expected shape \(3,\), got \(4,\)"):
        dirichlet_energy(graph, torch.ones(4, 2), edge_weight=torch.ones(4))


# ---------------------------------------------------------------- the quotient that fits an average


@given(graph_strategy())
def test_quotient_is_that_of_the_averages_laplacian(graph):
    """tr(x^T M (I - P) x) / tr(x^T M x), with M = D for the mean, which is symmetric in this product."""
    graph = dgl.add_self_loop(dgl.add_reverse_edges(graph))
    assume(graph.num_nodes())
    x = features(graph, 3)
    a, n = counts(graph), x.numpy()
    d = a.sum(0)
    laplacian = np.eye(len(a)) - a / np.sqrt(np.outer(d, d))
    both = np.trace(n.T @ laplacian @ n) / np.square(n).sum()
    right = np.trace(n.T @ (np.diag(d) - a) @ n) / (d[:, None] * np.square(n)).sum()
    np.testing.assert_allclose(rayleigh_quotient(graph, x), [both], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(rayleigh_quotient(graph, x, norm="right"), [right], rtol=1e-9, atol=1e-12)
    assert 0 <= both <= 2 + 1e-9
    assert 0 <= right <= 2 + 1e-9


@pytest.mark.parametrize("norm", ["both", "right"])
def test_quotient_is_0_at_the_fixed_point_of_its_average_alone(norm):
    graph = dgl.add_self_loop(symmetric_graph())
    x = fixed_point(graph, features(graph, 3), norm=norm)
    assert float(rayleigh_quotient(graph, x, norm=norm)) < 1e-20
    assert float(rayleigh_quotient(graph, x, norm="right" if norm == "both" else "both")) > 1e-3


def test_quotient_of_other_norms():
    with pytest.raises(ValueError, match="norm: expected 'both' or 'right', got 'none'"):
        rayleigh_quotient(path(), features(path(), 2), norm="none")


def test_rank_one_distance_is_that_of_the_truncated_decomposition():
    graph, x = random_graph(), features(random_graph(), 4)
    u, s, v = np.linalg.svd(x.numpy(), full_matrices=False)
    nearest = s[0] * np.outer(u[:, 0], v[0])
    expected = np.linalg.norm(x.numpy() - nearest) / np.linalg.norm(x.numpy())
    np.testing.assert_allclose(rank_one_distance(graph, x), [expected], rtol=1e-12)
    assert float(rank_one_distance(graph, x[:, :1] @ x[:1])) < 1e-7


def test_correlation_is_that_of_numpy():
    graph, x = random_graph(), features(random_graph(), 4)
    matrix = np.abs(np.corrcoef(x.numpy().T))
    np.testing.assert_allclose(feature_correlation(graph, x), [(matrix.sum() - 4) / 12], rtol=1e-10)
    constant = torch.cat([x, torch.ones(11, 2, dtype=x.dtype)], 1)
    torch.testing.assert_close(feature_correlation(graph, constant), feature_correlation(graph, x))
    assert feature_correlation(graph, constant[:, 3:]).isnan().all(), "one feature varies"


def test_decay_is_scipys_regression_of_logarithms():
    from scipy.stats import linregress

    values = np.exp(-0.3 * np.arange(9) + np.random.RandomState(0).normal(0, 0.2, 9))
    line = linregress(np.arange(9), np.log(values))
    rate, r2 = exponential_decay(values)
    assert rate == pytest.approx(-line.slope)
    assert r2 == pytest.approx(line.rvalue**2)
    assert exponential_decay([8.0, 4.0, 0.0, 1.0, float("nan"), 1e-20], floor=1e-12).rate == pytest.approx(np.log(2))
    assert exponential_decay([1.0, 2.0, 4.0]).rate == pytest.approx(-np.log(2)), "growth"
    assert all(map(np.isnan, exponential_decay([1.0, 0.5])))
    with pytest.raises(ValueError, match=r"expected a number for each layer, got shape \(2, 2\)"):
        exponential_decay(np.ones((2, 2)))
