"""The advice of `diagnose` is a line of code: each one is executed as printed, and its network does not fail."""

import inspect
import re
from functools import partial

import pytest
import torch
from torch import nn

import gnnlib
from gnnlib import GATConv, GCNConv, GINConv, InitialResidual, PairNorm, SAGEConv, Stack
from gnnlib._platform.dgl import dgl
from gnnlib.analysis import diagnose
from gnnlib.analysis.smoothing.advice import REMEDIES, advise, sizes_of
from gnnlib.nn import conv as layers
from gnnlib.testing.graphs import random_graph

torch.manual_seed(0)
GRAPH = dgl.add_self_loop(dgl.graph(tuple(torch.randint(100, (2, 800))), num_nodes=100))
X, LABELS = torch.randn(100, 16), torch.randint(4, (100,))


class Own(nn.Module):
    """A layer of a user, which no name of the library stands for."""

    def __init__(self, in_feats, out_feats):
        super().__init__()
        self.linear = nn.Linear(in_feats, out_feats)

    def forward(self, graph, x):
        return gnnlib.aggregate(graph, self.linear(x), reduce="mean")


def sequential():
    return dgl.nn.utils.Sequential(*(dgl.nn.GraphConv(16 if i == 0 else 8, 8) for i in range(12)))


MODELS = {
    "gcn": lambda: Stack.build(GCNConv, 16, 32, 4, 16),
    "gat": lambda: Stack.build(lambda i, o: GATConv(i, o // 2, 2), 16, 32, 4, 16),
    "sage": lambda: Stack.build(SAGEConv, 16, 24, 4, 16),
    "gin": lambda: Stack.build(GINConv, 16, 24, 4, 16),
    "right": lambda: Stack.build(partial(GCNConv, norm="right"), 16, 32, 4, 16),
    "normed": lambda: Stack.build(GCNConv, 16, 32, 4, 16, norm=PairNorm),
    "residual": lambda: Stack.build(GCNConv, 16, 32, 4, 16, skip="residual", encoder=True),
    "initial": lambda: Stack.build(GCNConv, 16, 32, 4, 16, skip=InitialResidual, encoder=True, norm=PairNorm),
    "readout": lambda: Stack.build(GCNConv, 16, 32, 4, 16, readout=gnnlib.readout_max),
    "readout module": lambda: Stack.build(GCNConv, 16, 32, 4, 16, readout="mean-max"),
    "own readout": lambda: Stack.build(GCNConv, 16, 32, 4, 16, readout=lambda graph, x: x.mean(0, keepdim=True)),
    "own layer": lambda: Stack.build(Own, 16, 32, 4, 16),
    "of dgl": sequential,
    "mlp": lambda: nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 4)),
    "one layer": lambda: GCNConv(16, 4),
}
LINE = re.compile(r"^gnnlib\.Stack\.build\(.*\)  # .+$")


def run(advice):
    assert LINE.match(advice), advice
    torch.manual_seed(1)
    return eval(advice, {"gnnlib": gnnlib})


@pytest.mark.parametrize("cause", REMEDIES)
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.slow
def test_every_advice_runs_as_printed_and_fits_the_model(name, cause):
    """A stack that takes the model's input and gives an output of its shape, as deep as it, with another remedy."""
    torch.manual_seed(0)
    model = MODELS[name]()
    diagnosis = diagnose(model, GRAPH, X)
    advised = run(advise(cause, diagnosis.sizes))
    plain = type(model) is nn.Sequential
    output = model(X) if plain else model(GRAPH, X)
    assert advised(GRAPH, X).shape == output.shape
    assert repr(advised) != repr(model)
    if isinstance(model, Stack):
        assert len(advised.blocks) in (len(model.blocks), len(model.blocks) // 2)


@pytest.mark.parametrize("name", ["gcn", "gat", "sage", "right", "own layer"])
@pytest.mark.slow
def test_the_advice_cures_a_fresh_network(name):
    """Followed once, or twice, it ends the over-smoothing at the same depth."""
    torch.manual_seed(0)
    diagnosis = diagnose(MODELS[name](), GRAPH, X)
    assert diagnosis.verdict == "over-smoothing"
    followed = [diagnosis]
    while followed[-1].verdict == "over-smoothing" and len(followed) < 3:
        followed.append(diagnose(run(followed[-1].advice), GRAPH, X))
    assert followed[-1].verdict != "over-smoothing"
    assert followed[-1].sizes.num_layers == 16


def test_advice_ends_in_fewer_layers():
    """Followed again and again, it runs out of remedies and halves the depth."""
    sizes = diagnose(MODELS["gcn"](), GRAPH, X).sizes
    seen = []
    for _ in range(5):
        model = run(advise("over-smoothing", sizes))
        seen.append(repr(model))
        sizes = sizes_of(model, GRAPH, X, model(GRAPH, X), [32] * len(model.blocks))
        sizes = sizes._replace(
            keywords=sizes.keywords | ({"jump": "gnnlib.JumpingKnowledge.max"} if model.jump else {})
        )
    assert len(set(seen)) == 5
    assert len(model.blocks) < 16


def test_a_healthy_network_gets_a_comment():
    diagnosis = diagnose(Stack.build(GCNConv, 16, 32, 4, 2), GRAPH, X)
    assert (diagnosis.verdict, diagnosis.advice) == ("none", "# nothing to change")
    exec(diagnosis.advice, {})


def test_layers_of_the_library_that_two_widths_make_are_named():
    """Each layer keeps its class and its options of plain values; one that needs more becomes a GCN."""
    graph = random_graph(11, 23)
    graph.edata["_TYPE"] = torch.arange(23) % 3
    for name in layers.__all__:
        kind = getattr(layers, name)
        if not inspect.isclass(kind) or name == "Conv":
            continue
        required = [n for n, p in inspect.signature(kind).parameters.items() if p.default is p.empty]
        extra = {
            "edge_feats": 2,
            "num_heads": 2,
            "dim": 2,
            "num_kernels": 3,
            "pos_feats": 2,
            "kernel_size": (3, 3),
            "k": 2,
            "delta": 1.0,
            "num_rels": 3,
        }
        conv = kind(4, 4, **{n: extra[n] for n in required[2:]})
        text = sizes_of(nn.ModuleList([conv]), graph, torch.ones(11, 4), torch.ones(11, 4), [4, 4]).conv
        module = eval(text, {"gnnlib": gnnlib})(8, 8)
        assert isinstance(module, kind) or text == "gnnlib.GCNConv", (name, text)
        if text.startswith("lambda"):
            assert module.extra_repr().split(", ")[2:] == conv.extra_repr().split(", ")[2:], name
