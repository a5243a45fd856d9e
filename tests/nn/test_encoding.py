"""Encodings: eigenvalue equations, closed forms on paths, cycles and cliques, and those of dgl."""

import math

import numpy as np
import pytest
import torch

from gnnlib import laplacian_encoding, random_walk_encoding
from gnnlib._platform.dgl import dgl
from gnnlib.nn import encoding as encodings
from gnnlib.testing.graphs import (
    BIPARTITE,
    GRAPHS,
    HOMOGENEOUS,
    clique,
    edgeless,
    path,
    random_graph,
    star,
    symmetric_graph,
)

BOTH = pytest.mark.parametrize("encode", [laplacian_encoding, random_walk_encoding])


def both_ways(graph):
    return dgl.add_reverse_edges(graph)


def cycle(num_nodes):
    nodes = torch.arange(num_nodes)
    return both_ways(dgl.graph((nodes, nodes.roll(-1))))


def connected(num_nodes):
    """Each node hears a node before it."""
    nodes = torch.arange(1, num_nodes)
    return dgl.graph(((torch.rand(num_nodes - 1) * nodes).long(), nodes))


def weighted(graph):
    """The graph, and the same number on both directions of each edge."""
    src, dst = graph.edges()
    weight = torch.rand(graph.num_nodes(), graph.num_nodes(), dtype=torch.float64) + 0.1
    return graph, (weight + weight.T)[src, dst]


def normalised_laplacian(graph, weight=None):
    n = graph.num_nodes()
    a, (src, dst) = np.zeros((n, n)), (end.numpy() for end in graph.edges())
    np.add.at(a, (dst, src), 1.0 if weight is None else weight.numpy())
    np.fill_diagonal(a, 0)
    scale = 1 / np.sqrt(a.sum(1))
    return np.eye(n) - scale[:, None] * a * scale


# ---------------------------------------------------------------- the Laplacian


@pytest.mark.parametrize("dense", [1000, 0], ids=["dense", "sparse"])
@pytest.mark.parametrize("with_weights", [False, True])
def test_smallest_eigenvectors_after_the_first(dense, with_weights, monkeypatch):
    monkeypatch.setattr(encodings, "DENSE", dense)
    torch.manual_seed(0)
    graph, weight = weighted(both_ways(connected(30)))
    weight = weight if with_weights else None
    p, k = laplacian_encoding(graph, 5, weight).double().numpy(), 5
    laplacian = normalised_laplacian(graph, weight)
    values = np.linalg.eigvalsh(laplacian)[1 : k + 1]
    np.testing.assert_allclose(laplacian @ p, p * values, atol=1e-6)
    np.testing.assert_allclose(p.T @ p, np.eye(k), atol=1e-6)


def test_a_path_has_cosines():
    """Eigenvectors sqrt(d_v) cos(pi j v / (n - 1)), eigenvalues 1 - cos(pi j / (n - 1))."""
    n, k = 8, 7
    v, j = torch.arange(n, dtype=torch.float64).unsqueeze(1), torch.arange(1, k + 1, dtype=torch.float64)
    degree = torch.tensor([1.0, *[2.0] * (n - 2), 1.0], dtype=torch.float64).unsqueeze(1)
    waves = degree.sqrt() * torch.cos(math.pi * j * v / (n - 1))
    waves = waves / waves.norm(dim=0)
    actual = laplacian_encoding(both_ways(path(n)), k).double()
    torch.testing.assert_close(actual.abs(), waves.abs(), rtol=0, atol=1e-6)
    sign = (actual * waves).sum(0)
    torch.testing.assert_close(actual, sign * waves, rtol=0, atol=1e-6)
    first = (actual.abs() > 0.9999 * actual.abs().amax(0)).int().argmax(0)
    assert bool((actual[first, torch.arange(k)] > 0).all())


def test_equals_that_of_dgl_up_to_signs():
    graph = both_ways(dgl.graph(([0, 1, 2, 3, 4, 0, 1], [1, 2, 3, 4, 5, 2, 4])))
    actual, theirs = laplacian_encoding(graph, 5), dgl.lap_pe(graph, 5, padding=True)
    torch.testing.assert_close(actual.abs(), theirs.abs().float(), rtol=0, atol=1e-5)


def test_directed_graphs_are_made_symmetric():
    graph = dgl.graph(([0, 1, 2, 3, 4, 0, 6], [1, 2, 3, 4, 5, 2, 3]))
    torch.testing.assert_close(laplacian_encoding(graph, 4), laplacian_encoding(both_ways(graph), 4))


def test_self_loops_do_not_count():
    graph = both_ways(path(6))
    torch.testing.assert_close(laplacian_encoding(dgl.add_self_loop(graph), 3), laplacian_encoding(graph, 3))


def test_small_graphs_are_padded():
    actual = laplacian_encoding(dgl.batch([clique(2), both_ways(path(4))]), 3)
    assert (actual[:2] != 0).any(0).tolist() == [True, False, False]
    assert (actual[2:] != 0).any(0).all()
    assert not laplacian_encoding(edgeless(1), 3).any()


# ---------------------------------------------------------------- random walks


