"""HeteroConv and its attention: dense references, dgl.nn.HeteroGraphConv, PyG's HeteroConv and HAN."""

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

import gnnlib
from gnnlib import Adjacency, GATConv, GCNConv, GINEConv, HeteroConv, Linear, RelGraphConv, SAGEConv, SemanticAttention
from gnnlib._platform.dgl import dgl
from gnnlib.graph import Graph, relation_graph
from gnnlib.testing.case import randomize_biases

SIZES = {"user": 5, "game": 4, "shop": 3}
EDGES = {
    ("user", "knows", "user"): ([0, 1, 1, 3], [1, 2, 2, 0]),
    ("user", "plays", "game"): ([0, 1, 2, 2], [0, 0, 2, 1]),
    ("game", "played", "user"): ([0, 0, 2, 1], [0, 1, 2, 2]),
    ("shop", "sells", "game"): ([], []),
}
"""The last edge type has no edges, and no edge type ends at shops."""
WIDTHS = {"user": 6, "game": 7, "shop": 2}


def typed(kind="dgl"):
    edges = {etype: tuple(torch.tensor(ends, dtype=torch.int64) for ends in pair) for etype, pair in EDGES.items()}
    if kind == "pyg":
        data = pytest.importorskip("torch_geometric.data").HeteroData()
        for ntype, number in SIZES.items():
            data[ntype].num_nodes = number
        for etype, pair in edges.items():
            data[etype].edge_index = torch.stack(pair)
        return data
    return dgl.heterograph(edges, SIZES) if kind == "dgl" else Graph(edges, SIZES)


def features(dtype=torch.float64, widths=WIDTHS):
    generator = torch.Generator().manual_seed(0)
    return {ntype: torch.randn(SIZES[ntype], width, generator=generator).to(dtype) for ntype, width in widths.items()}


def means(out_feats=3):
    """The mean over the in-neighbours times a matrix, for each edge type."""
    return {etype: GCNConv(WIDTHS[etype[0]], out_feats, norm="right") for etype in EDGES}


def reference(conv, x):
    """The outputs of `means`, from dense matrices, (R, N, F) by type."""
    outputs = {}
    for etype, (src, dst) in EDGES.items():
        layer = conv.convs["__".join(etype)]
        dense = torch.zeros(SIZES[etype[2]], SIZES[etype[0]], dtype=torch.float64)
        for u, v in zip(src, dst):
            dense[v, u] += 1
        dense /= dense.sum(1, keepdim=True).clamp(min=1)
        outputs.setdefault(etype[2], []).append(dense @ x[etype[0]] @ layer.weight + layer.bias)
    return {ntype: torch.stack(parts) for ntype, parts in outputs.items()}


REDUCTIONS = {"sum": lambda z: z.sum(0), "mean": lambda z: z.mean(0), "max": lambda z: z.amax(0)}


@pytest.mark.parametrize("kind", ["dgl", "graph", "pyg"])
@pytest.mark.parametrize("aggregate", REDUCTIONS)
def test_equals_dense_matrices(aggregate, kind):
    self_layers = {"user": Linear(6, 3), "shop": Linear(2, 3)}
    conv = randomize_biases(HeteroConv(means(), aggregate=aggregate, self_layers=self_layers).double())
    x = features()
    expected = {ntype: REDUCTIONS[aggregate](z) for ntype, z in reference(conv, x).items()}
    expected["user"] = expected["user"] + self_layers["user"](x["user"])
    expected["shop"] = self_layers["shop"](x["shop"])
    actual = conv(typed(kind), x)
    assert set(actual) == {"user", "game", "shop"}
    for ntype, y in actual.items():
        torch.testing.assert_close(y, expected[ntype], rtol=0, atol=1e-13)


