"""Adjacency: COO, CSC and CSR, and the lifetime of the cache."""

import copy
import gc
import itertools
import pickle
import weakref

import numpy as np
import pytest
import scipy.sparse
import torch
from hypothesis import given

import gnnlib
from gnnlib import adjacency, aggregate, degree_norm
from gnnlib._platform.dgl import HAS_DGL, dgl
from gnnlib.graph import Adjacency, CompressedRows, _adjacency
from gnnlib.testing.graphs import GRAPHS, bipartite, endpoints, graph_strategy, path, random_graph


def rows_of(compressed: CompressedRows) -> list[list[tuple[int, int]]]:
    """The (other end, edge id) pairs of each node, as stored."""
    pairs = list(zip(compressed.indices.tolist(), compressed.eid.tolist()))
    bounds = compressed.indptr.tolist()
    return [pairs[a:b] for a, b in itertools.pairwise(bounds)]


def expected(by, other, num_nodes: int) -> list[list[tuple[int, int]]]:
    rows: list[list[tuple[int, int]]] = [[] for _ in range(num_nodes)]
    for e, (v, u) in enumerate(zip(by.tolist(), other.tolist())):
        rows[v].append((u, e))
    return rows


def tensors(adj: Adjacency) -> list[torch.Tensor]:
    return [adj.src, adj.dst, *adj.csc, *adj.csr]


def check(graph: dgl.DGLGraph) -> None:
    adj, (src, dst) = adjacency(graph), endpoints(graph)
    assert (adj.num_src, adj.num_dst, adj.num_edges) == (graph.num_src_nodes(), graph.num_dst_nodes(), len(src))
    assert adj.src.tolist() == src.tolist()
    assert adj.dst.tolist() == dst.tolist()
    assert rows_of(adj.csc) == expected(dst, src, adj.num_dst)
    assert rows_of(adj.csr) == expected(src, dst, adj.num_src)
    for t in (*tensors(adj), adj.in_degrees, adj.out_degrees):
        assert t.dtype == torch.int32
        assert t.is_contiguous()


@pytest.mark.parametrize("name", GRAPHS)
def test_rows_are_sorted_by_edge_id(name):
    check(GRAPHS[name]())


@given(graph=graph_strategy())
def test_any_graph(graph):
    check(graph)
    for sparse_format in ("coo", "csc", "csr"):
        check(graph.formats(sparse_format))


@pytest.mark.parametrize("name", GRAPHS)
def test_against_scipy_and_dgl(name):
    graph = GRAPHS[name]()
    adj = adjacency(graph)
    src, dst = endpoints(graph)
    ones = np.ones(len(src))
    shape = (adj.num_src, adj.num_dst)
    matrix = scipy.sparse.coo_matrix((ones, (src.numpy(), dst.numpy())), shape).toarray()
    for compressed, transposed in ((adj.csr, False), (adj.csc, True)):
        pointers, indices = compressed.indptr.numpy(), compressed.indices.numpy()
        got = scipy.sparse.csr_matrix((ones, indices, pointers), shape[::-1] if transposed else shape).toarray()
        assert np.array_equal(got.T if transposed else got, matrix)
    reference = graph.formats(["coo", "csr", "csc"])
    for v in range(adj.num_dst):
        sources, _, edges = reference.in_edges(v, form="all")
        assert sorted(zip(sources.tolist(), edges.tolist()), key=lambda pair: pair[1]) == rows_of(adj.csc)[v]
    for u in range(adj.num_src):
        _, targets, edges = reference.out_edges(u, form="all")
        assert sorted(zip(targets.tolist(), edges.tolist()), key=lambda pair: pair[1]) == rows_of(adj.csr)[u]
    assert adj.in_degrees.tolist() == reference.in_degrees().tolist()
    assert adj.out_degrees.tolist() == reference.out_degrees().tolist()


@pytest.mark.parametrize("idtype", [torch.int32, torch.int64])
@pytest.mark.parametrize("make", [random_graph, bipartite])
def test_every_sparse_format(make, idtype):
    reference = adjacency(make(idtype=torch.int64))
    for sparse_format in ("coo", "csc", "csr"):
        graph = make(idtype=idtype).formats(sparse_format)
        for a, b in zip(tensors(reference), tensors(adjacency(graph)), strict=True):
            assert torch.equal(a, b)
        assert graph.formats()["created"] == [sparse_format]  # the user's graph gets no further format
    graph = make(idtype=idtype)
    graph.create_formats_()
    assert torch.equal(adjacency(graph).csr.eid, reference.csr.eid)


def test_csc_with_permuted_edge_ids():
    eid = torch.tensor([3, 1, 0, 2])
    graph = dgl.graph(("csc", (torch.tensor([0, 2, 2, 4]), torch.tensor([2, 0, 1, 0]), eid)))
    adj = adjacency(graph)
    assert adj.src.tolist() == [1, 0, 0, 2]
    assert adj.dst.tolist() == [2, 0, 2, 0]
    assert rows_of(adj.csc) == [[(0, 1), (2, 3)], [], [(1, 0), (0, 2)]]


