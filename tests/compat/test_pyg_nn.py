"""`gnnlib.compat.pyg_nn`: PyTorch Geometric's layers on gnnlib's kernels equal PyG's."""

import copy
import gc
import re
import weakref

import pytest
import torch
from torch import nn

pyg = pytest.importorskip("torch_geometric.nn")

from torch_geometric.utils import to_torch_coo_tensor, to_torch_csr_tensor  # noqa: E402

import gnnlib  # noqa: E402
from gnnlib.compat import pyg_nn  # noqa: E402
from gnnlib.compat.pyg_nn import models  # noqa: E402
from gnnlib.graph import edge_endpoints  # noqa: E402
from gnnlib.testing.graphs import GRAPHS  # noqa: E402

# Formats and ids of DGL's graphs are not part of an edge_index.
ZOO = {name: make() for name, make in GRAPHS.items() if not name.endswith(("_csc", "_csr", "_int32"))}
HOMOGENEOUS = {name: graph for name, graph in ZOO.items() if graph.is_homogeneous}
FEW = ("random", "bare", "multi_edge", "self_loops", "batch")  # of these, for a layer with other options


@pytest.fixture(autouse=True)
def _small_graphs_too(monkeypatch):
    for layer in models.LAYERS.values():
        monkeypatch.setattr(layer, "min_products", 0)


def edges(graph):
    return torch.stack([end.long() for end in edge_endpoints(graph)])


def mlp(*widths):
    return nn.Sequential(nn.Linear(*widths[:2]), nn.Tanh(), nn.Linear(*widths[1:]))


