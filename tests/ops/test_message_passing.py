"""The operations: their values on dense matrices, their derivatives to the third, their errors."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck, gradgradcheck
from torch.autograd.graph import saved_tensors_hooks

import gnnlib
from gnnlib import kernels
from gnnlib._platform.dgl import dgl
from gnnlib.kernels import cpu, reference
from gnnlib.ops import aggregate, edge_dot, edge_score, edge_softmax, gather_dst, gather_src
from gnnlib.ops import message_passing as ops
from gnnlib.ops.autograd import convolution
from gnnlib.ops.degrees import degree_norm
from gnnlib.testing.graphs import GRAPHS, bipartite, endpoints, graph_strategy, path, random_graph
from tests.pairs import parametrize_pairs

KERNELS = [cpu, reference]
MODULES = pytest.mark.parametrize("module", KERNELS, ids=["cpu", "reference"])
EVERY = pytest.mark.parametrize("name", GRAPHS)


def rand(*shape: int, seed: int = 0, grad: bool = False, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    random = torch.Generator().manual_seed(seed + sum(shape))
    return torch.randn(shape, generator=random, dtype=dtype).requires_grad_(grad)


def sizes(graph: dgl.DGLGraph) -> tuple[int, int, int]:
    return graph.num_src_nodes(), graph.num_dst_nodes(), graph.num_edges()


def messages(graph: dgl.DGLGraph, x: torch.Tensor, coeff: torch.Tensor | None) -> torch.Tensor:
    """(E, *, F): coeff (E,) or (E, *) times x at the source, by broadcasting."""
    message = x[endpoints(graph)[0]]
    if coeff is None:
        return message
    return coeff.reshape(*coeff.shape, *[1] * (message.dim() - coeff.dim())) * message


def looped(graph: dgl.DGLGraph, x: torch.Tensor, coeff: torch.Tensor | None, reduce: str) -> torch.Tensor:
    """`aggregate`, node by node."""
    message, dst = messages(graph, x, coeff), endpoints(graph)[1]
    rows = []
    for v in range(graph.num_dst_nodes()):
        received = message[dst == v]
        if len(received) == 0:
            rows.append(message.new_zeros(message.shape[1:]))
        else:
            rows.append({"sum": received.sum, "mean": received.mean, "max": received.amax}[reduce](0))
    return torch.stack(rows) if rows else message.new_zeros(0, *message.shape[1:])


# The shapes of x behind its nodes and of coeff behind its edges.
LAYOUTS = [
    ((4,), None),
    ((4,), ()),
    ((1,), ()),
    ((0,), ()),
    ((3, 4), None),
    ((3, 4), ()),
    ((3, 4), (3,)),
    ((3, 4), (1,)),
    ((1, 4), (3,)),
    ((1, 4), (1,)),
    ((5, 3, 4), (5, 3)),
    ((5, 3, 4), (1, 3)),  # heads, and signals that share them
    ((5, 3, 4), (5, 1)),
    ((5, 3, 4), (1, 1)),
    ((5, 1, 4), (1, 3)),
    ((1, 3, 4), (5, 1)),
    ((1, 1, 4), (5, 3)),
    ((5, 3, 4), ()),
    ((2, 5, 3, 4), (2, 1, 3)),
    ((2, 0, 4), (2, 0)),
]


@pytest.mark.parametrize("reduce", ["sum", "mean", "max"])
@pytest.mark.parametrize(("inner", "axes"), LAYOUTS)
def test_aggregate_every_layout(inner, axes, reduce):
    for graph in (random_graph(), bipartite(), GRAPHS["bare"](), GRAPHS["no_nodes"]()):
        num_src, _, num_edges = sizes(graph)
        x = rand(num_src, *inner, grad=True)
        coeff = rand(num_edges, *axes, grad=True) if axes is not None else None
        inputs = [t for t in (x, coeff) if t is not None]
        for module in (cpu, reference):
            with kernels.force(module):
                got = aggregate(graph, x, coeff, reduce)
                want = looped(graph, x, coeff, reduce)
                torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)
                if num_edges and want.numel():
                    weight = rand(*want.shape)
                    grads = torch.autograd.grad(got, inputs, weight)
                    torch.testing.assert_close(grads, torch.autograd.grad(want, inputs, weight), rtol=1e-12, atol=1e-12)


@parametrize_pairs(name=GRAPHS, module=KERNELS, reduce=["sum", "mean", "max"])
def test_aggregate_every_graph(name, module, reduce):
    graph = GRAPHS[name]()
    num_src, _, num_edges = sizes(graph)
    x, coeff = rand(num_src, 2, 3), rand(num_edges, 2)
    with kernels.force(module):
        torch.testing.assert_close(aggregate(graph, x, coeff, reduce), looped(graph, x, coeff, reduce))
        torch.testing.assert_close(aggregate(graph, x, None, reduce), looped(graph, x, None, reduce))


@EVERY
def test_aggregate_is_a_matrix_product(name):
    graph = GRAPHS[name]()
    num_src, num_dst, num_edges = sizes(graph)
    src, dst = endpoints(graph)
    x, coeff = rand(num_src, 2, 3), rand(num_edges, 2)
    adjacency = torch.zeros(2, num_dst, num_src, dtype=torch.float64)
    for e, (u, v) in enumerate(zip(src.tolist(), dst.tolist())):
        adjacency[:, v, u] += coeff[e]
    torch.testing.assert_close(aggregate(graph, x, coeff), torch.einsum("hvu,uhf->vhf", adjacency, x))


@settings(max_examples=40, deadline=None)
@given(graph=graph_strategy(), reduce=st.sampled_from(["sum", "mean", "max"]), data=st.data())
def test_aggregate_does_not_see_the_order_of_edges(graph, reduce, data):
    order = data.draw(st.permutations(range(graph.num_edges())))
    src, dst = endpoints(graph)
    other = dgl.graph((src[order], dst[order]), num_nodes=graph.num_nodes())
    x, coeff = rand(graph.num_nodes(), 2), rand(graph.num_edges())
    torch.testing.assert_close(aggregate(other, x, coeff[order], reduce), aggregate(graph, x, coeff, reduce))


@EVERY
@MODULES
def test_edge_values_every_graph(name, module):
    graph = GRAPHS[name]()
    num_src, num_dst, num_edges = sizes(graph)
    src, dst = endpoints(graph)
    x, y, score = rand(num_src, 2, 3), rand(num_dst, 2, 3), rand(num_edges, 2)
    with kernels.force(module):
        torch.testing.assert_close(edge_dot(graph, x, y), (x[src] * y[dst]).sum(-1))
        assert torch.equal(gather_src(graph, x), x[src])
        assert torch.equal(gather_dst(graph, y), y[dst])
        prob = edge_softmax(graph, score)
    want = torch.zeros_like(score)
    for v in range(num_dst):
        want[dst == v] = score[dst == v].softmax(0)
    torch.testing.assert_close(prob, want)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((4,), (4,)),
        ((3, 4), (3, 4)),
        ((1, 4), (3, 4)),
        ((3, 4), (1, 4)),
        ((1, 4), (1, 4)),
        ((2, 1, 4), (2, 3, 4)),
        ((2, 3, 4), (1, 1, 4)),
        ((2, 1, 4), (1, 3, 4)),
        ((3, 0), (3, 0)),
    ],
)
def test_edge_dot_every_layout(one, other):
    graph = bipartite()
    src, dst = endpoints(graph)
    x, y = rand(6, *one, grad=True), rand(4, *other, grad=True)
    got, want = edge_dot(graph, x, y), (x[src] * y[dst]).sum(-1)
    torch.testing.assert_close(got, want)
    weight = rand(*want.shape)
    torch.testing.assert_close(*(torch.autograd.grad(t, (x, y), weight) for t in (got, want)))


@pytest.mark.parametrize("shape", [(), (1,), (3,), (2, 3), (0,)])
def test_edge_softmax_and_gather_every_layout(shape):
    graph = random_graph()
    src, dst = endpoints(graph)
    score, x = 9 * rand(23, *shape), rand(11, *shape)
    prob = edge_softmax(graph, score)
    assert prob.shape == score.shape
    for v in range(11):
        torch.testing.assert_close(prob[dst == v], score[dst == v].softmax(0))
    assert torch.equal(gather_src(graph, x), x[src])
    assert torch.equal(gather_dst(graph, x), x[dst])
    nothing = GRAPHS["bare"]()
    assert edge_softmax(nothing, rand(0, *shape)).shape == (0, *shape)
    assert gather_src(nothing, rand(4, *shape)).shape == (0, *shape)


@parametrize_pairs(module=KERNELS, heads_a=[1, 3], heads_b=[1, 3], slope=[0.0, 0.2])
def test_edge_score(module, heads_a, heads_b, slope):
    for graph in (bipartite(), GRAPHS["block"]()):
        src, dst = endpoints(graph)
        a = rand(graph.num_src_nodes(), heads_a, 4, grad=True)
        b = rand(graph.num_dst_nodes(), heads_b, 4, grad=True)
        att = rand(3, 4, grad=True)
        want = (torch.nn.functional.leaky_relu(a[src] + b[dst], slope) * att).sum(-1)
        weight = rand(len(src), 3)
        with kernels.force(module):
            got = edge_score(graph, a, b, att, slope)
            torch.testing.assert_close(got, want)
            torch.testing.assert_close(*(torch.autograd.grad(t, (a, b, att), weight) for t in (got, want)))


# ---------------------------------------------------------------- derivatives

DERIVATIVES = {
    "sum": (lambda g, x, c: aggregate(g, x, c), ("x", "coeff")),
    "sum, no coeff": (lambda g, x: aggregate(g, x), ("x",)),
    "sum, one number an edge": (lambda g, x, c: aggregate(g, x, c[:, 0]), ("x", "coeff")),
    "mean": (lambda g, x, c: aggregate(g, x, c, "mean"), ("x", "coeff")),
    "max": (lambda g, x, c: aggregate(g, x, c, "max"), ("x", "coeff")),
    "max, no coeff": (lambda g, x: aggregate(g, x, None, "max"), ("x",)),
    "edge_dot": (edge_dot, ("x", "y")),
    "edge_softmax": (edge_softmax, ("coeff",)),
    "edge_score": (lambda g, a, b, att: edge_score(g, a, b, att, 0.2), ("x", "y", "att")),
    "edge_score, one of each": (lambda g, a, b, t: edge_score(g, a[:, :1], b[:, :1], t, 0.2), ("x", "y", "att")),
    "gather_src": (gather_src, ("x",)),
    "gather_dst": (gather_dst, ("y",)),
    "norm of weights": (lambda g, c: degree_norm(g, c.exp(), "both", "weighted"), ("coeff",)),
    "row norm of weights": (lambda g, c: degree_norm(g, c.exp(), "right", "weighted"), ("coeff",)),
    "attention": (
        lambda g, x, y: aggregate(g, x, edge_softmax(g, edge_dot(g, x, y) / 2)),
        ("x", "y"),
    ),
}


def case(name: str, graph: dgl.DGLGraph):
    """The function of its tensors alone, and those; maxima are far from ties, activations from their kink."""
    function, names = DERIVATIVES[name]
    num_src, num_dst, num_edges = sizes(graph)
    tensors = {
        "x": rand(num_src, 2, 3, grad=True),
        "y": rand(num_dst, 2, 3, grad=True),
        "coeff": rand(num_edges, 2, grad=True),
        "att": rand(2, 3, grad=True),
    }
    return lambda *inputs: function(graph, *inputs), [tensors[t] for t in names]


# ---------------------------------------------------------------- fused operations


def composed(graph, feat, att_src, att_dst, feat_dst, slope, coeff, bias):
    """`attend`, operation by operation."""
    feat_dst = feat[: graph.num_dst_nodes()] if feat_dst is None else feat_dst
    score = gather_src(graph, (feat * att_src).sum(-1)) + gather_dst(graph, (feat_dst * att_dst).sum(-1))
    prob = edge_softmax(graph, torch.nn.functional.leaky_relu(score, slope))
    if coeff is not None:
        prob = prob * coeff.reshape(*coeff.shape, *[1] * (prob.dim() - coeff.dim()))
    return aggregate(graph, feat, prob) + bias


@parametrize_pairs(name=GRAPHS, module=KERNELS, shape=[(2, 3), (4, 2, 3)], weights=["none", "one", "each"])
def test_attend_is_its_composition(name, module, shape, weights):
    """Values and gradients, with the destinations' feat_dst features and without."""
    graph = GRAPHS[name]()
    num_src, num_dst, num_edges = sizes(graph)
    coeff = {"none": None, "one": rand(num_edges), "each": rand(num_edges, *shape[:-1])}[weights]
    for feat_dst in (None, rand(num_dst, *shape, seed=1, grad=True)):
        if feat_dst is None and num_dst > num_src:
            continue
        feat = rand(num_src, *shape, grad=True)
        *vectors, bias = (rand(*shape[-2:], seed=seed, grad=True) for seed in (2, 3, 4))
        inputs = [t for t in (feat, *vectors, bias, feat_dst) if t is not None]
        with kernels.force(module):
            got = ops.attend(graph, feat, *vectors, feat_dst, 0.2, coeff, bias)
            want = composed(graph, feat, *vectors, feat_dst, 0.2, coeff, bias)
            torch.testing.assert_close(got, want)
            grad = rand(*got.shape, seed=4)
            for a, b in zip(
                torch.autograd.grad(got, inputs, grad), torch.autograd.grad(want, inputs, grad), strict=True
            ):
                torch.testing.assert_close(a, b)


