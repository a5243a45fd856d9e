"""SAGEConv: its equation, densely; and dgl.nn.SAGEConv."""

import pytest
import torch

from gnnlib import SAGEConv, aggregate
from gnnlib._platform.dgl import dgl
from gnnlib.testing.case import Case, assert_close, inputs, outputs_and_gradients
from gnnlib.testing.checks import counted_kernels, counterpart_of, on_every_graph, properties
from gnnlib.testing.graphs import bipartite, random_graph, sampled_blocks


def reference(conv, dense, x_src, x_dst, edge):
    """[x_v, reduce over u of w_uv x_u] times one matrix on the concatenation, as in the paper."""
    message = dense.src @ (x_src if conv.reduce != "pool" else torch.relu(conv.fc_pool(x_src)))
    message = message if edge is None else edge.unsqueeze(1) * message
    heard = [message[row > 0] for row in dense.dst.T]
    if conv.reduce == "gcn":
        heard = [torch.cat([m, x.unsqueeze(0)]) for m, x in zip(heard, x_dst)]
    nothing = message.new_zeros(message.shape[1])
    summary = {
        "mean": lambda m: m.mean(0) if len(m) else nothing,
        "gcn": lambda m: m.mean(0),
        "pool": lambda m: m.amax(0) if len(m) else nothing,
        "sum": lambda m: m.sum(0),
        "max": lambda m: m.amax(0) if len(m) else nothing,
    }[conv.reduce]
    neigh = torch.stack([summary(m) for m in heard]) if heard else nothing.expand(0, -1)
    if conv.reduce == "gcn":
        return conv.fc_neigh(neigh) if conv.bias is None else conv.fc_neigh(neigh) + conv.bias
    y = torch.cat([x_dst, neigh], 1) @ torch.cat([conv.fc_self.weight, conv.fc_neigh.weight], 1).T
    return y if conv.fc_self.bias is None else y + conv.fc_self.bias


def isolated(conv, x_dst):
    if conv.reduce == "gcn":
        return conv.fc_neigh(x_dst) if conv.bias is None else conv.fc_neigh(x_dst) + conv.bias
    return conv.fc_self(x_dst)


def case(name, in_feats=5, out_feats=3, edge=None, reduce="mean", bias=True):
    # On one node set dgl.nn sums the second part of a pair for "gcn".
    in_dgl = reduce in ("mean", "pool", "gcn") and not (reduce == "gcn" and isinstance(in_feats, tuple))
    return Case(
        name,
        lambda: SAGEConv(in_feats, out_feats, reduce=reduce, bias=bias),
        reference,
        isolated,
        in_feats=in_feats,
        edge=edge,
        needs_dst=True,
        counterpart=(lambda: dgl.nn.SAGEConv(in_feats, out_feats, reduce, bias=bias)) if in_dgl else None,
    )


CASES = [
    case("mean"),
    case("mean-weighted", edge="weight"),
    case("mean-widening-weighted", in_feats=3, out_feats=6, edge="weight"),
    case("mean-pair-no-bias", in_feats=(4, 6), bias=False),
    case("mean-pair-weighted", in_feats=(2, 6), out_feats=4, edge="weight"),
    *(case(f"{reduce}-{width}", in_feats=width, reduce=reduce) for reduce in ("sum", "max") for width in (2, 5)),
    case("sum-weighted", reduce="sum", edge="weight"),
    case("max-weighted", reduce="max", edge="weight", bias=False),
    case("pool", in_feats=(2, 6), reduce="pool"),
    case("pool-weighted", reduce="pool", edge="weight"),
    case("gcn", reduce="gcn"),
    case("gcn-widening-weighted", in_feats=3, out_feats=6, reduce="gcn", edge="weight"),
    case("gcn-pair-no-bias", in_feats=(4, 4), reduce="gcn", bias=False),
]

test_every_graph = on_every_graph(CASES)
test_properties = properties(CASES)


