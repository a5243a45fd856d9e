"""What all rewirings have in common: batches, features, loops, seeds; shortcuts; statistics."""

import math

import networkx as nx
import numpy as np
import pytest
import torch

from gnnlib import Graph
from gnnlib._platform.dgl import dgl
from gnnlib.analysis.squashing import balanced_forman_curvature, spectral_gap
from gnnlib.graph import add_self_loop, batch, edge_endpoints, new_graph, unbatch
from gnnlib.rewiring import add_k_hop_edges, add_virtual_node, fosr, graph_statistics, gtr, rewiring_effect, sdrf
from gnnlib.testing.graphs import random_graph
from tests.analysis.squashing.test_resistance import from_networkx

BARBELL, TREE = nx.barbell_graph(5, 1), nx.balanced_tree(2, 3)
METHODS = {
    "sdrf": lambda graph, **options: sdrf(graph, 3, **options),
    "sdrf, tau": lambda graph, **options: sdrf(graph, 3, tau=1.0, max_curvature=0.5, **options),
    "fosr": lambda graph, **options: fosr(graph, 3, **options),
    "gtr": lambda graph, **options: gtr(graph, 3, **options),
    "k-hop": lambda graph, **options: add_k_hop_edges(graph, 2, **options),
    "virtual node": add_virtual_node,
}


def ends(graph):
    return torch.stack(edge_endpoints(graph)).long()


@pytest.fixture(params=METHODS)
def rewire(request):
    return METHODS[request.param]


def test_a_batch_is_its_graphs(rewire):
    graphs = [add_self_loop(from_networkx(BARBELL)), new_graph([], [], 2), from_networkx(TREE), new_graph([], [], 0)]
    rewired = rewire(batch(graphs))
    assert rewired.batch_size == 4
    for part, graph in zip(unbatch(rewired), graphs, strict=True):
        assert torch.equal(ends(part), ends(rewire(graph)))
        assert part.num_nodes() == rewire(graph).num_nodes()


def test_features_loops_and_parallel_edges_stay(rewire):
    graph = from_networkx(BARBELL)
    src, dst = (
        torch.cat([end, end[:1], end[graph.num_edges() // 2 :][:1], torch.tensor([3])]) for end in graph.edges()
    )
    graph = new_graph(src, dst, graph.num_nodes(), idtype=torch.int32)
    graph.ndata["x"], graph.edata["w"] = torch.arange(11.0), torch.arange(1.0, 1 + graph.num_edges())
    rewired = rewire(graph, fill=-1.0)
    assert (rewired.idtype, type(rewired)) == (torch.int32, type(graph))
    assert rewired.ndata["x"][:11].tolist() == list(range(11))
    assert not rewired.ndata["x"][11:].any()
    remaining = rewired.edata["w"] > 0
    before = dict(zip(graph.edata["w"].tolist(), ends(graph).T.tolist()))
    assert all(before[w] == pair for w, pair in zip(rewired.edata["w"].tolist(), ends(rewired).T.tolist()) if w > 0)
    assert (rewired.edata["w"][~remaining] == -1).all()
    assert 3 in ends(rewired)[0][ends(rewired)[0] == ends(rewired)[1]]
    pairs = ends(rewired)[:, ~remaining].T.tolist()
    assert sorted(pairs) == sorted([v, u] for u, v in pairs)
    assert not {tuple(pair) for pair in pairs} & {tuple(pair) for pair in ends(graph).T.tolist()}


def test_new_edges_need_features(rewire):
    graph = from_networkx(BARBELL)
    graph.edata["w"] = torch.ones(graph.num_edges())
    with pytest.raises(ValueError, match="expected fill, the features of new edges, as edges have w, got None"):
        rewire(graph)


def test_the_seed_decides(rewire):
    graph = from_networkx(nx.random_regular_graph(3, 20, seed=0))
    assert torch.equal(ends(rewire(graph)), ends(rewire(graph)))
    converted = rewire(Graph(graph))
    assert isinstance(converted, Graph)
    assert torch.equal(ends(converted), ends(rewire(graph)))


@pytest.mark.parametrize("method", [sdrf, fosr])
def test_seeds_differ(method):
    graph = from_networkx(nx.disjoint_union_all([nx.random_regular_graph(3, 10, seed=0)] * 2))
    results = {tuple(ends(method(graph, 4, seed=seed)).flatten().tolist()) for seed in range(6)}
    assert len(results) > 1


def test_a_float_is_a_fraction_of_the_edges_of_each_graph():
    graphs = batch([from_networkx(TREE), from_networkx(nx.path_graph(5))])  # 14 and 4 edges
    for method in (fosr, gtr, sdrf):
        added = method(graphs, 0.25).batch_num_edges() - graphs.batch_num_edges()
        assert added.tolist() == [2 * 4, 2 * 1]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda g: sdrf(g, -1), "sdrf: expected num_edges >= 0, got -1"),
        (lambda g: fosr(g, -0.5), "fosr: expected an integer num_edges >= 0, got -0.5"),
        (lambda g: gtr(g, math.nan), "gtr: expected an integer num_edges >= 0, got nan"),
        (lambda g: sdrf(g, 1, tau=-1), "sdrf: expected a number tau >= 0, got -1"),
        (lambda g: sdrf(g, 1, seed=-1), "sdrf: expected seed >= 0, got -1"),
        (lambda g: sdrf(g, 1, max_curvature="1"), "sdrf: expected a number max_curvature, got '1'"),
        (lambda g: fosr(g, 1, power_iterations=0), "fosr: expected power_iterations >= 1, got 0"),
        (lambda g: add_k_hop_edges(g, 0), "add_k_hop_edges: expected k >= 1, got 0"),
        (
            lambda g: gtr(random_graph(), 1),
            "gtr: expected every edge in both directions, got 14 pairs of nodes that differ",
        ),
        (lambda g: add_virtual_node(dgl.create_block(([0], [0]))), "expected one node type and one edge type"),
    ],
)
def test_wrong_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call(from_networkx(TREE))


