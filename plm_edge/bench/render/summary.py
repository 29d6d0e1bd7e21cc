"""What a result comes to in words: the terminal's tables and the report both show these."""

from __future__ import annotations

from collections.abc import Sequence

from plm_edge.base import console
from plm_edge.bench.result.shape import LackingMeter, Memory, Point, Result, is_gpu

BUSY = 0.5  # load average by logical core from which other programs spoil the figures
_LEVELS = "▁▂▃▄▅▆▇█"
_NO_ENERGY = ("thermal zones", "CPU clock", "throttling")  # lacking, but no meters of energy


def remarks(result: Result) -> list[str]:
    """What a reader has to know beside the figures."""
    made = []
    load, cores = result.machine.load_before, result.machine.cores_logical
    if isinstance(load, list) and load and cores and load[0] / cores > BUSY:
        made.append(
            f"other programs were busy: a load of {load[0]:.1f} on {cores} CPUs when it began"
        )
    wide = [point.name for point in result.points if point.interval_reached is False]
    share = 100 * result.settings.workload.interval
    if wide and share > 0:  # a sustained run has no interval to reach
        made.append(f"time ran out before the mean was known to {share:.0f} %: {', '.join(wide)}")
    hot = [point.name for point in result.points if point.power and point.power.throttled]
    if hot:
        made.append(f"the device throttled itself at {', '.join(hot)}: these figures are too low")
    return made


def medians(results: list[Result]) -> list[tuple[str, list[str]]]:
    """Of each point its name, and for each result what it came to."""
    names = dict.fromkeys(point.name for one in results for point in one.points)
    return [(name, [_median(one, name) for one in results]) for name in names]


def _median(result: Result, name: str) -> str:
    point: Point | None = next((one for one in result.points if one.name == name), None)
    if point is None:
        return "-"
    if point.tps:
        return f"{point.tps.median:,.1f} t/s"
    if point.seconds:
        return console.duration(point.seconds.median)
    counted = point.instructions.a_token if point.instructions else None
    return f"{counted:,.0f} instructions" if counted else "-"


def lacking_energy(result: Result) -> list[LackingMeter]:
    """The meters of energy that are not here."""
    return [item for item in result.power.lacking if item.what not in _NO_ENERGY]


def most_on_gpu(result: Result) -> Memory | None:
    """The memory of the point that took most of GPUs'; None where none did."""
    found = [point.memory for point in result.points if point.memory and point.offloaded]
    return max(found, key=lambda one: sum(size for _, size, _ in on_gpu(one)), default=None)


def on_gpu(memory: Memory) -> list[tuple[str, int, str]]:
    """What lies in GPUs' memory: name, bytes, and of which kinds of buffers."""
    kinds = [
        ("weights", memory.weights_bytes),
        ("transposed", memory.copies_by_buffer or {}),
        ("KV cache", memory.kv_by_buffer or {}),
        ("compute", memory.compute_by_buffer or {}),
    ]
    found = []
    for name, sizes in kinds:
        there = {kind: size for kind, size in sizes.items() if is_gpu(kind)}
        if there:
            detail = ", ".join(f"{kind} {console.size(size)}" for kind, size in there.items())
            found.append((name, sum(there.values()), detail))
    return found


def milliseconds(seconds: float) -> str:
    """Always in milliseconds, so that a column can be compared by eye."""
    return f"{1000 * seconds:.2f} ms" if seconds < 0.1 else f"{1000 * seconds:,.0f} ms"


def spark(values: Sequence[float]) -> str:
    """A line of bars, one a value, scaled from zero to the largest."""
    top = max(values, default=0) or 1
    return "".join(_LEVELS[min(7, int(8 * value / top))] for value in values)
