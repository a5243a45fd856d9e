"""Which arguments a layer takes, in its constructor and in forward, and the errors that explain the others.

No kernel runs before such an error.
"""

import ast
import re
import types
import warnings
from collections.abc import Callable
from functools import partial
from inspect import Parameter, signature
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import gnnlib.ops
from gnnlib import kernels
from gnnlib.ops import degrees
from gnnlib.testing.case import Case, Inputs, apply, assert_same_bits, difference, inputs, seed, src_dst_inputs
from gnnlib.testing.graphs import bipartite, random_graph

NO_KERNELS = types.ModuleType("no_kernels")  # forced where an error must come before any kernel runs

POSITIONAL = {
    *("graph", "in_feats", "out_feats", "num_heads", "k", "kernel_size", "edge_feats", "pos_feats", "dim"),
    *("num_kernels", "num_rels"),
}
"""Arguments that a constructor may take by position."""

MODULES = "apply_func", "edge_func", "edge_activation"
"""Arguments that are modules."""

FOREIGN = [
    *("feat_drop", "residual", "activation", "allow_zero_in_degree", "add_self_loops", "concat", "dropout", "heads"),
    *("in_channels", "out_channels", "cached", "aggregator_type", "aggr", "normalize", "edge_dim", "no_such_argument"),
]
"""Constructor arguments of DGL and PyTorch Geometric."""

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
        if isinstance(case.in_feats, tuple) and case.needs_dst:
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
        bad(edge.unsqueeze(1).repeat(1, 2), ValueError, f"({EDGES},)", f"({EDGES}, 2)")
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


# ---------------------------------------------------------------- the constructor, and names of arguments


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
    assert message.startswith(f"{kind}: expected the graph first, and then x"), message


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
