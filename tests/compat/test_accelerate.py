"""`accelerate`: DGL's message passing on gnnlib's kernels equals DGL's, or stays DGL's."""

import os

import dgl
import dgl.nn as dgl_nn
import pytest
import torch

import gnnlib
from gnnlib.compat import _accelerate, accelerate
from gnnlib.testing.graphs import GRAPHS

ZOO = {name: make() for name, make in GRAPHS.items()}
# DGL has no gradients of products for a graph in the format "csc" or "csr" alone.
ZOO = {name: graph for name, graph in ZOO.items() if any("coo" in formats for formats in graph.formats().values())}
HOMOGENEOUS = {name: graph for name, graph in ZOO.items() if graph.is_homogeneous}


@pytest.fixture
def no_thresholds(monkeypatch):
    """Small graphs are routed too."""
    for name in ("MIN_PRODUCTS", "MIN_NARROW_PRODUCTS", "MIN_SCORES", "MIN_SEGMENT_WIDTH", "MIN_SEGMENT_NUMBERS"):
        monkeypatch.setattr(_accelerate, name, 0)


def _outputs_and_gradients(function, *inputs, parameters=()):
    leaves = [t.detach().requires_grad_() for t in inputs]
    y = function(*leaves)
    torch.manual_seed(5)
    return y.detach(), *torch.autograd.grad((y * torch.randn_like(y)).sum(), [*leaves, *parameters])


def _assert_equal(function, *inputs, parameters=()):
    """Values and gradients with and without; returns the calls."""
    expected = _outputs_and_gradients(function, *inputs, parameters=parameters)
    with accelerate() as acceleration:
        actual = _outputs_and_gradients(function, *inputs, parameters=parameters)
    for a, b in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=2e-6, atol=2e-6)
    return acceleration.calls


SHAPES = [((3,), (1,)), ((4, 3), (4, 1)), ((1, 3), (4, 1)), ((4, 3), (1, 1)), ((2, 4, 3), (2, 4, 1)), ((4, 1), (4, 1))]
PER_FEATURE = [((3,), (3,)), ((4, 1), (4, 3)), ((), ())]


@pytest.mark.parametrize("graph", ZOO.values(), ids=ZOO)
@pytest.mark.parametrize(("node", "edge"), SHAPES)
def test_weighted_sums(no_thresholds, graph, node, edge):
    x, e = torch.randn(graph.num_src_nodes(), *node), torch.randn(graph.num_edges(), *edge)
    calls = _assert_equal(lambda x, e: dgl.ops.u_mul_e_sum(graph, x, e), x, e)
    assert calls == {("u_mul_e_sum", "gnnlib"): 1}
    calls = _assert_equal(lambda x, e: dgl.ops.u_mul_e_mean(graph, x, e), x, e)
    assert calls == {("u_mul_e_sum", "gnnlib"): 1}


@pytest.mark.parametrize("graph", ZOO.values(), ids=ZOO)
@pytest.mark.parametrize("reverse", [False, True])
def test_dot_products_and_softmax(no_thresholds, graph, reverse):
    num_src, num_dst, num_edges = graph.num_src_nodes(), graph.num_dst_nodes(), graph.num_edges()
    x, y, score = torch.randn(num_src, 4, 3), torch.randn(num_dst, 4, 3), torch.randn(num_edges, 4, 1)
    dot = (lambda x, y: dgl.ops.v_dot_u(graph, y, x)) if reverse else (lambda x, y: dgl.ops.u_dot_v(graph, x, y))
    assert _assert_equal(dot, x, y).keys() == {("v_dot_u" if reverse else "u_dot_v", "gnnlib")}
    norm_by = "src" if reverse else "dst"
    softmax = _assert_equal(lambda score: dgl.ops.edge_softmax(graph, score, norm_by=norm_by), score)
    assert softmax == {("edge_softmax", "gnnlib"): 1}


@pytest.mark.parametrize("reduce", ["sum", "mean", "max"])
def test_segments(no_thresholds, reduce):
    sizes = torch.tensor([2, 0, 3, 1, 0])
    calls = _assert_equal(lambda x: dgl.ops.segment_reduce(sizes, x, reduce), torch.randn(6, 3))
    assert sum(calls.values()) == 1
    assert {library for _, library in calls} == {"gnnlib"}


