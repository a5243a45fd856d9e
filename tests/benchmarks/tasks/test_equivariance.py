"""The task `equivariance`: every network of it, what its figures must be by symmetry, and their way into the report."""

import json
import math

import pytest
import torch

from gnnlib.benchmarks.__main__ import main
from gnnlib.benchmarks.catalog.layers import choices
from gnnlib.benchmarks.tasks import Options
from gnnlib.benchmarks.tasks.equivariance import SIZE, Equivariance, pixels, scattered, superpixels
from gnnlib.train.loop import outputs_and_targets

OPTIONS = Options(epochs=1, limit=40)
ALL = {"features, 1 px shift", "features, 2 px shift", "features, nodes relabelled", "within / between classes"}
ALL |= {"features, deformed 0.1", "features, deformed 0.2", "features, deformed 0.4", "each image shuffled, %"}
NODES = {"nodes, 1 px shift", "nodes, 2 px shift", "flat read-out, %", "flat, pixels permuted once, %"}
LAYERS = choices(Equivariance.extra_layers)


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(Equivariance, "num_measured", 12)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def task():
    task = Equivariance()
    task.load(OPTIONS)
    return task


@pytest.mark.parametrize("name", Equivariance.layers)
def test_every_network_has_the_figures_of_its_symmetry(task, name):
    outcome = task.run(LAYERS[name], 0, OPTIONS, lambda record: None)
    figures = outcome.figures
    assert sum(map(sum, outcome.confusion)) == 40
    assert set(figures) == ALL | (NODES if name in ("image-conv", "grid-conv", "gcn") else set())
    assert all(math.isfinite(value) and value >= 0 for value in figures.values())
    assert figures["within / between classes"] < 1.2
    if name in ("connected", "image-conv"):
        assert figures["features, nodes relabelled"] > 0.01, "it does not look at the graph"
    else:
        assert figures["features, nodes relabelled"] < 1e-4
    for pixel in (1, 2):
        assert figures.get(f"nodes, {pixel} px shift", 0) < 1e-5, "the interior of a grid has no place of its own"


def test_the_same_seed_gives_the_same_figures(task):
    first, again = (task.run(LAYERS["gcn"], 3, OPTIONS, lambda record: None) for _ in range(2))
    assert first == again
    assert task.run(LAYERS["gcn"], 4, OPTIONS, lambda record: None).figures != first.figures


def test_the_cnn_is_the_same_one_twice(task):
    def trained(name):
        torch.manual_seed(0)
        model = task.build(LAYERS[name])
        return model, outputs_and_targets(model, [pixels(*task.test)(torch.arange(40))])[0]

    (dense, y_dense), (grid, y_grid) = trained("image-conv"), trained("grid-conv")
    assert list(dense.state_dict()) == list(grid.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(dense.parameters(), grid.parameters()))
    torch.testing.assert_close(y_dense, y_grid, rtol=1e-4, atol=1e-5)


def test_digits_stand_in_the_middle_of_an_empty_border(task):
    images, labels = task.train
    assert images.shape == (40, 1, *SIZE)
    assert images[:, :, 3:-3, 3:-3].sum() == images.sum() > 0
    batch = pixels(images, labels)(torch.tensor([5, 2]))
    assert torch.equal(batch.x.view(2, *SIZE), images[[5, 2], 0])
    assert batch.target.tolist() == labels[[5, 2]].tolist()


def test_superpixels_are_of_the_enlarged_images(task):
    images, labels = (part[:3] for part in task.train)
    batch = superpixels(images, labels)(torch.tensor([2, 0]))
    assert batch.graph.batch_size == 2
    assert 14 < batch.graph.ndata["pos"].max() < 28
    src, dst = batch.graph.edges()
    torch.testing.assert_close(4 * batch.edge, batch.graph.ndata["pos"][src] - batch.graph.ndata["pos"][dst])


def test_scattered_pixels_are_the_same_ones_with_their_graph(task):
    cut, rows = pixels(*task.train), torch.arange(4)
    order = torch.randperm(SIZE[0] * SIZE[1])
    batch, once, afresh = cut(rows), scattered(cut, order)(rows), scattered(cut)(rows)
    assert torch.equal(once.x.view(4, -1), batch.x.view(4, -1)[:, order])
    assert torch.equal(once.graph.ndata["pos"].view(4, -1, 2), batch.graph.ndata["pos"].view(4, -1, 2)[:, order])
    assert torch.equal(afresh.x.view(4, -1).sort(1).values, batch.x.view(4, -1).sort(1).values)
    assert not torch.equal(afresh.graph.ndata["pos"][:196], afresh.graph.ndata["pos"][196:392])
    assert not torch.equal(scattered(cut)(rows).x, afresh.x)


def test_a_run_writes_and_shows_the_figures(tmp_path, capsys):
    words = ["run", "equivariance", "--layers", "connected,gcn", "--epochs", "1", "--limit", "40", "--out"]
    assert main([*words, str(tmp_path)]) == 0
    (run,) = tmp_path.iterdir()
    result = json.loads((run / "gcn" / "result.json").read_text())
    assert set(result["figures"]) == ALL | NODES
    assert result["figures"]["nodes, 1 px shift"]["std"] is None
    printed, page = capsys.readouterr().out, (run / "report.html").read_text()
    for name in ALL | NODES:
        assert name in page
        assert name in printed
    assert main(["report", "--out", str(tmp_path)]) == 0
    assert "within / between classes" in capsys.readouterr().out


def test_other_tasks_lack_its_networks(tmp_path, capsys):
    assert main(["run", "digits", "--layers", "grid-conv", "--out", str(tmp_path)]) == 2
    assert "unknown layer 'grid-conv'; expected one of: mlp, gcn" in capsys.readouterr().err
    assert main(["run", "equivariance", "--layers", "nothing", "--out", str(tmp_path)]) == 2
    assert "superpixel-ecc" in capsys.readouterr().err
