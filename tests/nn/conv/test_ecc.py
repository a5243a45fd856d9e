"""ECConv: one weight matrix for every edge, made and applied one at a time; and dgl.nn.NNConv."""

from itertools import permutations

import pytest
import torch
from torch import nn

from gnnlib import ECConv, aggregate
from gnnlib._platform.dgl import dgl
from gnnlib.nn.conv.base import width_pair
from gnnlib.testing.case import Case
from gnnlib.testing.checks import counted_kernels, on_every_graph, properties
from gnnlib.testing.graphs import endpoints, random_graph


def reference(conv, dense, x_src, x_dst, edge):
    """A matrix per edge, from the whole network."""
    theta = conv.edge_func(edge).view(-1, x_src.shape[1], conv.out_feats)
    message = torch.einsum("ei,eio->eo", dense.src @ x_src, theta)
    y = dense.dst.T @ message
    y = y / dense.dst.sum(0).clamp(min=1).unsqueeze(1) if conv.reduce == "mean" else y
    return y if conv.bias is None else y + conv.bias


def isolated(conv, x_dst):
    zero = x_dst.new_zeros(len(x_dst), conv.out_feats)
    return zero if conv.bias is None else zero + conv.bias


def deep(edge_feats, width, bias=True):
    return nn.Sequential(
        nn.Linear(edge_feats, 6), nn.ReLU(), nn.Linear(6, 3), nn.LeakyReLU(0.3), nn.Linear(3, width, bias=bias)
    )


def case(name, in_feats=4, out_feats=3, edge_feats=2, func=None, counterpart=True, **options):
    def make():
        return ECConv(
            in_feats,
            out_feats,
            edge_feats,
            edge_func=func(edge_feats, width_pair(in_feats)[0] * out_feats) if func else None,
            **options,
        )

    def make_counterpart():
        func_or_default = func(edge_feats, width_pair(in_feats)[0] * out_feats) if func else make().edge_func
        reduce, bias = options.get("reduce", "mean"), options.get("bias", True)
        return dgl.nn.NNConv(in_feats, out_feats, func_or_default, reduce, bias=bias)

    return Case(
        name,
        make,
        reference,
        isolated,
        in_feats=in_feats,
        edge=edge_feats,
        counterpart=make_counterpart if counterpart else None,
        counterpart_edge="efeat",
    )


CASES = [
    case("default", hidden=5),
    case("linear-sum", func=nn.Linear, reduce="sum"),
    case("linear-no-bias", func=lambda i, o: nn.Linear(i, o, bias=False), edge_feats=1, bias=False),
    case("deep", func=deep, in_feats=2, out_feats=5),
    case("deep-no-bias-sum", func=lambda i, o: deep(i, o, bias=False), reduce="sum"),
    case("pair", in_feats=(4, 7), hidden=3),
    case("only-a-linear-in-a-row", func=lambda i, o: nn.Sequential(nn.Linear(i, o)), bias=False),
]

test_every_graph = on_every_graph(CASES)
test_properties = properties(CASES)


# Five nodes; 0 hears 1, 2 and 3 through taps 0, 1 and 2; 1 hears 4; 4 hears 0 and 3; 2 and 3 hear no one.
FIVE = ([1, 2, 3, 4, 0, 3], [0, 0, 0, 1, 4, 4])
TAPS = [0, 1, 2, 0, 1, 2]
TABLE = {
    # x of the five nodes, with those of 1 and 3 exchanged second -> what the five nodes get
    "sum": {(1, 2, -4, 8, 16): [6, 16, 0, 0, 9], (1, 8, -4, 2, 16): [6, 16, 0, 0, 3]},
    "mean": {(1, 2, -4, 8, 16): [2, 16, 0, 0, 4.5], (1, 8, -4, 2, 16): [2, 16, 0, 0, 1.5]},
    "max": {(1, 2, -4, 8, 16): [8, 16, 0, 0, 8], (1, 8, -4, 2, 16): [8, 16, 0, 0, 2]},
    "taps": {(1, 2, -4, 8, 16): [762, 16, 0, 0, 810], (1, 8, -4, 2, 16): [168, 16, 0, 0, 210]},
}


def collect(how, x):
    """Taps weigh 1, 10 and 100."""
    graph = dgl.graph(FIVE)
    if how != "taps":
        return aggregate(graph, x, reduce=how)
    conv = ECConv(1, 1, edge_feats=3, edge_func=nn.Linear(3, 1, bias=False), reduce="sum", bias=False)
    nn.init.constant_(conv.edge_func.weight, 0)
    conv.edge_func.weight.data += torch.tensor([1.0, 10.0, 100.0])
    return conv(graph, x, torch.eye(3)[TAPS])


