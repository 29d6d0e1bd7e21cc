"""What was measured becomes the parts of a result here."""

from __future__ import annotations

import statistics
from datetime import datetime, timezone
from typing import Any

from plm_edge.bench.result.shape import (
    Engine,
    Instructions,
    Latencies,
    LayerRows,
    Memory,
    Point,
    Settings,
)
from plm_edge.bench.statistics import percentile, summarise
from plm_edge.bench.worker.client import Setting
from plm_edge.bench.worker.events import Measured
from plm_edge.bench.workload import Workload
from plm_edge.engine import library


def point(measured: Measured) -> Point:
    """The point of a result that the samples of a worker make."""
    at = measured.point
    made: dict[str, Any] = {
        "name": at.name,
        "kind": at.kind,
        "n_tokens": at.n_tokens,
        "depth": at.depth,
        "n_seq": at.n_seq,
        "skipped": measured.skipped,
    }
    if measured.samples:
        made |= _times(measured) if measured.timed else {"instructions": _counted(measured)}
        if at.kind != "load":
            made |= _of_model(measured)
    return Point(**made)


def _of_model(measured: Measured) -> dict[str, Any]:
    """Memory, threads and rows, as the worker's process found them."""
    done, loaded = measured.done, measured.loaded
    rows = [LayerRows(**vars(layer)) for layer in done.rows] if done else []
    made: dict[str, Any] = {
        "threads": loaded.threads if loaded else None,
        "zeros": done.zeros if done else None,
        "rows_by_layer": rows,
        "head_read": done.head_read if done else None,
    }
    if loaded:
        peak = done.peak_rss_bytes if done else None
        made["memory"] = Memory(**loaded.memory, peak_rss_bytes=peak)
    return made


def _times(measured: Measured) -> dict[str, Any]:
    """Seconds, rates, and of prefill TTFT, of decode each step."""
    at, samples = measured.point, measured.samples
    seconds = [sample.seconds for sample in samples]
    made: dict[str, Any] = {
        "samples_s": seconds,
        "seconds": summarise(seconds),
        "interval_reached": measured.done.reached if measured.done else None,
        "window": (samples[0].start, samples[-1].end),
    }
    if at.kind == "load":
        return made
    tokens = at.n_tokens * at.n_seq
    made["tokens_a_sample"] = tokens
    made["tps"] = summarise([tokens / second for second in seconds])
    ttft = [sample.ttft_s for sample in samples if sample.ttft_s is not None]
    if at.kind == "prefill" and ttft:
        made["ttft_samples_s"] = ttft
        made["ttft_s"] = summarise(ttft)
    elif at.kind == "decode" and samples[0].steps:
        steps = [step for sample in samples for step in sample.steps]
        made["step_samples_s"] = [sample.steps for sample in samples]
        p50, p95, p99 = (percentile(steps, percent) for percent in (50, 95, 99))
        made["inter_token_s"] = Latencies(p50=p50, p95=p95, p99=p99, n=len(steps))
    return made


def _counted(measured: Measured) -> Instructions:
    """Instructions of each sample, and the median's share of a token (of a load: all of it)."""
    found, tokens = measured.instructions, measured.point.n_tokens * measured.point.n_seq
    each = statistics.median(found) / max(tokens, 1) if found else None
    return Instructions(samples=found, a_token=each)


def engine(setting: Setting) -> Engine:
    """Which engine ran: pin, tree and build."""
    pin = library.read_pin()
    if setting.engine is not None:
        name, tree, compiler, flags = "stock", "unpatched", None, None
        folder = setting.engine
    else:
        loaded = library.load()
        info, folder = loaded.info, loaded.folder
        name, tree, compiler = "plm-edge", info.tree, info.compiler
        flags = sorted(info.cpu_flags)
    return Engine(
        name=name,
        pin=f"{pin.package} {pin.version}",
        tree=tree,
        compiler=compiler,
        cpu_flags=flags,
        folder=str(folder),
    )


def settings(setting: Setting, workload: Workload, threads: int | None) -> Settings:
    """How it was run."""
    return Settings(
        threads=threads,
        kv=setting.kv,
        flash_attn=setting.flash_attn,
        n_ubatch=setting.n_ubatch,
        exact=setting.exact,
        gpu_layers=setting.gpu_layers,
        tokens="text" if setting.text else "random",
        workload=workload,
    )


def now() -> str:
    """The time in UTC, as every result says when it was made."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
