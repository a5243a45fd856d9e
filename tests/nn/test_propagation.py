"""Propagation: dgl.nn's, dense matrices, and the limits that the papers derive."""

import pytest
import torch
from torch import nn

from gnnlib import APPNP, DAGNN, GCNConv, GNNLayer, LayerNorm, Stack
from gnnlib._platform.dgl import dgl
from gnnlib.nn.propagation import Hops
from gnnlib.testing.graphs import GRAPHS, HOMOGENEOUS, endpoints, path, random_graph, symmetric_graph


def averaging(graph, weight=None):
    """D^-1/2 A D^-1/2, dense; a degree of 0 counts as 1, or, where it is a sum of weights, as infinite."""
    src, dst = endpoints(graph)
    n = graph.num_nodes()
    value = torch.ones(len(src), dtype=torch.float64) if weight is None else weight.double()
    dense = torch.zeros(n, n, dtype=torch.float64).index_put((dst, src), value, accumulate=True)
    factor_dst, factor_src = (dense.sum(axis) for axis in (1, 0))
    floor = 1.0 if weight is None else float("inf")
    factor_dst, factor_src = (d.where(d > 0, floor) ** -0.5 for d in (factor_dst, factor_src))
    return factor_dst[:, None] * dense * factor_src


def weights(graph, dtype=torch.float64):
    return torch.rand(graph.num_edges(), dtype=dtype) + 0.1


# ---------------------------------------------------------------- hops


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", HOMOGENEOUS)
def test_hops_are_powers_of_the_matrix(name, weighted):
    graph = GRAPHS[name]()
    edge = weights(graph) if weighted else None
    x = torch.randn(graph.num_nodes(), 2, 4, dtype=torch.float64)
    dense = averaging(graph, edge)
    expected = [torch.einsum("uv,v...->u...", torch.linalg.matrix_power(dense, i), x) for i in range(4)]
    torch.testing.assert_close(Hops(3)(graph, x, edge), torch.stack(expected, -2))


@pytest.mark.parametrize("weighted", [False, True])
def test_degrees_of_in_edges_at_both_ends(weighted):
    """As PyTorch Geometric's on directed graphs: the sources' factors are those of the destinations."""
    graph, x = random_graph(), torch.randn(11, 2, 4, dtype=torch.float64)
    edge = weights(graph) if weighted else None
    src, dst = endpoints(graph)
    value = edge if weighted else torch.ones(23, dtype=torch.float64)
    dense = torch.zeros(11, 11, dtype=torch.float64).index_put((dst, src), value, accumulate=True)
    degree = dense.sum(1)
    factor = degree.where(degree > 0, float("inf") if weighted else 1.0) ** -0.5
    expected = torch.einsum("vu,u...->v...", factor[:, None] * dense * factor, x)
    torch.testing.assert_close(APPNP(1, alpha=0.0, degrees="in")(graph, x, edge), expected)


def test_weights_may_be_a_column():
    graph, x = random_graph(), torch.randn(11, 2, 4, dtype=torch.float64)
    edge = weights(graph)
    for module in (Hops(2), APPNP(3), DAGNN(4, 2).double()):
        assert torch.equal(module(graph, x, edge[:, None]), module(graph, x, edge))


# ---------------------------------------------------------------- APPNP


@pytest.mark.parametrize(
    ("weighted", "dtype", "tolerance"),  # without weights, dgl multiplies by ones in single precision
    [(False, torch.float32, 1e-5), (True, torch.float32, 1e-5), (True, torch.float64, 1e-12)],
)
def test_appnp_is_dgls(weighted, dtype, tolerance):
    graph = symmetric_graph()
    edge = weights(graph, dtype) if weighted else None
    x = torch.randn(11, 4, dtype=dtype, requires_grad=True)
    actual = APPNP(k=7, alpha=0.2)(graph, x, edge)
    expected = dgl.nn.APPNPConv(k=7, alpha=0.2)(graph, x, edge)
    torch.testing.assert_close(actual, expected, rtol=0, atol=tolerance)
    loss = torch.randn_like(actual)
    torch.testing.assert_close(*(torch.autograd.grad(y, x, loss)[0] for y in (actual, expected)), rtol=0, atol=1e-5)


@pytest.mark.parametrize("weighted", [False, True])
def test_appnp_drops_coefficients_as_dgl_does(weighted):
    graph, x = symmetric_graph(), torch.randn(11, 4)
    edge = weights(graph, torch.float32) if weighted else None
    torch.manual_seed(3)
    actual = APPNP(k=3, drop=nn.Dropout(0.5))(graph, x, edge)
    torch.manual_seed(3)
    expected = dgl.nn.APPNPConv(k=3, alpha=0.1, edge_drop=0.5)(graph, x, edge)
    torch.testing.assert_close(actual, expected)
    quiet = APPNP(k=3, drop=nn.Dropout(0.5)).eval()
    torch.testing.assert_close(quiet(graph, x, edge), APPNP(k=3)(graph, x, edge))


@pytest.mark.parametrize("alpha", [0.1, 0.5])
@pytest.mark.parametrize("weighted", [False, True])
def test_appnp_converges_to_personalised_pagerank(alpha, weighted):
    """Equations 2 and 3: alpha (1 - (1 - alpha) P)^-1 X, at the rate 1 - alpha."""
    graph, x = symmetric_graph(), torch.randn(11, 4, dtype=torch.float64)
    edge = None
    if weighted:  # a symmetric matrix, as the bound asks
        src, dst = endpoints(graph)
        edge = 0.1 + (torch.minimum(src, dst) * 7 + torch.maximum(src, dst) * 3).double().sin().abs()
    limit = alpha * torch.linalg.solve(torch.eye(11).double() - (1 - alpha) * averaging(graph, edge), x)
    first = (x - limit).norm()
    for k in (0, 1, 5, 20, 200):
        apart = (APPNP(k=k, alpha=alpha)(graph, x, edge) - limit).norm()
        assert apart <= (1 - alpha) ** k * first + 1e-12


