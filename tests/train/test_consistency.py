"""Consistency regularisation: the paper's loss written in loops, and stochastic passes in training and evaluation."""

import math

import pytest
import torch
from torch import nn

from gnnlib import DropNode, GCNConv, Stack
from gnnlib.testing.graphs import random_graph
from gnnlib.train.consistency import ConsistencyLoss, StochasticPasses


def formula(scores, labels, weight, temperature):
    draws, nodes, classes = scores.shape
    total = 0.0
    probs = [[[math.exp(z) / sum(map(math.exp, row)) for z in row] for row in draw] for draw in scores.tolist()]
    labelled = [v for v in range(nodes) if labels[v] >= 0]
    for draw in probs:
        total += sum(-math.log(draw[v][labels[v]]) for v in labelled) / len(labelled) / draws
    for v in range(nodes):
        mean = [sum(draw[v][c] for draw in probs) / draws for c in range(classes)]
        sharp = [m ** (1 / temperature) for m in mean]
        sharp = [s / sum(sharp) for s in sharp]
        total += weight * sum((draw[v][c] - sharp[c]) ** 2 for draw in probs for c in range(classes)) / draws / nodes
    return total


@pytest.mark.parametrize(
    ("draws", "weight", "temperature"), [(1, 1.0, 0.5), (2, 0.7, 0.5), (4, 1.0, 0.2), (3, 0.0, 1.0)]
)
def test_against_the_formula(draws, weight, temperature):
    torch.manual_seed(0)
    scores, labels = torch.randn(draws, 6, 3, dtype=torch.float64), torch.tensor([0, -100, 2, 1, -100, -100])
    loss = ConsistencyLoss(weight=weight, temperature=temperature)(scores, labels)
    assert loss.item() == pytest.approx(formula(scores, labels.tolist(), weight, temperature), rel=1e-12)


def test_the_loss_is_0_where_passes_agree_and_are_certain():
    scores = torch.tensor([[1e3, 0.0], [0.0, 1e3]]).expand(3, 2, 2)
    assert ConsistencyLoss()(scores, torch.tensor([-100, -100])).item() == 0


def test_no_gradient_goes_through_the_average():
    torch.manual_seed(0)
    scores = torch.randn(2, 5, 3, dtype=torch.float64, requires_grad=True)
    labels = torch.full((5,), -100)
    (grad,) = torch.autograd.grad(ConsistencyLoss(weight=1.0, temperature=0.5)(scores, labels), scores)
    prob = scores.detach().softmax(-1)
    sharp = prob.mean(0) ** 2
    residue = 2 * (prob - sharp / sharp.sum(-1, keepdim=True)) / 10
    expected = prob * (residue - (residue * prob).sum(-1, keepdim=True))  # through the softmax of each draw alone
    torch.testing.assert_close(grad, expected)


def test_passes_differ_in_training_and_are_one_in_evaluation():
    torch.manual_seed(0)
    graph = random_graph(20, 60)
    net = Stack.build(GCNConv, 8, 16, 3, num_layers=2, dropout=DropNode(0.5))
    model, x = StochasticPasses(net, 3), torch.randn(20, 8)
    first, second, _ = model(graph, x, None)
    assert not torch.equal(first, second)
    torch.testing.assert_close(model.eval()(graph, x), net.eval()(graph, x), rtol=0, atol=0)


def test_without_labels_and_weight_the_loss_is_0():
    scores = torch.randn(2, 4, 3)
    none = torch.full((4,), -100)
    assert ConsistencyLoss(weight=0.0)(scores, none).item() == 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: StochasticPasses(nn.Identity(), 0), "num_passes of 1 or more, got 0"),
        (lambda: ConsistencyLoss(temperature=0.0), "above 0, up to 1, got 0.0"),
        (lambda: ConsistencyLoss()(torch.zeros(4, 3), torch.zeros(4).long()), r"expected \(S, 4, C\), got \(4, 3\)"),
    ],
)
def test_invalid_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
