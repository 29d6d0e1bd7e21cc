"""This module says whether this process may lock memory, so that nothing of it is swapped out."""

from __future__ import annotations

import re
from pathlib import Path

from plm_edge.base.errors import ExitCode, PlmEdgeError

_MIB = 1 << 20
_CAP_IPC_LOCK = 14


def limit() -> int | None:
    """Returns how many bytes this process may lock; None: as many as it likes."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    soft = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    return None if soft == resource.RLIM_INFINITY or _capable() else soft


def _capable(status: Path = Path("/proc/self/status")) -> bool:
    """Whether the limit does not hold for this process (root, CAP_IPC_LOCK)."""
    try:
        found = re.search(r"^CapEff:\s*([0-9a-f]+)", status.read_text(), re.MULTILINE)
    except OSError:
        return False
    return found is not None and bool(int(found[1], 16) >> _CAP_IPC_LOCK & 1)


def require(n_bytes: int) -> None:
    """Refuse to lock more than is allowed: the engine would go on without it, and say nothing.

    Raises:
        PlmEdgeError: the limit is lower (code RESOURCES).
    """
    allowed = limit()
    if allowed is None or n_bytes <= allowed:
        return
    wanted = -(-n_bytes // _MIB) * 1024
    raise PlmEdgeError(
        "the weights cannot be locked in memory",
        f"they take {n_bytes / _MIB:,.0f} MiB, and this process may lock {allowed / _MIB:,.0f} "
        "(ulimit -l)",
        f"raise the limit: `ulimit -l {wanted}` in this shell, or a line `* - memlock {wanted}` in "
        "/etc/security/limits.conf and a new login; or leave --mlock out",
        ExitCode.RESOURCES,
    )