# Layers on (x, edge_index, weight or features of the edges): the arguments, and the width of the edges.
WEIGHTS, NOTHING = "weights", 0
PNA = {
    "aggregators": ["sum", "mean", "min", "max", "var", "std"],
    "scalers": ["identity", "amplification", "attenuation", "linear", "inverse_linear"],
    "deg": torch.tensor([2, 3, 4, 1]),
}
LAYERS = {
    "gcn": ("GCNConv", (6, 4), {}, WEIGHTS),
    "gcn wider": ("GCNConv", (6, 9), {"improved": True, "bias": False}, WEIGHTS),
    "gcn bare": ("GCNConv", (6, 4), {"normalize": False}, WEIGHTS),
    "gcn without loops": ("GCNConv", (6, 4), {"add_self_loops": False}, WEIGHTS),
    "gcn reversed": ("GCNConv", (6, 4), {"flow": "target_to_source"}, WEIGHTS),
    "gcn mean": ("GCNConv", (6, 4), {"aggr": "mean"}, WEIGHTS),
    "gcn max": ("GCNConv", (6, 4), {"aggr": "max"}, WEIGHTS),
    "sgc": ("SGConv", (6, 4), {"K": 3}, WEIGHTS),
    "appnp": ("APPNP", (), {"K": 3, "alpha": 0.1}, WEIGHTS),
    "appnp dropout": ("APPNP", (), {"K": 3, "alpha": 0.1, "dropout": 0.5}, WEIGHTS),
    "lightgcn": ("LGConv", (), {}, WEIGHTS),
    "tag": ("TAGConv", (6, 4), {}, WEIGHTS),
    "arma": ("ARMAConv", (6, 4), {"num_stacks": 2, "num_layers": 3, "dropout": 0.2}, WEIGHTS),
    "arma shared": ("ARMAConv", (6, 6), {"num_stacks": 2, "num_layers": 3, "shared_weights": True}, WEIGHTS),
    "cheb": ("ChebConv", (6, 4), {"K": 3}, WEIGHTS),
    "cheb rw": ("ChebConv", (6, 4), {"K": 1, "normalization": "rw"}, WEIGHTS),
    "cheb none": ("ChebConv", (6, 4), {"K": 4, "normalization": None}, WEIGHTS),
    "graph": ("GraphConv", (6, 4), {}, WEIGHTS),
    "graph mean": ("GraphConv", (6, 4), {"aggr": "mean", "flow": "target_to_source"}, WEIGHTS),
    "graph max": ("GraphConv", (6, 4), {"aggr": "max"}, WEIGHTS),
    "simple cat": ("SimpleConv", (), {"aggr": "mean", "combine_root": "cat"}, WEIGHTS),
    "simple sum": ("SimpleConv", (), {"combine_root": "sum"}, WEIGHTS),
    "sage": ("SAGEConv", (6, 4), {}, NOTHING),
    "sage max": ("SAGEConv", (6, 4), {"aggr": "max", "project": True, "normalize": True}, NOTHING),
    "sage sum": ("SAGEConv", (6, 4), {"aggr": "sum", "root_weight": False}, NOTHING),
    "gin": ("GINConv", (mlp(6, 5, 4),), {}, NOTHING),
    "gin eps": ("GINConv", (mlp(6, 5, 4),), {"train_eps": True, "eps": 0.3}, NOTHING),
    "gine": ("GINEConv", (mlp(6, 5, 4),), {"edge_dim": 3}, 3),
    "gine wide": ("GINEConv", (mlp(6, 5, 4),), {"train_eps": True}, 6),
    "gat": ("GATConv", (6, 4), {"heads": 3}, NOTHING),
    "gat mean": ("GATConv", (6, 4), {"heads": 3, "concat": False, "residual": True, "dropout": 0.4}, NOTHING),
    "gat edges": ("GATConv", (6, 4), {"heads": 2, "edge_dim": 3}, 3),
    "gat fill": ("GATConv", (6, 4), {"edge_dim": 1, "fill_value": 0.5, "dropout": 0.4}, 1),
    "gat without loops": ("GATConv", (6, 4), {"add_self_loops": False, "negative_slope": 0.01}, NOTHING),
    "gatv2": ("GATv2Conv", (6, 4), {"heads": 3}, NOTHING),
    "gatv2 shared": ("GATv2Conv", (6, 4), {"heads": 3, "share_weights": True, "concat": False}, NOTHING),
    "gatv2 edges": ("GATv2Conv", (6, 4), {"heads": 2, "edge_dim": 3, "dropout": 0.4, "residual": True}, 3),
    "nn": ("NNConv", (6, 4, mlp(3, 5, 24)), {}, 3),
    "nn mean": ("NNConv", (6, 4, nn.Linear(3, 24, bias=False)), {"aggr": "mean", "root_weight": False}, 3),
    "gmm": ("GMMConv", (6, 4), {"dim": 2, "kernel_size": 5}, 2),
    "gmm sum": ("GMMConv", (6, 4), {"dim": 2, "kernel_size": 5, "aggr": "add", "bias": False}, 2),
    "pna": ("PNAConv", (6, 4), {**PNA, "towers": 2, "edge_dim": 3, "pre_layers": 2, "post_layers": 2}, 3),
    "pna divided": ("PNAConv", (6, 4), {**PNA, "towers": 2, "divide_input": True, "train_norm": True}, NOTHING),
    "gated": ("ResGatedGraphConv", (6, 4), {}, NOTHING),
}
# The layers of the same arguments on a pair of features (widths 6 and 5).
PAIRS = {
    name: LAYERS[name]
    for name in ("graph mean", "sage", "sage max", "gat", "gat edges", "gatv2", "gatv2 edges", "nn", "gmm", "gated")
}
PAIRS["graph mean"] = ("GraphConv", (6, 4), {"aggr": "mean"}, WEIGHTS)


def build(case):
    """The layer on the kernels, and PyG's with the same parameters."""
    name, args, options, _ = case
    torch.manual_seed(0)
    layer = getattr(pyg_nn, name)(*copy.deepcopy(args), **options)
    torch.manual_seed(0)
    original = getattr(pyg, name)(*copy.deepcopy(args), **options)
    for a, b in zip(layer.parameters(), original.parameters(), strict=True):
        assert torch.equal(a, b)  # the same initial values
    return layer, original


def edge_values(width, num_edges, generator):
    if width == NOTHING:
        return []
    return [torch.rand(*([num_edges] if width == WEIGHTS else [num_edges, width]), generator=generator) + 0.1]