@pytest.mark.parametrize("aggregate", ["sum", "mean", "max", "attention", "attention per node"])
def test_first_and_second_derivatives(aggregate):
    if aggregate.startswith("attention"):
        torch.manual_seed(1)
        aggregate = SemanticAttention(2, hidden=3, per_node=aggregate.endswith("node"))
    conv = HeteroConv(
        {etype: SAGEConv((3, 3), 2) for etype in ("knows", "plays", "played", "sells")}, aggregate=aggregate
    )
    graph, conv = typed(), conv.double()
    names, leaves = zip(
        *((name, value.requires_grad_()) for name, value in features(widths=dict.fromkeys(SIZES, 3)).items())
    )
    parameters = dict(conv.named_parameters())

    def function(*values):
        weights = dict(zip(parameters, values[len(names) :]))
        y = torch.func.functional_call(conv, weights, (graph, dict(zip(names, values))))
        return torch.cat([y["user"], y["game"]]).sin()

    inputs = (*leaves, *parameters.values())
    assert gradcheck(function, inputs, fast_mode=True)
    assert gradgradcheck(function, inputs, fast_mode=True)


LAYERS = {
    "GraphConv": (lambda i: dgl.nn.GraphConv(i, 4), lambda i: GCNConv(i, 4), (5, 5)),
    "SAGEConv": (lambda i: dgl.nn.SAGEConv(i, 4, "mean"), lambda i: SAGEConv(i, 4), (5, 3)),
    "GATConv": (lambda i: dgl.nn.GATConv(i, 4, 2), lambda i: GATConv(i, 4, 2), (5, 3)),
}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("aggregate", ["sum", "mean", "max"])
def test_equals_dgl_with_its_state_dict(name, aggregate):
    """Values and gradients, to 1e-5 in float32; edge weights too."""
    make_theirs, make_ours, (user, other) = LAYERS[name]
    widths = {"user": user, "game": other, "shop": other}

    def pairs(make):
        return {
            etype[1]: make(user if name == "GraphConv" else (widths[etype[0]], widths[etype[2]])) for etype in EDGES
        }

    theirs = randomize_biases(dgl.nn.HeteroGraphConv(pairs(make_theirs), aggregate))
    ours = HeteroConv(pairs(make_ours), aggregate=aggregate)
    ours.load_state_dict(theirs.state_dict())
    leaves = [{k: v.requires_grad_() for k, v in features(torch.float32, widths).items()} for _ in range(2)]
    weight = torch.rand(4)
    theirs_y = theirs(typed(), leaves[1], mod_kwargs={"plays": {"edge_weight": weight}})
    ours_y = ours(typed(), leaves[0], {"plays": weight})
    assert ours_y.keys() == theirs_y.keys()
    for ntype, y in ours_y.items():
        torch.testing.assert_close(y, theirs_y[ntype], rtol=1e-5, atol=1e-5)
    for y in (ours_y, theirs_y):
        sum((y[ntype] * torch.linspace(-1, 1, y[ntype].numel()).view_as(y[ntype])).sum() for ntype in y).backward()
    for ntype in ("user", "game"):
        torch.testing.assert_close(leaves[0][ntype].grad, leaves[1][ntype].grad, rtol=1e-5, atol=1e-5)
    grads = {name.replace("convs.", "mods."): p.grad for name, p in ours.named_parameters()}
    for name, parameter in theirs.named_parameters():
        actual, expected = (torch.zeros_like(parameter) if g is None else g for g in (grads[name], parameter.grad))
        torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.filterwarnings("ignore:There exist node types")
