"""Adjacency: the three orders of the edges, and how long they live."""

import copy
import gc
import itertools
import pickle
import sys
import weakref

import numpy as np
import pytest
import scipy.sparse
import torch
from hypothesis import given

from gnnlib import adjacency as find
from gnnlib import aggregate, degree_norm
from gnnlib._platform.dgl import dgl
from gnnlib.graph.adjacency import Adjacency, CompressedRows
from tests.graphs import GRAPHS, bipartite, drawn, ends, path, random_graph

MODULE = sys.modules[Adjacency.__module__]  # as an attribute of the package its name is the function's


def listed(group: CompressedRows) -> list[list[tuple[int, int]]]:
    """For each node its (other end, edge id) pairs, as stored."""
    pairs = list(zip(group.indices.tolist(), group.eid.tolist()))
    bounds = group.indptr.tolist()
    return [pairs[a:b] for a, b in itertools.pairwise(bounds)]


def expected(by, other, num_nodes: int) -> list[list[tuple[int, int]]]:
    rows: list[list[tuple[int, int]]] = [[] for _ in range(num_nodes)]
    for e, (v, u) in enumerate(zip(by.tolist(), other.tolist())):
        rows[v].append((u, e))
    return rows


def check(graph: dgl.DGLGraph) -> None:
    adj, (src, dst) = find(graph), ends(graph)
    assert (adj.num_src, adj.num_dst, adj.num_edges) == (graph.num_src_nodes(), graph.num_dst_nodes(), len(src))
    assert adj.src.tolist() == src.tolist()
    assert adj.dst.tolist() == dst.tolist()
    assert listed(adj.csc) == expected(dst, src, adj.num_dst)
    assert listed(adj.csr) == expected(src, dst, adj.num_src)
    for t in (adj.src, adj.dst, *adj.csc, *adj.csr, adj.in_degrees, adj.out_degrees):
        assert t.dtype == torch.int32
        assert t.is_contiguous()


@pytest.mark.parametrize("name", GRAPHS)
def test_edges_of_a_row_are_in_the_order_of_their_ids(name):
    check(GRAPHS[name]())


@given(graph=drawn())
def test_any_graph(graph):
    check(graph)
    for name in ("coo", "csc", "csr"):
        check(graph.formats(name))


@pytest.mark.parametrize("name", GRAPHS)
def test_the_same_as_scipy_and_dgl(name):
    graph = GRAPHS[name]()
    adj = find(graph)
    src, dst = ends(graph)
    ones = np.ones(len(src))
    shape = (adj.num_src, adj.num_dst)
    matrix = scipy.sparse.coo_matrix((ones, (src.numpy(), dst.numpy())), shape).toarray()
    for group, transposed in ((adj.csr, False), (adj.csc, True)):
        pointers, indices = group.indptr.numpy(), group.indices.numpy()
        got = scipy.sparse.csr_matrix((ones, indices, pointers), shape[::-1] if transposed else shape).toarray()
        assert np.array_equal(got.T if transposed else got, matrix)
    whole = graph.formats(["coo", "csr", "csc"])
    for v in range(adj.num_dst):
        sources, _, edges = whole.in_edges(v, form="all")
        assert sorted(zip(sources.tolist(), edges.tolist()), key=lambda pair: pair[1]) == listed(adj.csc)[v]
    for u in range(adj.num_src):
        _, targets, edges = whole.out_edges(u, form="all")
        assert sorted(zip(targets.tolist(), edges.tolist()), key=lambda pair: pair[1]) == listed(adj.csr)[u]
    assert adj.in_degrees.tolist() == whole.in_degrees().tolist()
    assert adj.out_degrees.tolist() == whole.out_degrees().tolist()


@pytest.mark.parametrize("idtype", [torch.int32, torch.int64])
@pytest.mark.parametrize("make", [random_graph, bipartite])
def test_the_same_from_every_format(make, idtype):
    same = find(make(idtype=torch.int64))
    for kept in ("coo", "csc", "csr"):
        graph = make(idtype=idtype).formats(kept)
        found = find(graph)
        for a, b in zip((same.src, same.dst, *same.csc, *same.csr), (found.src, found.dst, *found.csc, *found.csr)):
            assert torch.equal(a, b)
        assert graph.formats()["created"] == [kept]  # nothing is built, and kept, behind the user's back
    graph = make(idtype=idtype)
    graph.create_formats_()
    assert torch.equal(find(graph).csr.eid, same.csr.eid)