def test_other_node_types_are_ignored():
    graph = dgl.heterograph({("a", "to", "b"): ([0, 1], [1, 2])}, {"a": 3, "b": 4, "c": 5})
    assert (adjacency(graph).num_src, adjacency(graph).num_dst) == (3, 4)
    graph = dgl.heterograph({("a", "to", "a"): ([0, 1], [1, 2])}, {"a": 3, "c": 5})
    assert (adjacency(graph).num_src, adjacency(graph).num_dst) == (3, 3)


def test_several_edge_types_raise():
    graph = dgl.heterograph({("a", "to", "b"): ([0], [1]), ("b", "fro", "a"): ([0], [0])})
    with pytest.raises(TypeError, match=r"one edge type, graph\[etype\], got the types \[.*'to'.*\]"):
        adjacency(graph)
    assert adjacency(graph["to"]).num_dst == 2


def test_invalid_type():
    with pytest.raises(TypeError, match=r"graph: expected one graph, gnnlib.graph.batch.*, got a list"):
        adjacency([1, 2])


def test_too_many_nodes_or_edges(monkeypatch):
    monkeypatch.setattr(_adjacency, "INT32_MAX", 5)
    adjacency(dgl.graph(([0] * 5, [1] * 5)))
    with pytest.raises(ValueError, match="at most 5 nodes and edges, got 2 sources, 2 destinations and 6 edges"):
        adjacency(dgl.graph(([0] * 6, [1] * 6)))
    with pytest.raises(ValueError, match="got 6 sources, 6 destinations and 0 edges"):
        adjacency(dgl.graph(([], []), num_nodes=6))


def test_endpoints_out_of_range():
    good, empty = torch.tensor([0, 1, 2]), torch.tensor([], dtype=torch.int64)
    assert Adjacency.from_edges(good, good, 3, 3).num_edges == 3
    assert Adjacency.from_edges(empty, empty, 0, 0).num_edges == 0
    for src, dst, message in (
        (good, good - 1, r"one destination for each of 3 edges, from 0 to 2, got 3 from -1 to 1"),
        (good + 1, good, r"one source for each of 3 edges, from 0 to 2, got 3 from 1 to 3"),
        (good, good[:2], r"one destination for each of 3 edges, from 0 to 2, got 2 from 0 to 1"),
        (good, empty, r"one destination for each of 3 edges, from 0 to 2, got 0"),
    ):
        with pytest.raises(ValueError, match=message):
            Adjacency.from_edges(src, dst, 3, 3)


# ---------------------------------------------------------------- cached, never stale


def test_cached():
    graph = random_graph()
    adj = adjacency(graph)
    assert adjacency(graph) is adj
    assert adjacency(graph, "cpu") is adj
    assert adjacency(graph, graph.device) is adj
    assert adjacency(adj) is adj
    assert adjacency(adj, "cpu") is adj


def test_shared_by_views_of_the_same_structure():
    graph = random_graph()
    adj = adjacency(graph)
    view = graph.local_var()
    assert adjacency(view) is adj
    assert adjacency(copy.copy(graph)) is adj
    with graph.local_scope():
        graph.ndata["x"] = torch.ones(graph.num_nodes(), 1)
        assert adjacency(graph) is adj


EDITS = {
    "add_edges": lambda g: g.add_edges([0, 1], [2, 0]),
    "add_nodes": lambda g: g.add_nodes(2),
    "remove_edges": lambda g: g.remove_edges([0, 3]),
    "remove_nodes": lambda g: g.remove_nodes([1]),
}


@pytest.mark.parametrize("edit", EDITS)
def test_edited_in_place(edit):
    graph = random_graph()
    before, view = adjacency(graph), graph.local_var()
    EDITS[edit](graph)
    assert adjacency(graph) is not before
    assert adjacency(view) is before  # the view keeps the old structure
    check(graph)
    check(view)


def test_copies_have_their_own_adjacency():
    graph = random_graph()
    adj = adjacency(graph)
    for other in (graph.int(), graph.clone(), dgl.reverse(graph), dgl.add_self_loop(graph), copy.deepcopy(graph)):
        assert adjacency(other) is not adj
        check(other)
    assert torch.equal(adjacency(graph.int()).csc.indices, adj.csc.indices)


def test_edit_between_forward_and_backward():
    """Backward uses the edges of forward."""
    graph = path(3)
    x = torch.ones(3, 1, requires_grad=True)
    y = aggregate(graph, x)
    graph.remove_edges([0, 1])
    y.sum().backward()
    assert x.grad.flatten().tolist() == [1.0, 1.0, 0.0]


# ---------------------------------------------------------------- memory


@pytest.mark.parametrize("name", ["random", "block", "bipartite_csc", "batch"])
def test_freed_with_the_graph(name):
    graph = GRAPHS[name]()
    adj = adjacency(graph)
    degree_norm(graph)
    alive = weakref.ref(adj)
    gc.disable()
    try:
        del adj, graph
        assert alive() is None
    finally:
        gc.enable()


