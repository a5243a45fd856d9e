"""Acceptance checks of message-passing layers: a layer's test states `Case`s and runs all checks in two lines::

    CASES = [Case("plain", lambda: MyConv(5, 3), my_dense_reference, my_isolated_value), ...]
    test_every_graph = on_every_graph(CASES)
    test_properties = properties(CASES)

A case's reference is the layer's equation written again with dense matrices and nothing of the library. Any module
that is called as ``conv(graph, x)`` or ``conv(graph, x, edge)`` can be checked. Without pytest, call a check on a case.
"""

import contextlib
import types
from collections.abc import Callable
from typing import Any
from unittest import SkipTest

import torch
from torch import Tensor, nn

from gnnlib import kernels
from gnnlib.graph import ETYPE, GraphLike, batch, new_bipartite, new_graph
from gnnlib.kernels import reference as reference_kernels
from gnnlib.testing.arguments import (
    bad_edges_are_refused,
    bad_features_are_refused,
    bad_positions_are_refused,
    foreign_names_are_refused,
    mistakes_are_explained,
    numbers_of_numpy_are_taken,
    options_are_keyword_only,
    other_dtypes_are_explained,
    parameters_are_reset,
    repr_shows_arguments,
    sparse_tensors_are_refused,
    traces_are_refused,
)
from gnnlib.testing.case import (
    TOLERANCE,
    Case,
    Dense,
    Inputs,
    apply,
    apply_reference,
    assert_close,
    assert_same_bits,
    difference,
    has_dst_features,
    inputs,
    outputs_and_gradients,
    randomize_biases,
    seed,
    src_dst_inputs,
)
from gnnlib.testing.graphs import (
    GRAPHS,
    HOMOGENEOUS,
    OTHER_FORMS,
    bipartite,
    clique,
    edgeless,
    endpoints,
    path,
    random_graph,
)

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
    counterpart, conv = randomize_biases(case.counterpart().to(dtype)), case.build(dtype)
    conv.load_state_dict(counterpart.state_dict())
    return conv, counterpart


def counterpart_fits(case: Case, graph: GraphLike) -> bool:
    """``dgl.nn`` fails on graphs without edges, and SGConv on blocks."""
    return (
        case.counterpart is not None
        and graph.num_edges() > 0
        and (graph.is_homogeneous or not case.counterpart_homogeneous)
    )


def with_counterpart(case: Case, graph: Any, dtype: torch.dtype) -> tuple[dict, dict]:
    conv, counterpart = counterpart_of(case, dtype)
    args = inputs(case, graph, dtype)

    def call(counterpart: nn.Module, args: Inputs) -> Tensor:
        named = {} if args.edge is None else {case.counterpart_edge: args.edge}
        in_all_formats = graph.formats(["coo", "csr", "csc"])
        return counterpart(in_all_formats, args.x, **named)

    return outputs_and_gradients(conv, args), outputs_and_gradients(counterpart, args, call)


def equals_counterpart(case: Case, graph: GraphLike) -> None:
    """Forward and gradients are those of ``dgl.nn`` with the same weights; in float64, as float32 can hide an error."""
    if counterpart_fits(case, graph):
        assert_close(*with_counterpart(case, graph, torch.float64), TOLERANCE[torch.float64])


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
        other = new_graph(src, dst, graph.num_nodes())
    else:
        other = new_bipartite(("in", "to", "out"), src, dst, graph.num_src_nodes(), graph.num_dst_nodes())
    if case.pos is not None:
        other.srcdata["pos"], other.dstdata["pos"] = graph.srcdata["pos"][old_src], graph.dstdata["pos"][old_dst]
    if case.num_rels is not None:
        other.edata[ETYPE] = graph.edata[ETYPE][old_edge]
    x = args.x[old_src] if isinstance(args.x, Tensor) else (args.x[0][old_src], args.x[1][old_dst])
    moved = apply(conv, Inputs(other, x, None if args.edge is None else args.edge[old_edge]))
    assert_close({"y": moved}, {"y": y[old_dst]}, 1e-13)


def kernels_agree(case: Case, graph: GraphLike) -> None:
    """The compiled kernels compute what the reference kernels do; `equals_reference` tests the compiled in float32."""
    conv, args = case.build(), inputs(case, graph)
    actual = outputs_and_gradients(conv, args)
    with kernels.force(reference_kernels):
        expected = outputs_and_gradients(conv, args)
    assert_close(actual, expected, TOLERANCE[torch.float64])


def same_bits_twice(case: Case, graph: GraphLike) -> None:
    conv, args = case.build(torch.float32), inputs(case, graph, torch.float32)
    assert_same_bits(outputs_and_gradients(conv, args), outputs_and_gradients(conv, args))


