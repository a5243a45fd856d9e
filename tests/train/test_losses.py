"""Losses and metrics by the kind of targets, beside torch and scikit-learn on the targets that are there."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from sklearn import metrics as sklearn
from torch.nn import functional as F

from gnnlib.train.losses import TaskLoss, balanced_weight
from gnnlib.train.metrics import METRICS, compute_metrics

NAN = float("nan")


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def test_classes_without_missing_ones():
    outputs, target = torch.randn(9, 4), torch.arange(9) % 5 - 1  # -1 is missing
    weight, rows = torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.arange(9) % 5 > 0
    expected = partial(F.cross_entropy, outputs[rows], target[rows])
    for missing in (target, torch.where(rows, target, -100), target.int(), target.unsqueeze(1)):
        torch.testing.assert_close(TaskLoss()(outputs, missing), expected())
    torch.testing.assert_close(TaskLoss(class_weight=weight)(outputs, target), expected(weight=weight))
    assert TaskLoss()(outputs, torch.full((9,), -1)) == 0


@pytest.mark.parametrize("missing", [NAN, -1.0])
def test_several_labels_without_missing_ones(missing):
    outputs, target = torch.randn(8, 3), (torch.rand(8, 3) < 0.5).float()
    present = torch.rand(8, 3) < 0.7
    actual = TaskLoss("multilabel")(outputs, torch.where(present, target, missing))
    torch.testing.assert_close(actual, F.binary_cross_entropy_with_logits(outputs[present], target[present]))
    weight = torch.tensor([0.5, 2.0, 3.0])
    expected = F.binary_cross_entropy_with_logits(outputs, target, pos_weight=weight)
    torch.testing.assert_close(TaskLoss("multilabel", weight)(outputs, target), expected)
    torch.testing.assert_close(TaskLoss()(outputs, target.bool()), F.binary_cross_entropy_with_logits(outputs, target))


@pytest.mark.parametrize(("rows", "columns"), [((6,), (6, 1)), ((6, 1), (6,)), ((6,), (6,)), ((6, 2), (6, 2))])
def test_numbers_without_missing_ones_in_any_layout(rows, columns):
    target, outputs = torch.randn(rows), torch.randn(columns, requires_grad=True)
    target.view(-1)[2] = NAN
    present = ~target.flatten().isnan()
    actual = TaskLoss()(outputs, target)
    torch.testing.assert_close(actual, F.mse_loss(outputs.flatten()[present], target.flatten()[present]))
    (grad,) = torch.autograd.grad(actual, outputs)
    assert bool(grad.isfinite().all())
    assert grad.flatten()[2] == 0


def test_counts_are_numbers_if_the_task_says_so():
    outputs, target = torch.randn(6, 1), torch.arange(6)
    torch.testing.assert_close(TaskLoss("regression")(outputs, target), F.mse_loss(outputs[:, 0], target.float()))


def test_balanced_weights_are_those_of_scikit_learn():
    from sklearn.utils.class_weight import compute_class_weight

    target = torch.tensor([0, 0, 0, 2, 1, 1, 0])
    expected = compute_class_weight("balanced", classes=np.arange(3), y=target.numpy())
    torch.testing.assert_close(balanced_weight(target).double(), torch.from_numpy(expected), rtol=1e-6, atol=0)
    assert balanced_weight(torch.tensor([[True, False], [True, True], [True, False]])).tolist() == [
        pytest.approx(1 / 3),
        2.0,
    ]


def test_metrics_of_classes_are_those_of_scikit_learn():
    scores, target = torch.randn(40, 4), torch.arange(40) % 4
    masked = target.clone()
    masked[::7] = -1
    rows = masked >= 0
    t, p, prob = target[rows].numpy(), scores[rows].argmax(1).numpy(), scores[rows].double().softmax(1).numpy()
    actual = compute_metrics(scores, masked)
    assert actual["accuracy"] == pytest.approx(sklearn.accuracy_score(t, p))
    assert actual["f1"] == pytest.approx(sklearn.f1_score(t, p, average="macro"))
    assert actual["roc_auc"] == pytest.approx(sklearn.roc_auc_score(t, prob, multi_class="ovr"))
    assert actual.confusion.tolist() == sklearn.confusion_matrix(t, p).tolist()
    assert actual.confusion.sum() == rows.sum()


def test_metrics_of_two_classes_and_of_classes_that_do_not_occur():
    scores, target = torch.randn(30, 2), torch.arange(30) % 2
    actual = compute_metrics(scores, target, ["roc_auc"])
    assert actual["roc_auc"] == pytest.approx(sklearn.roc_auc_score(target, scores[:, 1] - scores[:, 0]))
    one = compute_metrics(torch.randn(5, 3), torch.zeros(5).long())
    assert math.isnan(one["roc_auc"])
    assert one.confusion.shape == (3, 3)


def test_metrics_of_labels_are_means_over_labels_of_what_is_known():
    scores, target = torch.randn(30, 3), (torch.rand(30, 3) < 0.4).float()
    target[::4, 0], target[:, 2] = NAN, 0.0  # the last label has no positive example, and so no area
    rows = ~target[:, 0].isnan()
    pairs = [(target[rows, 0], scores[rows, 0]), (target[:, 1], scores[:, 1])]
    actual = compute_metrics(scores, target, task="multilabel")
    assert actual["roc_auc"] == pytest.approx(np.mean([sklearn.roc_auc_score(t, s) for t, s in pairs]))
    expected = np.mean([sklearn.average_precision_score(t, s) for t, s in pairs])
    assert actual["average_precision"] == pytest.approx(expected)
    expected = np.mean([sklearn.accuracy_score(t, s > 0) for t, s in [*pairs, (target[:, 2], scores[:, 2])]])
    assert actual["accuracy"] == pytest.approx(expected)
    assert actual.confusion is None


def test_metrics_of_numbers_are_those_of_scikit_learn():
    outputs, target = torch.randn(20, 1), torch.randn(20)
    actual = compute_metrics(outputs, target)
    assert actual["mae"] == pytest.approx(sklearn.mean_absolute_error(target, outputs))
    assert actual["rmse"] == pytest.approx(sklearn.mean_squared_error(target, outputs) ** 0.5)
    assert actual["r2"] == pytest.approx(sklearn.r2_score(target, outputs))


def test_each_task_has_metrics_of_its_own_and_refuses_others():
    assert set(compute_metrics(torch.rand(4), torch.rand(4))) == {
        n for n, m in METRICS.items() if "regression" in m.tasks
    }
    with pytest.raises(ValueError, match="expected metrics among mae, rmse, r2 for task='regression', got 'accuracy'"):
        compute_metrics(torch.rand(4), torch.rand(4), ["accuracy"])
