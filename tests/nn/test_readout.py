"""Readouts: DGL's and PyG's where they have them, and a loop over graphs."""

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import gnnlib
from gnnlib import (
    AttentionReadout,
    FlatReadout,
    GCNConv,
    MaxReadout,
    MeanMaxReadout,
    MeanReadout,
    Set2Set,
    SortPool,
    Stack,
    SumReadout,
    readout_flat,
    readout_max,
    readout_mean,
    readout_mean_max,
    readout_sum,
)
from gnnlib._platform.dgl import dgl
from gnnlib.testing.graphs import GRAPHS, batch, clique, edgeless, graph_strategy, path, random_graph

READOUTS = {"sum": readout_sum, "mean": readout_mean, "max": readout_max}
LOOP = {"sum": lambda x: x.sum(0), "mean": lambda x: x.mean(0), "max": lambda x: x.amax(0)}
all_functions = pytest.mark.parametrize("how", READOUTS)


@all_functions
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-14)])
def test_equal_to_dgls(how, dtype, tolerance):
    graph = dgl.batch([random_graph(6, 9), path(4), clique(3), edgeless(1)])
    x = torch.randn(14, 3, dtype=dtype, requires_grad=True)
    with graph.local_scope():
        graph.ndata["x"] = x
        expected = getattr(dgl, f"{how}_nodes")(graph, "x")
        actual = READOUTS[how](graph, x)
    torch.testing.assert_close(actual, expected, rtol=0, atol=tolerance)
    loss = torch.randn(4, 3, dtype=dtype)
    ours, theirs = (torch.autograd.grad(y, x, loss)[0] for y in (actual, expected))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=tolerance)


@all_functions
@settings(deadline=None, max_examples=30, derandomize=True)
@given(st.lists(graph_strategy(max_nodes=4, max_edges=4), min_size=1, max_size=5), st.sampled_from([(), (2,), (2, 1)]))
def test_equal_to_a_loop_and_zero_for_no_nodes(how, graphs, signals):
    sizes = [g.num_nodes() for g in graphs]
    x = torch.randn(sum(sizes), *signals, 3, dtype=torch.float64)
    y = READOUTS[how](dgl.batch(graphs), x)
    assert y.shape == (len(graphs), *signals, 3)
    for row, part in zip(y, x.split(sizes)):
        expected = LOOP[how](part) if len(part) else torch.zeros_like(row)
        torch.testing.assert_close(row, expected, rtol=0, atol=1e-14)


@all_functions
def test_empty_graphs_first_in_the_middle_and_last(how):
    graph = dgl.batch([edgeless(0), path(2), edgeless(0), edgeless(0), path(3), edgeless(0)])
    x = torch.randn(5, 2) - 10
    y = READOUTS[how](graph, x)
    assert (y == 0).all(1).tolist() == [True, False, True, True, False, True]
    torch.testing.assert_close(y[[1, 4]], torch.stack([LOOP[how](x[:2]), LOOP[how](x[2:])]))


@all_functions
def test_differentiable_twice(how):
    graph = dgl.batch([path(3), edgeless(0), path(2)])
    x = torch.randn(5, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: READOUTS[how](graph, x), x)
    assert torch.autograd.gradgradcheck(lambda x: READOUTS[how](graph, x).pow(3), x)


@all_functions
@pytest.mark.parametrize("name", GRAPHS)
def test_every_graph(how, name):
    graph = GRAPHS[name]()
    x = torch.randn(graph.num_dst_nodes(), 3)
    y = READOUTS[how](graph, x)
    assert y.shape == (1 if graph.is_block else graph.batch_size, 3)
    if len(y) == 1 and len(x):
        torch.testing.assert_close(y[0], LOOP[how](x))


@all_functions
def test_permutation_within_a_graph(how):
    graph, x = batch(), torch.randn(13, 3, dtype=torch.float64)
    order = torch.cat([torch.randperm(6), 6 + torch.randperm(3), 9 + torch.randperm(4)])
    torch.testing.assert_close(READOUTS[how](graph, x[order]), READOUTS[how](graph, x), rtol=0, atol=1e-14)


