"""How much of this machine's cores other programs take."""

from __future__ import annotations

import os
import time
from pathlib import Path

STAT = Path("/proc/stat")
# Less than this many cores is what a system does by itself.
BUSY = 0.25


class OtherPrograms:
    """Measures from its making on how many cores all programs but this process keep busy.

    What the process's own children use counts as other programs', and so does what a virtual
    machine did not get from its host.
    """

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._all, self._own = _used(), _own()

    def cores(self) -> float | None:
        """Mean number of cores that others used; None where the system does not say.

        Android does not, and no figure is made of less than a tenth of a second.
        """
        seconds, used = time.monotonic() - self._began, _used()
        if used is None or self._all is None or seconds < 0.1:
            return None
        return max(0.0, (used - self._all - (_own() - self._own)) / seconds)


def _own() -> float:
    times = os.times()
    return times.user + times.system


def _used() -> float | None:
    """Seconds that cores were busy, since the machine started, of all programs."""
    try:
        if STAT.is_file():  # read here: importing psutil takes longer than a small model's prompt
            # user (guests in it), nice (likewise), system, idle, iowait, irq, softirq, steal
            ticks = [int(word) for word in STAT.read_text().split("\n", 1)[0].split()[1:9]]
            return (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK")
        import psutil

        times = psutil.cpu_times()
        return float(sum(times) - times.idle)
    except (OSError, RuntimeError, ValueError, IndexError):  # Android lets nobody read it
        return None
