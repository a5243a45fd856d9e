"""What `Stack.build` and `GNNLayer` take for their parts: classes, modules, functions, numbers and names."""

from functools import partial

import pytest
import torch
from torch import nn

import gnnlib
from gnnlib import (
    BatchNorm,
    DropEdge,
    DropNode,
    GCNConv,
    GNNLayer,
    JumpingKnowledge,
    LayerNorm,
    PairNorm,
    Residual,
    Stack,
)
from gnnlib.benchmarks.catalog.remedies import make_plan
from gnnlib.nn._factories import FEED_FORWARDS, JUMPS, NORMS, SKIPS
from gnnlib.testing.graphs import random_graph

GRAPH, X = random_graph(), torch.randn(11, 3, generator=torch.Generator().manual_seed(0))


def build(**options):
    torch.manual_seed(0)
    return Stack.build(GCNConv, 3, 4, 2, 3, **options)


SAME = {
    "norm name": (dict(norm="pairnorm"), dict(norm=PairNorm)),
    "norm name of a module": (dict(norm="LayerNorm"), dict(norm=LayerNorm)),
    "norm module": (dict(norm=PairNorm(scale=2.0)), dict(norm=partial(PairNorm, scale=2.0))),
    "norm of torch": (dict(norm=nn.BatchNorm1d), dict(norm=BatchNorm)),
    "layer norm of torch": (dict(norm=nn.LayerNorm), dict(norm=LayerNorm)),
    "feed-forward name": (dict(feed_forward="ffn"), dict(feed_forward=gnnlib.FeedForward)),
    "skip name": (dict(skip="residual"), dict(skip=Residual)),
    "activation name": (dict(activation="elu"), dict(activation=nn.ELU)),
    "activation of torch": (dict(activation=torch.tanh), dict(activation=nn.Tanh)),
    "functional activation": (dict(activation=nn.functional.elu), dict(activation=nn.ELU)),
    "activation module": (dict(activation=nn.LeakyReLU(0.3)), dict(activation=partial(nn.LeakyReLU, 0.3))),
    "no activation": (dict(activation=None, encoder=True), dict(activation=nn.Identity, encoder=True)),
    "dropout class": (dict(dropout=nn.Dropout), dict(dropout=nn.Dropout(0.5))),
    "no dropout": (dict(dropout=None), dict(dropout=0.0)),
    "drop_edge number": (dict(drop_edge=0.5), dict(drop_edge=DropEdge(0.5))),
    "drop_edge class": (dict(drop_edge=DropEdge), dict(drop_edge=DropEdge(0.5))),
    "drop_edge partial": (dict(drop_edge=partial(DropEdge, 0.2)), dict(drop_edge=DropEdge(0.2))),
    "jump name": (dict(jump="cat"), dict(jump=JumpingKnowledge.cat)),
    "jump name of a remedy": (dict(jump="jk-max"), dict(jump=JumpingKnowledge.max)),
    "readout name": (dict(readout="mean_max"), dict(readout=gnnlib.MeanMaxReadout)),
}


@pytest.mark.parametrize("case", SAME)
def test_plain_meanings_are_accepted_and_mean_the_same(case):
    """The same structure, the same draws, the same outputs and gradients of the same names."""
    one, other = (build(**options) for options in SAME[case])
    assert [type(module) for module in one.modules()] == [type(module) for module in other.modules()]
    results = []
    for model in (one, other):
        torch.manual_seed(1)
        y = model(GRAPH, X)
        y.square().sum().backward()
        results.append((y, {name: p.grad for name, p in model.named_parameters()}))
    (y, grads), (expected, expected_grads) = results
    assert torch.equal(y, expected)
    assert grads.keys() == expected_grads.keys()
    assert all(torch.equal(grads[name], expected_grads[name]) for name in grads)


def test_names_are_those_of_the_command_line():
    """Each name of a norm, skip or jump is a remedy too, and the same class there; the LSTM is narrower there."""
    for names, keyword in ((NORMS, "norm"), (SKIPS, "skip"), (FEED_FORWARDS, "feed_forward"), (JUMPS, "jump")):
        for name, factory in names.items():
            actual = make_plan("gcn", name, 4, (8, 8, 8)).keywords[keyword]
            sizes = (8, 8, 1) if keyword == "skip" else (8, 4) if keyword == "jump" else (8,)
            assert name == "jk-lstm" or repr(actual(*sizes)) == repr(factory(*sizes)), name


def test_each_layer_has_its_own_copy_of_a_module():
    model = build(norm=PairNorm(scale=3.0), head=True)
    norms = [block.norm for block in model.blocks]
    assert len({id(norm) for norm in norms}) == 3
    assert {norm.scale for norm in norms} == {3.0}


@pytest.mark.parametrize("layer", [GCNConv(3, 2), gnnlib.GATConv(3, 1, 2), gnnlib.DropMessage(GCNConv(3, 2), 0.0)])
def test_a_layer_is_a_block_of_a_stack(layer):
    weight = torch.rand(23)
    expected = GNNLayer(layer)(GRAPH, X, weight)
    assert torch.equal(Stack([layer])(GRAPH, X, weight), expected)
    assert Stack([layer, layer]).blocks[1].conv is layer


def test_numbers_and_modules_of_torch_in_a_layer():
    torch.manual_seed(0)
    conv, norm = GCNConv(3, 4), nn.BatchNorm1d(4)
    layer = GNNLayer(conv, norm=norm, dropout=0.5, drop_edge=0.25)
    assert (layer.dropout.p, layer.drop_edge.p) == (0.5, 0.25)
    layer.eval()
    assert torch.equal(layer(GRAPH, X), norm(conv(GRAPH, X)))
    assert GNNLayer(conv, dropout=DropNode).dropout.p == 0.5
