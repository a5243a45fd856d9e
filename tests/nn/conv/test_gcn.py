"""GCNConv: the normalised adjacency matrix, written densely; and dgl.nn.GraphConv."""

import pytest
import torch

from gnnlib import GCNConv
from gnnlib._platform.dgl import dgl
from gnnlib.testing.case import Case
from gnnlib.testing.checks import on_every_graph, properties
from gnnlib.testing.graphs import random_graph

POWERS = {"both": (-0.5, -0.5), "left": (-1, 0), "right": (0, -1), "none": (0, 0)}


def power(degree, exponent):
    there = degree > 0
    return degree.where(there, 1.0) ** exponent * there


def reference(conv, dense, x_src, x_dst, edge):
    """D_out^p A D_in^q X W + c"""
    matrix = dense.adjacency(edge)
    counts = matrix if conv.degrees == "weighted" else dense.adjacency()
    p, q = POWERS[conv.norm]
    y = (power(counts.sum(1), q).unsqueeze(1) * matrix * power(counts.sum(0), p)) @ x_src
    y = y if conv.weight is None else y @ conv.weight
    return y if conv.bias is None else y + conv.bias


def isolated(conv, x_dst):
    zero = x_dst.new_zeros(len(x_dst), conv.out_feats)
    return zero if conv.bias is None else zero + conv.bias


def case(name, in_feats=5, out_feats=3, edge=None, counterpart=True, **options):
    dgl_options = {key: value for key, value in options.items() if key in ("norm", "weight", "bias")}
    return Case(
        name,
        lambda: GCNConv(in_feats, out_feats, **options),
        reference,
        isolated,
        in_feats=in_feats,
        edge=edge,
        positive=options.get("degrees") == "weighted",
        counterpart=(lambda: dgl.nn.GraphConv(in_feats, out_feats, **dgl_options, allow_zero_in_degree=True))
        if counterpart
        else None,
    )


CASES = [
    *(case(norm, norm=norm) for norm in POWERS),
    *(case(f"{norm}-weighted", norm=norm, edge="weight", in_feats=3, out_feats=5) for norm in POWERS),
    *(case(f"{n}-weighted-degrees", norm=n, degrees="weighted", edge="weight", counterpart=False) for n in POWERS),
    case("weighted-degrees-without-weights", degrees="weighted"),
    case("no-bias-widening", in_feats=2, out_feats=6, bias=False),
    case("propagation", in_feats=4, out_feats=4, weight=False, bias=False),
]

test_every_graph = on_every_graph(CASES)
test_properties = properties(CASES)


@pytest.mark.parametrize("norm", ["both", "right"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_weighted_degrees_are_those_of_dgls_edge_weight_norm(norm, dtype, tolerance):
    graph = random_graph(12, 40)
    x, weight = torch.randn(12, 4, dtype=dtype), torch.rand(40, dtype=dtype) + 0.1
    conv = GCNConv(4, 3, norm=norm, degrees="weighted").to(dtype)
    counterpart = dgl.nn.GraphConv(4, 3, norm="none", allow_zero_in_degree=True).to(dtype)
    conv.load_state_dict(counterpart.state_dict())
    expected = counterpart(graph, x, edge_weight=dgl.nn.EdgeWeightNorm(norm)(graph, weight))
    torch.testing.assert_close(conv(graph, x, weight), expected, rtol=0, atol=tolerance)


def test_by_hand():
    """Kipf's normalisation on 0 -> 2 <- 1, 2 -> 0: d_out = 1, 1, 1 and d_in = 1, 0, 2."""
    graph = dgl.graph(([0, 1, 2], [2, 2, 0]))
    conv = GCNConv(1, 1, weight=False, bias=False)
    y = conv(graph, torch.tensor([[1.0], [10.0], [100.0]]))
    torch.testing.assert_close(y, torch.tensor([[100.0], [0.0], [11.0 / 2**0.5]]))


def test_the_order_of_the_product_does_not_show():
    graph, x = random_graph(), torch.randn(11, 4, dtype=torch.float64)
    wide, weight = GCNConv(4, 6, bias=False).double(), torch.randn(6, 4, dtype=torch.float64)
    narrow = GCNConv(6, 4, bias=False).double()
    with torch.no_grad():
        narrow.weight.copy_(weight)
    square = GCNConv(4, 4, bias=False).double()
    with torch.no_grad():
        square.weight.copy_(wide.weight @ weight)
    lifted = x @ wide.weight
    torch.testing.assert_close(narrow(graph, lifted), square(graph, x), rtol=0, atol=1e-13)


def test_the_second_of_a_pair_is_not_used():
    graph, x = random_graph(), torch.randn(11, 5)
    conv = GCNConv(5, 3)
    assert torch.equal(conv(graph, (x, torch.randn(11, 5))), conv(graph, x))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(norm="half"), "norm .* got 'half'"),
        (dict(degrees="out"), "degrees .* got 'out'"),
        (dict(weight=False), "5 -> 3"),
    ],
)
def test_invalid_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        GCNConv(5, 3, **options)


@pytest.mark.parametrize(
    ("widths", "message"),
    [
        ((0, 3), "expected in_feats >= 1, got 0"),
        ((5, -1), "expected out_feats >= 1, got -1"),
        ((5, 2.5), "expected an integer out_feats >= 1, got 2.5"),
        ((True, 3), "expected an integer in_feats >= 1, got True"),
        (((5, 4), 3), r"expected an integer in_feats >= 1, got \(5, 4\)"),
    ],
)
def test_invalid_widths(widths, message):
    with pytest.raises(ValueError, match=message):
        GCNConv(*widths)


def test_negative_weighted_degrees_are_refused():
    graph = dgl.graph(([0, 1], [1, 0]))
    with pytest.raises(ValueError, match=r"at least 0 .* got -3"):
        GCNConv(1, 1, degrees="weighted")(graph, torch.ones(2, 1), torch.tensor([-3.0, 1.0]))
