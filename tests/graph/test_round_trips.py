"""Graphs in other libraries and back: the same nodes, edges, features, names and batch sizes in the same order."""

import copy
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gnnlib import Graph
from gnnlib._platform.dgl import dgl
from gnnlib.graph import batch, new_block, unbatch
from gnnlib.testing.graphs import GRAPHS

pyg = pytest.importorskip("torch_geometric.data")

NAMES = [
    *("feat", "x", "edge_attr", "attr", "_ID", "to", "feature_0", "node_feature_0", "edge_feature_0", "edge"),
    *("index", "edge_index", "my_index", "batch", "batches", "ptr", "num_nodes", "num_edges", "face", "adj_t"),  # PyG's
]
ROWS = {torch.float32: (2,), torch.float64: (1, 2), torch.int64: (), torch.bool: (), torch.int32: (0,)}
TYPES = {"graph": ([("_N", "_E", "_N")]), "typed": [("a", "to", "b"), ("b", "of", "a"), ("b", "to", "b")]}


def columns(names, num):
    """A feature for each name, of a type that depends on the name."""
    kinds = [list(ROWS)[len(name) % len(ROWS)] for name in names]
    return {name: torch.randint(2, (num, *ROWS[kind])).to(kind) for name, kind in zip(names, kinds)}


@st.composite
def graphs(draw, names=NAMES, types=TYPES["graph"], most=3):
    """A graph, or a batch of up to ``most``, with features of any name on nodes and edges of each type."""
    torch.manual_seed(0)
    frames = {kind: draw(st.lists(st.sampled_from(names), unique=True)) for kind in types}
    node_frames = {kind: draw(st.lists(st.sampled_from(names), unique=True)) for pair in types for kind in pair[::2]}
    parts = []
    for _ in range(draw(st.integers(1, most))):
        nums = {kind: draw(st.integers(0, 4)) for kind in node_frames}
        edges = {}
        for kind in types:
            num_src, num_dst = nums[kind[0]], nums[kind[2]]
            pairs = st.lists(st.tuples(st.integers(0, max(0, num_src - 1)), st.integers(0, max(0, num_dst - 1))))
            ends = draw(pairs) if num_src and num_dst else []
            edges[kind] = torch.tensor(ends, dtype=torch.int64).reshape(-1, 2).unbind(1)
        graph = Graph(edges, nums)
        for kind, num in nums.items():
            graph.nodes[kind].data.update(columns(node_frames[kind], num))
        for kind, (src, _) in edges.items():
            graph.edges[kind].data.update(columns(frames[kind], len(src)))
        parts.append(graph)
    return parts[0] if len(parts) == 1 and draw(st.booleans()) else batch(parts)


def frames(first, second):
    assert set(first) == set(second)
    for name, value in first.items():
        assert second[name].dtype == value.dtype
        assert torch.equal(second[name], value), name


def same(first, second, skip=()):
    """Whether two graphs, DGLGraphs or Graphs, are the same; ``skip`` are types whose features are not compared."""
    assert (first.is_block, first.idtype, first.batch_size) == (second.is_block, second.idtype, second.batch_size)
    assert (set(first.ntypes), set(first.canonical_etypes)) == (set(second.ntypes), set(second.canonical_etypes))
    assert (first.srctypes, first.dsttypes) == (second.srctypes, second.dsttypes)
    for kind in first.canonical_etypes:
        ends = [
            (graph if isinstance(graph, Graph) else graph.formats(["coo", "csr", "csc"])).edges(order="eid", etype=kind)
            for graph in (first, second)
        ]
        assert all(torch.equal(*end) and end[0].dtype == end[1].dtype for end in zip(*ends, strict=True))
        if kind not in skip:
            frames(first.edges[kind].data, second.edges[kind].data)
    if first.is_block:
        for kind in first.srctypes:
            assert first.num_src_nodes(kind) == second.num_src_nodes(kind)
        for kind in first.dsttypes:
            assert first.num_dst_nodes(kind) == second.num_dst_nodes(kind)
        frames(first.srcdata, second.srcdata)
        frames(first.dstdata, second.dstdata)
        return
    for kind in first.canonical_etypes:
        assert torch.equal(first.batch_num_edges(kind), second.batch_num_edges(kind))
    for kind in first.ntypes:
        assert first.num_nodes(kind) == second.num_nodes(kind)
        assert torch.equal(first.batch_num_nodes(kind), second.batch_num_nodes(kind))
        if kind not in skip:
            frames(first.nodes[kind].data, second.nodes[kind].data)


