"""Links held out: disjoint, undirected, none of them in the graph that is left, and pairs drawn evenly."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gnnlib import datasets
from gnnlib._platform.dgl import dgl
from gnnlib.datasets.links import _number, _pair


def drawn(n, seed, chance=0.3):
    link = (torch.rand(n, n, generator=torch.Generator().manual_seed(seed)) < chance).triu(1)
    src, dst = (link | link.T).nonzero(as_tuple=True)
    return dgl.graph((src, dst), num_nodes=n)


def pairs(graph):
    u, v = graph.edges()
    return set(zip(u.tolist(), v.tolist()))


def both(links):
    """The pairs that are linked and those that are not."""
    uv = list(zip(links.u.tolist(), links.v.tolist()))
    linked = links.linked.bool().tolist()
    return [{pair for pair, yes in zip(uv, linked) if yes is kind} for kind in (True, False)]


@settings(max_examples=40)
@given(st.integers(8, 40), st.integers(0, 1000))
def test_a_split_is_a_partition_of_the_links(n, seed):
    graph = drawn(n, seed)
    links = {(u, v) for u, v in pairs(graph) if u < v}
    split = datasets.link_split(graph, seed, val=0.2, test=0.3)
    remaining = pairs(split.graph)
    assert split.graph.num_nodes() == n
    assert remaining == {(v, u) for u, v in remaining}, "undirected"
    assert len(remaining) == split.graph.num_edges(), "each once"
    (val, no_val), (test, no_test) = both(split.val), both(split.test)
    assert len(val) == len(no_val) == int(0.2 * len(links))
    assert len(test) == len(no_test) == int(0.3 * len(links))
    train = {(u, v) for u, v in remaining if u < v}
    assert train | val | test == links
    assert len(train) + len(val) + len(test) == len(links), "disjoint"
    assert not (no_val | no_test) & links
    assert not no_val & no_test
    assert all(0 <= u < v < n for u, v in no_val | no_test | val | test)


def test_seed():
    graph = drawn(30, 0)
    first, again, other = (datasets.link_split(graph, seed) for seed in (1, 1, 2))
    for a, b in zip((first.val, first.test), (again.val, again.test)):
        assert all(torch.equal(x, y) for x, y in zip(a, b))
    assert pairs(first.graph) == pairs(again.graph)
    assert pairs(first.graph) != pairs(other.graph)


def test_multi_edges_self_loops_and_node_data():
    graph = drawn(30, 0)
    u, v = graph.edges()
    loops = torch.arange(30)
    messy = dgl.graph((torch.cat([v, u, loops]), torch.cat([u, v, loops])), num_nodes=30, idtype=torch.int32)
    messy.ndata["feat"] = torch.rand(30, 2)
    split = datasets.link_split(messy, 3)
    assert torch.equal(split.graph.ndata["feat"], messy.ndata["feat"])
    assert pairs(split.graph) == pairs(datasets.link_split(graph, 3).graph)


def test_pairs_without_a_link_are_equally_likely():
    """A ring of 7: of the 14 others, 1 for validation and 1 for the test a split."""
    ring = dgl.to_bidirected(dgl.graph((torch.arange(7), (torch.arange(7) + 1) % 7)))
    counts = {}
    for seed in range(700):
        for part in datasets.link_split(ring, seed, val=0.15, test=0.15)[1:]:
            for pair in both(part)[1]:
                counts[pair] = counts.get(pair, 0) + 1
    assert len(counts) == 14
    assert all(60 < count < 145 for count in counts.values()), "100 each, within 4.5 deviations"


@given(st.lists(st.integers(0, 2**26 - 2), min_size=2, max_size=2, unique=True))
def test_pairs_are_numbered_without_a_gap(ends):
    u, v = np.array([min(ends)]), np.array([max(ends)])
    if v[0] * (v[0] - 1) // 2 < 2**50:
        assert [end.item() for end in _pair(_number(u, v))] == [u[0], v[0]]
    first = torch.stack(_pair(np.arange(45)))
    assert first.T.tolist() == [[u, v] for v in range(10) for u in range(v)]


def test_invalid_arguments():
    with pytest.raises(
        ValueError, match=r"link_split: expected shares val and test .* leave some links, got 0\.5 and 0\.5"
    ):
        datasets.link_split(drawn(10, 0), 0, 0.5, 0.5)
    clique = dgl.to_bidirected(dgl.graph(torch.ones(6, 6).triu(1).nonzero(as_tuple=True)))
    with pytest.raises(ValueError, match="expected 3 pairs of nodes without a link or more, got 0"):
        datasets.link_split(clique, 0, val=0.1, test=0.15)


def test_cora(data_dir):
    if not (data_dir / "planetoid" / "ind.cora.graph").is_file():
        pytest.skip(f"no real data: {data_dir}/planetoid has no cora")
    split = datasets.link_split(datasets.planetoid("cora", data_dir), 0)
    assert [split.graph.num_edges() // 2, len(split.val.u) // 2, len(split.test.u) // 2] == [4488, 263, 527]
