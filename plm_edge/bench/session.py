"""A whole run of bench on this machine: every point of a workload, and what surrounds them."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any, Protocol

from plm_edge.bench import (
    bounds,
    capability,
    cost,
    energy,
    environment,
    meters,
    result,
    runner,
    sustained,
)  # fmt: skip
from plm_edge.bench.meters.host import Host, LocalHost
from plm_edge.bench.meters.meter import Finding
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
    """One run over one setting. `host` is where meters look; `label` is put behind each step."""

    setting: Setting
    workload: Workload
    display: Display
    host: Host = field(default_factory=LocalHost)
    label: str = ""

    def run(self) -> dict[str, Any]:
        """Measure all points; the result as result.schema.json describes it.

        Raises:
            PlmEdgeError: the model cannot be run.
        """
        return run_in_turns([self])[0]

    def head(self) -> dict[str, Any]:
        """Which engine, machine and model."""
        return result.head() | {
            "engine": result.engine(self.setting),
            "machine": environment.machine(),
            "model": environment.model(self.setting.model),
        }

    def measure(self, point: Point) -> Measured:
        """One point of the workload."""
        self.display.step(_what(point) + self.label)
        return runner.measure(self.setting, self.workload, point, self.display.sample)

    def finish(
        self,
        made: dict[str, Any],
        measured: list[Measured],
        power: Power,
        machine: dict[str, Any],
    ) -> None:
        """Put points, settings, energy and bounds into the result."""
        made["points"] = [result.point(one) for one in measured]
        threads = _threads(made["points"], self.setting)
        made["settings"] = result.settings(self.setting, self.workload, threads)
        made["power"] = power.describe()
        power.add(made["points"])
        made["capability"] = machine
        self._add_bounds(made)
        if self.workload.name == "sustained":
            made["sustained"] = sustained.of(measured[0], power.recorder)

    def _add_bounds(self, made: dict[str, Any]) -> None:
        sparse = made["model"]["layout"] == "edge" and made["engine"]["name"] == "plm-edge"
        price = cost.of_file(self.setting.model, self.setting.kv, sparse)
        made["cost"] = vars(price).copy()
        for point in made["points"]:
            if "tps" in point:
                point["bounds"] = bounds.of_point(point, price, made["capability"])


@dataclass
class Power:
    """What the meters of a run say, and how idle power came out."""

    finding: Finding
    recorder: Recorder
    names: list[str]
    idle: float | None = None

    def measure_idle(self, seconds: float) -> None:
        """Power before anything of ours runs; no time is lost where nothing measures it."""
        if self.names:
            began = time.monotonic()
            time.sleep(seconds)
            self.recorder.sample()
            self.idle = energy.idle_watts(self.recorder, self.names, (began, time.monotonic()))

    def describe(self) -> dict[str, Any]:
        """The `power` of a result."""
        return {
            "meters": [meter.describe() for meter in self.finding.meters],
            "lacking": [{"what": what, "why": why} for what, why in self.finding.lacking],
            "counted": self.names,
            "idle_watts": self.idle,
            "overhead": self.recorder.overhead(),
        }

    def add(self, points: list[dict[str, Any]]) -> None:
        """Give each point its energy, temperatures and throttling."""
        for point in points:
            if "tps" in point:
                start, end = point["window"]
                tokens = point["tokens_a_sample"] * point["tps"]["n"]
                point["power"] = energy.of_point(
                    self.recorder, self.names, (start, end), tokens, self.idle
                )


def run_in_turns(benches: list[Bench]) -> list[dict[str, Any]]:
    """Run several settings of one workload: each point by all of them before the next point, so
    that a machine that changes meanwhile does not favour one. The results, in order."""
    first = benches[0]
    workload, display = first.workload, first.display
    points = list(workload.points())
    each = workload.budget_s + POINT_OVERHEAD_S
    steps = len(points) * len(benches)
    display.begin(steps + 2, steps * each + workload.idle_s + CAPABILITY_S)
    display.step("reading the model, idle power")
    made = [bench.head() for bench in benches]
    found = meters.find(first.host)
    measured: list[list[Measured]] = [[] for _ in benches]
    with Recorder(found.meters, workload.sample_s) as recorder:
        power = Power(found, recorder, energy.main_meters(found))
        power.measure_idle(workload.idle_s)
        for point in points:
            for bench, those in zip(benches, measured, strict=True):
                those.append(bench.measure(point))
    display.step("memory bandwidth and arithmetic of this machine")
    loaded = [one.loaded for one in measured[0] if one.loaded]
    machine = capability.measure(loaded[0]["threads"] if loaded else default_threads())
    for bench, head, those in zip(benches, made, measured, strict=True):
        bench.finish(head, those, power, machine)
    return made


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
