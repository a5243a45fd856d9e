"""Models built to have one disease, and what is said of them; a model is left as it was found."""

import math
from functools import partial

import matplotlib
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from gnnlib import (
    BatchNorm,
    GATConv,
    GCNConv,
    GINConv,
    InitialResidual,
    PairNorm,
    Residual,
    SAGEConv,
    SGConv,
    Stack,
    aggregate,
    propagate,
    readout_mean,
)
from gnnlib._platform.dgl import dgl
from gnnlib.analysis.smoothing import Diagnosis, diagnose
from gnnlib.analysis.smoothing.running import find_layers, unlinked
from tests.graphs import bipartite, block, path

matplotlib.use("Agg")
FEATS, CLASSES = 16, 3


def communities(num_nodes=120, inside=0.15, outside=0.01):
    """A stochastic block model with self-loops; noisy features around a point for each class; 40 % to train on."""
    some = torch.Generator().manual_seed(0)
    labels = torch.arange(num_nodes) % CLASSES
    chance = torch.where(labels[:, None] == labels, inside, outside)
    linked = (torch.rand(num_nodes, num_nodes, generator=some) < chance).triu(1)
    graph = dgl.graph((linked | linked.T | torch.eye(num_nodes, dtype=torch.bool)).nonzero(as_tuple=True))
    x = torch.randn(CLASSES, FEATS, generator=some)[labels] + torch.randn(num_nodes, FEATS, generator=some)
    train = torch.rand(num_nodes, generator=some) < 0.4
    noise = torch.randint(CLASSES, (num_nodes,), generator=some)
    return graph, x, labels, noise, train


GRAPH, X, LABELS, NOISE, TRAIN = communities()


def stack(conv, num_layers, width=32, **remedies):
    return Stack.build(conv, FEATS, width, CLASSES, num_layers, **remedies)


