"""The tutorial's models: its adjacency entry by entry, its parameters, its recipe."""

import math
from functools import cache

import numpy as np
import pytest
import torch
from torch import nn

from gnnlib.benchmarks.catalog.layers import choices, choose
from gnnlib.benchmarks.errors import UsageError
from gnnlib.benchmarks.tasks import TASKS, Options
from gnnlib.benchmarks.tasks.filters import adjacency, all_pairs
from gnnlib.benchmarks.tasks.tutorial import MODELS
from gnnlib.images import GAUSSIAN

PARAMETERS = {"logistic": 7840, "predicted": 8225, "predicted-trained": 8558, "cnn": 9450}
PARAMETERS |= {name: 7840 for name in MODELS if name not in PARAMETERS}  # nothing to learn in an adjacency
IMAGE, CENTRE = (28, 28), 14 * 28 + 14

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def task():
    task = TASKS["tutorial"]()
    task.load(Options(limit=96))
    return task


def train(task, layer, seed=0, **options):
    return task.run(choices(task.extra_layers)[layer], seed, Options(limit=96, **options), lambda record: None)


def dense(graph):
    """(destination, source)"""
    matrix, (src, dst) = np.zeros((784, 784)), graph.edges()
    matrix[dst, src] = graph.edata["weight"]
    return matrix


# the adjacency


@cache
def by_formula():
    """Loops and nothing else: coordinates (column, row) / 28, the distance not squared."""
    sigma = 0.05 * math.pi
    coordinates = [(column / 28, row / 28) for row in range(28) for column in range(28)]
    a = np.zeros((784, 784))
    for i, p in enumerate(coordinates):
        for j, q in enumerate(coordinates):
            entry = math.exp(-math.dist(p, q) / sigma**2)
            a[i, j] = entry if entry >= 0.01 else 0
    root = (a.sum(1) + 1e-5) ** -0.5
    for i in range(784):
        for j in range(784):
            a[i, j] *= root[i] * root[j]
            a[i, j] -= 0.2 if a[i, j] > 0.0001 else 0
    return a


def test_the_fixed_adjacency_entry_by_entry():
    matrix = dense(adjacency(IMAGE, less=0.2))
    np.testing.assert_allclose(matrix, by_formula(), rtol=0, atol=1e-12)
    row = matrix[CENTRE]
    neighbours = np.delete(row, CENTRE)
    neighbours = neighbours[neighbours != 0]
    assert round(row[CENTRE], 2) == 0.11
    assert len(neighbours) == 36
    assert (round(neighbours.max(), 2), round(neighbours.min(), 2)) == (-0.13, -0.20)
    assert round(row.sum(), 2) == -6.40


def test_the_other_adjacencies():
    """Row sums, symmetry, and a Gaussian that is one: the distance squared over twice the variance."""
    a, mean, kipf = (dense(adjacency(IMAGE, norm=norm)) for norm in ("none", "right", "both"))
    np.testing.assert_allclose(mean.sum(1), 1, atol=1e-5)
    np.testing.assert_allclose(mean, a / (a.sum(1, keepdims=True) + 1e-5), atol=1e-15)
    np.testing.assert_allclose(kipf, kipf.T, atol=1e-15)
    np.testing.assert_allclose(kipf - 0.2 * (kipf > 0), dense(adjacency(IMAGE, less=0.2)), atol=1e-15)
    gaussian = dense(adjacency(IMAGE, GAUSSIAN, norm="none"))[CENTRE].reshape(IMAGE)
    pixels = 0.05 * math.pi * 28
    assert gaussian[14, 17] == pytest.approx(math.exp(-0.5 * (3 / pixels) ** 2))
    assert gaussian[11, 10] == pytest.approx(math.exp(-0.5 * (5 / pixels) ** 2))
    assert gaussian[gaussian > 0].min() >= 0.01
    assert gaussian[14, 27] > 0.01
    assert gaussian[0, 14] == 0, "13.3 pixels are as far as it reaches"