@pytest.mark.parametrize("types", TYPES)
@pytest.mark.parametrize("library", ["dgl", "pyg"])
def test_features_of_any_name_types_and_batches(library, types):
    @settings(max_examples=40)
    @given(graphs(types=TYPES[types]))
    def check(graph):
        if library == "dgl":
            same(Graph(graph.to_dgl()), graph)
            return
        data = graph.to_pyg()
        for copied in (data, copy.copy(data), copy.deepcopy(data), pickle.loads(pickle.dumps(data)), data.clone()):
            same(Graph(copied), graph)

    check()


@settings(max_examples=40)
@given(graphs())
def test_networkx(graph):
    """A graph without edges has no place for edge features in networkx."""
    skip = {kind for kind, num in (("_N", graph.num_nodes()), (("_N", "_E", "_N"), graph.num_edges())) if not num}
    same(Graph(graph.to_networkx()), graph, skip)


@settings(max_examples=40)
@given(graphs(names=["weight"]))
def test_scipy(graph):
    """A matrix has edges and one feature of them."""
    weight = "weight" if graph.edata else None
    graph.edata["weight"] = torch.rand(graph.num_edges())
    back = Graph(graph.to_scipy(weight))
    assert back.num_nodes() == graph.num_nodes()
    assert all(torch.equal(*ends) for ends in zip(back.edges(), graph.edges(), strict=True))
    assert torch.equal(back.edata["weight"], graph.edata["weight"] if weight else torch.ones(graph.num_edges()))


def featured(name):
    graph = GRAPHS[name]()
    torch.manual_seed(3)
    for frame, num in (
        (graph.srcdata, graph.num_src_nodes()),
        (graph.dstdata, graph.num_dst_nodes()),
        (graph.edata, graph.num_edges()),
    ):
        frame["feat"], frame["code"] = torch.rand(num, 2), torch.randint(9, (num,))
    return graph


@pytest.mark.parametrize("name", GRAPHS)
def test_dgl_graphs_and_blocks(name):
    graph = featured(name)
    same(Graph(graph).to_dgl(), graph)
    same(pickle.loads(pickle.dumps(Graph(graph))).to_dgl(), graph)
    same(copy.deepcopy(Graph(graph)).to_dgl(), graph)
    same(Graph(Graph(graph)).long().int().to_dgl(), graph.formats(["coo", "csr", "csc"]).int())


@pytest.mark.parametrize("name", [name for name in GRAPHS if "block" not in name])
def test_dgl_graphs_in_pyg(name):
    """The order of edges is that of the ids, whatever format a DGLGraph has; PyG's numbers are int64."""
    graph = featured(name)
    same(Graph(Graph(graph).to_pyg()).to_dgl(), graph.formats(["coo", "csr", "csc"]).long())


def test_pyg_knows_node_features_from_edge_features():
    """Also where there are as many nodes as edges: transforms of PyG select rows by it."""
    graph = Graph(([0, 1, 2], [1, 2, 0]), ndata={"feat": torch.arange(3), "edge_count": torch.arange(3)})
    graph.edata["feat"], graph.edata["edge_attr"] = torch.arange(3), torch.arange(3)
    data = graph.to_pyg()
    assert set(data.node_attrs()) == {"feat", "node_feature_0"}
    assert set(data.edge_attrs()) == {"edge_index", "edge_feat", "edge_attr"}
    part = Graph(data.subgraph(torch.tensor([0, 1])))
    frames(part.ndata, {"feat": torch.arange(2), "edge_count": torch.arange(2)})
    frames(part.edata, {"feat": torch.arange(1), "edge_attr": torch.arange(1)})


