"""Norms: those of torch where it has them, and each paper's formula graph by graph."""

import pytest
import torch
from torch import nn

import gnnlib
from gnnlib import (
    BatchNorm,
    ContraNorm,
    DiffGroupNorm,
    GraphNorm,
    LayerNorm,
    MeanSubtraction,
    NodeNorm,
    PairNorm,
    PairNormSCS,
)
from gnnlib._platform.dgl import dgl
from gnnlib.nn import norm as norms
from gnnlib.nn.norm import RowBatchNorm
from gnnlib.testing.graphs import GRAPHS, bipartite, edgeless, path, random_graph

NORMS = [BatchNorm, ContraNorm, DiffGroupNorm, GraphNorm, LayerNorm, MeanSubtraction, NodeNorm, PairNorm, PairNormSCS]


def shaken(norm):
    """With weights, shares and running statistics that are not where they start."""
    with torch.no_grad():
        for value in (*norm.parameters(), *(b for b in norm.buffers() if b.dim())):
            value.copy_(torch.rand_like(value) + 0.5)
    return norm


@pytest.mark.parametrize("signals", [(), (3,), (2, 2)])
def test_batch_norm_is_torchs_over_nodes_and_signals(signals):
    graph, norm, twin = random_graph(), BatchNorm(4), nn.BatchNorm1d(4)
    for _ in range(3):
        x = 3 + 2 * torch.randn(11, *signals, 4)
        actual, expected = norm(graph, x), twin(x.reshape(-1, 4)).view(x.shape)
        torch.testing.assert_close(actual, expected, rtol=0, atol=0)
    torch.testing.assert_close(actual.reshape(-1, 4).mean(0), torch.zeros(4), rtol=0, atol=1e-6)
    torch.testing.assert_close(norm.state_dict(), twin.state_dict(), rtol=0, atol=0)
    assert torch.equal(norm.eval()(graph, x), twin.eval()(x.reshape(-1, 4)).view(x.shape))


def test_batch_norm_of_one_row_uses_and_keeps_the_running_statistics():
    graph, norm = edgeless(1), BatchNorm(3)
    norm(random_graph(), 5 + torch.randn(11, 3))
    before = {name: value.clone() for name, value in norm.state_dict().items()}
    x = torch.randn(1, 3, requires_grad=True)
    y = norm.train()(graph, x)
    torch.testing.assert_close(y, (x - before["running_mean"]) / (before["running_var"] + 1e-5).sqrt())
    torch.testing.assert_close(norm.state_dict(), before, rtol=0, atol=0)
    y.sum().backward()
    assert bool((x.grad > 0).all())
    assert norm(graph, torch.randn(1, 2, 3)).shape == (1, 2, 3)  # two signals on one node are two rows


@pytest.mark.parametrize("signals", [(), (3,)])
def test_layer_norm_is_torchs(signals):
    x, twin = torch.randn(11, *signals, 4), nn.LayerNorm(4)
    norm = LayerNorm(4)
    nn.init.normal_(norm.weight)
    twin.load_state_dict(norm.state_dict())
    assert torch.equal(norm(random_graph(), x), twin(x))


def pair_norm(x, scale, individually):
    """Equations 10 and 11 on one graph, x (n, F)."""
    centred = x - x.sum(0) / len(x)
    rows = centred.pow(2).sum(1)
    return scale * centred / (rows.sqrt().unsqueeze(1) if individually else (rows.sum() / len(x)).sqrt())


@pytest.mark.parametrize("individually", [False, True])
@pytest.mark.parametrize("scale", [1.0, 2.5])
def test_pair_norm_is_its_formula_for_each_graph_and_signal(scale, individually):
    parts = [random_graph(6, 9), edgeless(0), path(4), edgeless(3)]
    graph, x = dgl.batch(parts), 3 + torch.randn(13, 2, 5, dtype=torch.float64)
    y = PairNorm(5, scale=scale, individually=individually)(graph, x)
    for part, out in zip(x.split([6, 4, 3]), y.split([6, 4, 3])):
        for signal in range(2):
            expected = pair_norm(part[:, signal], scale, individually)
            torch.testing.assert_close(out[:, signal], expected, rtol=0, atol=1e-9)


