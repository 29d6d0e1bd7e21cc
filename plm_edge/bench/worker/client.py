"""Requests to plm-edge-bench and its answers, whichever way they travel: lines of JSON.

`process.py` runs the program here; `remote.py` and `emulation.py` send the same requests to it over
a transport.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.bench.statistics import T95
from plm_edge.bench.worker.clock import Clock
from plm_edge.bench.worker.events import Event, Measured
from plm_edge.bench.workload import Point, Workload
from plm_edge.engine.kv_report import kv_report
from plm_edge.engine.log import EngineLog, KVReport, read_log
from plm_edge.model import gguf_file

PROGRAM = "plm-edge-bench"
SMALLER = "take a smaller type, --kv q8_0 or a shorter --workload"  # where memory is short
Request = dict[str, Any]
OnSample = Callable[[int, float | None], None]

# Fewer samples can lie close together by chance; only the end of the budget stops before them.
ENOUGH = 5
# A machine has moods of a tenth of a second: samples that agree must cover more than one of them, a
# second at most, and no more than this share of the budget.
LEAST_S, LEAST_SHARE = 1.0, 0.2


@dataclass(frozen=True)
class Setting:
    """How the model is run.

    Attributes:
        engine: a folder with stock llama.cpp's libraries; None: ours.
        gpu_layers: as the engine counts them (model/offload.py); None: as many as fit a GPU, where
            the engine has one.
        share_here: of the weights and the cache, what stays in this machine's own memory.
        exact: the environment told ours to approximate nothing (engine/approximations.py).
    """

    model: Path
    engine: Path | None = None
    threads: int | None = None
    kv: str = "f16"
    flash_attn: str = "auto"
    n_ubatch: int = 512
    gpu_layers: int | None = None
    share_here: float = 1.0
    check_memory: bool = True
    text: str | None = None
    exact: bool = False


def limits(interval: float, budget_s: float, min_repeats: int, max_repeats: int) -> Request:
    """When the program ends a point: see native/repeat.h."""
    return {
        "interval": interval, "budget_s": budget_s, "min_repeats": min_repeats,
        "max_repeats": max_repeats, "enough": ENOUGH, "t95": T95,
        "least_s": min(LEAST_S, LEAST_SHARE * budget_s),
    }  # fmt: skip


def point_request(
    setting: Setting,
    workload: Workload,
    point: Point,
    model: str,
    text: str | None = None,
    observe: bool = False,
) -> Request:
    """What to ask for one point.

    Args:
        setting: its threads must be said: they are not the program's to choose.
        model, text: paths where the program runs.
        observe: compute each node of the graph alone, and say its seconds.
    """
    assert setting.threads
    made: Request = {
        "do": "point", "kind": point.kind, "n_tokens": point.n_tokens, "depth": point.depth,
        "n_seq": point.n_seq, "cold": point.cold, "warm_up": workload.warm_up,
        "model": model, "threads": setting.threads, "n_ctx": point.n_ctx,
        "n_ubatch": setting.n_ubatch, "flash_attn": setting.flash_attn,
        # a latent cache holds K alone, and the engine insists that V's unused type is the same
        "cache_k": setting.kv, "cache_v": setting.kv,
        **limits(workload.interval, workload.budget_s, workload.min_repeats, workload.max_repeats),
    }  # fmt: skip
    if setting.gpu_layers is not None:
        made["gpu_layers"] = setting.gpu_layers
    if text is not None:
        made["text"] = text
    if observe:
        made["observe"] = True
    return made


def greedy_request(model: str, tokens: list[int], count: int, threads: int = 1) -> Request:
    """The `count` likeliest tokens after `tokens`, or fewer at an end, which is among them."""
    return {
        "do": "greedy", "model": model, "tokens": tokens, "count": count, "threads": threads,
    }  # fmt: skip


def encode(requests: Sequence[Request]) -> bytes:
    """Encode requests as the program reads them: a line of JSON each, in UTF-8."""
    return b"".join(json.dumps(request).encode() + b"\n" for request in requests)


class EngineSaid(Exception):
    """The engine's log, as the cause of an error: the traceback of --debug shows it."""


