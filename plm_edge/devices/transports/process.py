"""This module runs commands through a program of this machine: a shell, or adb."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import IO

from plm_edge.devices.transports.transport import Output, TimeUp

_CHUNK = 64 * 1024


def execute(
    command: list[str],
    stdin: Iterable[bytes],
    stdout: Output,
    stderr: Output,
    timeout: float | None,
    cwd: Path | None = None,
) -> int:
    """Run a command here, in a session of its own, and return its exit code.

    The code is 128 + n if signal n ended it.

    Args:
        command: program and arguments.
        stdin: its input.
        stdout, stderr: are called with its output as it comes, each in a thread of its own.
        timeout: seconds; None sets no limit.
        cwd: the folder to run in.

    Raises:
        TimeUp: it took too long; it and its children were killed.
        OSError: it cannot be started.
    """
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=cwd,
        start_new_session=True,
    )
    assert process.stdin
    assert process.stdout
    assert process.stderr
    failed: list[BaseException] = []
    workers = [
        threading.Thread(target=_guarded, args=(failed, work, *arguments), daemon=True)
        for work, *arguments in (
            (_feed, process.stdin, stdin),
            (_drain, process.stdout, stdout),
            (_drain, process.stderr, stderr),
        )
    ]
    try:
        for worker in workers:
            worker.start()
        code = process.wait(timeout)
        for worker in workers[1:]:
            worker.join(timeout)
    except subprocess.TimeoutExpired:
        raise TimeUp from None
    finally:
        if process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if failed:
        raise failed[0]
    return code if code >= 0 else 128 - code


def _guarded(failed: list[BaseException], work, *arguments) -> None:  # type: ignore[no-untyped-def]
    """Do the work, and keep its error for the caller to raise."""
    try:
        work(*arguments)
    except BaseException as error:
        failed.append(error)


def _feed(pipe: IO[bytes], data: Iterable[bytes]) -> None:
    # The command may end before it has read all its input.
    with suppress(BrokenPipeError), pipe:
        for chunk in data:
            pipe.write(chunk)
            pipe.flush()


def _drain(pipe: IO[bytes], onward: Output) -> None:
    with pipe:
        while data := os.read(pipe.fileno(), _CHUNK):
            onward(data)
