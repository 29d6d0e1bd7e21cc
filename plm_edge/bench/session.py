"""A whole run of bench: every point of a workload at a site, and what surrounds them."""

from __future__ import annotations

import copy
import itertools
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Protocol

from msgspec import structs

from plm_edge import __version__
from plm_edge.bench import duration, meters, sustained
from plm_edge.bench.analyse import bounds, cost, energy
from plm_edge.bench.meters.meter import Finding
from plm_edge.bench.meters.recorder import Recorder
from plm_edge.bench.result import gather, shape
from plm_edge.bench.result.shape import Capability, Result
from plm_edge.bench.site import Head, Here, Site
from plm_edge.bench.worker.client import Setting
from plm_edge.bench.worker.events import Measured
from plm_edge.bench.workload import Point, Workload
from plm_edge.machine.threads import default_threads
from plm_edge.model import gguf_file
from plm_edge.model.description import describe
from plm_edge.model.offload import Offload


class Display(Protocol):
    """Shows what happens in a run. See `plm_edge.cli.bench.progress` for the terminal's."""

    def begin(self, points: int, seconds: float) -> None:
        """Show how many steps there are, and about how many seconds they take in all."""

    def step(self, what: str) -> None:
        """A step begins; the one before it has ended."""

    def left(self, seconds: float) -> None:
        """Show about how many seconds the rest takes."""

    def sample(self, n: int, interval: float | None) -> None:
        """Show that there are `n` samples, and half their interval as a share of the mean."""


CAPABILITY_S = 3.0
ZEROS = Point("decode", 16)  # for the share of zeros, where a GPU computes


@dataclass
class Bench:
    """One run at one site. Each step is shown with `label` behind it."""

    site: Site
    workload: Workload
    display: Display
    label: str = ""

    def run(self) -> Result:
        """Measure all points.

        Raises:
            PlmEdgeError: the model cannot be run.
        """
        return run_in_turns([self])[0]

    def measure(self, point: Point) -> Measured:
        """One point of the workload."""
        self.display.step(_what(point) + self.label)
        return self.site.measure(self.workload, point, self.display.sample)

    @property
    def price(self) -> cost.Cost:
        """What a token costs the model here."""
        setting = self.site.setting
        header = gguf_file.read(setting.model)
        sparse = describe(header).layout == "edge" and setting.engine is None
        return cost.of(header, setting.kv, sparse)

    def finish(
        self,
        began: str,
        head: Head,
        measured: list[Measured],
        power: Power,
        capability: Capability | None,
        offload: shape.Offload | None,
    ) -> Result:
        """The result: what was known before the first point, the points, their energy and bounds.

        Args:
            began: when, as `gather.now` says it.
            head: as `Site.head` gives it.
            offload: what went to GPUs.
        """
        points = [power.of_point(gather.point(one)) for one in measured]
        price = self.price if capability else None
        if price and capability:
            points = [_bound(point, price, capability) for point in points]
        threads = _threads(measured, self.site.setting)
        return Result(
            schema=shape.SCHEMA,
            plm_edge=__version__,
            created=began,
            engine=head.engine,
            machine=head.machine,
            model=head.model,
            settings=gather.settings(self.site.setting, self.workload, threads),
            points=points,
            power=power.describe(),
            capability=capability,
            cost=price.numbers() if price else None,
            sustained=(
                sustained.of(measured[0], power.recorder)
                if self.workload.name == "sustained"
                else None
            ),
            emulation=head.emulation,
            offload=offload,
        )

    def zeros(self) -> float | None:
        """The share of W_down's rows that are zero, which GPUs do not count: a few tokens on the
        CPU. None where the model has no such rows."""
        setting = replace(self.site.setting, gpu_layers=0, share_here=1.0, check_memory=False)
        on_cpu = copy.copy(self.site)
        on_cpu.setting = setting
        self.display.step("rows that are zero, on the CPU" + self.label)
        shortly = replace(self.workload, min_repeats=1, max_repeats=1, budget_s=0.0)
        done = on_cpu.measure(shortly, ZEROS, self.display.sample).done
        return done.zeros if done else None