@pytest.mark.parametrize("name", ["random", "multi_edge", "block", "star"])
def test_derivatives_of_attend(name):
    graph = GRAPHS[name]()
    num_src, _, num_edges = sizes(graph)
    inputs = rand(num_src, 2, 3, grad=True), rand(2, 3, grad=True), rand(2, 3, seed=1, grad=True)
    coeff = rand(num_edges, 2, grad=True)

    bias = rand(2, 3, seed=2, grad=True)

    def function(feat, att_src, att_dst, coeff, bias):
        return ops.attend(graph, feat, att_src, att_dst, None, 0.2, coeff, bias)

    assert gradcheck(function, (*inputs, coeff, bias))
    assert gradgradcheck(function, (*inputs, coeff, bias), fast_mode=True)


@parametrize_pairs(name=GRAPHS, module=KERNELS, inner=[(3,), (4, 3), (2, 4, 3)], part=[1, 60, 1 << 20])
def test_convolve_is_its_sum(name, module, inner, part, monkeypatch):
    """Values and gradients, however few destinations are taken at a time."""
    monkeypatch.setitem(convolution.PART, "cpu", part)
    graph = GRAPHS[name]()
    num_src, num_dst, num_edges = sizes(graph)
    inputs = rand(num_src, *inner, grad=True), rand(num_edges, 5, grad=True), rand(5, 3, 2, grad=True)
    x, basis, weight = inputs
    with kernels.force(module):
        got = ops.convolve(graph, *inputs)
    want = x.new_zeros(num_dst, *inner[:-1], 2)
    for k in range(5):
        want = want + aggregate(graph, x, basis[:, k].contiguous()) @ weight[k]
    torch.testing.assert_close(got, want)
    grad = rand(*got.shape, seed=4)
    with kernels.force(module):
        grads = torch.autograd.grad(got, inputs, grad)
    for a, b in zip(grads, torch.autograd.grad(want, inputs, grad), strict=True):
        torch.testing.assert_close(a, b)


