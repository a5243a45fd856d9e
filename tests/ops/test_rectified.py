"""Rectified messages: against a loop over messages, and the kernels against their composition."""

import pytest
import torch

from gnnlib import kernels
from gnnlib._platform.dgl import dgl
from gnnlib.graph import adjacency
from gnnlib.kernels import cpu, reference
from gnnlib.kernels.cpu import team
from gnnlib.ops.autograd.rectified import RectifiedMeanMax
from gnnlib.ops.degrees import mean_from_sum
from gnnlib.ops.rectified import rectified_mean_max, rectified_sum
from gnnlib.testing.case import assert_close, assert_same_bits
from gnnlib.testing.graphs import GRAPHS, bipartite, endpoints, random_graph

EDGE_FEATS = pytest.mark.parametrize("edge_feats", [0, 3])


def inputs(graph, edge_feats, *shape, dtype=torch.float64):
    """Features of both ends, edge features and weights; all but the edge features require gradients."""
    torch.manual_seed(0)
    rows = graph.num_src_nodes(), graph.num_dst_nodes()
    a, b = (torch.randn(n, *shape, dtype=torch.float64).to(dtype).requires_grad_() for n in rows)
    edge, weight = torch.randn(graph.num_edges(), edge_feats).to(dtype), torch.randn(edge_feats, shape[-1]).to(dtype)
    return a, b, edge, weight.requires_grad_()


def outputs_and_grads(graph, args, function=rectified_mean_max):
    """Mean and maximum, and the gradients of all inputs for a loss of both."""
    mean, top = function(graph, *args)
    loss = (mean.sin() + 2 * top.cos()).sum()
    named = {name: value for name, value in zip(("a", "b", "edge", "weight"), args) if value.requires_grad}
    grads = torch.autograd.grad(loss, tuple(named.values()), allow_unused=True, materialize_grads=True)
    return {"mean": mean.detach(), "top": top.detach(), **{f"d {name}": g for name, g in zip(named, grads)}}


