"""What other programs take of the cores, beside a real one, and as the system counts it."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import namedtuple

import psutil
import pytest

from plm_edge.machine import load

Times = namedtuple("Times", "user nice system idle iowait guest guest_nice")


def test_a_busy_program_takes_a_core() -> None:
    loop = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        others = load.OtherPrograms()
        time.sleep(0.6)
        cores = others.cores()
    finally:
        loop.kill()
        loop.wait()
    assert cores is not None
    assert cores > load.BUSY


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The one number in it is the time, in seconds."""
    now = [10.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_what_this_process_uses_is_not_theirs(
    monkeypatch: pytest.MonkeyPatch, clock: list[float]
) -> None:
    all_of_it, own = [Times(5, 1, 2, 50, 3, 4, 0)], [0.0]
    monkeypatch.setattr(psutil, "cpu_times", lambda: all_of_it[0])
    monkeypatch.setattr(load, "_own", lambda: own[0])
    others = load.OtherPrograms()
    clock[0], own[0] = 12.0, 1.5
    # 2 seconds: cores were busy for 3.5 in all, and the guest's second is the user's as well
    all_of_it[0] = Times(8, 1, 2.5, 52, 3.5, 5, 0)
    assert others.cores() == pytest.approx((3.5 - 1.5) / 2)


def test_where_the_system_does_not_say(monkeypatch: pytest.MonkeyPatch, clock: list[float]) -> None:
    def refused() -> None:
        raise PermissionError("/proc/stat")

    monkeypatch.setattr(psutil, "cpu_times", refused)
    others = load.OtherPrograms()
    clock[0] = 20
    assert others.cores() is None


def test_a_moment_is_too_short(clock: list[float]) -> None:
    others = load.OtherPrograms()
    clock[0] += 0.05
    assert others.cores() is None