@parametrize_pairs(name=GRAPHS, module=KERNELS, part=[1, 60, 1 << 20], integer=[torch.int32, torch.int64])
def test_taps_are_a_one_hot_basis(name, module, part, integer, monkeypatch):
    monkeypatch.setitem(convolution.PART, "cpu", part)
    graph = GRAPHS[name]()
    num_src, _, num_edges = sizes(graph)
    taps = torch.randint(4, (num_edges,), generator=torch.Generator().manual_seed(0), dtype=integer)
    inputs = rand(num_src, 2, 3, grad=True), rand(5, 3, 2, grad=True)
    want = ops.convolve(graph, inputs[0], torch.nn.functional.one_hot(taps.long(), 5).double(), inputs[1])
    with kernels.force(module):
        got = ops.convolve(graph, inputs[0], taps, inputs[1])
        torch.testing.assert_close(got, want)
        grad = rand(*got.shape, seed=4)
        for a, b in zip(torch.autograd.grad(got, inputs, grad), torch.autograd.grad(want, inputs, grad), strict=True):
            torch.testing.assert_close(a, b)


@parametrize_pairs(name=GRAPHS, module=KERNELS, part=[1, 60, 1 << 20], groups=[(), (2,)], num_taps=[2, 40])
def test_weighted_taps_are_a_weighted_one_hot_basis(name, module, part, groups, num_taps, monkeypatch):
    """Values and gradients, where most destinations have few of the taps too."""
    monkeypatch.setitem(convolution.PART, "cpu", part)
    graph = GRAPHS[name]()
    num_src, _, num_edges = sizes(graph)
    taps = torch.randint(num_taps, (num_edges,), generator=torch.Generator().manual_seed(0))
    inputs = rand(num_src, 2, 3, grad=True), rand(*groups, num_taps, 3, 2, grad=True), rand(num_edges, grad=True)
    basis = torch.nn.functional.one_hot(taps, num_taps) * inputs[2].unsqueeze(1)
    want = ops.convolve(graph, inputs[0], basis, inputs[1])
    with kernels.force(module):
        got = ops.convolve(graph, inputs[0], taps, *inputs[1:])
        torch.testing.assert_close(got, want)
        grad = rand(*got.shape, seed=4)
        for a, b in zip(torch.autograd.grad(got, inputs, grad), torch.autograd.grad(want, inputs, grad), strict=True):
            torch.testing.assert_close(a, b)


