"""The comparison of remedies over many cells: mean ranks, the Friedman test and the critical difference of Nemenyi.

The reference is Demsar 2006, "Statistical comparisons of classifiers over multiple data sets", JMLR 7, section 3.2.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from gnnlib.benchmarks.depth.summary import mean

__all__ = ["Ranking", "critical_difference", "groups", "rank", "rank_remedies"]

Document = Mapping[str, Any]


class Ranking(NamedTuple):
    """Methods from best to worst, by their mean rank over a number of blocks, such as data sets."""

    names: list[str]
    ranks: list[float]
    blocks: int
    p_value: float  # of the Friedman test
    critical_difference: float


def critical_difference(methods: int, blocks: int, alpha: float = 0.05) -> float:
    r"""The critical difference of two mean ranks (Nemenyi), :math:`q_\alpha \sqrt{k (k + 1) / (6 N)}`.

    :math:`q_\alpha` is the quantile of the Studentized range of k samples, divided by :math:`\sqrt 2`.

    Args:
        methods: k
        blocks: N
        alpha: significance level

    Example:
        >>> from gnnlib.benchmarks.depth.ranking import critical_difference
        >>> round(critical_difference(4, 14), 2)  # section 3.2.2 of the paper has 1.25
        1.25
    """
    from scipy.stats import studentized_range

    quantile = float(studentized_range.ppf(1 - alpha, methods, math.inf)) / math.sqrt(2)
    return quantile * math.sqrt(methods * (methods + 1) / (6 * blocks))


def rank(scores: Mapping[str, Sequence[float]], alpha: float = 0.05) -> Ranking:
    """Ranks methods by their scores, of which higher is better. Equal scores have the mean of their ranks; NaN is last.

    Args:
        scores: of each method, one for each block
        alpha: significance level of the critical difference

    Example:
        >>> from gnnlib.benchmarks.depth.ranking import rank
        >>> ranking = rank({"a": [1, 2, 3], "b": [2, 3, 4]})
        >>> ranking.names, ranking.ranks
        (['b', 'a'], [1.0, 2.0])
    """
    from scipy.stats import rankdata

    table = np.nan_to_num(np.array(list(scores.values()), dtype=float).T, nan=-math.inf)
    means = rankdata(-table, axis=1).mean(0)
    order = np.argsort(means, kind="stable")
    names = list(scores)
    blocks, methods = table.shape
    return Ranking(
        [names[i] for i in order],
        [float(means[i]) for i in order],
        blocks,
        friedman_p_value(means, blocks),
        critical_difference(methods, blocks, alpha),
    )


def friedman_statistic(means: np.ndarray, blocks: int) -> tuple[float, float]:
    """The statistic of the Friedman test and that of Iman and Davenport, from the mean ranks, without ties."""
    methods = len(means)
    chi2 = 12 * blocks / (methods * (methods + 1)) * (np.square(means).sum() - methods * (methods + 1) ** 2 / 4)
    rest = blocks * (methods - 1) - chi2
    return float(chi2), float((blocks - 1) * chi2 / rest) if rest > 1e-9 else math.inf


def friedman_p_value(means: np.ndarray, blocks: int) -> float:
    """The p-value of the hypothesis that all methods are equal, by the statistic of Iman and Davenport."""
    from scipy.stats import f

    methods = len(means)
    return float(f.sf(friedman_statistic(means, blocks)[1], methods - 1, (methods - 1) * (blocks - 1)))


def groups(ranking: Ranking) -> list[tuple[int, int]]:
    """The largest groups of methods whose mean ranks differ by less than the critical difference: the first and the
    last of each group.

    Example:
        >>> from gnnlib.benchmarks.depth.ranking import Ranking, groups
        >>> groups(Ranking(["a", "b", "c", "d"], [1.0, 1.5, 2.2, 4.0], 10, 0.01, 1.0))
        [(0, 1), (1, 2)]
    """
    spans: list[tuple[int, int]] = []
    for first, best in enumerate(ranking.ranks):
        last = max(i for i, mean_rank in enumerate(ranking.ranks) if mean_rank - best < ranking.critical_difference)
        if last > first and (not spans or last > spans[-1][1]):
            spans.append((first, last))
    return spans


def rank_remedies(documents: Sequence[Document], alpha: float = 0.05) -> Ranking | None:
    """Ranks the remedies of depth studies by test metric. A block is a convolution at a depth on a data set.

    Remedies that less than half of the blocks have, and then blocks without all remedies, are left out. None if less
    than two remedies or blocks remain.

    Args:
        documents: each the content of a ``results.json``
        alpha: significance level of the critical difference
    """
    blocks: dict[tuple[str, str, int], dict[str, float]] = {}
    for document in documents:
        for row in document["rows"]:
            blocks.setdefault((document["data"], row["conv"], row["depth"]), {})[row["remedy"]] = mean(row)
    remedies = dict.fromkeys(remedy for block in blocks.values() for remedy in block)
    frequent = [name for name in remedies if 2 * sum(name in block for block in blocks.values()) >= len(blocks)]
    complete = [block for block in blocks.values() if block.keys() >= set(frequent)]
    if len(frequent) < 2 or len(complete) < 2:
        return None
    return rank({name: [block[name] for block in complete] for name in frequent}, alpha)
