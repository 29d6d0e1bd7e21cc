"""A site is where points are measured: this machine, or one by a transport (`remote.py`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from plm_edge.bench import capability, environment, placing, runner
from plm_edge.bench.meters.host import Host, LocalHost
from plm_edge.bench.result import gather
from plm_edge.bench.result.shape import Capability, Emulation, Engine, Machine, Model
from plm_edge.bench.worker import process
from plm_edge.bench.worker.client import Setting
from plm_edge.bench.worker.events import Measured
from plm_edge.bench.workload import Point, Workload
from plm_edge.engine import accelerators, library
from plm_edge.engine.approximations import is_exact
from plm_edge.machine.threads import default_threads
from plm_edge.model.offload import Offload

OnSample = Callable[[int, float | None], None]


@dataclass(frozen=True)
class Head:
    """What a result says of its site before anything is measured.

    Attributes:
        emulation: what emulates the device; None: it is one.
    """

    engine: Engine
    machine: Machine
    model: Model
    emulation: Emulation | None = None


class Site(Protocol):
    """A machine with a setting of its own on it.

    Attributes:
        setting: how the model is run there.
        host: where meters look; None where nothing is timed, so that no meter means anything.
        sample_s: least time between two readings of the meters.
    """

    setting: Setting
    host: Host | None
    sample_s: float

    def head(self) -> Head:
        """Which engine runs which model there; reads all of the model for its SHA-256."""

    def offload(self, n_ctx: int, n_outputs: int) -> Offload | None:
        """Decide which layers go to GPUs, and keep that in `setting`; None where none is at hand.

        Args:
            n_ctx: the most tokens of context that a point takes.
            n_outputs: the most sequences of a point.

        Raises:
            PlmEdgeError: layers were asked to go to a GPU, and there is none (code ENVIRONMENT).
        """

    def measure(self, workload: Workload, point: Point, on_sample: OnSample) -> Measured:
        """One point, in a process of its own.

        Raises:
            PlmEdgeError: the model cannot be run so, or the process died.
        """

    def capability(self, threads: int) -> Capability | None:
        """Bandwidth and arithmetic; None: not measured."""


class Here:
    """This machine; ours, or stock llama.cpp where the setting names its folder."""

    sample_s = 0.0

    def __init__(self, setting: Setting, host: Host | None = None) -> None:
        self.setting = replace(setting, exact=setting.engine is None and is_exact())
        self.host: Host | None = host or LocalHost()

    def head(self) -> Head:
        return Head(
            gather.engine(self.setting),
            environment.machine(),
            environment.model(self.setting.model),
        )

    def offload(self, n_ctx: int, n_outputs: int) -> Offload | None:
        if self.setting.engine is not None or self.setting.gpu_layers == 0:
            return None
        folder = library.find()
        if not accelerators.has_backend(folder):
            if self.setting.gpu_layers is None:
                return None
            raise accelerators.missing(folder)
        engine = f"the engine in {folder}"
        self.setting, found = placing.place(
            self.setting, lambda: process.ask([placing.REQUEST]), n_ctx, n_outputs, engine
        )
        return found

    def measure(self, workload: Workload, point: Point, on_sample: OnSample) -> Measured:
        return runner.measure(self.setting, workload, point, on_sample)

    def capability(self, threads: int) -> Capability | None:
        return capability.measure(threads or default_threads())
