"""Means and maxima of rectified messages: message by message; the kernels against the composition they stand for."""

import pytest
import torch

from gnnlib import kernels
from gnnlib._platform.dgl import dgl
from gnnlib.graph import adjacency
from gnnlib.kernels import cpu, reference
from gnnlib.kernels.cpu import team
from gnnlib.ops.autograd.rectified import composed_mean_max
from gnnlib.ops.degrees import mean_from_sum
from gnnlib.ops.rectified import rectified_mean_max, rectified_sum
from gnnlib.testing.checks import assert_close, assert_same_bits
from gnnlib.testing.graphs import GRAPHS, bipartite, endpoints, random_graph

MANY = pytest.mark.parametrize("many", [0, 3])


def inputs(graph, many, *shape, dtype=torch.float64):
    """Both ends with gradients, edge features without, weights with."""
    torch.manual_seed(0)
    rows = graph.num_src_nodes(), graph.num_dst_nodes()
    a, b = (torch.randn(n, *shape, dtype=torch.float64).to(dtype).requires_grad_() for n in rows)
    edge, weight = torch.randn(graph.num_edges(), many).to(dtype), torch.randn(many, shape[-1]).to(dtype)
    return a, b, edge, weight.requires_grad_()


def everything(graph, given, function=rectified_mean_max):
    """Mean and maximum, and the gradients of all inputs for a loss in which both have a part."""
    mean, top = function(graph, *given)
    loss = (mean.sin() + 2 * top.cos()).sum()
    named = {name: value for name, value in zip(("a", "b", "edge", "weight"), given) if value.requires_grad}
    grads = torch.autograd.grad(loss, tuple(named.values()), allow_unused=True, materialize_grads=True)
    return {"mean": mean.detach(), "top": top.detach(), **{f"d {name}": g for name, g in zip(named, grads)}}