def _bound(point: shape.Point, price: cost.Cost, capability: Capability) -> shape.Point:
    """The point with what bounds it, where it was timed and ran on the CPU alone: a GPU's
    bandwidth is not what is measured of a machine."""
    if point.tps is None or point.offloaded:
        return point
    return structs.replace(point, bounds=bounds.of_point(point, price, capability))


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

    def describe(self) -> shape.Power:
        """The `power` of a result."""
        return shape.Power(
            meters=[meter.describe() for meter in self.finding.meters],
            lacking=[shape.LackingMeter(what=what, why=why) for what, why in self.finding.lacking],
            counted=self.names,
            idle_watts=self.idle,
            overhead=self.recorder.overhead(),
        )

    def of_point(self, point: shape.Point) -> shape.Point:
        """The point with its energy, temperatures and throttling, where it was timed."""
        if point.tps is None or point.window is None or point.tokens_a_sample is None:
            return point
        tokens = point.tokens_a_sample * point.tps.n
        found = energy.of_point(self.recorder, self.names, point.window, tokens, self.idle)
        return structs.replace(point, power=found)


def run_in_turns(benches: list[Bench]) -> list[Result]:
    """Run several settings of one workload on one machine: each point by all of them before the
    next point, so that a machine that changes meanwhile does not favour one. The results, in
    order."""
    first = benches[0]
    workload, display, site = first.workload, first.display, first.site
    points = list(workload.points())
    placed = [
        bench.site.offload(
            max((point.n_ctx for point in points), default=0),
            max((point.n_seq for point in points), default=1),
        )
        for bench in benches
    ]
    steps = [(point, bench) for point in points for bench in benches]
    clock = duration.Clock(
        [duration.point_seconds(point, workload, bench.price) for point, bench in steps]
    )
    on_gpu = [offload for offload in placed if offload and offload.layers]
    display.begin(len(steps) + 2 + len(on_gpu), clock.total + workload.idle_s + CAPABILITY_S)
    display.step("reading the model, idle power" + first.label)
    heads = [(gather.now(), bench.site.head()) for bench in benches]
    found = meters.find(site.host) if site.host else Finding()
    measured: list[list[Measured]] = [[] for _ in benches]
    with Recorder(found.meters, max(workload.sample_s, site.sample_s)) as recorder:
        power = Power(found, recorder, energy.main_meters(found, on_gpu=bool(on_gpu)))
        power.measure_idle(workload.idle_s)
        for (point, bench), those in zip(steps, itertools.cycle(measured)):
            began = time.monotonic()
            those.append(bench.measure(point))
            clock.taken.append(time.monotonic() - began)
            display.left(clock.left)
    display.step("memory bandwidth and arithmetic" + first.label)
    capability = site.capability(_threads(measured[0], site.setting))
    return [
        bench.finish(began, head, those, power, capability, _offload(bench, offload))
        for bench, (began, head), those, offload in zip(
            benches, heads, measured, placed, strict=True
        )
    ]


def _offload(bench: Bench, found: Offload | None) -> shape.Offload | None:
    """What went to GPUs, for a result."""
    if found is None:
        return None
    return shape.Offload(
        gpus=[
            shape.Gpu(
                name=gpu.name,
                description=gpu.description,
                total_bytes=gpu.total,
                free_bytes=gpu.free,
            )
            for gpu in found.gpus
        ],
        layers=found.layers,
        n_layers=found.n_layers,
        why=found.note,
        zeros=bench.zeros() if found.layers else None,
    )


def run_side_by_side(benches: list[Bench]) -> list[Result]:
    """Run each on a machine of its own, all at the same time; the results, in order.

    Raises:
        PlmEdgeError: the first that failed; the others have ended then.
    """
    with ThreadPoolExecutor(len(benches)) as pool:
        runs = [pool.submit(bench.run) for bench in benches]
    return [one.result() for one in runs]


def run(setting: Setting, workload: Workload, display: Display) -> Result:
    """Measure all points of `workload` on this machine. See `Bench.run`."""
    return Bench(Here(setting), workload, display).run()


def _threads(measured: list[Measured], setting: Setting) -> int:
    """Threads that were used: of the points, for the engine chooses when nobody says."""
    found = [one.loaded.threads for one in measured if one.loaded]
    return int(found[0] if found else setting.threads or default_threads())


def _what(point: Point) -> str:
    if point.kind == "load":
        return f"loading, {'cold' if point.cold else 'warm'} page cache"
    if point.kind == "prefill":
        return f"prefill of {point.n_tokens} tokens"
    after = f" after {point.depth}" if point.depth else ""
    together = f", {point.n_seq} sequences" if point.n_seq > 1 else ""
    return f"decode{after}{together}"