def test_edges_need_not_lie_in_the_order_of_their_ids():
    """A CSC that DGL stores with edge ids of its own."""
    eid = torch.tensor([3, 1, 0, 2])
    graph = dgl.graph(("csc", (torch.tensor([0, 2, 2, 4]), torch.tensor([2, 0, 1, 0]), eid)))
    adj = find(graph)
    assert adj.src.tolist() == [1, 0, 0, 2]
    assert adj.dst.tolist() == [2, 0, 2, 0]
    assert listed(adj.csc) == [[(0, 1), (2, 3)], [], [(1, 0), (0, 2)]]


def test_other_node_types_do_not_count():
    graph = dgl.heterograph({("a", "to", "b"): ([0, 1], [1, 2])}, {"a": 3, "b": 4, "c": 5})
    assert (find(graph).num_src, find(graph).num_dst) == (3, 4)
    graph = dgl.heterograph({("a", "to", "a"): ([0, 1], [1, 2])}, {"a": 3, "c": 5})
    assert (find(graph).num_src, find(graph).num_dst) == (3, 3)


def test_several_edge_types_are_refused():
    graph = dgl.heterograph({("a", "to", "b"): ([0], [1]), ("b", "fro", "a"): ([0], [0])})
    with pytest.raises(ValueError, match=r"one edge type, got \[.*'to'.*\]; pass graph\[etype\]"):
        find(graph)
    assert find(graph["to"]).num_dst == 2


def test_what_is_no_graph_is_refused():
    with pytest.raises(TypeError, match="expected a DGLGraph or a block, got list"):
        find([1, 2])


def test_too_large_is_refused(monkeypatch):
    monkeypatch.setattr(MODULE, "LIMIT", 5)
    find(dgl.graph(([0] * 5, [1] * 5)))
    with pytest.raises(ValueError, match="at most 5 nodes and edges, got 2 sources, 2 destinations and 6 edges"):
        find(dgl.graph(([0] * 6, [1] * 6)))
    with pytest.raises(ValueError, match="got 6 sources, 6 destinations and 0 edges"):
        find(dgl.graph(([], []), num_nodes=6))


def test_ends_out_of_range_are_refused():
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
    adj = find(graph)
    assert find(graph) is adj
    assert find(graph, "cpu") is adj
    assert find(graph, graph.device) is adj
    assert find(adj) is adj
    assert find(adj, "cpu") is adj


def test_shared_by_views_of_the_same_structure():
    graph = random_graph()
    adj = find(graph)
    view = graph.local_var()
    assert find(view) is adj
    assert find(copy.copy(graph)) is adj
    with graph.local_scope():
        graph.ndata["x"] = torch.ones(graph.num_nodes(), 1)
        assert find(graph) is adj


EDITS = {
    "add_edges": lambda g: g.add_edges([0, 1], [2, 0]),
    "add_nodes": lambda g: g.add_nodes(2),
    "remove_edges": lambda g: g.remove_edges([0, 3]),
    "remove_nodes": lambda g: g.remove_nodes([1]),
}


@pytest.mark.parametrize("edit", EDITS)
def test_edited_in_place(edit):
    graph = random_graph()
    before, view = find(graph), graph.local_var()
    EDITS[edit](graph)
    assert find(graph) is not before
    assert find(view) is before  # the view keeps the old structure
    check(graph)
    check(view)


def test_made_from_another_graph():
    graph = random_graph()
    adj = find(graph)
    for other in (graph.int(), graph.clone(), dgl.reverse(graph), dgl.add_self_loop(graph), copy.deepcopy(graph)):
        assert find(other) is not adj
        check(other)
    assert torch.equal(find(graph.int()).csc.indices, adj.csc.indices)


def test_an_edit_while_a_layer_works_on_the_old_graph():
    """Backward uses the edges of forward, whatever became of the graph since."""
    graph = path(3)
    x = torch.ones(3, 1, requires_grad=True)
    y = aggregate(graph, x)
    graph.remove_edges([0, 1])
    y.sum().backward()
    assert x.grad.flatten().tolist() == [1.0, 1.0, 0.0]


