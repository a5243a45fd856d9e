"""Ranking metrics: by counting, and equal to the evaluators of the Open Graph Benchmark."""

import pytest
import torch

from gnnlib._platform.modules import module_as
from gnnlib.train import hits_at_k, mean_reciprocal_rank
from tests.ogb_raw import needs_ogb


def scores(*shape, seed=0):
    """With ties."""
    return torch.randint(30, shape, generator=torch.Generator().manual_seed(seed)).float()


@pytest.mark.parametrize("k", [1, 2, 7, 40])
def test_hits_count_links_above_the_kth_pair(k):
    positive, negative = scores(25), scores(40, seed=1)
    threshold = sorted(negative.tolist(), reverse=True)[k - 1]
    assert hits_at_k(positive, negative, k) == sum(p > threshold for p in positive.tolist()) / 25


def test_rank_among_equal_scores_is_the_middle_one():
    assert mean_reciprocal_rank(torch.tensor([1.0]), torch.tensor([[1.0, 1.0, 0.0]])) == 1 / 2
    assert mean_reciprocal_rank(torch.tensor([1.0]), torch.tensor([[2.0, 3.0, 1.0]])) == pytest.approx(1 / 3.5)


@needs_ogb
def test_ogbs_evaluators():
    with module_as("outdated", None):
        from ogb.linkproppred import Evaluator
    positive, negative, rows = scores(50), scores(200, seed=1), scores(50, 20, seed=2)
    for name, k in (("ogbl-ddi", 20), ("ogbl-collab", 50), ("ogbl-ppa", 100)):
        expected = Evaluator(name).eval({"y_pred_pos": positive, "y_pred_neg": negative})
        assert expected == {f"hits@{k}": pytest.approx(hits_at_k(positive, negative, k), rel=1e-12)}
        assert 0 < hits_at_k(positive, negative, k) < 1
    expected = Evaluator("ogbl-citation2").eval({"y_pred_pos": positive, "y_pred_neg": rows})["mrr_list"].double()
    assert mean_reciprocal_rank(positive, rows) == pytest.approx(expected.mean().item(), rel=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: hits_at_k(scores(3), scores(9), 10), "hits_at_k: expected k <= the number of negatives, 9, got 10"),
        (lambda: hits_at_k(scores(3), scores(9), 0), "hits_at_k: expected k >= 1, got 0"),
        (lambda: hits_at_k(scores(0), scores(9), 1), r"expected scores \(n,\) and \(m,\) with n >= 1, got \(0,\)"),
        (lambda: hits_at_k(scores(3), scores(3, 9), 1), r"expected scores \(n,\) and \(m,\) .* \(3,\) and \(3, 9\)"),
        (lambda: hits_at_k(scores(3), scores(3) / 0 * 0, 1), "expected negative scores that are numbers, got nan"),
        (
            lambda: mean_reciprocal_rank(scores(3), scores(4, 9)),
            r"mean_reciprocal_rank: expected scores \(n,\) and \(n, m\) with n >= 1, got \(3,\) and \(4, 9\)",
        ),
    ],
)
def test_invalid_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()