def test_appnp_keeps_a_share_at_any_depth_unlike_averaging():
    graph = dgl.add_self_loop(dgl.to_bidirected(path(6)))
    x = torch.randn(6, 4, dtype=torch.float64)
    plain = APPNP(k=500, alpha=0.0)(graph, x) / graph.in_degrees()[:, None].sqrt()
    assert plain.var(0).max() < 1e-16  # a multiple of the root of the degree
    restarted = APPNP(k=500, alpha=0.1)(graph, x) / graph.in_degrees()[:, None].sqrt()
    assert restarted.var(0).min() > 1e-4


# ---------------------------------------------------------------- DAGNN


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("k", [0, 1, 6])
def test_dagnn_is_its_formula_with_powers_of_the_matrix(k, weighted):
    graph = random_graph()
    edge = weights(graph) if weighted else None
    x = torch.randn(11, 4, dtype=torch.float64, requires_grad=True)
    model = DAGNN(4, k=k).double()
    hops = torch.stack([torch.linalg.matrix_power(averaging(graph, edge), i) @ x for i in range(k + 1)], 1)
    expected = (torch.sigmoid(hops @ model.score.weight.T).transpose(1, 2) @ hops).squeeze(1)
    actual = model(graph, x, edge)
    torch.testing.assert_close(actual, expected)
    loss, leaves = torch.randn_like(actual), [x, model.score.weight]
    for a, b in zip(torch.autograd.grad(actual, leaves, loss), torch.autograd.grad(expected, leaves, loss)):
        torch.testing.assert_close(a, b)


# ---------------------------------------------------------------- both

BOTH = {
    "appnp": lambda: APPNP(k=4, alpha=0.2),
    "dropping": lambda: APPNP(k=4, drop=nn.Dropout(0.3)).eval(),
    "dagnn": lambda: DAGNN(3, 4),
}
all_layers = pytest.mark.parametrize("make", BOTH.values(), ids=BOTH)


@all_layers
@pytest.mark.parametrize("name", HOMOGENEOUS)
def test_every_whole_graph_and_signal(make, name):
    graph, model = GRAPHS[name](), make().double()
    x = torch.randn(graph.num_nodes(), 2, 3, dtype=torch.float64)
    for edge in (None, weights(graph)):
        y = model(graph, x, edge)
        assert y.shape == x.shape
        assert bool(y.isfinite().all())
        for signal in range(2):
            torch.testing.assert_close(y[:, signal], model(graph, x[:, signal], edge))


@all_layers
def test_batch_equals_one_by_one(make):
    model, parts = make().double(), [random_graph(6, 9), dgl.graph(([], [])), path(4)]
    xs = [torch.randn(part.num_nodes(), 3, dtype=torch.float64) for part in parts]
    alone = torch.cat([model(part, x) for part, x in zip(parts, xs)])
    torch.testing.assert_close(model(dgl.batch(parts), torch.cat(xs)), alone)


def test_a_node_without_neighbours():
    x = torch.randn(4, 3)
    graph = GRAPHS["bare"]()
    torch.testing.assert_close(APPNP(k=3, alpha=0.25)(graph, x), 0.25 * x)
    model = DAGNN(3, k=3)
    torch.testing.assert_close(model(graph, x), model.score(x).sigmoid() * x)


@all_layers
def test_differentiable_twice(make):
    graph, model = random_graph(), make().double()
    x, edge = torch.randn(11, 3, dtype=torch.float64, requires_grad=True), weights(graph).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, edge: model(graph, x, edge), (x, edge))
    assert torch.autograd.gradgradcheck(lambda x, edge: model(graph, x, edge), (x, edge), fast_mode=True)


@all_layers
def test_after_any_network_and_any_layer(make):
    """As a block behind a network of features or behind layers, where weights reach it; or as a readout."""
    graph, x = symmetric_graph(), torch.randn(11, 5)
    network = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3))
    hops = make()
    torch.testing.assert_close(Stack([GNNLayer(hops)], encoder=network)(graph, x), hops(graph, network(x)))
    edge, conv = weights(graph, torch.float32), GCNConv(5, 3)
    torch.testing.assert_close(Stack([GNNLayer(conv)], readout=hops)(graph, x), hops(graph, conv(graph, x)))
    behind = Stack([GNNLayer(conv), GNNLayer(hops, norm=LayerNorm(3))])(graph, x, edge)
    expected = nn.functional.layer_norm(hops(graph, conv(graph, x, edge), edge), (3,))
    torch.testing.assert_close(behind, expected)


@all_layers
def test_blocks_and_other_input_are_refused(make):
    model = make()
    with pytest.raises(ValueError, match="expected a graph with one node set, got"):
        model(GRAPHS["block"](), torch.ones(7, 3))
    with pytest.raises(ValueError, match="expected 11 rows"):
        model(random_graph(), torch.ones(10, 3))
    with pytest.raises(ValueError, match="expected 23 rows"):
        model(random_graph(), torch.ones(11, 3), torch.ones(22))


def test_numbers_of_hops_are_refused():
    for make in (lambda k: APPNP(k=k), lambda k: DAGNN(3, k=k), Hops):
        with pytest.raises(ValueError, match="k >= 0, got -1"):
            make(-1)
