"""`diagnose`: models with one cause of failure and their verdicts; the model is unchanged afterwards."""

import math
from functools import partial

import matplotlib
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import gnnlib
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
from gnnlib.analysis.smoothing import Diagnosis, diagnose, mean_average_distance
from gnnlib.analysis.smoothing.passes import control_graph, find_layers
from gnnlib.analysis.smoothing.probe import average_of
from gnnlib.testing.graphs import bipartite, block, path

matplotlib.use("Agg")
FEATS, CLASSES = 16, 3


def communities(num_nodes=120, inside=0.15, outside=0.01):
    """A stochastic block model with self-loops; noisy features around a point per class; 40 % training nodes."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(num_nodes) % CLASSES
    probability = torch.where(labels[:, None] == labels, inside, outside)
    edges = (torch.rand(num_nodes, num_nodes, generator=generator) < probability).triu(1)
    graph = dgl.graph((edges | edges.T | torch.eye(num_nodes, dtype=torch.bool)).nonzero(as_tuple=True))
    x = torch.randn(CLASSES, FEATS, generator=generator)[labels] + torch.randn(num_nodes, FEATS, generator=generator)
    train = torch.rand(num_nodes, generator=generator) < 0.4
    noise = torch.randint(CLASSES, (num_nodes,), generator=generator)
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
    """A multilayer perceptron whose layers multiply the norm of a random vector by ``gain``."""
    layers = []
    for layer in range(num_layers):
        before, after = FEATS if layer == 0 else width, CLASSES if layer == num_layers - 1 else width
        linear = nn.Linear(before, after)
        if gain is not None:
            nn.init.normal_(linear.weight, std=gain * before**-0.5)
        layers += [linear, activation()]
    return nn.Sequential(*layers[:-1])


class Hops(nn.Module):
    """Repeated averages without a layer of the library, then a perceptron."""

    def __init__(self, num_hops):
        super().__init__()
        self.num_hops, self.mlp = num_hops, plain(2, nn.ReLU)

    def forward(self, graph, x):
        for _ in range(self.num_hops):
            x = propagate(graph, x, norm="right")
        return self.mlp(x)


class CustomConv(nn.Module):
    def __init__(self, in_feats, out_feats):
        super().__init__()
        self.linear = nn.Linear(in_feats, out_feats)

    def forward(self, graph, x):
        return aggregate(graph, self.linear(x), reduce="mean")


class CustomNet(nn.Module):
    """Custom layers in a list, with functions in between."""

    def __init__(self, num_layers, gain=1.0):
        super().__init__()
        self.layers = nn.ModuleList(
            CustomConv(FEATS if i == 0 else 32, CLASSES if i == num_layers - 1 else 32) for i in range(num_layers)
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
@pytest.mark.slow
def test_verdicts(number, seed):
    torch.manual_seed(seed)
    cause, labels, build = CASES[number]
    diagnosis = diagnose(build(), GRAPH, X, labels, train=TRAIN, test=~TRAIN)
    assert diagnosis.verdict == cause, str(diagnosis)
    assert (diagnosis.layer is None) == (cause in ("overfitting", "none"))


@pytest.mark.slow
@pytest.mark.parametrize("number", [i for i, case in enumerate(CASES) if case[0] not in ("overfitting", "none")])
def test_verdicts_without_labels(number):
    torch.manual_seed(0)
    cause, _, build = CASES[number]
    assert diagnose(build(), GRAPH, X).verdict == cause


@pytest.mark.parametrize("activation", [nn.Sigmoid, nn.Tanh, nn.ReLU])
@pytest.mark.parametrize("num_layers", [16, 32])
@pytest.mark.slow
def test_collapse_without_a_graph_is_not_over_smoothing(num_layers, activation):
    """Nodes of a deep perceptron are as close as those of a deep graph network, on the control graph too."""
    torch.manual_seed(0)
    model = plain(num_layers, activation)
    diagnosis = diagnose(model, GRAPH, X)
    assert diagnosis.layers[-1].distance < 0.01
    assert "over-smoothing" not in [finding.cause for finding in diagnosis.findings]
    again = diagnose(stack(GCNConv, num_layers, activation=activation), control_graph(GRAPH), X)
    assert "over-smoothing" not in [finding.cause for finding in again.findings]


def test_remedies_change_the_verdict():
    verdicts = {}
    for name, remedies in {"none": {}, "pair norm": {"norm": PairNorm}, "batch norm": {"norm": BatchNorm}}.items():
        torch.manual_seed(0)
        verdicts[name] = diagnose(stack(GCNConv, 32, **remedies), GRAPH, X).verdict
    assert verdicts == {"none": "over-smoothing", "pair norm": "none", "batch norm": "none"}


@pytest.mark.parametrize("num_layers", [8, 64])
@pytest.mark.slow
def test_features_of_nearly_the_same_direction_are_not_over_smoothed(num_layers):
    """A constant offset: directions are close, but the rank is that of the input at every layer."""
    torch.manual_seed(0)
    average = partial(GCNConv, weight=False, bias=False)
    model = Stack.build(average, FEATS, 32, CLASSES, num_layers, encoder=True, skip=InitialResidual)
    x = X.abs() + 1
    diagnosis = diagnose(model, GRAPH, x)
    assert 0 < diagnosis.layers[-2].distance < 0.01
    assert "over-smoothing" not in [finding.cause for finding in diagnosis.findings]
    plain = diagnose(stack(GCNConv, 64), GRAPH, x)
    assert "over-smoothing" in [finding.cause for finding in plain.findings]


def test_all_causes_are_listed():
    torch.manual_seed(0)
    diagnosis = diagnose(stack(GCNConv, 64), GRAPH, X)
    assert [finding.cause for finding in diagnosis.findings] == ["over-smoothing", "vanishing gradients"]


def test_nonfinite_values_are_exploding_gradients():
    torch.manual_seed(0)
    diagnosis = diagnose(plain(20, nn.Identity, gain=1e4), GRAPH, X, LABELS)
    assert diagnosis.verdict == "exploding gradients"
    assert "not finite" in diagnosis.findings[0].evidence
    assert [layer.finite for layer in diagnosis.layers].index(False) == [
        layer.name for layer in diagnosis.layers
    ].index(diagnosis.layer)


def test_the_layer_where_it_starts():
    """Five layers without the graph, then averaging: it starts with the averaging."""

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
    diagnosis = diagnose(model, GRAPH, X, layers=list(model.named_children())[1:])
    assert (diagnosis.verdict, diagnosis.layer) == ("over-smoothing", "average")
    named = [(f"layers.{i}", layer) for i, layer in enumerate(model.layers)]
    diagnosis = diagnose(model, GRAPH, X, layers=[*named, ("average", model.average)])
    assert (diagnosis.verdict, diagnosis.layer, diagnosis.findings[0].depth) == ("over-smoothing", "average", 6)


def test_gradient_norms_against_autograd():
    torch.manual_seed(0)
    model = plain(3, nn.Tanh)
    diagnosis = diagnose(model, GRAPH, X, LABELS, train=TRAIN)
    outputs = [X]
    for layer in model:
        outputs.append(layer(outputs[-1]))
        outputs[-1].retain_grad()
    F.cross_entropy(outputs[-1][TRAIN], LABELS[TRAIN]).backward()
    assert [layer.gradient for layer in diagnosis.layers] == pytest.approx([y.grad.norm().item() for y in outputs[1:]])
    assert [layer.norm for layer in diagnosis.layers] == pytest.approx(
        [y.square().mean().sqrt().item() for y in outputs[1:]]
    )


def test_the_model_is_unchanged():
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
    assert repr(diagnose(model, GRAPH, X, LABELS)) == repr(first)  # dropout and all; NaN is not equal to itself
    with torch.no_grad():
        assert repr(diagnose(model, GRAPH, X, LABELS)) == repr(first)


def test_a_failing_model_is_unchanged():
    model = nn.Sequential(nn.Linear(FEATS, 4), nn.Linear(5, 4))
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        diagnose(model, GRAPH, X)
    assert model.training
    assert not model[0]._forward_hooks


def test_the_control_graph_keeps_degrees_and_features():
    graph = dgl.batch([path(4), path(3)])
    graph.edata["w"] = torch.arange(5.0)
    graph.ndata["pos"] = torch.arange(7.0)
    control = control_graph(graph)
    assert torch.equal(control.in_degrees(), graph.in_degrees())
    assert torch.equal(control.edges()[0], control.edges()[1])
    assert torch.equal(control.edata["w"], graph.edata["w"])
    assert torch.equal(control.ndata["pos"], graph.ndata["pos"])
    assert [g.num_nodes() for g in dgl.unbatch(control)] == [4, 3]


@pytest.mark.parametrize(
    ("build", "names"),
    [
        (lambda: stack(GCNConv, 2, encoder=True), ["blocks.0", "blocks.1"]),
        (lambda: nn.ModuleDict({"inner": stack(GCNConv, 1)}), ["inner.blocks.0"]),
        (lambda: nn.Sequential(GCNConv(2, 2), nn.ReLU(), dgl.nn.GraphConv(2, 2)), ["0", "2"]),
        (lambda: SGConv(2, 2, k=3), ["SGConv"]),
        (lambda: CustomNet(2), ["layers.0", "layers.1"]),
        (lambda: plain(2, nn.ReLU), ["0", "1", "2"]),
        (lambda: nn.Sequential(plain(2, nn.ReLU)), ["0.0", "0.1", "0.2"]),
        (lambda: nn.Linear(2, 2), ["Linear"]),
    ],
)
def test_find_layers(build, names):
    assert [name for name, _ in find_layers(build())] == names


def test_custom_layers_and_layers_used_twice():
    torch.manual_seed(0)
    diagnosis = diagnose(CustomNet(40), GRAPH, X)
    assert diagnosis.verdict == "over-smoothing"

    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = GCNConv(FEATS, FEATS)

        def forward(self, graph, x):
            return self.conv(graph, self.conv(graph, x).relu())

    assert [layer.name for layer in diagnose(Shared(), GRAPH, X).layers] == ["conv", "conv#2"]


@pytest.mark.slow
def test_batches_of_graphs_with_a_readout_and_graph_labels():
    torch.manual_seed(0)
    parts = [GRAPH] * 6
    graph, x = dgl.batch(parts), X.repeat(6, 1)
    for num_layers, verdict in ((2, "none"), (32, "over-smoothing")):
        model = stack(GCNConv, num_layers, readout=readout_mean)
        diagnosis = diagnose(model, graph, x, torch.arange(6) % CLASSES)
        assert diagnosis.verdict == verdict
        single = diagnose(model, GRAPH, X)
        assert [layer.distance for layer in diagnosis.layers] == pytest.approx(
            [layer.distance for layer in single.layers], rel=1e-3, abs=1e-9
        )
        assert math.isnan(diagnosis.output.distance)  # one row per graph


def test_regression_targets():
    torch.manual_seed(0)
    model, target = plain(3, nn.ReLU, width=256), torch.randn(len(X), CLASSES)
    assert diagnose(model, GRAPH, X, target, train=TRAIN, test=~TRAIN).verdict == "none"
    optimizer = torch.optim.Adam(model.parameters(), 0.003)
    for _ in range(200):
        optimizer.zero_grad()
        F.mse_loss(model(X)[TRAIN], target[TRAIN]).backward()
        optimizer.step()
    diagnosis = diagnose(model, GRAPH, X, target, train=TRAIN, test=~TRAIN)
    y = model(X).detach()
    ratio = F.mse_loss(y[TRAIN], target[TRAIN]) / target[TRAIN].var(0, unbiased=False).mean()
    assert diagnosis.verdict == "overfitting"
    assert diagnosis.train_skill == pytest.approx(1 - ratio.item(), rel=1e-4)


def test_inplace_models_and_models_with_one_output_per_node():
    class Last(nn.Module):
        def forward(self, x):
            return x.squeeze(-1)

    torch.manual_seed(0)
    model = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(FEATS, 8), nn.ReLU(inplace=True), nn.Linear(8, 1), Last())
    before, target = X.clone(), torch.randn(len(X))
    diagnosis = diagnose(model, GRAPH, X, target)
    assert torch.equal(X, before)
    assert [layer.name for layer in diagnosis.layers] == ["0", "1", "2", "3"]  # the last is the output
    h = model[:3](X.clone()).detach().requires_grad_()
    F.mse_loss(model[3:](h), target).backward()
    assert diagnosis.layers[2].gradient == pytest.approx(h.grad.norm().item())


def test_another_forward_and_another_loss():
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

    diagnosis = diagnose(
        Backwards(), GRAPH, X, LABELS, train=TRAIN, loss=loss, forward=lambda model, graph, x: model(x, graph)
    )
    assert [layer.name for layer in diagnosis.layers] == ["conv"]
    assert set(seen) == {(int(TRAIN.sum()), CLASSES)}


@pytest.mark.slow
def test_print_and_plot():
    torch.manual_seed(0)
    diagnosis = diagnose(stack(GCNConv, 32), GRAPH, X, LABELS)
    assert isinstance(diagnosis, Diagnosis)
    text = str(diagnosis)
    assert len(text.splitlines()) == 1 + 32 + 3 + 2 * len(diagnosis.findings)
    assert 'energy: rayleigh_quotient(graph, x, norm="both")' in text
    assert "verdict: over-smoothing" in text
    assert diagnosis.advice in text
    assert diagnosis.layer in text
    assert [record["name"] for record in diagnosis.table] == [f"blocks.{i}" for i in range(32)]
    axes = diagnosis.plot()
    drawn = axes[1].lines[0].get_ydata()
    assert list(drawn) == [layer.effective_rank for layer in diagnosis.layers]
    axes[0].figure.canvas.draw()
    diagnosis.plot(axes)
    matplotlib.pyplot.close(axes[0].figure)


def test_invalid_arguments():
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
        diagnose(nn.LSTM(FEATS, 4), GRAPH, X, forward=lambda model, graph, x: model(x))
    with pytest.raises(ValueError, match=r"got none from \['unused'\]"):
        diagnose(model, GRAPH, X, layers=[("unused", nn.Linear(2, 2))])


# ---------------------------------------------------------------- the energy that fits a layer


@pytest.mark.parametrize(
    ("layer", "average"),
    [
        (GCNConv(4, 4), "both"),
        (GCNConv(4, 4, norm="right"), "right"),
        (SGConv(4, 4, k=2), "both"),
        (GATConv(4, 4, 1), "right"),
        (SAGEConv(4, 4), "right"),
        (GINConv(4, 4), "right"),
        (gnnlib.ChebConv(4, 4, k=2), "both"),
        (gnnlib.APPNP(3), "both"),
        (gnnlib.GNNLayer(GCNConv(4, 4), norm=BatchNorm(4)), "both"),
        (gnnlib.GNNLayer(SAGEConv(4, 4), norm=BatchNorm(4)), "right"),
        (dgl.nn.GraphConv(4, 4), "both"),
        (dgl.nn.GraphConv(4, 4, norm="right"), "right"),
        (dgl.nn.GATConv(4, 4, 1), "right"),
        (dgl.nn.SGConv(4, 4), "both"),
        (nn.Linear(4, 4), "right"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_average_of_a_layer(layer, average):
    assert average_of(layer) == average


@pytest.mark.parametrize(("conv", "remedy"), [(GCNConv, None), (gat, None), (mean_sage, None)])
def test_the_energy_of_every_average_falls_exponentially(conv, remedy):
    """The definition of over-smoothing by Rusch et al. 2023, for symmetric and for row-stochastic averages."""
    torch.manual_seed(0)
    diagnosis = diagnose(stack(conv, 32), GRAPH, X, LABELS)
    assert diagnosis.decay.rate > 0.2
    assert diagnosis.decay.r2 > 0.95
    assert diagnosis.layers[-1].energy < 0.01 * diagnosis.layers[0].energy
    assert f"r^2 = {diagnosis.decay.r2:.2f}" in str(diagnosis)


def test_a_network_that_keeps_its_features_has_no_decay():
    torch.manual_seed(0)
    decay = diagnose(gcnii(32), GRAPH, X, LABELS).decay
    assert decay.rate < 0.02


def test_one_feature_has_no_cosine_distance():
    with pytest.warns(UserWarning, match="mean_average_distance: expected several features, got one"):
        mean_average_distance(GRAPH, X[:, :1])
    diagnose(Stack.build(GCNConv, FEATS, 8, 1, 2), GRAPH, X)  # no warning
