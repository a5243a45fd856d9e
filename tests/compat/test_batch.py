"""``dgl.batch`` under `accelerate`: the same graph as DGL's, or DGL's own error."""

import dgl
import pytest
import torch
from dgl.dataloading import GraphDataLoader

from gnnlib.compat import accelerate
from gnnlib.testing.graphs import GRAPHS

ZOO = {name: make() for name, make in GRAPHS.items()}
ZOO = {name: graph for name, graph in ZOO.items() if not graph.is_block}


def _with_features(graph, scale=1.0, skip_empty=False):
    """A copy with a column of each kind in every frame; without those that have no rows, if ``skip_empty``."""
    graph = graph.clone() if graph.batch_size == 1 else graph.local_var()
    for ntype in graph.ntypes:
        num = graph.num_nodes(ntype)
        if num or not skip_empty:
            graph.nodes[ntype].data["x"] = torch.rand(num, 3) * scale
            graph.nodes[ntype].data["label"] = torch.arange(num, dtype=torch.int32)
    for etype in graph.canonical_etypes:
        num = graph.num_edges(etype)
        if num or not skip_empty:
            graph.edges[etype].data["w"] = torch.rand(num, 2, 2).double() * scale
    return graph


def _parts(graph):
    """All that a DGLGraph consists of, as lists."""

    def frame(data):
        return {name: (value.dtype, value.shape, value.tolist()) for name, value in data.items()}

    def sizes(values):
        return values.dtype, values.tolist()

    created = graph.formats()["created"][0]

    return {
        "types": (graph.ntypes, graph.canonical_etypes, graph.idtype, graph.device, graph.is_block),
        "formats": graph.formats(),
        "edges": {t: [a.tolist() for a in graph.adj_tensors(created, etype=t)] for t in graph.canonical_etypes},
        "node frames": {t: frame(graph.nodes[t].data) for t in graph.ntypes},
        "edge frames": {t: frame(graph.edges[t].data) for t in graph.canonical_etypes},
        "rows": [[f.num_rows for f in frames] for frames in (graph._node_frames, graph._edge_frames)],
        "node sizes": {t: sizes(graph.batch_num_nodes(t)) for t in graph.ntypes},
        "edge sizes": {t: sizes(graph.batch_num_edges(t)) for t in graph.canonical_etypes},
        "metagraph": sorted(graph.metagraph().edges(keys=True)),
    }


def _assert_equal(graphs, **options):
    """Of copies without cached batch sizes as well, so that both ways to count are compared."""
    expected = dgl.batch([graph.local_var() for graph in graphs], **options)
    with accelerate() as acceleration:
        actual = dgl.batch(graphs, **options)
    assert acceleration.calls == {("batch", "gnnlib"): 1}
    assert type(actual) is type(expected)
    assert _parts(actual) == _parts(expected)
    assert vars(actual).keys() == vars(expected).keys()
    return actual


@pytest.mark.parametrize("graph", ZOO.values(), ids=ZOO)
@pytest.mark.parametrize("names", [{}, {"ndata": None}, {"edata": None}, {"ndata": ["x"], "edata": []}], ids=str)
def test_graphs_of_each_kind(graph, names):
    graphs = [_with_features(graph, scale) for scale in (1, 2, 3)]
    _assert_equal(graphs, **names)
    _assert_equal(tuple(graphs[:1]), **names)


def _random(num_nodes, num_edges, **options):
    return _with_features(dgl.rand_graph(num_nodes, num_edges, **options), skip_empty=True)


@pytest.mark.parametrize("idtype", [torch.int32, torch.int64])
@pytest.mark.parametrize(
    "sizes", [[(5, 7), (0, 0), (2, 0), (3, 9)], [(0, 0)] * 3, [(4, 0)] * 2, [(1, 1)] * 70], ids=len
)
def test_graphs_without_nodes_or_edges_may_lack_columns(sizes, idtype):
    graphs = [_random(*size, idtype=idtype) for size in sizes]
    batch = _assert_equal(graphs)
    _assert_equal([batch, graphs[0], batch])
    assert _parts(dgl.unbatch(batch)[-1]) == _parts(graphs[-1])


@pytest.mark.parametrize("formats", ["coo", "csr", "csc", ["csr", "csc"], ["coo", "csc"]], ids=str)
def test_formats(formats):
    _assert_equal([_random(5, 7).formats(formats), _random(3, 4).formats(formats)])


