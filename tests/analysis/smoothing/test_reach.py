"""Over-squashing as a verdict of `diagnose`: twenty networks on graphs with and without bottlenecks, some with several
causes of failure; the influence that it measures; and rewirings as remedies."""

import math

import networkx as nx
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import gnnlib
from gnnlib import BatchNorm, GCNConv, InitialResidual, PairNorm, Residual, Stack, readout_mean
from gnnlib.analysis.smoothing import diagnose
from gnnlib.analysis.smoothing.passes import default_forward, find_layers
from gnnlib.analysis.smoothing.reach import influences, measure_reach
from gnnlib.graph import add_self_loop, batch, new_graph
from gnnlib.rewiring import add_virtual_node, fosr, gtr, sdrf
from gnnlib.testing.graphs import random_graph
from tests.analysis.smoothing.test_diagnose import CLASSES, FEATS, mean_sage, plain, scaled, stack
from tests.analysis.squashing.test_resistance import from_networkx


def with_loops(graph):
    return add_self_loop(from_networkx(graph))


def cliques(number, size):
    """Complete graphs in a row, joined by edges."""
    graph = nx.disjoint_union_all([nx.complete_graph(size)] * number)
    graph.add_edges_from((i * size + size - 1, (i + 1) * size) for i in range(number - 1))
    return graph


TREE, RING, CLIQUES = (with_loops(g) for g in (nx.balanced_tree(2, 7), nx.cycle_graph(120), cliques(8, 16)))
REGULAR = with_loops(nx.random_regular_graph(4, 200, seed=0))


def normal(graph):
    return torch.randn(graph.num_nodes(), FEATS, generator=torch.Generator().manual_seed(0))


def positive(graph):
    return normal(graph).abs() + 1


def bare_gcn(in_feats, out_feats):
    return GCNConv(in_feats, out_feats, weight=False, bias=False)


def trained(model, graph, x, labels, steps=30):
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(model(graph, x), labels).backward()
        optimizer.step()
    return model


def classes(graph):
    """Of each node by itself."""
    return normal(graph)[:, :CLASSES].argmax(1)


def normed(conv, num_layers):
    return stack(conv, num_layers, skip=Residual, norm=BatchNorm, encoder=True)


def residual(conv, num_layers):
    return stack(conv, num_layers, skip=Residual, encoder=True)


SMOOTHING, VANISHING, EXPLODING, SQUASHING = (
    "over-smoothing",
    "vanishing gradients",
    "exploding gradients",
    "over-squashing",
)
CASES = [
    ([SQUASHING], TREE, normal, lambda: stack(mean_sage, 12)),
    ([SQUASHING], TREE, normal, lambda: stack(mean_sage, 14, norm=BatchNorm)),
    ([SQUASHING], CLIQUES, normal, lambda: stack(GCNConv, 16)),
    ([SQUASHING], RING, normal, lambda: stack(bare_gcn, 40, skip=InitialResidual, encoder=True)),
    ([SQUASHING], TREE, normal, lambda: stack(bare_gcn, 14, skip=InitialResidual, encoder=True)),
    ([SQUASHING], batch([TREE, RING]), normal, lambda: stack(mean_sage, 14, readout=readout_mean)),
    ([SMOOTHING, SQUASHING], CLIQUES, positive, lambda: residual(GCNConv, 16)),
    ([SMOOTHING, SQUASHING], CLIQUES, positive, lambda: stack(GCNConv, 16)),
    ([VANISHING, SQUASHING], TREE, normal, lambda: stack(GCNConv, 14, activation=nn.Sigmoid)),
    ([VANISHING, SQUASHING], CLIQUES, normal, lambda: stack(GCNConv, 12, activation=nn.Sigmoid)),
    ([EXPLODING, SQUASHING], CLIQUES, normal, lambda: scaled(stack(GCNConv, 16), 6)),
    ([EXPLODING, SQUASHING], RING, normal, lambda: residual(mean_sage, 40)),
    ([EXPLODING, SMOOTHING, SQUASHING], CLIQUES, positive, lambda: scaled(stack(GCNConv, 16), 6)),
    ([SMOOTHING, VANISHING], REGULAR, normal, lambda: stack(GCNConv, 24)),
    ([EXPLODING, SMOOTHING], REGULAR, normal, lambda: scaled(stack(GCNConv, 16), 6)),
    ([], TREE, normal, lambda: stack(mean_sage, 3)),
    ([], RING, normal, lambda: stack(GCNConv, 8)),
    ([], add_virtual_node(TREE), normal, lambda: stack(mean_sage, 8)),
    ([], REGULAR, normal, lambda: stack(mean_sage, 6, norm=PairNorm)),
    ([], TREE, normal, lambda: trained(normed(mean_sage, 10), TREE, normal(TREE), classes(TREE))),
]


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(CASES)))
@pytest.mark.parametrize("seed", [0, 1])
def test_all_causes(number, seed):
    """With labels and without, where the network did not learn them."""
    torch.manual_seed(seed)
    causes, graph, features, build = CASES[number]
    x = features(graph)
    labels = torch.arange(2) if graph.batch_size == 2 else classes(graph)
    diagnosis = diagnose(build(), graph, x, labels if seed == 0 or number == len(CASES) - 1 else None)
    assert [finding.cause for finding in diagnosis.findings] == causes, str(diagnosis)
    assert diagnosis.verdict == (causes or ["none"])[0]


