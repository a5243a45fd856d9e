"""The graph with planted communities: what was planted is there, and is the same every time."""

import pytest
import torch

from gnnlib import datasets

NUM = 4000


@pytest.fixture(scope="module")
def planted():
    return datasets.planted(NUM)


def test_shapes_and_parts(planted):
    graph, split = planted
    assert graph.ndata["feat"].shape == (NUM, 128)
    assert graph.ndata["feat"].dtype == torch.float32
    assert graph.ndata["label"].unique().tolist() == list(range(40))
    assert torch.equal(torch.cat(list(split.values())).sort().values, torch.arange(NUM))
    assert [len(ids) / NUM for ids in split.values()] == [0.54, 0.18, 0.28]


def test_links_go_both_ways_once(planted):
    src, dst = planted[0].edges()
    codes = src * NUM + dst
    assert bool((src != dst).all())
    assert len(codes.unique()) == len(codes)
    assert torch.equal(codes.sort().values, (dst * NUM + src).sort().values)
    assert 12 < len(codes) / NUM < 14


def test_degrees_follow_a_power_law(planted):
    degree = planted[0].in_degrees().float().sort(descending=True).values
    assert degree[0] > 10 * degree.mean()
    assert degree[: NUM // 100].sum() > 5 * NUM // 100 * degree.mean()


def test_communities_show_in_links_and_hardly_in_features(planted):
    graph, _ = planted
    label, (src, dst) = graph.ndata["label"], graph.edges()
    assert 0.57 < (label[src] == label[dst]).float().mean() < 0.63
    means = torch.stack([graph.ndata["feat"][label == c].mean(0) for c in range(40)])
    nearest = torch.cdist(graph.ndata["feat"], means).argmin(1)
    assert 0.2 < (nearest == label).float().mean() < 0.75
    assert abs(torch.corrcoef(torch.stack([torch.arange(NUM), label.float()]))[0, 1]) < 0.05, "ids tell nothing"


def test_seed(planted):
    graph, split = planted
    again, parts = datasets.planted(NUM)
    assert torch.equal(again.ndata["feat"], graph.ndata["feat"])
    assert torch.equal(torch.stack(again.edges()), torch.stack(graph.edges()))
    assert torch.equal(parts["test"], split["test"])
    assert not torch.equal(datasets.planted(NUM, seed=1)[0].ndata["label"], graph.ndata["label"])


def test_too_few_nodes():
    with pytest.raises(ValueError, match="expected 80 nodes or more, two for each community, got 79"):
        datasets.planted(79)
