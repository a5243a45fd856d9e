"""Neighbourhood scores of pairs against networkx, and their dependence on the link that is scored."""

import networkx as nx
import pytest
import torch

from gnnlib import ops
from gnnlib.graph import new_graph, remove_links
from gnnlib.ops import pair_scores

SCORES = ("common_neighbors", "adamic_adar", "resource_allocation", "personalized_pagerank")


def pair_of(n=24, chance=0.25, seed=0):
    """A networkx graph with a node without neighbours and a leaf; and the same graph with a self-loop, an edge twice
    and another in one direction only."""
    reference = nx.gnp_random_graph(n, chance, seed=seed)
    reference.remove_edges_from(list(reference.edges(0)))
    reference.remove_edges_from([edge for edge in reference.edges(1) if set(edge) != {1, 5}])
    reference.add_edge(1, 5)
    pairs = sorted(reference.edges)
    src, dst = torch.tensor(pairs).T
    loop = torch.tensor([3])
    return reference, new_graph(torch.cat([src, dst[1:], src[2:3], loop]), torch.cat([dst, src[1:], dst[2:3], loop]), n)


def all_pairs(n):
    return torch.triu_indices(n, n, 1)


def reference_scores(name, graph, pairs, alpha, k):
    if name == "common_neighbors":
        return [len(list(nx.common_neighbors(graph, u, v))) for u, v in pairs]
    if name == "adamic_adar":
        return [p for _, _, p in nx.adamic_adar_index(graph, pairs)]
    if name == "resource_allocation":
        return [p for _, _, p in nx.resource_allocation_index(graph, pairs)]
    adjacency = torch.from_numpy(nx.to_numpy_array(graph)).double()
    steps = adjacency / adjacency.sum(1, keepdim=True).clamp(1)
    rank = alpha * sum((1 - alpha) ** i * torch.linalg.matrix_power(steps, i) for i in range(k + 1))
    return [float(rank[u, v] + rank[v, u]) for u, v in pairs]


@pytest.mark.parametrize("entries", [1 << 22, 7])
@pytest.mark.parametrize("name", SCORES)
def test_networkx(name, entries, monkeypatch):
    """In one chunk, and in chunks of a pair or a node."""
    monkeypatch.setattr(pair_scores, "MAX_ENTRIES", entries)
    reference, graph = pair_of()
    u, v = all_pairs(24)
    options = {"alpha": 0.2, "k": 12} if name == "personalized_pagerank" else {}
    scores = getattr(ops, name)(graph, u, v, **options)
    expected = reference_scores(name, reference, list(zip(u.tolist(), v.tolist())), 0.2, 12)
    assert scores.dtype == torch.float32
    torch.testing.assert_close(scores, torch.tensor(expected, dtype=torch.float32))
    assert 0 < int((scores > 0).sum()) < len(scores)
    torch.testing.assert_close(scores, getattr(ops, name)(graph, v, u, **options))


def test_pagerank_of_networkx():
    """On a connected graph, all steps are networkx's personalised PageRank."""
    reference = nx.karate_club_graph()
    src, dst = torch.tensor(list(reference.edges)).T
    expected = [
        nx.pagerank(reference, 0.85, {u: 1}, tol=1e-12, weight=None)[v]
        + nx.pagerank(reference, 0.85, {v: 1}, tol=1e-12, weight=None)[u]
        for u, v in ((0, 33), (5, 26))
    ]
    scores = ops.personalized_pagerank(new_graph(src, dst, 34), [0, 5], [33, 26], k=150)
    torch.testing.assert_close(scores, torch.tensor(expected), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", SCORES)
def test_the_link_itself(name):
    """It changes the score of PageRank alone."""
    _, graph = pair_of()
    links = torch.stack(graph.edges()).T
    links = links[links[:, 0] != links[:, 1]][:6]
    score = getattr(ops, name)
    for pair in links:
        u, v = pair[:1], pair[1:]
        same = torch.allclose(score(graph, u, v), score(remove_links(graph, u, v), u, v))
        assert same == (name != "personalized_pagerank")


@pytest.mark.parametrize("name", SCORES)
def test_no_pairs_and_no_edges(name):
    empty = new_graph([], [], 5)
    assert getattr(ops, name)(empty, [], []).shape == (0,)
    assert getattr(ops, name)(empty, [0, 1], [2, 3]).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("name", SCORES)
def test_invalid_arguments(name):
    _, graph = pair_of()
    with pytest.raises(ValueError, match=f"{name}: expected u and v of one length, got 1 and 2"):
        getattr(ops, name)(graph, [0], [1, 2])
    with pytest.raises(IndexError, match=f"{name}: v: expected numbers from -24 to 23, got 24"):
        getattr(ops, name)(graph, [0], [24])


@pytest.mark.parametrize(
    ("options", "message"), [({"alpha": 1}, "alpha between 0 and 1, got 1"), ({"k": 0}, "k >= 1, got 0")]
)
def test_invalid_walks(options, message):
    with pytest.raises(ValueError, match=f"personalized_pagerank: expected {message}"):
        ops.personalized_pagerank(pair_of()[1], [0], [1], **options)
