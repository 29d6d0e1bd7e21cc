"""The worker for machines without Python (native/worker.cpp): its command line, and its events.

It does what `worker.py` does, so that a point of a device has all that a point here has.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from plm_edge.base.errors import PlmEdgeError
from plm_edge.bench.runner import Event, Measured, Setting, take
from plm_edge.bench.samples import ENOUGH, least_seconds
from plm_edge.bench.statistics_ import T95
from plm_edge.bench.worker import took
from plm_edge.bench.workload import Point, Workload
from plm_edge.engine.log import read_log
from plm_edge.engine.options import FLASH_NUMBERS
from plm_edge.engine.reported import kv_report
from plm_edge.engine.sparsity import LayerRows, zero_share
from plm_edge.model import gguf_file

PROGRAM = "plm-edge-bench"
OnSample = Callable[[int, float | None], None]


def command(
    program: str,
    setting: Setting,
    workload: Workload,
    point: Point,
    model: str,
    text: str | None = None,
) -> list[str]:
    """What to run for one point.

    Args:
        setting: its threads must be said: a device's are not the native worker's to choose.
        model, text: paths where the program runs.
    """
    values: dict[str, Any] = {
        "what": point.kind, "model": model, "n_tokens": point.n_tokens, "depth": point.depth,
        "n_seq": point.n_seq, "cold": int(point.cold), "n_ctx": point.n_ctx,
        "threads": setting.threads, "kv": setting.kv, "n_ubatch": setting.n_ubatch,
        "flash_attn": FLASH_NUMBERS[setting.flash_attn], "warm_up": int(workload.warm_up),
        "interval": workload.interval, "budget_s": workload.budget_s,
        "min_repeats": workload.min_repeats, "max_repeats": workload.max_repeats,
        "enough": ENOUGH, "least_s": least_seconds(workload.budget_s),
        "t95": ",".join(map(str, T95)),
    }  # fmt: skip
    if setting.gpu_layers is not None:
        values["gpu_layers"] = setting.gpu_layers
    if text is not None:
        values["text"] = text
    return [program, *(f"{name}={value}" for name, value in values.items())]


class Reader:
    """Takes the program's output as it comes, and makes a `Measured` of it.

    Its clock starts where it likes: the event that came fastest tells how far it is from
    `time.monotonic()` here, which is the meters'.
    """

    def __init__(self, point: Point, on_sample: OnSample | None = None) -> None:
        self.found = Measured(point)
        self.error: PlmEdgeError | None = None
        self._on_sample = on_sample
        self._rest = b""
        self._heard = bytearray()
        self._ahead: float | None = None  # our clock minus its, at most

    def out(self, data: bytes) -> None:
        """Of stdout. An error that the program tells is kept in `error`: this may be called in a
        thread of the connection's."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            if line.startswith(b"{"):
                try:
                    self._take(json.loads(line))
                except PlmEdgeError as error:
                    self.error = error

    def err(self, data: bytes) -> None:
        """Of stderr: the engine's log."""
        self._heard.extend(data)

    @property
    def complaint(self) -> str:
        """The last line on stderr; empty without one."""
        lines = self._heard.decode(errors="replace").strip().splitlines()
        return lines[-1].strip() if lines else ""

    def _take(self, event: Event) -> None:
        apart = time.monotonic() - event.pop("now")
        self._ahead = apart if self._ahead is None else min(self._ahead, apart)
        if event["event"] == "warm":
            return
        take(self.found, event)
        if self._on_sample and self.found.samples and event is self.found.samples[-1]:
            self._on_sample(len(self.found.samples), event["interval"])

    def finish(self, setting: Setting) -> Measured:
        """The whole, when the program has ended well.

        Args:
            setting: its model is the file here, whose header makes the log's sizes exact.
        """
        found = self.found
        for sample in found.samples:
            sample["start"] += self._ahead or 0.0
            sample["end"] += self._ahead or 0.0
            if sample.get("ttft_s") is None:
                sample.pop("ttft_s", None)
        if found.done:
            rows = [LayerRows(**layer) for layer in found.done["rows"]]
            found.done["zeros"] = zero_share(rows)
        if found.loaded:
            log = read_log(self._heard.decode(errors="replace"))
            header = gguf_file.read(Path(setting.model))
            found.loaded["memory"] = took(
                log, kv_report(log, header, setting.kv, found.point.n_seq)
            )
        return found
