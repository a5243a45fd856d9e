"""GraphStore: every batch against dgl.batch of the same graphs."""

import copy
import gc
import itertools
import pickle
import weakref

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader, RandomSampler, Subset

import gnnlib
from gnnlib import GATConv, GraphStore, SAGEConv, Stack, readout_mean, readout_sum
from gnnlib._platform.dgl import dgl
from gnnlib.graph import Adjacency, adjacency
from gnnlib.images import superpixel_graph
from gnnlib.testing.graphs import (
    BIPARTITE,
    GRAPHS,
    HOMOGENEOUS,
    bipartite,
    block,
    clique,
    edgeless,
    graph_strategy,
    path,
    random_graph,
    star,
    tree,
)
from tests.processes import preloaded_context

SINGLE = [name for name in HOMOGENEOUS if name not in ("batch", "random_int32")]
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more workers than cores


def with_frames(graph, seed=0):
    some = torch.Generator().manual_seed(seed)
    num_nodes, num_edges = graph.num_nodes(), graph.num_edges()
    graph.ndata["feat"] = torch.rand(num_nodes, 5, generator=some)
    graph.ndata["mark"] = torch.rand(num_nodes, generator=some) > 0.5
    graph.edata["offset"] = torch.rand(num_edges, 2, generator=some, dtype=torch.float64)
    return graph


def zoo(idtype=torch.int64):
    """Every single graph of the zoo, in whichever format it holds its edges."""
    graphs = [GRAPHS[name]() for name in SINGLE]
    return [with_frames(graph.long() if idtype == torch.int64 else graph.int(), i) for i, graph in enumerate(graphs)]


def assert_equal(actual, expected):
    assert actual.idtype == expected.idtype
    assert actual.canonical_etypes == expected.canonical_etypes
    assert (actual.num_nodes(), actual.num_edges()) == (expected.num_nodes(), expected.num_edges())
    for end, reference in zip(actual.edges(order="eid"), expected.formats(["coo", "csr", "csc"]).edges(order="eid")):
        same(end, reference)
    for sizes in ("batch_num_nodes", "batch_num_edges"):
        assert getattr(actual, sizes)().tolist() == getattr(expected, sizes)().tolist()
    for frame, reference in ((actual.ndata, expected.ndata), (actual.edata, expected.edata)):
        assert list(frame) == list(reference)
        for name, value in frame.items():
            same(value, reference[name])
    a, b = adjacency(actual), Adjacency.from_edges(*expected.edges(order="eid"), *[expected.num_nodes()] * 2)
    assert (a.num_src, a.num_dst, a.device) == (b.num_src, b.num_dst, b.device)
    for array, reference in zip((a.src, a.dst, *a.csc, *a.csr), (b.src, b.dst, *b.csc, *b.csr)):
        same(array, reference)


def same(actual, reference):
    assert actual.dtype == reference.dtype
    assert actual.is_contiguous()
    assert torch.equal(actual, reference)


def together(graphs):
    """dgl.batch, which takes no mixture of formats."""
    return dgl.batch([graph.formats(["coo", "csr", "csc"]) for graph in graphs])


# ---------------------------------------------------------------- equal to dgl.batch


@pytest.mark.parametrize("idtype", [torch.int32, torch.int64])
def test_selections_of_all_graph_kinds(idtype):
    graphs = zoo(idtype)
    store = GraphStore(graphs)
    assert len(store) == len(graphs)
    random = np.random.default_rng(0)
    choices = [random.integers(0, len(graphs), size).tolist() for size in (1, 2, 5, 40)]
    for chosen in [*choices, range(len(graphs)), [SINGLE.index("no_nodes")], [SINGLE.index("bare")] * 2]:
        assert_equal(store.batch(chosen), together([graphs[i] for i in chosen]))


@given(graphs=st.lists(graph_strategy(), min_size=1, max_size=5), data=st.data())
@pytest.mark.slow
def test_selections_of_random_graphs(graphs, data):
    graphs = [with_frames(graph, i) for i, graph in enumerate(graphs)]
    chosen = data.draw(st.lists(st.integers(0, len(graphs) - 1), min_size=1, max_size=8))
    store = GraphStore(graphs)
    assert_equal(store.batch(chosen), dgl.batch([graphs[i] for i in chosen]))
    assert_equal(store.select(chosen).batch(range(len(chosen))), dgl.batch([graphs[i] for i in chosen]))


