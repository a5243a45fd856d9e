"""Mean ranks and critical differences, against the tables and the example of Demsar 2006."""

import numpy as np
import pytest
from scipy.stats import friedmanchisquare

from gnnlib.benchmarks.depth.ranking import (
    Ranking,
    critical_difference,
    friedman_p_value,
    friedman_statistic,
    groups,
    rank,
    rank_remedies,
)

TABLE_5 = {  # critical values of the two-tailed Nemenyi test, by alpha, for 2 to 10 classifiers
    0.05: (1.960, 2.343, 2.569, 2.728, 2.850, 2.949, 3.031, 3.102, 3.164),
    0.10: (1.645, 2.052, 2.291, 2.459, 2.589, 2.693, 2.780, 2.855, 2.920),
}
TABLE_6 = {  # ranks of four decision trees on 14 data sets
    "C4.5": (4, 1, 4, 4, 4, 1, 3, 2.5, 4, 2.5, 4, 3, 4, 3),
    "C4.5+m": (3, 2, 1, 1, 2, 2.5, 2, 2.5, 3, 2.5, 2.5, 2, 1, 1),
    "C4.5+cf": (2, 3, 2, 3, 3, 4, 4, 4, 2, 2.5, 1, 4, 2, 4),
    "C4.5+m+cf": (1, 4, 3, 2, 1, 2.5, 1, 1, 1, 2.5, 2.5, 1, 3, 2),
}


@pytest.mark.parametrize("alpha", TABLE_5)
def test_critical_values_of_the_paper(alpha):
    for methods, published in enumerate(TABLE_5[alpha], 2):
        scale = np.sqrt(methods * (methods + 1) / (6 * 20))
        assert critical_difference(methods, 20, alpha) / scale == pytest.approx(published, abs=0.0015)


def test_example_of_the_paper():
    ranking = rank({name: [-value for value in ranks] for name, ranks in TABLE_6.items()})
    assert ranking.names == ["C4.5+m+cf", "C4.5+m", "C4.5+cf", "C4.5"]
    assert [round(value, 3) for value in ranking.ranks] == [1.964, 2.000, 2.893, 3.143]
    chi2, statistic = friedman_statistic(np.array(ranking.ranks), 14)
    assert (round(chi2, 2), round(statistic, 2)) == (9.28, 3.69)
    assert 0.01 < ranking.p_value < 0.05, "3.69 is above the critical value 2.85 of F(3, 39)"
    assert round(ranking.critical_difference, 2) == 1.25
    assert groups(ranking) == [(0, 3)], "the largest difference is 1.18"


def test_friedman_statistic_is_that_of_scipy():
    scores = np.random.default_rng(0).random((12, 5))
    ranking = rank({str(i): column for i, column in enumerate(scores.T)})
    chi2, _ = friedman_statistic(np.array(ranking.ranks), 12)
    assert chi2 == pytest.approx(friedmanchisquare(*scores.T).statistic)


def test_limits():
    assert friedman_p_value(np.array([1.0, 2.0, 3.0]), 10) == 0.0
    assert friedman_p_value(np.array([2.0, 2.0, 2.0]), 10) == 1.0
    assert rank({"a": [1.0, 1.0], "b": [float("nan"), 0.0]}).ranks == [1.0, 2.0]


def test_groups():
    assert groups(Ranking(list("abcd"), [1.0, 1.2, 3.0, 3.1], 10, 0.01, 0.5)) == [(0, 1), (2, 3)]
    assert groups(Ranking(list("abc"), [1.0, 2.0, 3.0], 10, 0.01, 0.5)) == []


def test_remedies_over_studies():
    def study(data, **remedies):
        rows = [
            {"conv": conv, "remedy": remedy, "depth": depth, "test": [value + depth, value]}
            for conv in ("gcn", "gat")
            for depth in (2, 4)
            for remedy, value in remedies.items()
        ]
        return {"data": data, "rows": rows}

    documents = [study("cora", none=70, gcnii=80), study("rings", none=20, gcnii=90, rare=95)]
    documents[1]["rows"].pop()  # rare: three of eight blocks
    ranking = rank_remedies(documents)
    assert (ranking.names, ranking.ranks, ranking.blocks) == (["gcnii", "none"], [1.0, 2.0], 8)
    assert rank_remedies([study("cora", none=70)]) is None