@pytest.mark.parametrize("aggregate", ["sum", "mean", "max"])
def test_equals_pyg_with_copied_weights(aggregate):
    pyg = pytest.importorskip("torch_geometric.nn")
    theirs = pyg.HeteroConv(
        {etype: pyg.SAGEConv((WIDTHS[etype[0]], WIDTHS[etype[2]]), 3) for etype in EDGES}, aggr=aggregate
    )
    ours = HeteroConv(
        {etype: SAGEConv((WIDTHS[etype[0]], WIDTHS[etype[2]]), 3) for etype in EDGES}, aggregate=aggregate
    )
    with torch.no_grad():
        for etype, layer in theirs.convs.items():
            copy = ours.convs["__".join(etype)]
            copy.fc_neigh.weight.copy_(layer.lin_l.weight)
            copy.fc_self.weight.copy_(layer.lin_r.weight)
            copy.fc_self.bias.copy_(layer.lin_l.bias)
    x, data = features(torch.float32), typed("pyg")
    expected = theirs(x, {etype: data[etype].edge_index for etype in EDGES})
    actual = ours(data, x)
    assert actual.keys() == expected.keys()
    for ntype, y in actual.items():
        torch.testing.assert_close(y, expected[ntype], rtol=1e-5, atol=1e-5)


def test_attention_equals_that_of_pyg():
    """HAN's attention, with the weights of PyG's layer."""
    han = pytest.importorskip("torch_geometric.nn.conv.han_conv")
    attention = SemanticAttention(6, hidden=6).requires_grad_(False)
    z = torch.randn(9, 4, 6)
    expected = han.group(list(z.unbind(1)), attention.query, attention.project)[0]
    torch.testing.assert_close(attention(z), expected, rtol=1e-5, atol=1e-5)


def test_attention_of_a_node_does_not_depend_on_others():
    z = torch.randn(9, 4, 2, 6)
    alone, shared = SemanticAttention(6, hidden=5, per_node=True), SemanticAttention(6, hidden=5)
    shared.load_state_dict(alone.state_dict())
    torch.testing.assert_close(alone(z)[:3], alone(z[:3]))
    assert not torch.allclose(shared(z)[:3], shared(z[:3]))
    assert shared(z[:0]).shape == (0, 2, 6)
    equal = z[:, :1].expand(-1, 4, -1, -1)  # of equal edge types each has the weight 1 / R
    torch.testing.assert_close(shared(equal), equal[:, 0])


def test_one_edge_type_equals_its_layer():
    etype = ("user", "knows", "user")
    graph, conv, x = dgl.heterograph({etype: EDGES[etype]}, {"user": 5}), SAGEConv(6, 3), features(torch.float32)
    y = HeteroConv({"knows": conv})(graph, {"user": x["user"]})
    assert torch.equal(y["user"], conv(graph, x["user"]))


def test_equals_one_relational_layer_on_the_homogeneous_graph():
    """RGCN in both forms: a matrix per edge type in `HeteroConv`, and per relation in `RelGraphConv`."""
    graph = typed()
    relational = RelGraphConv(6, 3, len(EDGES), bias=False).double()
    x = features(widths=dict.fromkeys(SIZES, 6))
    convs = {}
    homogeneous = dgl.to_homogeneous(graph)
    for number, etype in enumerate(graph.canonical_etypes):
        convs[etype] = GCNConv(6, 3, norm="right", bias=False).double()
        convs[etype].weight.data = relational.weight[number].detach()
    loop = Linear(6, 3, bias=False).double()
    loop.weight.data = relational.loop_weight.detach().T
    hetero = HeteroConv(convs, self_layers=dict.fromkeys(SIZES, loop))
    y = relational(homogeneous, torch.cat([x[ntype] for ntype in graph.ntypes]))
    torch.testing.assert_close(torch.cat([hetero(graph, x)[ntype] for ntype in graph.ntypes]), y)


def test_sampled_blocks_with_all_neighbours_are_the_graph():
    graph, x = typed(), features(widths=dict.fromkeys(SIZES, 6))
    names = [name for _, name, _ in EDGES]
    layers = [HeteroConv({n: SAGEConv(6, 6) for n in names}, self_layers={"user": Linear(6, 6)}).double() for _ in "ab"]
    sampler = dgl.dataloading.MultiLayerFullNeighborSampler(2)
    inputs, _, blocks = sampler.sample_blocks(graph, {"user": torch.tensor([2, 0])})
    h = {ntype: x[ntype][inputs[ntype]] for ntype in SIZES}
    expected = {**x, **layers[0](graph, x)}
    expected = layers[1](graph, expected)["user"][[2, 0]]
    h = layers[1](blocks[1], {**h, **layers[0](blocks[0], h)})
    torch.testing.assert_close(h["user"], expected)