EVERY_GRAPH = [equals_reference, equals_counterpart, isolated_nodes, permutation, kernels_agree, same_bits_twice]


def on_every_graph(cases: list[Case]) -> Callable:
    """A test for pytest that runs `EVERY_GRAPH` for each case on each graph of the zoo.

    The first case runs on all graphs. In another form of a graph, each of the other cases runs on every third.
    """
    import pytest

    pairs = [
        (case, name)
        for i, case in enumerate(cases)
        for name in (HOMOGENEOUS if case.homogeneous else GRAPHS)
        if i == 0 or name not in OTHER_FORMS or OTHER_FORMS.index(name) % 3 == i % 3
    ]

    @pytest.mark.parametrize(("case", "name"), pairs, ids=[f"{case}-{name}" for case, name in pairs])
    def test(case: Case, name: str) -> None:
        for check in EVERY_GRAPH:
            check(case, GRAPHS[name]())

    return test


# ---------------------------------------------------------------- once for each case


def differentiable_twice(case: Case) -> None:
    """Analytic first and second derivatives are the numeric ones, for inputs and parameters."""
    graph = new_graph([0, 1, 0, 0, 2, 1], [1, 1, 2, 2, 2, 0], 4)
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
    actual = apply(conv, Inputs(batch(graphs), x, edge))
    assert_close({"y": actual}, {"y": torch.cat([apply(conv, single) for single in args])}, 1e-13)


def weights_may_be_a_column(case: Case) -> None:
    """Edge weights (E, 1), as they lie in a graph of DGL or PyTorch Geometric, are those of (E,)."""
    if case.edge == "weight":
        conv, args = case.build(), inputs(case, random_graph())
        column = apply(conv, args._replace(edge=args.edge.unsqueeze(1)))
        assert_same_bits({"y": column}, {"y": apply(conv, args)})


def unused_destinations_are_not_read(case: Case) -> None:
    """A layer that does not use the features of the destinations takes any second part of a pair."""
    if case.needs_dst or case.homogeneous:
        return
    conv, args = case.build(), inputs(case, bipartite())
    x_src = src_dst_inputs(args.graph, args.x)[0]
    expected = apply(conv, args)
    for other in (None, torch.full((4, 97), torch.nan, dtype=torch.float64)):
        assert_same_bits({"y": apply(conv, args._replace(x=(x_src, other)))}, {"y": expected})


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
    """A layer in bfloat16 is that in float64 with the same numbers, up to ten roundings of features and gradients."""
    conv, args = case.build(torch.bfloat16), inputs(case, random_graph(), torch.bfloat16)
    actual = outputs_and_gradients(conv, args)
    exact = Inputs(args.graph, _round(args.x), _round(args.edge))
    expected = outputs_and_gradients(case.build(torch.bfloat16).double(), exact)
    assert all(value.dtype == torch.bfloat16 for value in actual.values())
    names = ["y"] if case.maxima else list(actual)
    assert_close({name: actual[name] for name in names}, {name: expected[name] for name in names}, 4e-2)


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


def devices_do_not_matter(case: Case, device: str | None = None) -> None:
    """On a device, with the graph on the CPU: the values and gradients of the CPU. Skipped where there is no card.

    Args:
        case: of a layer
        device: None: "cuda"
    """
    if device is None and not torch.cuda.is_available():
        raise SkipTest("no card: torch.cuda.is_available() is False")
    place = torch.device(device or "cuda")
    conv, args = case.build(torch.float32), inputs(case, random_graph(60, 300), torch.float32)
    expected = outputs_and_gradients(conv, args)
    actual = outputs_and_gradients(conv.to(place), Inputs(args.graph, _moved(args.x, place), _moved(args.edge, place)))
    assert all(value.device.type == place.type for value in actual.values())
    assert_close({name: value.cpu() for name, value in actual.items()}, expected, 1e-4)


def _moved(value: Any, device: torch.device) -> Any:
    if isinstance(value, tuple):
        return tuple(_moved(part, device) for part in value)
    return None if value is None else value.detach().to(device)


def id_types_do_not_matter(case: Case) -> None:
    conv = case.build()
    actual = [
        outputs_and_gradients(conv, inputs(case, graph)) for graph in (random_graph().int(), random_graph().long())
    ]
    assert_same_bits(*actual)


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
    weights_may_be_a_column,
    unused_destinations_are_not_read,
    extra_axes,
    layout_does_not_matter,
    single_precision_is_close,
    half_precision_runs,
    threads_do_not_matter,
    devices_do_not_matter,
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
