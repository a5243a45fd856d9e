"""Rules that join regions: each against a dense matrix or a loop over pixels."""

import math

import networkx as nx
import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist

from gnnlib.images import GAUSSIAN, HEAT, KNYAZEV, Nearest, Regions, Strongest, Touching, Within, graph_from_labels

LABELS = np.random.default_rng(0).integers(0, 15, (9, 14))
PARTS = Regions.from_labels(np.zeros((9, 14)), LABELS)
DISTANCE = cdist(PARTS.centroid, PARTS.centroid)
LAW = {
    GAUSSIAN: lambda d, s: np.exp(-(d**2) / (2 * s**2)),
    HEAT: lambda d, s: np.exp(-((d / s) ** 2)),
    KNYAZEV: lambda d, s: np.exp(-d / s**2),
}


def dense(arrays, nodes=15, name="weight"):
    """A[v, u] of the edge u -> v."""
    matrix = np.zeros((nodes, nodes))
    assert len(set(zip(arrays["src"], arrays["dst"]))) == len(arrays["src"])
    matrix[arrays["dst"], arrays["src"]] = arrays[name]
    return matrix


@pytest.mark.parametrize("decay", list(LAW))
@pytest.mark.parametrize("sigma", [None, 1.5])
def test_nearest(decay, sigma):
    expected = np.zeros((15, 15))
    for v in range(15):
        near = np.argsort(DISTANCE[v])[1:5]
        expected[v, near] = LAW[decay](DISTANCE[v, near], sigma or DISTANCE[v, near].mean())
    np.testing.assert_allclose(dense(Nearest(4, sigma, decay)(PARTS)), expected, rtol=1e-12)


@pytest.mark.parametrize("decay", list(LAW))
@pytest.mark.parametrize("radius", [0.05, 3.0, math.inf])
@pytest.mark.parametrize("relative", [False, True])
def test_within(decay, radius, relative):
    distance = cdist(PARTS.centroid / (9, 14), PARTS.centroid / (9, 14)) if relative else DISTANCE
    near = (distance <= radius) & ~np.eye(15, dtype=bool)
    for sigma, expected in ((None, near), (0.4, near * LAW[decay](distance, 0.4))):
        np.testing.assert_allclose(dense(Within(radius, sigma, decay, relative)(PARTS)), expected, rtol=1e-12)
    if radius == math.inf:
        assert near.sum() == 15 * 14


@pytest.mark.parametrize("shape", [(30,), (9, 14), (4, 5, 6)])
def test_touching_counts_the_sides_between_pixels(shape):
    labels = np.random.default_rng(1).integers(0, 10, shape)
    mask = np.random.default_rng(2).random(shape) < 0.9
    expected = np.zeros((10, 10))
    grid = nx.grid_graph(dim=shape[::-1])
    for one, other in grid.edges():
        a, b = labels[one], labels[other]
        if a != b and mask[one] and mask[other]:
            expected[a, b] += 1
            expected[b, a] += 1
    seen = np.unique(labels[mask])  # gaps are closed
    expected = expected[np.ix_(seen, seen)]
    arrays = Touching()(Regions.from_labels(np.zeros(shape), labels, mask))
    assert np.array_equal(dense(arrays, len(seen), "border"), expected)
    assert np.array_equal(dense(arrays, len(seen)), expected > 0)


@pytest.mark.parametrize("k", [1, 5, 14, 40])
def test_strongest_of_the_symmetric_matrix(k):
    near = min(k, 14)
    sigma = np.sort(DISTANCE, 1)[:, 1 : near + 1].mean(1, keepdims=True)
    similar = np.exp(-((DISTANCE / sigma) ** 2))
    similar = 0.5 * (similar + similar.T)
    expected = np.zeros((15, 15))
    for i in range(15):
        neighbors = sorted(set(range(15)) - {i}, key=lambda j: -similar[i, j])[:near]
        expected[neighbors, i] = similar[i, neighbors]  # the edges leave i
    arrays = Strongest(k)(PARTS)
    np.testing.assert_allclose(dense(arrays), expected, rtol=1e-6)
    assert (np.bincount(arrays["src"]) == near).all()


@pytest.mark.parametrize("rule", [Nearest(), Within(), Within(2.0, 1.0), Touching(), Strongest()])
def test_one_region_and_twins(rule):
    alone = graph_from_labels(np.zeros((3, 3)), np.zeros((3, 3), int), edges=rule)
    assert (alone.num_nodes(), alone.num_edges()) == (1, 0)
    ring = np.array([[0, 0, 0], [0, 1, 0], [0, 0, 0]])
    twins = graph_from_labels(np.zeros((3, 3)), ring, edges=rule)
    assert sorted(zip(*(end.tolist() for end in twins.edges()))) == [(0, 1), (1, 0)]
    assert twins.edata["weight"].eq(1).all()
    assert twins.edata["distance"].eq(0).all()


@pytest.mark.parametrize("rule", [Nearest(3), Within(4.0, 2.0), Touching(), Strongest(3)])
@pytest.mark.parametrize("self_loops", [False, True])
@pytest.mark.parametrize("norm", ["none", "right", "both"])
def test_graphs_of_every_rule(rule, self_loops, norm):
    graph = graph_from_labels(np.zeros((9, 14)), LABELS, edges=rule, self_loops=self_loops, norm=norm)
    src, dst = graph.edges()
    pos = graph.ndata["pos"]
    assert dst.diff().ge(0).all()
    assert torch.equal(graph.edata["offset"], pos[src] - pos[dst])
    torch.testing.assert_close(graph.edata["distance"], (pos[src] - pos[dst]).square().sum(1).sqrt())
    matrix = dense(rule(PARTS)) + self_loops * np.eye(15)
    into, out = matrix.sum(1), matrix.sum(0)
    expected = {
        "none": matrix,
        "right": matrix / np.where(into, into, 1)[:, None],
        "both": matrix / np.sqrt(np.where(into, into, 1)[:, None] * np.where(out, out, 1)),
    }[norm]
    arrays = {"src": src.numpy(), "dst": dst.numpy(), "weight": graph.edata["weight"].numpy()}
    np.testing.assert_allclose(dense(arrays), expected, rtol=1e-5, atol=1e-7)
    assert graph.has_edges_between(range(15), range(15)).all() == self_loops
    if isinstance(rule, Touching):
        assert graph.edata["border"][src == dst].eq(0).all()


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Nearest(0), ValueError, "k: expected at least 1, got 0"),
        (lambda: Strongest(-2), ValueError, "k: expected at least 1, got -2"),
        (lambda: Nearest(2.5), TypeError, "integer"),
        (lambda: Nearest(2, sigma=0.0), ValueError, "sigma: expected None or a positive number, got 0.0"),
        (lambda: Within(0.0), ValueError, "radius: expected a positive number, got 0.0"),
        (lambda: Within(math.nan), ValueError, "radius: .* got nan"),
        (lambda: Within(sigma=math.inf), ValueError, "sigma: .* got inf"),
        (lambda: graph_from_labels(LABELS * 1.0, LABELS, norm="mean"), ValueError, "mean"),
    ],
)
def test_bad_values(make, error, message):
    with pytest.raises(error, match=message):
        make()
