"""Edges as nodes: copies to edges and sums over them, against indexing."""

import pytest
import torch

from gnnlib import adjacency, aggregate
from gnnlib.graph import Adjacency
from gnnlib.ops.edges_as_nodes import incidence
from gnnlib.testing.graphs import GRAPHS, endpoints


@pytest.mark.parametrize("name", GRAPHS)
def test_arrays_of_the_bipartite_graph(name):
    graph = GRAPHS[name]()
    adj, edge = adjacency(graph), torch.arange(graph.num_edges())
    for incident, endpoint, count in zip(incidence(graph), endpoints(graph), (adj.num_src, adj.num_dst)):
        expected = Adjacency.from_edges(endpoint, edge, count, len(edge))
        assert (incident.num_src, incident.num_dst) == (count, len(edge))
        for ours, theirs in zip(
            (*incident.csc, *incident.csr, incident.src), (*expected.csc, *expected.csr, expected.src)
        ):
            assert torch.equal(ours, theirs)


@pytest.mark.parametrize("name", ["random", "bipartite", "bare", "no_nodes"])
def test_copies_and_sums(name):
    graph = GRAPHS[name]()
    (src, dst), (from_src, from_dst) = endpoints(graph), incidence(graph)
    x = torch.randn(graph.num_src_nodes(), 2, 3, dtype=torch.float64, requires_grad=True)
    m = aggregate(from_src, x)
    assert torch.equal(m, x[src])
    total = torch.zeros(graph.num_dst_nodes(), 2, 3, dtype=torch.float64)
    torch.testing.assert_close(aggregate(from_dst.reverse(), m), total.index_add(0, dst, x[src]))
    assert torch.autograd.gradcheck(lambda x: aggregate(from_dst.reverse(), aggregate(from_src, x) ** 2), x)
