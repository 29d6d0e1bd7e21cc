"""What was measured on: CPU, kernel, settings, load; and how fast its memory reads.

`plm_edge.machine` asks the machine. What is here is of the report: how much a hypervisor took, and
the bandwidth beside each turn, read by a program that only a checkout has.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
from pathlib import Path
from statistics import median
from typing import Any

from plm_edge.machine import cores, cpu, memory


def facts(threads: int) -> dict[str, Any]:
    """The machine as the result file records it; "unknown" where the system does not tell."""
    return {
        "cpu": cpu.name() or "unknown",
        "cpu_flags": [flag for flag in cpu.flags() if flag.startswith(("avx", "amx"))],
        "virtual": cpu.is_virtual(),
        "cpus": cores.logical(),
        "threads": threads,
        "memory_bytes": memory.total(),
        "kernel": platform.release(),
        "governor": cpu.governor() or "unknown",
        "transparent_huge_pages": _read("/sys/kernel/mm/transparent_hugepage/enabled") or "unknown",
        "python": platform.python_version(),
    }


def load() -> list[float]:
    """Load averages of 1, 5 and 15 minutes."""
    return [round(value, 2) for value in os.getloadavg()]


def cpu_times() -> dict[str, int]:
    """Ticks of all CPUs since boot; `steal` is what a hypervisor gave to others."""
    names = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")
    line = _read("/proc/stat").partition("\n")[0].split()[1:]
    return dict(zip(names, map(int, line), strict=False))


def steal_share(before: dict[str, int], after: dict[str, int]) -> float:
    """Share of CPU time, of what was asked for, that the hypervisor did not give."""
    used = {name: after[name] - before[name] for name in after}
    wanted = sum(used.values()) - used.get("idle", 0) - used.get("iowait", 0)
    return round(used.get("steal", 0) / wanted, 4) if wanted > 0 else 0.0


def read_bandwidth(program: Path, threads: int, reps: int = 9) -> dict[str, Any]:
    """All samples of bench-plm-bandwidth, GB/s (1e9) by way of reading."""
    command = [str(program), "--threads", str(threads), "--reps", str(reps)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


class BandwidthNow:
    """How fast memory reads at this moment: neighbours on a shared machine change it by the half
    within seconds, so a share of it needs a look beside each turn."""

    def __init__(self, program: Path, threads: int, measured: dict[str, Any]) -> None:
        """measured: of `read_bandwidth`, whose best way of reading is used."""
        medians = [median(way["gb_s"]) for way in measured["ways"]]
        best = medians.index(max(medians)) + 1
        self._command = [str(program), "--threads", str(threads), "--way", str(best)]
        self._command += ["--mib", "512", "--reps", "7"]

    def __call__(self) -> float:
        """GB/s (1e9), the median of 7 passes over 512 MiB. About half a second."""
        done = subprocess.run(self._command, check=True, stdout=subprocess.PIPE, text=True)
        return float(round(median(json.loads(done.stdout)["ways"][0]["gb_s"]), 2))


def best_bandwidth(measured: list[dict[str, Any]], pages: str | None = None) -> dict[str, Any]:
    """The way of reading with the highest median over all measurements, GB/s. A single sample can
    be high by accident of the clock: the best median stands for the machine, not the best sample.

    Args:
        pages: only "huge" or "4k"; None takes either.
    """
    samples: dict[tuple[str, int, bool], list[float]] = {}
    for one in measured:
        for way in one["ways"]:
            key = (way["pages"], way["streams"], way["prefetch"])
            samples.setdefault(key, []).extend(way["gb_s"])
    chosen = {key: values for key, values in samples.items() if pages in (None, key[0])}
    key, values = max(chosen.items(), key=lambda item: median(item[1]))
    return {
        "pages": key[0],
        "streams": key[1],
        "prefetch": key[2],
        "median_gb_s": round(median(values), 2),
        "max_gb_s": round(max(values), 2),
    }


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