@pytest.mark.parametrize(
    ("make", "sorted_by"),
    [
        (lambda: dgl.graph(([2, 0, 1, 0], [0, 1, 1, 2])), "dst"),
        (lambda: dgl.graph(([0, 1, 1, 2], [2, 0, 1, 0])), "src"),
        (lambda: dgl.graph(([0, 1, 2], [0, 1, 2])), "both"),
        (lambda: dgl.graph(([2, 0, 1], [0, 2, 1])), "neither"),
    ],
)
def test_sorted_edges_are_stored_once(make, sorted_by):
    graphs = [with_frames(make(), i) for i in range(3)]
    store = GraphStore(graphs)
    missing = {"dst": ["csc"], "src": ["csr"], "both": ["csc", "csr"], "neither": []}[sorted_by]
    assert set(store._flat.ends) == {"src", "dst"} | {
        f"{way} {array}" for way in ("csc", "csr") if way not in missing for array in ("indices", "eid")
    }
    assert_equal(store.batch([2, 0, 2]), dgl.batch([graphs[i] for i in (2, 0, 2)]))


@pytest.mark.parametrize("sizes", [(2**15 - 1, 5), (2**15, 5), (5, 2**15 - 1), (5, 2**15)])
def test_small_graphs_use_int16(sizes):
    num_nodes, num_edges = sizes
    node = torch.arange(num_edges) % num_nodes
    large = dgl.graph((node, node.flip(0)), num_nodes=num_nodes)
    large.ndata["feat"] = torch.arange(num_nodes)
    graphs = [path(4), large, path(3)]
    graphs[0].ndata["feat"], graphs[2].ndata["feat"] = torch.arange(4), torch.arange(3)
    store = GraphStore(graphs)
    small = max(sizes) < 2**15
    flat = [*store._flat.ends.values(), *store._flat.starts.values()]
    assert {value.dtype for value in flat} == {torch.int16 if small else torch.int32}
    assert_equal(store.batch([1, 0, 1, 2]), dgl.batch([graphs[i] for i in (1, 0, 1, 2)]))


def test_batch_indices_beyond_int16():
    graph = clique(150)  # 22350 edges
    store = GraphStore([graph] * 3)
    assert store._flat.ends["src"].dtype == torch.int16
    assert_equal(store.batch([0, 1, 2, 0]), dgl.batch([graph] * 4))


@pytest.mark.parametrize(
    "dtype", [torch.bool, torch.int8, torch.int64, torch.bfloat16, torch.float32, torch.float64, torch.complex64]
)
@pytest.mark.parametrize("shape", [(), (1,), (3,), (2, 3), (0,)])
def test_columns_of_any_type_and_shape(dtype, shape):
    graphs = [path(n) for n in (3, 1, 4)]
    for graph in graphs:
        graph.ndata["a"] = torch.randint(2, (graph.num_nodes(), *shape)).to(dtype)
        graph.edata["b"] = torch.randint(2, (graph.num_edges(), *shape)).to(dtype)
    assert_equal(GraphStore(graphs).batch([2, 1, 2]), dgl.batch([graphs[i] for i in (2, 1, 2)]))


def test_columns_that_are_views():
    graph = path(4)
    graph.ndata["a"], graph.edata["b"] = torch.rand(3, 4).T, torch.rand(3, 4)[:, ::2]
    assert_equal(GraphStore([graph]).batch([0]), dgl.batch([graph]))


def test_empty_graphs_may_lack_columns():
    graphs = [edgeless(0), with_frames(path(3)), edgeless(0), edgeless(2)]
    graphs[3].ndata["feat"], graphs[3].ndata["mark"] = torch.rand(2, 5), torch.tensor([True, False])
    assert_equal(GraphStore(graphs).batch([0, 1, 3, 2]), dgl.batch([graphs[i] for i in (0, 1, 3, 2)]))
    assert_equal(GraphStore([edgeless(0), edgeless(0)]).batch([1, 0]), dgl.batch([edgeless(0), edgeless(0)]))


def test_type_names():
    graph = dgl.heterograph({("atom", "bond", "atom"): ([0, 1], [1, 2])})
    assert_equal(GraphStore([graph, graph]).batch([0, 1]), dgl.batch([graph, graph]))


def test_unbatch():
    graphs = zoo()
    store = GraphStore(graphs)
    for i, graph in enumerate(dgl.unbatch(store.batch(range(len(graphs))))):
        assert_equal(graph, together([graphs[i]]))
        assert_equal(store[i], together([graphs[i]]))


