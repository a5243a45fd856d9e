"""ChebConv: the polynomial taken of the Laplacian as a matrix, of its eigenvalues, and dgl.nn's."""

import pytest
import torch
from scipy.special import eval_chebyt

from gnnlib import ChebConv
from gnnlib._platform.dgl import dgl
from gnnlib.testing.arguments import assert_refuses
from gnnlib.testing.case import Case, Inputs
from gnnlib.testing.checks import on_every_graph, properties
from gnnlib.testing.graphs import bipartite, block, clique, path, symmetric_graph


def scaled_laplacian(dense, edge, lambda_max=2.0):
    if edge is None:
        degree = dense.dst.sum(0).clamp(min=1)
        p = dense.adjacency() / (degree.unsqueeze(1) * degree).sqrt()
    else:
        leaving, coming = dense.src.T @ edge, dense.dst.T @ edge  # of weights above 0: 0 where there are none
        scale = torch.where(coming == 0, 1, coming).rsqrt().unsqueeze(1) * torch.where(leaving == 0, 1, leaving).rsqrt()
        p = dense.adjacency(edge) * scale
    one = torch.eye(len(p), dtype=p.dtype)
    return 2 / lambda_max * (one - p) - one


def reference(conv, dense, x_src, x_dst, edge):
    laplacian = scaled_laplacian(dense, edge)
    terms = [torch.eye(len(laplacian), dtype=laplacian.dtype), laplacian]
    for _ in range(2, conv.k):
        terms.append(2 * laplacian @ terms[-1] - terms[-2])
    weights = conv.linear.weight.split(conv.in_feats, 1)
    y = sum(t @ x_src @ w.T for t, w in zip(terms, weights))
    return y if conv.linear.bias is None else y + conv.linear.bias


def isolated(conv, x_dst):
    """T_i(0): 1, 0, -1, 0, 1, ..."""
    weights = conv.linear.weight.split(conv.in_feats, 1)
    y = sum((1, 0, -1, 0)[i % 4] * x_dst @ w.T for i, w in enumerate(weights))
    return y if conv.linear.bias is None else y + conv.linear.bias


class Twin(dgl.nn.ChebConv):
    """dgl.nn's without its activation, told the eigenvalue that it would warn of."""

    def forward(self, graph, x):
        return super().forward(graph, x, torch.full((graph.batch_size,), 2.0, dtype=x.dtype))


def case(name, k, edge=None, bias=True):
    return Case(
        name,
        lambda: ChebConv(5, 3, k, bias=bias),
        reference,
        isolated,
        edge=edge,
        positive=True,
        homogeneous=True,
        counterpart=(lambda: Twin(5, 3, k, activation=None, bias=bias)) if edge is None else None,
    )


CASES = [case("one", 1), case("five", 5, bias=False), case("weighted", 4, edge="weight")]

test_every_graph = on_every_graph(CASES)
test_properties = properties(CASES)


@pytest.mark.parametrize("weighted", [False, True])
def test_a_filter_of_the_spectrum(weighted):
    """On an undirected graph: U sum_i T_i(lambda) theta_i U^T x, with scipy's polynomials."""
    graph, conv = symmetric_graph(), ChebConv(1, 1, k=6).double()
    src, dst = graph.edges()
    weight = torch.rand(11, 11, dtype=torch.float64)
    edge = (weight + weight.T)[src, dst] if weighted else None
    a = torch.zeros(11, 11, dtype=torch.float64).index_put(
        (dst, src), torch.ones(1, dtype=torch.float64) if edge is None else edge, accumulate=True
    )
    degree = a.sum(1)
    value, vector = torch.linalg.eigh(torch.eye(11) - a / (degree.unsqueeze(1) * degree).sqrt())
    x, lambda_max = torch.randn(11, 1, dtype=torch.float64), value.max().item()
    theta = conv.linear.weight[0].detach()
    response = sum(
        t * torch.from_numpy(eval_chebyt(i, 2 * value.numpy() / lambda_max - 1)) for i, t in enumerate(theta)
    )
    expected = vector @ (response.unsqueeze(1) * (vector.T @ x)) + conv.linear.bias
    torch.testing.assert_close(conv(graph, x, edge, lambda_max=lambda_max), expected)


def test_an_eigenvalue_for_each_graph_of_a_batch():
    torch.manual_seed(0)
    graphs = [dgl.add_reverse_edges(path(4)), clique(5), dgl.add_reverse_edges(path(3))]
    conv, counterpart = ChebConv(5, 3, k=4).double(), dgl.nn.ChebConv(5, 3, 4, activation=None).double()
    conv.load_state_dict(counterpart.state_dict())
    largest = torch.tensor([1.9, 1.25, 2.0], dtype=torch.float64)
    x = torch.randn(12, 2, 5, dtype=torch.float64)
    y = conv(dgl.batch(graphs), x, lambda_max=largest)
    for i, (graph, one) in enumerate(zip(graphs, x.split([4, 5, 3]))):
        torch.testing.assert_close(y.split([4, 5, 3])[i], conv(graph, one, lambda_max=largest[i].item()))
    torch.testing.assert_close(y[:, 0], counterpart(dgl.batch(graphs), x[:, 0], largest))


def test_the_right_number_of_eigenvalues():
    graph = dgl.batch([path(3), path(4)])
    with pytest.raises(ValueError, match=r"shape \(2,\), one for each graph, got \(3,\)"):
        ChebConv(5, 3, 2)(graph, torch.randn(7, 5), lambda_max=torch.ones(3))


@pytest.mark.parametrize("graph", [bipartite(), block()], ids=["bipartite", "block"])
def test_two_node_sets_are_refused(graph):
    sizes = graph.num_src_nodes(), graph.num_dst_nodes()
    assert_refuses(ChebConv(5, 3, 2), Inputs(graph, torch.randn(sizes[0], 5), None), ValueError, "whole graph", *sizes)


@pytest.mark.parametrize("k", [0, -1, 1.5])
def test_bad_k_is_refused(k):
    with pytest.raises(ValueError, match=f"k >= 1, got {k}"):
        ChebConv(5, 3, k)
