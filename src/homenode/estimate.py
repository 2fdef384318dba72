"""What several runs say together: their mean, and how sure it is."""

from collections.abc import Sequence
from math import sqrt
from statistics import mean, stdev
from typing import NamedTuple

# The 0.975 quantiles of Student's distribution, by degrees of freedom; beyond them the normal one.
_STUDENT = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
    2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
    2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip
_NORMAL = 1.960

_NOISE = 1e-12
"""What differs by so little of its size differs by the order of its sums alone."""


class Estimate(NamedTuple):
    """A mean over several runs, and half of its 95 % confidence interval (None with one run)."""

    mean: float
    margin: float | None


def estimate(values: Sequence[float]) -> Estimate:
    """Return the mean and half of the 95 % confidence interval by Student's distribution."""
    count = len(values)
    if count < 2:
        return Estimate(mean(values), None)
    quantile = _STUDENT[count - 2] if count - 2 < len(_STUDENT) else _NORMAL
    margin = quantile * stdev(values) / sqrt(count)
    noise = _NOISE * max(map(abs, values))
    return Estimate(mean(values), margin if margin > noise else 0.0)