def test_pyg_after_a_change():
    graph = Graph(([0, 1], [1, 2]), 3, edata={"feat": torch.arange(2)})
    data = graph.to_pyg()
    data.edge_feat = data.edge_feat + 1
    frames(Graph(data).edata, {"feat": torch.arange(2) + 1})
    data.feat = torch.zeros(2)  # an edge feature, by its length
    frames(Graph(data).edata, {"feat": torch.zeros(2), "edge_feat": torch.arange(2) + 1})
    del data.edge_feat
    frames(Graph(data).edata, {"feat": torch.zeros(2)})


def test_features_of_pyg_keep_their_names():
    edge_index = torch.tensor([[0, 1], [1, 2]])
    data = pyg.Data(x=torch.rand(3, 2), edge_index=edge_index, edge_attr=torch.rand(2, 2), y=torch.rand(3))
    back = Graph(data).to_pyg()
    assert back.to_dict().keys() == {"x", "edge_index", "edge_attr", "y", "num_nodes"}
    assert all(torch.equal(back[key], data[key]) for key in data.keys())  # noqa: SIM118


def test_networkx_after_a_change():
    graph = batch([Graph(([0], [1]), 2), Graph(([0], [0]), 1)]).to_networkx()
    assert Graph(graph).batch_size == 2
    graph.add_node(3)
    assert Graph(graph).batch_size == 1


@pytest.mark.parametrize("name", [name for name in GRAPHS if "block" not in name and not name.endswith(("csc", "csr"))])
def test_batches_are_those_of_dgl(name):
    graphs = [featured(name) for _ in range(3)]
    expected = dgl.batch(graphs)
    same(batch(graphs), expected)
    same(batch(map(Graph, graphs)).to_dgl(), expected)
    same(batch([expected, *graphs]), dgl.batch([expected, *graphs]))
    for first, second, third in zip(unbatch(expected), unbatch(Graph(expected)), dgl.unbatch(expected), strict=True):
        same(first, third)
        same(second.to_dgl(), third)


def test_batches_of_graphs_that_differ():
    graph, other = Graph(([0], [1])), Graph(([0], [1]), ndata={"feat": torch.ones(2)})
    for graphs, message in (
        ([], "at least one graph, got none"),
        ([graph, other], r"graph 1: expected ndata of _N with the columns \[\], got \['feat'\]"),
        ([graph, graph.int()], "graph 1: expected the same type of node numbers"),
        ([graph, Graph({("a", "to", "b"): ([0], [0])})], "graph 1: expected the same edge types"),
        ([Graph(GRAPHS["block"]())], r"got a message-flow graph \(DGL block\)"),
    ):
        with pytest.raises(ValueError, match=f"^batch: .*{message}"):
            batch(graphs)


TYPED = Graph({("a", "to", "b"): ([0], [0])})
COLUMNS = Graph(([0], [0]), edata={"id": torch.zeros(1), "wide": torch.zeros(1, 2)})
REFUSED = {
    "a block in PyG": (
        lambda: Graph(new_block([0], [0], 1, 1)).to_pyg(),
        "message-flow graph, which PyG does not have",
    ),
    "a block in networkx": (
        lambda: Graph(new_block([0], [0], 1, 1)).to_networkx(),
        "with one node type for to_networkx",
    ),
    "types in networkx": (TYPED.to_networkx, "with one node type for to_networkx"),
    "types in scipy": (Graph({("a", "to", "b"): ([0], [0]), ("b", "of", "a"): ([0], [0])}).to_scipy, "one edge type"),
    "number of an edge": (COLUMNS.to_networkx, "no edge feature 'id' for to_networkx"),
    "unknown weight": (lambda: COLUMNS.to_scipy("w"), r"weight for to_scipy to be one of \['id', 'wide'\], got 'w'"),
    "wide weight": (lambda: COLUMNS.to_scipy("wide"), r"edata\['wide'\] of shape \(E,\) for to_scipy, got \(1, 2\)"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_another_library_cannot_hold(name):
    convert, message = REFUSED[name]
    with pytest.raises(ValueError, match=f"^Graph: expected .*{message}"):
        convert()