@pytest.mark.parametrize("name", ["random", "multi_edge", "block"])
def test_derivatives_of_weighted_taps(name):
    graph = GRAPHS[name]()
    num_src, _, num_edges = sizes(graph)
    taps, inputs = torch.arange(num_edges) % 4, (rand(num_src, 2, 3), rand(4, 3, 2), rand(num_edges))
    inputs = tuple(t.requires_grad_() for t in inputs)
    assert gradcheck(lambda x, *rest: ops.convolve(graph, x, taps, *rest), inputs)
    assert gradgradcheck(lambda x, *rest: ops.convolve(graph, x, taps, *rest), inputs, fast_mode=True)


def test_taps_without_weights_are_summed_apart_where_most_are_absent(monkeypatch):
    """Both orders give the same sums."""
    graph, taps = random_graph(30, 60), torch.arange(60) % 17
    inputs = rand(30, 3, grad=True), rand(17, 3, 2, grad=True)
    apart = ops.convolve(graph, inputs[0], taps, inputs[1])
    monkeypatch.setattr(convolution, "MAX_EMPTY", 100)
    together = ops.convolve(graph, inputs[0], taps, inputs[1])
    torch.testing.assert_close(apart, together)
    grad = rand(*apart.shape)
    for a, b in zip(*(torch.autograd.grad(y, inputs, grad) for y in (apart, together)), strict=True):
        torch.testing.assert_close(a, b)


