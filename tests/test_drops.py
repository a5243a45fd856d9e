"""DropEdge: a smaller graph, never zero weights."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gnnlib import DropEdge
from gnnlib._dgl import dgl
from tests.graphs import GRAPHS, drawn, ends, random_graph

few = settings(deadline=None, max_examples=40, derandomize=True)


def number_edges(graph):
    graph.edata["id"] = torch.arange(graph.num_edges())
    return graph


@few
@given(drawn(), st.floats(0, 1), st.integers(0, 1000))
def test_a_subset_of_the_edges_in_their_order(graph, p, seed):
    number_edges(graph)
    weight = torch.randn(graph.num_edges())
    torch.manual_seed(seed)
    smaller, left = DropEdge(p)(graph, weight)
    kept = smaller.edata["id"]
    assert kept.tolist() == sorted(set(kept.tolist()))
    src, dst = ends(graph)
    assert torch.equal(torch.stack(ends(smaller)), torch.stack([src[kept], dst[kept]]))
    assert torch.equal(left, weight[kept])
    assert smaller.num_nodes() == graph.num_nodes()
    assert set(torch.nonzero(src == dst).flatten().tolist()) <= set(kept.tolist())
    degree = torch.zeros(graph.num_nodes(), dtype=torch.int64).index_add(0, dst[kept], torch.ones_like(kept))
    assert torch.equal(smaller.in_degrees(), degree)
    assert graph.num_edges() == len(weight)  # the graph itself is as it was


@few
@given(st.lists(drawn(max_nodes=5, max_edges=8), min_size=1, max_size=4), st.integers(0, 1000))
def test_batch_sizes_are_kept(graphs, seed):
    graph = number_edges(dgl.batch(graphs))
    torch.manual_seed(seed)
    smaller, _ = DropEdge(0.5)(graph)
    assert smaller.batch_size == len(graphs)
    assert smaller.batch_num_nodes().tolist() == [g.num_nodes() for g in graphs]
    assert int(smaller.batch_num_edges().sum()) == smaller.num_edges()
    bounds = torch.tensor([0, *(g.num_edges() for g in graphs)]).cumsum(0)
    inside = [int(((smaller.edata["id"] >= a) & (smaller.edata["id"] < b)).sum()) for a, b in pairwise(bounds.tolist())]
    assert smaller.batch_num_edges().tolist() == inside
    for part, size in zip(dgl.unbatch(smaller), inside):
        assert part.num_edges() == size


@pytest.mark.parametrize("name", GRAPHS)
def test_every_graph(name):
    graph = number_edges(GRAPHS[name]())
    feature = torch.randn(graph.num_edges(), 3)
    torch.manual_seed(0)
    smaller, left = DropEdge(0.6, keep_self_loops=False)(graph, feature)
    assert smaller.is_block == graph.is_block
    assert smaller.idtype == graph.idtype
    assert smaller.canonical_etypes == graph.canonical_etypes
    assert (smaller.num_src_nodes(), smaller.num_dst_nodes()) == (graph.num_src_nodes(), graph.num_dst_nodes())
    kept = smaller.edata["id"]
    assert torch.equal(left, feature[kept])
    assert torch.equal(torch.stack(ends(smaller)), torch.stack([end[kept] for end in ends(graph)]))
    assert set(smaller.srcdata) == set(graph.srcdata)  # a block still knows its destinations
    assert set(smaller.dstdata) == set(graph.dstdata)


def test_evaluation_and_zero_change_nothing():
    graph, weight = random_graph(), torch.randn(23)
    for drop in (DropEdge(0.9).eval(), DropEdge(0.0)):
        same, edge = drop(graph, weight)
        assert same is graph
        assert edge is weight
        assert drop(graph) == (graph, None)


def test_the_share_is_that_asked_for():
    graph = dgl.graph((torch.arange(10000), torch.arange(10000) + 1))
    torch.manual_seed(0)
    assert DropEdge(0.3)(graph)[0].num_edges() / 10000 == pytest.approx(0.7, abs=0.02)
    assert DropEdge(1.0)(graph)[0].num_edges() == 0


def test_self_loops_stay_or_go():
    graph = dgl.add_self_loop(dgl.graph(([0, 1, 2], [1, 2, 0])))
    smaller, _ = DropEdge(1.0)(graph)
    assert [end.tolist() for end in smaller.edges()] == [[0, 1, 2], [0, 1, 2]]
    assert DropEdge(1.0, keep_self_loops=False)(graph)[0].num_edges() == 0


def test_the_same_seed_drops_the_same_edges_and_each_step_others():
    graph, drop = number_edges(random_graph(20, 200)), DropEdge(0.5)

    def kept(seed):
        torch.manual_seed(seed)
        return [drop(graph)[0].edata["id"].tolist() for _ in range(2)]

    assert kept(1) == kept(1)
    assert kept(1)[0] != kept(1)[1]
    assert kept(1)[0] != kept(2)[0]


@pytest.mark.parametrize("p", [-0.1, 1.1, float("nan")])
def test_bad_probabilities_are_refused(p):
    with pytest.raises(ValueError, match=f"probability, got {p}"):
        DropEdge(p)
