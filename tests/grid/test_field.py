"""Receptive fields against reachability, filters against matrices, shifts against what pooling promises."""

import random
from itertools import pairwise

import numpy as np
import pytest
import scipy.sparse
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from gnnlib import ECConv, GATConv, GATv2Conv, GCNConv, PredEdgeConv, SAGEConv
from gnnlib._platform.dgl import dgl
from gnnlib.grid import GridConv, GridPool, adaptive_lattice, from_torch, lattice, matrix, to_nodes, transposed_lattice
from gnnlib.grid.field import extent, filter_at, influence, receptive_field, shift_invariance
from gnnlib.images import graph_from_labels, pixel_graph
from tests.grid import draws


def some_graph(rng, sources, destinations, edges):
    ends = rng.integers(0, sources, edges), rng.integers(0, destinations, edges)
    counts = {"in": sources, "out": destinations}
    return dgl.heterograph({("in", "tap", "out"): tuple(map(torch.from_numpy, ends))}, counts)


@given(seed=st.integers(0, 10**6), widths=st.lists(st.integers(1, 8), min_size=2, max_size=5))
@settings(max_examples=30, deadline=None)
def test_it_is_a_row_of_the_product_of_the_adjacencies(seed, widths):
    rng = np.random.default_rng(seed)
    graphs = [some_graph(rng, *pair, edges=int(rng.integers(0, 12))) for pair in pairwise(widths)]
    product = scipy.sparse.identity(widths[0])
    for graph in graphs:
        product = graph.adj_external(scipy_fmt="csr").T.astype(bool).astype(int) @ product
    for node in range(widths[-1]):
        expected = product.tocsr()[node].toarray().ravel() > 0
        assert receptive_field(graphs, node).tolist() == expected.tolist()
    assert receptive_field(graphs, range(widths[-1])).tolist() == (product.toarray().sum(0) > 0).tolist()


@given(
    layers=st.lists(
        st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(1, 3)),  # taps, stride, dilation
        min_size=1,
        max_size=4,
    )
)
@settings(max_examples=60, deadline=None)
def test_it_grows_by_the_formula(layers):
    reach, step = 1, 1
    for taps, stride, dilation in layers:
        reach += (taps - 1) * dilation * step
        step *= stride
    graphs, size = [], reach + 2 * step  # three outputs
    for taps, stride, dilation in layers:
        graphs.append(lattice(size, taps, stride, dilation=dilation))
        size = graphs[-1].num_dst_nodes()
    assert size == 3
    for node in range(3):
        seen = receptive_field(graphs, node)
        assert extent(graphs[0], seen) == (reach,)
        assert int(seen.nonzero()[0]) == node * step


@pytest.mark.parametrize("dilation", [1, 2, 3])
@pytest.mark.parametrize("taps", [2, 3, 5])
def test_dilation_widens_the_window_without_new_parameters(taps, dilation):
    graph = lattice((16, 16), taps, dilation=dilation)
    seen = receptive_field([graph], graph.num_dst_nodes() - 1)
    assert extent(graph, seen) == (dilation * (taps - 1) + 1,) * 2
    assert int(seen.sum()) == taps**2 == GridConv(1, 1, taps, bias=False).weight.numel()


def test_exponential_dilation_leaves_no_gaps():
    graphs = [lattice(15, 3), lattice(13, 3, dilation=2), lattice(9, 3, dilation=4)]
    assert receptive_field(graphs, 0).all()
    gaps = [lattice(13, 3, dilation=2), lattice(9, 3, dilation=4)]  # Wang et al. 2018, arXiv 1702.08502: gridding
    assert receptive_field(gaps, 0).tolist() == [True, False] * 6 + [True]


