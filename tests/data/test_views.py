"""Parts of a store as views: what they give is that of a copy to the bit, and no feature is copied to make one."""

import copy
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import ConcatDataset, DataLoader, Subset

from gnnlib import GraphStore, Standardize
from gnnlib._platform.dgl import dgl
from gnnlib.data import archive
from gnnlib.data.flat import FlatGraphs
from gnnlib.graph import adjacency
from gnnlib.testing.graphs import random_graph
from tests.attack.kinds.stores import write_store
from tests.processes import preloaded_context

NUMBER = 9
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more workers than cores


def numbered(number):
    graph = random_graph(4 + number, 7 + 2 * number, seed=number)
    draws = torch.Generator().manual_seed(number)
    graph.ndata["feat"] = torch.rand(graph.num_nodes(), 3, generator=draws)
    graph.edata["weight"] = torch.rand(graph.num_edges(), generator=draws)
    return graph


IN_MEMORY = GraphStore([numbered(number) for number in range(NUMBER)], labels=torch.arange(NUMBER) * 10)


@pytest.fixture(scope="module", params=["memory", "disk"])
def store(request, tmp_path_factory):
    if request.param == "memory":
        return IN_MEMORY
    folder = tmp_path_factory.mktemp("store")
    write_store(folder, num_graphs=NUMBER)
    return GraphStore.open(folder)


def bits(graph):
    """Every array of a batch, with its type."""
    adj = adjacency(graph)
    arrays = [*graph.edges(order="eid"), graph.batch_num_nodes(), graph.batch_num_edges(), *adj.csc, *adj.csr]
    arrays += [value for frame in (graph.ndata, graph.edata) for _, value in sorted(frame.items())]
    return [(str(value.dtype), tuple(value.shape), value.numpy().tobytes()) for value in arrays]


def all_bits(store):
    return [bits(graph) for graph in store], store.labels.tolist()


def reference(store, numbers):
    """A store of copies of graphs, made of the graphs one by one."""
    return GraphStore([store[int(i)] for i in numbers], labels=store.labels[list(numbers)])


CHOICE = st.lists(st.integers(0, NUMBER - 1), min_size=1, max_size=12)


@given(st.lists(CHOICE, min_size=1, max_size=3), st.data())
@pytest.mark.slow
def test_views_of_views_are_numpys(choices, data):
    """Any selection of a selection of a selection, against the same of an array of numbers."""
    view, numbers = IN_MEMORY, np.arange(NUMBER)
    for choice in choices:
        choice = [i % len(view) for i in choice]
        view, numbers = view[choice], numbers[choice]
    expected = reference(IN_MEMORY, numbers)
    assert len(view) == len(expected)
    assert all_bits(view) == all_bits(view.copy()) == all_bits(expected)
    chosen = data.draw(st.lists(st.integers(0, len(view) - 1), min_size=1, max_size=5))
    assert bits(view.batch(chosen)) == bits(view.copy().batch(chosen)) == bits(expected.batch(chosen))
    for name, column in view.ndata.items():
        assert torch.equal(column, expected.ndata[name])


