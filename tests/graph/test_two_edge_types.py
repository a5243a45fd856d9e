"""Graphs of one node type and two edge types: every function says that it needs one, or does not use edges."""

import pytest
import torch

import gnnlib
from gnnlib import models
from gnnlib._platform.dgl import dgl
from gnnlib.analysis import permutation_error
from gnnlib.analysis.smoothing import dirichlet_energy
from gnnlib.coarsening import coarsen, graclus
from gnnlib.graph import add_self_loop, adjacency, keep_edges, keep_nodes, reverse
from gnnlib.images import random_affine
from gnnlib.nn import DAGNN, Hops
from gnnlib.ops import aggregate, attend, edge_dot, edge_softmax, propagate

X = torch.ones(3, 2)


@pytest.fixture
def graph():
    return dgl.heterograph({("a", "x", "a"): ([0, 1], [1, 2]), ("a", "y", "a"): ([2], [0])})


NEED_ONE = {
    "adjacency": adjacency,
    "aggregate": lambda g: aggregate(g, X),
    "propagate": lambda g: propagate(g, X),
    "attend": lambda g: attend(g, X.view(3, 1, 2), torch.ones(1, 2), torch.ones(1, 2)),
    "edge_dot": lambda g: edge_dot(g, X, X),
    "edge_softmax": lambda g: edge_softmax(g, torch.ones(3)),
    "degree_norm": lambda g: gnnlib.ops.degree_norm(g, None),
    "keep_edges": lambda g: keep_edges(g, torch.ones(3).bool()),
    "keep_nodes": lambda g: keep_nodes(g, torch.ones(3).bool()),
    "add_self_loop": add_self_loop,
    "reverse": reverse,
    "random_affine": random_affine,
    "laplacian_encoding": lambda g: gnnlib.laplacian_encoding(g, 1),
    "random_walk_encoding": lambda g: gnnlib.random_walk_encoding(g, 1),
    "graclus": graclus,
    "coarsen": lambda g: coarsen(g, torch.tensor([0, 0, 1])),
    "permutation_error": lambda g: permutation_error(lambda g, x: x, g, X),
    "dirichlet_energy": lambda g: dirichlet_energy(g, X),
    "GraphStore": lambda g: gnnlib.GraphStore([g]),
    "DropEdge": lambda g: gnnlib.DropEdge(0.5)(g),
    "Hops": lambda g: Hops(2)(g, X),
    "DAGNN": lambda g: DAGNN(2)(g, X),
    "APPNP": lambda g: gnnlib.APPNP(2)(g, X),
    "VirtualNode": lambda g: gnnlib.VirtualNode([gnnlib.GNNLayer(gnnlib.GCNConv(2, 2))], 2)(g, X),
    "Stack": lambda g: gnnlib.Stack.build(gnnlib.SAGEConv, 2, 4, 3, 2)(g, X),
    "GCNII": lambda g: models.GCNII(2, 4, 3, 2)(g, X),
    "DropMessage": lambda g: gnnlib.DropMessage(gnnlib.GCNConv(2, 2), 0.5)(g, X),
}


@pytest.mark.parametrize("name", NEED_ONE)
def test_one_edge_type_is_expected(name, graph):
    with pytest.raises((TypeError, ValueError), match=r"expected .* edge type.*, got .*'x', .*'y'") as caught:
        NEED_ONE[name](graph)
    assert "\n" not in str(caught.value)


def test_readouts_and_norms_do_not_use_edges(graph):
    one = dgl.graph(([0], [1]), num_nodes=3)
    for layer in (gnnlib.readout_sum, gnnlib.readout_max, gnnlib.GraphNorm(2), gnnlib.PairNorm(), gnnlib.BatchNorm(2)):
        assert torch.equal(layer(graph, X), layer(one, X))
