"""Workloads on one graph: training steps, propagation and aggregation."""

import os
import shutil
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import gnnlib
from gnnlib._platform.dgl import dgl
from gnnlib.benchmarks.speed import bound, graphs
from gnnlib.benchmarks.speed.layers import Kind, both_norm, csr, edge_index, gather_scatter, pyg
from gnnlib.benchmarks.speed.measure import BFLOAT16, Case
from gnnlib.graph import GraphLike, edge_endpoints
from gnnlib.ops import linear as products

Call = Callable[[nn.Module, Tensor], Tensor]
CLASSES = 10
WIDTH = 128
COMPILER = "inductor"  # the backend of torch.compile; it needs a C++ compiler


def forward(layers: nn.ModuleList, call: Call, x: Tensor) -> Tensor:
    """The layers with a ReLU between them."""
    for i, layer in enumerate(layers):
        x = call(layer, x).flatten(1)
        if i + 1 < len(layers):
            x = torch.relu(x)
    return x


def training(layers: nn.Module, run: Callable[[], Tensor], target: Tensor) -> Callable[[], None]:
    """A training step without the optimizer: forward, loss, backward."""

    def step() -> None:
        layers.zero_grad(set_to_none=True)
        cross_entropy(run(), target).backward()

    return step


def step_case(
    kind: Kind, graph: dgl.DGLGraph, widths: Sequence[int], edge: Tensor | None = None, sweeps: int = 0
) -> Case:
    """A training step of a stack of layers.

    Args:
        kind: the layer
        graph: the graph
        widths: width of the input and of each layer
        edge: edge features
        sweeps: aggregations in a step, forward and backward
    """
    torch.manual_seed(0)
    graph.create_formats_()
    # small: large sums over hubs would saturate the softmax, whose subnormal gradients are slow in every library
    x, target = 1e-3 * torch.randn(graph.num_nodes(), widths[0]), torch.randint(0, CLASSES, (graph.num_nodes(),))
    layers = kind.layers(widths)
    edges = () if edge is None else (edge,)
    calls: dict[str, Call] = {name: lambda layer, h: layer(graph, h, *edges) for name in ("gnnlib", "dgl")}
    calls |= peer_calls(kind, graph, x, edges)
    if "dense" in layers:
        calls["dense"] = lambda layer, h: layer(h)
    nets = {name: layers[{"gnnlib": "ours", "csr": "pyg", "edge-index": "pyg"}.get(name, name)] for name in calls}
    runs = {name: partial(forward, nets[name], call, x) for name, call in calls.items()}
    case = Case(
        steps={name: training(nets[name], run, target) for name, run in runs.items()},
        outputs={name: run for name, run in runs.items() if name != "dense"},
    )
    return with_bound(case, graph, widths[0], sweeps) if sweeps else case


def peer_calls(kind: Kind, graph: GraphLike, x: Tensor, edges: Sequence[Tensor]) -> dict[str, Call]:
    """PyG's layer on an edge list, on an EdgeIndex and on a sparse matrix, on the device of x; none without PyG."""
    if not pyg():
        return {}
    index = torch.stack(edge_endpoints(graph)).to(x.device)
    norm = both_norm(graph).to(x) if kind.edge == "norm" else None
    extra = edges if norm is None else [norm]
    calls: dict[str, Call] = {"pyg": lambda layer, h: layer(h, index, *extra)}
    if kind.edge != "feat":
        sorted_index, order = edge_index(graph, x.device)
        in_order = [value[order] for value in extra]
        calls["edge-index"] = lambda layer, h: layer(h, sorted_index, *in_order)
    if kind.csr and x.dtype == torch.float32:
        matrix = csr(graph, norm, x.device)
        calls["csr"] = lambda layer, h: layer(h, matrix)
    return calls


def with_bound(case: Case, graph: dgl.DGLGraph, width: int, sweeps: int = 1, coeffs: int = 0) -> Case:
    """The case with the contender "gather"."""
    case.steps["gather"], case.moved = bound.gather(graph, width, coeffs)
    case.sweeps = sweeps
    return case


