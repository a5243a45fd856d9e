"""Arguments that are not graphs: one sentence that says what to write."""

from functools import partial

import pytest
import scipy.sparse
import torch

import gnnlib
from gnnlib._platform.dgl import dgl
from gnnlib.grid import GridConv
from gnnlib.testing.graphs import random_graph

TYPES = dgl.heterograph({("a", "to", "a"): ([0], [1]), ("a", "of", "a"): ([1], [0])})
ANY = r"a graph \(DGL, PyG, networkx, SciPy, torch.sparse\) or an edge_index"

WRONG = {
    "floats": (torch.ones(2, 3), r"the graph first, and then x; .* got torch.float32 of shape \(2, 3\)"),
    "edges_as_rows": (torch.zeros(5, 2).long(), r"an edge_index of shape \(2, E\), edge_index.t\(\), got \(5, 2\)"),
    "beyond_x": (torch.tensor([[0, 1], [1, 3]]), r"nodes from 0 to 2, got 3"),
    "negative": (([0, -1], [1, 2]), r"nodes from 0 to 2, got -1"),
    "bool": (torch.ones(2, 3, dtype=torch.bool), r"nodes as integers, edge_index.long\(\), got torch.bool"),
    "ends": (([0, 1], [1]), r"one source and one destination per edge, got 2 and 1"),
    "float_scipy_size": (scipy.sparse.eye_array(4), r"x of shape \(4, .* got \(3, 4\)"),
    "list": ([random_graph()] * 2, r"one graph, gnnlib.graph.batch\(graphs\), or a Stack .* got a list of 2"),
    "types": (TYPES, r"a graph with one edge type, graph\[etype\], got the types \['of', 'to'\]"),
    "mapping": ({"graph": TYPES}, r"edge types \(source type, name, destination type\), got 'graph'"),
    "typed_mapping": (
        {("a", "to", "a"): ([0], [1]), ("a", "of", "a"): ([1], [0])},
        r"a graph with one edge type, graph\[etype\], got the types \['to', 'of'\]",
    ),
    "nothing": (None, rf"{ANY}, got None"),
    "number": (3, rf"{ANY}, got int"),
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


def test_data_without_edges():
    data = pytest.importorskip("torch_geometric.data").Data(x=torch.ones(3, 4))
    with pytest.raises(ValueError, match=r"GCNConv: expected a Data with edges in edge_index, got the keys \['x'\]"):
        gnnlib.GCNConv(4, 2)(data, data.x)


def test_errors_about_features_stay():
    with pytest.raises(ValueError, match="expected x of shape"):
        gnnlib.GCNConv(4, 2)(random_graph(), torch.ones(11, 3))