def test_by_hand():
    """0 -> 2 <- 1, 2 -> 0, W_self = 1, W_neigh = 10, c = 0.5; weights 1, 3 and 5."""
    graph, weight = dgl.graph(([0, 1, 2], [2, 2, 0])), torch.tensor([1.0, 3.0, 5.0])
    x = torch.tensor([[1.0], [2.0], [4.0]])

    def rows(reduce, edge=None):
        conv = SAGEConv(1, 1, reduce=reduce)
        conv.load_state_dict({k: torch.full_like(v, values[k]) for k, v in conv.state_dict().items()})
        return conv(graph, x, edge).flatten().tolist()

    values = {"fc_self.weight": 1.0, "fc_self.bias": 0.5, "fc_neigh.weight": 10.0}
    assert rows("mean") == [41.5, 2.5, 19.5]
    assert rows("sum") == [41.5, 2.5, 34.5]
    assert rows("max") == [41.5, 2.5, 24.5]
    assert rows("mean", weight) == [201.5, 2.5, 39.5]  # (1 * 1 + 3 * 2) / 2 in-edges, not / 4
    assert rows("max", weight) == [201.5, 2.5, 64.5]


@pytest.mark.parametrize("widths", [(5, 3), (3, 5)])
def test_sampled_blocks_give_what_dgl_gives(widths):
    layer = next(c for c in CASES if c.name == "mean")
    for block in sampled_blocks(2):
        conv, counterpart = SAGEConv(*widths).double(), dgl.nn.SAGEConv(*widths, "mean").double()
        conv.load_state_dict(counterpart.state_dict())
        args = inputs(layer, block)._replace(x=torch.randn(block.num_src_nodes(), widths[0], dtype=torch.float64))
        assert_close(outputs_and_gradients(conv, args), outputs_and_gradients(counterpart, args), 1e-12)


def test_its_state_is_that_of_dgl():
    for layer in (layer for layer in CASES if layer.counterpart):
        conv, counterpart = counterpart_of(layer, torch.float64)
        assert {k: v.shape for k, v in conv.state_dict().items()} == {
            k: v.shape for k, v in counterpart.state_dict().items()
        }


@pytest.mark.parametrize(("reduce", "width"), [("mean", 3), ("sum", 3), ("max", 9)])
def test_messages_are_as_narrow_as_the_reduction_allows(reduce, width, monkeypatch):
    """A sum may run on transformed features; a maximum may not."""
    seen = []

    def spy(graph, x, *rest):
        seen.append(x.shape[-1])
        return aggregate(graph, x, *rest)

    monkeypatch.setattr("gnnlib.nn.conv.sage.aggregate", spy)
    SAGEConv(9, 3, reduce=reduce)(random_graph(), torch.randn(11, 9))
    assert seen == [width]


def test_bad_reduce_is_refused():
    with pytest.raises(ValueError, match="one of 'mean', 'sum', 'max', 'pool', 'gcn', got 'lstm'"):
        SAGEConv(5, 3, reduce="lstm")
    with pytest.raises(ValueError, match=r"equal widths for reduce='gcn', got \(5, 7\)"):
        SAGEConv((5, 7), 3, reduce="gcn")


def test_two_widths_want_a_pair_on_one_node_set_too():
    with pytest.raises(ValueError, match=r"destinations of shape \(11, ..., 7\), got \(11, 5\)"):
        SAGEConv((5, 7), 3)(random_graph(), torch.ones(11, 5))


def test_a_bipartite_graph_takes_two_widths():
    graph = bipartite()
    assert SAGEConv((5, 7), 3)(graph, (torch.ones(6, 5), torch.ones(4, 7))).shape == (4, 3)


def test_without_weights_no_number_is_made_for_an_edge():
    with counted_kernels() as called:
        SAGEConv(5, 3)(random_graph(), torch.randn(11, 5))
    assert called.count("scaled_sum") == 1
    assert not {"neighbour_sum", "edge_dot"} & set(called)