def test_pair_norm_keeps_the_mean_squared_distance():
    """The mean over pairs of |y_u - y_v|^2 is 2 s^2, whatever came in."""
    graph, norm = random_graph(), PairNorm(scale=3.0)
    for spread in (0.01, 1.0, 100.0):
        y = norm(graph, 7 + spread * torch.randn(11, 4, dtype=torch.float64))
        assert torch.cdist(y, y).pow(2).mean().item() == pytest.approx(2 * 3.0**2, rel=1e-6)


def test_pair_norm_of_equal_nodes_is_zero_and_has_finite_gradients():
    for graph in (edgeless(1), path(4)):
        x = torch.full((graph.num_nodes(), 3), 2.0, requires_grad=True)
        y = PairNorm()(graph, x)
        assert bool((y == 0).all())
        y.sum().backward()
        assert bool(x.grad.isfinite().all())


@pytest.mark.parametrize("individually", [False, True])
def test_pair_norm_is_differentiable_twice(individually):
    graph = dgl.batch([path(3), path(2)])
    x = torch.randn(5, 2, dtype=torch.float64, requires_grad=True)
    norm = PairNorm(individually=individually)
    assert torch.autograd.gradcheck(lambda x: norm(graph, x), x)
    assert torch.autograd.gradgradcheck(lambda x: norm(graph, x), x, fast_mode=True)


def scs(norm, x):
    return norm.scale * x / x.norm(dim=1, keepdim=True) - x.mean(0)


def graph_norm(norm, x):
    """Section 4 of the paper, x (n, F)."""
    shifted = x - (1 if norm.mean_scale is None else norm.mean_scale) * x.mean(0)
    return norm.weight * shifted / ((shifted**2).mean(0) + norm.eps).sqrt() + norm.bias


def contra_norm(norm, x):
    """Each row minus s times the average of all rows, weighted by the softmax of cosines."""
    length = (x**2).sum(1).sqrt()
    weight = (x @ x.T / (length[:, None] * length) / norm.temperature).exp()
    y = x - norm.scale * weight @ x / weight.sum(1, keepdim=True)
    centred = y - y.mean(1, keepdim=True)
    deviation = ((centred**2).mean(1, keepdim=True) + norm.eps).sqrt()
    return centred / deviation * norm.norm.weight + norm.norm.bias


def node_norm(norm, x):
    rows = []
    for row in x:
        variance = ((row - row.sum() / len(row)) ** 2).sum() / len(row) + norm.eps
        rows.append(row / variance.sqrt() ** (1 / norm.p))
    return torch.stack(rows)


DENSE = {
    "mean": (MeanSubtraction, lambda norm, x: x - x.sum(0) / len(x)),
    "scs": (PairNormSCS, scs),
    "scs scaled": (lambda feats: PairNormSCS(feats, scale=3.0), scs),
    "graph": (GraphNorm, graph_norm),
    "instance": (lambda feats: GraphNorm(feats, mean_scale=False), graph_norm),
    "contra": (lambda feats: ContraNorm(feats, scale=0.7, temperature=0.3), contra_norm),
    "node": (NodeNorm, node_norm),
    "node p=1": (lambda feats: NodeNorm(feats, p=1.0), node_norm),
}


@pytest.mark.parametrize("name", DENSE)
def test_formula_for_each_graph_and_signal_and_so_is_the_gradient(name):
    make, dense = DENSE[name]
    norm = shaken(make(5).double())
    parts, sizes = [random_graph(6, 9), edgeless(0), path(4), edgeless(3), edgeless(1)], [6, 4, 3, 1]
    graph, x = dgl.batch(parts), 3 + torch.randn(14, 2, 5, dtype=torch.float64)
    x.requires_grad_()
    y = norm(graph, x)
    expected = torch.cat([torch.stack([dense(norm, part[:, s]) for s in (0, 1)], 1) for part in x.split(sizes)])
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-9)
    loss = torch.randn_like(y)
    leaves = [x, *norm.parameters()]
    for a, b in zip(torch.autograd.grad(y, leaves, loss), torch.autograd.grad(expected, leaves, loss)):
        torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("signals", [(), (3,)])
