"""Gaussian adjacencies against the formula, entry by entry, on dense matrices."""

import numpy as np
import pytest
import torch

from gnnlib.images import GAUSSIAN, HEAT, KNYAZEV, Decay, gaussian_graph, pixel_graph, superpixel_graph


def dense(graph):
    """A[v, u] of the edge u -> v."""
    matrix = torch.zeros(graph.num_nodes(), graph.num_nodes(), dtype=graph.edata["weight"].dtype)
    src, dst = graph.edges()
    matrix[dst, src] = graph.edata["weight"]
    return matrix


def law(name, distance, sigma):
    return {
        "gaussian": np.exp(-(distance**2) / (2 * sigma**2)),
        "heat": np.exp(-(distance**2) / sigma**2),
        "knyazev": np.exp(-distance / sigma**2),
    }[name]


@pytest.fixture
def pos():
    return torch.randn(30, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("name", "decay"), [("gaussian", GAUSSIAN), ("heat", HEAT), ("knyazev", KNYAZEV)])
@pytest.mark.parametrize("cutoff", [0.0, 0.01, 0.5])
@pytest.mark.parametrize("self_loops", [True, False])
def test_every_entry_follows_the_formula(pos, name, decay, cutoff, self_loops):
    distance = (pos[:, None] - pos[None]).square().sum(-1).sqrt().numpy()
    expected = law(name, distance, 0.7)
    expected[expected < cutoff] = 0
    if not self_loops:
        np.fill_diagonal(expected, 0)
    graph = gaussian_graph(pos, 0.7, cutoff, self_loops=self_loops, decay=decay)
    torch.testing.assert_close(dense(graph), torch.from_numpy(expected), rtol=1e-12, atol=0)
    assert graph.num_edges() == (expected > 0).sum()
    assert torch.equal(graph.ndata["pos"], pos)
    src, dst = graph.edges()
    assert ((dst * 30 + src).diff() > 0).all()


@pytest.mark.parametrize("self_loops", [True, False])
def test_normalisations(pos, self_loops):
    matrix = dense(gaussian_graph(pos, 0.7, 0.05, self_loops=self_loops))
    degree = matrix.sum(1)
    inverse = torch.where(degree > 0, 1 / degree, 0)
    expected = {
        "right": inverse[:, None] * matrix,
        "left": matrix * inverse,
        "both": inverse.sqrt()[:, None] * matrix * inverse.sqrt(),
    }
    for norm, matrix in expected.items():
        got = dense(gaussian_graph(pos, 0.7, 0.05, norm, self_loops))
        torch.testing.assert_close(got, matrix, rtol=1e-12, atol=1e-15)
    assert torch.allclose(dense(gaussian_graph(pos, 0.7, 0.05, "right")).sum(1), torch.ones(30, dtype=torch.float64))


def test_pixels_by_hand():
    graph = gaussian_graph(pixel_graph((1, 3)).ndata["pos"], sigma=1.0)
    a, b = np.exp(-0.5), np.exp(-2.0)
    expected = torch.tensor([[1, a, b], [a, 1, a], [b, a, 1]], dtype=torch.float32)
    torch.testing.assert_close(dense(graph), expected)


def test_cutoff_keeps_the_entry_that_equals_it():
    cutoff = float(GAUSSIAN(5.0, 3.0))
    graph = gaussian_graph(torch.tensor([[0.0, 0.0], [3.0, 4.0], [3.1, 4.1]]), 3.0, cutoff, self_loops=False)
    assert (0, 1) in list(zip(*(end.tolist() for end in graph.edges())))
    assert graph.num_edges() == 4


def test_superpixels_and_volumes_do_as_well():
    image = np.random.default_rng(0).random((20, 20))
    superpixels = superpixel_graph(image, num_segments=20)
    graph = gaussian_graph(superpixels.ndata["pos"], 4.0, 0.1)
    assert graph.num_nodes() == superpixels.num_nodes()
    volume = gaussian_graph(pixel_graph((3, 3, 3)).ndata["pos"], 0.8, 0.4, self_loops=False)
    grid = pixel_graph((3, 3, 3), connectivity=1, self_loops=False)
    assert torch.equal(torch.stack(volume.edges()), torch.stack(grid.edges()))


def test_few_nodes_twins_and_dtypes():
    assert gaussian_graph(torch.zeros(0, 2), 1.0, 0.5).num_nodes() == 0
    assert gaussian_graph(torch.zeros(0, 2), 1.0).num_edges() == 0
    lonely = gaussian_graph(torch.tensor([[0.0], [9.0]]), 1.0, 0.5, "both", self_loops=False)
    assert (lonely.num_nodes(), lonely.num_edges()) == (2, 0)
    twins = gaussian_graph(np.zeros((2, 2), np.float32), 1.0, 0.5, self_loops=False)
    assert twins.edata["weight"].tolist() == [1.0, 1.0]
    assert gaussian_graph(np.array([[0, 0], [1, 1]]), 1.0).edata["weight"].dtype == torch.float32
    assert gaussian_graph(np.zeros((2, 2)), 1.0).edata["weight"].dtype == torch.float64


@pytest.mark.parametrize("decay", [GAUSSIAN, HEAT, KNYAZEV, Decay(power=3, factor=0.5)])
def test_reach_is_the_inverse(decay):
    for weight in (1e-9, 0.01, 0.5, 0.999):
        assert float(decay(decay.reach(weight, 1.7), 1.7)) == pytest.approx(weight, rel=1e-9)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pos": torch.zeros(3)}, r"pos: expected shape \(nodes, axes\), got \(3,\)"),
        ({"pos": torch.zeros(3, 0)}, r"pos: .* got \(3, 0\)"),
        ({"pos": torch.tensor([[0.0], [float("nan")]])}, r"pos: expected finite positions, got \[nan\] at node 1"),
        ({"pos": torch.tensor([[float("inf")]])}, r"pos: .* got \[inf\] at node 0"),
        ({"sigma": 0.0}, "sigma: expected a positive number, got 0.0"),
        ({"sigma": -1.0}, "sigma: .* got -1.0"),
        ({"sigma": float("nan")}, "sigma: .* got nan"),
        ({"cutoff": 1.0}, r"cutoff: expected a number in \[0, 1\), got 1.0"),
        ({"cutoff": -0.1}, "cutoff: .* got -0.1"),
        ({"norm": "kipf"}, "norm: .*got 'kipf'"),
    ],
)
def test_bad_input(change, message):
    with pytest.raises(ValueError, match=message):
        gaussian_graph(**({"pos": torch.zeros(3, 2), "sigma": 1.0} | change))
