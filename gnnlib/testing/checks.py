"""Acceptance checks of message-passing layers: a layer's test states `Case`s and runs all checks in two lines::

    CASES = [Case("plain", lambda: MyConv(5, 3), my_dense_reference, my_isolated_value), ...]
    test_every_graph = on_every_graph(CASES)
    test_properties = properties(CASES)

A case's reference is the layer's equation written again with dense matrices and nothing of the library. Any module
that is called as ``conv(graph, x)`` or ``conv(graph, x, edge)`` can be checked. Without pytest, call a check on a case.
"""

import ast
import contextlib
import re
import types
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from inspect import Parameter, signature
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

import gnnlib.ops
from gnnlib import kernels
from gnnlib._platform.dgl import dgl
from gnnlib.graph import GraphLike
from gnnlib.kernels import reference as reference_kernels
from gnnlib.ops import degrees
from gnnlib.testing.graphs import GRAPHS, HOMOGENEOUS, bipartite, clique, edgeless, endpoints, path, random_graph

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}
NO_KERNELS = types.ModuleType("no_kernels")  # forced where an error must come before any kernel runs


class Dense(NamedTuple):
    """Source and destination of each edge as rows of one-hot matrices."""

    src: Tensor  # (E, N_src)
    dst: Tensor  # (E, N_dst)
    graph: GraphLike

    @staticmethod
    def of(graph: GraphLike, dtype: torch.dtype) -> "Dense":
        src, dst = endpoints(graph)
        return Dense(
            torch.eye(graph.num_src_nodes(), dtype=dtype)[src],
            torch.eye(graph.num_dst_nodes(), dtype=dtype)[dst],
            graph,
        )

    def adjacency(self, weight: Tensor | None = None) -> Tensor:
        """(N_dst, N_src): the number of edges, or the sum of their weights."""
        return self.dst.T @ (self.src if weight is None else weight.unsqueeze(1) * self.src)

    def softmax(self, score: Tensor) -> Tensor:
        """(E, H) over the in-edges of each destination."""
        exp = score.exp()
        return exp / (self.dst @ (self.dst.T @ exp))


@dataclass(frozen=True)
class Case:
    """One way to build and call a layer.

    Args:
        name: of the case, in the names of tests
        make: makes the layer
        reference: ``f(conv, dense, x_src, x_dst, edge) -> y``: the equation with dense matrices, differentiable
        isolated: ``f(conv, x_dst) -> y``: the output of a node without in-edges
        in_feats: width of x, or a pair of widths, and then x is always a pair
        edge: None, "weight", or the width of the edge features
        positive: whether edge weights are above 0
        needs_dst: whether the layer uses the features of the destinations
        homogeneous: whether the layer takes only graphs with one node set
        pos: number of coordinates in ``srcdata["pos"]`` and ``dstdata["pos"]``
        counterpart: makes the same layer of ``dgl.nn``, called as ``counterpart(graph, x, **{counterpart_edge: edge})``
        counterpart_edge: name of the edge argument of the counterpart
        counterpart_homogeneous: whether the counterpart takes only graphs with one node set
    """

    name: str
    make: Callable[[], nn.Module]
    reference: Callable[..., Tensor]
    isolated: Callable[..., Tensor]
    in_feats: int | tuple[int, int] = 5
    edge: Any = None
    positive: bool = False
    needs_dst: bool = False
    homogeneous: bool = False
    pos: int | None = None
    counterpart: Callable[[], nn.Module] | None = None
    counterpart_edge: str = "edge_weight"
    counterpart_homogeneous: bool = False

    def __str__(self) -> str:
        return self.name

    def build(self, dtype: torch.dtype = torch.float64) -> nn.Module:
        """The layer with random biases, which would start at 0."""
        seed(1)
        return _randomize_biases(self.make().to(dtype))


class Inputs(NamedTuple):
    """The arguments of a layer's forward."""

    graph: GraphLike
    x: Any
    edge: Any


def seed(number: int) -> None:
    """As torch.manual_seed, for the CPU alone and much faster: which notes a stack trace for each device."""
    torch.default_generator.manual_seed(number)


def _randomize_biases(module: nn.Module) -> nn.Module:
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.dim() == 1:
                parameter.normal_()
    return module


def _rand(*shape: int, dtype: torch.dtype) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64).to(dtype)  # the same numbers in every precision


def has_dst_features(graph: GraphLike) -> bool:
    """Whether the source features contain those of the destinations."""
    return graph.is_homogeneous or (graph.is_block and dgl.NID in graph.srcdata)


