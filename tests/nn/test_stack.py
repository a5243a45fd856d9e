"""GNNLayer and Stack: any layer with any remedy at any depth."""

from functools import partial

import pytest
import torch
from torch import Tensor, nn

import gnnlib
from gnnlib import (
    BatchNorm,
    DenseConnection,
    DropEdge,
    DropNode,
    ECConv,
    GATConv,
    GATv2Conv,
    GCNConv,
    GINConv,
    GNNLayer,
    InitialResidual,
    JumpingKnowledge,
    LayerNorm,
    MeanMaxReadout,
    PairNorm,
    PredEdgeConv,
    Residual,
    SAGEConv,
    SGConv,
    Stack,
    SumOfEmbeddings,
    concat_heads,
    mean_heads,
    readout_max,
    readout_mean,
    readout_sum,
)
from gnnlib._platform.dgl import dgl
from gnnlib.testing.graphs import edgeless, endpoints, path, random_graph, sampled_blocks, symmetric_graph
from tests.pairs import parametrize_pairs

CONVS = {
    "gcn": GCNConv,
    "gin": GINConv,
    "sage": SAGEConv,
    "gat": lambda i, o: GATConv(i, o // 2, 2),
    "gatv2": lambda i, o: GATv2Conv(i, o // 2, 2),
    "sgc": SGConv,
    "ecc": partial(ECConv, edge_feats=2, hidden=3),
    "pred_edge": partial(PredEdgeConv, pos_feats=2, hidden=4, relations=2, normalise=gnnlib.edge_softmax),
    "foreign": partial(dgl.nn.GraphConv, allow_zero_in_degree=True),
}
NORMS = {"none": None, "batch": BatchNorm, "layer": LayerNorm, "pair": PairNorm}
SKIPS = {"none": None, "residual": Residual, "initial": InitialResidual}
JUMPS = {"none": None, "cat": JumpingKnowledge.cat, "max": JumpingKnowledge.max, "lstm": JumpingKnowledge.lstm}

all_convs = pytest.mark.parametrize("conv", CONVS)


def feed(graph, conv, width=3):
    """Features, positions, and the edge argument that the layer takes."""
    graph.srcdata["pos"] = torch.rand(graph.num_src_nodes(), 2)
    graph.dstdata["pos"] = torch.rand(graph.num_dst_nodes(), 2)
    edge = torch.randn(graph.num_edges(), 2) if conv == "ecc" else torch.rand(graph.num_edges())
    return torch.randn(graph.num_src_nodes(), width), None if conv == "pred_edge" else edge


def change(edge, function):
    """The edge values changed by a function, where there are any."""
    return None if edge is None else function(edge)


def learns(model, y):
    """The output is finite and every parameter gets a finite gradient, not all of them 0."""
    assert bool(y.isfinite().all())
    y.square().sum().backward()
    grads = [p.grad for p in model.parameters()]
    assert all(g is not None and bool(g.isfinite().all()) for g in grads)
    assert any(bool((g != 0).any()) for g in grads)


@pytest.mark.slow
@parametrize_pairs(conv=CONVS, norm=NORMS, skip=SKIPS, jump=JUMPS)
def test_any_layer_any_remedy_eight_deep(conv, norm, skip, jump):
    torch.manual_seed(0)
    graph = dgl.batch([random_graph(), edgeless(0), path(4), edgeless(2)])
    model = Stack.build(
        CONVS[conv],
        3,
        4,
        6,
        num_layers=8,
        norm=NORMS[norm],
        skip=SKIPS[skip],
        activation=nn.ELU,
        jump=JUMPS[jump],
        dropout=0.1,
        drop_edge=DropEdge(0.3),
        encoder=skip == "initial",
        readout=readout_mean if jump == "max" else None,
    )
    assert len(model.blocks) == 8
    x, edge = feed(graph, conv)
    y = model(graph, x, edge)
    assert y.shape == (4 if jump == "max" else 17, 6)
    learns(model, y)


@pytest.mark.slow
@parametrize_pairs(conv=CONVS, skip=SKIPS, jump=JUMPS)
def test_any_layer_on_sampled_blocks(conv, skip, jump):
    torch.manual_seed(0)
    blocks = sampled_blocks(2)
    fed = [feed(block, conv) for block in blocks]
    model = Stack.build(
        CONVS[conv],
        3,
        4,
        6,
        num_layers=2,
        norm=BatchNorm,
        skip=SKIPS[skip],
        activation=nn.ELU,
        jump=JUMPS[jump],
        drop_edge=DropEdge(0.2),
        encoder=skip == "initial",
    )
    y = model(blocks, fed[0][0], [edge for _, edge in fed])
    assert y.shape == (5, 6)
    learns(model, y)


@all_convs
def test_blocks_of_all_neighbours_equal_the_graph(conv):
    """With every edge sampled, what the seeds get is what they get on the whole graph."""
    torch.manual_seed(0)
    graph = symmetric_graph()
    x, edge = feed(graph, conv)
    if conv in ("gcn", "sgc", "foreign"):  # a block sees not all out-edges of its sources
        options = dict(norm="right") | (dict(degrees="unweighted") if conv == "sgc" else {})
        options |= dict(allow_zero_in_degree=True) if conv == "foreign" else {}
        make = partial({"gcn": GCNConv, "sgc": SGConv, "foreign": dgl.nn.GraphConv}[conv], **options)
    else:
        make = CONVS[conv]
    model = Stack.build(make, 3, 4, 6, num_layers=2, skip=Residual).eval()
    seeds = torch.tensor([7, 2, 3])
    blocks = dgl.dataloading.MultiLayerFullNeighborSampler(2).sample_blocks(graph, seeds)[2]
    for block in blocks:
        block.srcdata["pos"] = graph.ndata["pos"][block.srcdata[dgl.NID]]
        block.dstdata["pos"] = graph.ndata["pos"][block.dstdata[dgl.NID]]
    edges = [change(edge, lambda edge, block=block: edge[block.edata[dgl.EID]]) for block in blocks]
    sampled = model(blocks, x[blocks[0].srcdata[dgl.NID]], edges)
    torch.testing.assert_close(sampled, model(graph, x, edge)[seeds], rtol=0, atol=1e-5)


@all_convs
@pytest.mark.parametrize("norm", NORMS)
def test_batch_equals_one_by_one_in_evaluation(conv, norm):
    torch.manual_seed(0)
    graphs = [random_graph(7, 15), path(5), edgeless(0), edgeless(2)]
    model = Stack.build(
        CONVS[conv], 3, 4, 5, 3, norm=NORMS[norm], skip=Residual, encoder=True, readout=readout_sum
    ).double()
    with torch.no_grad():
        for buffer in model.buffers():
            if buffer.is_floating_point() and buffer.dim():
                buffer.copy_(torch.rand_like(buffer) + 0.5)
    model.eval()
    fed = [feed(graph, conv) for graph in graphs]
    x, edges = torch.cat([x for x, _ in fed]).double(), [edge for _, edge in fed if edge is not None]
    alone = [model(g, x.double(), change(edge, Tensor.double)) for g, (x, edge) in zip(graphs, fed)]
    edge = torch.cat(edges).double() if edges else None
    torch.testing.assert_close(model(dgl.batch(graphs), x, edge), torch.cat(alone), rtol=0, atol=1e-10)


@all_convs
@pytest.mark.parametrize("readout", [readout_sum, readout_mean, MeanMaxReadout])
def test_graph_outputs_do_not_see_the_order_of_nodes(conv, readout):
    torch.manual_seed(0)
    graph = random_graph()
    x, edge = feed(graph, conv)
    model = Stack.build(CONVS[conv], 3, 4, 5, 3, norm=PairNorm, skip=Residual, readout=readout).double()
    old, order = torch.randperm(11), torch.randperm(23)
    src, dst = (old.argsort()[end][order] for end in endpoints(graph))
    other = dgl.graph((src, dst), num_nodes=11)
    other.ndata["pos"] = graph.ndata["pos"][old]
    moved = model(other, x[old].double(), change(edge, lambda edge: edge[order].double()))
    torch.testing.assert_close(moved, model(graph, x.double(), change(edge, Tensor.double)), rtol=0, atol=1e-10)


# ---------------------------------------------------------------- what a block does, in which order


class Recorder(nn.Module):
    """Notes what it was called with; passes the first feature tensor through, plus one."""

    def __init__(self, log, name, takes_edge=None):
        super().__init__()
        self.log, self.name = log, name
        if takes_edge:
            self.takes_edge = takes_edge

    def forward(self, *args):
        self.log.append((self.name, *args))
        return next(g for g in args if isinstance(g, torch.Tensor)) + 1


def test_the_order_of_a_block():
    log = []
    graph, x, x0 = random_graph(), torch.zeros(11, 2), torch.full((11, 2), 7.0)
    names = ("norm", "skip", "activation", "dropout")
    block = GNNLayer(Recorder(log, "conv"), **{name: Recorder(log, name) for name in names})
    y = block(graph, x, None, x0)
    assert [entry[0] for entry in log] == ["dropout", "conv", "norm", "skip", "activation"]
    assert bool((y == 5).all())
    _, at_skip, skip_x, skip_x0 = log[3]
    assert bool((at_skip == 3).all())
    assert skip_x is x  # the input before dropout
    assert skip_x0 is x0


def test_a_norm_after_the_skip():
    """The layer of Luo et al. 2024, equation 3 of arXiv 2406.08993: relu(norm(conv(x) + x W))."""
    graph, x = random_graph(), torch.randn(11, 3)
    layers = Stack.build(
        GCNConv, 3, 3, 2, 2, norm=BatchNorm, skip="linear-residual", norm_after_skip=True, head=True
    ).blocks
    for layer in layers:
        weight = layer.skip.project.weight
        sum_ = layer.conv(graph, x) + torch.einsum("oi,ni->no", weight, x)
        torch.testing.assert_close(
            layer(graph, x), torch.nn.functional.batch_norm(sum_, None, None, training=True).relu()
        )
        assert not torch.equal(
            layer(graph, x),
            GNNLayer(layer.conv, norm=layer.norm, skip=layer.skip, activation=layer.activation)(graph, x),
        )


def test_a_bare_block_is_its_layer():
    graph, x, weight = random_graph(), torch.randn(11, 3), torch.rand(23)
    conv = GCNConv(3, 2)
    assert torch.equal(GNNLayer(conv)(graph, x, weight), conv(graph, x, weight))


def outcome(function):
    """What a call returns, or the type and the words of its error."""
    try:
        return function()
    except (TypeError, ValueError) as error:
        return type(error), str(error)


EDGES = {
    "weights": torch.rand(23),
    "column": torch.rand(23, 1),
    "features": torch.rand(23, 2),
    "wide": torch.rand(23, 4),
    "rows": torch.rand(7, 2),
    "few": torch.rand(7),
    "integers": torch.ones(23).long(),
    "list": [0.5] * 23,
    "array": torch.rand(23).numpy(),
}


@pytest.mark.parametrize("edge", EDGES)
@pytest.mark.parametrize("conv", [conv for conv in CONVS if conv != "foreign"])
def test_a_block_answers_to_every_edge_as_its_layer_does(conv, edge):
    """Outputs and errors: an edge that does not fit is never dropped."""
    graph, edge = random_graph(), EDGES[edge]
    x, _ = feed(graph, conv)
    layer = CONVS[conv](3, 4)
    expected = outcome(lambda: layer(graph, x, edge))
    actual = outcome(lambda: GNNLayer(layer)(graph, x, edge))
    if isinstance(expected, Tensor):
        assert torch.equal(actual, expected.flatten(1))
    else:
        assert actual == expected
    if not isinstance(edge, list):  # which is a list of one per layer
        assert type(outcome(lambda: Stack([layer])(graph, x, edge))) is type(expected)


def test_the_edge_of_a_stack_is_refused_in_the_words_of_its_layer():
    graph, x = random_graph(), torch.ones(11, 3)
    for conv, edge, words in (
        (GCNConv, EDGES["column"].repeat(1, 2), r"GCNConv: expected edge weights of shape \(23,\), .*GINEConv"),
        (CONVS["gat"], EDGES["rows"], r"GATConv: expected edge weights of shape \(23,\), got shape \(7, 2\)"),
        (CONVS["ecc"], EDGES["weights"], r"ECConv: expected edge features of shape \(23, 2\), got shape \(23,\)"),
    ):
        with pytest.raises(ValueError, match=words):
            Stack.build(conv, 3, 4, 2, 2, drop_edge=0.0)(graph, x, edge)


class Plain(nn.Linear):
    """A layer of a user."""

    def forward(self, graph, x):
        return super().forward(x)


def test_a_layer_without_edge_values_refuses_them_and_a_list_leaves_it_out():
    graph, x, weight = random_graph(), torch.ones(11, 3), EDGES["weights"]
    with pytest.raises(TypeError, match=r"GNNLayer: expected no edge values, as Plain.forward takes graph, x and none"):
        GNNLayer(Plain(3, 3))(graph, x, weight)
    with pytest.raises(TypeError, match=r"GraphConv.*dgl|expected no edge values, as ChebConv.forward takes"):
        GNNLayer(dgl.nn.ChebConv(3, 3, 2))(graph, x, weight)
    mixed = Stack([Plain(3, 3), GCNConv(3, 2)])
    y = mixed(graph, x, [None, weight])
    assert torch.equal(y, mixed.blocks[1].conv(graph, mixed.blocks[0].conv(graph, x), weight))


def test_layers_of_other_libraries_receive_edge_values_under_their_own_names():
    graph, x = symmetric_graph(), torch.randn(11, 3)
    weight, feature = torch.rand(graph.num_edges()), torch.rand(graph.num_edges(), 3)
    for conv, edge, name in (
        (dgl.nn.GraphConv(3, 4), weight, "edge_weight"),
        (dgl.nn.SAGEConv(3, 4, "mean"), weight, "edge_weight"),
        (dgl.nn.GINEConv(nn.Linear(3, 4)), feature, "edge_feat"),
        (dgl.nn.NNConv(3, 4, nn.Linear(3, 12)), feature, "efeat"),
    ):
        expected = conv(graph, x, **{name: edge})
        assert torch.equal(GNNLayer(conv)(graph, x, edge), expected)
        assert torch.equal(Stack([conv])(graph, x, edge), expected)


@pytest.mark.parametrize(
    ("conv", "takes"),
    [
        ("gcn", "weight"),
        ("gin", "weight"),
        ("gat", "weight"),
        ("gatv2", "weight"),
        ("sage", "weight"),
        ("sgc", "weight"),
        ("ecc", "feature"),
        ("pred_edge", None),
        ("foreign", None),
    ],
)
def test_edge_kind_of_each_layer(conv, takes):
    assert getattr(CONVS[conv](4, 4), "takes_edge", None) == takes


def test_edge_weights_change_the_output_of_layers_that_take_them_only():
    for conv in CONVS:
        graph = random_graph()
        x, edge = feed(graph, conv)
        block = GNNLayer(CONVS[conv](3, 4))
        changes = not torch.equal(block(graph, x, edge), block(graph, x, change(edge, lambda edge: edge + 1)))
        assert changes == (conv != "pred_edge")


def test_dropped_edges_are_gone_for_layer_and_weights_alike():
    graph, x, weight = random_graph(), torch.randn(11, 3), torch.rand(23)
    conv, drop = GATConv(3, 2, 2), DropEdge(0.5)
    torch.manual_seed(3)
    actual = GNNLayer(conv, drop_edge=drop)(graph, x, weight)
    torch.manual_seed(3)
    smaller, values = drop(graph, weight)
    assert smaller.num_edges() < 23
    assert torch.equal(actual, concat_heads(conv(smaller, x, values)))


def test_heads_are_merged():
    y = torch.randn(5, 3, 2, 4)
    assert torch.equal(concat_heads(y), y.view(5, 3, 8))
    torch.testing.assert_close(mean_heads(y), (y[:, :, 0] + y[:, :, 1]) / 2)
    graph, x, conv = random_graph(), torch.randn(11, 6, 3), GATConv(3, 4, 2)
    assert GNNLayer(conv)(graph, x).shape == (11, 6, 8)
    torch.testing.assert_close(GNNLayer(conv, merge=mean_heads)(graph, x), conv(graph, x).mean(-2))


def test_foreign_layers_serve_in_a_block():
    graph = symmetric_graph()
    x = torch.randn(11, 3)
    for conv in (
        dgl.nn.GraphConv(3, 4),
        dgl.nn.GATConv(3, 2, 2),
        dgl.nn.SAGEConv(3, 4, "mean"),
        dgl.nn.TAGConv(3, 4, k=2),
    ):
        y = GNNLayer(
            conv,
            norm=BatchNorm(4),
            skip=Residual(3, 4),
            activation=nn.ReLU(),
            dropout=nn.Dropout(0.1),
            drop_edge=DropEdge(0.2),
        )(graph, x)
        assert y.shape == (11, 4)


def test_a_foreign_layer_equals_ours_in_a_stack():
    graph, x = symmetric_graph(), torch.randn(11, 3, dtype=torch.float64)
    ours, theirs = (
        Stack.build(conv, 3, 4, 2, 4, norm=LayerNorm, skip=Residual).double() for conv in (GCNConv, dgl.nn.GraphConv)
    )
    ours.load_state_dict(theirs.state_dict())
    torch.testing.assert_close(ours(graph, x), theirs(graph, x), rtol=0, atol=1e-12)


# ---------------------------------------------------------------- stack


def test_a_stack_is_its_parts_in_a_row():
    graph, x = random_graph(), torch.randn(11, 3)
    model = Stack.build(
        GCNConv, 3, 4, 2, 3, norm=LayerNorm, skip=InitialResidual, encoder=True, jump=JumpingKnowledge.cat
    )
    x0 = h = model.encoder(x)
    outputs = []
    for block in model.blocks:
        y = block.norm(graph, block.conv(graph, h))
        h = block.activation(block.skip(y, h, x0))
        outputs.append(h)
    torch.testing.assert_close(model(graph, x), model.head(torch.cat(outputs, 1)))
    assert [block.skip.beta for block in model.blocks] == pytest.approx([0.405465, 0.223144, 0.154151], abs=1e-6)


def test_the_last_block_is_bare_without_a_head():
    model = Stack.build(GCNConv, 3, 4, 2, 3, norm=LayerNorm, skip=Residual)
    assert model.head is None
    last = model.blocks[-1]
    assert (last.norm, last.skip, last.activation) == (None, None, None)
    assert [(block.conv.in_feats, block.conv.out_feats) for block in model.blocks] == [(3, 4), (4, 4), (4, 2)]
    headed = Stack.build(GCNConv, 3, 4, 2, 3, norm=LayerNorm, head=True)
    assert headed.blocks[-1].norm is not None
    assert headed(random_graph(), torch.ones(11, 3)).shape == (11, 2)


def test_blocks_share_no_parameters():
    model = Stack.build(GCNConv, 4, 4, 4, 3, norm=BatchNorm, skip=InitialResidual, encoder=True)
    storages = [p.data_ptr() for p in model.parameters()]
    assert len(set(storages)) == len(storages)


def test_several_signals_go_through_a_stack():
    graph, x = random_graph(), torch.randn(11, 6, 3)
    model = Stack.build(
        GCNConv, 3, 4, 2, 3, norm=PairNorm, skip=Residual, jump=JumpingKnowledge.lstm, readout=readout_max
    )
    y = model(graph, x)
    assert y.shape == (1, 6, 2)
    for s in range(6):
        torch.testing.assert_close(y[:, s], model(graph, x[:, s]), rtol=0, atol=1e-5)


def test_state_dicts_round_trip():
    def make():
        return Stack.build(GINConv, 3, 4, 2, 3, norm=BatchNorm, skip=Residual, jump=JumpingKnowledge.lstm)

    graph, x = random_graph(), torch.randn(11, 3)
    one, other = make(), make()
    one(graph, x)
    other.load_state_dict(one.state_dict())
    assert torch.equal(one.eval()(graph, x), other.eval()(graph, x))


def test_wrong_numbers_of_graphs_and_edges_are_refused():
    model = Stack.build(GCNConv, 3, 4, 2, 3)
    blocks = sampled_blocks(2)
    x = torch.ones(blocks[0].num_src_nodes(), 3)
    with pytest.raises(ValueError, match=r"expected 3 message-flow graphs \(DGL blocks\), one per layer, got 2"):
        model(blocks, x)
    with pytest.raises(ValueError, match="Stack: expected 3 edge tensors, one per layer, got 1"):
        model(random_graph(), torch.ones(11, 3), [torch.ones(23)])
    with pytest.raises(ValueError, match="Stack: expected num_layers >= 1, got 0"):
        Stack.build(GCNConv, 3, 4, 2, 0)


def test_wrong_widths_are_refused_inside_a_stack():
    with pytest.raises(ValueError, match=r"GCNConv: expected x of shape \(11, ..., 3\), got \(11, 5\)"):
        Stack.build(GCNConv, 3, 4, 2, 2)(random_graph(), torch.ones(11, 5))


# ---------------------------------------------------------------- widths, dropout, no blocks


def test_a_block_takes_the_width_of_the_skip_before():
    graph, x = random_graph(), torch.randn(11, 3)
    model = Stack.build(GCNConv, 3, 4, 2, 5, norm=LayerNorm, skip=DenseConnection)
    assert [(block.conv.in_feats, block.conv.out_feats) for block in model.blocks] == [
        (3, 4),
        (7, 4),
        (11, 4),
        (15, 4),
        (19, 2),
    ]
    assert model(graph, x).shape == (11, 2)
    headed = Stack.build(GCNConv, 3, 4, 2, 5, skip=DenseConnection, encoder=True, readout=readout_mean)
    assert headed.head[-1].in_features == 4 + 5 * 4
    assert headed(graph, x).shape == (1, 2)
    with pytest.raises(ValueError, match="a jump needs outputs of one width, got 4 and 24"):
        Stack.build(GCNConv, 3, 4, 2, 5, skip=DenseConnection, encoder=True, jump=JumpingKnowledge.max)


def test_dropout_is_a_probability_or_a_module():
    graph, x = random_graph(), torch.ones(11, 3)
    drop = DropNode(0.5)
    model = Stack.build(GCNConv, 3, 4, 2, 3, dropout=drop, head=True)
    assert [block.dropout for block in model.blocks] == [drop] * 3
    assert model.head[0] is drop
    torch.manual_seed(0)
    actual = model.blocks[0](graph, x)
    torch.manual_seed(0)
    torch.testing.assert_close(actual, model.blocks[0].conv(graph, drop(x)).relu())
    assert [block.dropout.p for block in Stack.build(GCNConv, 3, 4, 2, 3, dropout=0.25).blocks] == [0.25] * 3


def test_no_blocks_at_all():
    graph, x = random_graph(), torch.randn(11, 3)
    encoder, head = nn.Linear(3, 4), nn.Linear(4, 2)
    for checkpoint in (False, True):
        model = Stack([], encoder=encoder, readout=readout_mean, head=head, checkpoint=checkpoint)
        torch.testing.assert_close(model(graph, x), head(encoder(x).mean(0, keepdim=True)))
    assert Stack([])(graph, x) is x


# ---------------------------------------------------------------- memory


def saved_bytes(model, graph, x):
    """What the backward pass is left with after the forward pass, parameters apart."""
    actual = {}

    def keep(t):
        actual[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t

    x = x.clone().requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        y = model(graph, x)
    for p in model.parameters():
        actual.pop(p.untyped_storage().data_ptr(), None)
    y.sum().backward()
    return sum(actual.values())


@pytest.mark.slow
@all_convs
@pytest.mark.parametrize("jump", ["none", "cat"])
@pytest.mark.parametrize("num_layers", [1, 2, 7])
def test_checkpoints_change_nothing(conv, jump, num_layers):
    """Outputs, gradients and every random draw, also those after the forward pass and after the backward."""
    graph = random_graph()
    x, edge = feed(graph, conv)
    actual = {}
    for checkpoint in (False, True):
        torch.manual_seed(0)
        remedies = dict(norm=LayerNorm, skip=InitialResidual, jump=JUMPS[jump], drop_edge=DropEdge(0.3), dropout=0.3)
        model = Stack.build(CONVS[conv], 3, 4, 6, num_layers, encoder=True, checkpoint=checkpoint, **remedies)
        model(graph, x, edge).square().sum().backward()
        grads = [p.grad for p in model.parameters()]
        actual[checkpoint] = [model(graph, x, edge), torch.rand(3), *grads, model.eval()(graph, x, edge)]
    torch.testing.assert_close(actual[True], actual[False], rtol=0, atol=0)


def test_checkpoints_on_sampled_blocks_with_gradients_of_gradients():
    blocks = sampled_blocks(2)
    x = torch.randn(blocks[0].num_src_nodes(), 3, dtype=torch.float64, requires_grad=True)
    actual = []
    for checkpoint in (False, True):
        torch.manual_seed(0)
        model = Stack.build(CONVS["gat"], 3, 4, 2, 2, activation=nn.ELU, checkpoint=checkpoint).double()
        (grad,) = torch.autograd.grad(model(blocks, x).square().sum(), x, create_graph=True)
        actual.append(torch.autograd.grad(grad.square().sum(), [x, *model.parameters()], allow_unused=True))
    torch.testing.assert_close(actual[1], actual[0], rtol=0, atol=1e-12)


@pytest.mark.slow
def test_memory_grows_with_the_square_root_of_depth():
    graph, x = random_graph(60, 300), torch.randn(60, 32)

    def measure(num_layers, **options):
        torch.manual_seed(0)
        model = Stack.build(GCNConv, 32, 32, 32, num_layers, norm=LayerNorm, dropout=0.5, **options)
        return saved_bytes(model, graph, x)

    plain, recomputed = ([measure(n, checkpoint=c) for n in (64, 256)] for c in (False, True))
    assert plain[1] / plain[0] == pytest.approx(4, rel=0.1)
    assert recomputed[1] / recomputed[0] == pytest.approx(2, rel=0.1)
    assert recomputed[0] < plain[0] / 10
    rows = x.numel() * 4
    assert measure(64, checkpoint=True, jump=JumpingKnowledge.max) > 64 * rows, "a jump keeps all outputs"


def test_reversible_in_one_line():
    graph, x = random_graph(60, 300), torch.randn(60, 3)
    model = Stack.build(GCNConv, 3, 32, 2, 6, norm=LayerNorm, dropout=0.2, reversible=4)
    (blocks,) = model.blocks
    assert [len(block.parts) for block in blocks.blocks] == [4] * 6
    assert {(part.conv.in_feats, part.conv.out_feats) for block in blocks.blocks for part in block.parts} == {(8, 8)}
    y = model(graph, x)
    assert y.shape == (60, 2)
    learns(model, y)
    model.eval()
    h = model.encoder(x)
    for block in blocks.blocks:
        h = block(graph, h)
    torch.testing.assert_close(model(graph, x), model.head(h))
    few, many = (saved_bytes(Stack.build(GCNConv, 3, 32, 2, n, reversible=2), graph, x) for n in (4, 40))
    assert few == many


@pytest.mark.parametrize(
    ("options", "got"),
    [
        (dict(reversible=3), "4 features in 3 groups"),
        (dict(reversible=2, jump=JumpingKnowledge.max), "jump=.*max.*head=None"),
        (dict(reversible=2, head=False), "jump=None, head=False"),
    ],
)
def test_invalid_reversible_stacks(options, got):
    with pytest.raises(ValueError, match=f"no jump, and a head, got {got}"):
        Stack.build(GCNConv, 3, 4, 2, 2, **options)


def test_a_custom_encoder_makes_the_first_features():
    codes, graph = torch.tensor([[0, 1], [2, 0], [1, 1]]), dgl.graph(([0, 1, 2], [1, 2, 0]))
    encoder = SumOfEmbeddings([3, 2], 4)
    model = Stack.build(GCNConv, 2, 4, 5, 2, encoder=encoder, skip=InitialResidual)
    assert model.encoder is encoder
    h = x0 = encoder(codes)
    for block in model.blocks:
        h = block(graph, h, None, x0)
    assert torch.equal(model(graph, codes), model.head(h))
