"""The exponential decay of a measure over the layers, which defines over-smoothing."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from gnnlib._utils.calls import names_checked

__all__ = ["Decay", "exponential_decay"]


@names_checked()
class Decay(NamedTuple):
    """The result of `exponential_decay`.

    Args:
        rate: of the decay per layer; negative for growth
        r2: the share of the variance of the logarithms that the decay explains, from 0 to 1
    """

    rate: float
    r2: float


@names_checked()
def exponential_decay(values: Sequence[float], *, floor: float = 0.0) -> Decay:
    r"""The exponential rate at which a measure falls over the layers, by least squares on logarithms.

    .. math:: \log \mu_l \approx a - c\, l

    A network over-smooths by the definition of Rusch, Bronstein and Mishra (2023, arXiv 2303.10993, definition 1) if a
    measure that is 0 only for equal nodes falls at least exponentially: if the rate c is positive and r^2 near 1.
    Values up to ``floor``, and those that are not finite, are left out.

    Args:
        values: the measure at layers 1, 2, ...
        floor: the size of rounding errors

    Returns:
        The rate and r^2; nan for fewer than three values.

    Raises:
        ValueError: if the values are not in one row

    Example:
        >>> from gnnlib.analysis.smoothing import exponential_decay
        >>> exponential_decay([1.0, 0.5, 0.25, 0.125]).rate
        0.693147...
    """
    array = np.asarray(values, np.float64)
    if array.ndim != 1:
        raise ValueError(f"exponential_decay: expected a number for each layer, got shape {array.shape}")
    layer = np.flatnonzero((array > max(floor, 0.0)) & np.isfinite(array))
    if len(layer) < 3:
        return Decay(math.nan, math.nan)
    logarithm = np.log(array[layer])
    slope, start = np.polyfit(layer, logarithm, 1)
    residual = np.square(logarithm - start - slope * layer).sum()
    total = np.square(logarithm - logarithm.mean()).sum()
    return Decay(float(-slope), float(1 - residual / total) if total > 0 else 0.0)
