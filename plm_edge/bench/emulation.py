"""A device under qemu: whether its tokens are right, and how many instructions they take.

Nothing is timed: an emulator's speed says nothing of the device's.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.bench.remote import Device
from plm_edge.bench.result.shape import Capability, Emulation, Tokens
from plm_edge.bench.site import Head, OnSample
from plm_edge.bench.worker import counting
from plm_edge.bench.worker.client import Answers, Setting, greedy_request
from plm_edge.bench.worker.events import Measured
from plm_edge.bench.workload import Point, Workload
from plm_edge.building.cache import KeptBuild
from plm_edge.deploy import proof
from plm_edge.devices.connect import OpenDevice
from plm_edge.devices.facts import Facts
from plm_edge.devices.transports.qemu import QemuTransport


class Emulated(Device):
    """A device that is emulated here: a `Site` without meters.

    Args:
        opened: its transport is qemu.
    """

    def __init__(
        self, opened: OpenDevice, built: KeptBuild, setting: Setting, facts: Facts
    ) -> None:
        # One thread: emulated ones that wait for each other would be counted as they wait.
        super().__init__(opened, built, replace(setting, threads=1), facts)
        self.host = None
        assert isinstance(opened.transport, QemuTransport)
        self._qemu = opened.transport
        self._counter: counting.Counter | None = None
        self._why_not = ""
        try:
            self._counter = counting.Counter(self._qemu.emulator, opened.profile.arch)
        except counting.NotCounted as reason:
            self._why_not = str(reason)

    def offload(self, n_ctx: int, n_outputs: int) -> None:
        """Nothing: no GPU is emulated."""

    def head(self) -> Head:
        return replace(super().head(), emulation=self._emulation())

    def _emulation(self) -> Emulation:
        """What the emulator is, and whether the device computes there what we do here.

        Raises:
            PlmEdgeError: its tokens are others.
        """
        wanted = proof.reference(self.setting.model)
        there = self._greedy(wanted.prompt_tokens, len(wanted.tokens))
        if there != wanted.tokens:
            raise PlmEdgeError(
                f"{self.opened.name} does not compute what this machine does",
                f"greedy tokens after {wanted.prompt!r}: {there} there, {wanted.tokens} here, each "
                f"preferred by {wanted.margin:.2g} nats or more",
                "build the engine again (plm-edge engine build --device NAME --force), and report "
                "it if it stays so",
                ExitCode.DEVICE,
            )
        tokens = Tokens(
            prompt=wanted.prompt,
            here=wanted.tokens,
            there=there,
            equal=True,
            margin_nats=wanted.margin,
        )
        return Emulation(
            emulator=Path(self._qemu.emulator).name,
            cpu=self._qemu.cpu,
            not_counted=self._why_not or None,
            tokens=tokens,
        )

    def _greedy(self, prompt: list[int], count: int) -> list[int]:
        answers = Answers()
        self.ask([greedy_request(self.model_path, prompt, count)], answers, "generating")
        tokens: list[int] = answers.events[-1]["tokens"]
        return tokens

    def measure(self, workload: Workload, point: Point, on_sample: OnSample) -> Measured:
        with tempfile.TemporaryDirectory() as folder:
            counts = Path(folder) / "counts"
            self.extra = self._counter.environment(counts) if self._counter else {}
            try:
                found = super().measure(workload, point, on_sample)
            finally:
                self.extra = {}
            found.instructions = counting.between_marks(counts)
        found.timed = False
        if found.done:
            found.done.peak_rss_bytes = None  # the emulator's own
        return found

    def capability(self, threads: int) -> Capability | None:
        return None


def workload(base: Workload) -> Workload:
    """`base` with two samples a point, whose counts show whether they are the same each time."""
    return replace(base, interval=0.0, budget_s=0.0, min_repeats=2, max_repeats=2, idle_s=0.0)
