"""The sustained mode: decode without a pause, and how the rate falls while the device heats up."""

from __future__ import annotations

import re
from dataclasses import replace

from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.bench.meters.recorder import Recorder
from plm_edge.bench.result.shape import Sustained
from plm_edge.bench.statistics import summarise
from plm_edge.bench.worker.events import Measured
from plm_edge.bench.workload import Workload

_UNITS = {"s": 1, "": 1, "m": 60, "h": 3600}


def seconds(text: str) -> float:
    """A duration such as 90s, 5m or 1h, in seconds.

    Raises:
        PlmEdgeError: it is none (code USAGE).
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text.strip())
    if match is None or not float(match[1]):
        raise PlmEdgeError(
            f"--sustained {text} is no duration",
            "a number with s, m or h is wanted",
            "say --sustained 5m",
            ExitCode.USAGE,
        )
    return float(match[1]) * _UNITS[match[2]]


def workload(base: Workload, duration: float) -> Workload:
    """One point, decode at empty context, for `duration` seconds whatever its spread."""
    return replace(
        base, name="sustained", prefill=(), depths=(0,), sequences=(1,), loads=False,
        interval=-1.0, budget_s=duration, min_repeats=2, max_repeats=1 << 40,
    )  # fmt: skip


def of(measured: Measured, recorder: Recorder) -> Sustained:
    """Rates and meters over time, seconds from the first sample on.

    `held` is the median rate of the last tenth as a share of that of the first.
    """
    began = measured.samples[0].start
    rates = [(sample.end - began, sample.tokens / sample.seconds) for sample in measured.samples]
    tenth = max(1, len(rates) // 10)
    first = summarise([rate for _, rate in rates[:tenth]]).median
    last = summarise([rate for _, rate in rates[-tenth:]]).median
    return Sustained(
        rates=rates,
        held=last / first,
        series={
            name: [(at - began, value) for at, value in list(series)]
            for name, series in recorder.series.items()
        },
    )
