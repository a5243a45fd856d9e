"""Gated sums: against a loop over messages, and the kernels against their composition."""

import pytest
import torch

from gnnlib import kernels
from gnnlib._platform.dgl import dgl
from gnnlib.graph import adjacency
from gnnlib.kernels import reference
from gnnlib.ops.autograd.gated import GatedSum
from gnnlib.ops.gated import gated_sum
from gnnlib.testing.case import assert_close
from gnnlib.testing.graphs import GRAPHS, endpoints

EPSILON = pytest.mark.parametrize("epsilon", [None, 0.5])


def inputs(graph, *shape):
    torch.manual_seed(0)
    x = torch.randn(graph.num_src_nodes(), *shape, dtype=torch.float64, requires_grad=True)
    return x, 3 * torch.randn(graph.num_edges(), *shape, dtype=torch.float64).requires_grad_()


@EPSILON
@pytest.mark.parametrize("name", GRAPHS)
def test_matches_loop_over_messages(name, epsilon):
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
def test_kernels_match_reference_and_composition(shape, epsilon):
    """The last graph has a hub, whose columns are divided among the threads."""
    star = dgl.graph((torch.arange(1, 20001), torch.zeros(20000, dtype=torch.int64)))
    for graph in (GRAPHS["random"](), GRAPHS["bipartite"](), star):
        x, e = inputs(graph, *shape)
        results = {}
        for module in (None, reference):
            with kernels.force(module):
                y = gated_sum(graph, x, e, epsilon)
                grads = torch.autograd.grad(y.square().sum(), (x, e))
                results[module] = {"y": y.detach(), "dx": grads[0], "de": grads[1]}
        y = GatedSum.composition(x.flatten(1), e.flatten(1), adjacency(graph), epsilon).view_as(y)
        grads = torch.autograd.grad(y.square().sum(), (x, e))
        composed = {"y": y.detach(), "dx": grads[0], "de": grads[1]}
        assert_close(results[None], results[reference], 1e-12)
        assert_close(results[None], composed, 1e-12)


@EPSILON
def test_second_derivatives(epsilon):
    graph = dgl.graph(([0, 1, 0, 0, 2, 1], [1, 1, 2, 2, 2, 0]), num_nodes=4)
    leaves = inputs(graph, 2)
    assert torch.autograd.gradcheck(lambda x, e: gated_sum(graph, x, e, epsilon), leaves)
    assert torch.autograd.gradgradcheck(lambda x, e: gated_sum(graph, x, e, epsilon), leaves)


def test_extreme_gates():
    """No overflow and no NaN in the gradient; epsilon bounds the denominator of closed gates."""
    graph = dgl.graph(([0, 1], [2, 2]))
    x = torch.tensor([[3.0], [5.0], [0.0]], requires_grad=True)
    for e, y in (([500.0, 500.0], 4.0), ([500.0, -500.0], 3.0), ([-500.0, -500.0], 0.0)):
        logits = torch.tensor(e).unsqueeze(1).requires_grad_()
        result = gated_sum(graph, x, logits, 1e-6)[2]
        assert result.item() == pytest.approx(y, abs=1e-5)
        result.backward()
        assert logits.grad.isfinite().all()


def test_accepts_adjacency():
    graph = GRAPHS["random"]()
    x, e = inputs(graph, 3)
    assert torch.equal(gated_sum(adjacency(graph), x, e), gated_sum(graph, x, e))
