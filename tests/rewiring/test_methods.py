"""SDRF, FoSR and GTR, against the papers' rules on dense matrices."""

import networkx as nx
import numpy as np
import pytest
import torch

from gnnlib.analysis.squashing import balanced_forman_curvature, effective_resistance, spectral_gap
from gnnlib.graph import edge_endpoints
from gnnlib.rewiring import fosr, gtr, sdrf
from gnnlib.rewiring._fosr import smallest_product
from gnnlib.rewiring._sdrf import CurvedGraph, _choose, improvements
from tests.analysis.squashing.test_curvature import balanced
from tests.analysis.squashing.test_resistance import from_networkx

BARBELL, TREE = nx.barbell_graph(5, 0), nx.balanced_tree(2, 4)
RANDOM = [nx.connected_watts_strogatz_graph(14, 4, 0.5, seed=seed) for seed in range(4)]


def new_pairs(before, graph):
    """The pairs that a rewiring added, in the order of the steps."""
    src, dst = (end[before.num_edges() :].tolist() for end in edge_endpoints(graph))
    assert (src[: len(src) // 2], dst[: len(dst) // 2]) == (dst[len(dst) // 2 :], src[len(src) // 2 :])
    return list(zip(src, dst))[: len(src) // 2]


# FoSR


@pytest.mark.parametrize("graph", [*RANDOM, BARBELL, TREE], ids=str)
def test_fosr_adds_the_edge_of_the_first_order_rule(graph):
    """Equation of section 4.1 of Karhadkar et al. 2023, with the eigenvector of the dense matrix."""
    a = nx.to_numpy_array(graph)
    d = a.sum(1)
    values, vectors = np.linalg.eigh(a / np.sqrt(np.outer(d, d)))
    assert values[-2] > values[-3] + 1e-3  # one eigenvector
    y = vectors[:, -2] / np.sqrt(1 + d)
    product = np.where(a + np.eye(len(a)) > 0, np.inf, np.outer(y, y))
    before = from_networkx(graph)
    ((u, v),) = new_pairs(before, fosr(before, 1, power_iterations=3000))
    assert product[u, v] == pytest.approx(product.min(), abs=1e-9)


def test_smallest_product_is_that_of_all_pairs():
    random = np.random.default_rng(0)
    for density in (0.3, 0.7, 0.95):
        y, a = random.standard_normal(15), random.random((15, 15)) < density
        a |= a.T
        product = np.where(a | np.eye(15, dtype=bool), 0, np.outer(y, y))
        pair = smallest_product(y, [set(np.flatnonzero(row)) for row in a])
        assert (product.min() if pair is None else y[pair[0]] * y[pair[1]]) == pytest.approx(product.min())
    assert smallest_product(np.ones(3), [set()] * 3) is None
    assert smallest_product(np.array([1.0, -1]), [{1}, {0}]) is None


@pytest.mark.parametrize("graph", [BARBELL, TREE, nx.barbell_graph(6, 2)], ids=str)
def test_fosr_widens_the_spectral_gap(graph):
    gaps = [spectral_gap(fosr(from_networkx(graph), count)).item() for count in (0, 3, 6)]
    assert gaps[0] < gaps[1] < gaps[2]


def test_fosr_joins_components():
    assert spectral_gap(fosr(from_networkx(nx.disjoint_union(BARBELL, BARBELL)), 2)) > 0


# SDRF


@pytest.mark.parametrize("graph", [*RANDOM, BARBELL, TREE], ids=str)
def test_improvements_are_differences_of_the_curvature(graph):
    """By definition 1 of Topping et al. 2022 on dense matrices with and without each edge."""
    a = nx.to_numpy_array(graph)
    neighbours = [set(graph[v]) for v in graph]
    for i, j in list(graph.edges())[::4]:
        pairs, gains = improvements(neighbours, i, j)
        candidates = {(k, l) for k in (i, *graph[i]) for l in (j, *graph[j]) if k != l and not a[k, l]}  # noqa: E741
        assert {tuple(pair) for pair in pairs.tolist()} == candidates
        for (k, l), gain in zip(pairs, gains):  # noqa: E741
            more = a.copy()
            more[k, l] = more[l, k] = 1
            assert gain == pytest.approx(balanced(more, i, j) - balanced(a, i, j), abs=1e-9)


@pytest.mark.parametrize("graph", [*RANDOM, BARBELL], ids=str)
def test_sdrf_supports_the_edge_with_the_lowest_curvature(graph):
    before = from_networkx(graph)
    curvature = balanced_forman_curvature(before)
    i, j = (int(end[curvature.argmin()]) for end in edge_endpoints(before))
    after = sdrf(before, 1)
    ((k, l),) = new_pairs(before, after)  # noqa: E741
    pairs, gains = improvements([set(graph[v]) for v in graph], i, j)
    gain = {frozenset(pair): value for pair, value in zip(pairs.tolist(), gains)}
    assert gain[frozenset((k, l))] == pytest.approx(max(gains))
    assert balanced_forman_curvature(after)[curvature.argmin()] == pytest.approx(curvature.min() + max(gains))


def test_curvature_follows_each_change():
    random = np.random.default_rng(0)
    graph = RANDOM[0].copy()
    curved = CurvedGraph(nx.to_scipy_sparse_array(graph, format="csr"))
    for _ in range(30):
        u, v = random.choice(len(graph), 2, replace=False).tolist()
        (curved.unlink if graph.has_edge(u, v) else curved.link)(u, v)
        (graph.remove_edge if graph.has_edge(u, v) else graph.add_edge)(u, v)
        a = nx.to_numpy_array(graph)
        expected = {(min(e), max(e)): balanced(a, *e) for e in graph.edges()}
        assert curved.curvature == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("graph", [BARBELL, TREE, nx.barbell_graph(6, 2)], ids=str)
def test_sdrf_raises_the_lowest_curvature(graph):
    lowest = [balanced_forman_curvature(sdrf(from_networkx(graph), count)).min() for count in (0, 8)]
    assert lowest[1] > lowest[0] + 0.1


def test_sdrf_removes_the_edge_with_the_highest_curvature():
    before = from_networkx(BARBELL)
    assert sdrf(before, 3, max_curvature=2.0).num_edges() == before.num_edges() + 6
    after = sdrf(before, 3, max_curvature=0.5)
    assert after.num_edges() == before.num_edges()
    pairs = [set(zip(*(end.tolist() for end in edge_endpoints(graph)))) for graph in (before, after)]
    assert len(pairs[0] - pairs[1]) == 6
    assert balanced_forman_curvature(after).max() < balanced_forman_curvature(before).max()


def test_tau_weights_the_improvements():
    random, gains = np.random.default_rng(0), np.array([0.0, 0.5, 1.0, 1.0])
    for tau in (0.0, 2.0):
        draws = np.bincount([_choose(gains, tau, random) for _ in range(4000)], minlength=4) / 4000
        np.testing.assert_allclose(draws, np.exp(tau * gains) / np.exp(tau * gains).sum(), atol=0.03)
    assert {_choose(gains, np.inf, random) for _ in range(50)} == {2, 3}


def test_sdrf_ends_where_no_edge_can_be_added():
    complete = from_networkx(nx.complete_graph(4))
    assert sdrf(complete, 5).num_edges() == complete.num_edges()


# GTR


def total_resistance(graph):
    """The sum over all pairs of each component, by networkx."""
    parts = (graph.subgraph(nodes) for nodes in nx.connected_components(graph))
    return sum(len(part) * np.linalg.pinv(nx.laplacian_matrix(part).toarray()).trace() for part in parts)


@pytest.mark.parametrize(
    "graph", [RANDOM[0], BARBELL, nx.disjoint_union(nx.balanced_tree(2, 2), nx.path_graph(7))], ids=str
)
def test_gtr_adds_the_edge_with_the_lowest_total_resistance(graph):
    """Each of four edges, against all others in the same component."""
    before = from_networkx(graph)
    for u, v in new_pairs(before, gtr(before, 4)):
        totals = {}
        for pair in nx.non_edges(graph):
            if nx.has_path(graph, *pair):
                more = graph.copy()
                more.add_edge(*pair)
                totals[frozenset(pair)] = total_resistance(more)
        assert totals[frozenset((u, v))] == pytest.approx(min(totals.values()))
        graph = graph.copy()
        graph.add_edge(u, v)


def test_resistance_falls_with_each_edge():
    before = from_networkx(TREE)
    src, dst = torch.cartesian_prod(torch.arange(31), torch.arange(31)).T
    one, other = (effective_resistance(gtr(before, count), src, dst) for count in (0, 5))
    assert bool((other <= one + 1e-9).all())
    assert other.sum() < 0.6 * one.sum()
