"""Arguments that are not graphs: one sentence that says what to write."""

from functools import partial

import networkx
import numpy as np
import pytest
import scipy.sparse
import torch

import gnnlib
from gnnlib._platform.dgl import dgl
from gnnlib.grid import GridConv
from gnnlib.testing.graphs import random_graph

EDGES = torch.tensor([[0, 1], [1, 2]])
TYPES = dgl.heterograph({("a", "to", "a"): ([0], [1]), ("a", "of", "a"): ([1], [0])})

WRONG = {
    "edge_index": (
        EDGES,
        r"a DGL graph first, dgl.graph\(\(edge_index\[0\], .* tensor of shape \(2, 2\)",
    ),
    "numpy": (EDGES.numpy(), r"a DGL graph, dgl.graph\(\(edges\[0\], edges\[1\]\)\), got numpy.ndarray"),
    "scipy": (
        scipy.sparse.coo_array(np.eye(3)),
        r"a DGL graph, dgl.from_scipy\(matrix\), got scipy.sparse._coo.coo_array",
    ),
    "networkx": (networkx.path_graph(3), r"a DGL graph, dgl.from_networkx\(graph\), got networkx.classes.graph.Graph"),
    "list": ([random_graph()] * 2, r"one graph, dgl.batch\(graphs\), or a Stack .* got a list of 2"),
    "types": (TYPES, r"a graph with one edge type, graph\[etype\], got the types \['of', 'to'\]"),
    "nothing": (None, r"a DGL graph, dgl.graph\(\(src, dst\)\), got None"),
    "number": (3, r"a DGL graph, dgl.graph\(\(src, dst\)\), got int"),
}


LAYERS = [
    *(gnnlib.GCNConv, gnnlib.GATConv, gnnlib.SAGEConv, gnnlib.PNAConv, gnnlib.MessageConv, gnnlib.GINConv),
    *(gnnlib.SGConv, gnnlib.GATv2Conv, gnnlib.GatedGCNConv, partial(gnnlib.ChebConv, k=2)),
    *(partial(GridConv, kernel_size=2), partial(gnnlib.SplineConv, kernel_size=2)),
    *(partial(gnnlib.GCNEConv, edge_feats=2), partial(gnnlib.ECConv, edge_feats=2)),
]


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: getattr(layer, "func", layer).__name__)
@pytest.mark.parametrize("kind", WRONG)
def test_one_sentence(layer, kind):
    graph, message = WRONG[kind]
    conv = layer(4, 2)
    if isinstance(conv, gnnlib.SGConv) and kind == "list":
        message = "1 blocks, one for each hop, got 2"
    with pytest.raises((TypeError, ValueError), match=f"{type(conv).__name__}: expected {message}") as caught:
        conv(graph, torch.ones(3, 4))
    assert "\n" not in str(caught.value)


def test_pyg_data():
    data = pytest.importorskip("torch_geometric.data").Data(edge_index=EDGES, num_nodes=3)
    with pytest.raises(TypeError, match=r"expected a DGL graph, dgl.graph\(\(data.edge_index\[0\], .*, got torch_geo"):
        gnnlib.GCNConv(4, 2)(data, torch.ones(3, 4))


def test_errors_about_features_stay():
    with pytest.raises(ValueError, match="expected x of shape"):
        gnnlib.GCNConv(4, 2)(random_graph(), torch.ones(11, 3))
