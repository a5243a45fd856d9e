"""JKNet and GCNII against dense matrices, PyG's layers and the papers' parameter counts."""

import math

import pytest
import torch
from torch import nn

from gnnlib import JumpingKnowledge
from gnnlib._platform.dgl import dgl
from gnnlib.models import GCNII, JKNet
from gnnlib.testing.graphs import symmetric_graph
from gnnlib.train.loop import decay_groups
from tests.nn.test_propagation import averaging


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def double(*shape):
    return torch.randn(*shape, dtype=torch.float64)


# ---------------------------------------------------------------- JKNet


@pytest.mark.parametrize("jump", ["cat", "max"])
def test_jknet_with_dense_matrices(jump):
    graph, x = symmetric_graph(), double(11, 5)
    model = JKNet(5, 8, 3, num_layers=4, jump=getattr(JumpingKnowledge, jump)).double().eval()
    p, h, outputs = averaging(graph), x, []
    for block in model.blocks:
        h = (p @ h @ block.conv.weight + block.conv.bias).clamp(min=0)
        outputs.append(h)
    jumped = torch.cat(outputs, 1) if jump == "cat" else torch.stack(outputs).amax(0)
    torch.testing.assert_close(model(graph, x), model.head[1](jumped))


@pytest.mark.parametrize("jump", ["cat", "max", "lstm"])
def test_jknet_is_pygs(jump):
    pyg = pytest.importorskip("torch_geometric.nn", reason="PyG is not installed")
    graph, x = symmetric_graph(), torch.randn(11, 5)
    model = JKNet(5, 8, 3, num_layers=4, jump=getattr(JumpingKnowledge, jump)).eval()
    edges, h, outputs = torch.stack(graph.edges()), x, []
    for block in model.blocks:
        twin = pyg.GCNConv(h.shape[1], 8, add_self_loops=False)
        twin.load_state_dict({"lin.weight": block.conv.weight.T, "bias": block.conv.bias})
        h = twin(h, edges).relu()
        outputs.append(h)
    merge = pyg.JumpingKnowledge(jump, 8, 4)
    if jump == "lstm":
        merge.load_state_dict(model.jump.merge.state_dict())
    torch.testing.assert_close(model(graph, x), model.head[1](merge(outputs)))


def test_every_layer_of_jknet_gets_a_gradient_from_the_output_itself():
    graph, x = symmetric_graph(), double(11, 5)
    model = JKNet(5, 8, 3, num_layers=64, dropout=0.0).double()
    model(graph, x).square().sum().backward()
    norms = [block.conv.weight.grad.norm() for block in model.blocks[:8]]
    assert min(norms) > 0.01 * max(norms)


@pytest.mark.parametrize(("jump", "width"), [("cat", 6 * 16), ("max", 16), ("lstm", 16)])
def test_parameters_of_jknet(jump, width):
    model = JKNet(1433, 16, 7, num_layers=6, jump=getattr(JumpingKnowledge, jump))
    convolutions = 1433 * 16 + 16 + 5 * (16 * 16 + 16)
    assert sum(p.numel() for p in model.blocks.parameters()) == convolutions
    assert sum(p.numel() for p in model.head.parameters()) == width * 7 + 7


# ---------------------------------------------------------------- GCNII


@pytest.mark.parametrize("starred", [False, True])
def test_gcnii_with_dense_matrices(starred):
    graph, x = symmetric_graph(), double(11, 5)
    model = GCNII(5, 8, 3, num_layers=6, alpha=0.2, lam=0.7, starred=starred).double().eval()
    p, eye = averaging(graph), torch.eye(8, dtype=torch.float64)
    h = h0 = model.encoder[1](x).clamp(min=0)
    for layer, block in enumerate(model.blocks, 1):
        beta = math.log(0.7 / layer + 1)
        maps = [(1 - beta) * eye + beta * w for w in block.skip.parameters()]
        h = (0.8 * p @ h @ maps[0] + 0.2 * h0 @ maps[-1]).clamp(min=0)
    assert len(maps) == 1 + starred
    torch.testing.assert_close(model(graph, x), model.head[1](h))