@parametrize_pairs(
    name=["random", "multi_edge", "bipartite", "no_nodes", "bare"],
    module=KERNELS,
    part=[60, 1 << 20],
    taps=[True, False],
    inner=[(), (4,)],
)
def test_weights_per_group(name, module, part, taps, inner, monkeypatch):
    """Values and gradients, against one group after the other."""
    monkeypatch.setitem(convolution.PART, "cpu", part)
    graph = GRAPHS[name]()
    num_src, _, num_edges = sizes(graph)
    basis = torch.arange(num_edges) % 5 if taps else rand(num_edges, 5)
    inputs = rand(num_src, *inner, 2, 3, grad=True), rand(2, 5, 3, 4, grad=True)
    with kernels.force(module):
        got = ops.convolve(graph, inputs[0], basis, inputs[1])
        want = torch.stack([ops.convolve(graph, inputs[0][..., i, :], basis, inputs[1][i]) for i in range(2)], -2)
        torch.testing.assert_close(got, want)
        grad = rand(*got.shape, seed=4)
        for a, b in zip(torch.autograd.grad(got, inputs, grad), torch.autograd.grad(want, inputs, grad), strict=True):
            torch.testing.assert_close(a, b)


@pytest.mark.parametrize("name", ["random", "multi_edge", "block", "star"])
@pytest.mark.parametrize("groups", [(), (2,)], ids=str)
def test_derivatives_of_convolve_by_taps(name, groups):
    graph = GRAPHS[name]()
    num_src, _, num_edges = sizes(graph)
    taps, inputs = torch.arange(num_edges) % 4, (rand(num_src, 2, 3, grad=True), rand(*groups, 4, 3, 2, grad=True))
    assert gradcheck(lambda *inputs: ops.convolve(graph, inputs[0], taps, inputs[1]), inputs)
    assert gradgradcheck(lambda *inputs: ops.convolve(graph, inputs[0], taps, inputs[1]), inputs, fast_mode=True)


@pytest.mark.parametrize("name", ["random", "multi_edge", "block", "star"])
def test_derivatives_of_convolve(name):
    graph = GRAPHS[name]()
    num_src, _, num_edges = sizes(graph)
    inputs = rand(num_src, 2, 3, grad=True), rand(num_edges, 4, grad=True), rand(4, 3, 2, grad=True)
    assert gradcheck(lambda *inputs: ops.convolve(graph, *inputs), inputs)
    assert gradgradcheck(lambda *inputs: ops.convolve(graph, *inputs), inputs, fast_mode=True)


@parametrize_pairs(name=GRAPHS, module=KERNELS, reduce=["sum", "mean", "max"])
def test_self_weight_adds_the_node_itself(name, module, reduce):
    graph = GRAPHS[name]()
    num_src, num_dst, num_edges = sizes(graph)
    x = rand(num_src, 3, 5, grad=True)
    if num_dst > num_src:
        with pytest.raises(ValueError, match="self_weight: expected destinations that are sources too"):
            aggregate(graph, x, None, reduce, self_weight=2.0)
        return
    for coeff in (None, rand(num_edges)):
        with kernels.force(module):
            got = aggregate(graph, x, coeff, reduce, self_weight=1.5)
            want = aggregate(graph, x, coeff, reduce) + 1.5 * x[:num_dst]
        torch.testing.assert_close(got, want)
        grad = rand(*got.shape, seed=4)
        for a, b in zip(torch.autograd.grad(got, x, grad), torch.autograd.grad(want, x, grad), strict=True):
            torch.testing.assert_close(a, b)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda g: ops.attend(g, rand(5, 2, 3), rand(2, 3), rand(3, 2)), r"bias of shape \(H, F\), got"),
        (lambda g: ops.attend(g, rand(5, 3), rand(2, 3), rand(2, 3)), r"got \(5, 3\)"),
        (lambda g: ops.attend(g, rand(4, 2, 3), rand(2, 3), rand(2, 3)), "feat: expected 5 rows"),
        (lambda g: ops.attend(g, rand(5, 2, 3), rand(2, 3), rand(2, 3), rand(4, 2, 3)), "feat_dst: expected 5 rows"),
        (lambda g: ops.attend(g, rand(5, 2, 3), rand(2, 3), rand(2, 3), coeff=rand(4, 3)), r"of feat, got \(4, 3\)"),
        (lambda g: ops.convolve(g, rand(5, 3), rand(4, 2), rand(3, 3, 2)), r"weight \(K, F, O\), .* got \(5, 3\)"),
        (lambda g: ops.convolve(g, rand(5, 3), rand(4, 2), rand(2, 3, 3, 2)), r"weight \(G, K, F, O\), got \(5, 3\)"),
        (lambda g: ops.convolve(g, rand(5, 3, 3), rand(4, 2), rand(2, 2, 3, 2)), r"\(G, K, F, O\), got \(5, 3, 3\)"),
        (
            lambda g: ops.convolve(g, rand(5, 3), torch.arange(4), rand(3, 3, 2)),
            "expected numbers from 0 to 2, got 0 to 3",
        ),
        (lambda g: ops.convolve(g, rand(5, 3), torch.arange(4) - 1, rand(3, 3, 2)), "from 0 to 2, got -1 to 2"),
        (
            lambda g: ops.convolve(g, rand(5, 3), torch.arange(3), rand(3, 3, 2)),
            r"expected shape \(4,\), .* got \(3,\)",
        ),
        (lambda g: ops.convolve(g, rand(5, 3), rand(3, 2), rand(2, 3, 2)), "basis: expected 4 rows"),
        (
            lambda g: ops.convolve(g, rand(5, 3), rand(4, 2), rand(2, 3, 2), rand(4)),
            r"coeff: expected integers as the basis, got coefficients of shape \(4,\)",
        ),
        (
            lambda g: ops.convolve(g, rand(5, 3), torch.arange(4), rand(4, 3, 2), rand(4, 1)),
            r"coeff: expected shape \(4,\), got coefficients of shape \(4, 1\)",
        ),
        (lambda g: ops.convolve(g, rand(5, 3), torch.arange(4), rand(4, 3, 2), rand(3)), "coeff: expected 4 rows"),
    ],
)
def test_invalid_arguments_of_attend(wrong, message):
    with pytest.raises(ValueError, match=message):
        wrong(path(5))