@all_functions
def test_same_bits_twice(how):
    graph, x = dgl.batch([random_graph(200, 300)] * 20), torch.randn(4000, 16)
    assert torch.equal(READOUTS[how](graph, x), READOUTS[how](graph, x))


@all_functions
def test_wrong_rows_are_refused(how):
    with pytest.raises(ValueError, match=r"expected 13 rows.*\(14, 3\)"):
        READOUTS[how](batch(), torch.ones(14, 3))


def test_flat_lays_nodes_side_by_side():
    graph, x = dgl.batch([path(3), clique(3)]), torch.randn(6, 2)
    assert torch.equal(readout_flat(graph, x), x.view(2, 6))
    signals = torch.randn(6, 5, 2)
    y = readout_flat(graph, signals)
    assert y.shape == (2, 5, 6)
    for s in range(5):
        assert torch.equal(y[:, s], signals[:, s].reshape(2, 6))


def test_flat_needs_equal_sizes():
    with pytest.raises(ValueError, match="equal size, got 2 to 3"):
        readout_flat(dgl.batch([path(2), path(3)]), torch.ones(5, 1))


def test_mean_and_maximum_side_by_side():
    graph, x = batch(), torch.randn(batch().num_nodes(), 2, 3)
    both = readout_mean_max(graph, x)
    assert torch.equal(both, torch.cat([readout_mean(graph, x), readout_max(graph, x)], -1))


# ---------------------------------------------------------------- modules


MODULES = [
    (SumReadout, readout_sum, 1),
    (MeanReadout, readout_mean, 1),
    (MaxReadout, readout_max, 1),
    (MeanMaxReadout, readout_mean_max, 2),
    (partial(FlatReadout, num_nodes=3), readout_flat, 3),
]
modules = pytest.mark.parametrize(("make", "function", "factor"), MODULES)


@modules
def test_modules_equal_functions(make, function, factor):
    graph, x, readout = dgl.batch([path(3), clique(3)]), torch.randn(6, 2, 4), make(4)
    assert torch.equal(readout(graph, x), function(graph, x))
    assert (readout.in_feats, readout.out_feats) == (4, 4 * factor)
    assert not list(readout.parameters())


@modules
def test_a_stack_builds_its_head_for_the_readout(make, function, factor):
    graph, x = dgl.batch([path(3), clique(3)]), torch.randn(6, 2)
    for readout in (make, make(4)):
        model = Stack.build(GCNConv, 2, 4, 5, num_layers=2, readout=readout)
        assert model.head[1].in_features == 4 * factor
        y = model.blocks[1](graph, model.blocks[0](graph, x))
        torch.testing.assert_close(model(graph, x), model.head(function(graph, y)))
    if factor == 1:
        model = Stack.build(GCNConv, 2, 4, 5, num_layers=2, readout=function)
        assert model(graph, x).shape == (2, 5)


def test_module_representations():
    assert repr(SumReadout(4)) == "SumReadout(4)"
    assert repr(FlatReadout(4, num_nodes=3)) == "FlatReadout(4, 3)"


