"""GATConv and GATv2Conv: attention over a table of all edges at all nodes; and those of dgl.nn."""

import pytest
import torch
import torch.nn.functional as F

from gnnlib import GATConv, GATv2Conv
from gnnlib._platform.dgl import dgl
from gnnlib.testing.case import Case, Inputs, apply, apply_reference, assert_close, inputs
from gnnlib.testing.checks import on_every_graph, properties
from gnnlib.testing.graphs import GRAPHS, all_pairs, bipartite, random_graph


def attend(conv, dense, feat, score, edge):
    """feat (N_src, H, F), score (E, H)"""
    alpha = dense.softmax(score)
    alpha = alpha if edge is None else alpha * edge.unsqueeze(1)
    matrices = torch.einsum("ev,eh,eu->hvu", dense.dst, alpha, dense.src)  # an adjacency matrix per head
    return torch.einsum("hvu,uhf->vhf", matrices, feat)


def gat(conv, dense, x_src, x_dst, edge):
    heads, width = conv.num_heads, conv.out_feats
    w_src, w_dst = (conv.fc.weight,) * 2 if hasattr(conv, "fc") else (conv.fc_src.weight, conv.fc_dst.weight)
    feat, feat_dst = ((x @ w.T).view(len(x), heads, width) for x, w in ((x_src, w_src), (x_dst, w_dst)))
    ends = torch.cat(
        [(end @ x.flatten(1)).view(-1, heads, width) for end, x in ((dense.src, feat), (dense.dst, feat_dst))], -1
    )
    attn = torch.cat([conv.attn_l, conv.attn_r], -1)  # the paper's a, on both ends side by side
    y = attend(conv, dense, feat, F.leaky_relu((ends * attn).sum(-1), conv.negative_slope), edge)
    return y if conv.bias is None else y + conv.bias.view(heads, width)


def gatv2(conv, dense, x_src, x_dst, edge):
    heads, width = conv.num_heads, conv.out_feats
    feat_src, feat_dst = conv.fc_src(x_src), conv.fc_dst(x_dst)
    hidden = F.leaky_relu(dense.src @ feat_src + dense.dst @ feat_dst, conv.negative_slope).view(-1, heads, width)
    return attend(conv, dense, feat_src.view(-1, heads, width), (hidden * conv.attn).sum(-1), edge)


def alone_gat(conv, x_dst):
    zero = x_dst.new_zeros(len(x_dst), conv.num_heads, conv.out_feats)
    return zero if conv.bias is None else zero + conv.bias.view(conv.num_heads, conv.out_feats)


def alone_gatv2(conv, x_dst):
    return x_dst.new_zeros(len(x_dst), conv.num_heads, conv.out_feats)


def case(name, layer, in_feats=5, out_feats=3, num_heads=2, edge=None, counterpart=True, **options):
    other, reference, isolated = {
        GATConv: (dgl.nn.GATConv, gat, alone_gat),
        GATv2Conv: (dgl.nn.GATv2Conv, gatv2, alone_gatv2),
    }[layer]
    return Case(
        name,
        lambda: layer(in_feats, out_feats, num_heads, **options),
        reference,
        isolated,
        in_feats=in_feats,
        edge=edge,
        needs_dst=True,
        counterpart=(lambda: other(in_feats, out_feats, num_heads, allow_zero_in_degree=True, **options))
        if counterpart
        else None,
    )


CASES = [
    case("gat", GATConv),
    case("gat-weighted", GATConv, num_heads=3, edge="weight"),
    case("gat-one-head-no-bias", GATConv, num_heads=1, bias=False, negative_slope=0.0),
    case("gat-pair", GATConv, in_feats=(4, 6), out_feats=2, num_heads=3, negative_slope=0.5),
    case("gatv2", GATv2Conv),
    case("gatv2-weighted", GATv2Conv, edge="weight", counterpart=False),
    case("gatv2-shared", GATv2Conv, share_weights=True, negative_slope=0.1),
    case("gatv2-pair-no-bias", GATv2Conv, in_feats=(4, 6), num_heads=3, bias=False),
]
LAYERS = pytest.mark.parametrize("layer", [GATConv, GATv2Conv])

test_every_graph = on_every_graph(CASES)
test_properties = properties(CASES)


