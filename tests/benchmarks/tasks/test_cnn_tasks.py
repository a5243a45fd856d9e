"""Networks on images: the same training by PyTorch's kernels and as messages, and figures that say their data."""

import importlib
import json

import numpy as np
import pytest
import torch

from gnnlib.benchmarks.__main__ import main
from gnnlib.benchmarks.catalog.layers import LAYERS
from gnnlib.benchmarks.runner.request import RunRequest
from gnnlib.benchmarks.tasks import TASKS, Options
from gnnlib.benchmarks.tasks.cnn import enlarged
from gnnlib.datasets import FASHION, digits, mnist

NETWORKS = {"lenet": 60000, "cnn": 93322, "fashion": 93322}  # their parameters, as published


pytestmark = pytest.mark.usefixtures("one_thread")


def loaded(name, **options):
    task = TASKS[name]()
    task.load(Options(**options))
    return task


def train(task, layer, seed=0, **options):
    return task.run(LAYERS[layer], seed, Options(**options), lambda record: None)


@pytest.mark.parametrize("name", NETWORKS)
def test_both_paths_are_one_training(name):
    """One epoch of few steps: rounding has not grown yet."""
    task = loaded(name, limit=64)
    dense, graph = (train(task, layer, epochs=1) for layer in ("cnn", "cnn-graph"))
    assert dense.parameters == graph.parameters == NETWORKS[name]
    assert dense.curve["loss"] == pytest.approx(graph.curve["loss"], rel=1e-4)
    assert dense.score == pytest.approx(graph.score, abs=1.6), "an image of 64"
    assert dense.curve["test"] == [dense.score]
    assert sum(map(sum, dense.confusion)) == 64
    assert train(task, "cnn-graph", epochs=1) == graph, "the same seed, the same figures"
    assert train(task, "cnn", seed=1, epochs=1).curve["loss"] != dense.curve["loss"]


def test_the_digits_cnn_is_one_network_on_both_paths():
    task = loaded("digits", limit=64)
    dense, graph = (train(task, layer, epochs=2, limit=64) for layer in ("cnn", "cnn-graph"))
    assert dense.parameters == graph.parameters
    assert dense.curve["loss"] == pytest.approx(graph.curve["loss"], rel=1e-3), "dropout drew the same"


@pytest.mark.parametrize("layer", ["cnn", "cnn-graph"])
def test_a_seed_starts_the_same_weights_on_both_paths(layer):
    task = loaded("lenet", limit=2)
    torch.manual_seed(3)
    expected = task.network().state_dict()
    torch.manual_seed(3)
    network = task.model(LAYERS[layer]).network
    assert (type(network) is type(task.network())) == (layer == "cnn")
    assert getattr(network, "backend", "dense") == ("graph" if layer == "cnn-graph" else "dense")
    for name, value in network.state_dict().items():
        assert torch.equal(value, expected[name])


def test_the_networks_learn():
    assert train(loaded("cnn", limit=256), "cnn", epochs=6).score > 60, "percent; chance is 10"


def test_the_rate_goes_through_one_cycle(monkeypatch):
    rates = []
    step = torch.optim.Adam.step

    def spy(self, *args):
        rates.append(self.param_groups[0]["lr"])
        return step(self, *args)

    spy.hooked = True  # the step within calls the hooks
    monkeypatch.setattr(torch.optim.Adam, "step", spy)
    train(loaded("cnn", limit=320), "cnn", epochs=2)
    assert len(rates) == 20
    peak = rates.index(max(rates))
    assert max(rates) == pytest.approx(2e-3, rel=0.01)
    assert rates == sorted(rates[: peak + 1]) + sorted(rates[peak + 1 :], reverse=True)
    assert rates[-1] < 1e-4


# data


@pytest.mark.parametrize("name", NETWORKS)
def test_without_a_data_directory_the_digits_are_enlarged(name):
    task = loaded(name)
    assert task.setting == f"{name}-digits"
    assert [len(labels) for _, labels in (task.train, task.test)] == [1347, 450]
    assert task.geometry.image == ((1, 32, 32) if name == "lenet" else (1, 28, 28))
    assert torch.equal(task.train[1], digits()[1])
    assert task.classes == [str(c) for c in range(10)]


def test_enlarged_digits_are_linear_between_pixels_and_have_a_margin():
    images = digits()[0][:5]
    places = (np.arange(20) + 0.5) * 8 / 20 - 0.5
    expected = np.apply_along_axis(lambda line: np.interp(places, np.arange(8), line), 1, images.numpy())
    expected = np.apply_along_axis(lambda line: np.interp(places, np.arange(8), line), 2, expected)
    expected = np.pad(expected, ((0, 0), (4, 4), (4, 4)))
    np.testing.assert_allclose(enlarged(images).numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("environment", [True, False])
def test_with_a_data_directory_it_is_mnist(twins, monkeypatch, environment):
    folder = twins.mnist()
    if environment:
        monkeypatch.setenv("GNNLIB_DATA", str(folder))
    task = loaded("cnn", data=None if environment else folder)
    assert task.setting == "cnn-mnist"
    images, labels = mnist(folder)
    assert torch.equal(task.train[0], images / 255)
    assert torch.equal(task.train[1], labels)
    wide = loaded("lenet", data=folder).train[0]
    assert (wide.shape, wide[0, 0, 0].item()) == ((24, 32, 32), pytest.approx(-0.1)), "the paper's background"
    assert torch.allclose((wide[:, 2:-2, 2:-2] + 0.1) / 1.275, task.train[0], atol=1e-6)


def test_fashion_is_never_mnist(twins, monkeypatch):
    folder = twins.mnist()
    module = importlib.import_module("gnnlib.datasets._fashion")  # `gnnlib.datasets.fashion` itself is the function
    monkeypatch.setattr(module, "URL", (folder / "nowhere").as_uri() + "/")
    monkeypatch.setattr(module, "INSTALLED", folder / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"fashion-mnist/train-images-idx3-ubyte\.gz not found"):
        loaded("fashion", data=folder)
    (folder / "mnist").rename(folder / "fashion-mnist")
    task = loaded("fashion", data=folder)
    assert task.setting == "fashion-mnist"
    assert task.classes == list(FASHION)


def test_results_of_different_data_lie_apart_and_say_so(tmp_path, twins, monkeypatch, capsys):
    words = ["run", "lenet", "--epochs", "1", "--limit", "8", "--layers", "cnn", "--out", str(tmp_path / "out")]
    monkeypatch.setenv("GNNLIB_DATA", str(twins.mnist()))
    assert main(words) == 0
    monkeypatch.delenv("GNNLIB_DATA")
    assert main(words) == 0
    results = {}
    for data in ("mnist", "digits"):
        path = tmp_path / "out" / f"lenet-{data}-epochs1-limit8" / "cnn" / "result.json"
        results[data] = json.loads(path.read_text())
        assert results[data]["task"] == f"lenet-{data}"
    assert results["mnist"]["published"]["value"] == 99.05
    assert results["digits"]["published"] is None
    assert "--data DIR" in results["mnist"]["command"]
    assert "--data DIR" not in results["digits"]["command"]
    assert "lenet-digits" in capsys.readouterr().out


def test_the_command_names_the_data_however_they_were_named(monkeypatch, tmp_path):
    monkeypatch.setenv("GNNLIB_DATA", str(tmp_path))
    assert RunRequest(tasks=["cnn"]).command_of("cnn") == "python -m benchmarks run cnn --data DIR"