def test_sequence_protocol():
    graphs = [path(n) for n in (2, 3, 4)]
    store = GraphStore(iter(graphs))
    assert [graph.num_nodes() for graph in store] == [2, 3, 4]
    assert store[-1].num_nodes() == store[torch.tensor(2)].num_nodes() == store[np.int32(2)].num_nodes() == 4
    for index in (3, -4):
        with pytest.raises(IndexError, match=f"from -3 to 2, got {index}"):
            store[index]


def test_indices_of_any_kind():
    graphs = [path(n) for n in (2, 3, 4)]
    store = GraphStore(graphs)
    for chosen in ([2, 0], (2, 0), torch.tensor([2, 0]), torch.tensor([2, 0], dtype=torch.int32), np.array([2, 0])):
        assert store.batch(chosen).batch_num_nodes().tolist() == [4, 2]
    assert store.batch(range(1, 3)).batch_num_nodes().tolist() == [3, 4]
    assert store.batch(torch.tensor([[2, 1], [0, 1]])[:, 0]).batch_num_nodes().tolist() == [4, 2]
    assert store.batch(list(torch.tensor([2, 0]))).batch_num_nodes().tolist() == [4, 2]


# ---------------------------------------------------------------- ready to use


def model():
    torch.manual_seed(0)
    return Stack.build(SAGEConv, 5, 8, 3, num_layers=3, norm=gnnlib.LayerNorm, readout=readout_mean).double()


def test_model_on_batch_and_on_single_graphs():
    graphs = [graph for graph in zoo() if graph.num_nodes()]
    store, net = GraphStore(graphs), model()
    chosen = [3, 0, 5, 5, 1, 2, 7, 4]
    batch = store.batch(chosen)
    actual = net(batch, batch.ndata["feat"].double())
    expected = torch.cat([net(graphs[i], graphs[i].ndata["feat"].double()) for i in chosen])
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-12)
    weight = torch.randn_like(actual)
    for a, b in zip(*(torch.autograd.grad((y * weight).sum(), tuple(net.parameters())) for y in (actual, expected))):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


def test_batches_need_no_sorting(monkeypatch):
    graphs = zoo()
    store, conv = GraphStore(graphs), GATConv(5, 4, 2)
    monkeypatch.setattr(Adjacency, "from_edges", lambda *_: pytest.fail("edges were grouped"))
    batch = store.batch(range(len(graphs)))
    readout_sum(batch, conv(batch, batch.ndata["feat"])).sum().backward()
    assert adjacency(batch) is adjacency(batch)
    assert adjacency(batch.local_var()) is adjacency(batch)


def test_batches_have_dgl_csc():
    graphs = zoo()
    batch, expected = GraphStore(graphs).batch([1, 8, 3]), together([graphs[i] for i in (1, 8, 3)])
    assert "csc" in batch.formats()["created"]
    conv = dgl.nn.GraphConv(5, 2, allow_zero_in_degree=True)
    torch.testing.assert_close(conv(batch, batch.ndata["feat"]), conv(expected, expected.ndata["feat"]))
    assert batch.in_degrees().tolist() == expected.in_degrees().tolist()
    assert batch.out_degrees().tolist() == expected.out_degrees().tolist()


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda graph: pickle.loads(pickle.dumps(graph)), lambda graph: graph.clone()]
)
def test_copies_of_a_batch(copied):
    graphs = [with_frames(path(3)), with_frames(tree(), 1)]
    batch = GraphStore(graphs).batch([1, 0])
    adjacency(batch)
    assert adjacency(copied(batch)) is not adjacency(batch)
    assert_equal(copied(batch), dgl.batch(graphs[::-1]))
    assert adjacency(batch.int()).csc.eid.tolist() == adjacency(batch).csc.eid.tolist()


def test_batches_share_no_memory():
    many = GraphStore([clique(150)]).batch([0] * 50)  # sorted by source
    assert many.num_edges() > 2**20
    assert torch.equal(adjacency(many).csr.eid, torch.arange(many.num_edges(), dtype=torch.int32))


def test_edited_batch():
    store = GraphStore([path(3), path(4)])
    batch = store.batch([0, 1])
    batch.add_edges([0], [6])
    assert adjacency(batch).num_edges == 6
    larger = dgl.add_self_loop(store.batch([0, 1]))
    assert adjacency(larger).csc.indptr.tolist() == [0, 1, 3, 5, 6, 8, 10, 12]


