"""A whole run of bench on this machine: every point of a workload, and what surrounds them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from plm_edge.bench import bounds, capability, cost, energy, environment, meters, result, runner
from plm_edge.bench.meters.host import Host, LocalHost
from plm_edge.bench.meters.recorder import Recorder
from plm_edge.bench.runner import Measured, Setting
from plm_edge.bench.workload import Point, Workload
from plm_edge.engine.threads import default_threads


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
CAPABILITY_S = 3.0


@dataclass
class Bench:
    """One run over one setting. `host` is where meters look."""

    setting: Setting
    workload: Workload
    display: Display
    host: Host = field(default_factory=LocalHost)
    on_point: Callable[[Measured], None] | None = None

    def run(self) -> dict[str, Any]:
        """Measure all points; the result as result.schema.json describes it.

        Raises:
            PlmEdgeError: the model cannot be run.
        """
        workload, display = self.workload, self.display
        points = list(workload.points())
        each = workload.budget_s + POINT_OVERHEAD_S
        display.begin(len(points), len(points) * each + workload.idle_s + CAPABILITY_S)
        made = result.head() | {
            "engine": result.engine(self.setting),
            "machine": environment.machine(),
            "model": environment.model(self.setting.model),
        }
        found = meters.find(self.host)
        names = energy.main_meters(found)
        with Recorder(found.meters, workload.sample_s) as recorder:
            idle = self._idle(recorder, names)
            measured = [self._measure(point) for point in points]
        made["points"] = [result.point(one) for one in measured]
        threads = _threads(made["points"], self.setting)
        made["settings"] = result.settings(self.setting, workload, threads)
        made["power"] = {
            "meters": [meter.describe() for meter in found.meters],
            "lacking": [{"what": what, "why": why} for what, why in found.lacking],
            "counted": names,
            "idle_watts": idle,
            "overhead": recorder.overhead(),
        }
        self._add_energy(made["points"], recorder, names, idle)
        display.step("memory bandwidth and arithmetic of this machine")
        made["capability"] = capability.measure(threads)
        self._add_bounds(made)
        return made

    def _idle(self, recorder: Recorder, names: list[str]) -> float | None:
        """Power before anything of ours runs; no time is lost where nothing measures it."""
        if not names:
            return None
        self.display.step("idle power")
        began = time.monotonic()
        time.sleep(self.workload.idle_s)
        recorder.sample()
        return energy.idle_watts(recorder, names, (began, time.monotonic()))

    def _measure(self, point: Point) -> Measured:
        self.display.step(_what(point))
        measured = runner.measure(self.setting, self.workload, point, self.display.sample)
        if self.on_point:
            self.on_point(measured)
        return measured

    def _add_energy(
        self, points: list[dict[str, Any]], recorder: Recorder, names: list[str], idle: float | None
    ) -> None:
        for point in points:
            if "tps" in point:
                start, end = point["window"]
                tokens = point["tokens_a_sample"] * point["tps"]["n"]
                point["power"] = energy.of_point(recorder, names, (start, end), tokens, idle)

    def _add_bounds(self, made: dict[str, Any]) -> None:
        sparse = made["model"]["layout"] == "edge" and made["engine"]["name"] == "plm-edge"
        price = cost.of_file(self.setting.model, self.setting.kv, sparse)
        made["cost"] = vars(price).copy()
        for point in made["points"]:
            if "tps" in point:
                point["bounds"] = bounds.of_point(point, price, made["capability"])


def run(setting: Setting, workload: Workload, display: Display) -> dict[str, Any]:
    """Measure all points of `workload` on this machine. See `Bench.run`."""
    return Bench(setting, workload, display).run()


def _threads(points: list[dict[str, Any]], setting: Setting) -> int:
    """Threads that were used: of the points, for the engine chooses when nobody says."""
    found = [point["threads"] for point in points if point.get("threads")]
    return int(found[0] if found else setting.threads or default_threads())


def _what(point: Point) -> str:
    if point.kind == "load":
        return f"loading, {'cold' if point.cold else 'warm'} page cache"
    if point.kind == "prefill":
        return f"prefill of {point.n_tokens} tokens"
    after = f" after {point.depth}" if point.depth else ""
    together = f", {point.n_seq} sequences" if point.n_seq > 1 else ""
    return f"decode{after}{together}"
