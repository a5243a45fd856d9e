"""Properties every layer must have. A layer's test states its `Case`s and runs everything in two lines:

    CASES = [Case("plain", lambda: MyConv(5, 3), my_dense_reference), ...]
    test_every_graph = on_every_graph(CASES)
    test_properties = properties(CASES)

A case's reference is the layer's equation written again with dense matrices and nothing of the library.
"""

import contextlib
import re
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from gnnlib import kernels
from gnnlib._platform.dgl import dgl
from gnnlib.kernels import reference as reference_kernels
from tests.graphs import GRAPHS, HOMOGENEOUS, bare, bipartite, clique, ends, path, random_graph

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}
NO_KERNELS = types.ModuleType("no_kernels")  # forced where an error must come before any kernel runs


class Dense(NamedTuple):
    """Both ends of each edge as rows of one-hot matrices."""

    src: Tensor  # (E, N_src)
    dst: Tensor  # (E, N_dst)
    graph: dgl.DGLGraph

    @staticmethod
    def of(graph: dgl.DGLGraph, dtype: torch.dtype) -> "Dense":
        src, dst = ends(graph)
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

    reference: ``f(conv, dense, x_src, x_dst, edge) -> y``, differentiable
    alone: ``f(conv, x_dst) -> y``: what each node gets that has no in-edges
    in_feats: width of x, or a pair of widths, and then x is always a pair
    edge: None, "weight", or the width of edge features
    positive: edge weights are above 0
    needs_dst: uses the destinations' own features
    whole: only graphs whose sources are their destinations
    pos: number of coordinates in ``srcdata["pos"]`` and ``dstdata["pos"]``
    twin: makes the same layer of ``dgl.nn``, called as ``twin(graph, x, **{twin_edge: edge})``
    twin_whole: the twin takes no blocks and no bipartite graphs
    """

    name: str
    make: Callable[[], nn.Module]
    reference: Callable[..., Tensor]
    alone: Callable[..., Tensor]
    in_feats: int | tuple[int, int] = 5
    edge: str | int | None = None
    positive: bool = False
    needs_dst: bool = False
    whole: bool = False
    pos: int | None = None
    twin: Callable[[], nn.Module] | None = None
    twin_edge: str = "edge_weight"
    twin_whole: bool = False

    def __str__(self) -> str:
        return self.name

    def build(self, dtype: torch.dtype = torch.float64) -> nn.Module:
        """The layer with random biases, which would start at 0."""
        seed(1)
        return _shake(self.make().to(dtype))


class Inputs(NamedTuple):
    graph: dgl.DGLGraph
    x: Tensor | tuple[Tensor, Tensor]
    edge: Tensor | None


def seed(number: int) -> None:
    """As torch.manual_seed, for the CPU alone and much faster: that one notes a stack trace for each device."""
    torch.default_generator.manual_seed(number)


def _shake(module: nn.Module) -> nn.Module:
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.dim() == 1:
                parameter.normal_()
    return module


def _rand(*shape: int, dtype: torch.dtype) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64).to(dtype)  # the same numbers in every precision


def knows_destinations(graph: dgl.DGLGraph) -> bool:
    """One tensor of source features tells those of the destinations."""
    return graph.is_homogeneous or (graph.is_block and dgl.NID in graph.srcdata)


def inputs(
    case: Case, graph: dgl.DGLGraph, dtype: torch.dtype = torch.float64, signals: tuple[int, ...] = ()
) -> Inputs:
    """Random features of scale 1 (and positions, written on the graph)."""
    seed(2)
    num_src, num_dst, num_edges = graph.num_src_nodes(), graph.num_dst_nodes(), graph.num_edges()
    if case.pos is not None:
        graph.srcdata["pos"] = _rand(num_src, case.pos, dtype=dtype)
        if not graph.is_homogeneous:
            graph.dstdata["pos"] = _rand(num_dst, case.pos, dtype=dtype)
    if isinstance(case.in_feats, tuple):
        widths = case.in_feats
        x = tuple(_rand(n, *signals, width, dtype=dtype) for n, width in zip((num_src, num_dst), widths))
    else:
        x = _rand(num_src, *signals, case.in_feats, dtype=dtype)
        if case.needs_dst and not knows_destinations(graph):
            x = (x, _rand(num_dst, *signals, case.in_feats, dtype=dtype))
    if case.edge is None:
        edge = None
    elif case.edge == "weight":
        edge = _rand(num_edges, dtype=dtype)
        edge = edge.abs() + 0.1 if case.positive else edge
    else:
        edge = _rand(num_edges, case.edge, dtype=dtype)
    return Inputs(graph, x, edge)


def both(graph: dgl.DGLGraph, x: Tensor | tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    return x if isinstance(x, tuple) else (x, x[: graph.num_dst_nodes()])


def apply(conv: nn.Module, given: Inputs) -> Tensor:
    return conv(given.graph, given.x) if given.edge is None else conv(given.graph, given.x, given.edge)


def apply_reference(case: Case, conv: nn.Module, given: Inputs) -> Tensor:
    x_src, x_dst = both(given.graph, given.x)
    return case.reference(conv, Dense.of(given.graph, x_src.dtype), x_src, x_dst, given.edge)


def everything(conv: nn.Module, given: Inputs, function: Callable[[nn.Module, Inputs], Tensor] = apply) -> dict:
    """The output and, for a random loss, the gradients of all inputs and parameters, by name."""
    named = {"x": given.x} if isinstance(given.x, Tensor) else {"x_src": given.x[0], "x_dst": given.x[1]}
    if given.edge is not None:
        named["edge"] = given.edge
    named = {name: value.detach().requires_grad_() for name, value in named.items()}
    x = named["x"] if "x" in named else (named["x_src"], named["x_dst"])
    y = function(conv, Inputs(given.graph, x, named.get("edge")))
    seed(3)
    loss = (y * _rand(*y.shape, dtype=y.dtype)).sum()
    leaves = {**named, **dict(conv.named_parameters())}
    grads = torch.autograd.grad(loss, tuple(leaves.values()), allow_unused=True, materialize_grads=True)
    found = {f"d {name}": grad for name, grad in zip(leaves, grads)}
    return {"y": y.detach(), **found}


def difference(found: Tensor, expected: Tensor) -> float:
    """The largest absolute difference, or relative to the largest value where that is above 1. NaN stays NaN."""
    assert found.shape == expected.shape, f"shape {tuple(found.shape)}, expected {tuple(expected.shape)}"
    if found.numel() == 0:
        return 0.0
    return ((found.double() - expected.double()).abs().max() / expected.double().abs().max().clamp(min=1)).item()


def assert_close(found: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float) -> None:
    assert found.keys() == expected.keys()
    apart = {name: difference(found[name], expected[name]) for name in found}
    wrong = {name: value for name, value in apart.items() if not value <= tolerance}
    assert not wrong, f"differences above {tolerance}: {wrong}"


def assert_same_bits(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    differ = [name for name in found if not torch.equal(found[name], expected[name])]
    assert not differ, f"not the same bits: {differ}"


# ---------------------------------------------------------------- on every graph of the zoo


def equals_reference(case: Case, graph: dgl.DGLGraph) -> None:
    for dtype, tolerance in TOLERANCE.items():
        conv, given = case.build(dtype), inputs(case, graph, dtype)
        expected = everything(conv, given, lambda conv, given: apply_reference(case, conv, given))
        found = everything(conv, given)
        assert found["y"].dtype == dtype
        assert_close(found, expected, tolerance)


def twin_of(case: Case, dtype: torch.dtype) -> tuple[nn.Module, nn.Module]:
    """The layer and that of ``dgl.nn``, whose state dict it has loaded."""
    seed(4)
    twin, conv = _shake(case.twin().to(dtype)), case.build(dtype)
    conv.load_state_dict(twin.state_dict())
    return conv, twin


def twin_fits(case: Case, graph: dgl.DGLGraph) -> bool:
    """``dgl.nn`` fails on graphs without edges, and SGConv on blocks."""
    return case.twin is not None and graph.num_edges() > 0 and (graph.is_homogeneous or not case.twin_whole)


def with_twin(case: Case, graph: dgl.DGLGraph, dtype: torch.dtype) -> tuple[dict, dict]:
    conv, twin = twin_of(case, dtype)
    given = inputs(case, graph, dtype)

    def call(twin: nn.Module, given: Inputs) -> Tensor:
        named = {} if given.edge is None else {case.twin_edge: given.edge}
        return twin(given.graph.formats(["coo", "csr", "csc"]), given.x, **named)

    return everything(conv, given), everything(twin, given, call)


def equals_twin(case: Case, graph: dgl.DGLGraph) -> None:
    """Forward and gradients are those of ``dgl.nn`` with the same weights."""
    if twin_fits(case, graph):
        for dtype, tolerance in TOLERANCE.items():
            assert_close(*with_twin(case, graph, dtype), tolerance)


def isolated_nodes(case: Case, graph: dgl.DGLGraph) -> None:
    """A node without in-edges gets what the docstring says."""
    conv, given = case.build(), inputs(case, graph)
    lonely = Dense.of(graph, torch.float64).dst.sum(0) == 0
    found, expected = apply(conv, given), case.alone(conv, both(graph, given.x)[1])
    assert_close({"y": found[lonely]}, {"y": expected.expand_as(found)[lonely]}, 1e-14)


def permutation(case: Case, graph: dgl.DGLGraph) -> None:
    """Nodes and edges in another order give the same rows in that order."""
    if graph.is_block and knows_destinations(graph):
        return  # its destinations must stay first
    conv, given = case.build(), inputs(case, graph)
    y = apply(conv, given)
    seed(5)
    old_src, old_edge = torch.randperm(graph.num_src_nodes()), torch.randperm(graph.num_edges())
    old_dst = old_src if graph.is_homogeneous else torch.randperm(graph.num_dst_nodes())
    src, dst = (old.argsort()[end][old_edge] for old, end in zip((old_src, old_dst), ends(graph)))
    if graph.is_homogeneous:
        other = dgl.graph((src, dst), num_nodes=graph.num_nodes())
    else:
        sizes = {"in": graph.num_src_nodes(), "out": graph.num_dst_nodes()}
        other = dgl.heterograph({("in", "to", "out"): (src, dst)}, sizes)
    if case.pos is not None:
        other.srcdata["pos"], other.dstdata["pos"] = graph.srcdata["pos"][old_src], graph.dstdata["pos"][old_dst]
    x = given.x[old_src] if isinstance(given.x, Tensor) else (given.x[0][old_src], given.x[1][old_dst])
    moved = apply(conv, Inputs(other, x, None if given.edge is None else given.edge[old_edge]))
    assert_close({"y": moved}, {"y": y[old_dst]}, 1e-13)


def kernels_agree(case: Case, graph: dgl.DGLGraph) -> None:
    """The compiled kernels compute what the reference kernels do."""
    for dtype, tolerance in TOLERANCE.items():
        conv, given = case.build(dtype), inputs(case, graph, dtype)
        found = everything(conv, given)
        with kernels.force(reference_kernels):
            expected = everything(conv, given)
        assert_close(found, expected, tolerance)


def same_bits_twice(case: Case, graph: dgl.DGLGraph) -> None:
    conv, given = case.build(torch.float32), inputs(case, graph, torch.float32)
    assert_same_bits(everything(conv, given), everything(conv, given))


EVERY_GRAPH = [equals_reference, equals_twin, isolated_nodes, permutation, kernels_agree, same_bits_twice]


def on_every_graph(cases: list[Case]) -> Callable:
    """A test that runs `EVERY_GRAPH` for each case on each graph of the zoo."""
    pairs = [(case, name) for case in cases for name in (HOMOGENEOUS if case.whole else GRAPHS)]

    @pytest.mark.parametrize(("case", "name"), pairs, ids=[f"{case}-{name}" for case, name in pairs])
    def test(case: Case, name: str) -> None:
        for check in EVERY_GRAPH:
            check(case, GRAPHS[name]())

    return test


# ---------------------------------------------------------------- once for each case


def differentiable_twice(case: Case) -> None:
    """Analytic first and second derivatives are the numeric ones, for inputs and parameters."""
    graph = dgl.graph(([0, 1, 0, 0, 2, 1], [1, 1, 2, 2, 2, 0]), num_nodes=4)
    conv, given = case.build(), inputs(case, graph)
    names = [name for name, _ in conv.named_parameters()]
    leaves = [*conv.parameters(), *(given.x if isinstance(given.x, tuple) else [given.x])]
    leaves += [] if given.edge is None else [given.edge]
    leaves = [leaf.detach().requires_grad_() for leaf in leaves]

    def function(*values: Tensor) -> Tensor:
        parameters, rest = dict(zip(names, values)), list(values[len(names) :])
        edge = rest.pop() if given.edge is not None else None
        x = rest[0] if len(rest) == 1 else tuple(rest)
        arguments = (graph, x) if edge is None else (graph, x, edge)
        return torch.func.functional_call(conv, parameters, arguments)

    assert torch.autograd.gradcheck(function, leaves)
    assert torch.autograd.gradgradcheck(function, leaves, fast_mode=True)


def batch_equals_one_by_one(case: Case) -> None:
    several = [random_graph(7, 15, seed=1), bare(0), bare(3), clique(4), path(5)]
    check_batch(case, several)
    if not case.whole:
        check_batch(case, [bipartite(), bipartite(7, 5), bipartite()])


def check_batch(case: Case, graphs: list[dgl.DGLGraph]) -> None:
    conv = case.build()
    given = [inputs(case, graph) for graph in graphs]
    if isinstance(given[0].x, tuple):
        x = tuple(torch.cat([one.x[i] for one in given]) for i in (0, 1))
    else:
        x = torch.cat([one.x for one in given])
    edge = None if case.edge is None else torch.cat([one.edge for one in given])
    found = apply(conv, Inputs(dgl.batch(graphs), x, edge))
    assert_close({"y": found}, {"y": torch.cat([apply(conv, one) for one in given])}, 1e-13)


def extra_axes(case: Case) -> None:
    """x (N, *, F): each signal gets what it gets alone, and the gradients add up."""
    for signals in ((3,), (2, 2), (1,)):
        conv, given = case.build(), inputs(case, random_graph(), signals=signals)
        y = apply(conv, given)
        assert y.shape[1 : 1 + len(signals)] == signals
        alone = torch.empty_like(y)
        for at in torch.cartesian_prod(*map(torch.arange, signals)).view(-1, len(signals)).tolist():
            one = (slice(None), *at)
            x = given.x[one] if isinstance(given.x, Tensor) else (given.x[0][one], given.x[1][one])
            alone[one] = apply(conv, Inputs(given.graph, x, given.edge))
        assert_close({"y": y}, {"y": alone}, 1e-13)
        for parameter in conv.parameters():
            found, expected = (_grad(out.square().sum(), parameter) for out in (y, alone))
            assert difference(found, expected) <= 1e-12


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

    conv, given = case.build(), inputs(case, random_graph())
    expected = everything(conv, given)
    for change in (transposed, strided, offset):
        x = tuple(map(change, given.x)) if isinstance(given.x, tuple) else change(given.x)
        edge = None if given.edge is None else change(given.edge)
        assert change is offset or not (x if isinstance(x, Tensor) else x[0]).is_contiguous()
        assert_close(everything(conv, Inputs(given.graph, x, edge)), expected, 1e-13)
    y = apply(conv, given)
    for parameter in conv.parameters():
        assert difference(_grad(y.sum(), parameter), _grad((y * torch.ones_like(y)).sum(), parameter)) <= 1e-13


def single_precision_is_close(case: Case) -> None:
    conv, given = case.build(torch.float64), inputs(case, random_graph(60, 300), torch.float64)
    expected = everything(conv, given)
    found = everything(case.build(torch.float32), inputs(case, random_graph(60, 300), torch.float32))
    exact = case.build(torch.float32).double()  # the same rounded weights
    assert all(value.dtype == torch.float32 for value in found.values())
    rounded = everything(exact, Inputs(given.graph, _round(given.x), _round(given.edge)))
    assert_close(found, rounded, 1e-5)
    assert_close(found, expected, 1e-4)


def _round(value):
    if isinstance(value, tuple):
        return tuple(map(_round, value))
    return None if value is None else value.float().double()


def half_precision_runs(case: Case) -> None:
    """bfloat16 is served by the reference kernels."""
    conv, given = case.build(torch.bfloat16), inputs(case, random_graph(), torch.bfloat16)
    found, expected = everything(conv, given), everything(case.build(), inputs(case, random_graph()))
    assert all(value.dtype == torch.bfloat16 for value in found.values())
    assert difference(found["y"], expected["y"]) <= 0.1
    assert all(value.isfinite().all() for value in found.values())


def threads_do_not_matter(case: Case) -> None:
    """One thread or two: the same bits, on a graph large enough for a parallel launch."""
    graph = random_graph(1500, 12000)
    conv, given = case.build(torch.float32), inputs(case, graph, torch.float32)
    before = torch.get_num_threads()
    found = {}
    try:
        for num_threads in (1, 2):
            torch.set_num_threads(num_threads)
            found[num_threads] = everything(conv, given)
    finally:
        torch.set_num_threads(before)
    assert_close(found[1], found[2], 1e-5)
    assert_same_bits({"y": found[1]["y"]}, {"y": found[2]["y"]})


def id_types_do_not_matter(case: Case) -> None:
    conv = case.build()
    found = [everything(conv, inputs(case, graph)) for graph in (random_graph().int(), random_graph().long())]
    assert_same_bits(*found)


# Bad input. Sizes of the graph below are like no other number in a message.
NODES, EDGES = 41, 83


def refuses(conv: nn.Module, given: Inputs, error: type[Exception], *said: object) -> str:
    """The error comes before any kernel runs, and says each of ``said``, numbers as whole words."""
    with kernels.force(NO_KERNELS), pytest.raises(error) as caught:
        apply(conv, given)
    message = str(caught.value)
    missing = [word for word in map(str, said) if not re.search(rf"(?<!\w){re.escape(word)}(?!\w)", message)]
    assert not missing, f"{message!r} does not say {missing}"
    return message


def bad_features_are_refused(case: Case) -> None:
    conv, good = case.build(), inputs(case, random_graph(NODES, EDGES))
    x_src, x_dst = both(good.graph, good.x)
    width = x_src.shape[-1]

    def bad(change: Callable[[Tensor], Tensor], error: type[Exception], *said: object) -> None:
        x = change(x_src) if isinstance(good.x, Tensor) else (change(x_src), x_dst)
        refuses(conv, Inputs(good.graph, x, good.edge), error, *said)
        if isinstance(case.in_feats, tuple):
            said = tuple(n + x_dst.shape[-1] - width if n in (width, width + 1) else n for n in said)
            refuses(conv, Inputs(good.graph, (x_src, change(x_dst)), good.edge), error, *said)

    bad(lambda x: torch.cat([x, x[:, :1]], 1), ValueError, width, width + 1)
    bad(lambda x: torch.cat([x, x[:1]]), ValueError, NODES, NODES + 1)
    bad(lambda x: x[:0], ValueError, NODES, 0)
    bad(lambda x: x[:, 0], ValueError, NODES, f"({NODES},)")
    bad(lambda x: x.long(), TypeError, "floating-point", "torch.int64")
    bad(lambda x: x.numpy(), TypeError, "tensor", "ndarray")
    if case.needs_dst and not isinstance(case.in_feats, tuple):
        graph = bipartite(NODES, 4)
        refuses(
            conv, Inputs(graph, x_src, inputs(case, graph).edge), ValueError, "(x_src, x_dst)", f"({NODES}, {width})"
        )


def bad_edges_are_refused(case: Case) -> None:
    conv, good = case.build(), inputs(case, random_graph(NODES, EDGES))
    weight = torch.ones(EDGES, dtype=torch.float64)

    def bad(edge: object, error: type[Exception], *said: object) -> None:
        refuses(conv, Inputs(good.graph, good.x, edge), error, *said)

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
        refuses(conv, Inputs(good.graph, good.x, None), ValueError, f"({EDGES}, {case.edge})", "none")


def bad_positions_are_refused(case: Case) -> None:
    if case.pos is None:
        return
    conv, good = case.build(), inputs(case, random_graph(NODES, EDGES))
    pos = good.graph.ndata["pos"]
    for value in (torch.nan, torch.inf):
        spoilt = pos.clone()
        spoilt[3], spoilt[7, 0] = value, value
        good.graph.ndata["pos"] = spoilt
        refuses(conv, good, ValueError, "finite", case.pos + 1)
    good.graph.ndata["pos"] = torch.cat([pos, pos[:, :1]], 1)
    refuses(conv, good, ValueError, f"(N, {case.pos})", f"({NODES}, {case.pos + 1})")
    del good.graph.ndata["pos"]
    good.graph.ndata["where"] = pos
    refuses(conv, good, ValueError, "'pos'", "'where'")


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
]


def properties(cases: list[Case]) -> Callable:
    """A test that runs each of `ONCE` for each case."""

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