def test_batches_are_copies():
    graphs = [with_frames(path(3)), with_frames(path(4), 1)]
    expected = dgl.batch(graphs)
    labels = torch.tensor([1.0, 2.0])
    store = GraphStore(graphs, labels)
    for g in (graphs[0], store[0], store.batch([0, 1]), store.select([0, 1]).batch([0, 1])):
        g.ndata["feat"].fill_(7)
        g.edata["offset"] += 1
    for graph, target in store.loader(2):
        graph.ndata["feat"].fill_(7)
        target.fill_(7)
    labels.fill_(7)
    graphs[0].ndata["feat"].copy_(expected.ndata["feat"][:3])
    assert_equal(store.batch([0, 1]), expected)
    assert store.labels.tolist() == [1, 2]


def test_batches_are_freed():
    """By their last reference, without the collector."""
    store = GraphStore([with_frames(path(3))] * 4)
    gc.disable()
    try:
        batch = store.batch([0, 1, 2])
        adj = adjacency(batch)
        held = [weakref.ref(thing) for thing in (batch._graph, adj, adj.csr.eid, batch.ndata["feat"])]
        del batch, adj
        assert [thing() for thing in held] == [None] * 4
    finally:
        gc.enable()


def test_inference_mode():
    with torch.inference_mode():
        store = GraphStore([with_frames(path(3)), with_frames(tree())], labels=[0, 1])
        early = store.batch([0, 1])
    net = model().float()
    for graph in (store.batch([1, 0]), next(iter(store.loader(2)))[0]):
        net(graph, graph.ndata["feat"]).sum().backward()
    conv = GATConv(5, 4, 2)
    conv(early, torch.rand(10, 5)).sum().backward()


def test_store_is_detached():
    graph = path(3)
    graph.ndata["feat"] = torch.rand(3, 2, requires_grad=True)
    assert not GraphStore([graph]).batch([0]).ndata["feat"].requires_grad


# ---------------------------------------------------------------- loaders


LOADED = [with_frames(make(), i) for i, make in enumerate([tree, path, star, clique, edgeless, random_graph, path])]


def contents(loader):
    """What a loader yields, as lists, after a look at each graph."""
    actual = []
    for graph, labels in loader:
        chosen = labels.long().tolist()
        assert_equal(graph, dgl.batch([LOADED[i] for i in chosen]))
        actual.append(chosen)
    return actual


def seeded():
    return torch.Generator().manual_seed(5)


@pytest.fixture(scope="module")
def store():
    return GraphStore(LOADED, labels=torch.arange(7.0))


@pytest.mark.process
@pytest.mark.parametrize(
    "options",
    [
        {},
        dict(num_workers=2, multiprocessing_context="fork"),
        dict(num_workers=2, multiprocessing_context=preloaded_context(), persistent_workers=True),
    ],
    ids=["main", "forked", "not forked"],
)
def test_any_workers_give_the_same_batches(store, options):
    loader = store.loader(3, shuffle=True, generator=seeded(), **options)
    assert len(loader) == 3
    first, second = contents(loader), contents(loader)
    assert first == contents(store.loader(3, shuffle=True, generator=seeded()))
    assert [len(chosen) for chosen in first] == [3, 3, 1]
    assert sorted(itertools.chain(*first)) == sorted(itertools.chain(*second)) == list(range(7))
    assert first != second


@pytest.mark.process
@pytest.mark.parametrize("num_workers", [0, 2])
def test_custom_loader(store, num_workers):
    options = dict(num_workers=num_workers, collate_fn=store.collate)
    assert contents(DataLoader(store, 4, drop_last=True, **options)) == [[0, 1, 2, 3]]
    assert contents(DataLoader(Subset(store, [6, 2, 5]), 2, **options)) == [[6, 2], [5]]
    assert contents(DataLoader(store, batch_sampler=[[1, 1], [4]], **options)) == [[1, 1], [4]]
    with_repeats = RandomSampler(store, replacement=True, num_samples=9, generator=seeded())
    assert sum(map(len, contents(DataLoader(store, 4, sampler=with_repeats, **options)))) == 9


@pytest.mark.process
@pytest.mark.parametrize("num_workers", [0, 1])
def test_loader_without_labels(num_workers):
    (graph,) = GraphStore(LOADED).loader(7, num_workers=num_workers)
    assert_equal(graph, dgl.batch(LOADED))


@pytest.mark.process
@pytest.mark.parametrize("num_workers", [0, 1])
def test_batches_of_workers_need_no_sorting(store, num_workers, monkeypatch):
    monkeypatch.setattr(Adjacency, "from_edges", lambda *_: pytest.fail("edges were grouped"))
    for graph, labels in store.loader(4, num_workers=num_workers):
        assert adjacency(graph).num_edges == graph.num_edges()
        assert len(labels) == graph.batch_size


