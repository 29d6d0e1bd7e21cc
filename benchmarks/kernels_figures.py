"""Figures from the samples of benchmarks/kernels.py: rates, ratios, shares of the bandwidth.

They are of results/kernels.json, whose pairs of turns no result of `plm-edge bench` has.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from statistics import median
from typing import Any

STOCK = ("stock", "stock, K in q8_0")


@dataclass(frozen=True)
class Spread:
    """A median and the range of what it stands for."""

    middle: float
    low: float
    high: float
    count: int

    @staticmethod
    def of(values: list[float]) -> Spread:
        return Spread(median(values), min(values), max(values), len(values))

    def times(self, factor: float) -> Spread:
        values = (self.middle, self.low, self.high)
        middle, low, high = (factor * value for value in values)
        return Spread(middle, low, high, self.count)

    def show(self, digits: int = 2) -> str:
        return f"{self.middle:.{digits}f} ({self.low:.{digits}f} to {self.high:.{digits}f})"


def rates(data: dict[str, Any], setting: str, size: int, config: str) -> dict[int, float]:
    """Tokens a second, by round.

    Args:
        setting: "decode" with the depth as `size`, or "prefill" with the tokens that were filled.
    """
    tokens: dict[int, int] = defaultdict(int)
    seconds: dict[int, float] = defaultdict(float)
    for one in data["samples"]:
        if one["setting"] != setting or one["config"] != config:
            continue
        if one["depth"] == size if setting == "decode" else one["depth"] < size:
            tokens[one["round"]] += one["tokens"]
            seconds[one["round"]] += one["seconds"]
    whole = [r for r in tokens if setting == "decode" or tokens[r] == size]
    return {r: tokens[r] / seconds[r] for r in whole}


def speed(data: dict[str, Any], setting: str, size: int, config: str) -> Spread | None:
    found = rates(data, setting, size, config)
    return Spread.of(list(found.values())) if found else None


def best_stock(data: dict[str, Any], setting: str, size: int) -> str:
    """Stock's fastest working setting there, by the median."""
    found = {name: speed(data, setting, size, name) for name in STOCK}
    return max(STOCK, key=lambda name: found[name].middle if found[name] else 0.0)  # type: ignore[union-attr]


def ratio(
    data: dict[str, Any], setting: str, size: int, ours: str, other: str | None = None
) -> Spread | None:
    """Ours over the other (None: stock's best), round by round; None where either is missing."""
    a = rates(data, setting, size, ours)
    b = rates(data, setting, size, other or best_stock(data, setting, size))
    both = [a[r] / b[r] for r in a if r in b]
    return Spread.of(both) if both else None


def bytes_per_token(data: dict[str, Any], config: str, depth: int) -> float:
    """What decode of one token must read, in the middle of the turn that starts at `depth`."""
    kind = "dense" if config in STOCK else "sparse"
    cached = max(depth, 2) + data["plan"]["decode_tokens"] / 2
    cache: float = data["engines"][config]["cache_bytes_per_token"] * cached
    return float(sum(data["weights_bytes_per_token"][kind].values())) + cache


def bandwidth_share(data: dict[str, Any], config: str, depth: int) -> Spread | None:
    """Share of the read bandwidth, as it was beside each turn, that decode reaches."""
    needed = bytes_per_token(data, config, depth)
    found = [
        needed * one["tokens"] / one["seconds"] / (one["read_gb_s"] * 1e9)
        for one in data["samples"]
        if one["setting"] == "decode"
        and one["config"] == config
        and one["depth"] == depth
        and one["read_gb_s"]
    ]
    return Spread.of(found) if found else None


def bandwidth_beside(data: dict[str, Any]) -> Spread:
    """GB/s (1e9), of all looks beside turns."""
    return Spread.of([one["read_gb_s"] for one in data["samples"] if one["read_gb_s"]])