@LAYERS
def test_attention_sums_to_one_over_in_edges(layer):
    graph = random_graph()
    conv = layer(5, 3, num_heads=4).double()
    y, alpha = conv(graph, torch.randn(11, 5, dtype=torch.float64), get_attention=True)
    assert y.shape == (11, 4, 3)
    assert alpha.shape == (23, 4)
    assert bool((alpha > 0).all())
    total = torch.zeros(11, 4, dtype=torch.float64).index_add(0, graph.edges()[1], alpha)
    hears = (graph.in_degrees() > 0).double()
    torch.testing.assert_close(total, hears.unsqueeze(1).expand(-1, 4), rtol=0, atol=1e-14)


@LAYERS
def test_attention_that_is_returned_is_what_multiplied(layer):
    """Edge weights included; with extra axes, (E, *, H)."""
    graph, x = random_graph(), torch.randn(11, 2, 5)
    _, plain = layer(5, 3, num_heads=4)(graph, x, get_attention=True)
    assert plain.shape == (23, 2, 4)
    conv, weight = layer(5, 3, num_heads=4), torch.randn(23)
    alpha, weighted = (conv(graph, x, edge, get_attention=True)[1] for edge in (None, weight))
    torch.testing.assert_close(weighted, alpha * weight.view(-1, 1, 1))


@LAYERS
def test_attention_equals_that_of_dgl(layer):
    graph, x = random_graph(), torch.randn(11, 5, dtype=torch.float64)
    counterpart = getattr(dgl.nn, layer.__name__)(5, 3, 4, allow_zero_in_degree=True).double()
    conv = layer(5, 3, 4).double()
    conv.load_state_dict(counterpart.state_dict())
    expected = counterpart(graph, x, get_attention=True)[1].squeeze(-1)
    torch.testing.assert_close(conv(graph, x, get_attention=True)[1], expected, rtol=0, atol=1e-12)


@LAYERS
def test_attention_is_dropped_in_training_only(layer):
    graph, x = random_graph(), torch.randn(11, 5)
    conv = layer(5, 3, num_heads=8, attn_drop=0.5)
    calm = layer(5, 3, num_heads=8)
    calm.load_state_dict(conv.state_dict())
    y, alpha = calm(graph, x, get_attention=True)
    torch.manual_seed(0)
    _, dropped = conv.train()(graph, x, get_attention=True)
    gone = dropped == 0
    assert 0.3 < gone.float().mean() < 0.7
    torch.testing.assert_close(dropped[~gone], 2 * alpha[~gone])  # scaled, not renormalised
    torch.testing.assert_close(conv.eval()(graph, x), y)


@LAYERS
def test_large_scores_do_not_overflow(layer):
    graph, x = random_graph(), 1e4 * torch.randn(11, 5)
    assert bool(layer(5, 3, 2)(graph, x).isfinite().all())


def test_gat_ranks_neighbours_alike_for_everyone_and_gatv2_does_not():
    """Brody et al., theorem 1: in GAT all nodes give their largest weight to the same neighbour."""
    torch.manual_seed(0)
    graph, x = all_pairs(8), torch.randn(8, 4)

    def favourites(conv):
        alpha = conv(graph, x, get_attention=True)[1]  # all_pairs lists edges by source
        return alpha.view(8, 8).argmax(0).unique().numel()

    assert favourites(GATConv(4, 4, 1)) == 1
    assert max(favourites(GATv2Conv(4, 4, 1)) for _ in range(5)) > 1


@pytest.mark.parametrize("layer", [GATConv, GATv2Conv])
def test_one_width_serves_a_pair(layer):
    """On two node sets, W is shared by both ends unless two widths are given."""
    shape = bipartite()
    number = next(c for c in CASES if c.name == ("gat" if layer is GATConv else "gatv2"))
    conv, args = number.build(), inputs(number, shape)
    assert isinstance(args.x, tuple)
    assert_close({"y": apply(conv, args)}, {"y": apply_reference(number, conv, args)}, 1e-12)


@pytest.mark.parametrize("layer", [GATConv, GATv2Conv])
def test_block_takes_one_tensor_or_a_pair(layer):
    graph, conv = GRAPHS["block"](), layer(5, 3, 2)
    x = torch.randn(graph.num_src_nodes(), 5)
    pair = Inputs(graph, (x, x[: graph.num_dst_nodes()]), None)
    torch.testing.assert_close(conv(graph, x), apply(conv, pair))


@LAYERS
@pytest.mark.parametrize("num_heads", [0, -1, 1.5])
def test_bad_heads_are_refused(layer, num_heads):
    with pytest.raises(ValueError, match=f">= 1, got {num_heads}"):
        layer(5, 3, num_heads)


def test_shared_weights_need_equal_widths():
    with pytest.raises(ValueError, match=r"equal widths for shared weights, got \(4, 5\)"):
        GATv2Conv((4, 5), 3, 2, share_weights=True)