# ---------------------------------------------------------------- what is measured


def measure(model, graph, x):
    return measure_reach(model, graph, x, default_forward, find_layers(model))


def test_influences_are_norms_of_the_jacobian():
    graph, x = random_graph(), torch.randn(11, 3, dtype=torch.float64)
    model = Stack.build(GCNConv, 3, 8, 1, 3, activation="tanh", norm=BatchNorm, dropout=0.5).double()
    nodes = torch.tensor([0, 5, 7])
    values = influences(model, graph, x, default_forward, find_layers(model), nodes)
    assert model.training
    model.eval()
    jacobian = torch.autograd.functional.jacobian(lambda x: model(graph, x), x)
    torch.testing.assert_close(values, jacobian[nodes, 0].norm(dim=-1))


def test_reach_of_repeated_means():
    """The influences are the entries of a power of the matrix of means."""
    layers, n = 6, 20
    graph = with_loops(nx.cycle_graph(n))
    model = Stack([GCNConv(1, 1, norm="right", weight=False, bias=False)] * layers, head=nn.Linear(1, 1))
    step = torch.eye(n, dtype=torch.float64)
    step = (step + step.roll(1, 0) + step.roll(-1, 0)) / 3
    row = torch.linalg.matrix_power(step, layers)[0]
    reach = measure(model, graph, torch.ones(n, 1))
    assert reach.distant == pytest.approx(8 / 12)
    assert reach.influence == pytest.approx(row[3:7].sort().values[1].item() / row[1].item(), rel=1e-5)


def test_norms_over_all_nodes_are_no_messages():
    graph = with_loops(nx.cycle_graph(60))
    x = normal(graph)
    torch.manual_seed(0)
    assert measure(stack(GCNConv, 2, norm=PairNorm), graph, x).distant == 0
    reach = measure(plain(3, nn.Tanh), graph, x)
    assert reach.distant == 0
    assert math.isnan(reach.influence)


def test_a_model_without_rows_of_nodes_or_gradients_has_no_reach():
    class Constant(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(FEATS, CLASSES)

        def forward(self, graph, x):
            return self.layer(x.detach().mean(0, keepdim=True))

    assert measure(Constant(), RING, normal(RING)).distant == 0


# ---------------------------------------------------------------- remedies


@pytest.mark.parametrize("rewiring", [sdrf, fosr, gtr])
def test_rewiring_ends_the_over_squashing(rewiring):
    torch.manual_seed(0)
    model, x = stack(GCNConv, 16), normal(CLIQUES)
    before, after = measure(model, CLIQUES, x), measure(model, rewiring(CLIQUES, 0.1), x)
    assert after.influence > 100 * before.influence


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, 2, 3])
def test_the_advice_ends_the_over_squashing(number):
    _, graph, features, build = CASES[number]
    torch.manual_seed(0)
    diagnosis = diagnose(build(), graph, features(graph))
    assert diagnosis.advice.startswith("graph = gnnlib.rewiring.fosr(graph, 0.3)  # or ")
    names = {"gnnlib": gnnlib, "graph": graph}
    exec(diagnosis.advice, names)
    torch.manual_seed(0)
    again = diagnose(build(), names["graph"], features(graph))
    assert SQUASHING not in [finding.cause for finding in again.findings]


@pytest.mark.slow
def test_the_advice_for_edges_in_one_direction_with_features():
    child = torch.arange(1, 511)
    graph = add_self_loop(new_graph(child, (child - 1) // 2, 511))
    graph.edata["w"] = torch.ones(graph.num_edges())
    torch.manual_seed(0)
    model = stack(mean_sage, 12)
    x = torch.randn(511, FEATS)
    diagnosis = diagnose(model, graph, x)
    advice = gnnlib.analysis.smoothing.advice.advise(SQUASHING, diagnosis.sizes)
    assert advice.startswith("graph = gnnlib.rewiring.add_k_hop_edges(graph, 4, fill=1.0)  # or ")
    names = {"gnnlib": gnnlib, "graph": graph}
    exec(advice, names)
    model(names["graph"], x)
    assert names["graph"].num_edges() > graph.num_edges()