def gat(in_feats, out_feats):
    heads = 4 if out_feats % 4 == 0 else 1
    return GATConv(in_feats, out_feats // heads, heads)


def mean_sage(in_feats, out_feats):
    return SAGEConv(in_feats, out_feats, reduce="mean")


def plain(num_layers, activation, gain=None, width=32):
    """A multilayer perceptron; ``gain``: each layer multiplies the length of a random vector by it."""
    layers = []
    for layer in range(num_layers):
        before, after = FEATS if layer == 0 else width, CLASSES if layer == num_layers - 1 else width
        linear = nn.Linear(before, after)
        if gain is not None:
            nn.init.normal_(linear.weight, std=gain * before**-0.5)
        layers += [linear, activation()]
    return nn.Sequential(*layers[:-1])


class Hops(nn.Module):
    """Averages many times with no layer of the library inside, then a perceptron."""

    def __init__(self, num_hops):
        super().__init__()
        self.num_hops, self.mlp = num_hops, plain(2, nn.ReLU)

    def forward(self, graph, x):
        for _ in range(self.num_hops):
            x = propagate(graph, x, norm="right")
        return self.mlp(x)


class OwnConv(nn.Module):
    def __init__(self, in_feats, out_feats):
        super().__init__()
        self.linear = nn.Linear(in_feats, out_feats)

    def forward(self, graph, x):
        return aggregate(graph, self.linear(x), reduce="mean")


class OwnNet(nn.Module):
    """Layers of one's own in a list, with functions in between."""

    def __init__(self, num_layers, gain=1.0):
        super().__init__()
        self.layers = nn.ModuleList(
            OwnConv(FEATS if i == 0 else 32, CLASSES if i == num_layers - 1 else 32) for i in range(num_layers)
        )
        for layer in self.layers:
            nn.init.normal_(layer.linear.weight, std=gain * layer.linear.in_features**-0.5)

    def forward(self, graph, x):
        for layer in self.layers[:-1]:
            x = torch.tanh(layer(graph, x))
        return self.layers[-1](graph, x)


def scaled(model, factor):
    for weight in model.parameters():
        nn.init.constant_(weight, 0) if weight.dim() < 2 else weight.data.mul_(factor)
    return model


def trained(model, labels=LABELS, steps=100, call=lambda model: model(GRAPH, X)):
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(call(model)[TRAIN], labels[TRAIN]).backward()
        optimizer.step()
    return model


def on_features(model):
    return model(X)


def gcnii(num_layers):
    def bare_gcn(in_feats, out_feats):
        return GCNConv(in_feats, out_feats, weight=False, bias=False)

    return stack(bare_gcn, num_layers, skip=InitialResidual, encoder=True)


CASES = [
    ("over-smoothing", LABELS, lambda: stack(GCNConv, 32)),
    ("over-smoothing", LABELS, lambda: stack(gat, 32)),
    ("over-smoothing", LABELS, lambda: trained(SGConv(FEATS, CLASSES, k=400), steps=3)),
    ("over-smoothing", LABELS, lambda: Hops(200)),
    ("vanishing gradients", LABELS, lambda: plain(12, nn.Sigmoid)),
    ("vanishing gradients", LABELS, lambda: trained(plain(30, nn.ReLU), steps=10, call=on_features)),
    ("vanishing gradients", LABELS, lambda: plain(20, nn.Tanh, gain=0.4)),
    ("vanishing gradients", LABELS, lambda: stack(GCNConv, 16, activation=nn.Sigmoid)),
    ("exploding gradients", LABELS, lambda: plain(20, nn.ReLU, gain=3)),
    ("exploding gradients", LABELS, lambda: plain(10, nn.Identity, gain=6)),
    ("exploding gradients", LABELS, lambda: scaled(stack(GCNConv, 16), 6)),
    ("exploding gradients", LABELS, lambda: scaled(stack(mean_sage, 60, skip=Residual), 8)),
    ("overfitting", NOISE, lambda: trained(plain(3, nn.ReLU, width=512), NOISE, call=on_features)),
    ("overfitting", NOISE, lambda: trained(stack(mean_sage, 2, width=512), NOISE)),
    ("overfitting", NOISE, lambda: trained(stack(gat, 2, width=256), NOISE, steps=150)),
    ("overfitting", NOISE, lambda: trained(stack(GCNConv, 8, width=64, skip=Residual, norm=BatchNorm), NOISE)),
    ("none", LABELS, lambda: trained(stack(GCNConv, 2))),
    ("none", LABELS, lambda: trained(stack(GCNConv, 24, skip=Residual, norm=BatchNorm, encoder=True), steps=30)),
    ("none", LABELS, lambda: trained(plain(2, nn.ReLU), call=on_features)),
    ("none", LABELS, lambda: gcnii(32)),
]


@pytest.mark.parametrize("number", range(len(CASES)))
@pytest.mark.parametrize("seed", [0, 1])
def test_the_disease_is_named(number, seed):
    torch.manual_seed(seed)
    disease, labels, build = CASES[number]
    found = diagnose(build(), GRAPH, X, labels, TRAIN, ~TRAIN)
    assert found.verdict == disease, str(found)
    assert (found.layer is None) == (disease in ("overfitting", "none"))


@pytest.mark.parametrize("number", [i for i, case in enumerate(CASES) if case[0] not in ("overfitting", "none")])
def test_diseases_of_depth_are_named_without_labels(number):
    torch.manual_seed(0)
    disease, _, build = CASES[number]
    assert diagnose(build(), GRAPH, X).verdict == disease


@pytest.mark.parametrize("activation", [nn.Sigmoid, nn.Tanh, nn.ReLU])
@pytest.mark.parametrize("num_layers", [16, 32])
def test_what_collapses_without_a_graph_is_never_called_over_smoothing(num_layers, activation):
    """Nodes of a deep perceptron are as alike as those of a deep graph net; only the control tells them apart."""
    torch.manual_seed(0)
    model = plain(num_layers, activation)
    found = diagnose(model, GRAPH, X)
    assert found.layers[-1].distance < 0.01
    assert "over-smoothing" not in [finding.disease for finding in found.findings]
    again = diagnose(stack(GCNConv, num_layers, activation=activation), unlinked(GRAPH), X)
    assert "over-smoothing" not in [finding.disease for finding in again.findings]


def test_a_remedy_takes_the_disease_away():
    verdicts = {}
    for name, remedies in {"none": {}, "pair norm": {"norm": PairNorm}, "batch norm": {"norm": BatchNorm}}.items():
        torch.manual_seed(0)
        verdicts[name] = diagnose(stack(GCNConv, 32, **remedies), GRAPH, X).verdict
    assert verdicts == {"none": "over-smoothing", "pair norm": "none", "batch norm": "none"}


@pytest.mark.parametrize("num_layers", [8, 64])
def test_features_that_point_nearly_one_way_are_not_alike(num_layers):
    """A constant beside what differs: directions are near, as many as before, and no layer takes any away."""
    torch.manual_seed(0)
    average = partial(GCNConv, weight=False, bias=False)
    model = Stack.build(average, FEATS, 32, CLASSES, num_layers, encoder=True, skip=InitialResidual)
    x = X.abs() + 1
    found = diagnose(model, GRAPH, x)
    assert 0 < found.layers[-2].distance < 0.01
    assert "over-smoothing" not in [finding.disease for finding in found.findings]
    plain = diagnose(stack(GCNConv, 64), GRAPH, x)
    assert "over-smoothing" in [finding.disease for finding in plain.findings]


def test_both_diseases_are_listed():
    torch.manual_seed(0)
    found = diagnose(stack(GCNConv, 64), GRAPH, X)
    assert [finding.disease for finding in found.findings] == ["over-smoothing", "vanishing gradients"]


def test_values_that_are_not_finite_are_an_explosion_and_say_where():
    torch.manual_seed(0)
    found = diagnose(plain(20, nn.Identity, gain=1e4), GRAPH, X, LABELS)
    assert found.verdict == "exploding gradients"
    assert "not finite" in found.findings[0].evidence
    assert [layer.finite for layer in found.layers].index(False) == [layer.name for layer in found.layers].index(
        found.layer
    )


def test_the_layer_where_it_starts():
    """Five layers that see no graph, then averaging: it starts when the averaging does."""

    class Late(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList(nn.Linear(FEATS, FEATS) for _ in range(5))
            self.average = SGConv(FEATS, CLASSES, k=400)
            for layer in self.layers:
                nn.init.orthogonal_(layer.weight)

        def forward(self, graph, x):
            for layer in self.layers:
                x = layer(x)
            return self.average(graph, x)

    model = Late()
    found = diagnose(model, GRAPH, X, layers=list(model.named_children())[1:])
    assert (found.verdict, found.layer) == ("over-smoothing", "average")
    inside = [(f"layers.{i}", layer) for i, layer in enumerate(model.layers)]
    found = diagnose(model, GRAPH, X, layers=[*inside, ("average", model.average)])
    assert (found.verdict, found.layer, found.findings[0].depth) == ("over-smoothing", "average", 6)


def test_gradient_norms_are_those_of_autograd():
    torch.manual_seed(0)
    model = plain(3, nn.Tanh)
    found = diagnose(model, GRAPH, X, LABELS, TRAIN)
    outputs = [X]
    for layer in model:
        outputs.append(layer(outputs[-1]))
        outputs[-1].retain_grad()
    F.cross_entropy(outputs[-1][TRAIN], LABELS[TRAIN]).backward()
    assert [layer.gradient for layer in found.layers] == pytest.approx([y.grad.norm().item() for y in outputs[1:]])
    assert [layer.norm for layer in found.layers] == pytest.approx(
        [y.square().mean().sqrt().item() for y in outputs[1:]]
    )


def test_a_model_is_left_as_it_was_found():
    torch.manual_seed(0)
    model = stack(GCNConv, 4, norm=BatchNorm, dropout=0.5)
    model(GRAPH, X).sum().backward()
    model.blocks[1].eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    gradients = [weight.grad.clone() for weight in model.parameters()]
    modes, random = [m.training for m in model.modules()], torch.get_rng_state()
    first = diagnose(model, GRAPH, X, LABELS)
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)
    assert all(torch.equal(weight.grad, old) for weight, old in zip(model.parameters(), gradients))
    assert [m.training for m in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), random)
    assert not any(m._forward_hooks for m in model.modules())
    assert not X.requires_grad
    assert diagnose(model, GRAPH, X, LABELS) == first  # dropout and all
    with torch.no_grad():
        assert diagnose(model, GRAPH, X, LABELS) == first


