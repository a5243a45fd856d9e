"""Hops and weights apart: SGC, GfNN, SIGN, APPNP and DAGNN against dense matrices and PyG."""

import pytest
import torch
from torch import nn

from gnnlib import propagate
from gnnlib._platform.dgl import dgl
from gnnlib.models import SGC, SIGN, APPNPNet, DAGNNNet, GfNN
from gnnlib.testing.graphs import random_graph, symmetric_graph
from tests.nn.test_propagation import averaging

MODELS = {
    "sgc": lambda: SGC(5, 3, k=3),
    "gfnn": lambda: GfNN(5, 8, 3, k=3),
    "sign": lambda: SIGN(5, 8, 3, k=3),
    "appnp": lambda: APPNPNet(5, 8, 3, k=4, alpha=0.2),
    "dagnn": lambda: DAGNNNet(5, 8, 3, k=4),
}


def mlp(first, second, x):
    return (x @ first.weight.T + first.bias).clamp(min=0) @ second.weight.T + second.bias


def dense_sgc(model, p, x):
    fc = model.blocks[0].conv.fc
    return torch.linalg.matrix_power(p, 3) @ x @ fc.weight.T + fc.bias


def dense_gfnn(model, p, x):
    return mlp(model.blocks[0].conv.fc, model.head[1], torch.linalg.matrix_power(p, 3) @ x)


def dense_sign(model, p, x):
    inception, last = model.head[0], model.head[3]
    parts = [torch.linalg.matrix_power(p, i) @ x @ inception.weight[i] for i in range(4)]
    norm = inception.norm
    z = torch.cat(parts, 1) * norm.weight / (norm.running_var + norm.eps).sqrt() + norm.bias
    return z.clamp(min=0) @ last.weight.T + last.bias


def dense_appnp(model, p, x):
    z = z0 = mlp(model.encoder[1], model.encoder[4], x)
    for _ in range(4):
        z = 0.8 * p @ z + 0.2 * z0
    return z


def dense_dagnn(model, p, x):
    z = mlp(model.encoder[1], model.encoder[4], x)
    hops = torch.stack([torch.linalg.matrix_power(p, i) @ z for i in range(5)], 1)  # (N, k + 1, F)
    share = torch.sigmoid(hops @ model.blocks[0].conv.score.weight.T)
    return (share * hops).sum(1)


DENSE = {"sgc": dense_sgc, "gfnn": dense_gfnn, "sign": dense_sign, "appnp": dense_appnp, "dagnn": dense_dagnn}


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_the_papers_formula_with_dense_matrices(name, weighted):
    torch.manual_seed(0)
    graph, x = symmetric_graph(), torch.randn(11, 5, dtype=torch.float64)
    edge = torch.rand(graph.num_edges(), dtype=torch.float64) + 0.1 if weighted else None
    model = MODELS[name]().double().eval()
    torch.testing.assert_close(model(graph, x, edge), DENSE[name](model, averaging(graph, edge), x))


@pytest.mark.parametrize(
    ("model", "parameters"),
    [
        (lambda: SGC(1433, 7), 10_038),
        (lambda: GfNN(1433, 32, 7), 46_119),
        (lambda: APPNPNet(1433, 64, 7), 92_231),
        (lambda: DAGNNNet(1433, 64, 7), 92_238),
        (lambda: SGC(500, 3), 1_503),
        (lambda: APPNPNet(500, 64, 3), 32_259),
    ],
)
def test_parameters_on_the_citation_graphs(model, parameters):
    assert sum(p.numel() for p in model().parameters()) == parameters


@pytest.mark.parametrize("make", [lambda k: SGC(5, 3, k), lambda k: GfNN(5, 8, 3, k)])
def test_hops_made_beforehand(make):
    """So that training need not make them at each step."""
    graph, x = random_graph(), torch.randn(11, 5)
    model, after = make(2).eval(), make(0).eval()
    after.load_state_dict(model.state_dict())
    hopped = propagate(graph, propagate(graph, x, degrees="in"), degrees="in")
    torch.testing.assert_close(after(graph, hopped), model(graph, x))


def test_appnp_is_pygs():
    pyg = pytest.importorskip("torch_geometric.nn", reason="PyG is not installed")
    graph, x = symmetric_graph(), torch.randn(11, 5)
    model = APPNPNet(5, 8, 3, k=10, alpha=0.1).eval()
    twin = pyg.APPNP(K=10, alpha=0.1, add_self_loops=False)
    expected = twin(model.encoder(x), torch.stack(graph.edges()))
    torch.testing.assert_close(model(graph, x), expected)


@pytest.mark.parametrize(
    ("name", "dropped"),
    [
        ("sgc", []),
        ("gfnn", [(11, 8)]),
        ("sign", [(11, 32)]),
        ("appnp", [(11, 5), (11, 8), *[(symmetric_graph().num_edges(),)] * 4]),
        ("dagnn", [(11, 5), (11, 8)]),
    ],
)
def test_dropout_is_where_the_paper_has_it(name, dropped):
    """Of the input (N, 5), of the hidden features (N, 8), of the edges at each hop."""
    model, shapes = MODELS[name](), []
    for drop in {m for m in model.modules() if isinstance(m, nn.Dropout)}:
        drop.register_forward_hook(lambda _, inputs, __: shapes.append(tuple(inputs[0].shape)))
    model(symmetric_graph(), torch.ones(11, 5))
    assert shapes == dropped


@pytest.mark.parametrize("name", MODELS)
def test_nodes_renumbered_and_graphs_batched(name):
    torch.manual_seed(0)
    graph, x = symmetric_graph(), torch.randn(11, 5, dtype=torch.float64)
    model = MODELS[name]().double().eval()
    expected = model(graph, x)
    order = torch.randperm(11)
    src, dst = (torch.argsort(order)[end] for end in graph.edges())
    torch.testing.assert_close(model(dgl.graph((src, dst), num_nodes=11), x[order]), expected[order])
    both = model(dgl.batch([graph, graph]), torch.cat([x, 2 * x]))
    torch.testing.assert_close(both, torch.cat([expected, model(graph, 2 * x)]))


def test_nodes_stay_apart_after_many_hops_unlike_sgc():
    """What the papers propose APPNP and DAGNN for; on a connected graph, scaled by the square root of degrees."""
    torch.manual_seed(0)
    ring = dgl.graph((torch.arange(12), (torch.arange(12) + 1) % 12))
    graph = dgl.add_self_loop(dgl.to_bidirected(ring))
    x = torch.randn(12, 5, dtype=torch.float64)

    def spread(model):
        y = model.double().eval()(graph, x)
        return (y.std(0) / y.abs().mean(0)).max()

    assert spread(SGC(5, 3, k=500)) < 1e-6
    assert spread(APPNPNet(5, 8, 3, k=500)) > 1e-2
    assert spread(DAGNNNet(5, 8, 3, k=500)) > 1e-3


@pytest.mark.parametrize(("model", "part"), [(SGC, "SGConv"), (SIGN, "Hops"), (APPNPNet, "APPNP"), (DAGNNNet, "DAGNN")])
def test_hops_below_zero(model, part):
    with pytest.raises(ValueError, match=f"{part}: expected k >= 0, got -1"):
        model(5, *([] if model is SGC else [8]), 3, k=-1)
