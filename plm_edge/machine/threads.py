"""How many threads to compute with, when nobody says.

Decode is bound by memory bandwidth and by the slowest thread, so a little core or a second
hyper-thread makes it slower, not faster: one thread a big physical core that this process may
run on, and no more than the container's CPU quota.
"""

from __future__ import annotations

import math
import os
from pathlib import Path

import psutil

# Below this many logical CPUs all are used: on small virtual machines the "hyper-threads" that
# are shown are as often whole cores (llama.cpp draws the same line).
SMALL_MACHINE = 4


def default_threads(sysfs: Path = Path("/sys")) -> int:
    """Threads for a model that has this machine to itself; at least 1."""
    allowed = _allowed_cpus()
    big = _big_cores(allowed, sysfs / "devices/system/cpu")
    count = len(big) if len(big) <= SMALL_MACHINE else _physical(big, sysfs)
    quota = _cpu_quota(sysfs / "fs/cgroup")
    return max(1, min(count, math.ceil(quota)) if quota else count)


def _allowed_cpus() -> set[int]:
    """CPUs that this process may run on (taskset, container CPU sets)."""
    if hasattr(os, "sched_getaffinity"):
        return set(os.sched_getaffinity(0))
    return set(range(os.cpu_count() or 1))


def _big_cores(allowed: set[int], cpus: Path) -> set[int]:
    """Of `allowed`, the cores at least half as capable as the best one.

    ARM kernels publish each core's relative capacity (0 to 1024), x86 hybrids their P-cores' list;
    clocks tell the rest. Half keeps a phone's prime and performance cores and drops the little.
    """
    p_cores = _read(cpus.parent.parent / "cpu_core/cpus")
    if p_cores:
        return _parse_list(p_cores) & allowed or allowed
    for name in ("cpu_capacity", "cpufreq/cpuinfo_max_freq"):
        rank = {cpu: _read(cpus / f"cpu{cpu}" / name) for cpu in allowed}
        known = {cpu: int(value) for cpu, value in rank.items() if value.isdigit()}
        if len(known) == len(allowed):
            best = max(known.values())
            big = {cpu for cpu, value in known.items() if 2 * value > best}
            if big != allowed:
                return big
    return allowed


def _physical(cpus: set[int], sysfs: Path) -> int:
    """Physical cores among the logical `cpus`."""
    siblings = set()
    for cpu in cpus:
        topology = sysfs / "devices/system/cpu" / f"cpu{cpu}" / "topology"
        group = _read(topology / "core_cpus_list") or _read(topology / "thread_siblings_list")
        if not group:
            physical = psutil.cpu_count(logical=False) or len(cpus)
            return min(physical, len(cpus))
        siblings.add(group)
    return len(siblings)


def _cpu_quota(cgroup: Path) -> float | None:
    """CPUs' worth of time that the container may use; None without a limit."""
    words = _read(cgroup / "cpu.max").split()
    if len(words) == 2 and words[0].isdigit():
        return int(words[0]) / int(words[1])
    quota, period = _read(cgroup / "cpu/cpu.cfs_quota_us"), _read(cgroup / "cpu/cpu.cfs_period_us")
    if quota.isdigit() and period.isdigit() and int(period):
        return int(quota) / int(period)
    return None


def _parse_list(text: str) -> set[int]:
    """A kernel CPU list: 0-3,8 → {0, 1, 2, 3, 8}."""
    cpus: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        if first.isdigit():
            cpus.update(range(int(first), int(last or first) + 1))
    return cpus


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
