"""Transforms: dgl's graphs, with batch sizes and frames value."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gnnlib._platform.dgl import dgl
from gnnlib.graph import add_edges, add_self_loop, keep_edges, keep_nodes, remove_links, reverse
from gnnlib.grid import lattice
from gnnlib.testing.graphs import BIPARTITE, GRAPHS, HOMOGENEOUS, batch, endpoints, graph_strategy, random_graph

few = settings(deadline=None, max_examples=40, derandomize=True)


@few
@given(graph_strategy(), st.data())
def test_keep_edges_is_dgls_subgraph_on_the_same_nodes(graph, data):
    keep = torch.tensor(data.draw(st.lists(st.booleans(), min_size=graph.num_edges(), max_size=graph.num_edges())))
    keep = keep.bool()
    graph.edata["value"] = torch.randn(graph.num_edges(), 2)
    graph.ndata["pos"] = torch.randn(graph.num_nodes(), 2)
    actual, expected = keep_edges(graph, keep), dgl.edge_subgraph(graph, keep, relabel_nodes=False)
    assert torch.equal(torch.stack(endpoints(actual)), torch.stack(endpoints(expected)))
    assert torch.equal(actual.edata["value"], expected.edata["value"])
    assert torch.equal(actual.ndata["pos"], graph.ndata["pos"])


@pytest.mark.parametrize("name", GRAPHS)
def test_keep_edges_of_every_graph(name):
    graph = GRAPHS[name]()
    graph.srcdata["pos"] = torch.randn(graph.num_src_nodes(), 2)
    graph.edata["value"] = torch.randn(graph.num_edges())
    for keep in (torch.ones(graph.num_edges()).bool(), torch.arange(graph.num_edges()) % 2 == 1):
        smaller = keep_edges(graph, keep)
        assert torch.equal(torch.stack(endpoints(smaller)), torch.stack([end[keep] for end in endpoints(graph)]))
        assert torch.equal(smaller.edata["value"], graph.edata["value"][keep])
        assert torch.equal(smaller.srcdata["pos"], graph.srcdata["pos"])
        assert (smaller.idtype, smaller.is_block) == (graph.idtype, graph.is_block)
        assert smaller.ntypes == graph.ntypes


def test_keep_edges_keeps_batches():
    graph = batch()
    smaller = keep_edges(graph, torch.arange(graph.num_edges()) != 10)
    assert smaller.batch_num_nodes().tolist() == [6, 0, 3, 4]
    assert smaller.batch_num_edges().tolist() == [9, 0, 0, 2]
    pair = dgl.batch([GRAPHS["bipartite"](), GRAPHS["bipartite"]()])
    smaller = keep_edges(pair, torch.arange(16) >= 4)
    assert smaller.batch_num_nodes("in").tolist() == [6, 6]
    assert smaller.batch_num_nodes("out").tolist() == [4, 4]
    assert smaller.batch_num_edges().tolist() == [4, 8]


@pytest.mark.parametrize(
    ("keep", "message"),
    [
        (torch.ones(22).bool(), r"shape \(23,\), got torch.bool \(22,\)"),
        (torch.ones(23), r"shape \(23,\), got torch.float32 \(23,\)"),
        (torch.ones(23, 1).bool(), r"shape \(23,\), got torch.bool \(23, 1\)"),
    ],
)
def test_keep_edges_invalid_mask(keep, message):
    with pytest.raises(ValueError, match=message):
        keep_edges(random_graph(), keep)


@few
@given(graph_strategy(), st.data())
def test_keep_nodes_is_dgls_subgraph(graph, data):
    keep = torch.tensor(data.draw(st.lists(st.booleans(), min_size=graph.num_nodes(), max_size=graph.num_nodes())))
    keep = keep.bool()
    graph.edata["value"] = torch.arange(graph.num_edges())
    graph.ndata["pos"] = torch.randn(graph.num_nodes(), 2)
    actual, expected = keep_nodes(graph, keep), dgl.node_subgraph(graph, keep)
    order = expected.edata["value"].argsort()
    assert torch.equal(torch.stack(endpoints(actual)), torch.stack(endpoints(expected))[:, order])
    assert torch.equal(actual.edata["value"], expected.edata["value"][order])
    assert torch.equal(actual.ndata["pos"], graph.ndata["pos"][keep])


@pytest.mark.parametrize("name", HOMOGENEOUS)
def test_keep_nodes_keeps_the_index_type_and_takes_all_or_none(name):
    graph = GRAPHS[name]()
    complete, none = (keep_nodes(graph, torch.full((graph.num_nodes(),), value)) for value in (True, False))
    assert torch.equal(torch.stack(endpoints(complete)), torch.stack(endpoints(graph)))
    assert (none.num_nodes(), none.num_edges()) == (0, 0)
    assert complete.idtype == none.idtype == graph.idtype


def test_keep_nodes_keeps_batches():
    keep = torch.tensor([True] * 6 + [False, False, True] + [True, True, True, False])
    smaller = keep_nodes(batch(), keep)
    assert smaller.batch_num_nodes().tolist() == [6, 0, 1, 3]
    assert smaller.batch_num_edges().tolist() == [9, 0, 0, 2]


@pytest.mark.parametrize("name", BIPARTITE)
def test_keep_nodes_needs_one_node_set(name):
    with pytest.raises(ValueError, match="one node set"):
        keep_nodes(GRAPHS[name](), torch.ones(3).bool())


def test_keep_nodes_invalid_mask():
    with pytest.raises(ValueError, match=r"shape \(11,\), got torch.bool \(10,\)"):
        keep_nodes(random_graph(), torch.ones(10).bool())


@pytest.mark.parametrize("name", HOMOGENEOUS)
def test_add_edges_are_dgls(name):
    graph = GRAPHS[name]()
    graph.edata["value"], graph.ndata["pos"] = torch.rand(graph.num_edges(), 2), torch.randn(graph.num_nodes(), 2)
    parts, offset = dgl.unbatch(graph.formats(["coo"])), 0
    new, expected = [], []
    for part in parts:
        ends = torch.randint(max(1, part.num_nodes()), (2, 3 * (part.num_nodes() > 0)), dtype=graph.idtype)
        expected.append(dgl.add_edges(part, *ends, {"value": torch.full((ends.shape[1], 2), 7.0)}))
        new.append(ends + offset)
        offset += part.num_nodes()
    larger = add_edges(graph, *torch.cat(new, 1).flip(1), fill=7.0)  # the graphs of a batch in any order
    assert larger.idtype == graph.idtype
    assert torch.equal(larger.ndata["pos"], graph.ndata["pos"])
    for after, reference in zip(dgl.unbatch(larger), expected, strict=True):
        before = reference.num_edges() - (3 if reference.num_nodes() else 0)
        pairs, reference_pairs = (torch.stack(endpoints(one)) for one in (after, reference))
        assert torch.equal(pairs[:, :before], reference_pairs[:, :before])
        assert torch.equal(pairs[:, before:].flip(1), reference_pairs[:, before:])
        assert torch.equal(after.edata["value"], reference.edata["value"])


@pytest.mark.parametrize(
    ("ends", "message"),
    [
        ((torch.tensor([0]), torch.tensor([0, 1])), "add_edges: expected as many src as dst, got 1 and 2"),
        ((torch.tensor([0]), torch.tensor([13])), "dst: expected nodes from 0 to 12, got 13 to 13"),
        ((torch.tensor([0.5]), torch.tensor([1])), r"src: expected numbers of nodes \(A,\), got torch.float32 \(1,\)"),
        ((torch.tensor([0]), torch.tensor([12])), "expected both nodes of an edge in one graph of the batch"),
    ],
)
def test_add_edges_invalid_ends(ends, message):
    with pytest.raises(ValueError, match=message):
        add_edges(batch(), *ends)


@pytest.mark.parametrize("name", HOMOGENEOUS)
def test_add_self_loop_adds_one_to_each_node(name):
    graph = GRAPHS[name]()
    graph.edata["value"] = 1 + torch.rand(graph.num_edges())
    larger = add_self_loop(graph)
    assert larger.idtype == graph.idtype
    assert larger.batch_num_nodes().tolist() == graph.batch_num_nodes().tolist()
    for before, after in zip(dgl.unbatch(graph.formats(["coo"])), dgl.unbatch(larger), strict=True):
        new = torch.arange(before.num_nodes(), dtype=graph.idtype)
        expected = torch.stack([torch.cat([end, new]) for end in endpoints(before)])
        assert torch.equal(torch.stack(endpoints(after)), expected)
        assert torch.equal(after.edata["value"], torch.cat([before.edata["value"], torch.ones(len(new))]))


def test_add_self_loop_keeps_batches():
    larger = add_self_loop(batch())
    assert larger.batch_num_nodes().tolist() == [6, 0, 3, 4]
    assert larger.batch_num_edges().tolist() == [9 + 6, 0, 3, 3 + 4]


@pytest.mark.parametrize("name", BIPARTITE)
def test_add_self_loop_needs_one_node_set(name):
    with pytest.raises(ValueError, match="one node set"):
        add_self_loop(GRAPHS[name]())


@few
@given(graph_strategy(), st.integers(0, 1000))
def test_remove_links_in_both_directions(graph, seed):
    """Every edge of a pair goes, parallel ones too; the others stay in order, with their features."""
    n = graph.num_nodes()
    pairs = torch.randint(n, (2, 5), generator=torch.Generator().manual_seed(seed)) if n else torch.empty(2, 0)
    removed = {pair for u, v in pairs.T.tolist() for pair in ((u, v), (v, u))}
    graph.edata["number"] = torch.arange(graph.num_edges())
    rest = remove_links(graph, *pairs)
    edges = list(zip(*(end.tolist() for end in endpoints(graph))))
    expected = [i for i, edge in enumerate(edges) if edge not in removed]
    assert rest.edata["number"].tolist() == expected
    assert list(zip(*(end.tolist() for end in endpoints(rest)))) == [edges[i] for i in expected]
    assert rest.num_nodes() == n


def test_remove_links_keeps_batches():
    graph = batch()
    src, dst = endpoints(graph)
    rest = remove_links(graph, src[:1], dst[:1])
    assert rest.batch_num_nodes().tolist() == graph.batch_num_nodes().tolist()
    assert rest.num_edges() == int(rest.batch_num_edges().sum()) < graph.num_edges()


def test_remove_links_of_pairs_that_are_none():
    with pytest.raises(ValueError, match="remove_links: expected u and v of one length, got 1 and 2"):
        remove_links(random_graph(5, 9), [0], [1, 2])
    with pytest.raises(IndexError, match="remove_links: u: expected numbers from -5 to 4, got 5"):
        remove_links(random_graph(5, 9), [5], [1])


def test_reversing_keeps_frames_and_sizes():
    batch = dgl.batch([lattice((4, 4), 2, stride=2)] * 3)
    turned = reverse(batch)
    assert turned.batch_size == 3
    assert turned.canonical_etypes == [("out", "tap", "in")]
    assert torch.equal(turned.edata["tap"], batch.edata["tap"])
    assert turned.batch_num_nodes("in").tolist() == [16] * 3
    again = reverse(turned)
    assert all(torch.equal(a, b) for a, b in zip(endpoints(again), endpoints(batch)))
