"""From raw samples to the result: one JSON object, described by result.schema.json."""

from __future__ import annotations

import statistics
from datetime import datetime, timezone
from typing import Any

from plm_edge import __version__
from plm_edge.bench.runner import Measured, Setting
from plm_edge.bench.statistics_ import percentile, summarise
from plm_edge.bench.workload import Workload
from plm_edge.engine import library

SCHEMA = "plm-edge/bench/1"
Result = dict[str, Any]


def point(measured: Measured) -> Result:
    """One point of the result. Rates in t/s, times in seconds, sizes in bytes."""
    at = measured.point
    made: Result = {
        "name": at.name,
        "kind": at.kind,
        "n_tokens": at.n_tokens,
        "depth": at.depth,
        "n_seq": at.n_seq,
        "skipped": measured.skipped,
    }
    if not measured.samples:
        return made
    if measured.timed:
        _add_times(made, measured)
    else:
        made["instructions"] = _counted(measured)
    if at.kind == "load":
        return made
    done, loaded = measured.done, measured.loaded
    if loaded:
        peak = done.peak_rss_bytes if done else None
        made["memory"] = loaded.memory | {"peak_rss_bytes": peak}
    made["threads"] = loaded.threads if loaded else None
    made["zeros"] = done.zeros if done else None
    made["rows_by_layer"] = [vars(layer) for layer in done.rows] if done else []
    return made


def _add_times(made: Result, measured: Measured) -> None:
    """Seconds, rates, and of prefill TTFT, of decode each step."""
    at = measured.point
    seconds = [sample.seconds for sample in measured.samples]
    made["samples_s"] = seconds
    made["seconds"] = summarise(seconds).as_dict()
    made["interval_reached"] = measured.done.reached if measured.done else None
    made["window"] = [measured.samples[0].start, measured.samples[-1].end]
    if at.kind == "load":
        return
    tokens = at.n_tokens * at.n_seq
    made["tokens_a_sample"] = tokens
    made["tps"] = summarise([tokens / second for second in seconds]).as_dict()
    ttft = [sample.ttft_s for sample in measured.samples if sample.ttft_s is not None]
    if at.kind == "prefill" and ttft:
        made["ttft_samples_s"] = ttft
        made["ttft_s"] = summarise(ttft).as_dict()
    elif at.kind == "decode" and measured.samples[0].steps:
        steps = [step for sample in measured.samples for step in sample.steps]
        made["step_samples_s"] = [sample.steps for sample in measured.samples]
        shares = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
        made["inter_token_s"] = {name: percentile(steps, share) for name, share in shares.items()}
        made["inter_token_s"]["n"] = len(steps)


def _counted(measured: Measured) -> Result:
    """Instructions of each sample, and the median's share of a token (of a load: all of it)."""
    found, tokens = measured.instructions, measured.point.n_tokens * measured.point.n_seq
    each = statistics.median(found) / max(tokens, 1) if found else None
    return {"samples": found, "a_token": each}


def engine(setting: Setting) -> Result:
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
    return {
        "name": name,
        "pin": f"{pin.package} {pin.version}",
        "tree": tree,
        "compiler": compiler,
        "cpu_flags": flags,
        "folder": str(folder),
    }


def settings(setting: Setting, workload: Workload, threads: int | None) -> Result:
    """How it was run."""
    return {
        "threads": threads,
        "kv": setting.kv,
        "flash_attn": setting.flash_attn,
        "n_ubatch": setting.n_ubatch,
        "gpu_layers": setting.gpu_layers,
        "tokens": "text" if setting.text else "random",
        "workload": workload.as_dict(),
    }


def head() -> Result:
    """What every result begins with."""
    return {
        "schema": SCHEMA,
        "plm_edge": __version__,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }
