"""Readouts: DGL's where it has them, and a loop over graphs."""

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gnnlib import (
    FlatReadout,
    GCNConv,
    MaxReadout,
    MeanMaxReadout,
    MeanReadout,
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