def test_a_model_that_fails_is_left_as_it_was_found():
    model = nn.Sequential(nn.Linear(FEATS, 4), nn.Linear(5, 4))
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        diagnose(model, GRAPH, X)
    assert model.training
    assert not model[0]._forward_hooks


def test_the_control_keeps_all_but_who_speaks():
    graph = dgl.batch([path(4), path(3)])
    graph.edata["w"] = torch.arange(5.0)
    graph.ndata["pos"] = torch.arange(7.0)
    alone = unlinked(graph)
    assert torch.equal(alone.in_degrees(), graph.in_degrees())
    assert torch.equal(alone.edges()[0], alone.edges()[1])
    assert torch.equal(alone.edata["w"], graph.edata["w"])
    assert torch.equal(alone.ndata["pos"], graph.ndata["pos"])
    assert [g.num_nodes() for g in dgl.unbatch(alone)] == [4, 3]


@pytest.mark.parametrize(
    ("build", "names"),
    [
        (lambda: stack(GCNConv, 2, encoder=True), ["blocks.0", "blocks.1"]),
        (lambda: nn.ModuleDict({"inner": stack(GCNConv, 1)}), ["inner.blocks.0"]),
        (lambda: nn.Sequential(GCNConv(2, 2), nn.ReLU(), dgl.nn.GraphConv(2, 2)), ["0", "2"]),
        (lambda: SGConv(2, 2, k=3), ["SGConv"]),
        (lambda: OwnNet(2), ["layers.0", "layers.1"]),
        (lambda: plain(2, nn.ReLU), ["0", "1", "2"]),
        (lambda: nn.Sequential(plain(2, nn.ReLU)), ["0.0", "0.1", "0.2"]),
        (lambda: nn.Linear(2, 2), ["Linear"]),
    ],
)
def test_the_layers_that_are_looked_at(build, names):
    assert [name for name, _ in find_layers(build())] == names


