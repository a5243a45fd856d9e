"""Drops: DropEdge gives a smaller graph, never zero weights; the others draw as torch's dropout does."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from gnnlib import (
    ChebConv,
    DropEdge,
    DropMessage,
    DropNode,
    ECConv,
    GATConv,
    GatedGCNConv,
    GATv2Conv,
    GCNConv,
    GCNEConv,
    GINConv,
    GINEConv,
    GNNLayer,
    MessageConv,
    MoNetConv,
    PNAConv,
    PredEdgeConv,
    RelGraphConv,
    Residual,
    SAGEConv,
    SGConv,
    SplineConv,
)
from gnnlib._platform.dgl import dgl
from gnnlib.graph import MessageDropout, adjacency
from gnnlib.kernels import reference
from gnnlib.testing.graphs import GRAPHS, endpoints, graph_strategy, random_graph, symmetric_graph

few = settings(deadline=None, max_examples=40, derandomize=True)


def number_edges(graph):
    graph.edata["id"] = torch.arange(graph.num_edges())
    return graph


@pytest.mark.slow
@few
@given(graph_strategy(), st.floats(0, 1), st.integers(0, 1000))
def test_a_subset_of_the_edges_in_their_order(graph, p, seed):
    number_edges(graph)
    weight = torch.randn(graph.num_edges())
    torch.manual_seed(seed)
    smaller, values = DropEdge(p)(graph, weight)
    remaining = smaller.edata["id"]
    assert remaining.tolist() == sorted(set(remaining.tolist()))
    src, dst = endpoints(graph)
    assert torch.equal(torch.stack(endpoints(smaller)), torch.stack([src[remaining], dst[remaining]]))
    assert torch.equal(values, weight[remaining])
    assert smaller.num_nodes() == graph.num_nodes()
    assert set(torch.nonzero(src == dst).flatten().tolist()) <= set(remaining.tolist())
    degree = torch.zeros(graph.num_nodes(), dtype=torch.int64).index_add(0, dst[remaining], torch.ones_like(remaining))
    assert torch.equal(smaller.in_degrees(), degree)
    assert graph.num_edges() == len(weight)  # the graph itself is as it was


@few
@given(st.lists(graph_strategy(max_nodes=5, max_edges=8), min_size=1, max_size=4), st.integers(0, 1000))
def test_batch_sizes_are_kept(graphs, seed):
    graph = number_edges(dgl.batch(graphs))
    torch.manual_seed(seed)
    smaller, _ = DropEdge(0.5)(graph)
    assert smaller.batch_size == len(graphs)
    assert smaller.batch_num_nodes().tolist() == [g.num_nodes() for g in graphs]
    assert int(smaller.batch_num_edges().sum()) == smaller.num_edges()
    bounds = torch.tensor([0, *(g.num_edges() for g in graphs)]).cumsum(0)
    inside = [int(((smaller.edata["id"] >= a) & (smaller.edata["id"] < b)).sum()) for a, b in pairwise(bounds.tolist())]
    assert smaller.batch_num_edges().tolist() == inside
    for part, size in zip(dgl.unbatch(smaller), inside):
        assert part.num_edges() == size


@pytest.mark.parametrize("name", GRAPHS)
def test_every_graph(name):
    graph = number_edges(GRAPHS[name]())
    feature = torch.randn(graph.num_edges(), 3)
    torch.manual_seed(0)
    smaller, values = DropEdge(0.6, keep_self_loops=False)(graph, feature)
    assert smaller.is_block == graph.is_block
    assert smaller.idtype == graph.idtype
    assert smaller.canonical_etypes == graph.canonical_etypes
    assert (smaller.num_src_nodes(), smaller.num_dst_nodes()) == (graph.num_src_nodes(), graph.num_dst_nodes())
    remaining = smaller.edata["id"]
    assert torch.equal(values, feature[remaining])
    assert torch.equal(torch.stack(endpoints(smaller)), torch.stack([end[remaining] for end in endpoints(graph)]))
    assert set(smaller.srcdata) == set(graph.srcdata)  # a block still knows its destinations
    assert set(smaller.dstdata) == set(graph.dstdata)


def test_evaluation_and_zero_change_nothing():
    graph, weight = random_graph(), torch.randn(23)
    for drop in (DropEdge(0.9).eval(), DropEdge(0.0)):
        same, edge = drop(graph, weight)
        assert same is graph
        assert edge is weight
        assert drop(graph) == (graph, None)


def test_drop_rate():
    graph = dgl.graph((torch.arange(10000), torch.arange(10000) + 1))
    torch.manual_seed(0)
    assert DropEdge(0.3)(graph)[0].num_edges() / 10000 == pytest.approx(0.7, abs=0.02)
    assert DropEdge(1.0)(graph)[0].num_edges() == 0


def test_self_loops_stay_or_go():
    graph = dgl.add_self_loop(dgl.graph(([0, 1, 2], [1, 2, 0])))
    smaller, _ = DropEdge(1.0)(graph)
    assert [end.tolist() for end in smaller.edges()] == [[0, 1, 2], [0, 1, 2]]
    assert DropEdge(1.0, keep_self_loops=False)(graph)[0].num_edges() == 0


def test_edges_follow_the_seed():
    graph, drop = number_edges(random_graph(20, 200)), DropEdge(0.5)

    def remaining(seed):
        torch.manual_seed(seed)
        return [drop(graph)[0].edata["id"].tolist() for _ in range(2)]

    assert remaining(1) == remaining(1)
    assert remaining(1)[0] != remaining(1)[1]
    assert remaining(1)[0] != remaining(2)[0]


@pytest.mark.parametrize("p", [-0.1, 1.1, float("nan")])
def test_bad_probabilities_are_refused(p):
    for make in (DropEdge, DropNode, lambda p: DropMessage(GCNConv(3, 2), p)):
        with pytest.raises(ValueError, match=f"Drop.*probability p from 0 to 1, got {p}"):
            make(p)


# ---------------------------------------------------------------- nodes


@pytest.mark.parametrize("signals", [(), (3,), (2, 2)])
def test_drop_node_scales_or_zeroes_whole_rows(signals):
    torch.manual_seed(0)
    x = torch.rand(2000, *signals, 4, dtype=torch.float64) + 1
    factor = DropNode(0.3)(x) / x
    torch.testing.assert_close(factor, factor[..., :1].expand_as(x))  # one factor a node and signal
    torch.testing.assert_close(factor[factor != 0].unique()[[0, -1]], torch.full((2,), 1 / 0.7, dtype=torch.float64))
    assert factor.mean().item() == pytest.approx(1, abs=0.05)  # what comes out is right in the mean
    if signals:
        assert not torch.equal(factor[:, 0], factor[:, -1])


def test_drop_node_in_evaluation_at_the_ends_and_without_nodes():
    x = torch.rand(5, 3)
    assert DropNode(0.9).eval()(x) is x
    assert DropNode(0.0)(x) is x
    assert bool((DropNode(1.0)(x) == 0).all())
    assert DropNode(0.5)(x[:0]).shape == (0, 3)


def test_drop_node_serves_as_the_dropout_of_a_block():
    graph, x, conv = random_graph(), torch.rand(11, 3), GCNConv(3, 2)
    torch.manual_seed(3)
    actual = GNNLayer(conv, dropout=DropNode(0.5))(graph, x)
    torch.manual_seed(3)
    torch.testing.assert_close(actual, conv(graph, DropNode(0.5)(x)))


# ---------------------------------------------------------------- messages

CONVS = {
    "gcn": lambda: GCNConv(5, 3),
    "gcn left": lambda: GCNConv(3, 5, norm="left"),
    "gcn right": lambda: GCNConv(3, 5, norm="right"),
    "gcn weighted": lambda: GCNConv(5, 3, degrees="weighted"),
    "gcn weighted left": lambda: GCNConv(5, 3, norm="left", degrees="weighted"),
    "sgc": lambda: SGConv(5, 3, degrees="unweighted"),
    "gin": lambda: GINConv(5, 3),
    "gin max": lambda: GINConv(5, 3, reduce="max"),
    "sage": lambda: SAGEConv(5, 3),
    "sage sum": lambda: SAGEConv(3, 5, reduce="sum"),
    "gat": lambda: GATConv(5, 3, 2),
    "gatv2": lambda: GATv2Conv(5, 3, 2),
    "ecc": lambda: ECConv(5, 3, edge_feats=2),
    "pred_edge": lambda: PredEdgeConv(5, 3, pos_feats=2),
    "cheb": lambda: ChebConv(5, 3, k=2),
    "gated_gcn": lambda: GatedGCNConv(5, 3, edge_feats=2),
    "gcne": lambda: GCNEConv(5, 3, edge_feats=2),
    "gine": lambda: GINEConv(5, 3, edge_feats=2),
    "message": lambda: MessageConv(5, 3, edge_feats=2),
    "monet": lambda: MoNetConv(5, 3, dim=2, num_kernels=2),
    "pna": lambda: PNAConv(5, 3),
    "pna with edges": lambda: PNAConv(5, 3, edge_feats=2),
    "rel_graph": lambda: RelGraphConv(5, 3, num_rels=3),
    "spline": lambda: SplineConv(5, 3, (3, 3), spacing=0.4),
}
NEEDS_BOTH_ENDS = ("gin", "gin max", "sage", "sage sum", "gat", "gatv2", "gated_gcn", "gine", "message", "pna",
                   "rel_graph", "pna with edges")  # fmt: skip
KINKED = ("gin", "gin max", "gatv2", "gcne", "gine", "message", "pna", "pna with edges", "spline")


def feed(conv, graph, signals=()):
    graph.srcdata["pos"] = torch.rand(graph.num_src_nodes(), 2, dtype=torch.float64)
    graph.dstdata["pos"] = torch.rand(graph.num_dst_nodes(), 2, dtype=torch.float64)
    graph.edata["_TYPE"] = torch.arange(graph.num_edges()) % 3
    edge = None
    if conv.takes_edge == "feature":
        edge = torch.randn(graph.num_edges(), 2, dtype=torch.float64)
    elif conv.takes_edge == "weight":
        edge = torch.rand(graph.num_edges(), dtype=torch.float64) + 0.1
    return torch.randn(graph.num_src_nodes(), *signals, conv.in_feats, dtype=torch.float64), edge


@pytest.mark.slow
@pytest.mark.parametrize("name", CONVS)
@pytest.mark.parametrize("graph", ["random", "random_int32", "bare", "no_nodes", "batch", "block", "bipartite_csc"])
def test_no_message_dropped_equals_the_layer(name, graph):
    """With a probability so small that nothing is, though all goes the way of dropped messages."""
    graph, conv = GRAPHS[graph](), CONVS[name]().double()
    if name in NEEDS_BOTH_ENDS and not (graph.is_homogeneous or graph.is_block):
        return
    if name in ("cheb", "gcne") and not graph.is_homogeneous:
        return
    for signals in ((), (2,)):
        x, edge = feed(conv, graph, signals)
        for weight in (edge, None) if conv.takes_edge == "weight" else (edge,):
            torch.testing.assert_close(DropMessage(conv, 1e-12)(graph, x, weight), conv(graph, x, weight))


@pytest.mark.parametrize("name", CONVS)
def test_all_messages_dropped_equal_no_neighbours(name):
    """Its output is that of each node by itself, whatever the others have."""
    graph, conv = dgl.graph(([0, 1, 2, 0, 3], [1, 2, 3, 3, 0]), num_nodes=5), CONVS[name]().double()
    x, edge = feed(conv, graph)
    drop = DropMessage(conv, 1.0)
    before = drop(graph, x, edge)
    for node in range(5):
        other = x.clone()
        other[node] += 1
        changed = (drop(graph, other, edge) - before).flatten(1).abs().amax(1) > 0
        assert set(changed.nonzero().flatten().tolist()) <= {node}


@pytest.mark.parametrize("name", CONVS)
def test_gradients_are_those_of_the_same_draw(name):
    """Finite differences, of the features and of every parameter, once and twice, with one draw for all."""
    graph, conv = random_graph(), CONVS[name]().double()
    x, edge = feed(conv, graph)
    drop = DropMessage(conv, 0.4)

    def forward(x, *parameters):
        torch.manual_seed(3)
        state = dict(zip((n for n, _ in drop.named_parameters()), parameters, strict=True))
        return torch.func.functional_call(drop, state, (graph, x, edge))

    inputs = x.requires_grad_(), *(p.detach().clone().requires_grad_() for p in drop.parameters())
    assert torch.autograd.gradcheck(forward, inputs, fast_mode=True)
    if name not in KINKED:
        assert torch.autograd.gradgradcheck(forward, inputs, fast_mode=True)


def test_messages_are_dropped_entry_by_entry():
    """The message matrix written out: what GCN multiplies before it sends, GIN as it comes, attention's after
    the softmax."""
    graph = random_graph()
    src, dst = endpoints(graph)
    x = torch.randn(11, 5, dtype=torch.float64, requires_grad=True)
    gcn, wide, gin = GCNConv(5, 3).double(), GCNConv(5, 8).double(), GINConv(5, 3, apply_func=nn.Identity()).double()
    gat = GATConv(5, 3, 2).double()
    norm = (graph.out_degrees().clamp(min=1)[src] * graph.in_degrees().clamp(min=1)[dst]).double() ** -0.5
    alpha = gat(graph, x, get_attention=True)[1].unsqueeze(-1)

    def total(messages):
        return messages.new_zeros(11, *messages.shape[1:]).index_add(0, dst, messages)

    for conv, columns, dense in (
        (gcn, 3, lambda z: total(norm[:, None] * z * (x @ gcn.weight)[src]) + gcn.bias),
        (wide, 5, lambda z: total(norm[:, None] * z * x[src]) @ wide.weight + wide.bias),
        (gin, 5, lambda z: x + total(z * x[src])),
        (gat, 6, lambda z: total(alpha * z.view(-1, 2, 3) * gat.fc(x).view(-1, 2, 3)[src]) + gat.bias.view(2, 3)),
    ):
        torch.manual_seed(5)
        actual = DropMessage(conv, 0.4)(graph, x)
        torch.manual_seed(5)
        drop = MessageDropout.sample(0.4)
        remaining = reference.retained(torch.arange(len(src)), torch.Size([columns]), drop.key, drop.threshold)
        assert 0.3 < remaining.double().mean() < 0.9
        expected = dense(remaining / 0.6)
        torch.testing.assert_close(actual, expected)
        loss = torch.randn_like(actual)
        torch.testing.assert_close(*(torch.autograd.grad(y, x, loss, retain_graph=True)[0] for y in (actual, expected)))


def test_the_graph_itself_drops_nothing():
    """And in evaluation, or outside of the layer, all messages arrive."""
    graph, x, conv = random_graph(), torch.randn(11, 5), GCNConv(5, 3)
    before = conv(graph, x)
    assert not torch.equal(DropMessage(conv, 0.5)(graph, x), before)
    assert torch.equal(conv(graph, x), before)
    assert adjacency(graph).dropout is None


def test_draws_follow_the_seed():
    graph, x, drop = random_graph(), torch.randn(11, 5), DropMessage(GCNConv(5, 3), 0.5)

    def steps(seed):
        torch.manual_seed(seed)
        return [drop(graph, x) for _ in range(2)]

    first, again, other = steps(1), steps(1), steps(2)
    assert all(map(torch.equal, first, again))
    assert not torch.equal(*first)
    assert not torch.equal(first[0], other[0])


def test_masks_differ_between_edges():
    graph = dgl.graph((torch.zeros(2000).long(), torch.arange(1, 2001)))
    conv = GCNConv(3, 3, norm="none", weight=False, bias=False)
    torch.manual_seed(0)
    y = DropMessage(conv, 0.25)(graph, torch.ones(2001, 3))[1:]
    torch.testing.assert_close(y.unique(), torch.tensor([0, 4 / 3]))
    torch.testing.assert_close(y.mean(0), torch.ones(3), rtol=0, atol=0.05)
    assert y.bool().unique(dim=0).shape == (8, 3)  # every mask occurs: single features, not rows


def test_drop_message_in_evaluation_is_the_layer():
    graph, x, conv = random_graph(), torch.randn(11, 5), GATConv(5, 3, 2)
    weight = torch.rand(23)
    assert torch.equal(DropMessage(conv, 0.5).eval()(graph, x, weight), conv(graph, x, weight))
    assert torch.equal(DropMessage(conv, 0.0)(graph, x), conv(graph, x))


@pytest.mark.parametrize("name", CONVS)
def test_drop_message_in_a_block_gives_every_parameter_a_gradient(name):
    graph = dgl.add_self_loop(symmetric_graph())
    conv = CONVS[name]()
    x, edge = feed(conv, graph)
    width = conv.out_feats * (2 if name in ("gat", "gatv2") else 1)
    block = GNNLayer(
        DropMessage(conv, 0.3), skip=Residual(conv.in_feats, width), dropout=DropNode(0.1), drop_edge=DropEdge(0.1)
    )
    y = block.double()(graph, x, edge)
    assert y.shape == (11, width)
    y.square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in block.parameters())


def test_drop_message_refuses_layers_of_other_libraries():
    with pytest.raises(TypeError, match="layer of gnnlib, got GraphConv"):
        DropMessage(dgl.nn.GraphConv(3, 2), 0.5)