class Answers:
    """Takes the program's output as it comes.

    Attributes:
        events: what it said, in order, without those that `on_event` took.
        error: the error that it ended with. It is kept here and not raised: `out` may be called in
            a thread of a connection's.
    """

    def __init__(self, on_event: Callable[[Event], object] | None = None) -> None:
        self.events: list[Event] = []
        self.error: PlmEdgeError | None = None
        self.clock = Clock()
        self._on_event = on_event or self.events.append
        self._rest = b""
        self._heard = bytearray()

    def out(self, data: bytes) -> None:
        """Take what came on stdout; lines that are no events are a login's chatter."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            event: Event = {}
            if line.startswith(b"{"):
                with suppress(ValueError):
                    event = json.loads(line)
            if "event" in event:
                self.clock.hear(event["now"])
                if event["event"] == "error":
                    self.error = _error(event)
                else:
                    self._on_event(event)

    def err(self, data: bytes) -> None:
        """Take what came on stderr: the engine's log."""
        self._heard.extend(data)

    @property
    def log(self) -> str:
        return self._heard.decode(errors="replace")

    @property
    def complaint(self) -> str:
        """The last line on stderr; empty without one."""
        lines = self.log.strip().splitlines()
        return lines[-1].strip() if lines else ""

    @property
    def cause(self) -> EngineSaid:
        """What came on stderr, to raise an error from."""
        return EngineSaid(self.log.strip() or "nothing")


def _error(event: Event) -> PlmEdgeError:
    code, fix = ExitCode(event["code"]), event["fix"]
    if code == ExitCode.RESOURCES:
        fix = f"{SMALLER}, close other programs, or insist with --force"
    return PlmEdgeError(event["what"], event["why"], fix, code)


class PointReader(Answers):
    """Makes a `Measured` of the answers to a `point_request`."""

    def __init__(self, point: Point, on_sample: OnSample | None = None) -> None:
        super().__init__(self._add)
        self.found = Measured(point)
        self._on_sample = on_sample

    def _add(self, event: Event) -> None:
        sample = self.found.add(event)
        if sample and self._on_sample:
            self._on_sample(len(self.found.samples), sample.interval)

    @property
    def complete(self) -> bool:
        """Whether the program said all that there is to say."""
        return bool(self.found.done or self.found.skipped)

    def finish(self, setting: Setting) -> Measured:
        """The whole, when the program has ended well: in this machine's time, with its memory.

        Args:
            setting: its model is the file here, whose header makes the log's sizes exact.
        """
        found = self.found
        for sample in found.samples:
            sample.start, sample.end = self.clock.here(sample.start), self.clock.here(sample.end)
        if found.loaded:
            log = read_log(self.log)
            header = gguf_file.read(setting.model)
            found.loaded.memory = buffers(
                log, kv_report(log, header, setting.kv, found.point.n_seq)
            )
        return found


def buffers(log: EngineLog, kv: KVReport | None) -> dict[str, Any]:
    """The `memory` of a point, as far as the engine tells it; bytes."""
    return {
        "weights_bytes": log.weight_bytes(),
        "kv_bytes": kv.n_bytes if kv else 0,
        "kv_cells": kv.cells if kv else 0,
        "kv_bytes_per_token": kv.n_bytes / kv.cells if kv and kv.cells else 0,
        "kv_type": kv.type if kv else "",
        "compute_bytes": log.compute_bytes(),
        "kv_by_buffer": log.kv_by_buffer(),
        "compute_by_buffer": log.compute_by_buffer(),
        "copies_by_buffer": log.copies_by_buffer(),
        "splits": log.splits(),
    }
