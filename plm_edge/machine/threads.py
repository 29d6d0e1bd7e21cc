"""This module says how many threads to work with, when nobody else does.

Decode is bound by memory bandwidth and by the slowest thread, so a little core or a second
hyper-thread makes it slower, not faster: one thread a big physical core that this process may
run on, and no more than the container's CPU quota.
"""

from __future__ import annotations

import math
from pathlib import Path

from plm_edge.machine import cores, cpu
from plm_edge.machine.cores import Core

# Below this many logical CPUs all are used: on small virtual machines the "hyper-threads" that
# are shown are as often whole cores (llama.cpp draws the same line).
SMALL_MACHINE = 4
_SYSFS = Path("/sys")
_OWN_GROUP = Path("/proc/self/cgroup")


def default_threads(sysfs: Path = _SYSFS) -> int:
    """Says how many threads a model takes that has this machine to itself; at least 1."""
    big = _big_cores(cores.allowed(), sysfs)
    count = len(big) if len(big) <= SMALL_MACHINE else _physical(big, sysfs)
    return _within_quota(count, sysfs)


def default_jobs(sysfs: Path = _SYSFS) -> int:
    """Says how many threads or processes work that goes on by itself may take; at least 1.

    Every CPU that this process may run on counts, for none waits for another.
    """
    return _within_quota(len(cores.allowed()), sysfs)


def _within_quota(count: int, sysfs: Path) -> int:
    quota = _cpu_quota(sysfs / "fs/cgroup")
    return max(1, min(count, math.ceil(quota)) if quota else count)


def _big_cores(allowed: set[int], sysfs: Path) -> set[int]:
    """Of `allowed`, the big ones: x86 hybrids publish their P-cores' list, see `cores.big` else."""
    p_cores = _parse_list(_read(sysfs / "devices/cpu_core/cpus"))
    if p_cores:
        return p_cores & allowed or allowed
    order = sorted(allowed)
    kinds = {int(table["processor"]): cores.kind(table) for table in cpu.all_processors()}
    known = [_core(number, kinds.get(number, ""), sysfs) for number in order]
    return {number for number, is_big in zip(order, cores.big(known), strict=True) if is_big}


def _core(number: int, kind: str, sysfs: Path) -> Core:
    place = sysfs / "devices/system/cpu" / f"cpu{number}"
    clock, capacity = _read(place / "cpufreq/cpuinfo_max_freq"), _read(place / "cpu_capacity")
    return Core(
        kind,
        float(clock) if clock.isdigit() else None,
        int(capacity) if capacity.isdigit() else None,
    )


def _physical(cpus: set[int], sysfs: Path) -> int:
    """Physical cores among the logical `cpus`."""
    siblings = set()
    for number in cpus:
        topology = sysfs / "devices/system/cpu" / f"cpu{number}" / "topology"
        group = _read(topology / "core_cpus_list") or _read(topology / "thread_siblings_list")
        if not group:
            return min(cores.physical() or len(cpus), len(cpus))
        siblings.add(group)
    return len(siblings)


def _cpu_quota(cgroup: Path) -> float | None:
    """CPUs' worth of time that the container or the service may use; None without a limit."""
    limits = [_limit_of(_read(place / "cpu.max").split()) for place in _own_groups(cgroup)]
    quota, period = _read(cgroup / "cpu/cpu.cfs_quota_us"), _read(cgroup / "cpu/cpu.cfs_period_us")
    limits.append(_limit_of([quota, period]))
    return min((limit for limit in limits if limit), default=None)


def _own_groups(cgroup: Path) -> list[Path]:
    """The group of this process and all that it lies in: the least of their limits counts.

    In a container the mounted folder is its own group; elsewhere it is the root of all.
    """
    found = [line[3:] for line in _read(_OWN_GROUP).splitlines() if line.startswith("0::")]
    own = Path(*[part for part in Path(found[0]).parts if part not in ("/", "..")] if found else [])
    return [cgroup / place for place in (own, *own.parents)]


def _limit_of(words: list[str]) -> float | None:
    """CPUs by a quota and its period, of as many microseconds as the words say."""
    if len(words) == 2 and all(word.isdigit() for word in words) and int(words[1]):
        return int(words[0]) / int(words[1])
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