def test_pixels_hops_apart():
    at = torch.cartesian_prod(torch.arange(9), torch.arange(11)) - torch.tensor([4, 5])
    for connectivity, distance in ((1, at.abs().sum(1)), (2, at.abs().amax(1))):
        graph = pixel_graph((9, 11), connectivity=connectivity)
        for hops in range(1, 5):
            seen = receptive_field([graph] * hops, 4 * 11 + 5)
            assert torch.equal(seen, distance <= hops)
            assert extent(graph, seen) == (2 * hops + 1,) * 2


def test_superpixels_hops_apart():
    labels = np.random.default_rng(0).permutation(np.arange(36) % 12).reshape(6, 6)
    graph = graph_from_labels(np.random.default_rng(1).random((6, 6)), labels, k=3)
    looped = dgl.add_self_loop(dgl.remove_self_loop(graph))
    away = scipy.sparse.csgraph.shortest_path(graph.adj_external(scipy_fmt="csr"), unweighted=True)  # source, node
    for node in range(graph.num_nodes()):
        assert receptive_field([looped] * 2, node).tolist() == (away[:, node] <= 2).tolist()


def test_transposed_lattice():
    fine = lattice((7, 7), 3, stride=2)
    coarse = transposed_lattice((3, 3), 3, stride=2)
    for cell in range(49):
        seen = receptive_field([coarse], cell)
        assert seen.tolist() == [bool(receptive_field([fine], node)[cell]) for node in range(9)]


