"""Kernels for CUDA in Triton's interpreter: cases that compare them with the reference, in a process of its own.

TRITON_INTERPRET=1 has to be set before Triton is imported, so the tests call these functions by `tests.served`. The
interpreter runs one program after the other, on the CPU. It sees neither races nor the limits of a launch.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from unittest import mock

import torch
from torch import Tensor

import gnnlib
from gnnlib import adjacency, kernels
from gnnlib.graph import Adjacency, GraphLike, new_graph
from gnnlib.kernels import reference
from gnnlib.ops import aggregate, attend, convolve, edge_dot, edge_score, edge_softmax, propagate
from gnnlib.testing.graphs import GRAPHS, endpoints
from tests.kernels.cases import RoundedInputs, call_on

CLOSE = {torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 2e-3}
PIECE = 16
"""Edges of a piece of a hub, so that the hubs of `joined` have pieces, and one of them pieces of pieces."""
ZOO = "random", "one_node", "one_node_loop", "multi_edge", "self_loops", "tree", "star", "path"


@cache
def joined() -> GraphLike:
    """Graphs of the zoo as one graph of fewer than 60 nodes, in which a node has 300 more in-edges, and one 80 more
    out-edges."""
    parts, num_nodes = [], 0
    for name in ZOO:
        graph = GRAPHS[name]()
        parts.append(torch.stack(endpoints(graph)) + num_nodes)
        num_nodes += graph.num_nodes()
    random = torch.Generator().manual_seed(0)
    into = torch.stack([torch.randint(num_nodes, (300,), generator=random), torch.full((300,), 5)])
    out = torch.stack([torch.full((80,), 7), torch.randint(num_nodes, (80,), generator=random)])
    edges = torch.cat([*parts, into, out], 1)
    src, dst = edges[:, torch.randperm(edges.shape[1], generator=random)]
    assert num_nodes < 60
    return new_graph(src, dst, num_nodes=num_nodes)


def adjacency_of(name: str) -> Adjacency:
    return adjacency(joined() if name == "joined" else GRAPHS[name]())


def assert_close(results: tuple[Tensor, ...], expected: tuple[Tensor, ...], tolerance: float) -> None:
    """Up to a part of the largest number: terms that cancel leave rounding errors."""
    for a, b in zip(results, expected, strict=True):
        assert a.dtype == b.dtype
        largest = float(b.abs().max()) if b.numel() else 0.0
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance * max(1.0, largest), equal_nan=True)


def compare_call(name: str, graph: str, heads: int, width: int, dtype: str) -> None:
    """A function of `tests.kernels.cases`."""
    from gnnlib.kernels import cuda

    kind = getattr(torch, dtype)
    inputs = adjacency_of(graph), heads, width, kind
    expected = call_on(RoundedInputs(*inputs), name, reference)
    assert_close(call_on(RoundedInputs(*inputs), name, cuda), expected, CLOSE[kind])


def compare_tile_of_a_card(name: str) -> None:
    """As `compare_call`, with the tiles of a card, which has two blocks of columns for this width."""
    from gnnlib.kernels.cuda import launch

    with mock.patch.object(launch, "INTERPRETED", False):
        compare_call(name, "random", 2, 130, "float32")


SPECIAL = {
    "nan": [1.0, float("nan"), 2.0],
    "inf": [0.0, float("inf"), 1.0],
    "minus inf": [float("-inf"), 0.0, 1.0],
    "only minus inf": [float("-inf")] * 3,
    "huge": [3e38, 3e38, -3e38],
    "far apart": [0.0, 200.0, -1e30],
}


def compare_special_values(name: str) -> None:
    """Maxima, softmax and attention of three edges, and of nodes without edges."""
    from gnnlib.kernels import cuda

    adj, values = adjacency(new_graph([0, 1, 2], [1, 1, 1])), torch.tensor(SPECIAL[name])
    x, zeros, feat = values.view(3, 1, 1), torch.zeros(3, 1), torch.tensor([1.0, 2.0, 4.0]).view(3, 1, 1)
    for call in (
        lambda k: k.neighbour_max(adj.csc, x, None),
        lambda k: (k.edge_softmax(adj.csc, values.view(3, 1)),),
        lambda k: (k.neighbour_sum(adj.csc, x, None, 1),),
        lambda k: k.attend(adj.csc, adj.csr, feat, values.view(3, 1), zeros, 0.2, None, None)[:1],
    ):
        assert_close(call(cuda), call(reference), CLOSE[torch.float32])


OPERATIONS: dict[str, Callable[..., Tensor]] = {
    "aggregate": lambda g, x, e: aggregate(g, x),
    "aggregate, weighted": lambda g, x, e: aggregate(g, x, e),
    "aggregate, one weight, own row": lambda g, x, e: aggregate(g, x, e[:, 0], self_weight=0.5),
    "aggregate, maximum": lambda g, x, e: aggregate(g, x, reduce="max"),
    "aggregate, weighted maximum": lambda g, x, e: aggregate(g, x, e, reduce="max"),
    "propagate": lambda g, x, e: propagate(g, x),
    "attend": lambda g, x, e: attend(g, x, x[0], x[1], coeff=e, bias=x[2]),
    "edge_dot": lambda g, x, e: edge_dot(g, x, x),
    "edge_softmax": lambda g, x, e: edge_softmax(g, e),
    "edge_score": lambda g, x, e: edge_score(g, x, x[:, :1], x[0], 0.2),
    "convolve": lambda g, x, e: convolve(g, x, e, x[:2].new_ones(e.shape[1], x.shape[2], 3)),
    "convolve, taps": lambda g, x, e: convolve(g, x, torch.arange(len(e)) % 3, x.new_ones(3, x.shape[2], 2)),
}
LAYERS: dict[str, Callable[[], torch.nn.Module]] = {
    "GATConv": lambda: gnnlib.GATConv(6, 4, num_heads=2),
    "GATv2Conv": lambda: gnnlib.GATv2Conv(6, 4, num_heads=2),
    "GatedGCNConv": lambda: gnnlib.GatedGCNConv(6, 5, 2),
    "GINEConv": lambda: gnnlib.GINEConv(6, 5, edge_feats=2),
    "MessageConv": lambda: gnnlib.MessageConv(6, 5, edge_feats=2),
    "PNAConv": lambda: gnnlib.PNAConv(6, 5),
    "DropMessage": lambda: gnnlib.DropMessage(gnnlib.SAGEConv(6, 5), 0.5),
}


def compare_gradients(name: str, double: bool) -> None:
    """An operation, its gradients and, if ``double`` is true, those of the gradients, by each choice of kernels."""
    from gnnlib.kernels import cuda

    results = []
    for module in (reference, cuda):
        with kernels.force(module):
            results.append(differentiated(OPERATIONS[name], double))
    assert_close(results[1], results[0], CLOSE[torch.float32])


def differentiated(operation: Callable[..., Tensor], double: bool) -> tuple[Tensor, ...]:
    graph, random = joined(), torch.Generator().manual_seed(0)
    x = torch.randn(graph.num_nodes(), 2, 6, generator=random, requires_grad=True)
    e = torch.randn(graph.num_edges(), 2, generator=random, requires_grad=True)
    y = operation(graph, x, e)
    grad = torch.randn(y.shape, generator=random)
    grads = torch.autograd.grad(y, (x, e), grad, create_graph=double, allow_unused=True)
    results = y, *(g for g in grads if g is not None)
    if not double:
        return results
    total = sum((g.square().sum() for g in grads if g is not None and g.requires_grad), y.new_zeros(()))
    return *results, *torch.autograd.grad(total, x)


def compare_layer(name: str) -> None:
    """A layer in training mode, and the gradients of its parameters, by each choice of kernels."""
    from gnnlib.kernels import cuda

    graph, results = joined(), []
    for module in (reference, cuda):
        torch.manual_seed(0)
        layer, x, e = LAYERS[name](), torch.randn(graph.num_nodes(), 6), torch.randn(graph.num_edges(), 2)
        takes_edges = name in ("GatedGCNConv", "GINEConv", "MessageConv")
        with kernels.force(module):
            y = layer(graph, x, e) if takes_edges else layer(graph, x)
            grads = torch.autograd.grad(y.square().sum(), list(layer.parameters()))
        results.append((y.detach(), *grads))
    assert_close(results[1], results[0], 1e-4)  # gradients of parameters are sums over all nodes, of products


FUNCTIONS = {
    f.__name__: f
    for f in (compare_call, compare_tile_of_a_card, compare_special_values, compare_gradients, compare_layer)
}


@contextmanager
def setting() -> Iterator[None]:
    """One thread, small pieces, and no warnings of numpy about NaN and infinity."""
    from gnnlib.kernels.cuda import plan

    torch.set_num_threads(1)
    with mock.patch.object(plan, "PIECE", PIECE), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