def inputs(case: Case, graph: GraphLike, dtype: torch.dtype = torch.float64, signals: tuple[int, ...] = ()) -> Inputs:
    """Random features of scale 1 (and positions, written on the graph)."""
    seed(2)
    num_src, num_dst, num_edges = graph.num_src_nodes(), graph.num_dst_nodes(), graph.num_edges()
    if case.pos is not None:
        graph.srcdata["pos"] = _rand(num_src, case.pos, dtype=dtype)
        if not graph.is_homogeneous:
            graph.dstdata["pos"] = _rand(num_dst, case.pos, dtype=dtype)
    x: Any
    if isinstance(case.in_feats, tuple):
        widths = case.in_feats
        x = tuple(_rand(n, *signals, width, dtype=dtype) for n, width in zip((num_src, num_dst), widths))
    else:
        x = _rand(num_src, *signals, case.in_feats, dtype=dtype)
        if case.needs_dst and not has_dst_features(graph):
            x = (x, _rand(num_dst, *signals, case.in_feats, dtype=dtype))
    if case.edge is None:
        edge = None
    elif case.edge == "weight":
        edge = _rand(num_edges, dtype=dtype)
        edge = edge.abs() + 0.1 if case.positive else edge
    else:
        edge = _rand(num_edges, int(case.edge), dtype=dtype)
    return Inputs(graph, x, edge)


