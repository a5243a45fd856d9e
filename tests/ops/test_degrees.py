"""Normalised sums: their coefficients node by node and on dense matrices, beside DGL's, their errors."""

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from gnnlib import aggregate
from gnnlib._platform.dgl import dgl
from gnnlib.ops import propagate
from gnnlib.ops.degrees import NORMS, degree_norm, divide_by_in_degree
from gnnlib.testing.graphs import GRAPHS, bipartite, endpoints, random_graph


def rand(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64)


def dense_norm(
    graph: dgl.DGLGraph, weight: torch.Tensor, norm: str, degrees: str, weighted: bool = True
) -> torch.Tensor:
    """Edge values of D_out^p A D_in^q, node by node."""
    src, dst = endpoints(graph)
    counted = torch.ones_like(weight) if degrees == "unweighted" or not weighted else weight
    out = torch.stack([counted[src == u].sum(0) for u in range(graph.num_src_nodes())])
    into = torch.stack([counted[dst == v].sum(0) for v in range(graph.num_dst_nodes())])
    if degrees == "in":
        out = into
    p, q = {"both": (-0.5, -0.5), "left": (-1, 0), "right": (0, -1), "none": (0, 0)}[norm]

    def factor(d: torch.Tensor, power: float) -> torch.Tensor:
        at_zero = 1.0 if power == 0 or degrees == "unweighted" or not weighted else 0.0
        factors = [at_zero if v == 0 else v**power for v in d.flatten().tolist()]
        return torch.tensor(factors, dtype=d.dtype).reshape(d.shape)

    return weight * factor(out, p)[src] * factor(into, q)[dst]


@pytest.mark.parametrize("norm", ["both", "left", "right", "none"])
@pytest.mark.parametrize("degrees", ["unweighted", "weighted", "in"])
@pytest.mark.parametrize("shape", [(), (3,)])
def test_degree_norm(norm, degrees, shape):
    for graph in (random_graph(), bipartite(), GRAPHS["block"](), GRAPHS["star"]()):
        if degrees == "in" and graph.num_src_nodes() != graph.num_dst_nodes():
            continue
        weight = rand(graph.num_edges(), *shape).abs()
        weight[::4] = 0
        got = degree_norm(graph, weight, norm, degrees)
        torch.testing.assert_close(got, dense_norm(graph, weight, norm, degrees))
        ones = torch.ones(graph.num_edges(), dtype=torch.float64)
        unit = degree_norm(graph, None, norm, degrees, like=ones)
        torch.testing.assert_close(unit, dense_norm(graph, ones, norm, degrees, weighted=False))


@pytest.mark.parametrize("norm", ["both", "right"])
def test_degree_norm_is_dgls(norm):
    graph = GRAPHS["clique"]()
    weight = rand(graph.num_edges()).abs()
    want = dgl.nn.EdgeWeightNorm(norm)(graph, weight)
    torch.testing.assert_close(degree_norm(graph, weight, norm, "weighted"), want)


def test_rows_sum_to_one():
    graph = random_graph()
    weight = rand(23).abs()
    total = aggregate(graph, torch.ones(11, 1).double(), degree_norm(graph, weight, "right", "weighted")).flatten()
    torch.testing.assert_close(total, (graph.in_degrees() > 0).double())


def test_degrees_of_zero_and_below():
    graph = dgl.graph(([0, 1, 2], [1, 1, 0]))
    cancel = torch.tensor([1.0, -1.0, 2.0], requires_grad=True)
    got = degree_norm(graph, cancel, "right", "weighted")
    assert got.tolist() == [0, 0, 1]
    got.sum().backward()
    assert cancel.grad.isfinite().all()
    assert degree_norm(graph, torch.tensor([-1.0, -3.0, 2.0]), "right", "weighted").tolist() == [0.25, 0.75, 1]
    with pytest.raises(ValueError, match="weighted degrees of at least 0 under a square root, got -3"):
        degree_norm(graph, torch.tensor([1.0, -3.0, 2.0]), "both", "weighted")
    negative = degree_norm(graph, torch.tensor([1.0, -3.0, 2.0]), "both", "unweighted")
    assert negative.sign().tolist() == [1, -1, 1]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_degree_norm_follows_like(dtype):
    graph = random_graph()
    got = degree_norm(graph, like=torch.zeros(1, dtype=dtype))
    assert got.dtype == dtype
    exact = degree_norm(graph, like=torch.zeros(1, dtype=torch.float64))
    assert torch.equal(got, exact.to(dtype))
    assert degree_norm(graph).dtype == torch.float32


