"""Summaries of models."""

import pytest
import torch
from torch import nn

import gnnlib
from gnnlib import (
    BatchNorm,
    DropEdge,
    GATConv,
    GCNConv,
    GINEConv,
    JumpingKnowledge,
    MeanMaxReadout,
    SAGEConv,
    Stack,
    VirtualNode,
    models,
    summary,
)
from gnnlib._platform.dgl import dgl
from gnnlib.nn.reparametrize import share_parameters_
from gnnlib.testing.graphs import path, random_graph, sampled_blocks


def rows(table):
    return {layer.name: layer for layer in table.layers}


def test_every_module_with_widths_parameters_and_shapes():
    model = Stack.build(
        GCNConv,
        3,
        8,
        5,
        num_layers=2,
        norm=BatchNorm,
        skip=gnnlib.Residual,
        encoder=True,
        jump=JumpingKnowledge.cat,
        readout=MeanMaxReadout,
    )
    table = summary(model, dgl.batch([path(4), path(3)]), torch.randn(7, 3))
    layers = rows(table)
    assert {name for name, module in model.named_modules() if not isinstance(module, nn.ModuleList)} == set(layers)
    assert (layers[""].label, layers[""].level, layers[""].output) == ("Stack", 0, "(2, 5)")
    conv = layers["blocks.1.conv"]
    assert (conv.label, conv.level, conv.widths, conv.output) == ("conv: GCNConv", 2, "8 -> 8", "(7, 8)")
    assert layers["blocks.1"].label == "blocks.1: GNNLayer"
    assert (layers["blocks.0.norm"].widths, layers["blocks.0.norm"].parameters) == ("8", 16)
    assert (layers["encoder.0"].widths, layers["encoder.0"].label) == ("3 -> 8", "0: Linear")
    assert (layers["jump"].output, layers["readout"].output) == ("(7, 16)", "(2, 32)")
    assert layers["readout"].widths == "16 -> 32"
    for name, module in model.named_modules():
        if name in layers:
            assert layers[name].parameters == sum(p.numel() for p in module.parameters())
    assert table.parameters == table.trainable == sum(p.numel() for p in model.parameters())


def test_the_table_lists_each_layer_on_a_line():
    model = Stack.build(GCNConv, 3, 1000, 2, num_layers=3)
    model.blocks[0].requires_grad_(False)
    lines = str(summary(model, path(4), torch.ones(4, 3))).splitlines()
    assert lines[0].split() == ["layer", "widths", "parameters", "output"]
    assert lines[3].split() == ["blocks.0:", "GNNLayer", "4,000", "(4,", "1000)"]
    assert lines[-1] == "1,007,002 parameters, 1,003,002 trainable"
    assert repr(summary(model, path(4), torch.ones(4, 3))) == "\n".join(lines)


@pytest.mark.parametrize("training", [True, False])
def test_the_model_and_random_numbers_stay_as_they_were(training):
    model = Stack.build(GCNConv, 3, 8, 5, 2, norm=BatchNorm, dropout=0.5, drop_edge=DropEdge(0.5), reversible=2)
    model.train(training)
    model.blocks[0].eval()
    modes = [module.training for module in model.modules()]
    state = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    summary(model, random_graph(), torch.randn(11, 3, generator=torch.Generator()))
    assert torch.equal(torch.rand(3), expected)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())
    assert all(p.grad is None for p in model.parameters())


def test_hooks_are_removed_after_an_error():
    model = Stack.build(GCNConv, 3, 8, 5, 2).train()
    with pytest.raises(ValueError, match="GCNConv: expected x of shape"):
        summary(model, path(4), torch.ones(4, 2))
    assert not any(module._forward_hooks for module in model.modules())
    assert model.training


class Plain(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.unused = dgl.nn.GraphConv(3, 4), nn.Linear(2, 2)

    def forward(self, graph, x):
        return self.conv(graph, x), graph


def test_any_module_called_on_a_graph_and_features():
    layers = rows(summary(Plain(), dgl.add_self_loop(path(4)), torch.ones(4, 3)))
    assert layers[""].output == "(4, 4), DGLGraph"
    assert (layers["unused"].widths, layers["unused"].output, layers["unused"].parameters) == ("2 -> 2", "", 6)


def test_features_of_the_graph_serve_where_x_is_none():
    graph = path(4)
    with pytest.raises(ValueError, match=r"expected x, or features in graph.srcdata\['feat'\], got \[\]"):
        summary(models.SGC(3, 2), graph)
    graph.ndata["feat"] = torch.ones(4, 3)
    assert rows(summary(models.SGC(3, 2), graph))[""].output == "(4, 2)"


def test_message_flow_graphs_edges_and_heads():
    blocks = sampled_blocks(2)
    model = Stack.build(lambda i, o: GATConv(i, o, num_heads=1), 3, 4, 2, num_layers=2)
    layers = rows(summary(model, blocks, torch.ones(blocks[0].num_src_nodes(), 3)))
    assert layers["blocks.0.conv"].output == f"({blocks[0].num_dst_nodes()}, 1, 4)"
    graph = random_graph()
    net = VirtualNode([gnnlib.GNNLayer(GINEConv(4, 4, edge_feats=2)) for _ in range(2)], 4)
    layers = rows(summary(net, graph, torch.ones(11, 4), torch.ones(graph.num_edges(), 2)))
    assert layers["blocks.1.conv"].output == "(11, 4)"


def test_shared_parameters_count_once():
    model = Stack.build(SAGEConv, 4, 4, 4, num_layers=3)
    share_parameters_(model.blocks)
    table = summary(model, path(4), torch.ones(4, 4))
    assert table.parameters == rows(table)["blocks.2"].parameters == 2 * 16 + 4


def test_depth_limits_the_table():
    model = Stack.build(GCNConv, 3, 8, 5, 2)
    assert [r.name for r in summary(model, path(4), torch.ones(4, 3), depth=2).layers] == ["", "blocks.0", "blocks.1"]


def test_invalid_arguments():
    with pytest.raises(TypeError, match="summary: expected a module, got type"):
        summary(GCNConv, path(4), torch.ones(4, 3))
