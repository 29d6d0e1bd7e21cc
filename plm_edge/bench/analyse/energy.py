"""From meters to joules a token: which meter counts, idle apart, and what is not measured."""

from __future__ import annotations

from plm_edge.bench.meters.counters import HwmonPower
from plm_edge.bench.meters.meter import Finding
from plm_edge.bench.meters.nvidia import NVIDIA
from plm_edge.bench.meters.recorder import Recorder
from plm_edge.bench.result.shape import Energy, PointPower


def main_meters(finding: Finding, *, on_gpu: bool = False) -> list[str]:
    """Names of the meters whose sum is shown as the device's power.

    The order of `meters.find`: a whole board or battery, else the CPU packages, else one sensor.
    GPUs are added to CPU packages: those two do not overlap.

    Args:
        on_gpu: a GPU computes. Of NVIDIA's boards the meter then goes before a sensor that may be
            of anything.
    """
    power = finding.of("energy", "power")
    if not power:
        return []
    boards = [meter.name for meter in power if meter.name == NVIDIA]
    first = power[0]
    if first.quantity == "energy":
        packages = [
            meter.name for meter in power if type(meter) is type(first) and meter.name != NVIDIA
        ]
        return packages + boards
    if on_gpu and boards and isinstance(first, HwmonPower):
        return boards
    return [first.name]


def of_point(
    recorder: Recorder,
    names: list[str],
    window: tuple[float, float],
    tokens: int,
    idle: float | None,
) -> PointPower:
    """Energy, temperatures, clocks and throttling of one point.

    Args:
        window: monotonic seconds of its first and last sample.
        tokens: computed in the window.
        idle: watts before anything ran, or None.
    """
    said = recorder.between(*window)
    energy = throttled = None
    parts = [said[name] for name in names if name in said]
    if names and len(parts) == len(names):
        joules = sum(part["joules"] for part in parts)
        seconds = window[1] - window[0]
        above = None if idle is None else joules - idle * seconds
        energy = Energy(
            joules=joules,
            watts=joules / seconds,
            joules_a_token=joules / tokens,
            joules_a_token_above_idle=None if above is None else above / tokens,
        )
    flags = [part for part in said.values() if part["quantity"] == "throttled"]
    if flags:
        throttled = any(part["max"] > 0 for part in flags)
    return PointPower(meters=said, energy=energy, throttled=throttled)


def idle_watts(recorder: Recorder, names: list[str], window: tuple[float, float]) -> float | None:
    """Power while nothing of ours ran; None where it is not measured."""
    said = recorder.between(*window)
    parts = [said[name] for name in names if name in said]
    return sum(part["watts"] for part in parts) if names and len(parts) == len(names) else None
