"""The command's runner tells a process that hangs from one that gets no processor."""

from __future__ import annotations

import subprocess
import sys

import pytest

from testkit import cli
from testkit.cli import finish


def start(program: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )


def test_one_that_hangs_is_killed() -> None:
    process = start("import time; time.sleep(600)")
    with pytest.raises(subprocess.TimeoutExpired):
        finish(process, patience=0.2)
    assert process.returncode != 0


def test_one_that_gets_no_processor_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look finds that all the time since the last one was spent in waiting for it."""
    waited = iter([0.0, *(float(second) for second in range(1, 600))])
    monkeypatch.setattr(cli, "_starved", lambda _pid: next(waited))
    process = start("import sys, time; said = sys.stdin.read(); time.sleep(1); print(said)")
    assert finish(process, b"still here", patience=0.2)[0] == b"still here\n"
