"""SGConv: powers of the normalised adjacency matrix; and dgl.nn.SGConv."""

from copy import deepcopy

import pytest
import torch

from gnnlib import GCNConv, SGConv
from gnnlib._platform.dgl import dgl
from gnnlib.testing.case import Case, Dense
from gnnlib.testing.checks import counted_kernels, on_every_graph, properties
from gnnlib.testing.graphs import random_graph, sampled_blocks, symmetric_graph

POWERS = {"both": (-0.5, -0.5), "left": (-1, 0), "right": (0, -1), "none": (0, 0)}


def power(degree, exponent):
    there = degree > 0
    return degree.where(there, 1.0) ** exponent * there


def matrix(conv, dense, edge):
    weighted, counts = dense.adjacency(edge), dense.adjacency()
    degrees = conv.degrees if edge is None or conv.degrees != "in" else "weighted in"
    if degrees is None:
        square = dense.graph.is_homogeneous
        degrees = "weighted" if edge is not None else "in" if square else "unweighted"
    if degrees == "in":
        # as dgl.nn: a source that no one sends to counts as if one did
        out, into = counts.sum(1).clamp(min=1), counts.sum(1)
    elif degrees == "weighted in":
        out, into = weighted.sum(1), weighted.sum(1)
    else:
        by = weighted if degrees == "weighted" else counts
        out, into = by.sum(0), by.sum(1)
    p, q = POWERS[conv.norm]
    return power(into, q).unsqueeze(1) * weighted * power(out, p)


def reference(conv, dense, x_src, x_dst, edge):
    return conv.fc(torch.linalg.matrix_power(matrix(conv, dense, edge), conv.k) @ x_src if conv.k else x_src)


def one_hop(conv, dense, x_src, x_dst, edge):
    return conv.fc(matrix(conv, dense, edge) @ x_src)


def isolated(conv, x_dst):
    return conv.fc(torch.zeros_like(x_dst) if conv.k else x_dst)


def case(name, k, edge=None, counterpart=True, bias=True, **options):
    return Case(
        name,
        lambda: SGConv(5, 3, k, bias=bias, **options),
        one_hop if k == 1 else reference,
        isolated,
        edge=edge,
        positive=True,
        homogeneous=k != 1,
        counterpart=(lambda: dgl.nn.SGConv(5, 3, k, bias=bias, allow_zero_in_degree=True)) if counterpart else None,
        counterpart_homogeneous=True,
    )


CASES = [
    case("one-hop", 1),
    case("two-hops", 2),
    case("three-hops-no-bias", 3, bias=False),
    case("one-hop-weighted", 1, edge="weight"),
    case("three-hops-weighted", 3, edge="weight"),
    case("unweighted", 2, edge="weight", degrees="unweighted", counterpart=False),
    case("in-weighted", 2, edge="weight", degrees="in", counterpart=False),
    case("cached", 2, cached=True),
    case("right", 2, norm="right", degrees="unweighted", counterpart=False),
    case("none-weighted", 2, edge="weight", norm="none", degrees="unweighted", counterpart=False),
    case("no-hop", 0),
]

test_every_graph = on_every_graph(CASES)
test_properties = properties(CASES)


@pytest.mark.parametrize("k", [1, 2, 3])
@pytest.mark.parametrize("weighted", [False, True])
def test_a_list_of_blocks_is_a_product_of_matrices(k, weighted):
    blocks = sampled_blocks(k)
    conv = SGConv(5, 3, k).double()
    x = torch.randn(blocks[0].num_src_nodes(), 5, dtype=torch.float64)
    edges = [torch.rand(b.num_edges(), dtype=torch.float64) + 0.1 for b in blocks] if weighted else None
    expected = x
    for i, block in enumerate(blocks):
        expected = matrix(conv, Dense.of(block, torch.float64), edges[i] if weighted else None) @ expected
    y = conv(blocks, x, edges)
    assert y.shape == (blocks[-1].num_dst_nodes(), 3)
    torch.testing.assert_close(y, conv.fc(expected), rtol=0, atol=1e-12)