def test_diff_group_norm_is_a_batch_norm_for_each_group(signals, training):
    graph, norm = random_graph(), shaken(DiffGroupNorm(4, groups=3, lam=0.1)).train(training)
    x = 3 + 2 * torch.randn(11, *signals, 4)
    rows = x.reshape(-1, 4)
    share = torch.softmax(rows @ norm.assign.weight.T, 1)
    expected = rows.clone()
    for group in range(3):
        twin = nn.BatchNorm1d(4).train(training)
        mine = slice(4 * group, 4 * group + 4)
        twin.load_state_dict(
            {name: value[mine] if value.dim() else value for name, value in norm.norm.state_dict().items()}
        )
        expected = expected + 0.1 * twin(share[:, group, None] * rows)
    torch.testing.assert_close(norm(graph, x), expected.view(x.shape), rtol=0, atol=1e-5)


def test_mean_subtraction_leads_to_the_second_eigenvector():
    """Section 4 of Yang et al.: without it, averaging over neighbours again and again gives one value everywhere;
    with it, the second eigenvector (here of a cycle with chords, where the mean is the first)."""
    ring = torch.arange(9)
    graph = dgl.add_self_loop(dgl.to_bidirected(dgl.graph((ring, (ring + 1) % 9))))
    graph.add_edges([0, 3], [3, 0])
    graph = dgl.add_edges(graph, [1, 2, 4, 5, 6, 7, 8], [1, 2, 4, 5, 6, 7, 8])  # all degrees are 4
    x, norm = torch.randn(9, 1, dtype=torch.float64), MeanSubtraction()
    flat = x
    for _ in range(300):
        flat, x = gnnlib.propagate(graph, flat), norm(graph, gnnlib.propagate(graph, x))
        x = x / x.norm()
    torch.testing.assert_close(flat, flat.mean().expand(9, 1))
    dense = torch.zeros(9, 9, dtype=torch.float64).index_put(graph.edges()[::-1], torch.tensor(0.25).double(), True)
    values, vectors = torch.linalg.eigh(dense)
    assert values[-1].item() == pytest.approx(1)
    assert abs((x[:, 0] @ vectors[:, -2]).item()) == pytest.approx(1, abs=1e-6)


def test_graph_norm_without_a_scale_of_the_mean_is_torchs_instance_norm():
    norm, twin = GraphNorm(4, mean_scale=False), nn.InstanceNorm1d(4, affine=True)
    shaken(norm)
    twin.load_state_dict(norm.state_dict())
    x = 3 + torch.randn(11, 4)
    torch.testing.assert_close(norm(random_graph(), x), twin(x.T.unsqueeze(0))[0].T)


def test_contra_norm_in_pieces(monkeypatch):
    """More nodes than are stored at once: the same outputs and gradients, of first and second order."""
    monkeypatch.setattr(norms, "STORED_NODES", 4)
    graph, norm = random_graph(), ContraNorm(3, scale=0.7).double()
    x = torch.randn(11, 2, 3, dtype=torch.float64, requires_grad=True)
    y, expected = norm(graph, x), torch.stack([contra_norm(norm, x[:, s]) for s in (0, 1)], 1)
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-12)
    ours, theirs = (torch.autograd.grad(z.sin().sum(), x, create_graph=True)[0] for z in (y, expected))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)
    ours, theirs = (torch.autograd.grad(z.sin().sum(), x)[0] for z in (ours, theirs))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-10)