def test_sources_and_destinations_of_a_pair():
    graph, x = typed(), features()
    conv = HeteroConv({etype: SAGEConv((WIDTHS[etype[0]], WIDTHS[etype[2]]), 3) for etype in EDGES}).double()
    other = {ntype: value + 1 for ntype, value in x.items()}
    y, shifted = conv(graph, (x, x)), conv(graph, (x, other))
    for ntype in y:
        torch.testing.assert_close(y[ntype], conv(graph, x)[ntype])
        assert not torch.allclose(y[ntype], shifted[ntype])


def test_edge_features_of_one_edge_type():
    graph, x = typed(), features(widths=dict.fromkeys(SIZES, 6))
    conv = HeteroConv(
        {"knows": GINEConv(6, 3, edge_feats=2), **{n: SAGEConv(6, 3) for n in ("plays", "played", "sells")}}
    )
    conv, edge = conv.double(), torch.randn(4, 2, dtype=torch.float64)
    y = conv(graph, x, {"knows": edge})["user"]
    expected = conv.convs["knows"](graph["knows"], x["user"], edge)
    expected = expected + conv.convs["played"](graph["played"], (x["game"], x["user"]))
    torch.testing.assert_close(y, expected)


def test_outputs_of_some_node_types():
    conv = HeteroConv(means(), self_layers={"user": Linear(6, 3), "shop": Linear(2, 3)}).double()
    graph, x = typed(), features()
    y, some = conv(graph, x), conv(graph, x, ntypes=["user"])
    assert list(some) == ["user"]
    assert torch.equal(some["user"], y["user"])


def test_heads_are_kept():
    conv = HeteroConv({etype: GATConv((WIDTHS[etype[0]], WIDTHS[etype[2]]), 3, 2) for etype in EDGES})
    assert conv(typed(), features(torch.float32))["game"].shape == (4, 2, 3)


def test_the_adjacency_of_an_edge_type_is_built_once(monkeypatch):
    built, factory = [], Adjacency.from_edges
    monkeypatch.setattr(Adjacency, "from_edges", lambda *args: built.append(1) or factory(*args))
    for kind in ("dgl", "graph", "pyg"):
        graph, conv, x = typed(kind), HeteroConv(means()).double(), features()
        built.clear()
        assert torch.equal(conv(graph, x)["user"], conv(graph, x)["user"])
        assert len(built) == len(EDGES)


def test_relations_are_those_of_the_edited_graph():
    graph = typed()
    first = relation_graph(graph, "knows")
    assert relation_graph(graph, ("user", "knows", "user"))._graph is first._graph
    graph.add_edges([2], [0], etype="knows")
    assert relation_graph(graph, "knows").num_edges() == 5
    assert first.num_edges() == 4


@pytest.mark.parametrize("kind", ["dgl", "graph"])
@pytest.mark.parametrize("etype", ["buys", ("game", "knows", "user")], ids=str)
def test_unknown_relations(kind, etype):
    with pytest.raises(ValueError, match=r"relation_graph: expected one of the edge types \[.*'knows'.*\], got .*"):
        relation_graph(typed(kind), etype)


def test_parameters_are_drawn_as_construction_did():
    torch.manual_seed(0)
    conv = HeteroConv(means(), aggregate=SemanticAttention(3), self_layers={"user": Linear(6, 3)})
    before = {name: p.detach().clone() for name, p in conv.named_parameters()}
    torch.manual_seed(0)
    conv.reset_parameters()
    again = dict(conv.named_parameters())
    assert before.keys() == again.keys()
    assert any(torch.equal(before[name], again[name]) for name in before)
    assert "aggregate" in repr(conv)
    assert "aggregate='max'" in repr(HeteroConv(means(), aggregate="max"))


