"""`gnnlib.compat.dgl_nn`: values, gradients, state dicts, masks and errors are those of the installed ``dgl.nn``."""

import inspect
import io
import pickle
import warnings
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from typing import Any

import dgl
import dgl.nn as theirs
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import gnnlib
import gnnlib.compat.dgl_nn as ours
from gnnlib.testing.case import difference, has_dst_features
from gnnlib.testing.checks import counted_kernels
from gnnlib.testing.graphs import GRAPHS, HOMOGENEOUS, bipartite, clique, path, random_graph, sampled_blocks

TOLERANCE = {torch.float32: 2e-6, torch.float64: 1e-12}


@dataclass(frozen=True)
class Case:
    """A layer that both packages make from the same arguments.

    ``edge`` maps names of arguments of forward to the shapes behind the number of edges; ``pair`` is the widths of both
    ends; ``call`` has further arguments.
    """

    name: str
    make: Callable[[Any], nn.Module]
    pair: tuple[int, int] = (5, 5)
    edge: tuple[tuple[str, tuple[int, ...]], ...] = ()
    homogeneous: bool = False
    call: Callable[[Any], dict[str, Any]] = lambda graph: {}
    dtypes: tuple[torch.dtype, ...] = (torch.float32, torch.float64)

    def __str__(self) -> str:
        return self.name


def case(
    kind, *args, name="", pair=(5, 5), homogeneous=False, call=lambda graph: {}, dtypes=None, edge=None, **options
):
    if "allow_zero_in_degree" in inspect.signature(getattr(theirs, kind).__init__).parameters:
        options["allow_zero_in_degree"] = True
    dtypes = dtypes or tuple(TOLERANCE)
    edge = tuple((edge or {}).items())

    def make(package):
        built = [value() if isinstance(value, partial) else value for value in args]
        return getattr(package, kind)(*built, **options)

    return Case(f"{kind}{name and f'-{name}'}", make, pair, edge, homogeneous, call, dtypes)


WEIGHT, COLUMN, WIDE = {"edge_weight": ()}, {"edge_weight": (1,)}, {"edge_weight": (5,)}
DOUBLE = (torch.float64,)  # of layers with batch norms, which divide rounding errors by small deviations
ATTENTION = dict(call=lambda graph: {"get_attention": True})


def network(out):
    """The last layer of a network of edges, which shows no matrix of each edge, and one that is not linear."""
    return nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, out))


def narrowing():
    return nn.Sequential(nn.Linear(5, 3), nn.ReLU())


class Opaque(nn.Module):
    def __init__(self, out):
        super().__init__()
        self.network = network(out)

    def forward(self, x):
        return self.network(x).tanh()


