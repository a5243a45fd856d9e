"""Mean average distance against sums over pairs and shortest paths by scipy."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from scipy.sparse.csgraph import shortest_path
from scipy.spatial.distance import cdist

from gnnlib._platform.dgl import dgl
from gnnlib.analysis.smoothing import distance, mad_gap, mean_average_distance
from gnnlib.testing.graphs import GRAPHS, HOMOGENEOUS, edgeless, endpoints, graph_strategy, path, random_graph


def hops(graph):
    src, dst = endpoints(graph)
    a = np.zeros((graph.num_nodes(), graph.num_nodes()))
    a[src, dst] = 1
    return shortest_path(a, directed=False, unweighted=True) if len(a) else a


def dense(far, x, min_hops, max_hops):
    """Row means over the pairs within the range, then the mean over rows that have any."""
    pairs = (far >= min_hops) & (far <= (np.inf if max_hops is None else max_hops))
    if max_hops == math.inf:
        pairs &= np.isfinite(far)
    away = cdist(x, x, "cosine") if len(x) else np.zeros((0, 0))
    rows = [away[i][pairs[i]].mean() for i in range(len(x)) if pairs[i].any()]
    return np.mean(rows) if rows else np.nan


RANGES = [(1, None), (1, math.inf), (1, 1), (1, 3), (2, 2), (2, None), (3, math.inf)]


@pytest.mark.parametrize(("min_hops", "max_hops"), RANGES)
@pytest.mark.parametrize("name", HOMOGENEOUS)
def test_against_the_mean_over_pairs(name, min_hops, max_hops):
    graph = GRAPHS[name]()
    x = torch.randn(graph.num_nodes(), 4, dtype=torch.float64)
    first = np.cumsum([0, *graph.batch_num_nodes().tolist()])
    far = hops(graph)
    expected = [dense(far[i:j, i:j], x[i:j].numpy(), min_hops, max_hops) for i, j in pairwise(first)]
    np.testing.assert_allclose(
        mean_average_distance(graph, x, min_hops=min_hops, max_hops=max_hops), expected, rtol=1e-10, atol=1e-12
    )


@given(graph_strategy())
@pytest.mark.slow
def test_mad_gap_against_the_mean_over_pairs(graph):
    x = torch.randn(graph.num_nodes(), 2, 3, dtype=torch.float64)
    far = hops(graph)
    got = mad_gap(graph, x, near=1, remote=3)
    for signal in range(2):
        rows = x[:, signal].numpy()
        expected = dense(far, rows, 3, None) - dense(far, rows, 1, 1)
        np.testing.assert_allclose(got[0, signal], expected, rtol=1e-10, atol=1e-12)


def test_neighbourhoods_in_blocks(monkeypatch):
    graph = random_graph(30, 60)
    x = torch.randn(30, 4)
    expected = mean_average_distance(graph, x, max_hops=2)
    monkeypatch.setattr(distance, "ROWS", 7)
    torch.testing.assert_close(mean_average_distance(graph, x, max_hops=2), expected)


def test_parallel_features_have_distance_0():
    x = torch.tensor([0.1, 1.0, 1e5, 3.0])[:, None] * torch.randn(1, 16)
    for max_hops in (None, 1):
        assert mean_average_distance(path(4), x, max_hops=max_hops).item() == pytest.approx(0, abs=1e-12)


def test_distances_below_the_rounding_of_the_cosine():
    """1 - cos is e^2 / 2 for directions e apart; with e = 1e-10 a cosine in float64 is 1."""
    x = torch.tensor([[1.0, 0.0], [1.0, 1e-10]], dtype=torch.float64)
    assert mean_average_distance(path(2), x).item() == pytest.approx(5e-21, rel=1e-3)


def test_zero_vectors():
    x = torch.tensor([[0.0, 0.0], [0.0, 0.0], [1.0, 2.0]])
    assert mean_average_distance(edgeless(3), x).item() == pytest.approx(2 / 3)
    assert mean_average_distance(edgeless(3), 0 * x).item() == 0


def test_without_pairs_the_distance_is_nan():
    assert mean_average_distance(edgeless(1), torch.ones(1, 2)).isnan().all()
    assert mean_average_distance(edgeless(3), torch.randn(3, 2), max_hops=math.inf).isnan().all()
    assert mad_gap(path(5), torch.randn(5, 2)).isnan().all()
    two = dgl.batch([path(3), edgeless(1)])
    assert mean_average_distance(two, torch.randn(4, 2)).isnan().tolist() == [False, True]


@pytest.mark.parametrize(("min_hops", "max_hops"), [(0, None), (3, 2)])
def test_invalid_ranges(min_hops, max_hops):
    with pytest.raises(ValueError, match=f"got min_hops={min_hops}, max_hops={max_hops}"):
        mean_average_distance(path(4), torch.ones(4, 2), min_hops=min_hops, max_hops=max_hops)
