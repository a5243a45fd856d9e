"""Label propagation, Correct and Smooth, labels as input, soft labels: against dense definitions, and PyG."""

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy, one_hot

from gnnlib._platform.dgl import dgl
from gnnlib.large.labels import (
    FeaturesWithLabels,
    correct_residuals,
    label_propagation,
    mask_labels,
    mix_soft_labels,
    smooth_predictions,
)
from gnnlib.testing.graphs import symmetric_graph

NUM, C, K = 12, 3, 8


@pytest.fixture
def case():
    """A graph, S = D^-1/2 A D^-1/2, probabilities, labels of half of the nodes."""
    graph = symmetric_graph(NUM)
    src, dst = graph.edges()
    dense = torch.zeros(NUM, NUM, dtype=torch.float64).index_put_((dst, src), torch.ones(1).double(), accumulate=True)
    root = dense.sum(1).rsqrt()
    some = torch.Generator().manual_seed(0)
    label = torch.randint(C, (NUM,), generator=some)
    prob = torch.randn(NUM, C, generator=some).softmax(1)
    return graph, (root[:, None] * dense * root).float(), prob, mask_labels(label, torch.arange(0, NUM, 2))


def propagated(matrix, start, alpha):
    y = start
    for _ in range(K):
        y = alpha * matrix @ y + (1 - alpha) * start
    return y


def test_label_propagation_against_its_definition(case):
    graph, matrix, _, label = case
    start = one_hot(label.clamp(0), C).float() * (label >= 0)[:, None]
    assert torch.allclose(label_propagation(graph, label, C, k=K, alpha=0.7), propagated(matrix, start, 0.7), atol=1e-6)


def test_correct_residuals_against_its_definition(case):
    graph, matrix, prob, label = case
    labelled = label >= 0
    error = torch.where(labelled[:, None], one_hot(label.clamp(0), C) - prob, 0.0)
    error_hat = propagated(matrix, error, 0.7)
    sigma = error[labelled].abs().sum(1).mean()
    expected = prob + sigma * error_hat / error_hat.abs().sum(1, keepdim=True)
    assert torch.allclose(correct_residuals(graph, prob, label, k=K, alpha=0.7), expected, atol=1e-5)


def test_smooth_predictions_against_its_definition(case):
    graph, matrix, prob, label = case
    start = torch.where((label >= 0)[:, None], one_hot(label.clamp(0), C).float(), prob)
    assert torch.allclose(
        smooth_predictions(graph, prob, label, k=K, alpha=0.7), propagated(matrix, start, 0.7), atol=1e-6
    )


def test_correct_and_smooth_against_pyg(case):
    nn = pytest.importorskip("torch_geometric.nn")
    graph, _, prob, label = case
    theirs = nn.CorrectAndSmooth(K, 0.6, K, 0.8)
    edges, labelled = torch.stack(graph.edges()), label >= 0
    degree = graph.in_degrees().float()
    weight = (degree[edges[0]] * degree[edges[1]]).rsqrt()
    expected = theirs.correct(prob, label[labelled], labelled, edges, weight)
    assert torch.allclose(correct_residuals(graph, prob, label, k=K, alpha=0.6), expected, atol=1e-5)
    expected[labelled] = one_hot(label[labelled], C).float()
    smoothed = theirs.prop2(expected, edges, None, weight, post_step=lambda y: y)  # else it is cut to 0 and 1
    assert torch.allclose(smooth_predictions(graph, expected, label, k=K, alpha=0.8), smoothed, atol=1e-5)


def test_nodes_without_propagated_error_keep_their_probabilities():
    graph = dgl.add_self_loop(dgl.graph(([0, 1], [1, 0]), num_nodes=3))
    prob = torch.full((3, 2), 0.5)
    assert torch.equal(correct_residuals(graph, prob, torch.tensor([1, -1, -1]))[2], prob[2])


def test_features_with_labels(case):
    *_, label = case
    x, rows = torch.rand(NUM, 4), torch.tensor([3, 0, 11, 0])
    rows_with_labels = FeaturesWithLabels(x, label, C)[rows]
    assert torch.equal(rows_with_labels[:, :4], x[rows])
    assert torch.equal(rows_with_labels[:, 4:].sum(1) > 0, label[rows] >= 0)
    assert int(rows_with_labels[1, 4:].argmax()) == int(label[0])


def test_soft_labels_mix_two_losses(case):
    *_, prob, label = case
    scores, labelled = torch.randn(NUM, C), label >= 0
    target = mix_soft_labels(label, prob, teacher_weight=0.3)
    loss = cross_entropy(scores[labelled], target[labelled])
    expected = 0.7 * cross_entropy(scores[labelled], label[labelled]) + 0.3 * cross_entropy(
        scores[labelled], prob[labelled]
    )
    assert torch.allclose(loss, expected)
    assert torch.equal(target[~labelled], prob[~labelled])


def test_invalid_arguments(case):
    graph, _, prob, label = case
    with pytest.raises(ValueError, match=r"expected \(N,\), int64, from -1 to 1, got .* up to 2"):
        label_propagation(graph, label, 2)
    with pytest.raises(ValueError, match=r"label: expected \(N,\), int64, from -1 to 2, got shape \(12, 1\)"):
        label_propagation(graph, label[:, None], C)
    with pytest.raises(ValueError, match=r"expected prob \(N, C\) and label \(N,\), got \(12, 3\) and \(11,\)"):
        smooth_predictions(graph, prob, label[1:])
    with pytest.raises(ValueError, match="expected some from 0 to 2, got 12 unknown ones"):
        correct_residuals(graph, prob, torch.full((NUM,), -1))
    with pytest.raises(ValueError, match="expected a teacher_weight from 0 to 1, got 2"):
        mix_soft_labels(label, prob, teacher_weight=2)
    with pytest.raises(ValueError, match=r"expected teacher \(N, C\)"):
        mix_soft_labels(label, prob[0])


@pytest.mark.parametrize(
    "nodes",
    [
        [0, 3],
        np.array([0, 3]),
        torch.tensor([0, -1]),
        torch.tensor([0, 3], dtype=torch.int32),
        [True, False, False, True],
    ],
    ids=str,
)
def test_nodes_that_keep_their_labels_as_numbers_or_mask(nodes):
    assert mask_labels(torch.tensor([2, 0, 1, 1]), nodes).tolist() == [2, -1, -1, 1]