def ecc_case(kind: Kind, hidden: int, num_nodes: int, width: int = 32, edge_feats: int = 8) -> Case:
    """One layer on a graph with 8 in-edges for each node. The dense part is the edge network's first layer and the
    product of the sums over edges, a matrix (N, (hidden + 1) * width)."""
    graph = graphs.regular_graph(num_nodes, 8)
    edge = torch.randn(graph.num_edges(), edge_feats)
    case = step_case(kind, graph, (width, width), edge)
    first, last = nn.Linear(edge_feats, hidden), nn.Linear((hidden + 1) * width, width)
    sums = nn.Parameter(torch.randn(num_nodes, last.in_features))
    parts = nn.ParameterList([*first.parameters(), *last.parameters(), sums])
    target = torch.randint(0, CLASSES, (num_nodes,))

    def dense() -> Tensor:
        return last(sums) + torch.relu(first(edge)).mean()  # the mean, so that it has a gradient

    case.steps["dense"] = training(parts, dense, target)
    return case


def propagation_case(graph: dgl.DGLGraph, hops: int = 2, width: int = WIDTH) -> Case:
    """The propagation of SGC, without weights and gradients."""
    graph.create_formats_()
    x = torch.randn(graph.num_nodes(), width)
    ours, theirs = gnnlib.SGConv(width, width, hops), dgl.nn.SGConv(width, width, hops)
    ours.fc = theirs.fc = nn.Identity()  # type: ignore[assignment]
    outputs = {"gnnlib": lambda: ours(graph, x), "dgl": lambda: theirs(graph, x)}
    if pyg():
        index, norm = torch.stack(graph.edges()), both_norm(graph)
        matrix = csr(graph, norm)
        outputs["pyg"] = lambda: _repeat(lambda h: gather_scatter()(h, index, norm), x, hops)
        outputs["csr"] = lambda: _repeat(lambda h: torch.sparse.mm(matrix, h), x, hops)
    return with_bound(_without_gradients(outputs), graph, width, hops)


def _repeat(function: Callable[[Tensor], Tensor], x: Tensor, times: int) -> Tensor:
    for _ in range(times):
        x = function(x)
    return x


def _without_gradients(outputs: dict[str, Callable[[], Tensor]]) -> Case:
    return Case({name: torch.no_grad()(output) for name, output in outputs.items()}, outputs)