CASES = [
    *(case("GraphConv", 5, 3, name=norm, norm=norm) for norm in ("both", "left", "right", "none")),
    case("GraphConv", 3, 5, name="widening", pair=(3, 7), activation=F.elu, bias=False),
    case("GraphConv", 5, 5, name="weights", edge=WEIGHT, norm="left"),
    case("GraphConv", 5, 3, name="column", edge=COLUMN),
    case("GraphConv", 5, 6, name="wide-weights", edge=WIDE, norm="both"),
    case("GraphConv", 5, 3, name="given", weight=False, call=lambda graph: {"weight": torch.ones(5, 3) / 2}),
    case("GraphConv", 5, 5, name="no-matrix", weight=False),
    case("GATConv", 5, 3, 4),
    case("GATConv", 5, 3, 4, name="residual", residual=True, activation=F.elu),
    case("GATConv", 6, 3, 2, name="identity", pair=(6, 6), residual=True, bias=False),
    case("GATConv", 5, 3, 4, name="attention", edge=WEIGHT, negative_slope=0.5, **ATTENTION),
    case("GATConv", 5, 3, 4, name="weights", edge=WEIGHT),
    case("GATv2Conv", 5, 3, 4, activation=F.elu),
    case("GATv2Conv", 5, 3, 4, name="shared", share_weights=True, residual=True, **ATTENTION),
    case("GATv2Conv", 6, 3, 2, name="identity", pair=(6, 6), residual=True, bias=False),
    case("DotGatConv", 5, 3, 4, **ATTENTION),
    case("AGNNConv"),
    *(case("SAGEConv", 5, out, kind, name=f"{kind}-{out}") for kind in ("mean", "pool", "gcn") for out in (3, 6)),
    case("SAGEConv", 5, 3, "mean", name="weights", edge=WEIGHT, activation=F.elu, norm=F.normalize),
    case("SAGEConv", 5, 3, "pool", name="pool-column", edge=COLUMN, bias=False),
    case("SAGEConv", 5, 6, "gcn", name="gcn-wide-weights", edge=WIDE, bias=False),
    case("SAGEConv", 5, 3, "lstm", name="lstm"),
    case("SAGEConv", 5, 6, "lstm", name="lstm-column", edge=COLUMN),
    *(case("GINConv", partial(nn.Linear, 5, 3), kind, name=kind) for kind in ("sum", "mean", "max")),
    case("GINConv", partial(narrowing), name="weights", edge=WEIGHT, learn_eps=True),
    case("GINConv", None, "sum", 0.5, name="bare", edge=WIDE, activation=F.elu),
    case("GINEConv", partial(nn.Linear, 5, 3), 0.5, True, edge={"edge_feat": (5,)}),
    case("GINEConv", name="bare", edge={"edge_feat": (5,)}),
    *(
        case(
            "NNConv", 5, 3, partial(kind, 15), reduce, name=f"{name}-{reduce}", edge={"efeat": (2,)}, residual=residual
        )
        for name, kind in (("linear", network), ("opaque", Opaque))
        for reduce, residual in (("sum", True), ("mean", False), ("max", False))
    ),
    *(
        case("GMMConv", 5, out, 2, 4, reduce, name=f"{reduce}-{out}", edge={"pseudo": (2,)}, residual=True)
        for reduce, out in (("sum", 3), ("mean", 5), ("max", 3))
    ),
    case("SGConv", 5, 3, 2, homogeneous=True),
    case("SGConv", 5, 3, 3, name="weights", homogeneous=True, bias=False, norm=F.normalize),
    # Without weights, DGL multiplies by ones in single precision.
    case("APPNPConv", 3, 0.1, homogeneous=True, dtypes=(torch.float32,)),
    case("TAGConv", 5, 3, 2, homogeneous=True, activation=F.elu),
    case("GCN2Conv", 5, 2, name="one-matrix", homogeneous=True, call=lambda graph: {"feat_0": initial(graph)}),
    case(
        *("GCN2Conv", 5, 2, 0.3, 0.7, False),
        name="two-matrices",
        homogeneous=True,
        call=lambda graph: {"feat_0": initial(graph)},
        bias=False,
        activation=F.elu,
    ),
    *(case("ChebConv", 5, 3, k, name=f"{k}", homogeneous=True, call=lambda g: lambdas(g, list)) for k in (1, 2, 4)),
    case("ChebConv", 5, 3, 3, None, name="linear", homogeneous=True, call=lambda g: lambdas(g, torch.tensor)),
    case(
        "PNAConv",
        6,
        4,
        ["mean", "max", "sum"],
        ["identity"],
        2.5,
        pair=(6, 6),
        homogeneous=True,
        num_towers=2,
        dtypes=DOUBLE,
    ),
    case(
        *("PNAConv", 6, 6, ["min", "mean"], ["amplification", "attenuation"], 1.5),
        name="edges",
        pair=(6, 6),
        homogeneous=True,
        edge={"edge_feat": (2,)},
        edge_feat_size=2,
        dtypes=DOUBLE,
    ),
]
RELATIONS = dict(call=lambda graph: {"etypes": torch.arange(graph.num_edges()) % 3}, homogeneous=True)
CASES += [
    case("RelGraphConv", 5, 3, 3, name="sum", **RELATIONS),
    case("RelGraphConv", 5, 3, 4, "basis", 2, name="basis", edge={"norm": (1,)}, activation=F.elu, **RELATIONS),
    case("RelGraphConv", 6, 4, 4, "bdd", 2, name="bdd", pair=(6, 6), edge={"norm": (1,)}, bias=False, **RELATIONS),
    case("RelGraphConv", 5, 3, 3, name="norm", self_loop=False, layer_norm=True, dtypes=DOUBLE, **RELATIONS),
]
if hasattr(theirs, "GatedGCNConv"):  # from DGL 2.0 on
    CASES += [
        case("GatedGCNConv", 5, 2, 3, name="no-norm", homogeneous=True, edge={"edge_feat": (2,)}, batch_norm=False),
        case("GatedGCNConv", 5, 5, 5, name="residual", homogeneous=True, edge={"edge_feat": (5,)}, dtypes=DOUBLE),
    ]


def initial(graph):
    return torch.linspace(0, 1, 5 * graph.num_nodes()).view(-1, 5)


def lambdas(graph, kind):
    return {"lambda_max": kind([1.5 + 0.25 * i for i in range(graph.batch_size)])}


def rand(*shape, dtype):
    return torch.randn(*shape, dtype=torch.float64).to(dtype)