@pytest.mark.parametrize("reduce", ["sum", "mean", "max", "min"])
@pytest.mark.parametrize("op", ["add", "sub", "mul", "div"])
def test_every_operation_of_dgl(no_thresholds, op, reduce):
    """Also those that stay with DGL, for all shapes that DGL broadcasts."""
    graph = GRAPHS["random"]()
    for node, edge in SHAPES + PER_FEATURE:
        x, e = torch.rand(graph.num_nodes(), *node) + 0.5, torch.rand(graph.num_edges(), *edge) + 0.5
        _assert_equal(lambda x, e: getattr(dgl.ops, f"u_{op}_e_{reduce}")(graph, x, e), x, e)
        _assert_equal(lambda x: getattr(dgl.ops, f"copy_u_{reduce}")(graph, x), x)
        _assert_equal(lambda e: getattr(dgl.ops, f"copy_e_{reduce}")(graph, e), e)


LAYERS = {
    "GraphConv": lambda: dgl_nn.GraphConv(6, 5, allow_zero_in_degree=True),
    "GATConv": lambda: dgl_nn.GATConv(6, 5, 4, allow_zero_in_degree=True),
    "GATv2Conv": lambda: dgl_nn.GATv2Conv(6, 5, 4, allow_zero_in_degree=True),
    "AGNNConv": lambda: dgl_nn.AGNNConv(allow_zero_in_degree=True),
    "DotGatConv": lambda: dgl_nn.DotGatConv(6, 5, 4, allow_zero_in_degree=True),
    "SAGEConv": lambda: dgl_nn.SAGEConv(6, 5, "pool"),
    "GINConv": lambda: dgl_nn.GINConv(torch.nn.Linear(6, 5), "max"),
    "TAGConv": lambda: dgl_nn.TAGConv(6, 5),
    "APPNPConv": lambda: dgl_nn.APPNPConv(3, 0.1),
}


@pytest.mark.parametrize("graph", HOMOGENEOUS.values(), ids=HOMOGENEOUS)
@pytest.mark.parametrize("name", LAYERS)
def test_layers_of_dgl(no_thresholds, name, graph):
    torch.manual_seed(1)
    layer = LAYERS[name]()
    _assert_equal(lambda x: layer(graph, x), torch.randn(graph.num_nodes(), 6), parameters=list(layer.parameters()))


@pytest.mark.parametrize("etype", ["follows", "likes"])
def test_several_types_and_edited_graphs(no_thresholds, etype):
    edges = {("user", "follows", "user"): ([0, 1, 2], [1, 2, 0]), ("user", "likes", "item"): ([0, 2, 2], [1, 0, 1])}
    graph = dgl.heterograph(edges)
    conv = dgl_nn.HeteroGraphConv({name: dgl_nn.GATConv(4, 3, 2, allow_zero_in_degree=True) for _, name, _ in edges})
    target = {"follows": "user", "likes": "item"}[etype]

    def run(users, items):
        return conv(graph, {"user": users, "item": items})[target]

    inputs = torch.randn(3, 4), torch.randn(2, 4)
    _assert_equal(lambda users: run(users, inputs[1]), inputs[0])
    graph.add_edges([1, 0], [0, 0], etype=etype)
    calls = _assert_equal(lambda users: run(users, inputs[1]), inputs[0])
    assert calls["u_mul_e_sum", "gnnlib"] == 2


def test_the_adjacency_of_a_relation_is_built_once(no_thresholds, monkeypatch):
    graph = dgl.heterograph({("a", "x", "a"): ([0], [1]), ("a", "y", "a"): ([1], [0])})
    built = []
    original = gnnlib.Adjacency.from_edges
    monkeypatch.setattr(gnnlib.Adjacency, "from_edges", staticmethod(lambda *args: built.append(0) or original(*args)))
    with accelerate():
        for _ in range(3):
            dgl.ops.u_mul_e_sum(graph["x"], torch.rand(2, 3), torch.rand(1, 1))
    assert len(built) == 1


def test_small_graphs_stay_with_dgl():
    graph = GRAPHS["random"]()
    x, e = torch.rand(graph.num_nodes(), 3), torch.rand(graph.num_edges(), 1)
    with accelerate() as acceleration:
        dgl.ops.u_mul_e_sum(graph, x, e)
    assert acceleration.calls == {("u_mul_e_sum", "DGL"): 1}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_stays_with_dgl(no_thresholds, dtype):
    graph = GRAPHS["random"]()
    x, e = torch.rand(graph.num_nodes(), 3).to(dtype), torch.rand(graph.num_edges(), 1).to(dtype)

    def run():
        try:
            return dgl.ops.u_mul_e_sum(graph, x, e)
        except dgl.DGLError as error:
            return str(error).splitlines()[0].split("] ")[-1]

    expected = run()
    with accelerate() as acceleration:
        actual = run()
    assert actual == expected if isinstance(expected, str) else torch.equal(actual, expected)
    assert acceleration.calls["u_mul_e_sum", "gnnlib"] == 0


