"""A recorder reads meters steadily beside a measurement, and keeps account of what that costs."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterable
from typing import Any

from plm_edge.bench.meters.meter import Meter
from plm_edge.bench.result.shape import Overhead

INTERVAL = 0.5  # seconds between readings

Series = list[tuple[float, float]]  # (time.monotonic(), value)


class Recorder:
    """Samples `meters` in a thread while entered.

    Attributes:
        series: each meter's readings by its name.
    """

    def __init__(self, meters: Iterable[Meter], interval: float = INTERVAL) -> None:
        self.meters = list(meters)
        self.interval = interval
        self.series: dict[str, Series] = {meter.name: [] for meter in self.meters}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="meters", daemon=True)
        self._began = 0.0
        self._reading_s = 0.0
        self._cpu_s = 0.0
        self._rounds = 0

    def __enter__(self) -> Recorder:
        self._began = time.monotonic()
        if self.meters:
            self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _loop(self) -> None:
        while True:
            self.sample()
            self._cpu_s = time.thread_time()
            if self._stop.wait(self.interval):
                self.sample()
                return

    def sample(self) -> None:
        """One reading of every meter."""
        began = time.monotonic()
        for meter in self.meters:
            at = time.monotonic()
            value = meter.read()
            if value is not None:
                self.series[meter.name].append(((at + time.monotonic()) / 2, value))
        self._reading_s += time.monotonic() - began
        self._rounds += 1

    def overhead(self) -> Overhead:
        """What sampling cost: seconds a round, and its share of one core, at most."""
        wall = max(time.monotonic() - self._began, 1e-9)
        return Overhead(
            interval_s=self.interval,
            rounds=self._rounds,
            seconds_a_round=self._reading_s / self._rounds if self._rounds else 0.0,
            thread_cpu_share=self._cpu_s / wall,
            reading_share=self._reading_s / wall,
        )

    def between(self, start: float, end: float) -> dict[str, Any]:
        """What each meter said in a window of time.monotonic(): see `of_window`."""
        found = {}
        for meter in self.meters:
            said = of_window(meter, list(self.series[meter.name]), start, end)
            if said is not None:
                found[meter.name] = said
        return found


def of_window(meter: Meter, series: Series, start: float, end: float) -> dict[str, Any] | None:
    """Mean, minimum, maximum and number of readings in [start, end].

    A counter of energy gives joules and mean watts, between readings in proportion; power gives
    joules as mean times duration. None where there is no reading to tell it from.
    """
    head = {"quantity": meter.quantity, "unit": meter.unit}
    if meter.quantity == "energy":
        first, last = _at(series, start), _at(series, end)
        if first is None or last is None or end <= start:
            return None
        joules = last - first
        return head | {"joules": joules, "watts": joules / (end - start)}
    inside = [value for at, value in series if start <= at <= end]
    if not inside:  # shorter than the interval: the readings around it, where there are both
        around = [value for value in (_at(series, start), _at(series, end)) if value is not None]
        if len(around) < 2 or meter.quantity == "throttled":
            return None
        inside = around
    mean = sum(inside) / len(inside)
    said = head | {"mean": mean, "min": min(inside), "max": max(inside), "n": len(inside)}
    if meter.quantity == "power":
        said |= {"watts": mean, "joules": mean * (end - start)}
    return said


def _at(series: Series, when: float) -> float | None:
    """The value at a time, between two readings in proportion; None outside of them."""
    for (before, low), (after, high) in itertools.pairwise(series):
        if before <= when <= after:
            share = (when - before) / (after - before) if after > before else 0.0
            return low + share * (high - low)
    return None
