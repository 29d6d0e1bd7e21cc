"""A runner measures one point on this machine, by plm-edge-bench in a process of its own."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.bench.worker import process
from plm_edge.bench.worker.client import SMALLER, OnSample, PointReader, Setting, point_request
from plm_edge.bench.worker.events import Measured
from plm_edge.bench.workload import Point, Workload
from plm_edge.machine.threads import default_threads
from plm_edge.model import gguf_file
from plm_edge.model import need as needs


def measure(
    setting: Setting,
    workload: Workload,
    point: Point,
    on_sample: OnSample | None = None,
    observe: bool = False,
) -> Measured:
    """Measure one point.

    Args:
        on_sample: called after each sample with the number of samples and half the interval.
        observe: compute each node of the graph alone, and keep its seconds.

    Raises:
        PlmEdgeError: the model cannot be run so, or the process died.
    """
    setting = replace(setting, threads=setting.threads or default_threads())
    _require_memory(setting, point)
    reader = PointReader(point, on_sample)
    with _text(setting) as text, process.Process(setting.engine) as running:
        model = str(setting.model.resolve())
        running.send([point_request(setting, workload, point, model, text, observe)])
        code = running.finish(reader)
        reader.err(running.log)
    if reader.error:
        raise reader.error
    if code or not reader.complete:
        raise process.died(code, reader.complaint, f"measuring {point.name}") from reader.cause
    return reader.finish(setting)


@contextmanager
def _text(setting: Setting) -> Iterator[str | None]:
    """A file with the setting's text; None without one."""
    if not setting.text:
        yield None
        return
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "text"
        file.write_bytes(setting.text.encode("utf-8", "replace"))
        yield str(file)


def _require_memory(setting: Setting, point: Point) -> None:
    header = gguf_file.read(setting.model)
    if not setting.check_memory:
        return
    try:
        needs.check(header, point.n_ctx, setting.kv, setting.n_ubatch, share=setting.share_here)
    except PlmEdgeError as error:
        if error.code != ExitCode.RESOURCES:
            raise
        fix = f"{SMALLER}, close other programs, or insist with --force"  # not options of run
        raise PlmEdgeError(error.what, error.why, fix, error.code) from error