@pytest.mark.process
def test_errors_in_a_worker(store):
    with pytest.raises(IndexError, match="from 0 to 6, got 1 to 7"):
        list(DataLoader(store, batch_sampler=[[1, 7]], num_workers=1, collate_fn=store.collate))


def test_default_collate_raises(store):
    with pytest.raises(TypeError, match=f"default_collate.*{type(store[0]).__name__}"):
        next(iter(DataLoader(store, 2)))


def test_pickle_with_labels(store):
    again = pickle.loads(pickle.dumps(store))
    assert contents(again.loader(4)) == contents(store.loader(4))


def test_select(store):
    part = store.select([5, 0, 5])
    assert len(part) == 3
    assert part.labels.tolist() == [5, 0, 5]
    assert contents(part.loader(2)) == [[5, 0], [5]]
    assert contents(part.select([2, 1]).loader(2)) == [[5, 0]]
    assert len(store) == 7


def test_labels_of_any_shape():
    labels = torch.rand(3, 2)
    ((_, actual),) = GraphStore([path(2)] * 3, labels).loader(2, sampler=[2, 0])
    assert torch.equal(actual, labels[[2, 0]])


def test_superpixels():
    images = np.random.default_rng(0).random((6, 9, 9))
    graphs = [superpixel_graph(image, 8, 3) for image in images]
    store = GraphStore(graphs)
    assert "csc eid" not in store._flat.ends
    assert_equal(store.batch([4, 2, 2]), dgl.batch([graphs[i] for i in (4, 2, 2)]))


# ---------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: [], ValueError, "at least one graph, got none"),
        (lambda: [path(2), 5], TypeError, r"graph 1: expected a graph \(DGL, PyG.*\) or an edge_index, got int"),
        (lambda: [path(2), block()], ValueError, "graph 1: expected one node type .* got a block"),
        (lambda: [bipartite()], ValueError, "graph 0: expected one node type .*'in', 'to', 'out'"),
        (lambda: [path(2), dgl.batch([path(2)] * 3)], ValueError, "graph 1: expected a single graph, got a batch of 3"),
        (lambda: [path(2), path(2).int()], ValueError, "graph 1: .* same types .*int64.*, got .*int32"),
        (lambda: [path(2), with_frames(path(2))], ValueError, r"graph 1: .* same ndata .* \{\}, got \{'feat'"),
        (lambda: [with_frames(tree()), edgeless(1)], ValueError, "graph 1: .* same ndata .*'feat'.*, got {}"),
    ],
)
def test_invalid_graphs(make, error, message):
    with pytest.raises(error, match=message):
        GraphStore(make())


@pytest.mark.parametrize("name", BIPARTITE)
def test_two_node_types_raise(name):
    with pytest.raises(ValueError, match=r"expected one node type and one edge type, dgl.to_homogeneous"):
        GraphStore([GRAPHS[name]()])


@pytest.mark.parametrize(("column", "message"), [(torch.ones(4, 3), "3"), (torch.ones(4, 2).double(), "float64")])
def test_different_columns_raise(column, message):
    graphs = [path(5), path(5)]
    graphs[0].edata["w"], graphs[1].edata["w"] = torch.ones(4, 2), column
    with pytest.raises(ValueError, match=f"graph 1: .* same edata .*float32, 2.*got .*{message}"):
        GraphStore(graphs)


@pytest.mark.parametrize("labels", [[1], torch.ones(3), torch.tensor(2)])
def test_wrong_number_of_labels(labels):
    with pytest.raises(ValueError, match="labels: expected one for each of 2 graphs"):
        GraphStore([path(2)] * 2, labels)


@pytest.mark.parametrize(
    ("chosen", "error", "message"),
    [
        ([], ValueError, r"one or more graphs, \(B,\), got shape \(0,\)"),
        (1, ValueError, r"got shape \(\)"),
        ([[0, 1]], ValueError, r"got shape \(1, 2\)"),
        ([0.0, 1.0], TypeError, "float64"),
        (torch.tensor([True, False]), TypeError, "bool"),
        ([0, 2], IndexError, "from 0 to 1, got 0 to 2"),
        ([1, -1], IndexError, "from 0 to 1, got -1 to 1"),
    ],
)
def test_invalid_indices(chosen, error, message):
    store = GraphStore([path(2)] * 2)
    for method in (store.batch, store.select):
        with pytest.raises(error, match=message):
            method(chosen)