def test_in_degrees_are_those_of_pyg():
    """On a directed weighted graph."""
    utils = pytest.importorskip("torch_geometric.nn.conv.gcn_conv", reason="PyTorch Geometric is not installed")
    graph = random_graph()
    weight, edges = rand(23).abs(), torch.stack(graph.edges())
    expected = utils.gcn_norm(edges, weight, 11, add_self_loops=False, dtype=torch.float64)[1]
    torch.testing.assert_close(degree_norm(graph, weight, degrees="in"), expected)


def test_divide_by_in_degree():
    graph = dgl.graph(([0, 1, 2], [1, 1, 0]))
    assert divide_by_in_degree(graph, torch.tensor([2.0, 4.0, 6.0])).tolist() == [1, 2, 6]


@pytest.mark.parametrize("norm", sorted(NORMS))
@pytest.mark.parametrize("degrees", ["unweighted", "in"])
def test_propagate_is_the_normalised_matrix_to_any_order(norm, degrees):
    graph = random_graph()
    src, dst = endpoints(graph)
    adjacency = torch.zeros(11, 11, dtype=torch.float64)
    adjacency.index_put_((dst, src), torch.ones(23, dtype=torch.float64), accumulate=True)
    in_degree, out_degree = (adjacency.sum(axis).clamp(min=1) for axis in (1, 0))
    p, q = {"both": (-0.5, -0.5), "left": (-1, 0), "right": (0, -1), "none": (0, 0)}[norm]
    dense = (in_degree**q).diag() @ adjacency @ ((in_degree if degrees == "in" else out_degree) ** p).diag()
    x = rand(11, 2, 3).requires_grad_()
    actual = propagate(graph, x, norm=norm, degrees=degrees)
    torch.testing.assert_close(actual, torch.einsum("vu,uaf->vaf", dense, x), atol=1e-13, rtol=1e-13)
    torch.testing.assert_close(
        actual, aggregate(graph, x, degree_norm(graph, norm=norm, degrees=degrees, like=x)), atol=1e-13, rtol=1e-13
    )
    assert gradcheck(lambda x: propagate(graph, x, norm=norm, degrees=degrees), (x,))
    assert gradgradcheck(lambda x: propagate(graph, x, norm=norm, degrees=degrees), (x,))


G, C = random_graph(), torch.zeros(23, 2)
ERRORS = [
    (
        lambda: degree_norm(G, norm="sym"),
        ValueError,
        "norm: expected one of ['both', 'left', 'none', 'right'], got 'sym'",
    ),
    (lambda: degree_norm(G, degrees="out"), ValueError, "expected 'unweighted', 'weighted' or 'in', got 'out'"),
    (lambda: degree_norm(G, C[:5]), ValueError, "weight: expected 23 rows, one for each edge, got shape (5, 2)"),
    (lambda: degree_norm(G, C.long()), TypeError, "weight: expected floating-point values, got torch.int64"),
    (
        lambda: degree_norm(bipartite(), degrees="in"),
        ValueError,
        "expected a graph with one node set, got 6 sources, 4 destinations",
    ),
]


@pytest.mark.parametrize(("wrong", "kind", "message"), ERRORS, ids=range(len(ERRORS)))
def test_invalid_arguments(wrong, kind, message):
    with pytest.raises(kind) as caught:
        wrong()
    assert message in str(caught.value)
