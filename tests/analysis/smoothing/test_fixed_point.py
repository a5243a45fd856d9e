"""The fixed point of propagation against repeated propagation and eigenvectors."""

import numpy as np
import pytest
import torch

from gnnlib import propagate
from gnnlib._platform.dgl import dgl
from gnnlib.analysis.smoothing import fixed_point, fixed_point_distance
from gnnlib.testing.graphs import clique, edgeless, path, symmetric_graph


def two_parts():
    """Two components with self-loops and an isolated node without."""
    first, second = (dgl.add_self_loop(g) for g in (dgl.add_reverse_edges(path(7)), clique(4)))
    src, dst = (torch.cat([a, b + 7]) for a, b in zip(first.edges(), second.edges()))
    return dgl.graph((src, dst), num_nodes=12)


def matrix(graph, norm):
    """One step of propagation as a dense matrix."""
    return propagate(graph, torch.eye(graph.num_nodes(), dtype=torch.float64), norm=norm)


@pytest.mark.parametrize("norm", ["both", "right"])
def test_repeated_propagation_converges_to_it(norm):
    graph = two_parts()
    x = start = torch.randn(12, 2, 3, dtype=torch.float64)
    for _ in range(400):
        x = propagate(graph, x, norm=norm)
    torch.testing.assert_close(fixed_point(graph, start, norm=norm), x, rtol=0, atol=1e-10)
    torch.testing.assert_close(propagate(graph, x, norm=norm), x, rtol=0, atol=1e-10)


def test_multiples_of_the_root_of_the_degree_or_one_value():
    graph = two_parts()
    x = torch.randn(12, 3, dtype=torch.float64)
    root = graph.in_degrees().double().sqrt()[:, None]
    for part in (slice(0, 7), slice(7, 11)):
        multiple = fixed_point(graph, x, norm="both")[part] / root[part]
        torch.testing.assert_close(multiple, multiple[:1].expand_as(multiple))
        value = fixed_point(graph, x, norm="right")[part]
        torch.testing.assert_close(value, value[:1].expand_as(value))
    assert bool((fixed_point(graph, x)[11] == 0).all())


@pytest.mark.parametrize("norm", ["both", "right"])
def test_the_distance_decreases_by_the_second_eigenvalue(norm):
    graph = symmetric_graph(12, seed=5)
    size = np.sort(np.abs(np.linalg.eigvals(matrix(graph, norm).numpy())))
    assert size[-1] == pytest.approx(1)
    assert size[-2] < 0.999  # one component
    x = torch.randn(12, 2, dtype=torch.float64)
    distances = []
    for _ in range(200):
        distances.append(fixed_point_distance(graph, x, norm=norm).item())
        x = propagate(graph, x, norm=norm)
    steps = slice(40, 60)  # late enough for the second eigenvalue to rule, early enough for float64
    rate = (distances[60] / distances[40]) ** (1 / 20)
    assert rate == pytest.approx(size[-2], rel=1e-3)
    if norm == "both":  # a symmetric matrix shrinks the distance at every step by at least that
        assert all(b <= a * size[-2] * (1 + 1e-9) for a, b in zip(distances[steps], distances[41:61]))


def test_against_the_projection_onto_the_leading_eigenvectors():
    graph = two_parts()
    value, vector = np.linalg.eigh(matrix(graph, "both").numpy())
    lead = vector[:, value > 1 - 1e-9]
    assert lead.shape[1] == 2  # one for each component with edges
    x = np.random.default_rng(0).normal(size=(12, 3))
    projected = lead @ lead.T @ x
    np.testing.assert_allclose(fixed_point(graph, torch.from_numpy(x)), projected, atol=1e-12)
    expected = np.linalg.norm(x - projected)
    assert fixed_point_distance(graph, torch.from_numpy(x)).item() == pytest.approx(expected)


def test_batches():
    parts = [symmetric_graph(6), dgl.add_self_loop(edgeless(3)), dgl.add_self_loop(clique(4))]
    x = torch.randn(13, 2, 3)
    got = fixed_point_distance(dgl.batch(parts), x)
    distances = [fixed_point_distance(g, rows) for g, rows in zip(parts, x.split([6, 3, 4]))]
    torch.testing.assert_close(got, torch.cat(distances))


def test_invalid_arguments():
    with pytest.raises(ValueError, match="in both directions, got 3 pairs"):
        fixed_point(path(4), torch.ones(4, 2))
    with pytest.raises(ValueError, match="'both' or 'right', got 'left'"):
        fixed_point(clique(4), torch.ones(4, 2), norm="left")
    with pytest.raises(ValueError, match=r"got \(3, 2\)"):
        fixed_point_distance(clique(4), torch.ones(3, 2))