def test_freed_by_an_edit():
    graph = random_graph()
    alive = weakref.ref(adjacency(graph))
    gc.disable()
    try:
        graph.add_edges([0], [0])
        assert alive() is None
    finally:
        gc.enable()


def test_no_reference_to_the_graph():
    graph = random_graph()
    adj, alive = adjacency(graph), weakref.ref(graph)
    gc.disable()
    try:
        del graph
        assert alive() is None
    finally:
        gc.enable()
    assert adj.csc.indptr[-1] == adj.num_edges


def test_not_pickled():
    graph = random_graph()
    size = len(pickle.dumps(graph))
    degree_norm(graph)
    data = pickle.dumps(graph)
    assert len(data) == size
    loaded = pickle.loads(data)
    assert adjacency(loaded) is not adjacency(graph)
    check(loaded)


# ---------------------------------------------------------------- devices, views, cached tensors


def test_other_device():
    """Index arrays are on the features' device; the graph is not moved."""
    graph = random_graph()
    here, there = adjacency(graph), adjacency(graph, "meta")
    assert {t.device.type for t in tensors(there)} == {"meta"}
    assert (there.num_src, there.num_dst, there.num_edges) == (here.num_src, here.num_dst, here.num_edges)
    assert adjacency(graph, "meta") is there
    assert adjacency(graph) is here
    assert adjacency(here, "meta").device.type == "meta"
    graph.add_edges([0], [0])
    assert adjacency(graph, "meta").num_edges == here.num_edges + 1


def test_other_device_first():
    graph = random_graph()
    assert adjacency(graph, "meta").device.type == "meta"
    check(graph)


def test_reverse():
    adj = adjacency(bipartite())
    back = adj.reverse()
    assert (back.num_src, back.num_dst) == (adj.num_dst, adj.num_src)
    assert (back.src, back.dst, back.csc, back.csr) == (adj.dst, adj.src, adj.csr, adj.csc)
    assert back.reverse().csc is adj.csc
    assert back.in_degrees.tolist() == adj.out_degrees.tolist()


def test_cached_tensors():
    adj, calls = adjacency(random_graph()), []

    def make():
        calls.append(1)
        return adj.in_degrees.double()

    first, second = adj.cached("degree", make), adj.cached("degree", make)
    assert calls == [1]
    assert first.data_ptr() == second.data_ptr()
    assert adj.cached("other", lambda: torch.zeros(1)).tolist() == [0.0]


def test_cached_tensors_are_not_modified_by_callers():
    """Weights that are initialised with a norm and then trained do not change the norm."""
    graph = random_graph()
    expected = degree_norm(graph).clone()
    learned = torch.nn.Parameter(degree_norm(graph))
    with torch.no_grad():
        learned += 1
    assert torch.equal(degree_norm(graph), expected)
    assert torch.equal(learned, expected + 1)
    assert degree_norm(graph).requires_grad_().requires_grad
    assert not degree_norm(graph).requires_grad


@pytest.mark.parametrize("name", ["random", "random_csc"])
def test_built_under_inference_mode_used_in_training(name):
    graph = GRAPHS[name]()
    x = torch.ones(graph.num_nodes(), 2)
    with torch.inference_mode():
        norm = degree_norm(graph)
        evaluated = aggregate(graph, x, norm)
    adj = adjacency(graph)
    assert not any(t.is_inference() for t in (norm, *tensors(adj)))
    assert not norm.requires_grad
    assert evaluated.is_inference()
    x.requires_grad_()
    trained = aggregate(graph, x, degree_norm(graph))
    trained.sum().backward()
    assert torch.equal(trained, evaluated)
    assert x.grad is not None


def test_built_in_training_used_under_inference_mode():
    graph = random_graph()
    norm = degree_norm(graph)
    with torch.inference_mode():
        assert torch.equal(degree_norm(graph), norm)
        assert torch.equal(degree_norm(graph).requires_grad_(False), norm)
    aggregate(graph, torch.ones(11, 2, requires_grad=True), degree_norm(graph)).sum().backward()


@pytest.mark.skipif(not HAS_DGL, reason="needs DGL: formats")
@pytest.mark.parametrize("name", ["random", "random_csc"])
def test_dgl_names_its_formats_once(name, monkeypatch):
    """Through ctypes, on Python 3.13, this takes as long as a layer on a small graph."""
    graph, names = GRAPHS[name](), []
    formats = dgl.DGLGraph.formats
    monkeypatch.setattr(
        dgl.DGLGraph, "formats", lambda self, *args: (args or names.append(self), formats(self, *args))[1]
    )
    x, layers = torch.ones(graph.num_nodes(), 3), (gnnlib.GCNConv(3, 3), gnnlib.DropMessage(gnnlib.GATConv(3, 3, 1)))
    for _ in range(3):
        for layer in layers:
            layer(graph, x)
        gnnlib.DropEdge()(graph)
    assert len(names) == 1
