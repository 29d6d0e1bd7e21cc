"""Drive the points of a workload, each in a process of its own, and gather what they say."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from plm_edge.base.errors import ExitCode, PlmEdgeError
from plm_edge.bench.workload import Point, Workload

Event = dict[str, Any]
SMALLER = "take a smaller type, --kv q8_0 or a shorter --workload"  # where memory is short


@dataclass(frozen=True)
class Setting:
    """How the model is run. `engine`: a folder with stock llama.cpp's libraries; None: ours."""

    model: Path
    engine: Path | None = None
    threads: int | None = None
    kv: str = "f16"
    flash_attn: str = "auto"
    n_ubatch: int = 512
    gpu_layers: int | None = None
    check_memory: bool = True
    text: str | None = None


@dataclass
class Measured:
    """One point's raw result: its samples, and what the process said of itself.

    `instructions`: of each sample, where an emulator counted them; its times mean nothing then
    (`timed` is False).
    """

    point: Point
    samples: list[Event] = field(default_factory=list)
    loaded: Event | None = None
    done: Event | None = None
    skipped: str | None = None
    timed: bool = True
    instructions: list[int] = field(default_factory=list)


def measure(
    setting: Setting,
    workload: Workload,
    point: Point,
    on_sample: Callable[[int, float | None], None] | None = None,
) -> Measured:
    """Measure one point.

    Args:
        on_sample: told after each sample how many there are and how wide the interval is.

    Raises:
        PlmEdgeError: the model cannot be run so, or the process died.
    """
    found = Measured(point)
    with tempfile.TemporaryFile() as complaints:
        process = _start(setting, workload, point, complaints)
        try:
            assert process.stdout is not None
            for line in process.stdout:
                take(found, json.loads(line))
                if on_sample and found.samples:
                    on_sample(len(found.samples), found.samples[-1]["interval"])
            code = process.wait()
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        if code or not (found.done or found.skipped):
            complaints.seek(0)
            raise _died(point, code, complaints.read().decode(errors="replace"))
    return found


def _start(setting: Setting, workload: Workload, point: Point, complaints: Any) -> Any:
    request = {
        **asdict(setting),
        "model": str(setting.model.resolve()),
        "engine": str(setting.engine) if setting.engine else None,
        "point": asdict(point),
        "interval": workload.interval,
        "budget_s": workload.budget_s,
        "min_repeats": workload.min_repeats,
        "max_repeats": workload.max_repeats,
        "warm_up": workload.warm_up,
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "plm_edge.bench.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=complaints,
        text=True,
        env=worker_environment(),
    )
    assert process.stdin is not None
    with suppress(BrokenPipeError), process.stdin:  # it died: its exit code says why
        json.dump(request, process.stdin)
    return process


def worker_environment() -> dict[str, str]:
    """Ours, with this package on the path: it may run from a checkout that is not installed."""
    root = str(Path(__file__).resolve().parents[2])
    paths = [root, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths), "GGML_NO_BACKTRACE": "1"}


def take(found: Measured, event: Event) -> None:
    """Put one event of a worker where it belongs.

    Raises:
        PlmEdgeError: it is the worker's own error.
    """
    kind = event.pop("event")
    if kind == "sample":
        found.samples.append(event)
    elif kind == "loaded":
        found.loaded = event
    elif kind == "done":
        found.done = event
    elif kind == "skipped":
        found.skipped = event["why"]
    else:
        code, fix = ExitCode(event["code"]), event["fix"]
        if code == ExitCode.RESOURCES:  # the session's remedies are options of run
            fix = f"{SMALLER}, close other programs, or insist with --force"
        raise PlmEdgeError(event["what"], event["why"], fix, code)


def _died(point: Point, code: int, complaints: str) -> PlmEdgeError:
    lines = [line for line in complaints.splitlines() if line.strip()]
    if code == -signal.SIGINT or code == int(ExitCode.INTERRUPTED):
        raise KeyboardInterrupt
    if code == -signal.SIGKILL:
        return PlmEdgeError(
            f"the engine was killed while measuring {point.name}",
            "SIGKILL: most often the system's memory ran out",
            f"{SMALLER}, or close other programs",
            ExitCode.RESOURCES,
        )
    how = f"by {signal.Signals(-code).name}" if code < 0 else f"with {code}"
    return PlmEdgeError(
        f"the engine ended {how} while measuring {point.name}",
        lines[-1].strip() if lines else "it said nothing",
        "run it again with --debug, and report what it prints",
        ExitCode.INTERNAL,
    )