@pytest.mark.parametrize("how", TABLE)
def test_five_nodes(how):
    for x, expected in TABLE[how].items():
        assert collect(how, torch.tensor(x, dtype=torch.float32).unsqueeze(1)).flatten().tolist() == expected


def test_only_taps_see_who_of_the_neighbours_is_who():
    """Node 0 hears the same three numbers in another order."""
    orders = [torch.tensor([[1.0], [float(a)], [float(b)], [float(c)], [16.0]]) for a, b, c in permutations((2, -4, 8))]
    seen = {how: {round(collect(how, x)[0].item(), 4) for x in orders} for how in TABLE}
    assert {how: len(values) for how, values in seen.items()} == {"sum": 1, "mean": 1, "max": 1, "taps": 6}


@pytest.mark.parametrize("reduce", ["sum", "mean"])
def test_a_loop_over_edges(reduce):
    graph = random_graph()
    conv = ECConv(3, 2, edge_feats=4, hidden=7, reduce=reduce).double()
    x, edge = torch.randn(11, 3, dtype=torch.float64), torch.randn(23, 4, dtype=torch.float64)
    expected = torch.zeros(11, 2, dtype=torch.float64)
    for u, v, e in zip(*map(torch.Tensor.tolist, endpoints(graph)), edge):
        expected[v] += x[u] @ conv.edge_func(e).view(3, 2)
    if reduce == "mean":
        expected /= graph.in_degrees().clamp(min=1).unsqueeze(1)
    torch.testing.assert_close(conv(graph, x, edge), expected + conv.bias, rtol=0, atol=1e-13)


def test_no_matrix_per_edge_is_made():
    """The largest tensor the layer saves for its backward pass is smaller than (E, in, out)."""
    graph = random_graph(50, 2000)
    conv, sizes = ECConv(32, 32, edge_feats=4, hidden=8), []

    def note(tensor):
        sizes.append(tensor.numel())
        return tensor

    x, edge = torch.randn(50, 32, requires_grad=True), torch.randn(2000, 4, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        conv(graph, x, edge)
    assert max(sizes) <= max(50 * 9 * 32, 2000 * 9, 9 * 32 * 32)


def test_one_aggregation_serves_all_of_the_hidden_units():
    graph = random_graph()
    with counted_kernels() as called:
        ECConv(3, 2, edge_feats=4, hidden=7, reduce="sum")(graph, torch.randn(11, 3), torch.randn(23, 4))
    assert called.count("neighbour_sum") == 2  # and one more for the bias of the last layer


def test_one_hot_edges_pick_a_matrix():
    """With a linear network on one-hot edge types, each type has a matrix of its own."""
    graph = dgl.graph(([0, 1, 2], [3, 3, 3]))
    conv = ECConv(2, 2, edge_feats=3, edge_func=nn.Linear(3, 4, bias=False), reduce="sum", bias=False)
    x = torch.randn(4, 2)
    matrices = conv.edge_func.weight.T.view(3, 2, 2)
    expected = x[0] @ matrices[2] + x[1] @ matrices[0] + x[2] @ matrices[2]
    torch.testing.assert_close(conv(graph, x, torch.eye(3)[[2, 0, 2]])[3], expected)


def test_the_second_of_a_pair_is_not_used():
    graph, x, edge = random_graph(), torch.randn(11, 4), torch.randn(23, 2)
    conv = ECConv(4, 3, 2)
    assert torch.equal(conv(graph, (x, torch.randn(11, 4)), edge), conv(graph, x, edge))


@pytest.mark.parametrize(
    ("func", "message"),
    [
        (nn.Linear(2, 11), r"4 \* 3 = 12 outputs, got Linear\(in_features=2, out_features=11"),
        (nn.Sequential(nn.Linear(2, 12), nn.ReLU()), "12 outputs, got ReLU"),
        (nn.Sequential(), "12 outputs, got Sequential"),
        (nn.Tanh(), "12 outputs, got Tanh"),
    ],
)
def test_bad_networks_are_refused(func, message):
    with pytest.raises(ValueError, match=message):
        ECConv(4, 3, 2, edge_func=func)


def test_bad_reduce_is_refused():
    with pytest.raises(ValueError, match="one of 'sum', 'mean', got 'max'"):
        ECConv(4, 3, 2, reduce="max")