def test_contra_norm_separates_similar_nodes():
    """The share of the first singular value of features near one direction, beside that of layer norm alone."""
    torch.manual_seed(0)
    x = torch.randn(1, 8, dtype=torch.float64) + 0.1 * torch.randn(11, 8, dtype=torch.float64)

    def share(y):
        values = torch.linalg.svdvals(y)
        return (values[0] / values.sum()).item()

    graph = random_graph()
    assert share(ContraNorm(8, scale=0.9).double()(graph, x)) < 0.8 * share(ContraNorm(8, scale=0.0).double()(graph, x))


def test_node_norm_sets_the_deviation_to_its_root():
    x = 10 + torch.randn(11, 64, dtype=torch.float64) * torch.logspace(-1, 2, 11, dtype=torch.float64)[:, None]
    before = x.std(1, correction=0)
    for p in (1, 2, 4):
        after = NodeNorm(p=p, eps=0.0)(random_graph(), x).std(1, correction=0)
        torch.testing.assert_close(after, before ** (1 - 1 / p))


@pytest.mark.parametrize("norm", NORMS)
def test_batch_equals_one_by_one(norm):
    """Batch statistics are over the batch by definition: those norms in evaluation."""
    one = shaken(norm(4).double()).train(norm not in (BatchNorm, DiffGroupNorm))
    parts = [edgeless(0), random_graph(6, 9), edgeless(1), path(4), edgeless(3)]
    xs = [torch.randn(part.num_nodes(), 2, 4, dtype=torch.float64) for part in parts]
    alone = torch.cat([one(part, x) for part, x in zip(parts, xs)])
    torch.testing.assert_close(one(dgl.batch(parts), torch.cat(xs)), alone, rtol=0, atol=1e-12)


@pytest.mark.parametrize("norm", NORMS)
def test_no_node_one_node_and_equal_nodes_have_finite_outputs_and_gradients(norm):
    for graph in (edgeless(0), edgeless(1), path(4)):
        x, one = torch.full((graph.num_nodes(), 3), 2.0, requires_grad=True), norm(3)
        y = one(graph, x)
        y.sum().backward()
        assert bool(y.isfinite().all())
        assert all(bool(leaf.grad.isfinite().all()) for leaf in (x, *one.parameters()) if leaf.grad is not None)


@pytest.mark.parametrize("norm", [ContraNorm, DiffGroupNorm, GraphNorm, MeanSubtraction, NodeNorm, PairNormSCS])
def test_differentiable_twice(norm):
    graph, one = dgl.batch([path(3), path(2)]), shaken(norm(2).double())
    x = torch.randn(5, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: one(graph, x), x)
    assert torch.autograd.gradgradcheck(lambda x: one(graph, x), x, fast_mode=True)


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("norm", NORMS)
def test_every_graph(norm, name):
    """Destinations are what is normalised: a block's, too, which counts as one graph."""
    graph = GRAPHS[name]()
    x = torch.randn(graph.num_dst_nodes(), 4)
    y = norm(4)(graph, x)
    assert y.shape == x.shape
    assert bool(y.isfinite().all())


def test_a_block_and_two_node_sets_count_as_one_graph():
    for graph in (GRAPHS["block"](), GRAPHS["bare_block"](), bipartite()):
        x = torch.randn(4, 3, dtype=torch.float64)
        torch.testing.assert_close(PairNorm()(graph, x), pair_norm(x, 1.0, False), rtol=0, atol=1e-9)


@pytest.mark.parametrize("norm", NORMS)
def test_permutation(norm):
    graph, order = random_graph(), torch.randperm(11)
    x = torch.randn(11, 4, dtype=torch.float64)
    one = norm(4).double()
    torch.testing.assert_close(one(graph, x[order]), one(graph, x)[order], rtol=0, atol=1e-12)


def test_batch_norm_within_an_mlp():
    norm, row, rows = RowBatchNorm(3), torch.randn(1, 3), torch.randn(8, 3)
    torch.testing.assert_close(norm(row), norm.eval()(row))
    torch.testing.assert_close(RowBatchNorm(3)(rows), nn.BatchNorm1d(3)(rows))