SELECTIONS = {
    "list": [7, 2, 7],
    "mask": torch.arange(NUMBER) % 3 == 0,
    "slice": slice(1, None, 2),
    "backwards": slice(None, None, -1),
    "negative": np.array([-1, 3]),
}
WAYS = {
    "view": lambda view: view,
    "copy": GraphStore.copy,
    "pickled": lambda view: pickle.loads(pickle.dumps(view)),
    "deepcopy": copy.deepcopy,
    "shallow copy": copy.copy,
    "view of all": lambda view: view[:],
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("selection", SELECTIONS)
def test_all_that_a_view_does_is_what_a_copy_does(store, selection, way):
    numbers = np.arange(NUMBER)[SELECTIONS[selection]]
    view, expected = WAYS[way](store[SELECTIONS[selection]]), reference(store, numbers)
    assert all_bits(view) == all_bits(expected)
    assert view[-1].label == expected[-1].label
    assert {name: value.tolist() for name, value in view.ndata.items()} == {
        name: value.tolist() for name, value in expected.ndata.items()
    }
    orders = [torch.Generator().manual_seed(3) for _ in range(2)]
    loaders = [part.loader(2, shuffle=True, generator=order) for part, order in zip((view, expected), orders)]
    for (graph, labels), (want, targets) in zip(*loaders, strict=True):
        assert bits(graph) == bits(want)
        assert torch.equal(labels, targets)
    chosen = [1, 0]
    for part in (Subset(view, chosen), ConcatDataset([view[[1]], view[[0]]])):
        ((graph, labels),) = DataLoader(part, 2, collate_fn=view.collate)
        assert bits(graph) == bits(expected.batch(chosen))
        assert labels.tolist() == expected.labels[chosen].tolist()


@pytest.mark.process
@pytest.mark.parametrize("context", ["fork", preloaded_context()], ids=["forked", "not forked"])
def test_workers_of_a_view(store, context):
    view = store[[8, 1, 5, 1]]
    loader = view.loader(3, num_workers=1, multiprocessing_context=context)
    for (graph, labels), (want, targets) in zip(loader, reference(store, [8, 1, 5, 1]).loader(3), strict=True):
        assert bits(graph) == bits(want)
        assert torch.equal(labels, targets)


def test_splits_share_the_arrays(store):
    """No column is copied: a view has the arrays of its store, in memory or mapped."""
    before = store._flat
    parts = [*store.split((0.5, 0.25, 0.25), stratify=False), store[[3, 1]], store[2:], store[[3, 1]][[0]]]
    assert all(part._flat is before for part in parts)


def test_a_view_does_not_gather(monkeypatch):
    monkeypatch.setattr(FlatGraphs, "select", lambda *_: pytest.fail("graphs were copied"))
    view = IN_MEMORY.split((0.6, 0.4))[0][1:]
    assert view.batch([0, 1]).batch_size == 2
    assert len(list(view.loader(2))) == 2


def test_a_view_on_disk_is_pickled_as_its_folder_and_numbers(tmp_path):
    write_store(tmp_path, num_graphs=NUMBER, width=2**9)
    view = GraphStore.open(tmp_path)[[4, 2]]
    data = pickle.dumps(view)
    assert len(data) < 4000 < (tmp_path / "columns.bin").stat().st_size
    again = pickle.loads(data)
    assert again._flat.guard is not None
    assert all_bits(again) == all_bits(view)


def test_views_of_one_store_are_pickled_with_one_set_of_arrays():
    store = GraphStore([numbered(i % NUMBER) for i in range(200)], labels=range(200))
    size = len(pickle.dumps(store))
    parts = store.split((0.5, 0.25, 0.25))
    data = pickle.dumps(parts)
    assert len(data) < 1.2 * size
    assert len(pickle.dumps(store[[3]].copy())) < size / 10
    first, *rest = pickle.loads(data)
    assert all(part._flat is first._flat for part in rest)
    assert [all_bits(part) for part in (first, *rest)] == [all_bits(part) for part in parts]


def test_numbers_that_change_later_do_not_change_the_view():
    numbers, labels = torch.tensor([2, 1]), IN_MEMORY.labels.tolist()
    view = IN_MEMORY[numbers]
    same = IN_MEMORY.select(numbers)
    numbers.fill_(10**6)
    assert view.labels.tolist() == same.labels.tolist() == [20, 10]
    assert bits(view[0]) == bits(same[0]) == bits(IN_MEMORY[2])
    view.labels.fill_(-1)
    view.ndata["feat"].fill_(-1)
    view.copy()._flat.ndata["feat"].fill_(-1)
    assert IN_MEMORY.labels.tolist() == labels
    assert IN_MEMORY.ndata["feat"].min() >= 0


def test_statistics_of_a_view(store):
    """Mean and deviation of the training part, of a store on disk too, are those of its copy."""
    name = next(name for name, value in store.ndata.items() if value.is_floating_point() and value.dim() == 2)
    part = store[[6, 0, 3]]
    views, copies = (Standardize.fit(torch.nn.Identity(), data, name) for data in (part, part.copy()))
    assert torch.equal(views.mean, copies.mean)
    assert torch.equal(views.std, copies.std)
    x = dgl.batch(list(part)).ndata[name].double()
    torch.testing.assert_close(views.mean.double(), x.mean(0), rtol=1e-6, atol=1e-7)


def test_damage_is_noticed_by_views(tmp_path, monkeypatch):
    """A graph is verified when a view first reads it, whatever its number in the view."""
    write_store(tmp_path, num_graphs=NUMBER, width=2**11)
    monkeypatch.setattr(archive, "SPREAD", 1)
    path = tmp_path / "columns.bin"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    store = GraphStore.open(tmp_path)

    def refused(part, index):
        try:
            part.batch([index])
        except ValueError:
            return True
        return False

    numbers = [7, 2, 5, 0, 8, 1, 3, 6, 4]
    damaged = [refused(store, i) for i in range(NUMBER)]
    assert 0 < sum(damaged) < NUMBER
    assert [refused(GraphStore.open(tmp_path)[numbers], i) for i in range(NUMBER)] == [damaged[i] for i in numbers]
