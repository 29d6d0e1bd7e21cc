"""What other programs take of the cores, beside a real one, and as the system counts it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from plm_edge.machine import load


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
    monkeypatch: pytest.MonkeyPatch, clock: list[float], tmp_path: Path
) -> None:
    own, tick = [0.0], os.sysconf("SC_CLK_TCK")
    monkeypatch.setattr(load, "STAT", tmp_path / "stat")
    monkeypatch.setattr(load, "_own", lambda: own[0])

    def spent(*seconds: float) -> None:
        ticks = " ".join(str(round(one * tick)) for one in seconds)
        load.STAT.write_text(f"cpu  {ticks}\ncpu0 {ticks}\n")

    spent(5, 1, 2, 50, 3, 0, 0, 0, 4, 0)
    others = load.OtherPrograms()
    clock[0], own[0] = 12.0, 1.5
    # 2 seconds: cores were busy for 3.5 in all; the guest's second is in the user's
    spent(8, 1, 2.5, 52, 3.5, 0, 0, 0, 5, 0)
    assert others.cores() == pytest.approx((3.5 - 1.5) / 2)


@pytest.mark.parametrize("text", ["", "cpu  a b c d e f g h"])
def test_where_the_system_does_not_say(
    monkeypatch: pytest.MonkeyPatch, clock: list[float], tmp_path: Path, text: str
) -> None:
    monkeypatch.setattr(load, "STAT", tmp_path / "stat")
    load.STAT.write_text(text)
    others = load.OtherPrograms()
    clock[0] = 20
    assert others.cores() is None


def test_where_there_is_no_proc(
    monkeypatch: pytest.MonkeyPatch, clock: list[float], tmp_path: Path
) -> None:
    monkeypatch.setattr(load, "STAT", tmp_path / "stat")
    others = load.OtherPrograms()
    clock[0] += 1
    assert others.cores() is not None


def test_a_moment_is_too_short(clock: list[float]) -> None:
    others = load.OtherPrograms()
    clock[0] += 0.05
    assert others.cores() is None