def test_flat_module_needs_its_number_of_nodes():
    with pytest.raises(ValueError, match="FlatReadout: expected graphs of 3 nodes, got 2"):
        FlatReadout(4, 3)(dgl.batch([path(2), path(2)]), torch.ones(4, 4))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: SumReadout(0), ValueError, "SumReadout: expected in_feats >= 1, got 0"),
        (lambda: FlatReadout(4, 0), ValueError, "FlatReadout: expected num_nodes >= 1, got 0"),
        (lambda: AttentionReadout(4, 0), ValueError, "AttentionReadout: expected out_feats >= 1, got 0"),
        (
            lambda: AttentionReadout(nn.Linear(4, 1)),
            ValueError,
            "AttentionReadout: expected an integer in_feats >= 1, got a Linear; pass networks by name",
        ),
        (
            lambda: AttentionReadout(4, gate_nn="linear"),
            TypeError,
            "AttentionReadout: expected gate_nn to be a module, got 'linear'",
        ),
        (
            lambda: AttentionReadout(4, gate_nn=nn.Linear(4, 2))(path(2), torch.ones(2, 4)),
            ValueError,
            "AttentionReadout: expected outputs of width 4, or 1 of gate_nn, got 2 of gate_nn and 4 of feat_nn",
        ),
        (lambda: Set2Set(4, num_steps=0), ValueError, "Set2Set: expected num_steps >= 1, got 0"),
        (lambda: Set2Set(4, num_layers=0), ValueError, "Set2Set: expected num_layers >= 1, got 0"),
        (lambda: Set2Set(4, processing_steps=3), TypeError, "Set2Set: expected num_steps, got processing_steps="),
        (lambda: SortPool(4, 0.6), ValueError, "SortPool: expected an integer k >= 1, got 0.6"),
        *(
            (
                lambda kind=kind: kind(4)(path(2), torch.ones(2, 3)),
                ValueError,
                rf"{kind.__name__}: expected x of shape \(..., 4\), got \(2, 3\)",
            )
            for kind in (AttentionReadout, Set2Set, SortPool)
        ),
        (lambda: MeanReadout(in_channels=4), TypeError, "MeanReadout: expected in_feats, got in_channels="),
        (
            lambda: Stack.build(GCNConv, 2, 4, 5, 2, readout=SumReadout(8)),
            ValueError,
            r"Stack: expected a readout with in_feats 4, got SumReadout\(8\)",
        ),
        (
            lambda: Stack.build(GCNConv, 2, 4, 5, 2, readout=readout_mean_max),
            ValueError,
            "Stack: expected MeanMaxReadout, .*got the function readout_mean_max",
        ),
        (
            lambda: Stack.build(GCNConv, 2, 4, 5, 2, readout=readout_flat),
            ValueError,
            r"Stack: expected FlatReadout\(in_feats, num_nodes\), .*got the function readout_flat",
        ),
    ],
)
def test_invalid_arguments(make, error, message):
    with pytest.raises(error, match=message):
        make()


# ---------------------------------------------------------------- attention, Set2Set, SortPool


def by_softmax(score, x):
    return (score.softmax(0) * x).sum(0)


def attention(readout, x):
    return by_softmax(readout.gate_nn(x), readout.feat_nn(x) if readout.feat_nn else x)


def set2set(readout, x):
    """PyTorch's LSTM, a step at a time."""
    y, state = x.new_zeros(1, readout.out_feats), None
    for _ in range(readout.num_steps):
        query, state = readout.lstm(y, state)
        y = torch.cat([query, by_softmax(x @ query.T, x)[None]], 1)
    return y[0]


def sort_pool(readout, x):
    rows = sorted(x, key=lambda row: -row[-1])[: readout.k]
    return torch.cat([*rows, x.new_zeros(readout.out_feats - len(rows) * readout.in_feats)])


def mlp(in_feats, out_feats):
    return nn.Sequential(nn.Linear(in_feats, 5), nn.Tanh(), nn.Linear(5, out_feats))


LEARNED = {  # what makes it of its width, the loop over graphs, and the ratio of the widths
    "attention": (AttentionReadout, attention, 1),
    "attention of another width": (lambda i: AttentionReadout(i, 2 * i), attention, 2),
    "attention by feature": (lambda i: AttentionReadout(i, 2 * i, gate_nn=mlp(i, 2 * i)), attention, 2),
    "set2set": (Set2Set, set2set, 2),
    "set2set of two layers": (partial(Set2Set, num_steps=2, num_layers=2), set2set, 2),
    "sort": (partial(SortPool, k=3), sort_pool, 3),
}
learned = pytest.mark.parametrize("kind", LEARNED)


def learned_readout(kind):
    torch.manual_seed(0)
    return LEARNED[kind][0](3).double()


