"""Pixel weights on superpixels: both readings of an image are alike, and each arm trains on what it says."""

import json
import math

import pytest
import torch

from gnnlib.benchmarks.__main__ import main
from gnnlib.benchmarks.catalog.layers import LAYERS
from gnnlib.benchmarks.tasks import TASKS, Options
from gnnlib.benchmarks.tasks.transfer import Part, in_spacings, largest
from gnnlib.graph import keep_edges
from gnnlib.images import pixel_batch, pixel_graph, superpixel_graph
from gnnlib.images.superpixels import graph_from_labels

ARMS = ["pixels, %", "carried over, %", "from scratch, %"]


pytestmark = pytest.mark.usefixtures("one_thread")


def loaded(**options):
    task = TASKS["transfer"]()
    task.load(Options(**options))
    return task


def run(task, layer="spline", seed=0, epochs=1):
    records, options = [], Options(epochs=epochs)
    outcome = task.run(LAYERS[layer], seed, options, records.append)
    assert [record["epoch"] for record in records] == list(range(1, task.num_epochs(LAYERS[layer], options) + 1))
    assert all(math.isfinite(value) for record in records for value in record.values())
    return outcome, records


@pytest.fixture(scope="module")
def digits():
    return loaded(limit=64)


def test_where_superpixels_are_squares_nothing_changes(digits):
    """The graph of 4 x 4 squares is the pixel graph but for longer edges at the border."""
    torch.manual_seed(0)
    image, rows = torch.rand(8, 8), torch.tensor([0])
    large, squares = (t.repeat_interleave(4, 0).repeat_interleave(4, 1) for t in (image, torch.arange(64).view(8, 8)))
    regions = graph_from_labels(large, squares)
    regions = keep_edges(regions, regions.edata["offset"].abs().amax(1) <= 4)
    part = Part.of(image.unsqueeze(0), [regions], torch.tensor([7]), area=32 * 32)
    pixels, superpixels = part.pixels(rows), part.superpixels(rows)
    assert superpixels.graph.num_edges() == pixels.graph.num_edges()
    for layer in ("spline", "gcn"):
        model = digits.model(LAYERS[layer]).eval()
        y = model(pixels.graph, pixels.x)
        torch.testing.assert_close(model(superpixels.graph, superpixels.x), y, rtol=1e-4, atol=1e-5)
    assert pixels.target.tolist() == superpixels.target.tolist() == [7]


def test_superpixels_are_about_one_apart(digits):
    for graph in (superpixel_graph(torch.rand(28, 28), 50), superpixel_graph(torch.rand(40, 20), 80)):
        area = 28 * 28 if graph.num_nodes() < 65 else 800
        moved = in_spacings(graph, area)
        src, dst = moved.edges()
        distance = (moved.ndata["pos"][src] - moved.ndata["pos"][dst]).norm(dim=1)
        assert distance[src != dst].view(-1, 8)[:, :4].mean() == pytest.approx(1, abs=0.2), "the four nearest"
        assert int((src == dst).sum()) == graph.num_nodes()
    sizes = [graph.num_nodes() for graph in digits.train.regions]
    assert 55 < sum(sizes) / len(sizes) < 75, "about as many as pixels"


def test_the_read_out_of_a_lattice_is_that_of_a_batch():
    x = torch.randn(3, 20, 5)  # images, pixels, features
    on_lattice = largest(pixel_graph((4, 5)), x.transpose(0, 1))
    assert torch.equal(on_lattice, x.amax(1))
    assert torch.equal(largest(pixel_batch((4, 5), 3), x.flatten(0, 1)), on_lattice)


def test_the_arms(digits):
    outcome, records = run(digits, epochs=2)
    assert list(outcome.figures) == ARMS
    assert all(0 <= value <= 100 for value in [outcome.score, *outcome.figures.values()])
    assert len(records) == 6 + 2 + 2, "on pixels, from scratch, fine-tuned"
    assert records[5]["test"] == outcome.figures["pixels, %"]
    assert records[7]["test"] == outcome.figures["from scratch, %"]
    assert records[9]["test"] == outcome.score
    assert outcome.curve["loss"] == [record["loss"] for record in records[-2:]]
    assert outcome.curve["epoch"] == [1, 2]
    assert sum(map(sum, outcome.confusion)) == 64
    assert outcome.parameters == 19370


def test_the_same_seed_gives_the_same_figures(digits):
    first, _ = run(digits, "gcn")
    assert run(digits, "gcn")[0] == first
    assert run(digits, "gcn", seed=1)[0].curve != first.curve


def test_pixel_weights_are_worth_something_on_superpixels():
    """Far above chance as they are; after a few epochs, ahead of a network that starts anew."""
    outcome, _ = run(loaded(limit=300), epochs=5)
    carried, scratch = outcome.figures["carried over, %"], outcome.figures["from scratch, %"]
    assert carried > 30, "one in ten by chance"
    assert outcome.score > carried
    assert outcome.score > scratch + 10


def test_mnist_runs_on_a_twin(twins):
    task = loaded(data=twins.mnist(), limit=16)
    assert task.setting == "transfer-mnist"
    assert task.train.images.shape == (16, 9, 9)
    assert [len(part.regions) for part in (task.train, task.test)] == [16, 12]
    outcome, _ = run(task)
    assert sum(map(sum, outcome.confusion)) == 12


def test_the_result_file_has_every_arm(tmp_path, capsys):
    main(["run", "transfer", "--limit", "20", "--epochs", "1", "--layers", "spline", "--out", str(tmp_path)])
    result = json.loads((tmp_path / "transfer-digits-epochs1-limit20" / "spline" / "result.json").read_text())
    assert result["task"] == "transfer-digits"
    assert list(result["figures"]) == ARMS
    assert "from scratch" in capsys.readouterr().out
