"""Link prediction: the protocol on twins of the data sets, its figures against counting pairs, and real Cora."""

import math

import pytest
import torch

from gnnlib import datasets
from gnnlib.benchmarks.catalog.layers import LAYERS, choices
from gnnlib.benchmarks.tasks import TASKS, Options
from gnnlib.benchmarks.tasks.links import ranking
from gnnlib.models import GAE, VGAE

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def loaded(twins):
    def load(name, feats=50, classes=3):
        task = TASKS[f"links-{name}"]()
        task.load(Options(data=twins.planetoid(name, feats, classes)))
        return task

    return load


def run(task, layer, seed=0, epochs=2):
    records = []
    outcome = task.run(choices(task.extra_layers)[layer], seed, Options(epochs=epochs), records.append)
    assert [record["epoch"] for record in records] == list(range(1, epochs + 1))
    assert all(math.isfinite(value) for record in records for value in record.values())
    return outcome


def test_ranking_counts_pairs_in_order():
    """The area is the share of pairs of a link and a non-link in the right order; a tie counts half."""
    z = torch.tensor([[1.0], [3.0], [2.0], [0.5]])
    u, v, linked = torch.tensor([[0, 1], [0, 2], [1, 2], [0, 3], [2, 3]]).unbind(1) + (torch.tensor([1.0, 1, 0, 0, 0]),)
    auc, precision = ranking(z, datasets.Links(u, v, linked))  # scores 3, 2 against 6, 0.5, 1
    assert auc == pytest.approx(100 * 4 / 6)
    assert precision == pytest.approx(100 * (1 / 2 + 2 / 3) / 2)


@pytest.mark.parametrize(("layer", "width"), [("gae", 16), ("vgae", 32)])
def test_the_papers_networks(loaded, layer, width):
    task = loaded("cora", 1433, 7)
    outcome = run(task, layer)
    assert outcome.parameters == 1433 * 32 + 32 * width, "two layers without biases"
    assert list(outcome.figures) == ["average precision, %"]
    assert 0 <= outcome.score <= 100
    assert outcome.validation == outcome.curve["validation"][-1]
    assert run(task, layer) == outcome, "the same seed, the same figures"
    assert run(task, layer, seed=1).curve != outcome.curve


def test_which_model_and_how_many_pairs(loaded):
    cora, pubmed = loaded("cora"), loaded("pubmed")
    specs = choices(cora.extra_layers)
    assert [type(cora.model(specs[name])) for name in ("gae", "vgae", "sage")] == [GAE, VGAE, GAE]
    assert cora.model(specs["gae"]).num_pairs is None
    assert pubmed.model(specs["vgae"]).num_pairs == 2**18
    assert (cora.epochs, pubmed.epochs) == (200, 300)


@pytest.mark.parametrize("layer", ["mlp", "gat", "vgae"])
def test_other_layers_and_a_sample_of_pairs(loaded, layer):
    outcome = run(loaded("pubmed"), layer)
    assert 0 <= outcome.score <= 100


def test_no_test_link_reaches_the_network(loaded, monkeypatch):
    task, seen = loaded("cora"), []
    monkeypatch.setattr("gnnlib.benchmarks.tasks.links.learn", lambda model, graph, *_, **__: seen.append(graph) or [])
    with pytest.raises(IndexError):  # there are no records to read
        run(task, "gae", seed=5)
    split = datasets.link_split(task.graph, 5)
    for links in (split.val, split.test):
        linked = links.linked.bool()
        for u, v in ((links.u, links.v), (links.v, links.u)):
            assert bool(task.graph.has_edges_between(u[linked], v[linked]).all())
            assert not bool(seen[0].has_edges_between(u, v).any())


def test_links_of_the_real_cora(data_dir):
    if not (data_dir / "planetoid" / "ind.cora.graph").is_file():
        pytest.skip(f"no real data: {data_dir}/planetoid has no cora")
    task = TASKS["links-cora"]()
    task.load(Options(data=data_dir))
    outcome = run(task, "gae", epochs=25)
    assert outcome.score > 82
    assert outcome.figures["average precision, %"] > 82
    assert LAYERS["gcn"].fits(task.geometry)
