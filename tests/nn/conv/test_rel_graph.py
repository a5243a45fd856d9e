"""RelGraphConv: a matrix per relation, free, from bases or block-diagonal; dgl.nn.RelGraphConv and PyG's RGCNConv."""

from functools import partial

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from gnnlib import GNNLayer, RelGraphConv, Stack, adjacency
from gnnlib._platform.dgl import dgl
from gnnlib.graph import ETYPE, Graph, add_self_loop, reverse
from gnnlib.ops.autograd import convolution
from gnnlib.ops.degrees import relation_share
from gnnlib.testing.case import Case, randomize_biases
from gnnlib.testing.checks import on_every_graph, properties
from gnnlib.testing.graphs import random_graph

R = 4


def matrices(conv):
    """A matrix per relation."""
    if conv.regularizer == "basis":
        return torch.einsum("rb,bio->rio", conv.coeff, conv.weight)
    if conv.regularizer == "bdd":
        return torch.stack([torch.block_diag(*blocks) for blocks in conv.weight])
    return conv.weight


def reference(conv, dense, x_src, x_dst, edge):
    etypes, y = dense.graph.edata[ETYPE], x_src.new_zeros(dense.dst.shape[1], conv.out_feats)
    for r, matrix in enumerate(matrices(conv)):
        src, dst = dense.src[etypes == r], dense.dst[etypes == r]
        message = src @ x_src if edge is None else edge[etypes == r].unsqueeze(1) * (src @ x_src)
        total = dst.T @ message
        y = y + (total / dst.sum(0).clamp(min=1).unsqueeze(1) if conv.norm == "right" else total) @ matrix
    y = y if conv.loop_weight is None else y + x_dst @ conv.loop_weight
    return y if conv.bias is None else y + conv.bias


def isolated(conv, x_dst):
    y = x_dst.new_zeros(len(x_dst), conv.out_feats)
    y = y if conv.loop_weight is None else x_dst @ conv.loop_weight
    return y if conv.bias is None else y + conv.bias


def case(name, in_feats=4, out_feats=6, num_rels=R, edge=None, **options):
    return Case(
        name,
        lambda: RelGraphConv(in_feats, out_feats, num_rels, **options),
        reference,
        isolated,
        in_feats=in_feats,
        edge=edge,
        needs_dst=options.get("self_loop", True),
        num_rels=num_rels,
    )


CASES = [
    case("mean"),
    case("sum-weight", norm="none", edge="weight"),
    case("basis", regularizer="basis", num_bases=2, norm="none"),
    case("basis-mean-weight", regularizer="basis", num_bases=3, edge="weight", bias=False),
    case("bdd", regularizer="bdd", num_bases=2, norm="none", edge="weight"),
    case("bdd-mean-pair", in_feats=(4, 3), regularizer="bdd", num_bases=2),
    case("alone", self_loop=False, bias=False, norm="none", num_rels=1),
    case("many-relations", num_rels=19, norm="none"),
]

test_every_graph = on_every_graph(CASES)
test_properties = properties(CASES)


def typed(num_nodes=40, num_edges=300, num_rels=6):
    graph = random_graph(num_nodes, num_edges)
    return graph, torch.randint(num_rels, (num_edges,), generator=torch.Generator().manual_seed(1))