def test_columns_that_were_not_read_yet():
    """A subgraph gathers a column when it is first read."""
    graph = _random(9, 30)
    parts = [dgl.node_subgraph(graph, [0, 3, 4]), dgl.node_subgraph(graph, [1, 8])]
    _assert_equal(parts, ndata=["x"])


def test_gradients_reach_the_features():
    graphs = [_random(3, 4), _random(2, 4)]
    x = [torch.rand(graph.num_nodes(), 2, requires_grad=True) for graph in graphs]
    for graph, value in zip(graphs, x):
        graph.ndata["x"] = value
    with accelerate():
        dgl.batch(graphs).ndata["x"].square().sum().backward()
    for value in x:
        torch.testing.assert_close(value.grad, 2 * value.detach())


def test_edits_of_the_batch_leave_the_graphs_alone():
    graphs = [_random(3, 4), _random(2, 4)]
    before = [_parts(graph) for graph in graphs]
    with accelerate():
        batch = dgl.batch(graphs)
        single = dgl.batch(graphs[:1])
    for graph in (batch, single):
        graph.ndata["x"] += 1
        graph.edata["new"] = torch.ones(graph.num_edges())
        graph.add_nodes(2)
    assert [_parts(graph) for graph in graphs] == before


def _block():
    return dgl.create_block(([0], [0]), 1, 1)


def _likes(kind):
    return dgl.heterograph({("user", kind, "item"): ([0], [1])})


def _scaled(dtype):
    graph = dgl.rand_graph(3, 4)
    graph.ndata["x"] = torch.ones(3, 2, dtype=dtype)
    return graph


INVALID = {
    "none": ([], {}),
    "a block": ([_block(), _block()], {}),
    "no graph": ([dgl.rand_graph(2, 2), None], {}),
    "a generator": (map(dgl.DGLGraph.clone, [dgl.rand_graph(2, 2)]), {}),
    "another name of a type": ([_likes("likes"), _likes("buys")], {}),
    "another number of types": ([_likes("likes"), dgl.rand_graph(2, 2)], {}),
    "another column": ([_scaled(torch.float32), dgl.rand_graph(2, 2)], {}),
    "another dtype": ([_scaled(torch.float32), _scaled(torch.float64)], {}),
    "an absent name": ([_scaled(torch.float32)] * 2, {"ndata": ["y"]}),
    "a name as text": ([_scaled(torch.float32)] * 2, {"ndata": "x"}),
    "names as a tuple": ([_scaled(torch.float32)] * 2, {"edata": ("x",)}),
    "another idtype": ([dgl.rand_graph(2, 2), dgl.rand_graph(2, 2).int()], {}),
    "other formats": ([dgl.rand_graph(2, 2), dgl.rand_graph(2, 2).formats("csr")], {}),
}


@pytest.mark.parametrize("name", INVALID)
def test_invalid_arguments_have_the_error_of_dgl(name):
    graphs, options = INVALID[name]

    def error():
        with pytest.raises((dgl.DGLError, AttributeError, TypeError, KeyError)) as caught:
            dgl.batch(graphs, **options)
        return type(caught.value), str(caught.value).partition("Stack trace")[0].partition("] ")[2] or str(caught.value)

    expected = error()
    with accelerate():
        assert error() == expected


def test_a_loader_of_dgl():
    graphs = [_random(3, 4) for _ in range(4)]
    with accelerate() as acceleration:
        batches = list(GraphDataLoader(graphs, batch_size=2))
    assert acceleration.calls == {("batch", "gnnlib"): 2}
    assert [_parts(batch) for batch in batches] == [_parts(dgl.batch(graphs[i : i + 2])) for i in (0, 2)]


def test_a_function_that_was_imported_meanwhile_is_dgl_s_again(monkeypatch):
    with accelerate() as acceleration:
        batch = dgl.batch
        batch([dgl.rand_graph(2, 2)])
    batch([dgl.rand_graph(2, 2)])
    assert acceleration.calls == {("batch", "gnnlib"): 1}
    monkeypatch.setattr("gnnlib.compat._batch._frames", lambda *args: pytest.fail("gnnlib was called"))
    batch([dgl.rand_graph(2, 2)])