def composed(graph, a, b, edge, weight):
    share = mean_from_sum(graph, b.new_ones(len(b)))
    repeated = weight.repeat(1, a[0].numel() // a.shape[-1])
    y = RectifiedMeanMax.composition(a.flatten(1), b.flatten(1), edge, repeated, share, adjacency(graph))
    return (t.view(b.shape) for t in y)


def star(num_leaves):
    """A hub, whose columns are divided among the threads."""
    leaves = torch.arange(1, num_leaves + 1)
    return dgl.graph((torch.cat([leaves, 0 * leaves]), torch.cat([0 * leaves, leaves])))


@EDGE_FEATS
@pytest.mark.parametrize("name", GRAPHS)
def test_matches_loop_over_messages(name, edge_feats):
    graph = GRAPHS[name]()
    a, b, edge, weight = inputs(graph, edge_feats, 3)
    src, dst = endpoints(graph)
    messages = (a[src] + b[dst] + edge @ weight).clamp(min=0)
    rows = [messages[dst == v] for v in range(len(b))]
    none = 0 * (a.sum() + b.sum()).expand(1, 3)
    mean = torch.stack([m.mean(0) if len(m) else none[0] for m in rows] or [none[0]])[: len(b)]
    top = torch.stack([m.max(0).values if len(m) else none[0] for m in rows] or [none[0]])[: len(b)]
    expected = outputs_and_grads(graph, (a, b, edge, weight), lambda *_: (mean, top))
    assert_close(outputs_and_grads(graph, (a, b, edge, weight)), expected, 1e-13)


@pytest.mark.parametrize(
    ("shape", "edge_feats", "dtype"),
    [
        ((1,), 4, torch.float64),
        ((40,), 0, torch.float64),
        ((2, 3, 5), 2, torch.float64),
        ((40,), 3, torch.float32),
        ((16,), 9, torch.float32),
    ],
)
def test_kernels_match_reference_and_composition(shape, edge_feats, dtype):
    for graph in (random_graph(60, 500), bipartite(), star(20000)):
        args = inputs(graph, edge_feats, *shape, dtype=dtype)
        result = outputs_and_grads(graph, args)
        tolerance = 1e-12 if dtype == torch.float64 else 1e-4
        assert_close(result, outputs_and_grads(graph, args, composed), tolerance)
        with kernels.force(reference):
            assert_close(result, outputs_and_grads(graph, args), tolerance)


@EDGE_FEATS
def test_bits_do_not_depend_on_threads(edge_feats, monkeypatch):
    monkeypatch.setattr(team, "TINY", 0)
    before = torch.get_num_threads()
    for graph in (random_graph(1500, 12000), star(20000)):
        args, result = inputs(graph, edge_feats, 40, dtype=torch.float32), []
        try:
            for threads in (1, 2, 2, 5):
                torch.set_num_threads(threads)
                result.append(outputs_and_grads(graph, args))
        finally:
            torch.set_num_threads(before)
        for other in result[1:]:
            assert_same_bits(other, result[0])


@EDGE_FEATS
def test_second_derivatives(edge_feats):
    """For all inputs, including the edge features."""
    graph = dgl.graph(([0, 1, 0, 0, 2, 1], [1, 1, 2, 2, 2, 0]), num_nodes=4)
    args = [t.detach().requires_grad_() for t in inputs(graph, edge_feats, 2)]
    assert torch.autograd.gradcheck(lambda *args: rectified_mean_max(graph, *args), args)
    assert torch.autograd.gradgradcheck(lambda *args: rectified_mean_max(graph, *args), args)


def test_edge_gradient_does_not_change_other_gradients():
    graph = random_graph(60, 500)
    a, b, edge, weight = inputs(graph, 3, 8)
    fused = outputs_and_grads(graph, (a, b, edge, weight))
    recomposed = outputs_and_grads(graph, (a, b, edge.requires_grad_(), weight))
    assert recomposed.pop("d edge").abs().max() > 0
    assert_close(fused, recomposed, 1e-13)


def test_maximum_of_equal_messages_is_the_first():
    """The messages of nodes 1 and 2 to 0 are equal, with edges out of order; the ReLU makes that of 3 to 4 zero."""
    graph = dgl.graph(([2, 1, 2, 3], [0, 0, 0, 4]))
    a = torch.tensor([[0.0], [7.0], [7.0], [-9.0], [0.0]], requires_grad=True)
    for module in (None, reference):
        with kernels.force(module):
            (grad,) = torch.autograd.grad(rectified_mean_max(graph, a, torch.zeros(5, 1))[1].sum(), a)
            assert grad.flatten().tolist() == [0, 0, 1, 0, 0]


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_nan_and_inf(value):
    """In the first, the middle or the last message; other nodes stay finite."""
    graph = dgl.graph(([0, 1, 2, 1], [3, 3, 3, 0]))
    for at in range(3):
        a = torch.ones(4, 40)
        a[at] = value
        for result in rectified_mean_max(graph, a, torch.zeros(4, 40)):
            torch.testing.assert_close(result[3], torch.full((40,), value), equal_nan=True)
            assert result[0].isfinite().all() == (at != 1)


def test_strided_inputs():
    graph = random_graph(60, 500)
    args = inputs(graph, 3, 2, 20)
    expected = outputs_and_grads(graph, args)
    strided = [t.detach().repeat_interleave(2, -1)[..., ::2].requires_grad_(t.requires_grad) for t in args]
    assert not strided[0].is_contiguous()
    assert_same_bits(outputs_and_grads(graph, strided), expected)
    mean, top = rectified_mean_max(graph, *args)
    one = torch.autograd.grad((mean + top).sum(), args[0], retain_graph=True)  # a gradient of stride 0
    assert torch.equal(*one, *torch.autograd.grad((mean + top).sum() * 1.0, args[0]))


def test_gradients_of_mean_and_maximum_add_up():
    graph = random_graph(60, 500)
    args = inputs(graph, 3, 20)
    leaves = [t for t in args if t.requires_grad]
    alone = [torch.autograd.grad(rectified_mean_max(graph, *args)[i].sum(), leaves) for i in (0, 1)]
    both = torch.autograd.grad(sum(result.sum() for result in rectified_mean_max(graph, *args)), leaves)
    for mean, top, total in zip(*alone, both):
        torch.testing.assert_close(mean + top, total, rtol=0, atol=1e-12)


def test_no_message_is_saved():
    """The tensors saved for the backward pass are as large as the node features and the edge features."""
    graph, sizes = random_graph(60, 500), []
    args = inputs(graph, 3, 40)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t):
        rectified_mean_max(graph, *args)
    assert max(sizes) <= 60 * 40


