"""Gated sums: message by message; the kernels against the composition they stand for."""

import pytest
import torch

from gnnlib import kernels
from gnnlib._platform.dgl import dgl
from gnnlib.graph import adjacency
from gnnlib.kernels import reference
from gnnlib.ops.autograd.gated import composed_gated_sum
from gnnlib.ops.gated import gated_sum
from gnnlib.testing.checks import assert_close
from gnnlib.testing.graphs import GRAPHS, endpoints

EPSILON = pytest.mark.parametrize("epsilon", [None, 0.5])


def inputs(graph, *shape):
    torch.manual_seed(0)
    x = torch.randn(graph.num_src_nodes(), *shape, dtype=torch.float64, requires_grad=True)
    return x, 3 * torch.randn(graph.num_edges(), *shape, dtype=torch.float64).requires_grad_()


@EPSILON
@pytest.mark.parametrize("name", GRAPHS)
def test_message_by_message(name, epsilon):
    graph = GRAPHS[name]()
    x, e = inputs(graph, 3)
    gate = 1 / (1 + (-e).exp())
    top, total = (torch.zeros(graph.num_dst_nodes(), 3, dtype=torch.float64) for _ in range(2))
    for i, (u, v) in enumerate(zip(*endpoints(graph))):
        top[v] += (gate[i] * x[u]).detach()
        total[v] += gate[i].detach()
    expected = top if epsilon is None else top / (total + epsilon)
    torch.testing.assert_close(gated_sum(graph, x, e, epsilon).detach(), expected, rtol=0, atol=1e-13)


@EPSILON
@pytest.mark.parametrize("shape", [(1,), (40,), (2, 3, 5)])
def test_kernels_agree_with_their_definition_and_with_the_composition(shape, epsilon):
    """The last is a hub, whose columns are shared out."""
    star = dgl.graph((torch.arange(1, 20001), torch.zeros(20000, dtype=torch.int64)))
    for graph in (GRAPHS["random"](), GRAPHS["bipartite"](), star):
        x, e = inputs(graph, *shape)
        found = {}
        for module in (None, reference):
            with kernels.force(module):
                y = gated_sum(graph, x, e, epsilon)
                grads = torch.autograd.grad(y.square().sum(), (x, e))
                found[module] = {"y": y.detach(), "dx": grads[0], "de": grads[1]}
        y = composed_gated_sum(adjacency(graph), epsilon, x.flatten(1), e.flatten(1)).view_as(y)
        grads = torch.autograd.grad(y.square().sum(), (x, e))
        composed = {"y": y.detach(), "dx": grads[0], "de": grads[1]}
        assert_close(found[None], found[reference], 1e-12)
        assert_close(found[None], composed, 1e-12)


@EPSILON
def test_differentiable_twice(epsilon):
    graph = dgl.graph(([0, 1, 0, 0, 2, 1], [1, 1, 2, 2, 2, 0]), num_nodes=4)
    given = inputs(graph, 2)
    assert torch.autograd.gradcheck(lambda x, e: gated_sum(graph, x, e, epsilon), given)
    assert torch.autograd.gradgradcheck(lambda x, e: gated_sum(graph, x, e, epsilon), given)


def test_wide_open_and_shut_gates():
    """No overflow, no NaN in the gradient; sums of shut gates are held up by epsilon."""
    graph = dgl.graph(([0, 1], [2, 2]))
    x = torch.tensor([[3.0], [5.0], [0.0]], requires_grad=True)
    for e, y in (([500.0, 500.0], 4.0), ([500.0, -500.0], 3.0), ([-500.0, -500.0], 0.0)):
        given = torch.tensor(e).unsqueeze(1).requires_grad_()
        found = gated_sum(graph, x, given, 1e-6)[2]
        assert found.item() == pytest.approx(y, abs=1e-5)
        found.backward()
        assert given.grad.isfinite().all()


def test_neighbors_do_for_a_graph():
    graph = GRAPHS["random"]()
    x, e = inputs(graph, 3)
    assert torch.equal(gated_sum(adjacency(graph), x, e), gated_sum(graph, x, e))
