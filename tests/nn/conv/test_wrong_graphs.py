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
    "floats": (torch.ones(2, 3), r"nodes as integers, edge_index.long\(\), got torch.float32"),
    "features": (torch.ones(3, 4), r"the graph first, and then x, got a tensor of shape \(3, 4\)"),
    "square": (torch.zeros(3, 3).long(), r"an edge_index of shape \(2, E\), got \(3, 3\)"),
    "edges_as_rows": (torch.zeros(5, 2).long(), r"an edge_index of shape \(2, E\), edge_index.t\(\), got \(5, 2\)"),
    "beyond_x": (torch.tensor([[0, 1], [1, 3]]), r"nodes from 0 to 2, got 3; x has 3 rows"),
    "negative": (([0, -1], [1, 2]), r"nodes from 0 to 2, got -1; x has 3 rows"),
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
    partial(gnnlib.RelGraphConv, num_rels=3),
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


X, EDGES = torch.ones(3, 4), torch.tensor([[0, 1], [1, 2]])
WRONG_DATA = {
    "no edges": (lambda pyg: pyg.Data(x=X), r"a Data with edges in edge_index, got the keys \['x'\]"),
    "floats": (lambda pyg: pyg.Data(x=X, edge_index=EDGES.float()), r"nodes as integers, edge_index.long\(\), got .*"),
    "rows": (
        lambda pyg: pyg.Data(x=X, edge_index=torch.zeros(5, 2).long()),
        r"an edge_index .*, edge_index.t\(\), got .*",
    ),
    "beyond x": (lambda pyg: pyg.Data(x=X[:2], edge_index=EDGES), "nodes from 0 to 1, got 2"),
    "no edge types": (
        lambda pyg: pyg.HeteroData(a={"x": X}),
        r"a HeteroData with an edge_index .*, got the types \[\]",
    ),
    "type without edges": (
        lambda pyg: pyg.HeteroData({"a": {"x": X}, ("a", "to", "a"): {"edge_attr": X}}),
        r"a HeteroData with an edge_index of each edge type, got the types \[\('a', 'to', 'a'\)\]",
    ),
}


@pytest.mark.parametrize("kind", WRONG_DATA)
def test_wrong_data(kind):
    build, message = WRONG_DATA[kind]
    data = build(pytest.importorskip("torch_geometric.data"))
    with pytest.raises((TypeError, ValueError), match=f"^GCNConv: expected {message}$"):
        gnnlib.GCNConv(4, 2)(data, X)


def test_a_change_that_makes_a_graph_wrong():
    """The change is noticed at the next call."""
    edge_index, conv = EDGES.clone(), gnnlib.GCNConv(4, 2)
    data = pytest.importorskip("torch_geometric.data").Data(x=X, edge_index=EDGES)
    for graph in (edge_index, data):
        conv(graph, X)
    edge_index[1, 1], data.edge_index = 7, EDGES.t().repeat(2, 1)
    with pytest.raises(ValueError, match=r"^GCNConv: expected nodes from 0 to 2, got 7; x has 3 rows$"):
        conv(edge_index, X)
    with pytest.raises(ValueError, match=r"^GCNConv: expected an edge_index of shape \(2, E\), edge_index.t\(\), got"):
        conv(data, X)


def test_an_edge_index_of_no_edges_needs_no_type():
    assert torch.equal(gnnlib.SumReadout(4)(torch.zeros(2, 0), X), X.sum(0, keepdim=True))


def test_errors_about_features_stay():
    with pytest.raises(ValueError, match="expected x of shape"):
        gnnlib.GCNConv(4, 2)(random_graph(), torch.ones(11, 3))
