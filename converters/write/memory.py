"""Whether there is memory for a conversion, before it begins: half-way the system would end it
without a word.

Imports no numpy: where memory is that short, numpy ends the process.
"""

from __future__ import annotations

import contextlib
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from plm_edge.base.errors import ExitCode, PlmEdgeError

# For what the allocator, the threads' stacks and the checks afterwards take besides.
SLACK = 48 << 20
# What a conversion of PLM-1.8B takes in all with two threads (benchmarks/convert.py saw 140 MiB),
# and what starting takes, mostly address space for numpy.
USUAL = 256 << 20
START = 128 << 20
_CGROUP = Path("/sys/fs/cgroup")


def check_start() -> None:
    """
    Raises:
        PlmEdgeError: there is not even memory to read a checkpoint's header.
    """
    free, who = available()
    if free < START:
        raise _short(f"PLM-1.8B takes about {_mib(USUAL)}, and {who} leaves {_mib(free)}")


def check_memory(buffers: int, threads: int, taken: int) -> None:
    """`buffers`: bytes that each thread will take; `taken`: that the process has taken already.

    Raises:
        PlmEdgeError: what will be needed is more than there is.
    """
    growth = threads * buffers + SLACK
    free, who = available()
    if growth > free:
        raise _short(
            f"it needs {_mib(taken + growth)} with {threads} threads, {_mib(growth)} of it from "
            f"now on, and {who} leaves {_mib(free)}"
        )


@contextmanager
def out_of_memory() -> Iterator[None]:
    """A limit that is reached before anything can be foreseen, as an error of ours."""
    try:
        yield
    except MemoryError:
        raise _short(f"an allocation failed; PLM-1.8B takes about {_mib(USUAL)}") from None


def _short(why: str) -> PlmEdgeError:
    return PlmEdgeError(
        "not enough memory for this conversion",
        why,
        "take fewer --threads, close other programs, or raise the limit",
        ExitCode.RESOURCES,
    )


def _mib(size: int) -> str:
    return f"{size / 2**20:,.0f} MiB"


def available() -> tuple[int, str]:
    """Bytes that this process may still take, and what bounds them."""
    found = [(1 << 62, "nothing")]
    status = _table(Path("/proc/self/status"))
    for limit, used, name in (
        (resource.RLIMIT_AS, "VmSize", "the limit on address space (ulimit -v)"),
        (resource.RLIMIT_DATA, "VmData", "the limit on data (ulimit -d)"),
    ):
        soft = resource.getrlimit(limit)[0]
        if soft != resource.RLIM_INFINITY and used in status:
            found.append((max(0, soft - status[used]), name))
    if "MemAvailable" in (machine := _table(Path("/proc/meminfo"))):
        found.append((machine["MemAvailable"], "this machine"))
    found += [(free, "the container or cgroup") for free in _cgroups()]
    return min(found)


def _cgroups() -> Iterator[int]:
    """What each cgroup above this process leaves, of version 2 or 1; files in the page cache can be
    dropped."""
    lines: list[str] = []
    with contextlib.suppress(OSError):
        lines = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    for line in lines:
        _, controllers, own = line.split(":", 2)
        if controllers == "":
            top, names = _CGROUP, ("memory.max", "memory.current", "")
        elif "memory" in controllers.split(","):
            top = _CGROUP / "memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_")
        else:
            continue
        folder = top / own.lstrip("/")
        for place in (folder, *folder.parents):
            if not place.is_relative_to(top):
                break
            with contextlib.suppress(OSError, ValueError):
                limit = int((place / names[0]).read_text())  # "max": no limit
                used = int((place / names[1]).read_text())
                stat = (place / "memory.stat").read_text().split()
                # The active half as well: a second conversion reads the files of the first.
                caches = (names[2] + "inactive_file", names[2] + "active_file")
                yield max(0, limit - used + sum(int(stat[stat.index(c) + 1]) for c in caches))


def _table(path: Path) -> dict[str, int]:
    """Lines like "VmSize:  1234 kB" of a file in /proc, in bytes; nothing where there is none."""
    found = {}
    with contextlib.suppress(OSError):
        for line in path.read_text(encoding="ascii", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if value.endswith("kB"):
                found[name] = int(value.split()[0]) * 1024
    return found
