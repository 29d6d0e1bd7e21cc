"""Measure on another device: the model and a llama-bench go there, its meters are read from here.

What llama-bench reports is what there is: prefill and decode rates with raw samples, at each depth.
Load, TTFT, single tokens' latency, batches and memory are measured on this machine only so far.
"""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from plm_edge.bench import energy, environment, meters, result
from plm_edge.bench.meters.host import RemoteHost
from plm_edge.bench.meters.recorder import Recorder
from plm_edge.bench.runner import Measured, Setting
from plm_edge.bench.session import Power
from plm_edge.bench.workload import Point, Workload
from plm_edge.engine import library
from plm_edge.errors import ExitCode, PlmEdgeError
from plm_edge.fleet.connect import Opened

# A reading is a way there and back; twice a second would be work for a small board.
REMOTE_INTERVAL = 2.0


def run(
    devices: list[Opened], setting: Setting, workload: Workload, engine: Path
) -> list[dict[str, Any]]:
    """Measure on several devices side by side; results in their order.

    Args:
        engine: a folder with llama-bench for these devices, and its libraries if it has any.

    Raises:
        PlmEdgeError: a device cannot be reached, or the program does not run there.
    """
    _check_engine(engine)
    with ThreadPoolExecutor(len(devices)) as pool:
        runs = [pool.submit(run_on, device, setting, workload, engine) for device in devices]
        return [one.result() for one in runs]


def run_on(device: Opened, setting: Setting, workload: Workload, engine: Path) -> dict[str, Any]:
    """Measure on one device."""
    with device.transport as transport:
        facts = transport.facts()
        program = _place(device, setting.model, engine)
        host = RemoteHost(transport)
        found = meters.find(host)
        cores = sum(group.count for group in facts.groups) or None
        governor = host.read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
        points = [p for p in workload.points() if p.kind != "load" and p.n_seq == 1]
        with Recorder(found.meters, REMOTE_INTERVAL) as recorder:
            power = Power(found, recorder, energy.main_meters(found))
            power.measure_idle(workload.idle_s)
            measured = [_measure(device, setting, workload, point, program) for point in points]
    threads = next((m.loaded["threads"] for m in measured if m.loaded), setting.threads)
    pin = library.read_pin()
    made: dict[str, Any] = result.head() | {
        "engine": {
            "name": "plm-edge", "pin": f"{pin.package} {pin.version}", "tree": pin.tree,
            "compiler": None, "cpu_flags": None, "folder": str(engine),
        },
        "machine": {
            "device": device.name, "cpu": facts.cpu, "arch": facts.machine,
            "features": list(facts.features), "cores_logical": cores,
            "ram_bytes": facts.ram, "governor": governor, "load_before": None,
        },
        "model": environment.model(setting.model),
        "settings": result.settings(setting, workload, threads),
        "points": [result.point(one) for one in measured],
        "power": power.describe(),
    }  # fmt: skip
    power.add(made["points"])
    return made


def _check_engine(engine: Path) -> None:
    if not (engine / "llama-bench").is_file():
        raise PlmEdgeError(
            "there is no engine to measure with on another device",
            f"{engine} holds no llama-bench",
            "give a folder with one that was built for the device: --engine FOLDER",
            ExitCode.ENVIRONMENT,
        )


def _place(device: Opened, model: Path, engine: Path) -> str:
    """Send model, program and libraries; what is there already is not sent again."""
    folder = device.folder
    transport = device.transport
    transport.put(model, f"{folder}/{model.name}")
    wanted = [engine / "llama-bench", *sorted(engine.glob("lib*.so*"))]
    for path in wanted:
        transport.put(path, f"{folder}/bench/{path.name}", mode=0o755)
    return f"{folder}/bench/llama-bench"


def _measure(
    device: Opened, setting: Setting, workload: Workload, point: Point, program: str
) -> Measured:
    repeats = max(workload.min_repeats, 2)
    command = [
        program, "-m", f"{device.folder}/{setting.model.name}", "-o", "jsonl",
        "-p", str(point.n_tokens if point.kind == "prefill" else 0),
        "-n", str(point.n_tokens if point.kind == "decode" else 0),
        "-d", str(point.depth), "-r", str(repeats), "-ctk", setting.kv, "-ctv", setting.kv,
        "-ub", str(setting.n_ubatch),
    ]  # fmt: skip
    if setting.threads:
        command += ["-t", str(setting.threads)]
    place = program.rsplit("/", 1)[0]
    done = device.transport.run(command, env={"LD_LIBRARY_PATH": place}, check=True)
    end = time.monotonic()
    return parse(point, done.text, end)


def parse(point: Point, text: str, end: float) -> Measured:
    """What llama-bench wrote as JSON lines.

    Args:
        end: monotonic seconds when it ended: its samples are taken as the time just before.

    Raises:
        PlmEdgeError: it wrote no result.
    """
    lines = [line for line in text.splitlines() if line.startswith("{")]
    if not lines:
        raise PlmEdgeError(
            f"llama-bench gave no result for {point.name}",
            (text.strip().splitlines() or ["it said nothing"])[-1],
            "run it there by hand",
            ExitCode.INTERNAL,
        )
    said = json.loads(lines[-1])
    seconds = [nanoseconds / 1e9 for nanoseconds in said["samples_ns"]]
    begin = end - sum(seconds)
    samples = [{"seconds": s, "start": begin, "end": end} for s in seconds]
    return Measured(point, samples, {"threads": said["n_threads"]}, {})