def composed(graph, a, b, edge, weight):
    share = mean_from_sum(graph, b.new_ones(len(b)))
    repeated = weight.repeat(1, a[0].numel() // a.shape[-1])
    y = composed_mean_max(adjacency(graph), share, a.flatten(1), b.flatten(1), edge, repeated)
    return (t.view(b.shape) for t in y.chunk(2, 1))


def star(num_leaves):
    """A hub, whose columns are shared out."""
    leaves = torch.arange(1, num_leaves + 1)
    return dgl.graph((torch.cat([leaves, 0 * leaves]), torch.cat([0 * leaves, leaves])))


@MANY
@pytest.mark.parametrize("name", GRAPHS)
def test_message_by_message(name, many):
    graph = GRAPHS[name]()
    a, b, edge, weight = inputs(graph, many, 3)
    src, dst = endpoints(graph)
    messages = (a[src] + b[dst] + edge @ weight).clamp(min=0)
    rows = [messages[dst == v] for v in range(len(b))]
    none = 0 * (a.sum() + b.sum()).expand(1, 3)
    mean = torch.stack([m.mean(0) if len(m) else none[0] for m in rows] or [none[0]])[: len(b)]
    top = torch.stack([m.max(0).values if len(m) else none[0] for m in rows] or [none[0]])[: len(b)]
    expected = everything(graph, (a, b, edge, weight), lambda *_: (mean, top))
    assert_close(everything(graph, (a, b, edge, weight)), expected, 1e-13)


@pytest.mark.parametrize(
    ("shape", "many", "dtype"),
    [
        ((1,), 4, torch.float64),
        ((40,), 0, torch.float64),
        ((2, 3, 5), 2, torch.float64),
        ((40,), 3, torch.float32),
        ((16,), 9, torch.float32),
    ],
)
def test_kernels_agree_with_their_definition_and_with_the_composition(shape, many, dtype):
    for graph in (random_graph(60, 500), bipartite(), star(20000)):
        given = inputs(graph, many, *shape, dtype=dtype)
        found = everything(graph, given)
        tolerance = 1e-12 if dtype == torch.float64 else 1e-4
        assert_close(found, everything(graph, given, composed), tolerance)
        with kernels.force(reference):
            assert_close(found, everything(graph, given), tolerance)


@MANY
def test_any_number_of_threads_gives_the_same_bits(many, monkeypatch):
    monkeypatch.setattr(team, "TINY", 0)
    before = torch.get_num_threads()
    for graph in (random_graph(1500, 12000), star(20000)):
        given, found = inputs(graph, many, 40, dtype=torch.float32), []
        try:
            for threads in (1, 2, 2, 5):
                torch.set_num_threads(threads)
                found.append(everything(graph, given))
        finally:
            torch.set_num_threads(before)
        for other in found[1:]:
            assert_same_bits(other, found[0])


@MANY
def test_differentiable_twice(many):
    """In all inputs, the edge features among them."""
    graph = dgl.graph(([0, 1, 0, 0, 2, 1], [1, 1, 2, 2, 2, 0]), num_nodes=4)
    given = [t.detach().requires_grad_() for t in inputs(graph, many, 2)]
    assert torch.autograd.gradcheck(lambda *given: rectified_mean_max(graph, *given), given)
    assert torch.autograd.gradgradcheck(lambda *given: rectified_mean_max(graph, *given), given)


def test_a_gradient_for_the_edge_features_leaves_the_others_as_they_are():
    graph = random_graph(60, 500)
    a, b, edge, weight = inputs(graph, 3, 8)
    fused = everything(graph, (a, b, edge, weight))
    recomposed = everything(graph, (a, b, edge.requires_grad_(), weight))
    assert recomposed.pop("d edge").abs().max() > 0
    assert_close(fused, recomposed, 1e-13)


def test_the_first_of_equal_messages_is_the_maximum():
    """Nodes 1 and 2 send the same to 0, in edges out of order; 3 sends to 4 what the ReLU cuts off."""
    graph = dgl.graph(([2, 1, 2, 3], [0, 0, 0, 4]))
    a = torch.tensor([[0.0], [7.0], [7.0], [-9.0], [0.0]], requires_grad=True)
    for module in (None, reference):
        with kernels.force(module):
            (grad,) = torch.autograd.grad(rectified_mean_max(graph, a, torch.zeros(5, 1))[1].sum(), a)
            assert grad.flatten().tolist() == [0, 0, 1, 0, 0]


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_what_is_not_finite_stays(value):
    """Whether it comes first or last; and nowhere else."""
    graph = dgl.graph(([0, 1, 2, 1], [3, 3, 3, 0]))
    for at in range(3):
        a = torch.ones(4, 40)
        a[at] = value
        for found in rectified_mean_max(graph, a, torch.zeros(4, 40)):
            torch.testing.assert_close(found[3], torch.full((40,), value), equal_nan=True)
            assert found[0].isfinite().all() == (at != 1)


def test_layout_does_not_matter():
    graph = random_graph(60, 500)
    given = inputs(graph, 3, 2, 20)
    expected = everything(graph, given)
    strided = [t.detach().repeat_interleave(2, -1)[..., ::2].requires_grad_(t.requires_grad) for t in given]
    assert not strided[0].is_contiguous()
    assert_same_bits(everything(graph, strided), expected)
    mean, top = rectified_mean_max(graph, *given)
    one = torch.autograd.grad((mean + top).sum(), given[0], retain_graph=True)  # a gradient of stride 0
    assert torch.equal(*one, *torch.autograd.grad((mean + top).sum() * 1.0, given[0]))


def test_the_mean_alone_and_the_maximum_alone_have_gradients_that_add_up():
    graph = random_graph(60, 500)
    given = inputs(graph, 3, 20)
    leaves = [t for t in given if t.requires_grad]
    alone = [torch.autograd.grad(rectified_mean_max(graph, *given)[i].sum(), leaves) for i in (0, 1)]
    both = torch.autograd.grad(sum(found.sum() for found in rectified_mean_max(graph, *given)), leaves)
    for mean, top, whole in zip(*alone, both):
        torch.testing.assert_close(mean + top, whole, rtol=0, atol=1e-12)


def test_nothing_is_kept_along_edges():
    """What is saved for the backward pass is as large as the nodes and the given edge features."""
    graph, sizes = random_graph(60, 500), []
    given = inputs(graph, 3, 40)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t):
        rectified_mean_max(graph, *given)
    assert max(sizes) <= 60 * 40