def test_accepts_adjacency():
    graph = random_graph()
    args = inputs(graph, 3, 5)
    assert_same_bits(outputs_and_grads(adjacency(graph), args), outputs_and_grads(graph, args))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"a": torch.ones(11)}, ValueError, r"\(11,\)"),
        ({"a": torch.ones(10, 4)}, ValueError, "expected 11 rows, one for each source node"),
        ({"b": torch.ones(11, 3)}, ValueError, r"got \(11, 4\), \(11, 3\), \(23, 2\) and \(2, 4\)"),
        ({"edge": torch.ones(22, 2)}, ValueError, "expected 23 rows, one for each edge"),
        ({"weight": torch.ones(3, 4)}, ValueError, r"weight \(D, F\), got .* and \(3, 4\)"),
        ({"weight": None}, ValueError, r"\(23, 2\) and \(0, 4\)"),
        ({"b": torch.ones(11, 4).long()}, TypeError, "floating-point values, got torch.int64"),
    ],
)
def test_invalid_arguments(change, error, message):
    args = {"a": torch.ones(11, 4), "b": torch.ones(11, 4), "edge": torch.ones(23, 2), "weight": torch.ones(2, 4)}
    with pytest.raises(error, match=message):
        rectified_mean_max(random_graph(), **{**args, **change})


# ---------------------------------------------------------------- rectified sums with a vector per edge


def test_rectified_sum_with_dense_matrices():
    graph, x, edge, coeff = random_graph(), *(torch.randn(n, *f).double() for n, f in ((11, [4]), (23, [4]), (23, [])))
    src, dst = graph.edges()
    incidence = torch.eye(11).double()[dst].T
    expected = incidence @ (coeff.unsqueeze(1) * (x[src] + edge).clamp(min=0))
    torch.testing.assert_close(rectified_sum(graph, x, edge, coeff), expected)
    signals = torch.stack([x, 2 * x], 1)
    both = torch.stack([rectified_sum(graph, s, edge) for s in signals.unbind(1)], 1)
    torch.testing.assert_close(rectified_sum(graph, signals, edge), both)


def test_rectified_sum_second_derivatives():
    graph, x, edge = random_graph(), torch.randn(11, 2).double(), torch.randn(23, 2).double()
    inputs = x.requires_grad_(), edge.requires_grad_()
    torch.autograd.gradcheck(lambda *args: rectified_sum(graph, *args), inputs)
    torch.autograd.gradgradcheck(lambda *args: rectified_sum(graph, *args).square(), inputs)


@pytest.mark.parametrize(
    ("x", "edge", "message"),
    [
        (torch.ones(11, 4), torch.ones(23, 3), r"x \(N, ..., F\) and edge \(E, F\), got \(11, 4\) and \(23, 3\)"),
        (torch.ones(11, 4), torch.ones(22, 4), r"edge: expected 23 rows, one for each edge, got shape \(22, 4\)"),
        (torch.ones(10, 4), torch.ones(23, 4), r"x: expected 11 rows, one for each source node, got shape \(10, 4\)"),
    ],
)
def test_rectified_sum_invalid_arguments(x, edge, message):
    with pytest.raises(ValueError, match=message):
        rectified_sum(random_graph(), x, edge)


@pytest.mark.parametrize("name", GRAPHS)
def test_rectified_sum_kernels_match_reference(name):
    graph = GRAPHS[name]()
    adj, rows = adjacency(graph), (graph.num_src_nodes(), graph.num_edges())
    x, e = (torch.randn(n, 19, dtype=torch.float64) for n in rows)
    coeff, grad = torch.randn(rows[1]).double(), torch.randn(graph.num_dst_nodes(), 19).double()
    result = cpu.rectified_sum(adj.csc, x, e, coeff), cpu.rectified_grad(adj.csc, x, e, coeff, grad)
    expected = reference.rectified_sum(adj.csc, x, e, coeff), reference.rectified_grad(adj.csc, x, e, coeff, grad)
    for ours, theirs in zip(result, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_rectified_sum_of_nan():
    graph, x = random_graph(), torch.full((11, 2), torch.nan)
    receives = graph.in_degrees() > 0
    assert rectified_sum(graph, x, torch.zeros(23, 2))[receives].isnan().all()
    with kernels.force(reference):
        assert rectified_sum(graph, x, torch.zeros(23, 2))[receives].isnan().all()