def aggregation_case(graph: dgl.DGLGraph, coeffs: int = 1, width: int = WIDTH) -> Case:
    """The sum over in-edges without gradients: unweighted, or with a weight for each edge and head."""
    graph.create_formats_()
    heads = (coeffs,) if coeffs > 1 else ()
    x, weight = torch.randn(graph.num_nodes(), *heads, width // max(coeffs, 1)), torch.rand(graph.num_edges(), *heads)
    outputs = {
        "gnnlib": lambda: gnnlib.aggregate(graph, x, weight if coeffs else None),
        "dgl": lambda: dgl.ops.u_mul_e_sum(graph, x, weight.unsqueeze(-1)) if coeffs else dgl.ops.copy_u_sum(graph, x),
    }
    if pyg():
        index, plain = torch.stack(graph.edges()), pyg().SimpleConv("sum")
        outputs["pyg"] = lambda: gather_scatter()(x, index, weight) if coeffs else plain(x, index)
        if not heads:
            sorted_index, order = edge_index(graph)
            value = weight[order] if coeffs else None
            multiply: Any = sorted_index.matmul
            outputs["edge-index"] = lambda: multiply(x, value, transpose=True)
    if not heads:
        matrix = csr(graph, weight if coeffs else None)
        outputs["csr"] = lambda: torch.sparse.mm(matrix, x)
    return with_bound(_without_gradients(outputs), graph, width, coeffs=coeffs)


def _no() -> bool:
    return False


def bfloat16_sum_case(graph: dgl.DGLGraph, coeffs: int, width: int = WIDTH) -> Case:
    """The sum over in-edges in bfloat16, beside the same in float32."""
    graph.create_formats_()
    x, weight = torch.randn(graph.num_nodes(), width), torch.rand(graph.num_edges()) if coeffs else None
    half = x.bfloat16(), None if weight is None else weight.bfloat16()
    outputs = {
        "gnnlib": lambda: gnnlib.aggregate(graph, *half),
        "float32": lambda: gnnlib.aggregate(graph, x, weight),
    }
    case = _without_gradients(outputs)
    case.tolerance = BFLOAT16
    return case


def bfloat16_step_case(kind: Kind, graph: dgl.DGLGraph, widths: Sequence[int], instructions: bool) -> Case:
    """A training step as of ``fit(precision="bfloat16")``, beside the same in float32.

    Args:
        kind: the layer
        graph: the graph
        widths: width of the input and of each layer
        instructions: whether products use the processor's instructions for bfloat16, if it has them
    """
    torch.manual_seed(0)
    graph.create_formats_()
    x, target = 1e-3 * torch.randn(graph.num_nodes(), widths[0]), torch.randint(0, CLASSES, (graph.num_nodes(),))
    half, net = x.bfloat16(), kind.layers(widths)["ours"]

    def call(layer: nn.Module, h: Tensor) -> Tensor:
        return layer(graph, h)

    def in_bfloat16() -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return forward(net, call, half).float()

    runs: dict[str, Callable[[], Tensor]] = {"gnnlib": in_bfloat16, "float32": partial(forward, net, call, x)}
    steps: dict[str, Callable[[], object]] = {name: training(net, run, target) for name, run in runs.items()}
    if not instructions:
        without = mock.patch.object(products, "_has_bfloat16", new=_no)
        runs["gnnlib"], steps["gnnlib"] = without(in_bfloat16), without(steps["gnnlib"])
    return Case(steps, runs, tolerance=BFLOAT16)


def compiled_case(kind: Kind, graph: dgl.DGLGraph, widths: Sequence[int]) -> Case:
    """A training step under ``torch.compile``, beside gnnlib's in eager mode and PyG's under ``torch.compile``.

    Args:
        kind: the layer
        graph: the graph, which is prepared
        widths: width of the input and of each layer

    Raises:
        ValueError: if there is no C++ compiler
    """
    if not any(map(shutil.which, filter(None, (os.environ.get("CXX"), "g++", "clang++")))):
        raise ValueError("compiled: expected a C++ compiler for torch.compile, such as g++, got none in PATH")
    torch.manual_seed(0)
    x, target = 1e-3 * torch.randn(graph.num_nodes(), widths[0]), torch.randint(0, CLASSES, (graph.num_nodes(),))
    layers, prepared = kind.layers(widths), gnnlib.prepare(graph)

    def network(x: Tensor, graph: Any) -> Tensor:
        return forward(layers["ours"], lambda layer, h: layer(graph, h), x)

    def peer(x: Tensor, index: Tensor, *norm: Tensor) -> Tensor:
        return forward(layers["pyg"], lambda layer, h: layer(h, index, *norm), x)

    compiled = torch.compile(network, fullgraph=True, backend=COMPILER)
    runs = {"gnnlib": lambda: compiled(x, prepared), "eager": lambda: network(x, graph)}
    if pyg():
        edges = torch.stack(graph.edges()), *([both_norm(graph)] if kind.edge == "norm" else [])
        compiled_peer = torch.compile(peer, backend=COMPILER)
        runs["pyg"] = lambda: compiled_peer(x, *edges)
    steps = {name: training(layers["pyg" if name == "pyg" else "ours"], run, target) for name, run in runs.items()}
    return Case({**steps}, {**runs})


def all_pairs_case(side: int, images: int, width: int = 32, hidden: int = 32) -> Case:
    """A training step of predicted edges between all pixels, for many images on one graph.

    dgl.nn has no such layer; "dgl" is the same network composed of DGL's operations, with the same weights. PyG would
    copy the row of each image to each edge, which takes gigabytes. The dense part is the product with a constant
    (pixels, pixels) matrix, and its gradient.
    """
    graph: Any = graphs.all_pairs(side)
    graph.create_formats_()
    num_nodes = graph.num_nodes()
    layer = gnnlib.PredEdgeConv(width, width, 2, hidden=hidden, pos_scale=side, bias=False)
    x, target = torch.randn(num_nodes, images, width), torch.randint(0, CLASSES, (num_nodes * images,))
    position = graph.ndata["pos"] / side
    matrix = nn.Parameter(torch.randn(num_nodes, num_nodes))
    parameters = nn.ParameterList([*layer.parameters(), matrix])

    def composed() -> Tensor:
        parts = layer.first.weight.split(2, dim=1)
        ends = position @ parts[0].T, position @ parts[1].T + layer.first.bias
        weight = layer.second(torch.relu(dgl.ops.u_add_v(graph, *ends)))
        return dgl.ops.u_mul_e_sum(graph, x, weight.unsqueeze(-1)) @ layer.get_parameter("weight")[0]

    def dense() -> Tensor:
        return (matrix @ x.flatten(1)).view(x.shape) @ layer.get_parameter("weight")[0]

    runs: dict[str, Callable[[], Tensor]] = {
        "gnnlib": lambda: layer(graph, x),
        "dgl": composed,
        "dense": dense,
    }
    steps: dict[str, Callable[[], object]] = {
        name: training(parameters, partial(_flat, run), target) for name, run in runs.items()
    }
    return Case(steps, {name: runs[name] for name in ("gnnlib", "dgl")})


def _flat(run: Callable[[], Tensor]) -> Tensor:
    return run().flatten(0, 1)