# ---------------------------------------------------------------- memory


@pytest.mark.parametrize("name", ["random", "block", "bipartite_csc", "batch"])
def test_freed_with_its_graph(name):
    graph = GRAPHS[name]()
    adj = find(graph)
    degree_norm(graph)
    alive = weakref.ref(adj)
    gc.disable()
    try:
        del adj, graph
        assert alive() is None
    finally:
        gc.enable()


def test_the_old_ones_are_freed_by_an_edit():
    graph = random_graph()
    alive = weakref.ref(find(graph))
    gc.disable()
    try:
        graph.add_edges([0], [0])
        assert alive() is None
    finally:
        gc.enable()


def test_no_reference_to_the_graph():
    graph = random_graph()
    adj, alive = find(graph), weakref.ref(graph)
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
    assert find(loaded) is not find(graph)
    check(loaded)


# ---------------------------------------------------------------- devices, views, memo


def test_elsewhere():
    """Index arrays follow the features; the graph stays where it is."""
    graph = random_graph()
    here, there = find(graph), find(graph, "meta")
    assert {t.device.type for t in (there.src, there.dst, *there.csc, *there.csr)} == {"meta"}
    assert (there.num_src, there.num_dst, there.num_edges) == (here.num_src, here.num_dst, here.num_edges)
    assert find(graph, "meta") is there
    assert find(graph) is here
    assert find(here, "meta").device.type == "meta"
    graph.add_edges([0], [0])
    assert find(graph, "meta").num_edges == here.num_edges + 1


def test_elsewhere_first():
    graph = random_graph()
    assert find(graph, "meta").device.type == "meta"
    check(graph)


def test_reverse():
    adj = find(bipartite())
    back = adj.reverse()
    assert (back.num_src, back.num_dst) == (adj.num_dst, adj.num_src)
    assert (back.src, back.dst, back.csc, back.csr) == (adj.dst, adj.src, adj.csr, adj.csc)
    assert back.reverse().csc is adj.csc
    assert back.in_degrees.tolist() == adj.out_degrees.tolist()


def test_remember():
    adj, made = find(random_graph()), []

    def make():
        made.append(1)
        return adj.in_degrees.double()

    first, second = adj.remember("degree", make), adj.remember("degree", make)
    assert made == [1]
    assert first.data_ptr() == second.data_ptr()
    assert adj.remember("other", lambda: torch.zeros(1)).tolist() == [0.0]


def test_remember_survives_its_callers():
    """Weights that start as a norm and are then trained must not train the norm."""
    graph = random_graph()
    same = degree_norm(graph).clone()
    learned = torch.nn.Parameter(degree_norm(graph))
    with torch.no_grad():
        learned += 1
    assert torch.equal(degree_norm(graph), same)
    assert torch.equal(learned, same + 1)
    assert degree_norm(graph).requires_grad_().requires_grad
    assert not degree_norm(graph).requires_grad


@pytest.mark.parametrize("name", ["random", "random_csc"])
def test_made_under_inference_mode_used_in_training(name):
    graph = GRAPHS[name]()
    x = torch.ones(graph.num_nodes(), 2)
    with torch.inference_mode():
        norm = degree_norm(graph)
        evaluated = aggregate(graph, x, norm)
    adj = find(graph)
    assert not any(t.is_inference() for t in (norm, adj.src, adj.dst, *adj.csc, *adj.csr))
    assert not norm.requires_grad
    assert evaluated.is_inference()
    x.requires_grad_()
    trained = aggregate(graph, x, degree_norm(graph))
    trained.sum().backward()
    assert torch.equal(trained, evaluated)
    assert x.grad is not None


def test_made_with_gradients_used_under_inference_mode():
    graph = random_graph()
    norm = degree_norm(graph)
    with torch.inference_mode():
        assert torch.equal(degree_norm(graph), norm)
        assert torch.equal(degree_norm(graph).requires_grad_(False), norm)
    aggregate(graph, torch.ones(11, 2, requires_grad=True), degree_norm(graph)).sum().backward()
