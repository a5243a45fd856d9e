"""GatedGCNConv: an adjacency matrix for each feature; dgl.nn's with normalised gates, PyG's without."""

import pytest
import torch

from gnnlib import GatedGCNConv, GNNLayer, Stack
from gnnlib._platform.dgl import dgl
from gnnlib.testing.case import Case
from gnnlib.testing.checks import on_every_graph, properties
from gnnlib.testing.graphs import block, random_graph


def reference(conv, dense, x_src, x_dst, edge):
    e = dense.src @ conv.D(x_src) + dense.dst @ conv.E(x_dst)
    e = e if edge is None else e + conv.C(edge)
    matrices = torch.einsum("ev,ef,eu->fvu", dense.dst, 1 / (1 + (-e).exp()), dense.src)
    y = torch.einsum("fvu,uf->vf", matrices, conv.B(x_src))
    return conv.A(x_dst) + (y / (matrices.sum(2).T + 1e-6) if conv.normalise else y)


def isolated(conv, x_dst):
    return conv.A(x_dst)


DGL2 = hasattr(dgl.nn, "GatedGCNConv")
needs_dgl2 = pytest.mark.skipif(not DGL2, reason="dgl.nn has no GatedGCNConv before DGL 2")


class Twin(dgl.nn.GatedGCNConv if DGL2 else torch.nn.Module):
    """dgl.nn's equation alone, without its norms, activation and residual."""

    def __init__(self, in_feats, edge_feats, out_feats):
        super().__init__(in_feats, edge_feats, out_feats, batch_norm=False, residual=False, activation=None)
        del self.bn_node, self.bn_edge

    def forward(self, graph, x, edge):
        return super().forward(graph, x, edge)[0]


def case(name, in_feats=5, edge_feats=0, normalise=True):
    return Case(
        name,
        lambda: GatedGCNConv(in_feats, 3, edge_feats, normalise=normalise),
        reference,
        isolated,
        in_feats,
        edge=edge_feats or None,
        needs_dst=True,
        counterpart=(lambda: Twin(in_feats, edge_feats, 3))
        if DGL2 and edge_feats and isinstance(in_feats, int)
        else None,
        counterpart_edge="edge",
        counterpart_homogeneous=True,
    )


CASES = [
    case("edges", edge_feats=4),
    case("plain", normalise=False),
    case("pair", in_feats=(4, 6), edge_feats=2),
]

test_every_graph = on_every_graph(CASES)
test_properties = properties(CASES)


@needs_dgl2
def test_state_dicts_of_dgl_load_but_for_the_norms():
    counterpart, conv = dgl.nn.GatedGCNConv(5, 2, 3), GatedGCNConv(5, 3, 2)
    actual = conv.load_state_dict(counterpart.state_dict(), strict=False)
    assert not actual.missing_keys
    assert {name.split(".")[0] for name in actual.unexpected_keys} == {"bn_node", "bn_edge"}


@needs_dgl2
def test_returned_edges_are_those_of_dgl():
    graph, x, edge = random_graph(), torch.randn(11, 5).double(), torch.randn(23, 2).double()
    counterpart = dgl.nn.GatedGCNConv(5, 2, 3, batch_norm=False, residual=False, activation=None).double()
    conv = GatedGCNConv(5, 3, 2).double()
    conv.load_state_dict(counterpart.state_dict(), strict=False)
    for actual, expected in zip(conv(graph, x, edge, get_edge=True), counterpart(graph, x, edge)):
        torch.testing.assert_close(actual, expected, rtol=0, atol=1e-12)


