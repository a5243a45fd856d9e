"""MessageConv: every message written out; PyG's EdgeConv and, without the ReLU, PNAConv as special cases."""

import pytest
import torch
from torch import nn

from gnnlib import GNNLayer, MessageConv, PNAConv, Stack
from gnnlib._platform.dgl import dgl
from gnnlib.testing.case import Case
from gnnlib.testing.checks import on_every_graph, properties
from gnnlib.testing.graphs import random_graph

SUMMARIES = {"mean": lambda m: m.mean(0), "max": lambda m: m.max(0).values}


def reference(conv, dense, x_src, x_dst, edge):
    """Node by node, with the network on the concatenation."""
    ends = torch.cat([dense.src @ x_src, dense.dst @ x_dst, *([] if edge is None else [edge])], 1)
    m, rows = conv.M(ends).relu(), []
    for v in range(len(x_dst)):
        mine = m[dense.dst[:, v] == 1] if dense.dst[:, v].any() else m.new_zeros(1, conv.hidden)
        rows.append(torch.cat([x_dst[v], *[SUMMARIES[name](mine) for name in conv.aggregators]]))
    return conv.U(torch.stack(rows)) if rows else conv.U(x_dst.new_zeros(0, conv.U.in_features))


def isolated(conv, x_dst):
    return conv.U(torch.cat([x_dst, x_dst.new_zeros(len(x_dst), conv.U.in_features - x_dst.shape[1])], 1))


def case(name, in_feats=5, edge_feats=0, **options):
    def make():
        return MessageConv(in_feats, 3, edge_feats, **options)

    return Case(name, make, reference, isolated, in_feats, edge=edge_feats or None, needs_dst=True)


CASES = [
    case("plain", hidden=7),
    case("edges", edge_feats=2),
    case("pair", in_feats=(4, 6), edge_feats=3, aggregators=("max", "mean")),
    case("max", aggregators=["max"]),
]

test_every_graph = on_every_graph(CASES)
test_properties = properties(CASES)


def test_the_maximum_alone_is_edge_conv():
    """Of one layer: max over u of relu(W [x_v, x_u - x_v]); a U that passes the maximum on."""
    pyg = pytest.importorskip("torch_geometric.nn", reason="PyTorch Geometric is not installed")
    torch.manual_seed(0)
    graph, x = random_graph(), torch.randn(11, 5).double()
    theirs = pyg.EdgeConv(nn.Sequential(nn.Linear(10, 8), nn.ReLU())).double()
    m_self, apart = theirs.nn[0].weight.split(5, 1)
    conv = MessageConv(5, 8, aggregators=["max"]).double()
    state = {"M.weight": torch.cat([apart, m_self - apart], 1), "M.bias": theirs.nn[0].bias}
    state |= {"U.weight": torch.eye(8, 13).roll(5, 1), "U.bias": torch.zeros(8)}
    conv.load_state_dict(state)
    torch.testing.assert_close(conv(graph, x), theirs(x, torch.stack(graph.edges())), rtol=0, atol=1e-12)


def test_where_no_message_is_cut_off_it_is_pna():
    """With large biases the ReLU does nothing; weights are in the same order."""
    torch.manual_seed(0)
    graph, x, edge = random_graph(), torch.randn(11, 5).double(), torch.randn(23, 2).double()
    theirs = PNAConv(5, 3, 2, aggregators=("mean", "max"), scalers=["identity"]).double()
    nn.init.constant_(theirs.M.bias, 100.0)
    conv = MessageConv(5, 3, 2, hidden=5).double()
    conv.load_state_dict(theirs.state_dict())
    torch.testing.assert_close(conv(graph, x, edge), theirs(graph, x, edge), rtol=0, atol=1e-12)


def test_relative_positions_along_edges_do_not_see_a_shift():
    torch.manual_seed(0)
    graph, x, pos = random_graph(), torch.randn(11, 5), torch.randn(11, 2)
    conv = MessageConv(5, 3, 2)

    def apply(pos):
        src, dst = graph.edges()
        return conv(graph, x, pos[src] - pos[dst])

    torch.testing.assert_close(apply(pos + torch.tensor([3.0, -1.0])), apply(pos))


def test_in_a_stack_every_layer_sees_the_given_edges():
    torch.manual_seed(0)
    graph, x, edge = random_graph(), torch.randn(11, 5), torch.randn(23, 2)
    stack = Stack.build(lambda i, o: MessageConv(i, o, edge_feats=2), 5, 8, 3, num_layers=2)
    first, second = (b.conv for b in stack.blocks)
    torch.testing.assert_close(stack(graph, x, edge), second(graph, first(graph, x, edge).relu(), edge))
    with pytest.raises(ValueError, match="MessageConv: expected neither edge weights nor edge features"):
        GNNLayer(MessageConv(5, 8))(graph, x, edge)


def test_parameters_and_repr():
    conv = MessageConv((4, 6), 3, 2, hidden=7)
    assert {name: tuple(p.shape) for name, p in conv.named_parameters()} == {
        "M.weight": (7, 12),
        "M.bias": (7,),
        "U.weight": (3, 20),
        "U.bias": (3,),
    }
    assert repr(conv).startswith("MessageConv(\n  (4, 6), 3, edge_feats=2, hidden=7\n")
    assert conv.takes_edge == "feature"
    assert MessageConv(4, 3).takes_edge is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"edge_feats": -1}, "edge_feats >= 0, got -1"),
        ({"hidden": 0}, "hidden >= 1, got 0"),
        ({"aggregators": ["max", "sum"]}, r"of \['mean', 'max'\], got \['max', 'sum'\]"),
        ({"aggregators": ()}, r"got \(\)"),
    ],
)
def test_invalid_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        MessageConv(5, 3, **options)


def test_a_heterograph_wants_both_ends():
    graph = dgl.heterograph({("in", "to", "out"): ([0, 1], [0, 0])})
    with pytest.raises(ValueError, match=r"expected a pair \(x_src, x_dst\)"):
        MessageConv(5, 3)(graph, torch.ones(2, 5))
