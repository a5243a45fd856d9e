"""PredEdgeConv: its network run on the positions of both ends side by side, densely."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import gnnlib
from gnnlib import PredEdgeConv
from gnnlib._platform.dgl import dgl
from gnnlib.nn.conv.pred_edge import start_local
from gnnlib.ops.degrees import divide_by_in_degree
from gnnlib.testing.case import Case
from gnnlib.testing.checks import on_every_graph, properties
from gnnlib.testing.graphs import all_pairs, random_graph

NORMALISERS = {None: lambda dense, b: b, gnnlib.edge_softmax: lambda dense, b: dense.softmax(b)}
NORMALISERS[divide_by_in_degree] = lambda dense, b: b / (dense.dst @ dense.dst.sum(0)).unsqueeze(1)


def network(conv, p_src, p_dst):
    both = torch.cat([p_src, p_dst], -1) / conv.pos_scale
    hidden = F.linear(both, conv.first.weight, conv.first.bias).relu()
    return conv.edge_activation(F.linear(hidden, conv.second.weight, conv.second.bias))


def reference(conv, dense, x_src, x_dst, edge):
    """One adjacency matrix per relation."""
    p_src, p_dst = (data["pos"].to(x_src) for data in (dense.graph.srcdata, dense.graph.dstdata))
    b = NORMALISERS[conv.normalise](dense, network(conv, dense.src @ p_src, dense.dst @ p_dst))
    matrices = torch.einsum("ev,ek,eu->kvu", dense.dst, b, dense.src)
    if conv.weight is None:
        y = torch.cat([matrix @ x_src for matrix in matrices], -1)
    else:
        y = torch.einsum("kvu,ui,kio->vo", matrices, x_src, conv.weight)
    return y if conv.bias is None else y + conv.bias


def isolated(conv, x_dst):
    zero = x_dst.new_zeros(len(x_dst), conv.out_feats)
    return zero if conv.bias is None else zero + conv.bias


def case(name, in_feats=4, out_feats=3, pos_feats=2, **options):
    def make():
        return PredEdgeConv(in_feats, out_feats, pos_feats, **{"hidden": 5, **options})

    return Case(name, make, reference, isolated, in_feats=in_feats, pos=pos_feats)


CASES = [
    case("one-relation"),
    case("four-relations", relations=4, pos_feats=3, pos_scale=2.5),
    case("softmax", relations=2, normalise=gnnlib.edge_softmax, bias=False),
    case("share", relations=3, normalise=divide_by_in_degree, edge_activation=nn.Tanh()),
    case("side-by-side", out_feats=12, relations=3, weight=False),
]

test_every_graph = on_every_graph(CASES)
test_properties = properties(CASES)


@pytest.mark.parametrize("normalise", NORMALISERS, ids=["none", "softmax", "share"])
def test_all_pairs_are_dense_matrices(normalise):
    """On an all-pairs graph b is an (N, N) matrix per relation, written with broadcasting only."""
    graph, torch_rows = all_pairs(6), torch.arange(6)
    src, dst = graph.edges()
    assert torch.equal(src.view(6, 6)[:, 0], torch_rows)
    assert torch.equal(dst.view(6, 6)[0], torch_rows)
    pos, x = torch.rand(6, 2, dtype=torch.float64), torch.randn(6, 4, dtype=torch.float64)
    graph.ndata["pos"] = pos
    conv = PredEdgeConv(4, 3, 2, hidden=8, relations=3, normalise=normalise).double()
    b = network(conv, pos.unsqueeze(1).expand(6, 6, 2), pos.unsqueeze(0).expand(6, 6, 2))  # (source, destination, K)
    if normalise is gnnlib.edge_softmax:
        b = b.softmax(0)
    elif normalise is divide_by_in_degree:
        b = b / 6
    expected = sum(b[..., k].T @ x @ conv.weight[k] for k in range(3)) + conv.bias
    torch.testing.assert_close(conv(graph, x), expected, rtol=0, atol=1e-12)


def test_nothing_of_shape_edges_by_hidden_is_kept():
    graph, sizes = all_pairs(40), []
    graph.ndata["pos"] = torch.rand(40, 2)
    conv = PredEdgeConv(2, 2, 2, hidden=64, relations=1)

    def note(tensor):
        sizes.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        conv(graph, torch.randn(40, 2, requires_grad=True))
    assert max(sizes) <= 40 * 64


def test_positions_in_other_units_give_the_same_with_another_scale():
    """And integer positions, as pixels have them, are taken."""
    graph, x = random_graph(), torch.randn(11, 4)
    pixels = torch.randint(28, (11, 2))
    conv, unit = PredEdgeConv(4, 3, 2, pos_scale=28.0), PredEdgeConv(4, 3, 2)
    unit.load_state_dict(conv.state_dict())
    graph.ndata["pos"] = pixels
    y = conv(graph, x)
    graph.ndata["pos"] = pixels / 28
    torch.testing.assert_close(unit(graph, x), y)


def test_positions_get_gradients():
    graph = random_graph()
    pos = torch.randn(11, 2, dtype=torch.float64, requires_grad=True)
    conv, x = PredEdgeConv(4, 3, 2, hidden=5).double(), torch.randn(11, 4, dtype=torch.float64)

    def function(pos):
        with graph.local_scope():
            graph.ndata["pos"] = pos
            return conv(graph, x)

    assert torch.autograd.gradcheck(function, pos)


def test_a_bipartite_graph_without_positions_on_one_side_is_refused():
    graph = dgl.heterograph({("in", "to", "out"): ([0], [0])})
    graph.nodes["in"].data["pos"] = torch.rand(1, 2)
    with pytest.raises(ValueError, match="expected positions"):
        PredEdgeConv(4, 3, 2)(graph, torch.randn(1, 4))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(pos_feats=0), "pos_feats >= 1, got 0"),
        (dict(pos_feats=2, hidden=0), "hidden >= 1, got 0"),
        (dict(pos_feats=2, relations=-1), "relations >= 1, got -1"),
        (dict(pos_feats=2, pos_scale=0.0), "a positive pos_scale, got 0.0"),
        (dict(pos_feats=2, pos_scale=float("nan")), "a positive pos_scale, got nan"),
        (dict(pos_feats=2, relations=2, weight=False), "expected out_feats 8, that of 2 sums side by side, got 3"),
    ],
)
def test_invalid_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        PredEdgeConv(4, 3, **options)


def test_edges_that_start_local_fall_with_distance_and_lean():
    """Distances are right to the square of the number of directions; the leaning part is exact."""
    torch.manual_seed(0)
    graph, conv = all_pairs(20), PredEdgeConv(1, 2, 2, hidden=64, relations=3, pos_scale=7.0).double()
    pos = graph.ndata["pos"] = 10 * torch.randn(20, 2, dtype=torch.float64)
    fall, lean = torch.tensor([1.0, 2.0, 0.0]), torch.tensor([[0.0, 0.0], [0.5, -1.0], [0.0, 3.0]])
    start_local(conv, fall, lean)
    offset = pos[graph.edges()[0]] - pos[graph.edges()[1]]
    expected = offset @ lean.T.double() - offset.norm(dim=1, keepdim=True) * fall
    error = (conv.edges(graph, pos) - expected).abs()
    assert (error <= 4 / 64**2 * fall * offset.norm(dim=1, keepdim=True) + 1e-5).all(), "the angles are float32"


@pytest.mark.parametrize(
    ("axes", "fall", "lean"), [(3, (1,), (1, 2)), (2, (2,), (1, 2)), (2, (1,), (1, 3)), (2, (1, 1), (1, 2))]
)
def test_a_local_start_of_another_shape_is_refused(axes, fall, lean):
    with pytest.raises(ValueError, match=r"expected 2 coordinates, fall \(1,\) and lean \(1, 2\), got "):
        start_local(PredEdgeConv(1, 1, axes), torch.zeros(fall), torch.zeros(lean))