def test_layers_of_ones_own_and_layers_used_twice():
    torch.manual_seed(0)
    found = diagnose(OwnNet(40), GRAPH, X)
    assert found.verdict == "over-smoothing"

    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = GCNConv(FEATS, FEATS)

        def forward(self, graph, x):
            return self.conv(graph, self.conv(graph, x).relu())

    assert [layer.name for layer in diagnose(Shared(), GRAPH, X).layers] == ["conv", "conv#2"]


def test_batches_of_graphs_with_a_readout_and_labels_for_each_graph():
    torch.manual_seed(0)
    parts = [GRAPH] * 6
    graph, x = dgl.batch(parts), X.repeat(6, 1)
    for num_layers, verdict in ((2, "none"), (32, "over-smoothing")):
        model = stack(GCNConv, num_layers, readout=readout_mean)
        found = diagnose(model, graph, x, torch.arange(6) % CLASSES)
        assert found.verdict == verdict
        alone = diagnose(model, GRAPH, X)
        assert [layer.distance for layer in found.layers] == pytest.approx(
            [layer.distance for layer in alone.layers], rel=1e-3, abs=1e-9
        )
        assert math.isnan(found.output.distance)  # a row for each graph


def test_regression_targets_are_judged_by_squares():
    torch.manual_seed(0)
    model, target = plain(3, nn.ReLU, width=256), torch.randn(len(X), CLASSES)
    assert diagnose(model, GRAPH, X, target, TRAIN, ~TRAIN).verdict == "none"
    optimizer = torch.optim.Adam(model.parameters(), 0.003)
    for _ in range(200):
        optimizer.zero_grad()
        F.mse_loss(model(X)[TRAIN], target[TRAIN]).backward()
        optimizer.step()
    found = diagnose(model, GRAPH, X, target, TRAIN, ~TRAIN)
    y = model(X).detach()
    share = F.mse_loss(y[TRAIN], target[TRAIN]) / target[TRAIN].var(0, unbiased=False).mean()
    assert found.verdict == "overfitting"
    assert found.train_skill == pytest.approx(1 - share.item(), rel=1e-4)


