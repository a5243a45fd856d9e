"""GINEConv: its equation, densely; dgl.nn.GINEConv and PyG's, which maps the edge features."""

import pytest
import torch
from torch import nn

from gnnlib import GINConv, GINEConv
from gnnlib._platform.dgl import dgl
from gnnlib.testing.case import Case
from gnnlib.testing.checks import on_every_graph, properties
from gnnlib.testing.graphs import random_graph


def reference(conv, dense, x_src, x_dst, edge):
    """Every message as a row of a table."""
    e = edge if isinstance(conv.edge_func, nn.Identity) else edge @ conv.edge_func.weight.T + conv.edge_func.bias
    return conv.apply_func((1 + conv.eps) * x_dst + dense.dst.T @ (dense.src @ x_src + e).clamp(min=0))


def isolated(conv, x_dst):
    return conv.apply_func((1 + conv.eps) * x_dst)


def case(name, edge_feats=None, counterpart=None, **options):
    def make():
        return GINEConv(5, 3, edge_feats, **options)

    return Case(
        name,
        make,
        reference,
        isolated,
        edge=edge_feats or 5,
        needs_dst=True,
        counterpart=counterpart,
        counterpart_edge="edge_feat",
    )


def counterpart():
    return dgl.nn.GINEConv(nn.Sequential(nn.Linear(5, 3), nn.ReLU(), nn.Linear(3, 3)), 0.3, True)


CASES = [
    case("plain", counterpart=counterpart, eps=0.3, learn_eps=True),
    case("mapped", edge_feats=2),
    case("eps", 3, eps=-0.5),
]

test_every_graph = on_every_graph(CASES)
test_properties = properties(CASES)


def test_as_pyg_has_it():
    pyg = pytest.importorskip("torch_geometric.nn", reason="PyTorch Geometric is not installed")
    graph, x, edge = random_graph(), torch.randn(11, 5).double(), torch.randn(23, 2).double()
    conv = GINEConv(5, 3, edge_feats=2, eps=0.3).double()
    theirs = pyg.GINEConv(conv.apply_func, eps=0.3, edge_dim=2).double()
    theirs.lin.load_state_dict(conv.edge_func.state_dict())
    torch.testing.assert_close(conv(graph, x, edge), theirs(x, torch.stack(graph.edges()), edge), rtol=0, atol=1e-12)


def test_where_no_message_is_cut_off_it_is_gin():
    """With features above 0, and edges of 0."""
    graph, x = random_graph(), torch.rand(11, 5)
    conv = GINEConv(5, 3, eps=0.1)
    plain = GINConv(5, 3, apply_func=conv.apply_func, eps=0.1)
    torch.testing.assert_close(conv(graph, x, torch.zeros(23, 5)), plain(graph, x))


def test_it_tells_apart_bonds_that_gin_cannot():
    """Two rings of ten, one with every second bond of another kind: what each atom hears differs."""
    graph, x = dgl.graph((torch.arange(10), torch.arange(10).roll(1))), torch.ones(10, 4)
    conv = GINEConv(4, 4, edge_feats=1, apply_func=nn.Identity())
    single, mixed = torch.zeros(10, 1), (torch.arange(10.0) % 2).view(10, 1)
    assert conv(graph, x, single).std(0).max() < 1e-6 < conv(graph, x, mixed).std(0).max()


def test_parameters_and_repr():
    conv = GINEConv(4, 3, edge_feats=2, learn_eps=True)
    assert {name for name, _ in conv.named_parameters()} >= {"eps", "edge_func.weight", "edge_func.bias"}
    assert repr(conv).startswith("GINEConv(\n  4, 3, edge_feats=2")
    assert "edge_func.weight" not in GINEConv(4, 3).state_dict()
