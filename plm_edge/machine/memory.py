"""This module says how much memory may still be taken, and how much a process has taken.

What is available is the least of what the kernel says, of the process's own limits (ulimit), and of
what each enclosing control group (container, systemd slice) still allows.

What is asked before something large is done imports neither numpy nor psutil on Linux: where memory
is short, they would end the process before it can say so.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_CGROUP = Path("/sys/fs/cgroup")
_UNLIMITED = 1 << 60  # version 1 of control groups says "no limit" by a number of this size


class Room(NamedTuple):
    """Memory that can still be taken.

    Attributes:
        bytes: how much.
        bound_by: what bounds it, as the subject of a sentence: "this machine".
    """

    bytes: int
    bound_by: str


def available() -> Room:
    """Returns what this process can take now without swapping, failing or being killed."""
    return min(_bounds())


def total() -> int:
    """Returns the machine's RAM, in bytes."""
    import psutil

    return psutil.virtual_memory().total


def peak_rss() -> int:
    """Returns the most memory that this process has had resident so far, in bytes."""
    # ru_maxrss keeps the figure of the process that started this one, across exec; VmHWM does not.
    if peak := _table(Path("/proc/self/status")).get("VmHWM"):
        return peak
    try:
        import resource
    except ImportError:  # Windows
        import psutil

        return int(getattr(psutil.Process().memory_info(), "peak_wset", 0))
    found = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return found if sys.platform == "darwin" else found * 1024


def rss_of(pid: int) -> int:
    """Returns what another process has resident, in bytes; 0 if the system does not say."""
    import psutil

    with contextlib.suppress(psutil.Error):
        return int(psutil.Process(pid).memory_info().rss)
    return 0


def peak_rss_of(pid: int) -> int:
    """Returns the most that another process has had resident; 0 if the system does not say."""
    return _table(Path(f"/proc/{pid}/status")).get("VmHWM", 0)


def _bounds() -> Iterator[Room]:
    machine = _table(Path("/proc/meminfo"))
    if "MemAvailable" in machine:
        yield Room(machine["MemAvailable"], "this machine")
    else:
        import psutil

        yield Room(psutil.virtual_memory().available, "this machine")
    yield from _own_limits()
    yield from (Room(room, "the container or cgroup") for room in _cgroups())


def _own_limits() -> Iterator[Room]:
    try:
        import resource
    except ImportError:  # Windows
        return
    status = _table(Path("/proc/self/status"))
    for limit, used, name in (
        (resource.RLIMIT_AS, "VmSize", "the limit on address space (ulimit -v)"),
        (resource.RLIMIT_DATA, "VmData", "the limit on data (ulimit -d)"),
    ):
        soft = resource.getrlimit(limit)[0]
        if soft != resource.RLIM_INFINITY and used in status:
            yield Room(max(0, soft - status[used]), name)


def _cgroups(own: Path = Path("/proc/self/cgroup")) -> Iterator[int]:
    """What each enclosing control group still allows, version 1 and 2; nothing off Linux."""
    lines: list[str] = []
    with contextlib.suppress(OSError):
        lines = own.read_text(encoding="utf-8").splitlines()
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            top, limit, used = _CGROUP, "memory.max", "memory.current"
        elif "memory" in controllers.split(","):
            top = _CGROUP / "memory"
            limit, used = "memory.limit_in_bytes", "memory.usage_in_bytes"
        else:
            continue
        folder = top / path.lstrip("/")
        # In a container the path may be the host's: then only the mount's own root is there.
        for group in (folder, *folder.parents):
            if not group.is_relative_to(top):
                break
            room = _headroom(group / limit, group / used, group / "memory.stat")
            if room is not None:
                yield room


def _headroom(limit: Path, used: Path, stat: Path) -> int | None:
    """Bytes that one group still allows; None: it has no limit."""
    try:
        allowed, taken = limit.read_text().strip(), int(used.read_text())
        words = stat.read_text().split()
    except (OSError, ValueError):
        return None
    if not allowed.isdigit() or int(allowed) >= _UNLIMITED:  # "max": no limit
        return None
    counts = dict(zip(words[::2], words[1::2], strict=False))
    # Cached pages of files count as used and are given back under pressure. The active half as
    # well: a second conversion reads the files of the first.
    cached = sum(
        int(counts.get(f"total_{name}", counts.get(name, 0)))
        for name in ("inactive_file", "active_file")
    )
    return max(0, int(allowed) - taken + cached)


def proc_table(text: str) -> dict[str, int]:
    """Reads the lines like "VmSize:  1234 kB" of a file in /proc.

    Returns:
        Bytes by name.
    """
    rows = [line.partition(":") for line in text.splitlines() if line.endswith("kB")]
    return {name: int(value.split()[0]) * 1024 for name, _, value in rows}


def _table(path: Path) -> dict[str, int]:
    """The same of a file here; nothing where there is none."""
    try:
        return proc_table(path.read_text(encoding="ascii", errors="replace"))
    except OSError:
        return {}
