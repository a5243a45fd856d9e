"""GCNEConv: its equation, densely; GCN where no message is cut off."""

import pytest
import torch

from gnnlib import GCNEConv, aggregate
from gnnlib._platform.dgl import dgl
from gnnlib.testing.case import Case
from gnnlib.testing.checks import on_every_graph, properties
from gnnlib.testing.graphs import clique, random_graph


def reference(conv, dense, x_src, x_dst, edge):
    h = x_src @ conv.linear.weight.T + conv.linear.bias
    degree = 1 + dense.adjacency().sum(1)
    message = (dense.src @ h + edge @ conv.edge_func.weight.T + conv.edge_func.bias).clamp(min=0)
    coeff = 1 / ((dense.src @ degree) * (dense.dst @ degree)).sqrt()
    return dense.dst.T @ (coeff.unsqueeze(1) * message) + (h + conv.root).clamp(min=0) / degree.unsqueeze(1)


def isolated(conv, x_dst):
    return (conv.linear(x_dst) + conv.root).relu()


CASES = [
    Case(f"edges of {d}", lambda d=d: GCNEConv(5, 3, d), reference, isolated, edge=d, homogeneous=True) for d in (1, 4)
]

test_every_graph = on_every_graph(CASES)
test_properties = properties(CASES)


def test_where_no_message_is_cut_off_it_is_gcn_with_self_loops():
    """Without edges and root, and all features above 0: Kipf and Welling's average over a node and its neighbours."""
    graph, x = clique(6), torch.rand(6, 5)
    conv = GCNEConv(5, 3, 2)
    with torch.no_grad():
        for parameter in conv.parameters():
            parameter.abs_()
        conv.root.zero_()
        conv.edge_func.weight.zero_()
        conv.edge_func.bias.zero_()
    looped = dgl.add_self_loop(dgl.remove_self_loop(graph))
    degree = looped.in_degrees().float()
    src, dst = looped.edges()
    expected = aggregate(looped, conv.linear(x), (degree[src] * degree[dst]).rsqrt())
    torch.testing.assert_close(conv(dgl.remove_self_loop(graph), x, torch.ones(30, 2)), expected)


def test_a_graph_of_two_node_sets_is_refused():
    graph = dgl.heterograph({("in", "to", "out"): ([0, 1], [0, 0])})
    with pytest.raises(ValueError, match="expected a whole graph, got one of two node sets with 2 sources and 1"):
        GCNEConv(5, 3, 2)(graph, torch.ones(2, 5), torch.ones(2, 2))


def test_parameters_and_repr():
    conv = GCNEConv(4, 3, 2)
    assert {name: tuple(p.shape) for name, p in conv.named_parameters()} == {
        "root": (3,),
        "linear.weight": (3, 4),
        "linear.bias": (3,),
        "edge_func.weight": (3, 2),
        "edge_func.bias": (3,),
    }
    assert repr(conv).startswith("GCNEConv(\n  4, 3, edge_feats=2")
    assert conv(random_graph(), torch.ones(11, 4), torch.ones(23, 2)).shape == (11, 3)