# shortcuts


@pytest.mark.parametrize("k", [1, 2, 3])
def test_k_hop_edges_are_those_of_shortest_paths(k):
    graph = random_graph()
    directed = nx.DiGraph(ends(graph).T.tolist())
    lengths = dict(nx.all_pairs_shortest_path_length(directed, k))
    expected = {(u, v) for u, near in lengths.items() for v, d in near.items() if d > 0} | set(directed.edges())
    rewired = add_k_hop_edges(graph, k)
    assert set(map(tuple, ends(rewired).T.tolist())) == expected
    assert rewired.num_edges() == graph.num_edges() + len(expected) - directed.number_of_edges()
    assert torch.equal(ends(rewired)[:, : graph.num_edges()], ends(graph))


def test_the_virtual_node_is_that_of_pyg():
    pyg = pytest.importorskip("torch_geometric", reason="PyTorch Geometric is not installed")
    graph, x = random_graph(), torch.randn(11, 3)
    data = pyg.data.Data(x=x, edge_index=ends(graph))
    expected = pyg.transforms.VirtualNode()(data)
    graph.ndata["x"] = x
    rewired = add_virtual_node(graph)
    assert sorted(ends(rewired).T.tolist()) == sorted(expected.edge_index.T.tolist())
    assert torch.equal(rewired.ndata["x"], expected.x)


# statistics


@pytest.mark.parametrize(
    ("graph", "gap"),
    [
        (nx.complete_graph(6), 6 / 5),
        (nx.cycle_graph(9), 1 - math.cos(2 * math.pi / 9)),
        (nx.path_graph(60), 1 - math.cos(math.pi / 59)),
        (nx.star_graph(6), 1),
        (nx.disjoint_union(nx.path_graph(3), nx.path_graph(2)), 0),
    ],
    ids=str,
)
def test_spectral_gap_of_known_graphs(monkeypatch, graph, gap):
    """Chung 1997, examples 1.1 to 1.5; from all eigenvalues and by the Lanczos method."""
    assert spectral_gap(from_networkx(graph)).item() == pytest.approx(gap, abs=1e-9)
    monkeypatch.setattr("gnnlib.analysis.squashing.gap.DENSE", 0)
    assert spectral_gap(from_networkx(graph)).item() == pytest.approx(gap, abs=1e-9)


def test_spectral_gap_of_a_batch():
    gaps = spectral_gap(batch([add_self_loop(from_networkx(TREE)), new_graph([], [], 1), from_networkx(BARBELL)]))
    expected = [np.linalg.eigvalsh(nx.normalized_laplacian_matrix(g).toarray())[1] for g in (TREE, BARBELL)]
    assert gaps[[0, 2]].tolist() == pytest.approx(expected)
    assert gaps[1].isnan()


def test_graph_statistics():
    graph = add_self_loop(from_networkx(BARBELL))
    statistics = graph_statistics(graph)
    degree, curvature = [d for _, d in BARBELL.degree()], balanced_forman_curvature(from_networkx(BARBELL))
    assert (statistics.nodes, statistics.edges, statistics.max_degree) == (11, BARBELL.size(), max(degree))
    assert statistics.mean_degree == pytest.approx(np.mean(degree))
    assert (statistics.min_curvature, statistics.mean_curvature) == pytest.approx(
        (curvature.min().item(), curvature.mean().item())
    )
    assert statistics.spectral_gap == spectral_gap(graph).item()
    empty = graph_statistics(new_graph([], [], 2))
    assert (empty.edges, empty.mean_degree, empty.spectral_gap) == (0, 0, 0)
    assert math.isnan(empty.min_curvature)


def test_what_each_rewiring_does():
    """The papers' claims on a bottleneck: SDRF for the lowest curvature, the others for the gap."""
    graph = from_networkx(BARBELL)
    effects = {name: rewiring_effect(graph, rewire(graph)) for name, rewire in METHODS.items()}
    assert all(effect.before == graph_statistics(graph) for effect in effects.values())
    assert effects["sdrf"].after.min_curvature > effects["sdrf"].before.min_curvature
    for name in ("fosr", "gtr", "k-hop", "virtual node"):
        assert effects[name].after.spectral_gap > effects[name].before.spectral_gap, name
    assert effects["virtual node"].after.max_degree == 11
    assert "spectral_gap" in str(effects["gtr"])