def test_whole_graph_blocks_equal_the_graph():
    """Where all neighbours are sampled and degrees are those of the destinations, blocks change nothing."""
    graph = symmetric_graph()
    blocks = [dgl.to_block(graph, graph.nodes()) for _ in range(3)]
    conv = SGConv(4, 3, k=3, norm="right", degrees="unweighted").double()
    x = torch.randn(11, 4, dtype=torch.float64)
    assert torch.equal(blocks[0].srcdata[dgl.NID], graph.nodes())
    torch.testing.assert_close(conv(blocks, x), conv(graph, x), rtol=0, atol=1e-13)


def test_k_hops_are_k_propagations_and_one_linear_map():
    graph, x = symmetric_graph(), torch.randn(11, 5, dtype=torch.float64)
    conv, hop = SGConv(5, 3, k=4).double(), GCNConv(5, 5, weight=False, bias=False)
    y = x
    for _ in range(4):
        y = hop(graph, y)
    torch.testing.assert_close(conv(graph, x), conv.fc(y), rtol=0, atol=1e-13)


def test_a_wrong_number_of_blocks_is_refused():
    blocks, x = sampled_blocks(2), torch.ones(40, 5)
    with pytest.raises(ValueError, match="expected 3 blocks, one for each hop, got 2"):
        SGConv(5, 3, k=3)(blocks, x)
    with pytest.raises(ValueError, match="list of 2 blocks, got one"):
        SGConv(5, 3, k=2)(blocks[0], x[: blocks[0].num_src_nodes()])


def test_a_wrong_number_of_edge_lists_is_refused():
    blocks = sampled_blocks(2)
    x = torch.ones(blocks[0].num_src_nodes(), 5)
    with pytest.raises(ValueError, match=r"expected 2 .*got 1"):
        SGConv(5, 3, k=2)(blocks, x, [torch.ones(blocks[0].num_edges())])


def test_in_degrees_need_a_whole_graph():
    blocks = sampled_blocks(1)
    x = torch.ones(blocks[0].num_src_nodes(), 5)
    with pytest.raises(ValueError, match=f"got {len(x)} sources, 5 destinations"):
        SGConv(5, 3, degrees="in")(blocks[0], x)


def test_a_cached_propagation_is_made_once_for_the_same_inputs():
    graph, x = random_graph(), torch.randn(11, 5)
    conv, plain = SGConv(5, 3, 2, cached=True), SGConv(5, 3, 2)
    plain.load_state_dict(conv.state_dict())

    def check(calls, graph, x, edge=None):
        with counted_kernels() as called:
            y = conv(graph, x, edge)
        assert bool(called) == calls
        torch.testing.assert_close(y, plain(graph, x, edge))

    with torch.inference_mode():
        check(True, graph, x)
    check(False, graph, x)
    conv(graph, x).sum().backward()
    with torch.no_grad():
        conv.fc.weight.add_(1)
    plain.load_state_dict(conv.state_dict())
    check(False, graph, x)
    x += 1  # in place
    check(True, graph, x)
    check(True, graph, x.clone())
    check(True, graph, x, torch.ones(23))
    check(True, graph, x)
    graph.add_edges(0, 1)
    check(True, graph, x)
    copy = deepcopy(conv)
    with counted_kernels() as called:
        torch.testing.assert_close(copy(graph, x), conv(graph, x))
    assert called
    check(True, graph, x.requires_grad_())
    check(True, graph, x)


@pytest.mark.parametrize("k", [-1, 1.5])
def test_bad_hops_are_refused(k):
    with pytest.raises(ValueError, match=f"k >= 0, got {k}"):
        SGConv(5, 3, k)


def test_isolated_nodes_do_not_spoil_weighted_degrees():
    graph = random_graph()
    assert bool(SGConv(5, 3, 2)(graph, torch.ones(11, 5), torch.ones(23)).isfinite().all())