@parametrize_pairs(name=DERIVATIVES, module=KERNELS, kind=["whole", "bipartite", "multi_edge"])
def test_first_and_second_derivatives(name, module, kind):
    graph = {"whole": lambda: random_graph(6, 10), "bipartite": bipartite, "multi_edge": GRAPHS["multi_edge"]}[kind]()
    with kernels.force(module):
        function, inputs = case(name, graph)
        assert gradcheck(function, inputs, fast_mode=True)
        assert gradgradcheck(function, inputs, fast_mode=True)


@pytest.mark.parametrize("name", ["sum", "max", "edge_dot", "edge_softmax", "edge_score", "attention"])
def test_slow_gradcheck(name):
    """Each entry of each derivative, where `fast_mode` looks at random combinations."""
    function, inputs = case(name, GRAPHS["multi_edge"]())
    assert gradcheck(function, inputs)
    assert gradgradcheck(function, inputs, fast_mode=True)


@pytest.mark.parametrize("name", DERIVATIVES)
def test_third_derivative(name):
    function, inputs = case(name, bipartite())
    weight = rand(*function(*inputs).shape)

    def second(*inputs):
        first = torch.autograd.grad((function(*inputs).sin() * weight).sum(), inputs, create_graph=True)
        total = sum((g.sin() * g).sum() for g in first)
        return torch.autograd.grad(total, inputs, create_graph=True)

    assert gradcheck(second, inputs, fast_mode=True)


@pytest.mark.parametrize("name", DERIVATIVES)
@pytest.mark.parametrize("graph", ["bare", "no_nodes"])
def test_derivatives_without_edges(name, graph):
    function, inputs = case(name, GRAPHS[graph]())
    y = function(*inputs)
    grads = torch.autograd.grad(y.sum() + sum(t.sum() for t in inputs), inputs, create_graph=True)
    for grad, t in zip(grads, inputs, strict=True):
        assert torch.equal(grad, torch.ones_like(t))


@pytest.mark.parametrize("name", DERIVATIVES)
def test_only_some_inputs_need_gradients(name):
    for chosen in range(3):
        function, inputs = case(name, bipartite())
        if chosen >= len(inputs):
            continue
        grads = torch.autograd.grad(function(*inputs).square().sum(), inputs)
        alone = [t.detach().requires_grad_(i == chosen) for i, t in enumerate(inputs)]
        function(*alone).square().sum().backward()
        for i, t in enumerate(alone):
            if i == chosen:
                torch.testing.assert_close(t.grad, grads[i])
            else:
                assert t.grad is None


@pytest.mark.parametrize("name", DERIVATIVES)
def test_first_derivative_is_the_same_with_and_without_the_second(name):
    """Two ways lead to it: the fused one, and the composition that can be differentiated again."""
    function, inputs = case(name, random_graph())
    weight = rand(*function(*inputs).shape)
    fused = torch.autograd.grad(function(*inputs), inputs, weight)
    composed = torch.autograd.grad(function(*inputs), inputs, weight, create_graph=True)
    torch.testing.assert_close(composed, fused, rtol=1e-12, atol=1e-12)
    assert not any(t.requires_grad for t in fused)


# ---------------------------------------------------------------- maxima


@MODULES
def test_ties_go_to_the_first_edge(module):
    graph = dgl.graph(([2, 1, 0, 1], [3, 3, 3, 0]), num_nodes=4)
    x = torch.tensor([[5.0, 1.0], [5.0, 7.0], [5.0, 7.0], [0.0, 0.0]], requires_grad=True)
    coeff = torch.ones(4, requires_grad=True)
    with kernels.force(module):
        aggregate(graph, x, coeff, "max")[3].sum().backward()
    assert x.grad.tolist() == [[0, 0], [0, 0], [1, 1], [0, 0]]
    assert coeff.grad.tolist() == [12, 0, 0, 0]


@MODULES
def test_gradient_of_a_max_over_multi_edges(module):
    """Parallel edges send the same message; one of them, the first, takes the gradient."""
    graph = dgl.graph(([0, 0, 0], [1, 1, 1]))
    x = torch.ones(2, 1, requires_grad=True)
    with kernels.force(module):
        aggregate(graph, x, reduce="max").sum().backward()
    assert x.grad.flatten().tolist() == [1, 0]