X = features(torch.float32)
WRONG_CALLS = {
    "no layer": (
        lambda: HeteroConv({"knows": GCNConv(6, 3)})(typed(), X),
        r"a layer for each edge type of the graph, got none for \[.*\('user', 'plays', 'game'\).*\]",
    ),
    "same letters": (
        lambda: HeteroConv({"a.b": GCNConv(6, 3), "a-b": GCNConv(6, 3)}),
        r"types that differ in letters or digits, got \['a.b', 'a-b'\]",
    ),
    "another layer": (
        lambda: HeteroConv({**means(), "buys": GCNConv(6, 3)})(typed(), X),
        r"edge types among \[.*\], got a layer for 'buys'",
    ),
    "another edge": (
        lambda: HeteroConv(means())(typed(), X, {"buys": torch.ones(4)}),
        r"edge types among \[.*\], got edge values for 'buys'",
    ),
    "no features": (
        lambda: HeteroConv(means())(typed(), {"user": X["user"]}),
        r"features of the node types \['game', 'shop'\], got \['user'\]",
    ),
    "node types": (
        lambda: HeteroConv(means())(typed(), X, ntypes=["cat"]),
        r"node types among \[.*\], got ntypes with 'cat'",
    ),
    "self layer": (
        lambda: HeteroConv(means(), self_layers={"cat": Linear(2, 3)})(typed(), X),
        r"node types among \[.*\], got a self layer for 'cat'",
    ),
    "widths": (
        lambda: HeteroConv({**means(), ("user", "knows", "user"): GCNConv(6, 1)})(typed(), X),
        r"outputs of one shape from the edge types that end in 'user', got \[.*\(5, 1\).*\]",
    ),
    "tensor": (lambda: HeteroConv(means())(typed(), X["user"]), "x to be a dict of features by node type, got Tensor"),
    "name": (
        lambda: HeteroConv(means())(typed(), X, mod_kwargs={}),
        "edge values .* as edge, conv.*, got mod_kwargs=",
    ),
    "no graph": (lambda: HeteroConv(means())(None, X), "a graph .*, got None"),
    "no layers": (lambda: HeteroConv({}), "convs with a layer or more, got none"),
    "list": (lambda: HeteroConv([GCNConv(6, 3)]), "convs to be a dict by type, got list"),
    "class": (lambda: HeteroConv({"knows": GCNConv}), r"convs\['knows'\] to be a module, got the class GCNConv"),
    "aggregate": (
        lambda: HeteroConv(means(), aggregate="min"),
        "aggregate to be one of 'sum', .*, got 'min'",
    ),
}


@pytest.mark.parametrize("name", WRONG_CALLS)
def test_one_sentence(name):
    call, message = WRONG_CALLS[name]
    with pytest.raises((TypeError, ValueError), match=f"HeteroConv: expected {message}") as caught:
        call()
    assert "\n" not in str(caught.value)


def test_errors_of_layers_are_their_own():
    """Wrong features of one type, and a layer that needs the destinations' features."""
    with pytest.raises(ValueError, match=r"GCNConv: expected x of the sources of shape \(4, ..., 7\), got \(4, 6\)"):
        HeteroConv(means())(typed(), {**X, "game": torch.ones(4, 6)})
    with pytest.raises(ValueError, match=r"SemanticAttention: expected z of shape \(N, R, ..., 4\), got \(4, 2, 3\)"):
        HeteroConv(means(), aggregate=SemanticAttention(4))(typed(), X)


def test_saved_and_loaded(tmp_path):
    conv = HeteroConv(means(), aggregate=SemanticAttention(3), self_layers={"user": Linear(6, 3)})
    gnnlib.save_model(conv, tmp_path / "model")
    again = gnnlib.load_model(tmp_path / "model")
    assert isinstance(again, HeteroConv)
    for ntype, y in conv(typed(), X).items():
        assert torch.equal(again(typed(), X)[ntype], y)