def test_neighbors_do_for_a_graph():
    graph = random_graph()
    given = inputs(graph, 3, 5)
    assert_same_bits(everything(adjacency(graph), given), everything(graph, given))


@pytest.mark.parametrize(
    ("change", "error", "said"),
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
def test_bad_input_is_refused(change, error, said):
    given = {"a": torch.ones(11, 4), "b": torch.ones(11, 4), "edge": torch.ones(23, 2), "weight": torch.ones(2, 4)}
    with pytest.raises(error, match=said):
        rectified_mean_max(random_graph(), **{**given, **change})


# ---------------------------------------------------------------- the sum of those with a vector for each edge


def test_rectified_sum_with_dense_matrices():
    graph, x, edge, coeff = random_graph(), *(torch.randn(n, *f).double() for n, f in ((11, [4]), (23, [4]), (23, [])))
    src, dst = graph.edges()
    incidence = torch.eye(11).double()[dst].T
    expected = incidence @ (coeff.unsqueeze(1) * (x[src] + edge).clamp(min=0))
    torch.testing.assert_close(rectified_sum(graph, x, edge, coeff), expected)
    signals = torch.stack([x, 2 * x], 1)
    both = torch.stack([rectified_sum(graph, s, edge) for s in signals.unbind(1)], 1)
    torch.testing.assert_close(rectified_sum(graph, signals, edge), both)


def test_rectified_sum_differentiates_twice():
    graph, x, edge = random_graph(), torch.randn(11, 2).double(), torch.randn(23, 2).double()
    inputs = x.requires_grad_(), edge.requires_grad_()
    torch.autograd.gradcheck(lambda *given: rectified_sum(graph, *given), inputs)
    torch.autograd.gradgradcheck(lambda *given: rectified_sum(graph, *given).square(), inputs)


@pytest.mark.parametrize(
    ("x", "edge", "said"),
    [
        (torch.ones(11, 4), torch.ones(23, 3), r"x \(N, ..., F\) and edge \(E, F\), got \(11, 4\) and \(23, 3\)"),
        (torch.ones(11, 4), torch.ones(22, 4), r"edge: expected 23 rows, one for each edge, got shape \(22, 4\)"),
        (torch.ones(10, 4), torch.ones(23, 4), r"x: expected 11 rows, one for each source node, got shape \(10, 4\)"),
    ],
)
def test_rectified_sum_refuses_what_does_not_fit(x, edge, said):
    with pytest.raises(ValueError, match=said):
        rectified_sum(random_graph(), x, edge)


@pytest.mark.parametrize("name", GRAPHS)
def test_the_kernels_of_rectified_sums_are_the_reference(name):
    graph = GRAPHS[name]()
    adj, rows = adjacency(graph), (graph.num_src_nodes(), graph.num_edges())
    x, e = (torch.randn(n, 19, dtype=torch.float64) for n in rows)
    coeff, grad = torch.randn(rows[1]).double(), torch.randn(graph.num_dst_nodes(), 19).double()
    found = cpu.rectified_sum(adj.csc, x, e, coeff), cpu.rectified_grad(adj.csc, x, e, coeff, grad)
    expected = reference.rectified_sum(adj.csc, x, e, coeff), reference.rectified_grad(adj.csc, x, e, coeff, grad)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_rectified_sum_keeps_what_is_not_a_number():
    graph, x = random_graph(), torch.full((11, 2), torch.nan)
    heard = graph.in_degrees() > 0
    assert rectified_sum(graph, x, torch.zeros(23, 2))[heard].isnan().all()
    with kernels.force(reference):
        assert rectified_sum(graph, x, torch.zeros(23, 2))[heard].isnan().all()