@learned
@settings(deadline=None, max_examples=15, derandomize=True)
@given(st.lists(graph_strategy(max_nodes=5, max_edges=4), min_size=1, max_size=4), st.sampled_from([(), (2,), (2, 1)]))
def test_learned_equals_a_loop(kind, graphs, signals):
    """Graphs without nodes and signals included."""
    readout, loop = learned_readout(kind), LEARNED[kind][1]
    sizes = [g.num_nodes() for g in graphs]
    x = torch.randn(sum(sizes), *signals, 3, dtype=torch.float64)
    y = readout(dgl.batch(graphs), x)
    assert y.shape == (len(graphs), *signals, readout.out_feats)
    y, x = (t.flatten(1, -2) if signals else t.unsqueeze(1) for t in (y, x))
    for rows, part in zip(y, x.split(sizes), strict=True):
        for row, signal in zip(rows, part.unbind(1), strict=True):
            torch.testing.assert_close(row, loop(readout, signal), rtol=0, atol=1e-12)


@learned
@pytest.mark.parametrize("name", GRAPHS)
def test_learned_on_every_graph(kind, name):
    graph, readout = GRAPHS[name](), learned_readout(kind)
    x = torch.randn(graph.num_dst_nodes(), 3, dtype=torch.float64)
    y = readout(graph, x)
    assert y.shape == (1 if graph.is_block else graph.batch_size, readout.out_feats)
    if len(y) == 1:
        torch.testing.assert_close(y[0], LEARNED[kind][1](readout, x), rtol=0, atol=1e-12)


@learned
def test_learned_is_differentiable_twice(kind):
    graph, readout = dgl.batch([path(3), edgeless(0), path(4)]), learned_readout(kind)
    parameters = list(readout.parameters())
    x = torch.randn(7, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, *_: readout(graph, x), [x, *parameters], fast_mode=True)
    assert torch.autograd.gradgradcheck(lambda x, *_: readout(graph, x).pow(3), [x, *parameters], fast_mode=True)


@learned
def test_learned_is_invariant_to_permutations_and_gives_the_same_bits_twice(kind):
    graph, readout, x = batch(), learned_readout(kind), torch.randn(13, 3, dtype=torch.float64)
    order = torch.cat([torch.randperm(6), 6 + torch.randperm(3), 9 + torch.randperm(4)])
    torch.testing.assert_close(readout(graph, x[order]), readout(graph, x), rtol=0, atol=1e-12)
    assert torch.equal(readout(graph, x), readout(graph, x))


@learned
def test_learned_in_half_precision(kind):
    graph, readout = batch(), learned_readout(kind)
    x = torch.linspace(-1, 1, 39, dtype=torch.float64).view(13, 3)
    expected = readout(graph, x)
    y = readout.bfloat16()(graph, x.bfloat16())
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.double(), expected, rtol=0.05, atol=0.05)


@learned
def test_learned_in_a_stack(kind):
    graph, x, factor = dgl.batch([path(3), clique(3)]), torch.randn(6, 2), LEARNED[kind][2]
    model = Stack.build(GCNConv, 2, 4, 5, num_layers=2, readout=LEARNED[kind][0](4))
    assert model.head[1].in_features == 4 * factor
    y = model.blocks[1](graph, model.blocks[0](graph, x))
    torch.testing.assert_close(model(graph, x), model.head(model.readout(graph, y)))


@pytest.mark.parametrize(("name", "kind"), [("attention", AttentionReadout), ("set2set", Set2Set), ("sort", SortPool)])
def test_learned_by_name_trains_and_loads(name, kind, tmp_path):
    graph, x = dgl.batch([path(3), clique(3)]), torch.randn(6, 2)
    model = Stack.build(GCNConv, 2, 4, 5, num_layers=2, readout=name)
    assert type(model.readout) is kind
    model(graph, x).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    gnnlib.save_model(model, tmp_path)
    assert torch.equal(gnnlib.load_model(tmp_path)(graph, x), model(graph, x))


