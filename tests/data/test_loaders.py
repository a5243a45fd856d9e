"""Stores under the loaders and data sets of DGL and PyTorch: the graphs and labels of each batch come along."""

import pytest
import torch
from dgl.dataloading import GraphDataLoader
from torch.utils.data import ConcatDataset, DataLoader, StackDataset, Subset, TensorDataset, random_split

from gnnlib import GraphStore
from gnnlib._platform.dgl import dgl
from gnnlib.testing.graphs import random_graph

LABELS = torch.arange(6) * 10


def numbered(number):
    graph = random_graph(5 + number, 9 + number, seed=number)
    graph.ndata["number"] = torch.full((graph.num_nodes(),), number)
    graph.edata["weight"] = torch.rand(graph.num_edges(), generator=torch.Generator().manual_seed(number))
    return graph


GRAPHS = [numbered(number) for number in range(6)]
STORE, BARE = GraphStore(GRAPHS, LABELS), GraphStore(GRAPHS)


def numbers(graph):
    return [one.ndata["number"][0].item() for one in dgl.unbatch(graph)]


def assert_batches(loader, expected, labels=True):
    """Batches of these graphs, in order, each graph as it was, with its label."""
    batches = list(loader)
    assert len(batches) == len(expected)
    for batch, chosen in zip(batches, expected, strict=True):
        graph = batch
        if labels:
            graph, target = batch
            assert target.tolist() == [10 * number for number in chosen]
        assert numbers(graph) == chosen
        want = dgl.batch([GRAPHS[number] for number in chosen])
        assert torch.equal(graph.edata["weight"], want.edata["weight"])
        assert all(torch.equal(a, b) for a, b in zip(graph.edges(order="eid"), want.edges(order="eid")))


WORKERS = [0, pytest.param(2, marks=pytest.mark.process)]


@pytest.mark.parametrize("num_workers", WORKERS)
@pytest.mark.filterwarnings("ignore:Dataloader CPU affinity opt is not enabled")
def test_loader_of_dgl(num_workers):
    assert_batches(GraphDataLoader(STORE, batch_size=4, num_workers=num_workers), [[0, 1, 2, 3], [4, 5]])
    assert_batches(GraphDataLoader(BARE, batch_size=4, num_workers=num_workers), [[0, 1, 2, 3], [4, 5]], labels=False)
    both = GraphDataLoader(STORE, collate_fn=STORE.collate, batch_size=4, num_workers=num_workers)
    assert_batches(both, [[0, 1, 2, 3], [4, 5]])


@pytest.mark.parametrize("num_workers", WORKERS)
def test_concatenated_stores(num_workers):
    options = dict(batch_size=4, num_workers=num_workers, collate_fn=STORE.collate)
    parts = ConcatDataset([STORE.select([3, 4]), STORE.select([0, 1, 2])])
    assert_batches(DataLoader(parts, **options), [[3, 4, 0, 1], [2]])
    bare = ConcatDataset([BARE.select([3, 4]), BARE.select([0])])
    assert_batches(DataLoader(bare, **options), [[3, 4, 0]], labels=False)
    assert_batches(DataLoader(STORE + STORE, sampler=[7, 2], **options), [[1, 2]])


@pytest.mark.parametrize("num_workers", WORKERS)
def test_one_graph_at_a_time(num_workers):
    for loader in (
        STORE.loader(batch_size=None, num_workers=num_workers),
        DataLoader(STORE, batch_size=None, collate_fn=STORE.collate, num_workers=num_workers),
        STORE.loader(batch_size=1, num_workers=num_workers),
    ):
        samples = list(loader)
        assert [numbers(graph) for graph, _ in samples] == [[number] for number in range(6)]
        assert [int(label) for _, label in samples] == LABELS.tolist()
    assert [numbers(graph) for graph in BARE.loader(None, num_workers=num_workers)] == [[n] for n in range(6)]


def test_a_graph_has_its_label():
    assert [graph.label.item() for graph in STORE] == LABELS.tolist()
    assert STORE[-1].label == 50
    assert [graph.label for graph in DataLoader(STORE, batch_size=None)] == LABELS.tolist()
    assert BARE[2].label is None


def test_subsets_and_stacked_data_sets():
    first, second = random_split(STORE, [4, 2], torch.Generator().manual_seed(0))
    chosen = [*first.indices, *second.indices]
    assert sorted(chosen) == list(range(6))
    assert_batches(DataLoader(first, 4, collate_fn=STORE.collate), [first.indices])
    assert_batches(GraphDataLoader(Subset(STORE, [5, 5, 1]), batch_size=2), [[5, 5], [1]])
    pairs = StackDataset(STORE, TensorDataset(torch.arange(6)))
    ((graph, labels), rows) = next(iter(GraphDataLoader(pairs, batch_size=3)))
    assert numbers(graph) == [0, 1, 2]
    assert (labels.tolist(), rows[0].tolist()) == ([0, 10, 20], [0, 1, 2])


class Rotated(torch.utils.data.Dataset):
    """A data set of a user: its graphs are new and have no label."""

    def __len__(self):
        return len(STORE)

    def __getitem__(self, i):
        return dgl.reverse(STORE[i], copy_ndata=True)


def test_graphs_without_their_label_are_refused():
    with pytest.raises(TypeError, match=r"collate: expected graphs store\[i\] .*, got a DGLGraph without it"):
        next(iter(DataLoader(Rotated(), 2, collate_fn=STORE.collate)))
    with pytest.raises(TypeError, match=r"collate: expected graphs .*, got a tuple without it; use the default"):
        STORE.collate([(GRAPHS[0], 1)])
    with pytest.raises(ValueError, match="collate: expected a label for each of 2 graphs, got 1 without one"):
        STORE.collate([STORE[0], BARE[1]])