def test_all_pairs_are_a_matrix():
    """The order of edges, and coordinates of mean 0 and deviation 1 at both ends."""
    graph = all_pairs((3, 4))
    src, dst = (end.view(12, 12) for end in graph.edges())
    assert torch.equal(dst, torch.arange(12).unsqueeze(1).expand(12, 12))
    assert torch.equal(src, dst.T)
    pos = graph.ndata["pos"]
    np.testing.assert_allclose(pos.mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(pos.numpy().std(0), 1, rtol=1e-6)
    np.testing.assert_allclose(pos[5] - pos[0], [math.sqrt(3 / 2), math.sqrt(12 / 15)], rtol=1e-5)


# the models


@pytest.mark.parametrize("layer", MODELS)
def test_parameters_and_a_training(task, layer):
    outcome = train(task, layer, epochs=1)
    assert outcome.parameters == PARAMETERS[layer]
    assert outcome.curve["test"] == [outcome.score]
    assert outcome.curve["loss"][0] > 0
    assert not outcome.figures
    assert outcome.attributions["saliency_0"].shape == (784,)
    assert train(task, layer, epochs=1) == outcome, "the same seed, the same figures"


def test_each_model_is_its_formula(task):
    """Written with matrices: scores = F A x."""
    x = torch.randn(784, 3, 1)
    for name in ("logistic", "fixed", "predicted"):
        graph, model = MODELS[name].graph(IMAGE), task.model(choices(task.extra_layers)[name])
        weight = graph.edata["weight"].float() if name == "fixed" else None
        matrix = torch.eye(784) if weight is None else torch.from_numpy(by_formula()).float()
        if name == "predicted":
            conv, pos = model.blocks[0].conv, graph.ndata["pos"]
            both = torch.cat([pos.expand(784, 784, 2), pos.unsqueeze(1).expand(784, 784, 2)], 2)  # source, destination
            assert [tuple(layer.weight.shape) for layer in (conv.first, conv.second)] == [(64, 4), (1, 64)]
            matrix = torch.tanh(conv.second(conv.first(both).relu())).squeeze(2)
        expected = (matrix @ x.squeeze(2)).T @ model.head.weight.T
        torch.testing.assert_close(model(graph, x, weight), expected, rtol=1e-4, atol=1e-3)


def test_the_convolution_is_as_large_as_the_image(task):
    conv, _, pool, _, last = task.network()
    assert conv(torch.zeros(1, 1, 28, 28)).shape == (1, 10, 29, 29)
    assert pool(torch.zeros(1, 10, 29, 29)).shape == (1, 10, 4, 4)
    assert isinstance(last, nn.Linear)
    assert last.bias is None


def test_predicted_edges_that_learn_start_as_filters(task):
    """Weights of each relation sum to 1, most of it within three pixels, and lean in four directions."""
    model, graph = task.model(choices(task.extra_layers)["predicted-trained"]), all_pairs(IMAGE)
    with torch.no_grad():
        rows = model.blocks[0].conv.edges(graph, torch.ones(1)).view(784, 784, 5)[CENTRE].T
    pos = torch.cartesian_prod(torch.arange(28.0), torch.arange(28.0)) - 14
    near = pos.norm(dim=1) <= 3.01
    torch.testing.assert_close(rows.sum(1), torch.ones(5))
    assert rows[:, near].sum(1).min() > 0.6
    centres = rows @ pos
    assert centres[0].norm() < 1e-3
    for centre, towards in zip(centres[1:], [(1, 0), (0, 1), (-1, 0), (0, -1)]):
        assert centre @ torch.tensor(towards).float() > 1
        torch.testing.assert_close(centre / centre.norm(), torch.tensor(towards).float(), atol=1e-3, rtol=0)


def test_predicted_edges_hold_nothing_of_pairs_by_hidden(task):
    """One graph serves the batch, and no array is kept that is larger than a number for each pair."""
    model, graph, sizes = task.model(choices(task.extra_layers)["predicted"]), all_pairs(IMAGE), []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t):
        model(graph, torch.randn(784, 64, 1))
    assert max(sizes) == 784**2


# the recipe


def test_the_recipe(task):
    """By hand: SGD at 0.001 with its decay, whole batches of 64 in the generator's order."""
    for name, decay in (("logistic", 1e-4), ("cnn", 1e-1)):
        torch.manual_seed(5)
        model, generator = task.model(choices(task.extra_layers)[name]), torch.Generator().manual_seed(5)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.001, weight_decay=decay)
        images, labels = task.train
        for _ in range(2):
            for rows in torch.randperm(len(labels), generator=generator).split(64):
                x = images[rows].flatten(1).T.unsqueeze(-1)
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(task.graph, x), labels[rows]).backward()
                optimizer.step()
        test, target = task.test
        predicted = model(task.graph, test.flatten(1).T.unsqueeze(-1)).argmax(1)
        outcome = train(task, name, seed=5, epochs=2)
        assert outcome.score == pytest.approx(100 * (predicted == target).double().mean().item())


def test_pixels_are_normalised(task, twins):
    assert task.setting == "tutorial-digits"
    mnist = TASKS["tutorial"]()
    mnist.load(Options(data=twins.mnist()))
    assert mnist.setting == "tutorial-mnist"
    for loaded in (task, mnist):
        assert loaded.train[0].min() == pytest.approx(-0.1307 / 0.3081)
        assert (loaded.train[0] * 0.3081 + 0.1307).max() <= 1 + 1e-6


def test_the_tenth_of_forty_epochs_counts(task):
    outcome, ten = train(task, "fixed"), train(task, "fixed", epochs=10)
    assert len(outcome.curve["test"]) == 40
    assert outcome.score == outcome.curve["test"][9] == ten.score
    assert outcome.figures == {"after 40 epochs, %": outcome.curve["test"][39]}


def test_no_other_layers(task):
    with pytest.raises(
        UsageError, match=r"tutorial has no graph for layer 'gcn'; expected one of: .*predicted-trained"
    ):
        choose(["gcn"], task.geometry, task.name, task.extra_layers)
