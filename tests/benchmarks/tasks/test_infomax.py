"""Infomax and a linear layer on it, on twins of the data sets; and few labels on one half of a graph."""

import math

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from gnnlib import Stack
from gnnlib.benchmarks.catalog.layers import choices
from gnnlib.benchmarks.tasks import TASKS, Options, infomax
from gnnlib.benchmarks.tasks.few_labels import ARMS
from gnnlib.benchmarks.tasks.infomax import embed, encoder, fit_linear, pretrain

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def loaded(twins):
    def load(name, feats=50, classes=3):
        task = TASKS[name]()
        task.load(Options(data=twins.planetoid("cora", feats, classes)))
        return task

    return load


def finite(records):
    assert [record["epoch"] for record in records] == list(range(1, len(records) + 1))
    assert all(math.isfinite(value) for record in records for value in record.values())


def test_the_linear_layer_is_logistic_regression():
    """Trained to the end it predicts what scikit-learn's, without a penalty to speak of, predicts."""
    generator = torch.Generator().manual_seed(0)
    x, target = torch.randn(90, 4, generator=generator), torch.arange(90) % 3
    x[:, 0] += target
    torch.manual_seed(0)
    ours = fit_linear(x, target, 3, epochs=1000)(x).softmax(1).detach()
    other = LogisticRegression(C=1e6, max_iter=1000).fit(x.numpy(), target.numpy()).predict_proba(x.numpy())
    np.testing.assert_allclose(ours.numpy(), other, atol=0.01)


def test_dgi_with_a_linear_layer(loaded):
    task = loaded("cora")
    records = []
    outcome = infomax.run(task, 0, Options(epochs=15), records.append)
    finite(records)
    assert outcome.parameters == 50 * 512 + 512 + 1 + 512 * 3 + 3, "the encoder with its PReLU, the linear layer"
    assert outcome.curve["loss"][-1] < outcome.curve["loss"][0]
    assert outcome.score > 60, "one in three by chance"
    assert 0 <= outcome.figures["untrained encoder, %"] <= 100
    assert infomax.run(task, 0, Options(epochs=15), lambda _: None) == outcome, "the same seed, the same figures"
    assert infomax.run(task, 1, Options(epochs=15), lambda _: None).curve != outcome.curve


def test_pre_training_keeps_the_best_weights_and_knows_no_label(loaded, monkeypatch):
    monkeypatch.setattr(infomax, "PATIENCE", 2)
    task, runs = loaded("cora"), []
    for label in (task.label, 0 * task.label):
        task.label = label
        torch.manual_seed(0)
        model = encoder(50, 16)
        records = pretrain(model, 16, task.graph, task.feat, 60, lambda _: None)
        losses = [record["loss"] for record in records]
        assert losses.index(min(losses)) == len(losses) - 3 or len(losses) == 60
        runs.append((losses, embed(model, task.graph, task.feat)))
    assert runs[0][0] == runs[1][0]
    assert torch.equal(runs[0][1], runs[1][1])


# few labels


def run(task, arm, seed=0, epochs=3):
    records = []
    outcome = task.run(choices(task.extra_layers)[arm], seed, Options(epochs=epochs), records.append)
    finite(records)
    return outcome, records


def test_halves(loaded):
    task = loaded("transfer-cora", classes=7)
    halves = task.halves(0, "cpu")
    counts = [torch.bincount(half.target, minlength=7) for half in halves.values()]
    assert (counts[0] - counts[1]).abs().max() <= 1
    assert sum(half.graph.num_nodes() for half in halves.values()) == task.graph.num_nodes()
    ids = [half.graph.ndata["_ID"] for half in halves.values()]
    assert torch.cat(ids).unique().numel() == task.graph.num_nodes(), "no node in both"
    for half, nodes in zip(halves.values(), ids):
        src, dst = half.graph.edges()
        real = src != dst
        assert int((~real).sum()) == len(nodes)
        assert bool(task.graph.has_edges_between(nodes[src[real]], nodes[dst[real]]).all())
    assert not torch.equal(task.halves(1, "cpu")["labelled"].x, halves["labelled"].x)


@pytest.mark.parametrize("arm", ARMS)
def test_every_arm(loaded, monkeypatch, arm):
    short = ARMS[arm]._replace(tuning=ARMS[arm].tuning and (4, 0.01))
    monkeypatch.setitem(ARMS, arm, short)
    task = loaded("transfer-cora")
    outcome, records = run(task, arm)
    assert bool(records) == (ARMS[arm].half is not None), "only pre-training has epochs to show"
    assert list(outcome.figures) == ["1 a class, %", "20 a class, %"]
    assert all(0 <= value <= 100 for value in [outcome.score, *outcome.figures.values()])
    assert run(task, arm)[0] == outcome


def test_arms_learn_from_their_labels(loaded, monkeypatch):
    """1, 5 and 20 a class, the first ones of each; all are tested on the same other nodes."""
    task, seen = loaded("transfer-cora"), []

    def spy(x, target, num_classes):
        seen.append(target)
        return fit_linear(x, target, num_classes)

    monkeypatch.setattr("gnnlib.benchmarks.tasks.few_labels.fit_linear", spy)
    run(task, "features")
    assert [torch.bincount(target).tolist() for target in seen] == [[k] * 3 for k in (1, 5, 20)]


def test_an_empty_stack_is_the_features_alone(loaded):
    half = loaded("transfer-cora").halves(0, "cpu")["labelled"]
    assert torch.equal(embed(Stack([]), half.graph, half.x), half.x)