def test_models_that_overwrite_and_models_with_one_number_a_node():
    class Last(nn.Module):
        def forward(self, x):
            return x.squeeze(-1)

    torch.manual_seed(0)
    model = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(FEATS, 8), nn.ReLU(inplace=True), nn.Linear(8, 1), Last())
    before, target = X.clone(), torch.randn(len(X))
    found = diagnose(model, GRAPH, X, target)
    assert torch.equal(X, before)
    assert [layer.name for layer in found.layers] == ["0", "1", "2", "3"]  # the last is the output
    h = model[:3](X.clone()).detach().requires_grad_()
    F.mse_loss(model[3:](h), target).backward()
    assert found.layers[2].gradient == pytest.approx(h.grad.norm().item())


def test_another_way_to_call_and_another_loss():
    class Backwards(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = GINConv(FEATS, CLASSES)

        def forward(self, x, graph):
            return self.conv(graph, x)

    seen = []

    def loss(output, labels):
        seen.append(output.shape)
        return F.multi_margin_loss(output, labels)

    found = diagnose(Backwards(), GRAPH, X, LABELS, TRAIN, loss=loss, call=lambda model, graph, x: model(x, graph))
    assert [layer.name for layer in found.layers] == ["conv"]
    assert set(seen) == {(int(TRAIN.sum()), CLASSES)}


def test_what_is_printed_and_plotted():
    torch.manual_seed(0)
    found = diagnose(stack(GCNConv, 32), GRAPH, X, LABELS)
    assert isinstance(found, Diagnosis)
    text = str(found)
    assert len(text.splitlines()) == 1 + 32 + 1 + len(found.findings)
    assert "verdict: over-smoothing" in text
    assert found.advice in text
    assert found.layer in text
    assert [record["name"] for record in found.table] == [f"blocks.{i}" for i in range(32)]
    axes = found.plot()
    drawn = axes[1].lines[0].get_ydata()
    assert list(drawn) == [layer.effective_rank for layer in found.layers]
    axes[0].figure.canvas.draw()
    found.plot(axes)
    matplotlib.pyplot.close(axes[0].figure)


def test_bad_input_is_named():
    model = plain(2, nn.ReLU)
    with pytest.raises(ValueError, match=r"x: expected shape \(120, ..., F\), got \(3, 16\)"):
        diagnose(model, GRAPH, X[:3])
    for graph in (bipartite(), block()):
        with pytest.raises(ValueError, match="one node type"):
            diagnose(model, graph, X)
    with pytest.raises(ValueError, match="labels: expected 120, one for each row of the output, got 7"):
        diagnose(model, GRAPH, X, LABELS[:7])
    with pytest.raises(ValueError, match="beside test rows, got no labels"):
        diagnose(model, GRAPH, X, test=~TRAIN)
    with pytest.raises(ValueError, match="beside test rows, got no train rows"):
        diagnose(model, GRAPH, X, LABELS, test=~TRAIN)
    with pytest.raises(TypeError, match=r"return a tensor of shape \(rows, ...\), got tuple"):
        diagnose(nn.LSTM(FEATS, 4), GRAPH, X, call=lambda model, graph, x: model(x))
    with pytest.raises(ValueError, match=r"got none from \['unused'\]"):
        diagnose(model, GRAPH, X, layers=[("unused", nn.Linear(2, 2))])
