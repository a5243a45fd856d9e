"""`influence`: the Jacobian by distance, and what PyTorch Geometric computes."""

import pytest
import torch
from torch import nn

import gnnlib
from gnnlib import BatchNorm, GCNConv, SAGEConv, Stack
from gnnlib.analysis import influence
from gnnlib.graph import add_self_loop, new_graph
from gnnlib.testing.graphs import path, random_graph


def test_it_is_the_jacobian_summed_by_distance():
    """Against torch's Jacobian and distances along the edges by powers of the adjacency matrix."""
    graph, x = random_graph(), torch.randn(11, 3, dtype=torch.float64)
    model = Stack.build(GCNConv, 3, 8, 2, 3, activation="tanh").double().eval()
    result = influence(model, graph, x, 4, nodes=[0, 5, 7])
    jacobian = torch.autograd.functional.jacobian(lambda x: model(graph, x), x).abs().sum((1, 3))
    src, dst = (end.long() for end in graph.edges())
    edges = torch.zeros(11, 11).index_put((dst, src), torch.ones(len(src)))  # from columns to rows
    seen, total, count = torch.zeros(11, 11, dtype=torch.bool), [], []
    reached = torch.eye(11)
    for _ in range(5):
        new = (reached > 0) & ~seen
        seen |= new
        total.append((jacobian * new).sum(1))
        count.append(new.sum(1))
        reached = edges @ reached
    rows = torch.tensor([0, 5, 7])
    torch.testing.assert_close(result.total, torch.stack(total, 1)[rows])
    assert torch.equal(result.count, torch.stack(count, 1)[rows])
    torch.testing.assert_close(result.by_hops, result.total.mean(0) / result.total[:, 0].mean())


def test_it_is_that_of_pyg():
    """On a connected graph, with as many hops as there are distances: PyG cuts the graph at the last hop."""
    pyg = pytest.importorskip("torch_geometric", reason="PyTorch Geometric is not installed")
    from torch_geometric.utils.influence import total_influence

    src = torch.arange(8)
    ends = torch.stack([torch.cat([src, (src + 1) % 8]), torch.cat([(src + 1) % 8, src])])
    x = torch.randn(8, 3)
    ours = Stack.build(SAGEConv, 3, 8, 2, 2).eval()

    class ForPyG(nn.Module):
        def forward(self, x, edge_index):
            return ours(edge_index, x)

    expected, radius = total_influence(ForPyG(), pyg.data.Data(x=x, edge_index=ends), 4, vectorize=False)
    result = influence(ours, ends, x, 4)
    torch.testing.assert_close(result.by_hops.float(), expected)
    assert result.radius == pytest.approx(radius, rel=1e-5)


@pytest.mark.parametrize("layers", [1, 3])
def test_no_influence_beyond_the_layers(layers):
    graph = add_self_loop(path(8))
    model = Stack.build(GCNConv, 4, 8, 2, layers, activation="tanh")
    result = influence(model, graph, torch.randn(8, 4), 6)
    assert (result.by_hops > 0).tolist() == [hop <= layers for hop in range(7)]


def test_a_model_without_messages_has_radius_0():
    result = influence(nn.Linear(3, 2), random_graph(), torch.randn(11, 3), 3)
    assert result.radius == 0
    assert result.by_hops.tolist() == [1, 0, 0, 0]
    assert len(result.nodes) == 11


def test_an_exponentially_growing_tree_squashes_its_leaves():
    """The influence of one leaf on the root falls as one over the number of leaves."""
    child = torch.arange(1, 63)
    tree = new_graph(child, (child - 1) // 2, 63)
    model = Stack([GCNConv(1, 1, norm="right", weight=False, bias=False)] * 5)
    result = influence(model, tree, torch.ones(63, 1), 5, nodes=[0])
    assert result.count.tolist() == [[1, 2, 4, 8, 16, 32]]
    torch.testing.assert_close(result.of_one_node[5], torch.tensor(1 / 32, dtype=torch.float64))


def test_the_model_is_unchanged_and_runs_in_evaluation_mode():
    model = Stack.build(GCNConv, 3, 8, 2, 2, norm=BatchNorm, dropout=0.5)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    graph, x = random_graph(), torch.randn(11, 3)
    one, other = influence(model, graph, x, 2), influence(model, graph, x, 2)
    assert torch.equal(one.total, other.total)
    assert model.training
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


def test_kinds_of_nodes():
    graph, x, model = random_graph(), torch.randn(11, 3), GCNConv(3, 2)
    mask = torch.zeros(11, dtype=torch.bool)
    mask[[2, 4]] = True
    assert torch.equal(
        influence(model, graph, x, 2, nodes=mask).total, influence(model, graph, x, 2, nodes=[2, 4]).total
    )


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda g, x: influence(GCNConv(3, 2), g, x, 2, nodes=[11]),
            IndexError,
            "influence: nodes: expected",
        ),
        (lambda g, x: influence(GCNConv(3, 2), g, x, 2, nodes=[]), ValueError, "expected nodes, got none"),
        (lambda g, x: influence(GCNConv(3, 2), g, x, -1), ValueError, "influence: expected hops >= 0, got -1"),
        (lambda g, x: influence(GCNConv(3, 2), g, x.long(), 2), TypeError, "expected a tensor of floating-point"),
        (
            lambda g, x: influence(Stack.build(GCNConv, 3, 4, 2, 2, readout="mean"), g, x, 2),
            ValueError,
            r"expected an output \(11, C\), a row for each node, got \(1, 2\)",
        ),
        (lambda g, x: gnnlib.analysis.influence(GCNConv, g, x, 2), TypeError, "influence: expected .*model"),
    ],
)
def test_wrong_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call(random_graph(), torch.randn(11, 3))
