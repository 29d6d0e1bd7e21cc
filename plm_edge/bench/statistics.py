"""What repeated samples say: median and range, and how well the mean is known."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

# Student's t, two-sided 95 %, by degrees of freedom: R's qt(0.975, 1:30); beyond, its asymptote.
T95 = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
    2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
    2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip


@dataclass(frozen=True)
class Summary:
    """Of `n` samples. `interval` is half the 95 % confidence interval of the mean as a share of
    it; None for fewer than two samples."""

    n: int
    median: float
    minimum: float
    maximum: float
    mean: float
    interval: float | None

    def as_dict(self) -> dict[str, Any]:
        return vars(self).copy()


def summarise(samples: Sequence[float]) -> Summary:
    """The summary of at least one sample, in the samples' unit."""
    mean = statistics.fmean(samples)
    return Summary(
        n=len(samples),
        median=statistics.median(samples),
        minimum=min(samples),
        maximum=max(samples),
        mean=mean,
        interval=interval(samples),
    )


def interval(samples: Sequence[float]) -> float | None:
    """Half the 95 % confidence interval of the mean, as a share of the mean (Student's t)."""
    n = len(samples)
    if n < 2:
        return None
    t = T95[n - 2] if n - 2 < len(T95) else 1.96 + 2.5 / (n - 1)
    mean = statistics.fmean(samples)
    return t * statistics.stdev(samples) / math.sqrt(n) / abs(mean) if mean else None


def percentile(samples: Sequence[float], percent: int) -> float:
    """The value that `percent` (1 to 99) of a hundred samples do not exceed, interpolated."""
    if len(samples) == 1:  # Python 3.12 and older ask for two
        return samples[0]
    return statistics.quantiles(samples, n=100, method="inclusive")[percent - 1]