def test_autocast_stays_with_dgl(no_thresholds):
    graph, score = GRAPHS["random"](), torch.rand(GRAPHS["random"]().num_edges(), 2)
    with accelerate() as acceleration, torch.autocast("cpu", torch.bfloat16):
        dgl.ops.edge_softmax(graph, score)
    assert acceleration.calls == {("edge_softmax", "DGL"): 1}


def _replaced():
    names = [(route[0], route[1]) for route in _accelerate._ROUTES]
    functions = [getattr(__import__("importlib").import_module(module), name) for module, name in names]
    index = dgl.heterograph_index.HeteroGraphIndex
    return [*functions, index.get_relation_graph, dgl.DGLGraph._set_n_repr, dgl.DGLGraph._set_e_repr]


def test_off_again_without_a_trace():
    before = _replaced()
    with accelerate():
        assert not set(before) & set(_replaced())
    assert _replaced() == before
    with pytest.raises(ZeroDivisionError), accelerate():
        1 / 0  # noqa: B018
    assert _replaced() == before


def test_twice_and_nested():
    before = _replaced()
    outer, inner = accelerate(), accelerate()
    outer.stop()
    outer.stop()
    assert _replaced() != before
    inner.stop()
    assert _replaced() == before
    with outer, outer:
        assert _replaced() != before
    assert _replaced() == before


def test_verbose_names_each_operation_once(capsys, no_thresholds):
    graph = GRAPHS["random"]()
    x, e = torch.rand(graph.num_nodes(), 3), torch.rand(graph.num_edges(), 1)
    with accelerate(verbose=True) as acceleration:
        for _ in range(2):
            dgl.ops.u_mul_e_sum(graph, x, e)
            dgl.ops.copy_u_sum(graph, x)
    num_nodes, num_edges = len(x), len(e)
    assert capsys.readouterr().err.splitlines() == [
        f"gnnlib.accelerate: u_mul_e_sum of ({num_nodes}, 3), ({num_edges}, 1) by gnnlib",
        f"gnnlib.accelerate: copy_u_sum of ({num_nodes}, 3) by DGL",
    ]
    assert "u_mul_e_sum: 2 by gnnlib" in repr(acceleration)


def test_features_on_another_device_than_the_graph():
    """The device "meta" computes shapes alone and stands for a GPU."""
    graph = GRAPHS["random"]()
    x = torch.empty(graph.num_nodes(), 3, device="meta")
    with pytest.raises(dgl.DGLError, match="device"):
        graph.ndata["x"] = x
    with accelerate():
        graph.ndata["x"] = x
        graph.edata["w"] = torch.empty(graph.num_edges(), 1, device="meta")
        with pytest.raises(dgl.DGLError, match="number of"):
            graph.ndata["y"] = x[:2]
        assert graph.ndata["x"].device.type == "meta"
        assert dgl.ops.u_mul_e_sum(graph, graph.ndata["x"], graph.edata["w"]).shape == x.shape
        assert dgl.ops.copy_u_sum(graph, graph.ndata["x"]).shape == x.shape


@pytest.mark.process
@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system does not fork")
def test_in_a_forked_worker(no_thresholds):
    graph = GRAPHS["random"]()
    x, e = torch.rand(graph.num_nodes(), 3), torch.rand(graph.num_edges(), 1)
    expected = dgl.ops.u_mul_e_sum(graph, x, e)

    class Sums(torch.utils.data.Dataset):
        def __len__(self):
            return 2

        def __getitem__(self, i):
            return dgl.ops.u_mul_e_sum(graph, x, e)

    with accelerate():
        for y in torch.utils.data.DataLoader(Sums(), batch_size=None, num_workers=2, multiprocessing_context="fork"):
            torch.testing.assert_close(y, expected)


def test_another_version_of_dgl_is_refused_and_left_alone(monkeypatch):
    before = _replaced()
    monkeypatch.setattr(_accelerate, "_ROUTES", [*_accelerate._ROUTES, ("dgl.ops.spmm", "gone", None, None)])
    with pytest.raises(
        ImportError, match=r"accelerate: expected a DGL from 1\.1\.3 to 2\.x, got .* without \['dgl.ops.spmm.gone'\]"
    ):
        accelerate()
    monkeypatch.undo()
    assert _replaced() == before
    accelerate().stop()
    assert _replaced() == before