def test_sorted_nodes_of_the_same_last_feature_stay_in_order():
    x = torch.tensor([[1.0, 0.0], [2.0, 3.0], [3.0, 0.0], [4.0, 3.0]])
    assert SortPool(2, k=4)(path(4), x).tolist() == [[2.0, 3.0, 4.0, 3.0, 1.0, 0.0, 3.0, 0.0]]


def test_attention_of_equal_scores_is_the_mean_and_of_one_large_score_its_node():
    graph, x = dgl.batch([path(6), clique(3), path(4)]), torch.randn(13, 3, dtype=torch.float64)
    gate = nn.Linear(3, 1).double()
    readout = AttentionReadout(3, gate_nn=gate)
    nn.init.zeros_(gate.weight)
    torch.testing.assert_close(readout(graph, x), readout_mean(graph, x), rtol=0, atol=1e-12)
    x[[2, 7, 12], 0] = 10
    nn.init.constant_(gate.weight[:, :1], 100.0)
    torch.testing.assert_close(readout(graph, x), x[[2, 7, 12]], rtol=0, atol=1e-12)


def with_gradients(call, module, x):
    """The output, and its gradients by x and all parameters."""
    x = x.clone().requires_grad_()
    y = call(module, x)
    weight = torch.linspace(-1, 1, y.numel()).view(y.shape)
    return [y, *torch.autograd.grad((weight * y).sum(), [x, *module.parameters()])]


def assert_equal_to_another(ours, call, theirs, other_call):
    """With copied weights, values and gradients to 1e-5 in single precision."""
    ours.load_state_dict(dict(zip(ours.state_dict(), theirs.state_dict().values(), strict=True)))
    x = torch.randn(13, 3)
    for a, b in zip(with_gradients(call, ours, x), with_gradients(other_call, theirs, x), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("make", "other"),
    [
        (
            lambda: AttentionReadout(3, 4, feat_nn=nn.Linear(3, 4)),
            lambda: dgl.nn.GlobalAttentionPooling(nn.Linear(3, 1), nn.Linear(3, 4)),
        ),
        (lambda: Set2Set(3, num_steps=4, num_layers=2), lambda: dgl.nn.Set2Set(3, 4, 2)),
        (lambda: SortPool(3, k=4), lambda: dgl.nn.SortPooling(4)),
    ],
    ids=["attention", "set2set", "sort"],
)
def test_learned_equals_dgls(make, other):
    graph, ours, theirs = batch(), make(), other()

    def call(readout, x):  # DGL sorts the features of each node too
        return readout(graph, x.sort(-1).values if isinstance(readout, SortPool) else x)

    assert_equal_to_another(ours, call, theirs, call)
    assert list(ours.state_dict()) == list(theirs.state_dict())


@pytest.mark.parametrize(
    ("make", "name", "arguments"),
    [
        (
            lambda: AttentionReadout(3, 4, feat_nn=nn.Linear(3, 4)),
            "AttentionalAggregation",
            (nn.Linear(3, 1), nn.Linear(3, 4)),
        ),
        (
            lambda: AttentionReadout(3, 4, gate_nn=nn.Linear(3, 4), feat_nn=nn.Linear(3, 4)),
            "AttentionalAggregation",
            (nn.Linear(3, 4), nn.Linear(3, 4)),
        ),
        (lambda: Set2Set(3, num_steps=4), "Set2Set", (3, 4)),
        (lambda: SortPool(3, k=4), "SortAggregation", (4,)),
    ],
    ids=["attention", "attention by feature", "set2set", "sort"],
)
def test_learned_equals_pygs(make, name, arguments):
    """Graphs without nodes included."""
    aggr = pytest.importorskip("torch_geometric.nn.aggr")
    graph = dgl.batch([path(2), edgeless(0), clique(5), path(6), edgeless(0)])
    index = torch.repeat_interleave(torch.arange(5), graph.batch_num_nodes())
    assert_equal_to_another(
        make(), lambda m, x: m(graph, x), getattr(aggr, name)(*arguments), lambda m, x: m(x, index, dim_size=5)
    )
