"""All pairs of values of several parameters in few tests: a covering array of strength two.

A fault that shows for one value of one parameter, or for two values of two parameters together, is found as by the
product of all values (Kuhn, Wallace and Gallo, "Software fault interactions", IEEE TSE 2004), in a tenth of the tests.
"""

from collections.abc import Iterable, Sequence
from itertools import combinations, product
from typing import Any

import pytest


def covering_rows(sizes: Sequence[int]) -> list[tuple[int, ...]]:
    """Rows of one index per parameter. For any two parameters, each pair of indices is in a row."""
    axes = range(len(sizes))
    uncovered = {
        ((a, i), (b, j)) for a, b in combinations(axes, 2) for i, j in product(range(sizes[a]), range(sizes[b]))
    }
    rows = []
    while uncovered:
        row: dict[int, int] = dict(min(uncovered))
        for axis in axes:
            if axis not in row:
                gain = [
                    sum(tuple(sorted([(axis, i), place])) in uncovered for place in row.items())
                    for i in range(sizes[axis])
                ]
                start = len(rows) % sizes[axis]  # ties go to another value in each row
                row[axis] = max(range(sizes[axis]), key=lambda i: (gain[i], -((i - start) % sizes[axis])))
        rows.append(tuple(row[axis] for axis in axes))
        uncovered.difference_update(combinations(sorted(row.items()), 2))
    return rows


def parametrize_pairs(**parameters: Iterable[Any]) -> pytest.MarkDecorator:
    """``pytest.mark.parametrize`` with rows in which each pair of values of two parameters appears."""
    values = [list(choices) for choices in parameters.values()]
    rows = [tuple(map(list.__getitem__, values, row)) for row in covering_rows([len(choices) for choices in values])]
    return pytest.mark.parametrize(tuple(parameters), rows, ids=["-".join(map(_label, row)) for row in rows])


def _label(value: Any) -> str:
    return getattr(value, "__name__", str(value)).rpartition(".")[2]