@needs_dgl2
def test_two_layers_hand_their_edges_on_as_in_dgl():
    """Norms aside; gradients reach the first layer through the edges as well."""
    torch.manual_seed(0)
    graph, x, e = random_graph(), torch.randn(11, 4).double(), torch.randn(23, 4).double()
    twins = [dgl.nn.GatedGCNConv(4, 4, 4, batch_norm=False).double() for _ in range(2)]
    convs = [GatedGCNConv(4, 4, 4).double() for _ in range(2)]
    theirs, their_edge, ours, our_edge = x, e, x, e
    for conv, counterpart in zip(convs, twins):
        conv.load_state_dict(counterpart.state_dict(), strict=False)
        theirs, their_edge = counterpart(graph, theirs, their_edge)
        y, hat = conv(graph, ours, our_edge, get_edge=True)
        ours, our_edge = ours + y.relu(), our_edge + hat.relu()
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)
    torch.testing.assert_close(our_edge, their_edge, rtol=0, atol=1e-12)
    ours.square().sum().backward()
    theirs.square().sum().backward()
    torch.testing.assert_close(convs[0].C.weight.grad, twins[0].C.weight.grad, rtol=0, atol=1e-10)


def test_without_edges_and_normalisation_it_is_that_of_pyg():
    nn = pytest.importorskip("torch_geometric.nn", reason="PyTorch Geometric is not installed")
    graph, x = random_graph(), torch.randn(11, 5).double()
    theirs, conv = nn.ResGatedGraphConv(5, 3).double(), GatedGCNConv(5, 3, normalise=False).double()
    torch.nn.init.normal_(theirs.bias)
    state = {"A.weight": theirs.lin_skip.weight, "A.bias": theirs.bias}
    for ours, other in (("B", "lin_value"), ("D", "lin_query"), ("E", "lin_key")):
        state |= {f"{ours}.{name}": value for name, value in getattr(theirs, other).state_dict().items()}
    conv.load_state_dict(state)
    torch.testing.assert_close(conv(graph, x), theirs(x, torch.stack(graph.edges())), rtol=0, atol=1e-12)


def test_gates_share_out_one_message():
    """With equal values at all neighbours, normalised gates give that value, whatever they are."""
    graph, conv = random_graph(), GatedGCNConv(5, 3).double()
    torch.nn.init.zeros_(conv.B.weight)
    x = torch.randn(11, 5, dtype=torch.float64)
    hears = (graph.in_degrees() > 0).double().unsqueeze(1)
    torch.testing.assert_close(conv(graph, x), conv.A(x) + hears * conv.B.bias, rtol=1e-4, atol=1e-5)  # epsilon


def test_edges_of_several_signals():
    graph, x, edge = random_graph(), torch.randn(11, 2, 5), torch.randn(23, 2)
    conv = GatedGCNConv(5, 3, 2)
    _, e = conv(graph, x, edge, get_edge=True)
    assert e.shape == (23, 2, 3)
    for i in range(2):
        torch.testing.assert_close(e[:, i], conv(graph, x[:, i], edge, get_edge=True)[1])


def test_edges_of_a_block():
    graph, conv = block(), GatedGCNConv(5, 3)
    assert conv(graph, torch.randn(graph.num_src_nodes(), 5), get_edge=True)[1].shape == (graph.num_edges(), 3)


def test_in_a_stack_every_layer_sees_the_given_edges():
    torch.manual_seed(0)
    graph, x, edge = random_graph(), torch.randn(11, 5), torch.randn(23, 2)
    stack = Stack.build(lambda i, o: GatedGCNConv(i, o, edge_feats=2), 5, 8, 3, num_layers=2)
    first, second = (b.conv for b in stack.blocks)
    torch.testing.assert_close(stack(graph, x, edge), second(graph, first(graph, x, edge).relu(), edge))
    with pytest.raises(ValueError, match="GatedGCNConv: expected neither edge weights nor edge features"):
        GNNLayer(GatedGCNConv(5, 8))(graph, x, edge)


def test_bad_edge_widths_are_refused():
    with pytest.raises(ValueError, match="edge_feats >= 0, got -1"):
        GatedGCNConv(5, 3, edge_feats=-1)