def results(layer, x, edge_index, values):
    """The output, and gradients of all inputs and parameters."""
    leaves = [t.clone().requires_grad_() for t in (*x, *values)]
    pair, rest = leaves[: len(x)], leaves[len(x) :]
    torch.manual_seed(7)
    y = layer(pair[0] if len(pair) == 1 else tuple(pair), edge_index, *rest)
    inputs = [*leaves, *layer.parameters()]
    seed = torch.sin(torch.arange(y.numel(), dtype=y.dtype)).view_as(y)
    gradients = torch.autograd.grad((y * seed).sum(), inputs, allow_unused=True)
    return [y.detach(), *(torch.zeros_like(t) if g is None else g for t, g in zip(inputs, gradients, strict=True))]


def assert_equal(actual, expected):
    for a, b in zip(actual, expected, strict=True):
        largest = b.abs().nan_to_num(0).max().item() if b.numel() else 0.0
        torch.testing.assert_close(a, b, rtol=0, atol=2e-6 * max(1.0, largest), equal_nan=True)


def served(function, *args):
    """The result of a call that the kernels computed."""
    before = pyg_nn.calls.copy()
    y = function(*args)
    assert [library for _, library in pyg_nn.calls - before] == ["gnnlib"]
    return y


def assert_equal_on(graph, layer, original, widths, edge_width):
    """On a graph, computed and then stored."""
    generator = torch.Generator().manual_seed(1)
    rows = graph.num_src_nodes(), graph.num_dst_nodes()
    x = [torch.randn(num, width, generator=generator) for num, width in zip(rows, widths)]
    edge_index, values = edges(graph), edge_values(edge_width, graph.num_edges(), generator)
    try:
        expected = results(original, x, edge_index, values)
    except RuntimeError as error:  # PyG has no maximum of no edges, and no view of no nodes
        with pytest.raises(RuntimeError, match=re.escape(str(error))):
            layer(x[0], edge_index, *values)
        return
    for _ in range(2):
        assert_equal(served(results, layer, x, edge_index, values), expected)


@pytest.mark.parametrize("kind", LAYERS)
def test_layers(kind):
    layer, original = build(LAYERS[kind])
    for name in FEW if " " in kind else HOMOGENEOUS:
        assert_equal_on(HOMOGENEOUS[name], layer, original, [6], LAYERS[kind][-1])


@pytest.mark.parametrize("kind", PAIRS)
def test_pairs(kind):
    name, args, options, width = PAIRS[kind]
    layer, original = build((name, ((6, 5), *args[1:]), options, width))
    for graph in ZOO.values():
        assert_equal_on(graph, layer, original, [6, 5], width)


@pytest.mark.parametrize("case", LAYERS.values(), ids=LAYERS)
def test_state_dicts_and_text(case):
    layer, original = build(case)
    assert repr(layer) == repr(original)
    for source, target in ((layer, original), (original, layer)):
        with torch.no_grad():
            for t in source.parameters():
                t.uniform_()
        target.load_state_dict(source.state_dict())
        assert all(torch.equal(a, b) for a, b in zip(source.parameters(), target.parameters(), strict=True))
        assert list(source.state_dict()) == list(target.state_dict())