def arguments(case: Case, graph: dgl.DGLGraph, dtype: torch.dtype, pair: bool = False) -> tuple[Any, dict[str, Any]]:
    """Features, one tensor for the zoo's whole graphs and blocks where not ``pair``, and the arguments by name."""
    torch.manual_seed(2)
    src = rand(graph.num_src_nodes(), case.pair[0], dtype=dtype)
    dst = rand(graph.num_dst_nodes(), case.pair[1], dtype=dtype)
    x = (src, dst) if pair or not has_dst_features(graph) else src
    edge = {name: rand(graph.num_edges(), *shape, dtype=dtype).abs() + 0.1 for name, shape in case.edge}
    further = {k: v.to(dtype) if is_number(v) else v for k, v in case.call(graph).items()}
    return x, {**edge, **further}


def is_number(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()


def both(case: Case, dtype: torch.dtype) -> tuple[nn.Module, nn.Module]:
    """Our layer and DGL's, of the same weights, none of them 0."""
    torch.manual_seed(1)
    layer = case.make(ours).to(dtype)
    with torch.no_grad():
        for p in layer.parameters():
            if p.dim() == 1:
                p.normal_()
    other = case.make(theirs).to(dtype)
    other.load_state_dict(layer.state_dict())
    return layer, other


def results(layer: nn.Module, graph: dgl.DGLGraph, x: Any, options: dict[str, Any]) -> dict[str, Tensor]:
    """Outputs, and the gradients of the features, of values of edges and of parameters."""
    parts = [part.detach().requires_grad_() for part in (x if isinstance(x, tuple) else (x,))]
    options = {
        name: value.detach().requires_grad_() if is_number(value) and name != "lambda_max" else value
        for name, value in options.items()
    }
    y = layer(graph, tuple(parts) if isinstance(x, tuple) else parts[0], **options)
    outputs = y if isinstance(y, tuple) else (y,)
    torch.manual_seed(3)
    loss = sum((out * rand(*out.shape, dtype=out.dtype)).sum() for out in outputs)
    named = {f"x{i}": part for i, part in enumerate(parts)}
    named |= {name: v for name, v in options.items() if isinstance(v, Tensor) and v.requires_grad}
    named |= dict(layer.named_parameters())
    grads = torch.autograd.grad(loss, list(named.values()), allow_unused=True, materialize_grads=True)
    return {f"y{i}": out.detach() for i, out in enumerate(outputs)} | {f"d {n}": g for n, g in zip(named, grads)}


def assert_equal(actual: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float) -> None:
    assert actual.keys() == expected.keys()
    apart = {name: difference(actual[name], expected[name]) for name in actual}
    wrong = {name: value for name, value in apart.items() if not value <= tolerance}
    assert not wrong, f"differences above {tolerance}: {wrong}"


def served(case: Case, name: str) -> bool:
    """Whether DGL's layer runs on a graph. Its DotGatConv takes no pair with one width."""
    graph = GRAPHS[name]()
    normed = case.name.startswith(("GatedGCNConv-residual", "PNAConv"))  # not of one row
    one_tensor = has_dst_features(graph) or not case.name.startswith("DotGatConv")
    return one_tensor and graph.num_edges() > (1 if normed else 0)


ZOO = ["random_int32", "random_csr", "multi_edge", "batch", "block", "bare_block", "bipartite_csc"]
"""The others differ from these in what the kernels' own tests cover."""
PAIRS = [(c, n) for c in CASES for n in ZOO if (n in HOMOGENEOUS or not c.homogeneous) and served(c, n)]


@pytest.mark.parametrize(
    ("etypes", "error", "message"),
    [
        (torch.zeros(22).long(), ValueError, r"of shape \(23,\), got \(22,\)"),
        (torch.zeros(23), TypeError, r"of shape \(23,\) and integers, got torch.float32"),
        ([3] * 23, ValueError, "from 0 to 2, got 3 to 3"),
    ],
)
def test_invalid_relations(etypes, error, message):
    with pytest.raises(error, match=f"RelGraphConv: expected etypes.* {message}"):
        ours.RelGraphConv(5, 3, 3, "basis", 2)(GRAPHS["random"](), torch.rand(11, 5), etypes)


@pytest.mark.filterwarnings("ignore:lambda_max")
@pytest.mark.parametrize(("case", "name"), PAIRS, ids=[f"{c}-{name}" for c, name in PAIRS])
def test_values_and_gradients(case, name):
    graph = GRAPHS[name]()
    for dtype in case.dtypes if name in ("multi_edge", "block") else case.dtypes[-1:]:
        layer, other = both(case, dtype)
        x, options = arguments(case, graph, dtype)
        actual = results(layer, graph, x, options)
        expected = results(other, graph.formats(["coo", "csr", "csc"]), x, options)
        assert all(value.dtype == dtype for value in actual.values())
        assert_equal(actual, expected, TOLERANCE[dtype])


TWO_WIDTHS = [
    case("GATConv", (5, 7), 3, 4, pair=(5, 7), residual=True),
    case("GATv2Conv", (5, 7), 3, 4, pair=(5, 7), residual=True),
    case("DotGatConv", (5, 7), 3, 4, pair=(5, 7)),
    *(case("SAGEConv", (5, 7), 3, kind, name=kind, pair=(5, 7)) for kind in ("mean", "pool", "lstm")),
    case("SAGEConv", (5, 5), 3, "gcn", name="gcn"),
    case("NNConv", (5, 7), 3, partial(network, 15), pair=(5, 7), edge={"efeat": (2,)}, residual=True),
    case("GMMConv", (5, 7), 3, 2, 4, pair=(5, 7), edge={"pseudo": (2,)}, residual=True),
    case("GraphConv", 5, 3, pair=(5, 7)),  # the second part of a pair that is not used
    case("NNConv", 5, 3, partial(network, 15), name="unused", pair=(5, 7), edge={"efeat": (2,)}),
]


@pytest.mark.parametrize("case", TWO_WIDTHS, ids=str)
@pytest.mark.parametrize("make", [bipartite, GRAPHS["block"], GRAPHS["bare_block"]])
def test_pairs_of_features(case, make):
    graph = make()
    layer, other = both(case, torch.float64)
    x, options = arguments(case, graph, torch.float64, pair=True)
    assert_equal(results(layer, graph, x, options), results(other, graph, x, options), 1e-12)


@pytest.mark.parametrize("kind", ["SGConv", "APPNPConv", "TAGConv", "GCN2Conv"])
def test_weights_of_several_hops(kind):
    """`EdgeWeightNorm` divides them by the weighted degrees of both ends."""
    graph, args = (
        GRAPHS["clique"](),
        {"SGConv": (5, 3, 3), "APPNPConv": (4, 0.2), "TAGConv": (5, 3), "GCN2Conv": (5, 1)},
    )
    plain = case(kind, *args[kind], edge=WEIGHT, call=lambda g: {"feat_0": initial(g)} if kind == "GCN2Conv" else {})
    layer, other = both(plain, torch.float64)
    x, options = arguments(plain, graph, torch.float64)
    assert_equal(results(layer, graph, x, options), results(other, graph, x, options), 1e-12)


@pytest.mark.parametrize("norm", ["both", "right", "left", "none"])
@pytest.mark.parametrize("eps", [0.0, 0.3])
@pytest.mark.parametrize("make", [clique, bipartite, GRAPHS["block"]])
def test_edge_weight_norm(norm, eps, make):
    graph = make()
    weight = torch.rand(graph.num_edges(), dtype=torch.float64) + 0.1
    leaves = [weight.clone().requires_grad_() for _ in range(2)]
    outputs = [package.EdgeWeightNorm(norm, eps)(graph, leaf) for package, leaf in zip((ours, theirs), leaves)]
    torch.testing.assert_close(*outputs, rtol=1e-12, atol=1e-12)
    upstream = torch.rand_like(weight)
    grads = [torch.autograd.grad(y, leaf, upstream)[0] for y, leaf in zip(outputs, leaves)]
    torch.testing.assert_close(*grads, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("towers", [1, 3])
def test_deviations_and_moments(towers):
    """On a clique: the odd moments of two messages are the root of a rounding error."""
    graph = dgl.batch([clique(6), clique(4)])
    args = (6, 6, ["std", "var", "moment3", "moment4", "moment5"], ["identity", "attenuation"], 2.5, 0.0, towers)
    pna = case("PNAConv", *args, pair=(6, 6))
    layer, other = both(pna, torch.float64)
    x, options = arguments(pna, graph, torch.float64)
    assert_equal(results(layer, graph, x, options), results(other, graph, x, options), 1e-9)


# ---------------------------------------------------------------- state, random numbers, names


@pytest.mark.parametrize("case", CASES, ids=str)
def test_state_and_first_weights(case):
    """The same seed gives the same weights, under the same names; state dicts load in both directions."""
    states = []
    for package in (ours, theirs):
        torch.manual_seed(0)
        states.append(case.make(package).state_dict())
    assert list(states[0]) == list(states[1])
    assert all(torch.equal(a, b) for a, b in zip(*map(dict.values, states)))
    case.make(ours).load_state_dict(states[1])
    case.make(theirs).load_state_dict(states[0])


DROPPING = [
    case("GATConv", 5, 3, 4, 0.3, 0.6, edge=WEIGHT),
    case("GATConv", 5, 3, 4, 0.3, 0.6, name="attention", **ATTENTION),
    case("GATv2Conv", 5, 3, 4, 0.3, 0.6),
    case("SAGEConv", 5, 3, "mean", 0.3),
    case("APPNPConv", 3, 0.1, 0.5, dtypes=(torch.float32,)),
    case("PNAConv", 6, 4, ["mean"], ["identity"], 2.5, 0.4, 2, pair=(6, 6)),
]
if hasattr(theirs, "GatedGCNConv"):
    DROPPING += [
        case("GatedGCNConv", 5, 5, 5, 0.4, edge={"edge_feat": (5,)}),
    ]


@pytest.mark.parametrize("case", DROPPING, ids=str)
def test_dropout_draws_the_masks_of_dgl(case):
    graph = random_graph()
    layer, other = both(case, torch.float32)
    x, options = arguments(case, graph, torch.float32)
    outputs = []
    for module in (layer, other):
        torch.manual_seed(7)
        y = module(graph, x, **options)
        outputs.append(torch.cat([part.flatten() for part in (y if isinstance(y, tuple) else (y,))]))
        following = torch.rand(1)
        outputs[-1] = torch.cat([outputs[-1], following])
    torch.testing.assert_close(*outputs, rtol=2e-5, atol=2e-6)
    assert not torch.equal(layer.train()(graph, x, **options)[0], layer.eval()(graph, x, **options)[0])


CLASSES = [name for name in ours.__all__ if inspect.isclass(getattr(ours, name))]


@pytest.mark.parametrize("name", CLASSES)
def test_signatures(name):
    """Arguments, their order and their defaults; it is a subclass."""
    mine, original = getattr(ours, name), getattr(theirs, name)
    assert issubclass(mine, original)
    assert mine.__name__ == original.__name__
    for method in ("__init__", "forward"):
        expected = inspect.signature(getattr(original, method)).parameters.values()
        actual = list(inspect.signature(getattr(mine, method)).parameters.values())[: len(expected)]
        assert [(p.name, p.default) for p in actual] == [(p.name, p.default) for p in expected]


def test_other_names_are_those_of_dgl():
    assert ours.HGTConv is theirs.HGTConv
    assert ours.HeteroLinear is theirs.HeteroLinear
    assert {"GraphConv", "HGTConv"} <= set(dir(ours))
    with pytest.raises(AttributeError, match=r"expected a name of dgl\.nn, got 'NoSuchConv'"):
        _ = ours.NoSuchConv
    with pytest.raises(ImportError, match="NoSuchConv"):
        from gnnlib.compat.dgl_nn import NoSuchConv  # noqa: F401


@pytest.mark.parametrize("case", [CASES[0], CASES[10], *(c for c in CASES if "SGConv" in c.name)], ids=str)
def test_pickles_copies_and_repr(case):
    layer, other = both(case, torch.float32)
    graph = random_graph()
    x, options = arguments(case, graph, torch.float32)
    buffer = io.BytesIO()
    torch.save(layer, buffer)
    buffer.seek(0)
    again = [pickle.loads(pickle.dumps(layer)), deepcopy(layer), torch.load(buffer, weights_only=False)]
    assert all(torch.equal(copy(graph, x, **options), layer(graph, x, **options)) for copy in again)
    assert repr(layer) == repr(other)


def test_linear_maps_of_the_caller_keep_their_class():
    func = nn.Linear(2, 15)
    conv = ours.NNConv(5, 3, func, residual=True)
    assert type(conv.edge_func) is nn.Linear
    assert type(conv.res_fc) is gnnlib.Linear


def test_hooks_of_the_network_of_edges_run():
    graph, x, e = random_graph(), torch.randn(11, 5), torch.randn(23, 2)
    for module in (lambda conv: conv.edge_func, lambda conv: conv.edge_func[-1]):
        conv = ours.NNConv(5, 3, network(15), "sum", bias=False)
        module(conv).register_forward_hook(lambda module, args, y: 2 * y)
        plain = ours.NNConv(5, 3, network(15), "sum", bias=False)
        plain.load_state_dict(conv.state_dict())
        torch.testing.assert_close(conv(graph, x, e), 2 * plain(graph, x, e))


def test_cached_features_are_those_of_the_first_call():
    graph, x = GRAPHS["clique"](), torch.randn(5, 5)
    conv = ours.SGConv(5, 3, 2, cached=True)
    expected = conv(graph, x)
    with counted_kernels() as called:
        assert torch.equal(conv(graph, x + 1), expected)
    assert called == []


# ---------------------------------------------------------------- batches, types, samples


POOLS = {"SumPooling": (), "AvgPooling": (), "MaxPooling": (), "WeightAndSum": (5,)}


@pytest.mark.parametrize("kind", POOLS)
@pytest.mark.parametrize("name", ["random", "batch", "one_node", "bare", "random_int32"])
def test_pooling(kind, name):
    graph = GRAPHS[name]()
    torch.manual_seed(0)
    layer, other = (getattr(package, kind)(*POOLS[kind]).double() for package in (ours, theirs))
    layer.load_state_dict(other.state_dict())
    x = torch.randn(graph.num_nodes(), 5, dtype=torch.float64)
    torch.testing.assert_close(layer(graph, x), other(graph, x))
    if bool((graph.batch_num_nodes() > 0).all()):
        assert_equal(results(layer, graph, x, {}), results(other, graph, x, {}), 1e-12)


@pytest.mark.parametrize("feat_nn", [None, nn.Linear(5, 2)])
def test_attention_pooling(feat_nn):
    graph = dgl.batch([path(3), clique(4)])
    layer, other = (package.GlobalAttentionPooling(nn.Linear(5, 1), feat_nn).double() for package in (ours, theirs))
    layer.load_state_dict(other.state_dict())
    x = torch.randn(7, 5, dtype=torch.float64)
    options = {"get_attention": True}
    assert_equal(results(layer, graph, x, options), results(other, graph, x, options), 1e-12)
    with pytest.raises(ValueError, match=r"gate_nn to return \(N, 1\), got shape \(7, 2\)"):
        ours.GlobalAttentionPooling(nn.Linear(5, 2))(graph, x.float())


@pytest.mark.parametrize("norm_by", ["dst", "src"])
def test_edge_softmax(norm_by):
    graph, logits = random_graph(), torch.randn(23, 4, 1, dtype=torch.float64)
    expected = theirs.functional.edge_softmax(graph, logits, norm_by=norm_by)
    torch.testing.assert_close(ours.edge_softmax(graph, logits, norm_by=norm_by), expected)
    some = torch.arange(7)
    expected = theirs.functional.edge_softmax(graph, logits[:7], some, norm_by)
    torch.testing.assert_close(ours.edge_softmax(graph, logits[:7], some, norm_by), expected)
    with pytest.raises(ValueError, match="norm_by 'dst' or 'src', got 'both'"):
        ours.edge_softmax(graph, logits, norm_by="both")


def typed():
    edges = {
        ("user", "follows", "user"): ([0, 1, 2, 0], [1, 2, 2, 2]),
        ("user", "plays", "game"): ([0, 1, 2], [0, 0, 1]),
        ("game", "played", "user"): ([0, 1, 1], [1, 0, 2]),
    }
    return dgl.heterograph(edges, num_nodes_dict={"user": 3, "game": 2})


@pytest.mark.parametrize("aggregate", ["sum", "max", "min", "mean", "stack"])
def test_typed_graphs(aggregate):
    graph = typed()
    x = {"user": torch.randn(3, 5, dtype=torch.float64), "game": torch.randn(2, 5, dtype=torch.float64)}

    def build(package):
        torch.manual_seed(0)
        layers = {
            "follows": package.GATConv(5, 3, 2),
            "plays": package.GATv2Conv(5, 3, 2),
            "played": package.GATConv(5, 3, 2),
        }
        return package.HeteroGraphConv(layers, aggregate).double()

    conv, other = build(ours), build(theirs)
    weights = {"mod_kwargs": {"follows": {"edge_weight": torch.rand(4, dtype=torch.float64)}}}
    for inputs in (x, (x, {name: value + 1 for name, value in x.items()})):
        actual, expected = conv(graph, inputs, **weights), other(graph, inputs, **weights)
        assert list(actual) == list(expected)
        for name in actual:
            torch.testing.assert_close(actual[name], expected[name])
    layers = {"plays": theirs.GraphConv(5, 3), "played": gnnlib.SAGEConv(5, 3), "follows": ours.GraphConv(5, 3)}
    mixed = ours.HeteroGraphConv(layers)
    assert mixed(graph, {name: value.float() for name, value in x.items()})["user"].shape == (3, 3)


def test_the_adjacency_of_a_relation_is_built_once(monkeypatch):
    built = []
    factory = gnnlib.Adjacency.from_edges
    monkeypatch.setattr(gnnlib.Adjacency, "from_edges", lambda *args: built.append(1) or factory(*args))
    graph, conv = typed(), ours.HeteroGraphConv({name: ours.SAGEConv(5, 3, "mean") for name in typed().etypes})
    x = {"user": torch.randn(3, 5), "game": torch.randn(2, 5)}
    expected = conv(graph, x)["user"]
    assert torch.equal(conv(graph, x)["user"], expected)
    assert len(built) == 3
    graph.add_edges([2], [0], etype="follows")
    assert not torch.equal(conv(graph, x)["user"], expected)


def test_sampled_blocks_of_types():
    graph = typed()
    sampler = dgl.dataloading.MultiLayerFullNeighborSampler(1)
    (block,) = sampler.sample_blocks(graph, {"user": torch.tensor([2, 0])})[2]
    x = {name: torch.randn(block.num_src_nodes(name), 5) for name in ("user", "game")}
    outputs = []
    for package in (ours, theirs):
        torch.manual_seed(0)
        layers = {name: package.SAGEConv(5, 3, "mean") for name in graph.etypes}
        outputs.append(package.HeteroGraphConv(layers)(block, x)["user"])
    torch.testing.assert_close(*outputs)


@pytest.mark.parametrize("kind", ["mean", "gcn", "pool", "lstm"])
def test_sampled_blocks(kind):
    blocks = sampled_blocks(2)
    x = torch.randn(blocks[0].num_src_nodes(), 5)
    outputs = []
    for package in (ours, theirs):
        torch.manual_seed(0)
        first, second = package.SAGEConv(5, 4, kind), package.SAGEConv(4, 3, kind)
        outputs.append(second(blocks[1], first(blocks[0], x).relu()))
    torch.testing.assert_close(*outputs)


# ---------------------------------------------------------------- errors


ISOLATED = random_graph()
NEEDS_IN_EDGES = {
    "GraphConv": (5, 3),
    "GATConv": (5, 3, 2),
    "GATv2Conv": (5, 3, 2),
    "DotGatConv": (5, 3, 2),
    "AGNNConv": (),
    "SGConv": (5, 3),
    "GCN2Conv": (5, 1),
    "GMMConv": (5, 3, 2, 4),
}


@pytest.mark.parametrize("kind", NEEDS_IN_EDGES)
def test_nodes_without_in_edges(kind):
    """The condition is DGL's, and so is the class of the error."""
    x = torch.randn(11, 5)
    further = {"GCN2Conv": (x,), "GMMConv": (torch.randn(23, 2),)}.get(kind, ())
    for package in (ours, theirs):
        conv = getattr(package, kind)(*NEEDS_IN_EDGES[kind])
        with pytest.raises(dgl.DGLError, match="0-in-degree nodes"):
            conv(ISOLATED, x, *further)
        with pytest.raises(dgl.DGLError, match="0-in-degree nodes"):
            conv(ISOLATED, x, *further)
        if hasattr(conv, "set_allow_zero_in_degree"):
            conv.set_allow_zero_in_degree(True)
            assert conv(ISOLATED, x, *further).isfinite().all()
        looped = dgl.add_self_loop(ISOLATED)
        further_looped = {"GMMConv": (torch.randn(looped.num_edges(), 2),)}.get(kind, further)
        getattr(package, kind)(*NEEDS_IN_EDGES[kind])(looped, x, *further_looped)


G, X, W, X6 = clique(5), torch.randn(5, 5), torch.rand(20), torch.randn(6, 5)
BOTH_RAISE = {  # DGLError in both packages
    "norm of GraphConv": lambda nn: nn.GraphConv(5, 3, norm="sym"),
    "two matrices": lambda nn: nn.GraphConv(5, 3)(G, X, weight=torch.ones(5, 3)),
    "reduction of SAGEConv": lambda nn: nn.SAGEConv(5, 3, "sum"),
    "widths of gcn": lambda nn: nn.SAGEConv(5, 3, "gcn")(bipartite(5, 5), (X, torch.randn(5, 6))),
    "weights of two axes": lambda nn: nn.EdgeWeightNorm()(G, W[:, None]),
    "negative weights": lambda nn: nn.EdgeWeightNorm()(G, W - 1),
    "negative weights of SGConv": lambda nn: nn.SGConv(5, 3)(G, X, W - 1),
    "rows": lambda nn: nn.GraphConv(5, 3, norm="none")(G, X[:4]),
    "rows of GATConv": lambda nn: nn.GATConv(5, 3, 2)(G, torch.randn(6, 5)),
    "one tensor for two node sets": lambda nn: nn.GATv2Conv(5, 3, 2, allow_zero_in_degree=True)(bipartite(), X6),
    "reduction of types": lambda nn: nn.HeteroGraphConv({}, "median"),
}


@pytest.mark.parametrize("name", BOTH_RAISE)
def test_errors_of_dgl(name):
    for package in (ours, theirs):
        with pytest.raises(dgl.DGLError) as caught:
            BOTH_RAISE[name](package)
        assert package is theirs or "\n" not in str(caught.value)


SENTENCES = {
    "unknown argument": (lambda: ours.GraphConv(5, 3, heads=2), TypeError, "GraphConv: expected .*got heads="),
    "missing argument": (lambda: ours.GATConv(5, 3), TypeError, "GATConv: expected .*got no num_heads"),
    "too many arguments": (lambda: ours.AvgPooling(5), TypeError, "AvgPooling: expected .*got 1 argument"),
    "width": (lambda: ours.GraphConv(0, 3), ValueError, "GraphConv: expected in_feats >= 1, got 0"),
    "pair of widths": (lambda: ours.GraphConv((5, 5), 3), ValueError, "an integer in_feats >= 1"),
    "heads": (lambda: ours.GATConv(5, 3, 0), ValueError, "num_heads >= 1, got 0"),
    "second width": (lambda: ours.SAGEConv((5, -1), 3, "mean"), ValueError, "in_feats >= 1, got -1"),
    "hops": (lambda: ours.SGConv(5, 3, -1), ValueError, "k >= 0, got -1"),
    "dropout": (lambda: ours.GATConv(5, 3, 2, feat_drop=1.5), ValueError, "between 0 and 1, but got 1.5"),
    "no graph": (lambda: ours.GraphConv(5, 3)(X, X), TypeError, "GraphConv: expected the graph first, and then x"),
    "several types": (lambda: ours.GraphConv(5, 3)(typed(), X), TypeError, r"expected a graph with one edge type"),
    "no features": (lambda: ours.GraphConv(5, 3)(G, None), TypeError, "features of the sources to be a tensor"),
    "numpy": (lambda: ours.GATConv(5, 3, 2)(G, X.numpy()), TypeError, r"torch.from_numpy\(x\)"),
    "integers": (lambda: ours.GINConv()(G, X.long()), TypeError, "floating-point features of the sources"),
    "sparse": (lambda: ours.SAGEConv(5, 3, "mean")(G, X.to_sparse()), TypeError, "expected a dense tensor"),
    "wide": (lambda: ours.GATConv(4, 3, 2)(G, X), ValueError, r"shape \(5, ..., 4\), got \(5, 5\)"),
    "wide for the matrix": (lambda: ours.GraphConv(4, 3)(G, X), ValueError, r"shape \(..., 4\), got \(5, 5\)"),
    "wide destinations": (
        lambda: ours.SAGEConv((5, 7), 3, "mean")(G, (X, X)),
        ValueError,
        r"features of the destinations of shape \(5, ..., 7\), got \(5, 5\)",
    ),
    "weights": (lambda: ours.GraphConv(5, 3)(G, X, edge_weight=W[:3]), ValueError, r"edge_weight of shape \(20,\)"),
    "integer weights": (lambda: ours.GINConv()(G, X, W.long()), TypeError, "edge_weight to be a floating-point"),
    "weights by name": (lambda: ours.SGConv(5, 3)(G, X, "w"), TypeError, "edge_weight to be a floating-point"),
    "pseudo": (lambda: ours.GMMConv(5, 3, 2, 4)(G, X, W[:, None]), ValueError, r"pseudo of shape \(20, ..., 2\)"),
    "edge features": (
        lambda: ours.PNAConv(5, 5, ["mean"], ["identity"], 1.0, edge_feat_size=2)(G, X),
        ValueError,
        r"edge_feat of shape \(E, 2\), got none",
    ),
    "lambda_max": (lambda: ours.ChebConv(5, 3, 2)(G, X, [2.0, 2.0]), ValueError, "expected 1 values of lambda_max"),
    "two node sets": (lambda: ours.SGConv(5, 3)(bipartite(), torch.ones(6, 5)), ValueError, "one node set"),
}


@pytest.mark.parametrize("name", SENTENCES)
def test_bad_input(name):
    call, error, message = SENTENCES[name]
    with pytest.raises(error, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_the_warning_of_chebconv():
    with pytest.warns(dgl.base.DGLWarning, match="lambda_max"):
        y = ours.ChebConv(5, 3, 2)(G, X)
    assert y.shape == (5, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ours.ChebConv(5, 3, 2)(G, X, [2.0])


def test_a_stack_takes_the_layers_as_those_of_dgl():
    for package in (ours, theirs):
        block = gnnlib.Stack([package.GraphConv(5, 3)]).blocks[0]
        assert type(block) is gnnlib.GNNLayer
