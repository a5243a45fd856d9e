"""Effective resistance and commute time, against networkx, and against the equations of a random walk."""

import networkx as nx
import numpy as np
import pytest
import torch

from gnnlib.analysis.squashing import commute_time, effective_resistance
from gnnlib.graph import batch, new_graph


def from_networkx(graph):
    src, dst = torch.tensor(list(graph.edges()), dtype=torch.int64).T
    return new_graph(torch.cat([src, dst]), torch.cat([dst, src]), len(graph))


GRAPHS = [nx.path_graph(6), nx.cycle_graph(7), nx.complete_graph(5), nx.barbell_graph(4, 2), nx.balanced_tree(2, 3)]


@pytest.mark.parametrize("graph", GRAPHS, ids=str)
def test_resistance_is_that_of_networkx(graph):
    src, dst = np.array([(u, v) for u in graph for v in graph]).T
    expected = [nx.resistance_distance(graph, int(u), int(v)) if u != v else 0 for u, v in zip(src, dst)]
    actual = effective_resistance(from_networkx(graph), torch.tensor(src), torch.tensor(dst))
    np.testing.assert_allclose(actual, expected, atol=1e-9)


@pytest.mark.parametrize("graph", GRAPHS, ids=str)
def test_commute_time_solves_the_equations_of_a_random_walk(graph):
    """h(v) = 0 and h(u) = 1 + the mean of h over the neighbours of u."""
    n = len(graph)
    walk = nx.to_numpy_array(graph)
    walk /= walk.sum(1, keepdims=True)
    hitting = np.zeros((n, n))
    for v in range(n):
        rest = np.delete(np.arange(n), v)
        hitting[rest, v] = np.linalg.solve(np.eye(n - 1) - walk[np.ix_(rest, rest)], np.ones(n - 1))
    src, dst = torch.cartesian_prod(torch.arange(n), torch.arange(n)).T
    np.testing.assert_allclose(commute_time(from_networkx(graph), src, dst), (hitting + hitting.T).ravel(), atol=1e-8)


def test_fosters_theorem():
    """The resistances of the edges of a connected graph sum to the number of nodes minus 1 (Foster 1949)."""
    graph = from_networkx(nx.gnp_random_graph(20, 0.4, seed=0))
    assert float(effective_resistance(graph).sum() / 2) == pytest.approx(19)


def test_components_loops_and_parallel_edges():
    graph = new_graph(torch.tensor([0, 0, 1, 3, 4]), torch.tensor([1, 1, 1, 4, 3]), 6)
    src, dst = torch.tensor([0, 0, 3, 5, 1]), torch.tensor([1, 3, 4, 5, 2])
    assert effective_resistance(graph, src, dst).tolist() == [0.5, torch.inf, 1, 0, torch.inf]
    assert commute_time(graph, src[:1], dst[:1]).tolist() == [2]
    one = from_networkx(nx.path_graph(4))
    two = batch([one, one])
    assert torch.equal(effective_resistance(two), effective_resistance(one).repeat(2))


@pytest.mark.parametrize(
    ("ends", "message"),
    [
        ((torch.tensor([0]),), "expected both src and dst"),
        ((torch.tensor([0]), torch.tensor([0, 1])), "expected as many src as dst, got 1 and 2"),
        ((torch.tensor([0]), torch.tensor([9])), "dst: expected nodes from 0 to 2, got 9 to 9"),
        ((torch.tensor([0.0]), torch.tensor([1])), r"src: expected numbers of nodes \(P,\), got float32"),
    ],
)
def test_wrong_pairs(ends, message):
    with pytest.raises(ValueError, match=message):
        effective_resistance(from_networkx(nx.path_graph(3)), *ends)