def assert_same(ours, theirs, call_ours, call_theirs, names):
    """Values and gradients of a layer with another library's state dict, to 1e-5 in float32."""
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(40, 8)
    leaves = [x.clone().requires_grad_() for _ in range(2)]
    actual, expected = call_ours(leaves[0]), call_theirs(leaves[1])
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)
    actual.sin().sum().backward()
    expected.sin().sum().backward()
    torch.testing.assert_close(leaves[0].grad, leaves[1].grad, rtol=1e-5, atol=1e-5)
    for name, parameter in theirs.named_parameters():
        grad = ours.get_parameter(names[name]).grad.view_as(parameter)
        torch.testing.assert_close(grad, parameter.grad, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("options", [{}, {"num_bases": 3}, {"num_blocks": 2}], ids=str)
@pytest.mark.parametrize("norm", ["right", "none"])
def test_equals_rgcn_of_pyg(options, norm):
    pyg = pytest.importorskip("torch_geometric.nn")
    graph, etypes = typed()
    edge_index = torch.stack(graph.edges())
    theirs = randomize_biases(pyg.RGCNConv(8, 6, 6, aggr={"right": "mean", "none": "add"}[norm], **options))
    regularizer = {"num_bases": "basis", "num_blocks": "bdd"}.get(next(iter(options), None))
    ours = RelGraphConv(8, 6, 6, regularizer=regularizer, num_bases=next(iter(options.values()), None), norm=norm)
    names = {"weight": "weight", "comp": "coeff", "root": "loop_weight", "bias": "bias"}
    assert_same(ours, theirs, lambda x: ours(graph, x, etypes=etypes), lambda x: theirs(x, edge_index, etypes), names)


@pytest.mark.parametrize("regularizer", [None, "basis", "bdd"])
@pytest.mark.parametrize("norm", ["right", "none"])
def test_equals_dgl(regularizer, norm):
    """``norm="right"`` is the norm that DGL's examples compute; edge weights multiply it."""
    graph, etypes = typed()
    num_bases, weight, pairs = 2 if regularizer else None, torch.rand(300), graph.edges()[1] * 6 + etypes
    theirs = randomize_biases(dgl.nn.RelGraphConv(8, 6, 6, regularizer, num_bases))
    ours = RelGraphConv(8, 6, 6, regularizer=regularizer, num_bases=num_bases, norm=norm)
    norms = weight / (pairs.bincount()[pairs] if norm == "right" else 1)
    names = {"linear_r.W": "weight", "linear_r.coeff": "coeff", "loop_weight": "loop_weight", "h_bias": "bias"}
    assert_same(
        ours,
        theirs,
        lambda x: ours(graph, x, weight, etypes=etypes),
        lambda x: theirs(graph, x, etypes, norms.unsqueeze(1)),
        names,
    )


@pytest.mark.parametrize("num_edges", [30, 300])
def test_both_orders_of_bases_agree(num_edges, monkeypatch):
    """On few edges coefficients per edge are smaller, on many the matrices; both are the equation."""
    graph, etypes = typed(20, num_edges)
    conv, shapes = RelGraphConv(8, 6, 6, regularizer="basis", num_bases=2).double(), []
    monkeypatch.setattr(convolution.Convolve, "apply", note(convolution.Convolve.apply, shapes))
    x = torch.randn(20, 8, dtype=torch.float64)
    y = conv(graph, x, etypes=etypes)
    free = RelGraphConv(8, 6, 6).double()
    free.load_state_dict({**conv.state_dict(), "weight": matrices(conv)}, strict=False)
    torch.testing.assert_close(y, free(graph, x, etypes=etypes))
    assert shapes[0] == ((30, 2) if num_edges == 30 else (300,))


def note(function, shapes):
    def call(x, basis, *rest):
        shapes.append(tuple(basis.shape))
        return function(x, basis, *rest)

    return call


def test_one_relation_is_the_mean_of_neighbours():
    graph, x = random_graph(), torch.randn(11, 4)
    conv = RelGraphConv(4, 4, 1, self_loop=False, bias=False)
    nn.init.eye_(conv.weight[0].detach())
    degree = graph.in_degrees().clamp(min=1).unsqueeze(1)
    src, dst = graph.edges()
    expected = torch.zeros(11, 4).index_add_(0, dst, x[src]) / degree
    torch.testing.assert_close(conv(graph, x, etypes=torch.zeros(23, dtype=torch.int32)), expected)


def test_memory_does_not_grow_with_relations():
    """No tensor of a step is as large as the sums of all relations, (N, R, F), or a message per edge."""
    num_nodes, num_edges, num_rels, width = 200, 3000, 64, 16
    graph, etypes = typed(num_nodes, num_edges, num_rels)
    conv, sizes = RelGraphConv(width, width, num_rels, regularizer="basis", num_bases=4), []

    def save(tensor):
        sizes.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(save, lambda tensor: tensor):
        conv(graph, torch.randn(num_nodes, width, requires_grad=True), etypes=etypes)
    assert max(sizes) <= num_rels * width * width < min(num_nodes * num_rels * width, num_edges * width)


def test_sorted_edges_follow_the_relations():
    """Relations are sorted and counted once, and again after a change in place."""
    graph, etypes = typed()
    conv, x = RelGraphConv(8, 6, 6), torch.randn(40, 8)
    first = conv(graph, x, etypes=etypes)
    assert torch.equal(conv(graph, x, etypes=etypes), first)
    shares = [relation_share(adjacency(graph), etypes, 6, torch.float32) for _ in range(2)]
    assert shares[0] is shares[1]
    changed = etypes.clone().roll(1)
    other = conv(graph, x, etypes=changed)
    etypes.copy_(etypes.roll(1))
    assert torch.equal(conv(graph, x, etypes=etypes), other)
    assert not torch.equal(first, other)
    assert not torch.equal(relation_share(adjacency(graph), etypes, 6, torch.float32), shares[0])


def test_relations_of_a_homogeneous_graph_of_dgl():
    """``dgl.to_homogeneous`` writes the relations on the graph, and a `Stack` reads them there."""
    typed_graph = dgl.heterograph({("a", "x", "a"): ([0, 1], [1, 2]), ("a", "y", "b"): ([2, 0], [0, 1])})
    graph = dgl.to_homogeneous(typed_graph)
    model = Stack.build(partial(RelGraphConv, num_rels=2), 3, 8, 2, num_layers=2)
    x = torch.randn(5, 3)
    y = model(graph, x)
    conv: GNNLayer
    for conv in model.blocks:
        x = conv.conv(graph, x, etypes=torch.tensor([0, 0, 1, 1]))
        x = x if conv.activation is None else conv.activation(x)
    assert torch.equal(y, x)


def test_relations_without_edges_have_gradient_zero():
    graph, etypes = typed(num_rels=3)
    conv = RelGraphConv(8, 6, 5)
    conv(graph, torch.randn(40, 8), etypes=etypes).sum().backward()
    assert [bool(grad.any()) for grad in conv.weight.grad] == [True, True, True, False, False]


def entities(name, num_nodes, num_rels, classes, seed):
    """A twin of an RDF graph: no features; a node's class is in the relation of its edges, not in who they come from.

    Each relation has edges in one direction; the inverse direction is another relation, as in the paper.
    """
    generator = torch.Generator().manual_seed(seed)
    label = torch.randint(classes, (num_nodes,), generator=generator)
    src, dst = torch.randint(num_nodes, (2, 4 * num_nodes), generator=generator)
    noise = torch.rand(len(dst), generator=generator) < 0.3
    etypes = torch.where(noise, torch.randint(num_rels, dst.shape, generator=generator), label[dst] % num_rels)
    graph = Graph((torch.cat([src, dst]), torch.cat([dst, src])), num_nodes)
    rows = torch.randperm(num_nodes, generator=generator)
    return graph, torch.cat([etypes, num_rels + etypes]), label, rows.split(num_nodes // 2)


TWINS = {
    "aifb": (dict(num_nodes=160, num_rels=45, classes=4, seed=0), {}),  # the paper: no bases
    "mutag": (dict(num_nodes=160, num_rels=23, classes=2, seed=1), {"regularizer": "basis", "num_bases": 30}),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", TWINS)
def test_entities_without_features(name):
    """Entity classification as in the paper, section 5.1: one-hot features, two layers of 16, mean over each relation.

    Without the relations, the same network learns nothing about the other half of the entities.
    """
    sizes, options = TWINS[name]
    graph, etypes, label, (train, test) = entities(name, **sizes)
    accuracy = {}
    for relations, num_rels in (etypes, 2 * sizes["num_rels"]), (torch.zeros_like(etypes), 1):
        torch.manual_seed(0)
        conv = partial(RelGraphConv, num_rels=num_rels, **(options if num_rels > 1 else {}))
        model = Stack.build(conv, 160, 16, sizes["classes"], num_layers=2)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=5e-4)
        graph.edata[ETYPE], x = relations, torch.eye(160)
        for _ in range(30):
            loss = cross_entropy(model(graph, x)[train], label[train])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        accuracy[num_rels] = (model(graph, x).argmax(1) == label)[test].double().mean().item()
    assert accuracy[2 * sizes["num_rels"]] >= accuracy[1] + 0.2, accuracy


EDGES = torch.zeros(23, dtype=torch.int64)


@pytest.mark.parametrize(
    ("etypes", "error", "message"),
    [
        (None, ValueError, r"etypes, the relation of each edge, of shape \(23,\), or graph.edata\['_TYPE'\], got none"),
        (EDGES[1:], ValueError, r"etypes, the relation of each edge, of shape \(23,\), got \(22,\)"),
        (EDGES.unsqueeze(1), ValueError, r".* of shape \(23,\), got \(23, 1\)"),
        (EDGES.float(), TypeError, r".* of shape \(23,\) and integers, got torch.float32"),
        ([0] * 23, TypeError, r".* of shape \(23,\) and integers, got list"),
        (EDGES + 3, ValueError, "etypes from 0 to 2, got 3 to 3"),
        (EDGES - 1, ValueError, "etypes from 0 to 2, got -1 to -1"),
    ],
)
def test_invalid_relations(etypes, error, message):
    with pytest.raises(error, match=f"RelGraphConv: expected {message}") as caught:
        RelGraphConv(4, 2, 3)(random_graph(), torch.ones(11, 4), etypes=etypes)
    assert "\n" not in str(caught.value)


def test_relations_in_the_place_of_weights():
    """As DGL's layer is called."""
    with pytest.raises(TypeError, match=r"RelGraphConv: expected a floating-point .* edge weights, got torch\.int64"):
        RelGraphConv(4, 2, 3)(random_graph(), torch.ones(11, 4), EDGES)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(num_rels=0), "num_rels >= 1, got 0"),
        (dict(regularizer="blocks"), "regularizer to be one of None, 'basis', 'bdd', got 'blocks'"),
        (dict(num_bases=2), "a regularizer with num_bases=2, 'basis' or 'bdd', got None"),
        (dict(regularizer="bdd", num_bases=4), "num_bases that divides the widths 4 and 6, got 4"),
        (dict(norm="both"), "norm to be one of 'right', 'none', got 'both'"),
    ],
)
def test_invalid_arguments(options, message):
    with pytest.raises(ValueError, match=f"RelGraphConv: expected .*{message}"):
        RelGraphConv(4, 6, **{"num_rels": 3, **options})


def test_sampled_blocks_with_all_neighbours_are_the_graph():
    graph = add_self_loop(reverse(typed()[0]))
    graph.edata[ETYPE] = torch.arange(graph.num_edges()) % 6
    model = Stack.build(partial(RelGraphConv, num_rels=6, regularizer="bdd", num_bases=2), 8, 8, 4, num_layers=2)
    x, seeds = torch.randn(40, 8), torch.tensor([3, 30, 7])
    nodes, _, blocks = dgl.dataloading.MultiLayerFullNeighborSampler(2).sample_blocks(graph, seeds)
    torch.testing.assert_close(model(blocks, x[nodes]), model(graph, x)[seeds])
