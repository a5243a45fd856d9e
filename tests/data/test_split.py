"""`GraphStore.split` and parts of a store by numbers, masks and slices."""

from itertools import chain

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gnnlib import GraphStore
from gnnlib._platform.dgl import dgl


def store(labels, number=None):
    """Graph i has i + 1 nodes, so that each can be told from the others."""
    number = len(labels) if number is None else number
    return GraphStore([dgl.graph(([], []), num_nodes=i + 1) for i in range(number)], labels=labels)


def numbers(part):
    """Which graphs of the store a part holds."""
    return [graph.num_nodes() - 1 for graph in part]


CLASSES = st.lists(st.integers(0, 3), min_size=3, max_size=40)
FRACTIONS = st.sampled_from([(0.8, 0.1, 0.1), (0.5, 0.5), (0.6, 0.2, 0.2), (0.34, 0.33, 0.33), (0.9, 0.1), (1.0,)])


@given(CLASSES, FRACTIONS, st.integers(0, 5), st.booleans())
@pytest.mark.slow
def test_parts_are_disjoint_complete_and_of_their_shares(labels, fractions, seed, stratify):
    graphs, labels = store(torch.tensor(labels)), torch.tensor(labels)
    exact = [fraction * len(labels) for fraction in fractions]
    if min(exact) < 1:  # a part may have no graph
        return
    parts = graphs.split(fractions, seed, stratify=stratify)
    assert sorted(chain.from_iterable(map(numbers, parts))) == list(range(len(labels)))
    for part, size in zip(parts, exact, strict=True):
        assert abs(len(part) - size) < 1
        assert torch.equal(part.labels, labels[numbers(part)])
        assert numbers(part) == sorted(numbers(part))
    again = graphs.split(fractions, seed, stratify=stratify)
    assert list(map(numbers, parts)) == list(map(numbers, again))
    if stratify:
        for part, fraction in zip(parts, fractions, strict=True):
            count = part.labels.bincount(minlength=4)
            assert bool(((count - fraction * labels.bincount(minlength=4)).abs() < 2).all())


def test_the_seed_is_of_the_order_and_no_other_draw_is_made():
    graphs = store(torch.arange(30) % 3)
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    parts = [graphs.split(seed=seed)[0] for seed in range(5)]
    assert torch.equal(torch.rand(3), expected)
    assert len({tuple(numbers(part)) for part in parts}) == 5


def test_every_graph_comes_to_every_part():
    """Over many seeds each graph is in the test part as often as any other."""
    graphs = store(torch.arange(10))
    count = torch.zeros(10)
    for seed in range(200):
        count[numbers(graphs.split((0.8, 0.2), seed)[1])] += 1
    assert 20 < count.min() <= count.max() < 60


def test_a_store_without_labels_is_split_too():
    train, test = store(None, 10).split((0.7, 0.3))
    assert (len(train), len(test), train.labels) == (7, 3, None)


INDICES = {
    "list": [3, 1, 3],
    "tensor": torch.tensor([3, 1, 3]),
    "int32": np.array([3, 1, 3], np.int32),
    "negative": [-3, 1, -3],
    "range": range(2, 5),
    "slice": slice(1, None, 2),
    "backwards": slice(None, None, -1),
    "mask": torch.tensor([True, False, False, True, True, False]),
    "mask of NumPy": np.array([True, False, False, True, True, False]),
    "mask as list": [True, False, False, True, True, False],
}


@pytest.mark.parametrize("kind", INDICES)
def test_a_part_of_a_store_is_that_of_an_array(kind):
    index = INDICES[kind]
    expected = np.arange(6)[np.asarray(index) if not isinstance(index, slice) else index]
    part = store(10 * torch.arange(6))[index]
    assert isinstance(part, GraphStore)
    assert numbers(part) == expected.tolist()
    assert part.labels.tolist() == (10 * expected).tolist()


@pytest.mark.parametrize("index", [2, -4, np.int64(2), torch.tensor(2), torch.tensor(-4)])
def test_a_number_is_a_graph(index):
    graph = store(torch.arange(6))[index]
    assert isinstance(graph, dgl.DGLGraph)
    assert graph.num_nodes() == 3


def test_nothing_is_refused():
    for index in ([], slice(3, 3), torch.zeros(6, dtype=torch.bool)):
        with pytest.raises(ValueError, match="expected the indices of one or more graphs"):
            store(torch.arange(6))[index]