@pytest.mark.parametrize("starred", [False, True])
def test_gcnii_is_pygs(starred):
    pyg = pytest.importorskip("torch_geometric.nn", reason="PyG is not installed")
    graph, x = symmetric_graph(), double(11, 5)
    model = GCNII(5, 8, 3, num_layers=16, alpha=0.1, lam=0.5, starred=starred).double().eval()
    edges = torch.stack(graph.edges())
    h = h0 = model.encoder(x)
    for layer, block in enumerate(model.blocks, 1):
        twin = pyg.GCN2Conv(8, 0.1, 0.5, layer, shared_weights=not starred, add_self_loops=False).double()
        twin.load_state_dict({f"weight{i}": w for i, w in enumerate(block.skip.parameters(), 1)})
        h = twin(h, h0, edges).relu()
    torch.testing.assert_close(model(graph, x), model.head(h))


@pytest.mark.parametrize(
    ("model", "parameters"),
    [
        (lambda: GCNII(1433, 64, 7, num_layers=64), 91_776 + 64 * 4_096 + 455),
        (lambda: GCNII(1433, 64, 7, num_layers=64, starred=True), 91_776 + 64 * 8_192 + 455),
        (lambda: GCNII(500, 256, 3, num_layers=16), 128_256 + 16 * 65_536 + 771),
    ],
)
def test_parameters_of_gcnii_on_the_citation_graphs(model, parameters):
    assert sum(p.numel() for p in model().parameters()) == parameters


def test_gcnii_has_two_weight_decays():
    model = GCNII(5, 8, 3, num_layers=4)
    groups = decay_groups(model, {"*": 5e-4, "blocks.*": 0.01})
    assert [group["weight_decay"] for group in groups] == [5e-4, 0.01]
    assert [len(group["params"]) for group in groups] == [4, 4], "two linear layers, four matrices"
    assert {p.shape for p in groups[1]["params"]} == {torch.Size([8, 8])}


@pytest.mark.parametrize("starred", [False, True])
def test_gcnii_at_256_layers_separates_nodes_and_trains_the_first_layer(starred):
    """The gradient of a layer shrinks by 1 - alpha with each layer above; that of the encoder comes in at every one."""
    graph, x = symmetric_graph(), double(11, 5)
    reached = {}
    for depth in (4, 256):
        torch.manual_seed(0)
        model = GCNII(5, 16, 3, num_layers=depth, dropout=0.0, starred=starred).double()
        y = model(graph, x)
        y.square().sum().backward()
        assert torch.linalg.matrix_rank(y) == 3
        assert (y.std(0) > 0.05 * y.abs().mean(0)).all(), "a plain net gives all of them one value"
        reached[depth] = model.encoder[1].weight.grad.norm()
    assert 0.01 < reached[256] / reached[4] < 100


def test_gcnii_drops_what_enters_each_layer_but_not_the_first_features():
    graph, x = symmetric_graph(), double(11, 5)
    model = GCNII(5, 8, 3, num_layers=4, alpha=1.0, dropout=0.5).double()
    model.encoder[0], model.head[0] = nn.Identity(), nn.Identity()
    torch.testing.assert_close(model(graph, x), model(graph, x)), "all from the first: nothing was dropped"
    for block in model.blocks:
        block.skip.alpha = 0.1
    assert not torch.equal(model(graph, x), model(graph, x))


# ---------------------------------------------------------------- both


@pytest.mark.parametrize(
    "make", [lambda: JKNet(5, 8, 3), lambda: GCNII(5, 8, 3, 8), lambda: GCNII(5, 8, 3, 8, starred=True)]
)
def test_nodes_renumbered_and_graphs_batched(make):
    graph, x, model = symmetric_graph(), double(11, 5), make().double().eval()
    expected = model(graph, x)
    order = torch.randperm(11)
    src, dst = (torch.argsort(order)[end] for end in graph.edges())
    torch.testing.assert_close(model(dgl.graph((src, dst), num_nodes=11), x[order]), expected[order])
    both = model(dgl.batch([graph, graph]), torch.cat([x, 2 * x]))
    torch.testing.assert_close(both, torch.cat([expected, model(graph, 2 * x)]))