@pytest.mark.parametrize("name", ["random", "multi_edge"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("requires_grad", [False, True])
def test_gcn_counts_weighted_degrees_as_pyg(name, dtype, requires_grad):
    edge_index = edges(ZOO[name])
    x = torch.randn(ZOO[name].num_nodes(), 6, dtype=dtype)
    weight = torch.rand(edge_index.shape[1], dtype=dtype, requires_grad=requires_grad)
    layer, original = build(LAYERS["gcn"])
    layer, original = layer.to(dtype), original.to(dtype)
    for _ in range(2):
        torch.testing.assert_close(served(layer, x, edge_index, weight), original(x, edge_index, weight))
        with torch.no_grad():
            weight.mul_(2).add_(0.1)  # stored values are computed again


SPARSE = ["gcn", "gcn bare", "sgc", "appnp", "lightgcn", "tag", "graph", "sage", "gin", "gat", "gatv2"]


@pytest.mark.parametrize("to_sparse", [to_torch_coo_tensor, to_torch_csr_tensor])
@pytest.mark.parametrize("case", SPARSE)
@pytest.mark.filterwarnings(
    "ignore:Converting sparse tensor", "ignore:Sparse CSR tensor support", "ignore:Sparse invariant checks"
)
def test_transposed_sparse_matrices(case, to_sparse):
    graph = ZOO["clique"]
    weight = torch.rand(graph.num_edges())
    adj_t = to_sparse(edges(graph).flip(0), weight, size=graph.num_nodes())
    x = [torch.randn(graph.num_nodes(), 6)]
    layer, original = build(LAYERS[case])
    assert_equal(served(results, layer, x, adj_t, []), results(original, x, adj_t, []))


def test_attention_weights_are_those_of_pyg():
    edge_index, x = edges(ZOO["random"]), torch.randn(ZOO["random"].num_nodes(), 6)
    for case in ("gat", "gat mean", "gatv2"):
        layer, original = build(LAYERS[case])
        outputs = []
        for module in (layer, original):
            torch.manual_seed(3)
            outputs.append(module(x, edge_index, return_attention_weights=True))
        (y, (index, weights)), (y0, (index0, weights0)) = outputs
        assert torch.equal(index, index0)
        torch.testing.assert_close([y, weights], [y0, weights0])
        torch.manual_seed(3)
        assert torch.equal(layer(x, edge_index), y)


@pytest.mark.slow
def test_what_is_stored_follows_the_edges_and_is_freed():
    edge_index, x = edges(ZOO["clique"]), torch.randn(ZOO["clique"].num_nodes(), 6)
    for case in ("gcn", "tag", "cheb", "gat", "gat edges", "sage"):
        layer, original = build(LAYERS[case])
        values = edge_values(LAYERS[case][-1], edge_index.shape[1], torch.Generator())
        copies = edge_index.clone(), *(value.clone() for value in values)
        served(layer, x, *copies)
        copies[0][0, 0] = 3
        torch.testing.assert_close(served(layer, x, *copies), original(x, *copies))
        references = [weakref.ref(t) for t in copies]
        del copies
        gc.collect()
        assert not any(reference() is not None for reference in references)


def test_cached_layers_keep_their_first_graph():
    first, other = edges(ZOO["clique"]), edges(ZOO["random"])
    x = torch.randn(ZOO["clique"].num_nodes(), 6)
    for name, options in (("GCNConv", {}), ("SGConv", {"K": 2}), ("GCN2Conv", {"alpha": 0.2})):
        args = (6,) if name == "GCN2Conv" else (6, 4)
        layer = getattr(pyg_nn, name)(*args, cached=True, **options)
        inputs = (x, x) if name == "GCN2Conv" else (x,)
        y = layer(*inputs, first)
        torch.testing.assert_close(served(layer, *inputs, other), y)
        layer.reset_parameters()
        assert all(value is None for key, value in vars(layer).items() if key.startswith("_cached"))


@pytest.mark.parametrize("shared_weights", [True, False])
def test_gcn2(shared_weights):
    edge_index, options = edges(ZOO["random"]), {"alpha": 0.2, "theta": 0.5, "layer": 2}
    x, first = torch.randn(2, ZOO["random"].num_nodes(), 6)
    layer = pyg_nn.GCN2Conv(6, shared_weights=shared_weights, **options)
    original = pyg.GCN2Conv(6, shared_weights=shared_weights, **options)
    original.load_state_dict(layer.state_dict())
    torch.testing.assert_close(served(layer, x, first, edge_index), original(x, first, edge_index))


class Halved(pyg_nn.GraphConv):
    def message(self, x_j, edge_weight):
        return x_j / 2


def test_calls_that_are_left_to_pyg():
    graph = ZOO["clique"]
    edge_index, x = edges(graph), torch.randn(graph.num_nodes(), 6)
    layer, original = build(LAYERS["gcn"])
    explained = copy.deepcopy(layer)
    explained.register_message_forward_hook(lambda module, inputs, y: y * 0)
    weights = torch.ones(edge_index.shape[1], dtype=torch.float64)
    sage = pyg_nn.SAGEConv(6, 4, aggr=["mean", "std"])
    cases = {
        "static graph": (layer, x.expand(2, *x.shape)),
        "hook": (explained, x),
        "two types of float": (layer, x, weights),
        "another message": (Halved(6, 4), x),
        "two reductions": (sage, x),
    }
    for case, (module, features, *rest) in cases.items():
        before = pyg_nn.calls.copy()
        y = module(features, edge_index, *rest)
        assert [library for _, library in pyg_nn.calls - before] == ["torch_geometric"], case
        torch.testing.assert_close(y, module._pyg.forward(module, features, edge_index, *rest))
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(x, edge_index).dtype == original(x, edge_index).dtype
    per_sample = torch.func.vmap(lambda x: layer(x, edge_index))(x.expand(2, *x.shape))
    torch.testing.assert_close(per_sample[0], original(x, edge_index))


@pytest.mark.parametrize(
    ("case", "edge_index", "error"),
    [
        ("gcn", torch.tensor([[0, 9], [1, 0]]), (IndexError, RuntimeError)),
        ("sage", torch.tensor([[0, -1], [1, 0]]), IndexError),
        ("sage", torch.tensor([[0.0, 1.0], [1.0, 0.0]]), ValueError),
        ("gin", torch.tensor([[0, 1], [1, 0], [1, 1]]), ValueError),
    ],
)
def test_errors_are_those_of_pyg(case, edge_index, error):
    layer, original = build(LAYERS[case])
    x = torch.randn(3, 6)
    with pytest.raises(error) as expected:
        original(x, edge_index)
    with pytest.raises(error) as actual:
        layer(x, edge_index)
    assert str(actual.value) == str(expected.value)


@pytest.mark.parametrize("name", ["GCN", "GraphSAGE", "GIN", "GAT"])
def test_models(name):
    edge_index, x = edges(ZOO["random"]), torch.randn(ZOO["random"].num_nodes(), 6)
    torch.manual_seed(0)
    model = getattr(pyg_nn, name)(6, 8, num_layers=3, out_channels=4, jk="cat", norm="batch_norm")
    torch.manual_seed(0)
    original = getattr(pyg, name)(6, 8, num_layers=3, out_channels=4, jk="cat", norm="batch_norm")
    assert repr(model) == repr(original)
    expected = original(x, edge_index)
    torch.testing.assert_close(served(model, x, edge_index), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(served(pyg_nn.from_pyg(original).eval(), x, edge_index), model.eval()(x, edge_index))
    with pytest.raises(TypeError, match=r"from_pyg: expected a torch\.nn\.Module, got str"):
        pyg_nn.from_pyg("GCN")


def test_other_names_are_those_of_pyg():
    assert pyg_nn.global_mean_pool is pyg.global_mean_pool
    assert issubclass(pyg_nn.GCNConv, pyg.GCNConv)
    assert set(pyg_nn.__all__) - {"calls", "from_pyg"} <= set(dir(pyg))
    with pytest.raises(AttributeError, match="GCNConf"):
        pyg_nn.GCNConf  # noqa: B018


def test_small_calls_run_the_code_of_pyg(monkeypatch):
    monkeypatch.undo()
    x = torch.randn(100, 6)
    for kind in ("gat", "gcn", "sage"):
        layer, original = build(LAYERS[kind])
        least = -(-layer.min_products // 6)
        for num_edges, library in ((least - 1, "torch_geometric"), (least, "gnnlib")):
            edge_index, before = torch.randint(100, (2, num_edges)), pyg_nn.calls.copy()
            torch.testing.assert_close(layer(x, edge_index), original(x, edge_index), rtol=1e-4, atol=1e-5)
            assert [by for _, by in pyg_nn.calls - before] == [library]


def test_a_stack_says_that_it_calls_layers_with_a_graph():
    for make in (gnnlib.Stack, lambda blocks: gnnlib.GNNLayer(*blocks)):
        with pytest.raises(TypeError, match=r"to be called with a DGL graph, .*, got GCNConv of PyTorch Geometric"):
            make([pyg_nn.GCNConv(8, 4)])


@pytest.mark.slow
def test_torchscript_compiles_pyg_layers():
    edge_index, x = edges(ZOO["clique"]), torch.randn(ZOO["clique"].num_nodes(), 6)
    model = pyg_nn.Sequential("x, edge_index", [(pyg_nn.SAGEConv(6, 4), "x, edge_index -> x"), nn.ReLU()])
    torch.testing.assert_close(torch.jit.script(model[0])(x, edge_index), model[0](x, edge_index))