def test_negative_messages_beat_no_message():
    graph = path(3)
    assert aggregate(graph, -torch.ones(3, 1), reduce="max").flatten().tolist() == [0, -1, -1]


# ---------------------------------------------------------------- inputs of any kind


def views() -> dict[str, torch.Tensor]:
    """(11, 2, 3) or (23, 2, 3), cut below, in memory of every sort."""
    base = rand(23, 2, 3)
    wide = torch.zeros(46, 4, 3, dtype=torch.float64)
    wide[::2, ::2] = base
    return {
        "transposed": base.permute(2, 0, 1).contiguous().permute(1, 2, 0),
        "strided": wide[::2, ::2],
        "expanded": base[:1].expand(23, 2, 3),
        "shifted": torch.cat([base[:1], base])[1:],
    }


@pytest.mark.parametrize("kind", views())
def test_inputs_of_any_strides(kind):
    graph, view = random_graph(), views()[kind]
    x, coeff = view[:11], view[..., 0]
    plain, weight = x.contiguous().clone(), coeff.contiguous().clone()
    for reduce in ("sum", "mean", "max"):
        assert torch.equal(aggregate(graph, x, coeff, reduce), aggregate(graph, plain, weight, reduce))
    assert torch.equal(edge_dot(graph, x, x), edge_dot(graph, plain, plain))
    assert torch.equal(edge_softmax(graph, coeff), edge_softmax(graph, weight))
    assert torch.equal(edge_score(graph, x, x, view[0], 0.1), edge_score(graph, plain, plain, view[0].clone(), 0.1))
    assert torch.equal(gather_src(graph, x), gather_src(graph, plain))
    leaf = x.detach().requires_grad_()
    aggregate(graph, leaf, coeff).transpose(0, 2).sum(0).sum().backward()  # an incoming gradient without strides
    assert leaf.grad.shape == (11, 2, 3)


def test_inputs_are_not_modified():
    graph, x, coeff = random_graph(), rand(11, 2, 3), rand(23, 2)
    before = x.clone(), coeff.clone()
    for reduce in ("sum", "mean", "max"):
        aggregate(graph, x, coeff, reduce)
    edge_softmax(graph, coeff)
    edge_score(graph, x, x, x[0])
    assert torch.equal(x, before[0])
    assert torch.equal(coeff, before[1])


def test_coefficients_take_the_dtype_of_x():
    graph = random_graph()
    assert aggregate(graph, rand(11, 2).float(), rand(23)).dtype == torch.float32
    assert aggregate(graph, rand(11, 2), rand(23).float()).dtype == torch.float64
    assert edge_dot(graph, rand(11, 2).float(), rand(11, 2)).dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_identical_bits_on_a_second_run(dtype):
    graph = random_graph(300, 3000)

    def once():
        x = rand(300, 2, 16, dtype=dtype, grad=True)
        y = aggregate(graph, x, edge_softmax(graph, edge_dot(graph, x, x)))
        (y + aggregate(graph, x, reduce="max")).square().sum().backward()
        return y, x.grad

    for a, b in zip(once(), once()):
        assert torch.equal(a, b)


def saved_shapes(function) -> list[tuple[int, ...]]:
    """The shapes of the floating-point tensors that autograd keeps for backward."""
    shapes = []

    def pack(t):
        if t.is_floating_point():
            shapes.append(tuple(t.shape))
        return t

    with saved_tensors_hooks(pack, lambda t: t):
        function()
    return shapes


def test_saved_tensors():
    graph = random_graph()
    x, coeff = rand(11, 2, 3), rand(23, 2)
    grad_x, grad_coeff = x.clone().requires_grad_(), coeff.clone().requires_grad_()
    assert saved_shapes(lambda: aggregate(graph, grad_x)) == []
    assert saved_shapes(lambda: aggregate(graph, grad_x, coeff)) == [(23, 2)]
    assert saved_shapes(lambda: aggregate(graph, grad_x, reduce="mean")) == [(11,), (11,)]  # a factor for each end
    assert sorted(saved_shapes(lambda: aggregate(graph, grad_x, grad_coeff))) == [(11, 2, 3), (23, 2)]
    assert saved_shapes(lambda: edge_softmax(graph, grad_coeff)) == [(23, 2)]
    both = saved_shapes(lambda: edge_score(graph, grad_x, x, x[0]))
    assert sorted(both) == [(2, 3), (11, 2, 3), (11, 2, 3)]  # nothing of the size (E, H, J)


# ---------------------------------------------------------------- errors

