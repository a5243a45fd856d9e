"""Cases of a layer: how a check builds and calls it, its equation with dense matrices, and comparison of results."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from gnnlib.graph import ETYPE, NID, GraphLike
from gnnlib.testing.graphs import endpoints

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}


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
        maxima: whether the layer takes maxima, whose gradients jump where rounding makes two messages equal
        pos: number of coordinates in ``srcdata["pos"]`` and ``dstdata["pos"]``
        num_rels: number of relations in ``edata["_TYPE"]``
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
    maxima: bool = False
    pos: int | None = None
    num_rels: int | None = None
    counterpart: Callable[[], nn.Module] | None = None
    counterpart_edge: str = "edge_weight"
    counterpart_homogeneous: bool = False

    def __str__(self) -> str:
        return self.name

    def build(self, dtype: torch.dtype = torch.float64) -> nn.Module:
        """The layer with random biases, which would start at 0."""
        seed(1)
        return randomize_biases(self.make().to(dtype))


class Inputs(NamedTuple):
    """The arguments of a layer's forward."""

    graph: GraphLike
    x: Any
    edge: Any


def seed(number: int) -> None:
    """As torch.manual_seed, for the CPU alone and much faster: which notes a stack trace for each device."""
    torch.default_generator.manual_seed(number)


def randomize_biases(module: nn.Module) -> nn.Module:
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.dim() == 1:
                parameter.normal_()
    return module


def _rand(*shape: int, dtype: torch.dtype) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64).to(dtype)  # the same numbers in every precision


def has_dst_features(graph: GraphLike) -> bool:
    """Whether the source features contain those of the destinations."""
    return graph.is_homogeneous or (graph.is_block and NID in graph.srcdata)


def inputs(case: Case, graph: GraphLike, dtype: torch.dtype = torch.float64, signals: tuple[int, ...] = ()) -> Inputs:
    """Random features of scale 1 (and positions and relations, written on the graph)."""
    seed(2)
    num_src, num_dst, num_edges = graph.num_src_nodes(), graph.num_dst_nodes(), graph.num_edges()
    if case.pos is not None:
        graph.srcdata["pos"] = _rand(num_src, case.pos, dtype=dtype)
        if not graph.is_homogeneous:
            graph.dstdata["pos"] = _rand(num_dst, case.pos, dtype=dtype)
    if case.num_rels is not None:
        graph.edata[ETYPE] = torch.randint(case.num_rels, (num_edges,), generator=torch.Generator().manual_seed(0))
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
    loss = (y * _rand(*y.shape, dtype=y.dtype).to(y.device)).sum()
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