@pytest.mark.parametrize("n", [3, 5, 8])
def test_return_probabilities_of_a_clique(n):
    """The chance to be back after i steps is (1 + (n - 1) (-1 / (n - 1))^i) / n."""
    step = torch.arange(1, 7, dtype=torch.float64)
    expected = (1 + (n - 1) * (-1 / (n - 1)) ** step) / n
    torch.testing.assert_close(random_walk_encoding(clique(n), 6), expected.float().expand(n, 6))


def test_return_probabilities_of_a_cycle():
    """Back after n steps once round, or after an even number to and fro."""
    actual = random_walk_encoding(cycle(5), 5)
    torch.testing.assert_close(actual, torch.tensor([0, 1 / 2, 0, 3 / 8, 2 / 2**5]).expand(5, 5))


@pytest.mark.parametrize("with_weights", [False, True])
def test_powers_of_the_transition_matrix(with_weights):
    torch.manual_seed(0)
    graph = random_graph()  # directed, with a self-loop, a threefold edge and nodes without out-edges
    weight = torch.rand(23, dtype=torch.float64) if with_weights else None
    src, dst = graph.edges()
    a = torch.zeros(11, 11, dtype=torch.float64)
    a.index_put_((src, dst), torch.ones(23, dtype=torch.float64) if weight is None else weight, accumulate=True)
    walk = a / a.sum(1, keepdim=True).where(a.sum(1, keepdim=True) > 0, 1)
    expected = torch.stack([torch.linalg.matrix_power(walk, i).diagonal() for i in range(1, 8)], 1)
    torch.testing.assert_close(random_walk_encoding(graph, 7, weight), expected.float())


@pytest.mark.filterwarnings("ignore:The given NumPy array is not writable")  # in DGL 1
def test_equals_that_of_dgl():
    graph = symmetric_graph()
    torch.testing.assert_close(random_walk_encoding(graph, 9), dgl.random_walk_pe(graph, 9))


@pytest.mark.parametrize("room", [1, 30, 10**6])
def test_few_walks_at_a_time_are_the_same(room, monkeypatch):
    graph = dgl.batch([random_graph(), edgeless(0), clique(4), random_graph(20, 60)])
    expected = random_walk_encoding(graph, 5)
    monkeypatch.setattr(encodings, "MAX_ENTRIES", room)
    assert torch.equal(random_walk_encoding(graph, 5), expected)


# ---------------------------------------------------------------- both


@BOTH
@pytest.mark.parametrize("name", HOMOGENEOUS)
def test_every_graph(encode, name):
    graph = GRAPHS[name]()
    actual = encode(graph, 3)
    assert actual.shape == (graph.num_nodes(), 3)
    assert actual.dtype == torch.float32
    assert actual.isfinite().all()
    assert torch.equal(encode(GRAPHS[name](), 3), actual)


@BOTH
def test_a_batch_is_its_graphs_one_by_one(encode):
    graphs = [symmetric_graph(9), edgeless(0), clique(3), both_ways(star(4)), edgeless(2), random_graph()]
    torch.testing.assert_close(encode(dgl.batch(graphs), 4), torch.cat([encode(graph, 4) for graph in graphs]))


@BOTH
def test_invalid_calls(encode):
    with pytest.raises(ValueError, match="expected k >= 1, got 0"):
        encode(path(3), 0)
    for name in BIPARTITE:
        graph = GRAPHS[name]()
        with pytest.raises(ValueError, match=f"one node set, got {graph.num_src_nodes()} sources"):
            encode(graph, 3)


def test_laplacian_of_long_thin_graphs():
    """A ring's eigenvalues are 1 - cos(2 pi i / n), each twice, and lie close together."""
    n = 1500
    ring = dgl.to_bidirected(dgl.graph((torch.arange(n), torch.arange(n).roll(1))))
    p = laplacian_encoding(ring, 5).double()
    src, dst = ring.edges()
    smoothed = torch.zeros_like(p).index_add(0, dst, p[src]) / 2
    values = 1 - torch.cos(2 * torch.pi * torch.tensor([1, 1, 2, 2, 3]) / n)
    torch.testing.assert_close((p * (p - smoothed)).sum(0), values.double(), rtol=1e-2, atol=0)
    torch.testing.assert_close(p.T @ p, torch.eye(5).double(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("n", [5, 1000, 1001])
def test_laplacian_without_edges(n):
    bare, loops = dgl.graph(([], []), num_nodes=n), dgl.graph((torch.arange(n), torch.arange(n)))
    for graph in (bare, loops):
        p = laplacian_encoding(graph, 3)
        torch.testing.assert_close(p.T @ p, torch.eye(3))
    other = dgl.graph(([0, 1], [1, 0]))
    assert torch.equal(laplacian_encoding(dgl.batch([bare, other]), 3)[n:], laplacian_encoding(other, 3))


@pytest.mark.parametrize("encoding", [laplacian_encoding, random_walk_encoding])
@pytest.mark.parametrize("weight", [torch.tensor([1.0, -1.0]), torch.ones(3), torch.ones(2, 1)])
def test_invalid_weights(encoding, weight):
    with pytest.raises(ValueError, match=r"encoding: expected weights of shape \(2,\), at least 0, got"):
        encoding(dgl.graph(([0, 1], [1, 0])), 1, weight)