def drawn_network(rng):
    """A torch network of windows, and their lattices."""
    layers, graphs, size = [], [], (12, 11)
    for _ in range(rng.randint(1, 3)):
        kernel, stride = draws.spread(draws.numbers(rng, 2, 1, 3), 2), draws.spread(draws.numbers(rng, 2, 1, 2), 2)
        padding = tuple(rng.randint(0, c // 2) for c in kernel)
        dilation = 1 if rng.random() < 0.5 else 2
        graph = lattice(size, kernel, stride, padding, dilation)
        layers.append(
            nn.Sequential(nn.Conv2d(2, 2, kernel, stride, padding, dilation), nn.ReLU())
            if rng.random() < 0.6
            else nn.MaxPool2d(kernel, stride, padding, dilation)
        )
        graphs.append(graph)
        size = tuple(int(n) for n in layers[-1](torch.zeros(1, 2, *size)).shape[2:])
    return nn.Sequential(*layers).eval(), graphs, size


@pytest.mark.parametrize("seed", range(12))
def test_influence_equals_receptive_field(seed):
    rng = random.Random(seed)
    torch.manual_seed(seed)
    net, graphs, size = drawn_network(rng)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter *= seed % 2  # even of weights of 0
    row, column = rng.randrange(size[0]), rng.randrange(size[1])
    expected = receptive_field(graphs, row * size[1] + column).view(12, 11)
    image = torch.randn(1, 2, 12, 11)
    for network in (net, from_torch(net, (2, 12, 11))):
        assert torch.equal(influence(network, image, (..., row, column), batch_size=50), expected)


def test_influence_of_linear_layers_and_branches():
    class Branches(nn.Module):
        def __init__(self):
            super().__init__()
            self.small, self.large = nn.Conv2d(1, 2, 3, padding=1), nn.Conv2d(1, 3, (1, 7), padding=(0, 3))

        def forward(self, x):
            return torch.cat([self.small(x), self.large(x)], 1)

    image = torch.zeros(1, 1, 9, 9)
    seen = influence(Branches(), image, (..., 4, 4))
    expected = torch.zeros(9, 9, dtype=torch.bool)
    expected[3:6, 3:6] = expected[4, 1:8] = True
    assert torch.equal(seen, expected)
    net = nn.Sequential(Branches(), nn.BatchNorm2d(5), nn.Flatten(), nn.Linear(405, 10)).eval()
    assert influence(net, image, 7).all()


# ---------------------------------------------------------------- filters


def test_the_filter_of_a_grid_layer_is_the_row_of_its_matrix():
    graph, conv = lattice((7, 8), (3, 2), stride=(1, 2), padding=1), GridConv(2, 3, (3, 2)).double()
    for conv.dense in (True, False):
        for node in (0, 9, graph.num_dst_nodes() - 1):
            rows = filter_at(conv, graph, torch.randn(56, 2, dtype=torch.float64), node)
            assert rows.shape == (3, 56, 2)
            for out in range(3):
                for into in range(2):
                    expected = matrix(graph, conv.weight[out, into])[node].toarray().ravel()
                    np.testing.assert_allclose(rows[out, :, into], expected, atol=1e-12)


def test_two_layers_are_the_product_of_their_matrices():
    first, second = lattice((8, 8), 3), lattice((6, 6), 3, dilation=2)
    one, two = GridConv(1, 1, 3).double(), GridConv(1, 1, 3).double()
    row = filter_at(lambda _, x: two(second, one(first, x)), first, torch.zeros(64, 1, dtype=torch.float64), 3)
    expected = (matrix(second, two.weight) @ matrix(first, one.weight))[3].toarray()
    np.testing.assert_allclose(row[..., 0], expected, atol=1e-12)
    assert torch.equal(row[0, :, 0] != 0, receptive_field([first, second], 3))


def test_the_filter_of_a_graph_convolution_is_the_row_of_its_normalised_adjacency():
    graph, conv = pixel_graph((5, 5)), GCNConv(2, 3).double()
    adjacency = graph.adj_external(scipy_fmt="csr").toarray()
    scale = adjacency.sum(1) ** -0.5
    expected = np.einsum("u,io->oui", scale[7] * adjacency[7] * scale, conv.weight.detach().numpy())
    np.testing.assert_allclose(filter_at(conv, graph, torch.randn(25, 2).double(), 7), expected, atol=1e-12)


GRAPH = pixel_graph((4, 5))
LAYERS = {
    "gat": GATConv(2, 3, 2),
    "gatv2": GATv2Conv(2, 3, 2),
    "sage": SAGEConv(2, 3),
    "edge-conditioned": ECConv(2, 3, edge_feats=9),
    "predicted edges": PredEdgeConv(2, 3, pos_feats=2),
    "pooling": GridPool("mean"),
}


@pytest.mark.parametrize("name", LAYERS)
def test_it_is_the_slope_of_any_layer(name):
    layer, tap = LAYERS[name].double(), nn.functional.one_hot(GRAPH.edata["tap"], 9).double()
    graph = GRAPH.local_var()
    graph.ndata["pos"] = graph.ndata["pos"].double()

    def call(graph, x):
        return layer(graph, x, tap) if isinstance(layer, ECConv) else layer(graph, x)

    torch.manual_seed(0)
    x, node, step = torch.randn(20, 2).double(), 8, 1e-6
    rows = filter_at(call, graph, x, node)
    with torch.no_grad():
        for source in range(20):
            for into in range(2):
                move = torch.zeros_like(x).index_put_(
                    (torch.tensor(source), torch.tensor(into)), torch.tensor(step).double()
                )
                slope = (call(graph, x + move) - call(graph, x - move))[node].flatten() / (2 * step)
                torch.testing.assert_close(rows[:, source, into], slope, atol=1e-7, rtol=1e-5)
    assert torch.equal(rows.abs().sum((0, 2)) > 0, receptive_field([graph], node))


def test_an_output_that_depends_on_nothing_has_a_filter_of_zeros():
    graph = dgl.graph(([0], [1]), num_nodes=3)
    assert not filter_at(GCNConv(2, 3), graph, torch.randn(3, 2), 2).any()
    assert not filter_at(lambda graph, x: torch.ones(3, 1, requires_grad=True), graph, torch.randn(3, 2), 2).any()


def test_it_leaves_no_gradients_behind():
    conv, x = GCNConv(2, 3), torch.randn(20, 2)
    with torch.no_grad():
        rows = filter_at(conv, GRAPH, x, 3)
    assert not rows.requires_grad
    assert conv.weight.grad is None
    assert not x.requires_grad


# ---------------------------------------------------------------- shifts


def pooling(reduce, graph):
    return lambda images: GridPool(reduce)(graph, to_nodes(images))


@pytest.mark.parametrize("axis", [-1, -2])
@pytest.mark.parametrize("reduce", ["max", "mean"])
def test_global_pooling_is_invariant(reduce, axis):
    images = torch.rand(3, 2, 8, 6, dtype=torch.float64)
    change = shift_invariance(pooling(reduce, adaptive_lattice((8, 6), 1)), images, range(7), axis)
    torch.testing.assert_close(change, torch.zeros(7, dtype=torch.float64), atol=1e-14, rtol=0)


@pytest.mark.parametrize("reduce", ["max", "mean"])
@pytest.mark.parametrize("window", [2, 3, 4])
def test_one_bright_pixel_may_move_within_its_window(window, reduce):
    images = torch.zeros(1, 1, 12, 12)
    images[..., 5, window] = 1.0
    change = shift_invariance(pooling(reduce, lattice((12, 12), window, stride=window)), images, range(window + 1))
    expected = torch.zeros(window + 1)
    expected[-1] = 2**0.5  # it left one window and entered the next
    torch.testing.assert_close(change, expected)


def test_the_identity_changes_as_the_images_do_and_a_full_turn_changes_nothing():
    images = torch.randn(4, 1, 5, 6, dtype=torch.float64)
    change = shift_invariance(lambda images: images, images, [0, 2, 6])
    expected = np.linalg.norm(np.roll(images.numpy(), 2, -1) - images.numpy()) / np.linalg.norm(images.numpy())
    assert change.tolist() == [0.0, pytest.approx(expected), 0.0]


def test_the_mean_of_a_window_changes_less_than_the_pixels():
    """On noise, n by n means that overlap in all but one column change by sqrt(2 / n) on average."""
    torch.manual_seed(0)
    images = torch.randn(50, 1, 24, 24, dtype=torch.float64)
    for window in (2, 4, 8):
        graph = lattice((24, 24), window, stride=window)
        (change,) = shift_invariance(pooling("mean", graph), images, [1]).tolist()
        assert change == pytest.approx((2 / window) ** 0.5, rel=0.05)


def test_nothing_that_stays_nothing_has_not_changed():
    assert shift_invariance(lambda images: 0 * images, torch.ones(1, 1, 3, 3), range(3)).tolist() == [0.0] * 3


# ---------------------------------------------------------------- bad input

LINE = lattice(5, 3)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: receptive_field([], 0), ValueError, "expected at least one, got none"),
        (lambda: receptive_field([LINE, LINE], 0), ValueError, "expected 5 destinations.*got 3"),
        (lambda: receptive_field([LINE], 3), ValueError, "from 0 to 2, got 3"),
        (lambda: receptive_field([LINE], [0, -1]), ValueError, r"from 0 to 2, got \[0, -1\]"),
        (lambda: extent(LINE, torch.zeros(5, dtype=torch.bool)), ValueError, "at least one node, got none"),
        (lambda: extent(dgl.graph(([0], [1])), torch.ones(2).bool()), KeyError, "pos"),
        (lambda: influence(nn.Identity(), torch.zeros(2, 1, 3), 0), ValueError, r"one finite image.*got \(2, 1, 3\)"),
        (lambda: influence(lambda x: x / 0, torch.zeros(1, 1, 3), 0), ValueError, "expected numbers at 0, got NaN"),
        (lambda: filter_at(GCNConv(1, 1), GRAPH, torch.zeros(19, 1), 0), ValueError, r"\(20, F\), got \(19, 1\)"),
        (lambda: filter_at(GCNConv(1, 1), GRAPH, torch.zeros(20, 1), 20), ValueError, "from 0 to 19, got 20"),
    ],
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message):
        call()
