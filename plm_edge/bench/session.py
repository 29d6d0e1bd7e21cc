"""A whole run of bench on this machine: every point of a workload, and what surrounds them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from plm_edge.bench import environment, result, runner
from plm_edge.bench.runner import Measured, Setting
from plm_edge.bench.workload import Point, Workload


class Display(Protocol):
    """Told what happens, to show it. See `plm_edge.cli.bench_output` for the terminal's."""

    def begin(self, points: int, seconds: float) -> None:
        """How many steps there are, and about how long they take in all."""

    def step(self, what: str) -> None:
        """A step begins; the one before it has ended."""

    def sample(self, n: int, interval: float | None) -> None:
        """`n` samples are there, and their interval is so wide (a share)."""


# Interpreter, bindings and a model of a gigabyte: what a point takes beside its samples.
POINT_OVERHEAD_S = 1.5


def run(
    setting: Setting,
    workload: Workload,
    display: Display,
    on_point: Callable[[Measured], None] | None = None,
) -> dict[str, Any]:
    """Measure all points of `workload`; the result as result.schema.json describes it.

    Raises:
        PlmEdgeError: the model cannot be run.
    """
    points = list(workload.points())
    display.begin(len(points), len(points) * (workload.budget_s + POINT_OVERHEAD_S))
    machine = environment.machine()
    display.step("reading the model")
    made = result.head() | {
        "engine": result.engine(setting),
        "machine": machine,
        "model": environment.model(setting.model),
    }
    found = []
    for point in points:
        display.step(_what(point))
        measured = runner.measure(setting, workload, point, display.sample)
        if on_point:
            on_point(measured)
        found.append(result.point(measured))
    threads = next((item["threads"] for item in found if item.get("threads")), setting.threads)
    made["settings"] = result.settings(setting, workload, threads)
    made["points"] = found
    return made


def _what(point: Point) -> str:
    if point.kind == "load":
        return f"loading, {'cold' if point.cold else 'warm'} page cache"
    if point.kind == "prefill":
        return f"prefill of {point.n_tokens} tokens"
    after = f" after {point.depth}" if point.depth else ""
    together = f", {point.n_seq} sequences" if point.n_seq > 1 else ""
    return f"decode{after}{together}"
