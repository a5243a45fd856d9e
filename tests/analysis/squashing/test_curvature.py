"""Curvature: the published values of known graphs, the definitions on dense matrices, and a theorem."""

import networkx as nx
import numpy as np
import pytest
import torch
from scipy.optimize import linprog

from gnnlib.analysis.squashing import balanced_forman_curvature, ollivier_curvature
from gnnlib.graph import new_graph
from tests.analysis.squashing.test_resistance import from_networkx

RANDOM = [nx.gnp_random_graph(12, p, seed=seed) for seed, p in enumerate((0.2, 0.35, 0.5, 0.7))]


@pytest.mark.parametrize(
    ("graph", "curvature"),
    [
        (nx.cycle_graph(3), 3 / 2),
        (nx.cycle_graph(4), 1),
        (nx.cycle_graph(5), 0),
        (nx.cycle_graph(9), 0),
        (nx.complete_graph(6), 6 / 5),
        (nx.grid_2d_graph(5, 5, periodic=True), 2 / 4 + 2 / 4 - 2 + (2 + 2) / 4),
    ],
    ids=str,
)
def test_balanced_forman_of_known_graphs(graph, curvature):
    """Topping et al. 2022, table 1; the torus has two squares at each edge and no node in both."""
    graph = nx.convert_node_labels_to_integers(graph)
    torch.testing.assert_close(
        balanced_forman_curvature(from_networkx(graph)), torch.full((2 * graph.size(),), curvature, dtype=torch.float64)
    )


def test_balanced_forman_of_trees():
    """Inside a tree with r children each 4 / (r + 1) - 2 (table 1); at a leaf 0."""
    for r in (2, 3):
        graph = from_networkx(nx.balanced_tree(r, 4))
        src, dst = (end.long() for end in graph.edges())
        degree = graph.in_degrees()
        inside = (degree[src] == r + 1) & (degree[dst] == r + 1)
        leaf = (degree[src] == 1) | (degree[dst] == 1)
        curvature = balanced_forman_curvature(graph)
        torch.testing.assert_close(
            curvature[inside], torch.full((int(inside.sum()),), 4 / (r + 1) - 2, dtype=torch.float64)
        )
        assert not curvature[leaf].any()


def balanced(a, i, j):
    """Definition 1 of Topping et al. 2022, with the products of matrices that it has."""
    d = a.sum(1)
    low, high = min(d[i], d[j]), max(d[i], d[j])
    if low == 1:
        return 0.0
    triangles = a[i] @ a[j]
    value = 2 / d[i] + 2 / d[j] - 2 + 2 * triangles / high + triangles / low
    squares, degeneracy = 0, 0
    for u, v in ((i, j), (j, i)):
        for k in range(len(a)):
            if a[u, k] and not a[v, k] and k != v:
                paths = a[k] @ (a[v] - a[u] * a[v]) - 1
                squares += paths > 0
                degeneracy = max(degeneracy, paths)
    return value + (squares / (degeneracy * high) if degeneracy else 0)


@pytest.mark.parametrize("graph", RANDOM, ids=str)
def test_balanced_forman_is_its_definition(graph):
    ours = from_networkx(graph)
    a, ends = nx.to_numpy_array(graph), torch.stack(ours.edges()).T.tolist()
    np.testing.assert_allclose(balanced_forman_curvature(ours), [balanced(a, i, j) for i, j in ends], atol=1e-12)


def ollivier(graph, i, j, idleness):
    """By a linear program over all pairs of nodes."""
    n, distance = len(graph), dict(nx.all_pairs_shortest_path_length(graph))
    steps = []
    for v in (i, j):
        step = np.zeros(n)
        step[list(graph[v])] = (1 - idleness) / len(graph[v])
        step[v] += idleness
        steps.append(step)
    cost = np.array([[distance[u].get(v, n) for v in range(n)] for u in range(n)], float)
    rows = np.kron(np.eye(n), np.ones(n)), np.kron(np.ones(n), np.eye(n))
    return 1 - linprog(cost.ravel(), A_eq=np.vstack(rows), b_eq=np.concatenate(steps)).fun


@pytest.mark.parametrize("idleness", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("graph", [nx.barbell_graph(4, 1), RANDOM[1]], ids=str)
def test_ollivier_is_its_definition(graph, idleness):
    ours = from_networkx(graph)
    ends = torch.stack(ours.edges()).T.tolist()
    half = len(ends) // 2  # the other direction of each
    curvature = ollivier_curvature(ours, idleness=idleness)
    np.testing.assert_allclose(curvature[:half], [ollivier(graph, i, j, idleness) for i, j in ends[:half]], atol=1e-8)
    assert torch.equal(curvature[:half], curvature[half:])


@pytest.mark.parametrize(
    ("graph", "curvature"), [(nx.complete_graph(6), 4 / 5), (nx.cycle_graph(4), 0), (nx.cycle_graph(8), 0)], ids=str
)
def test_ollivier_of_known_graphs(graph, curvature):
    actual = ollivier_curvature(from_networkx(graph))
    np.testing.assert_allclose(actual, np.full(2 * graph.size(), curvature), atol=1e-9)


def test_directions_loops_and_parallel_edges():
    graph = new_graph(torch.tensor([0, 1, 2, 2, 2, 1]), torch.tensor([1, 2, 0, 2, 0, 0]), 3)
    for curvature in (balanced_forman_curvature, ollivier_curvature):
        simple = curvature(from_networkx(nx.cycle_graph(3)))[0]
        actual = curvature(graph)
        assert actual[3].isnan()
        torch.testing.assert_close(actual[[0, 1, 2, 4, 5]], simple.expand(5))


def test_idleness_is_a_probability():
    with pytest.raises(ValueError, match="expected an idleness from 0 to 1, got 2"):
        ollivier_curvature(from_networkx(nx.cycle_graph(3)), idleness=2)
