"""The task `sphere`: what its networks see, their sizes, and what their figures must be by symmetry."""

import json
import math

import pytest
import torch

from gnnlib import datasets
from gnnlib.benchmarks.__main__ import main
from gnnlib.benchmarks.catalog.layers import choices
from gnnlib.benchmarks.metrics import num_parameters
from gnnlib.benchmarks.tasks import Options
from gnnlib.benchmarks.tasks.sphere import Sphere

OPTIONS = Options(epochs=1, limit=12)
LAYERS = choices(Sphere.extra_layers)
FIGURES = {"trained and tested upright, %", "trained and tested rotated, %"}
FIGURES |= {"scores, icosahedral rotations", "scores, random rotations"}
NODES = {"nodes, icosahedral rotations", "nodes, random rotations"}

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(Sphere, "num_measured", 4)
    monkeypatch.setattr(Sphere, "turns", 2)
    monkeypatch.setattr(Sphere, "reach", None)


@pytest.fixture
def task():
    task = Sphere()
    task.load(OPTIONS)
    return task


@pytest.mark.parametrize("name", ["cheb", "cnn"])
def test_figures_are_those_of_the_symmetry(task, name):
    epochs = []
    outcome = task.run(LAYERS[name], 0, OPTIONS, lambda record: epochs.append(record["epoch"]))
    assert epochs == [1, 2], "upright, then rotated"
    assert sum(map(sum, outcome.confusion)) == 2 * 12
    assert set(outcome.figures) == FIGURES | (NODES if name != "cnn" else set())
    assert all(math.isfinite(value) and value >= 0 for value in outcome.figures.values())
    follows = outcome.figures["scores, icosahedral rotations"] < 1e-4
    assert follows == (name != "cnn"), "the map has a north, the icosphere has none"
    if name != "cnn":
        assert outcome.figures["nodes, icosahedral rotations"] < 1e-4 < outcome.figures["nodes, random rotations"]


def test_the_same_seed_gives_the_same_figures(task):
    first, again = (task.run(LAYERS["gcn"], 3, OPTIONS, lambda record: None) for _ in range(2))
    assert first == again


def test_both_networks_are_of_a_size_and_see_as_much(task):
    cheb, cnn = (num_parameters(task.model(LAYERS[name])) for name in ("cheb", "cnn"))
    assert cnn == pytest.approx(cheb, rel=0.05)
    cells, points = len(task.points(LAYERS["cnn"])), len(task.points(LAYERS["cheb"]))
    assert (cells, points) == (648, 642)


def test_upright_once_and_rotated_a_few_times_the_same_for_all(task):
    points = task.points(LAYERS["cheb"])
    (upright,) = task.everything(points, False)
    assert upright.x.shape == (642, 12, 1)
    assert torch.equal(upright.target, datasets.digits(False)[1][:12])
    (rotated,) = task.everything(points, True)
    assert rotated.x.shape == (642, 24, 1)
    assert torch.equal(rotated.target, upright.target.repeat(2))
    assert torch.equal(rotated.x, next(task.everything(points, True)).x)
    assert not torch.equal(rotated.x[:, :12], rotated.x[:, 12:])
    torch.testing.assert_close(rotated.x.mean(0), upright.x.mean(0).repeat(2, 1), atol=0.02, rtol=0.1)


def test_mnist_is_on_a_finer_sphere(twins):
    task = Sphere()
    options = Options(data=twins.mnist(), epochs=1, limit=8)
    task.load(options)
    assert task.setting == "sphere-mnist"
    assert [graph.num_dst_nodes() for graph in task.graphs] == [2562, 2562, 642, 642]
    assert len(task.points(LAYERS["cnn"])) == 36 * 72
    assert task.num_epochs(LAYERS["gcn"], Options()) == 2 * 4
    assert 0.5 < float(task.train[0].max()) <= 1
    assert task.run(LAYERS["gcn"], 0, options, lambda record: None).parameters == num_parameters(
        task.model(LAYERS["gcn"])
    )


def test_a_run_writes_its_figures(tmp_path, capsys):
    words = ["run", "sphere", "--layers", "gcn", "--epochs", "1", "--limit", "8", "--out", str(tmp_path)]
    assert main(words) == 0
    (run,) = tmp_path.iterdir()
    result = json.loads((run / "gcn" / "result.json").read_text())
    assert result["task"] == "sphere-digits"
    assert set(result["figures"]) == FIGURES | NODES
    assert main([*words[:3], "ecc", *words[4:]]) == 2
    assert "sphere has no edge_feats for layer 'ecc'; expected one of: mlp, gcn" in capsys.readouterr().err