G = random_graph()
X, C = torch.zeros(11, 2, 3), torch.zeros(23, 2)
ERRORS = [
    (lambda: aggregate(G, X, reduce="prod"), ValueError, "expected 'sum', 'mean' or 'max', got 'prod'"),
    (lambda: aggregate(G, X[:5]), ValueError, "x: expected 11 rows, one for each source node, got shape (5, 2, 3)"),
    (lambda: aggregate(G, X[:, 0, 0]), ValueError, "x: expected shape (N, ..., F), got (11,)"),
    (
        lambda: aggregate(G, torch.tensor(1.0)),
        ValueError,
        "x: expected 11 rows, one for each source node, got shape ()",
    ),
    (lambda: aggregate(G, X.long()), TypeError, "x: expected floating-point values, got torch.int64"),
    (lambda: aggregate(G, X > 0), TypeError, "x: expected floating-point values, got torch.bool"),
    (lambda: aggregate(G, [1.0]), TypeError, "x: expected a tensor, got list"),
    (
        lambda: aggregate("g", X),
        TypeError,
        "graph: expected a graph (DGL, PyG, networkx, SciPy, torch.sparse) or an edge_index, got str",
    ),
    (lambda: aggregate(G, X, C[:5]), ValueError, "coeff: expected 23 rows, one for each edge, got shape (5, 2)"),
    (lambda: aggregate(G, X, C.int()), TypeError, "coeff: expected floating-point values, got torch.int32"),
    (lambda: aggregate(G, X, 2.0), TypeError, "coeff: expected a tensor, got float"),
    (
        lambda: aggregate(G, X, torch.zeros(23, 3)),
        ValueError,
        "coeff: expected (E,) or (E, *) with axes fitting x's (2,), got (23, 3) for x of shape (11, 2, 3)",
    ),
    (lambda: aggregate(G, X[:, 0], C), ValueError, "axes fitting x's (), got (23, 2) for x of shape (11, 3)"),
    (lambda: edge_softmax(G, C[:5]), ValueError, "score: expected 23 rows, one for each edge, got shape (5, 2)"),
    (lambda: edge_softmax(G, C.long()), TypeError, "score: expected floating-point values, got torch.int64"),
    (lambda: edge_softmax(G, None), TypeError, "score: expected a tensor, got None"),
    (
        lambda: edge_dot(G, X, X[:4]),
        ValueError,
        "y: expected 11 rows, one for each destination node, got shape (4, 2, 3)",
    ),
    (lambda: edge_dot(G, X, X[..., :2]), ValueError, "axes in between equal or 1, got (11, 2, 3) and (11, 2, 2)"),
    (lambda: edge_dot(G, X, X[:, 0]), ValueError, "expected x and y of shape (N, ..., F) with the"),
    (lambda: edge_dot(G, X, torch.zeros(11, 5, 3)), ValueError, "got (11, 2, 3) and (11, 5, 3)"),
    (lambda: edge_score(G, X, X, C[:3]), ValueError, "got (11, 2, 3), (11, 2, 3) and (3, 2)"),
    (lambda: edge_score(G, X, X[:, 0], X[0]), ValueError, "got (11, 2, 3), (11, 3) and (2, 3)"),
    (lambda: edge_score(G, X, X, X[0, 0]), ValueError, "got (11, 2, 3), (11, 2, 3) and (3,)"),
    (lambda: gather_src(G, X[:3]), ValueError, "x: expected 11 rows, one for each source node, got shape (3, 2, 3)"),
    (lambda: gather_dst(G, [1.0]), TypeError, "x: expected a tensor, got list"),
]


@pytest.mark.parametrize(("wrong", "kind", "message"), ERRORS, ids=range(len(ERRORS)))
def test_invalid_arguments(wrong, kind, message):
    with pytest.raises(kind) as caught:
        wrong()
    assert message in str(caught.value)


def test_numbers_beyond_the_largest_float16():
    """Sums are taken in the dtype of x: overflow is inf, as in torch, never an exception."""
    graph = GRAPHS["star"]()
    x = torch.full((10, 1), 30000.0, dtype=torch.float16)
    assert aggregate(graph, x)[0].isinf().all()
    np.testing.assert_allclose(aggregate(graph, x, reduce="mean")[0].item(), 30000, rtol=1e-2)


SPARSE = {
    "aggregate": lambda g, x: aggregate(g, x),
    "coeff": lambda g, x: aggregate(g, torch.ones(11, 2), torch.ones(g.num_edges()).to_sparse()),
    "propagate": lambda g, x: gnnlib.propagate(g, x, norm="none"),
    "edge_dot": lambda g, x: edge_dot(g, x, x),
    "Hops": lambda g, x: gnnlib.nn.Hops(2)(g, x),
    "APPNP": lambda g, x: gnnlib.APPNP(2)(g, x),
    "DAGNN": lambda g, x: gnnlib.DAGNN(2)(g, x),
    "GridPool": lambda g, x: gnnlib.grid.GridPool()(g, x),
    "readout": gnnlib.readout_mean,
}


@pytest.mark.parametrize("name", SPARSE)
def test_sparse_features(name):
    with pytest.raises(TypeError, match=r"expected a dense tensor, got one of layout torch.sparse_coo; .*\.to_dense"):
        SPARSE[name](random_graph(), torch.ones(11, 2).to_sparse())