def src_dst_inputs(graph: GraphLike, x: Tensor | tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    return x if isinstance(x, tuple) else (x, x[: graph.num_dst_nodes()])


def apply(conv: Any, args: Inputs) -> Tensor:
    return conv(args.graph, args.x) if args.edge is None else conv(args.graph, args.x, args.edge)


def apply_reference(case: Case, conv: nn.Module, args: Inputs) -> Tensor:
    x_src, x_dst = src_dst_inputs(args.graph, args.x)
    return case.reference(conv, Dense.of(args.graph, x_src.dtype), x_src, x_dst, args.edge)


def outputs_and_gradients(
    conv: nn.Module, args: Inputs, function: Callable[[nn.Module, Inputs], Tensor] = apply
) -> dict:
    """The output and, for a random loss, the gradients of all inputs and parameters, by name."""
    named = {"x": args.x} if isinstance(args.x, Tensor) else {"x_src": args.x[0], "x_dst": args.x[1]}
    if args.edge is not None:
        named["edge"] = args.edge
    named = {name: value.detach().requires_grad_() for name, value in named.items()}
    x = named["x"] if "x" in named else (named["x_src"], named["x_dst"])
    y = function(conv, Inputs(args.graph, x, named.get("edge")))
    seed(3)
    loss = (y * _rand(*y.shape, dtype=y.dtype)).sum()
    leaves = {**named, **dict(conv.named_parameters())}
    grads = torch.autograd.grad(loss, tuple(leaves.values()), allow_unused=True, materialize_grads=True)
    actual = {f"d {name}": grad for name, grad in zip(leaves, grads)}
    return {"y": y.detach(), **actual}


def difference(actual: Tensor, expected: Tensor) -> float:
    """The largest absolute difference, or relative to the largest value where that is above 1. NaN stays NaN."""
    assert actual.shape == expected.shape, f"shape {tuple(actual.shape)}, expected {tuple(expected.shape)}"
    if actual.numel() == 0:
        return 0.0
    return ((actual.double() - expected.double()).abs().max() / expected.double().abs().max().clamp(min=1)).item()


def assert_close(actual: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float) -> None:
    assert actual.keys() == expected.keys()
    apart = {name: difference(actual[name], expected[name]) for name in actual}
    wrong = {name: value for name, value in apart.items() if not value <= tolerance}
    assert not wrong, f"differences above {tolerance}: {wrong}"


def assert_same_bits(actual: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert actual.keys() == expected.keys()
    differ = [name for name in actual if not torch.equal(actual[name], expected[name])]
    assert not differ, f"not the same bits: {differ}"


# ---------------------------------------------------------------- on every graph of the zoo


def equals_reference(case: Case, graph: GraphLike) -> None:
    for dtype, tolerance in TOLERANCE.items():
        conv, args = case.build(dtype), inputs(case, graph, dtype)
        expected = outputs_and_gradients(conv, args, lambda conv, args: apply_reference(case, conv, args))
        actual = outputs_and_gradients(conv, args)
        assert actual["y"].dtype == dtype
        assert_close(actual, expected, tolerance)


def counterpart_of(case: Case, dtype: torch.dtype) -> tuple[nn.Module, nn.Module]:
    """The layer and that of ``dgl.nn``, whose state dict it has loaded."""
    assert case.counterpart is not None
    seed(4)
    counterpart, conv = _randomize_biases(case.counterpart().to(dtype)), case.build(dtype)
    conv.load_state_dict(counterpart.state_dict())
    return conv, counterpart


def counterpart_fits(case: Case, graph: GraphLike) -> bool:
    """``dgl.nn`` fails on graphs without edges, and SGConv on blocks."""
    return (
        case.counterpart is not None
        and graph.num_edges() > 0
        and (graph.is_homogeneous or not case.counterpart_homogeneous)
    )


def with_counterpart(case: Case, graph: GraphLike, dtype: torch.dtype) -> tuple[dict, dict]:
    conv, counterpart = counterpart_of(case, dtype)
    args = inputs(case, graph, dtype)

    def call(counterpart: nn.Module, args: Inputs) -> Tensor:
        named = {} if args.edge is None else {case.counterpart_edge: args.edge}
        return counterpart(args.graph.formats(["coo", "csr", "csc"]), args.x, **named)

    return outputs_and_gradients(conv, args), outputs_and_gradients(counterpart, args, call)


def equals_counterpart(case: Case, graph: GraphLike) -> None:
    """Forward and gradients are those of ``dgl.nn`` with the same weights."""
    if counterpart_fits(case, graph):
        for dtype, tolerance in TOLERANCE.items():
            assert_close(*with_counterpart(case, graph, dtype), tolerance)


def isolated_nodes(case: Case, graph: GraphLike) -> None:
    """A node without in-edges gets what the docstring says."""
    conv, args = case.build(), inputs(case, graph)
    without_edges = Dense.of(graph, torch.float64).dst.sum(0) == 0
    actual, expected = apply(conv, args), case.isolated(conv, src_dst_inputs(graph, args.x)[1])
    assert_close({"y": actual[without_edges]}, {"y": expected.expand_as(actual)[without_edges]}, 1e-14)


def permutation(case: Case, graph: GraphLike) -> None:
    """Nodes and edges in another order give the same rows in that order."""
    if graph.is_block and has_dst_features(graph):
        return  # its destinations must stay first
    conv, args = case.build(), inputs(case, graph)
    y = apply(conv, args)
    seed(5)
    old_src, old_edge = torch.randperm(graph.num_src_nodes()), torch.randperm(graph.num_edges())
    old_dst = old_src if graph.is_homogeneous else torch.randperm(graph.num_dst_nodes())
    src, dst = (old.argsort()[end][old_edge] for old, end in zip((old_src, old_dst), endpoints(graph)))
    if graph.is_homogeneous:
        other = dgl.graph((src, dst), num_nodes=graph.num_nodes())
    else:
        sizes = {"in": graph.num_src_nodes(), "out": graph.num_dst_nodes()}
        other = dgl.heterograph({("in", "to", "out"): (src, dst)}, sizes)
    if case.pos is not None:
        other.srcdata["pos"], other.dstdata["pos"] = graph.srcdata["pos"][old_src], graph.dstdata["pos"][old_dst]
    x = args.x[old_src] if isinstance(args.x, Tensor) else (args.x[0][old_src], args.x[1][old_dst])
    moved = apply(conv, Inputs(other, x, None if args.edge is None else args.edge[old_edge]))
    assert_close({"y": moved}, {"y": y[old_dst]}, 1e-13)


def kernels_agree(case: Case, graph: GraphLike) -> None:
    """The compiled kernels compute what the reference kernels do."""
    for dtype, tolerance in TOLERANCE.items():
        conv, args = case.build(dtype), inputs(case, graph, dtype)
        actual = outputs_and_gradients(conv, args)
        with kernels.force(reference_kernels):
            expected = outputs_and_gradients(conv, args)
        assert_close(actual, expected, tolerance)


def same_bits_twice(case: Case, graph: GraphLike) -> None:
    conv, args = case.build(torch.float32), inputs(case, graph, torch.float32)
    assert_same_bits(outputs_and_gradients(conv, args), outputs_and_gradients(conv, args))


EVERY_GRAPH = [equals_reference, equals_counterpart, isolated_nodes, permutation, kernels_agree, same_bits_twice]


def on_every_graph(cases: list[Case]) -> Callable:
    """A test for pytest that runs `EVERY_GRAPH` for each case on each graph of the zoo."""
    import pytest

    pairs = [(case, name) for case in cases for name in (HOMOGENEOUS if case.homogeneous else GRAPHS)]

    @pytest.mark.parametrize(("case", "name"), pairs, ids=[f"{case}-{name}" for case, name in pairs])
    def test(case: Case, name: str) -> None:
        for check in EVERY_GRAPH:
            check(case, GRAPHS[name]())

    return test


# ---------------------------------------------------------------- once for each case


def differentiable_twice(case: Case) -> None:
    """Analytic first and second derivatives are the numeric ones, for inputs and parameters."""
    graph = dgl.graph(([0, 1, 0, 0, 2, 1], [1, 1, 2, 2, 2, 0]), num_nodes=4)
    conv, args = case.build(), inputs(case, graph)
    names = [name for name, _ in conv.named_parameters()]
    leaves = [*conv.parameters(), *(args.x if isinstance(args.x, tuple) else [args.x])]
    leaves += [] if args.edge is None else [args.edge]
    leaves = [leaf.detach().requires_grad_() for leaf in leaves]

    def function(*values: Tensor) -> Tensor:
        parameters, rest = dict(zip(names, values)), list(values[len(names) :])
        edge = rest.pop() if args.edge is not None else None
        x = rest[0] if len(rest) == 1 else tuple(rest)
        arguments = (graph, x) if edge is None else (graph, x, edge)
        return torch.func.functional_call(conv, parameters, arguments)

    assert torch.autograd.gradcheck(function, leaves)
    assert torch.autograd.gradgradcheck(function, leaves, fast_mode=True)


def batch_equals_one_by_one(case: Case) -> None:
    graphs = [random_graph(7, 15, seed=1), edgeless(0), edgeless(3), clique(4), path(5)]
    check_batch(case, graphs)
    if not case.homogeneous:
        check_batch(case, [bipartite(), bipartite(7, 5), bipartite()])


def check_batch(case: Case, graphs: list[GraphLike]) -> None:
    conv = case.build()
    args = [inputs(case, graph) for graph in graphs]
    x: Any
    if isinstance(args[0].x, tuple):
        x = tuple(torch.cat([single.x[i] for single in args]) for i in (0, 1))
    else:
        x = torch.cat([single.x for single in args])
    edge = None if case.edge is None else torch.cat([single.edge for single in args])
    actual = apply(conv, Inputs(dgl.batch(graphs), x, edge))
    assert_close({"y": actual}, {"y": torch.cat([apply(conv, single) for single in args])}, 1e-13)


def extra_axes(case: Case) -> None:
    """x (N, *, F): the output of each signal is that of a call with this signal only, and the gradients add up."""
    for signals in ((3,), (2, 2), (1,)):
        conv, args = case.build(), inputs(case, random_graph(), signals=signals)
        y = apply(conv, args)
        assert y.shape[1 : 1 + len(signals)] == signals
        isolated = torch.empty_like(y)
        for at in torch.cartesian_prod(*map(torch.arange, signals)).view(-1, len(signals)).tolist():
            single = (slice(None), *at)
            x = args.x[single] if isinstance(args.x, Tensor) else (args.x[0][single], args.x[1][single])
            isolated[single] = apply(conv, Inputs(args.graph, x, args.edge))
        assert_close({"y": y}, {"y": isolated}, 1e-13)
        for parameter in conv.parameters():
            actual, expected = (_grad(out.square().sum(), parameter) for out in (y, isolated))
            assert difference(actual, expected) <= 1e-12


def _grad(loss: Tensor, leaf: Tensor) -> Tensor:
    (grad,) = torch.autograd.grad(loss, leaf, retain_graph=True, allow_unused=True, materialize_grads=True)
    return grad


def layout_does_not_matter(case: Case) -> None:
    """Transposed and strided inputs, and gradients of stride 0, are read by value."""

    def transposed(t: Tensor) -> Tensor:
        return t.mT.contiguous().mT if t.dim() == 2 else t

    def strided(t: Tensor) -> Tensor:
        return t.repeat_interleave(2, -1)[..., ::2]

    def offset(t: Tensor) -> Tensor:
        return torch.cat([torch.full_like(t[:1], torch.nan), t])[1:]

    conv, args = case.build(), inputs(case, random_graph())
    expected = outputs_and_gradients(conv, args)
    for change in (transposed, strided, offset):
        x = tuple(map(change, args.x)) if isinstance(args.x, tuple) else change(args.x)
        edge = None if args.edge is None else change(args.edge)
        assert change is offset or not (x if isinstance(x, Tensor) else x[0]).is_contiguous()
        assert_close(outputs_and_gradients(conv, Inputs(args.graph, x, edge)), expected, 1e-13)
    y = apply(conv, args)
    for parameter in conv.parameters():
        assert difference(_grad(y.sum(), parameter), _grad((y * torch.ones_like(y)).sum(), parameter)) <= 1e-13


def single_precision_is_close(case: Case) -> None:
    conv, args = case.build(torch.float64), inputs(case, random_graph(60, 300), torch.float64)
    expected = outputs_and_gradients(conv, args)
    actual = outputs_and_gradients(case.build(torch.float32), inputs(case, random_graph(60, 300), torch.float32))
    exact = case.build(torch.float32).double()  # the same rounded weights
    assert all(value.dtype == torch.float32 for value in actual.values())
    rounded = outputs_and_gradients(exact, Inputs(args.graph, _round(args.x), _round(args.edge)))
    assert_close(actual, rounded, 1e-5)
    assert_close(actual, expected, 1e-4)


def _round(value):
    if isinstance(value, tuple):
        return tuple(map(_round, value))
    return None if value is None else value.float().double()


def half_precision_runs(case: Case) -> None:
    """bfloat16 is served by the reference kernels."""
    conv, args = case.build(torch.bfloat16), inputs(case, random_graph(), torch.bfloat16)
    actual, expected = (
        outputs_and_gradients(conv, args),
        outputs_and_gradients(case.build(), inputs(case, random_graph())),
    )
    assert all(value.dtype == torch.bfloat16 for value in actual.values())
    assert difference(actual["y"], expected["y"]) <= 0.1
    assert all(value.isfinite().all() for value in actual.values())


def threads_do_not_matter(case: Case) -> None:
    """One thread or two: the same bits, on a graph large enough for a parallel launch."""
    graph = random_graph(1500, 12000)
    conv, args = case.build(torch.float32), inputs(case, graph, torch.float32)
    before = torch.get_num_threads()
    actual = {}
    try:
        for num_threads in (1, 2):
            torch.set_num_threads(num_threads)
            actual[num_threads] = outputs_and_gradients(conv, args)
    finally:
        torch.set_num_threads(before)
    assert_close(actual[1], actual[2], 1e-5)
    assert_same_bits({"y": actual[1]["y"]}, {"y": actual[2]["y"]})


def id_types_do_not_matter(case: Case) -> None:
    conv = case.build()
    actual = [
        outputs_and_gradients(conv, inputs(case, graph)) for graph in (random_graph().int(), random_graph().long())
    ]
    assert_same_bits(*actual)


POSITIONAL = {
    *("graph", "in_feats", "out_feats", "num_heads", "k", "kernel_size", "edge_feats", "pos_feats", "dim"),
    "num_kernels",
}
"""Arguments that a constructor may take by position."""

MODULES = "apply_func", "edge_func", "edge_activation"
"""Arguments that are modules."""

FOREIGN = [
    *("feat_drop", "residual", "activation", "allow_zero_in_degree", "add_self_loops", "concat", "dropout", "heads"),
    *("in_channels", "out_channels", "cached", "aggregator_type", "aggr", "normalize", "edge_dim", "no_such_argument"),
]
"""Constructor arguments of DGL and PyTorch Geometric."""

# Bad input. Sizes of the graph below are like no other number in a message.
NODES, EDGES = 41, 83


def error_of(call: Callable[[], object], error: type[Exception]) -> str:
    """The message of the error that a call must raise before any kernel runs."""
    try:
        with kernels.force(NO_KERNELS):
            call()
    except error as caught:
        return str(caught)
    raise AssertionError(f"no {error.__name__} was raised")


def assert_refuses(conv: nn.Module, args: Inputs, error: type[Exception], *words: object) -> str:
    """The error comes before any kernel runs, and says each of ``said``, numbers as whole words."""
    message = error_of(lambda: apply(conv, args), error)
    missing = [word for word in map(str, words) if not re.search(rf"(?<!\w){re.escape(word)}(?!\w)", message)]
    assert not missing, f"{message!r} does not say {missing}"
    return message


def bad_features_are_refused(case: Case) -> None:
    conv, good = case.build(), inputs(case, random_graph(NODES, EDGES))
    x_src, x_dst = src_dst_inputs(good.graph, good.x)
    width = x_src.shape[-1]

    def bad(change: Callable[[Tensor], Any], error: type[Exception], *words: object) -> None:
        x = change(x_src) if isinstance(good.x, Tensor) else (change(x_src), x_dst)
        assert_refuses(conv, Inputs(good.graph, x, good.edge), error, *words)
        if isinstance(case.in_feats, tuple):
            words = tuple(n + x_dst.shape[-1] - width if n in (width, width + 1) else n for n in words)
            assert_refuses(conv, Inputs(good.graph, (x_src, change(x_dst)), good.edge), error, *words)

    bad(lambda x: torch.cat([x, x[:, :1]], 1), ValueError, width, width + 1)
    bad(lambda x: torch.cat([x, x[:1]]), ValueError, NODES, NODES + 1)
    bad(lambda x: x[:0], ValueError, NODES, 0)
    bad(lambda x: x[:, 0], ValueError, NODES, f"({NODES},)")
    bad(lambda x: x.long(), TypeError, "floating-point", "torch.int64")
    bad(lambda x: x.numpy(), TypeError, "tensor", "ndarray")
    if case.needs_dst and not isinstance(case.in_feats, tuple):
        graph = bipartite(NODES, 4)
        assert_refuses(
            conv, Inputs(graph, x_src, inputs(case, graph).edge), ValueError, "(x_src, x_dst)", f"({NODES}, {width})"
        )


def bad_edges_are_refused(case: Case) -> None:
    conv: Any
    conv, good = case.build(), inputs(case, random_graph(NODES, EDGES))
    weight = torch.ones(EDGES, dtype=torch.float64)

    def bad(edge: object, error: type[Exception], *words: object) -> None:
        assert_refuses(conv, Inputs(good.graph, good.x, edge), error, *words)

    if conv.takes_edge is None:
        bad(weight, ValueError, "neither", f"({EDGES},)")
        return
    edge = good.edge if good.edge is not None else weight
    bad(torch.cat([edge, edge[:1]]), ValueError, EDGES, EDGES + 1)
    bad(edge[:0], ValueError, EDGES, 0)
    bad(edge.long(), TypeError, "floating-point", "torch.int64")
    bad(edge.numpy(), TypeError, "tensor", "ndarray")
    if conv.takes_edge == "weight":
        bad(edge.unsqueeze(1), ValueError, f"({EDGES},)", f"({EDGES}, 1)")
    else:
        bad(torch.cat([edge, edge[:, :1]], 1), ValueError, f"({EDGES}, {case.edge})", f"({EDGES}, {case.edge + 1})")
        bad(weight, ValueError, f"({EDGES}, {case.edge})", f"({EDGES},)")
        assert_refuses(conv, Inputs(good.graph, good.x, None), ValueError, f"({EDGES}, {case.edge})", "none")


def sparse_tensors_are_refused(case: Case) -> None:
    """Features in a sparse layout of torch: one sentence, before any kernel runs."""
    conv, good = case.build(), inputs(case, random_graph(NODES, EDGES))
    x_src, x_dst = src_dst_inputs(good.graph, good.x)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch calls compressed rows a beta
        for layout in (torch.sparse_coo, torch.sparse_csr, torch.sparse_csc):
            sparse = x_src.to_sparse(layout=layout)
            x = (sparse, x_dst) if isinstance(good.x, tuple) else sparse
            assert_refuses(conv, Inputs(good.graph, x, good.edge), TypeError, "dense", layout, "x", ".to_dense()")
        if good.edge is not None:
            edge = good.edge.to_sparse()
            assert_refuses(conv, Inputs(good.graph, good.x, edge), TypeError, "dense", "edge", ".to_dense()")


def other_dtypes_are_explained(case: Case) -> None:
    """A float32 layer on float64 features: the output of the float64 layer, or one sentence with both types."""
    conv, args = case.build(torch.float32), inputs(case, random_graph(), torch.float64)
    try:
        actual, message = apply(conv, args), ""
    except TypeError as error:
        actual, message = None, str(error)
    if actual is not None:
        assert difference(actual, apply(conv.double(), args)) <= 1e-5
        return
    assert message.startswith(f"{type(conv).__name__}: expected x"), message
    assert {"torch.float32", "torch.float64"} <= set(re.findall(r"torch\.float\d+", message)), message


def traces_are_refused(case: Case) -> None:
    """``torch.jit.trace`` follows the layer or refuses it in one sentence, as ``torch.jit.script`` does."""
    conv: Any
    conv, (graph, x, edge) = case.build().requires_grad_(False), inputs(case, random_graph())
    x_src, rest = (x[0], x[1:]) if isinstance(x, tuple) else (x, ())

    def call(x_src: Tensor) -> Tensor:
        return apply(conv, Inputs(graph, (x_src, *rest) if rest else x_src, edge))

    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = call(2 * x_src)
        try:
            traced, refusal = torch.jit.trace(call, x_src, check_trace=False), ""
        except RuntimeError as error:
            traced, refusal = None, str(error)
        assert traced is not None or re.search("expected .* outside of torch.jit.trace, got .*save_model", refusal)
        if traced is not None:
            assert_same_bits({"y": traced(2 * x_src)}, {"y": expected})
        assert_same_bits({"y": call(2 * x_src)}, {"y": expected})
        message = error_of(lambda: torch.jit.script(conv), TypeError)
    assert message.startswith(f"{type(conv).__name__}: expected a call in Python, got torch.jit.script"), message


def bad_positions_are_refused(case: Case) -> None:
    if case.pos is None:
        return
    conv, good = case.build(), inputs(case, random_graph(NODES, EDGES))
    pos = good.graph.ndata["pos"]
    for value in (torch.nan, torch.inf):
        invalid = pos.clone()
        invalid[3], invalid[7, 0] = value, value
        good.graph.ndata["pos"] = invalid
        assert_refuses(conv, good, ValueError, "finite", case.pos + 1)
    good.graph.ndata["pos"] = torch.cat([pos, pos[:, :1]], 1)
    assert_refuses(conv, good, ValueError, f"(N, {case.pos})", f"({NODES}, {case.pos + 1})")
    del good.graph.ndata["pos"]
    good.graph.ndata["where"] = pos
    assert_refuses(conv, good, ValueError, "'pos'", "'where'")


# Arguments. What a layer's constructor promises is asked of one layer for each case.


def arguments(conv: nn.Module) -> dict[str, Parameter]:
    """The arguments of a layer's constructor, by name."""
    return dict(list(signature(type(conv).__init__).parameters.items())[1:])


def options_are_keyword_only(case: Case) -> None:
    """After the widths, arguments with a default are keyword-only, in the constructor and in forward."""
    conv = case.make()
    for name, parameter in arguments(conv).items():
        assert parameter.kind == Parameter.KEYWORD_ONLY or name in POSITIONAL, f"{name} is positional"
    for name in list(signature(type(conv).forward).parameters)[4:]:
        kind = signature(type(conv).forward).parameters[name].kind
        assert kind == Parameter.KEYWORD_ONLY, f"{name} of forward is positional"
    message = error_of(lambda: type(conv)(*range(1, 20)), TypeError)
    assert message.startswith(f"{type(conv).__name__}: expected ")
    assert all(f"{name}=" in message for name in arguments(conv) if name not in POSITIONAL), message


def parameters_are_reset(case: Case) -> None:
    """``reset_parameters`` draws what the constructor draws from the same seed, and no more."""
    seed(6)
    conv = case.make()
    initial, following = _parameters(conv), torch.rand(2)
    with torch.no_grad():
        for parameter in conv.parameters():
            parameter.fill_(torch.nan)
    seed(6)
    conv.reset_parameters()  # type: ignore[operator]
    assert_same_bits(_parameters(conv), initial)
    assert torch.equal(torch.rand(2), following), "another number of draws"


def _parameters(conv: nn.Module) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in conv.named_parameters()}


def repr_shows_arguments(case: Case) -> None:
    """``extra_repr`` evaluates to a layer with the same parameters; it shows no argument that is its default."""
    conv = case.make()
    shown = conv.extra_repr()
    parsed = ast.parse(f"f({shown})", mode="eval").body
    assert isinstance(parsed, ast.Call)
    assert f"{conv.in_feats}, {conv.out_feats}" in shown
    for keyword in parsed.keywords:
        value, default = ast.unparse(keyword.value), arguments(conv)[str(keyword.arg)].default
        assert value != repr(default), f"{keyword.arg} is its default, {default}"
    if any(isinstance(getattr(conv, name, None), nn.Module) for name in MODULES if name in arguments(conv)):
        return  # a module that was passed is shown as a child
    if "graph" in arguments(conv):
        return  # which no repr can show
    again = _from_repr(shown, type(conv))
    assert again.extra_repr() == shown
    shapes = [{name: p.shape for name, p in layer.state_dict().items()} for layer in (conv, again)]
    assert shapes[0] == shapes[1]


def _from_repr(shown: str, kind: Callable[..., nn.Module]) -> nn.Module:
    return eval(f"kind({shown})", {"kind": kind, **vars(gnnlib.ops), **vars(degrees)})


def numbers_of_numpy_are_taken(case: Case) -> None:
    """Numbers of NumPy, and tensors without axes, make the layer that Python's numbers make."""
    conv = case.make()
    if "graph" in arguments(conv):
        return
    double = partial(torch.tensor, dtype=torch.float64)
    for integer, real in ((np.int64, np.float64), (np.uint8, np.float64), (torch.tensor, double)):

        def other(value: Any, integer: Any = integer, real: Any = real) -> Any:
            if isinstance(value, tuple):
                return tuple(map(other, value))
            if isinstance(value, (bool, str)) or callable(value):
                return value
            return integer(value) if isinstance(value, int) else real(value) if value is not None else None

        def kind(*args: Any, other: Any = other, **options: Any) -> nn.Module:
            return type(conv)(*map(other, args), **{name: other(value) for name, value in options.items()})

        again = _from_repr(conv.extra_repr(), kind)
        assert again.extra_repr() == conv.extra_repr()
        for name in arguments(conv):
            assert not isinstance(getattr(again, name, None), np.generic), f"{name} is a number of NumPy"


def foreign_names_are_refused(case: Case) -> None:
    """Names of DGL and PyTorch Geometric, and an edge_index in the graph's place: one sentence for each."""
    conv, good = case.build(), inputs(case, random_graph(NODES, EDGES))
    kind = type(conv).__name__
    positional = [getattr(conv, name, None) for name in arguments(conv) if name in POSITIONAL]
    for name in set(FOREIGN) - set(arguments(conv)):
        message = error_of(partial(type(conv), *positional, **{name: True}), TypeError)
        assert message.startswith(f"{kind}: expected "), message
        assert message.endswith(f", got {name}="), message
        assert "\n" not in message
    for name in ("edge_weight", "edge_attr", "eweight", "efeat", "feat"):
        message = error_of(partial(conv, good.graph, good.x, **{name: good.edge}), TypeError)
        assert message.startswith(f"{kind}: expected "), message
        assert message.endswith(f", got {name}="), message
    message = error_of(lambda: conv(src_dst_inputs(good.graph, good.x)[0], torch.zeros(2, 5).long()), TypeError)
    assert f"{kind}: expected a DGL graph" in message


def mistakes_are_explained(case: Case) -> None:
    """Heads that are not joined, a weight where a feature belongs, and features of the other node set."""
    conv, good = case.build(), inputs(case, random_graph(NODES, EDGES))
    x_src, x_dst = src_dst_inputs(good.graph, good.x)
    heads = x_src.unsqueeze(-1)
    x = (heads, x_dst) if isinstance(good.x, tuple) else heads
    if x_src.shape[-1] > 1:
        message = error_of(lambda: conv(good.graph, x, good.edge), ValueError)
        assert "x.flatten(-2)" in message, message
    if not case.homogeneous:
        graph = bipartite(NODES, 4)
        other = inputs(case, graph)
        rows = src_dst_inputs(graph, other.x)[0][:4]
        wrong = (rows, rows) if isinstance(other.x, tuple) else rows
        message = error_of(lambda: conv(graph, wrong, other.edge), ValueError)
        assert "(x_src, x_dst)" in message, message


ARGUMENTS = [
    options_are_keyword_only,
    parameters_are_reset,
    repr_shows_arguments,
    numbers_of_numpy_are_taken,
    foreign_names_are_refused,
    mistakes_are_explained,
]
"""Checks of a layer that derives from `gnnlib.nn.conv.Conv`."""

ONCE = [
    differentiable_twice,
    batch_equals_one_by_one,
    extra_axes,
    layout_does_not_matter,
    single_precision_is_close,
    half_precision_runs,
    threads_do_not_matter,
    id_types_do_not_matter,
    bad_features_are_refused,
    bad_edges_are_refused,
    bad_positions_are_refused,
    sparse_tensors_are_refused,
    other_dtypes_are_explained,
    traces_are_refused,
    *ARGUMENTS,
]


def properties(cases: list[Case]) -> Callable:
    """A test for pytest that runs each of `ONCE` for each case."""
    import pytest

    @pytest.mark.parametrize("check", ONCE, ids=lambda check: check.__name__)
    @pytest.mark.parametrize("case", cases, ids=str)
    def test(case: Case, check: Callable[[Case], None]) -> None:
        check(case)

    return test


@contextlib.contextmanager
def counted_kernels():
    """The reference kernels, with the names of those called."""
    called: list[str] = []
    module = types.ModuleType("counted")
    for name in reference_kernels.__all__:

        def call(*args, name=name):
            called.append(name)
            return getattr(reference_kernels, name)(*args)

        setattr(module, name, call)
    with kernels.force(module):
        yield called
